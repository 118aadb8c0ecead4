"""Could a number be what it is if a label did not matter? Labels shuffled within each prompt, for any statistic.

`exchangeability_test` (resampling) does this for the authors of one table; here the label may be any axis (the author,
the role that a text stands in, a persona) and the number any statistic of the cell means.

Axes: P prompt (last), L the label that is shuffled, K permutation; `...` are cells of any arrangement.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from enaction.stats.resampling import N_RESAMPLES

_CHUNK_VALUES = 2**22  # float64 values in the largest temporary array: 32 MiB

Tail = Literal["less", "greater", "both"]


@dataclass(frozen=True)
class LabelTest:
    """An observed statistic, its p-values, and the central 95 % of what shuffled labels give; arrays of one shape."""

    value: NDArray[np.float64]
    pvalue: NDArray[np.float64]
    null_low: NDArray[np.float64]
    null_high: NDArray[np.float64]


def label_test(
    value_P: ArrayLike,
    axis: int,
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    rng: np.random.Generator,
    n_permutations: int = N_RESAMPLES,
    *,
    tail: Tail,
) -> LabelTest:
    """Test a statistic of cell means against shuffled labels.

    Within each prompt the entries of one axis change places, the same way for all other axes; then come the means over
    prompts and the statistic. p = (1 + permutations at least as extreme) / (1 + n_permutations); `both` counts the
    distance from the middle of the null. An undefined permutation counts against the finding.

    Args:
        value_P: [..., P] per-prompt means of each cell, NaN where a cell lacks the prompt.
        axis: the axis of the label, of `value_P`; never the last.
        statistic: maps cell means [batch, ...] to [batch, anything], vectorised over the batch.
        n_permutations: how many.
        tail: which direction is extreme.

    Raises:
        ValueError: no such axis, fewer than 2 labels, or no permutations.
    """
    value_P = np.asarray(value_P, dtype=np.float64)
    if not 0 <= axis < value_P.ndim - 1 or value_P.shape[axis] < 2:
        raise ValueError(
            f"axis {axis} of values {value_P.shape} cannot be shuffled: it needs 2 labels, prompts are last"
        )
    if n_permutations < 1:
        raise ValueError(f"{n_permutations} permutations; there must be at least 1")
    value_PLX = np.moveaxis(value_P, (-1, axis), (0, 1))
    n_prompts, n_labels = value_PLX.shape[:2]
    present_PLX = ~np.isnan(value_PLX)
    filled_PLX = np.where(present_PLX, value_PLX, 0.0)

    def means(order_KPL: NDArray[np.int64]) -> NDArray[np.float64]:
        prompt_P1 = np.arange(n_prompts)[:, None]
        with np.errstate(invalid="ignore"):  # 0/0: no prompt left in that cell
            mean_KLX = filled_PLX[prompt_P1, order_KPL].sum(axis=1) / present_PLX[prompt_P1, order_KPL].sum(axis=1)
        return np.moveaxis(mean_KLX, 1, axis + 1)

    plain_PL = np.broadcast_to(np.arange(n_labels), (n_prompts, n_labels))
    plain = means(plain_PL[None])
    observed = np.asarray(statistic(plain)[0], dtype=np.float64)
    null_K = np.full((n_permutations, *observed.shape), np.nan)
    chunk = max(1, _CHUNK_VALUES // value_P.size)
    for start in range(0, n_permutations, chunk):
        n_now = min(chunk, n_permutations - start)
        mean_K = means(rng.permuted(np.broadcast_to(plain_PL, (n_now, *plain_PL.shape)), axis=-1))
        # A shuffle can leave a cell without a prompt that has one; statistics need not know what that means.
        defined_K = ~np.isnan(mean_K).reshape(n_now, -1).any(axis=1) | np.isnan(plain).any()
        if defined_K.any():
            null_K[start : start + n_now][defined_K] = statistic(mean_K[defined_K])
    low, middle, high = np.nanquantile(null_K, [0.025, 0.5, 0.975], axis=0)
    tolerance = 1e-12 * (1 + np.abs(observed))  # the identity is a tie whatever order its sums were taken in
    if tail == "less":
        milder_K = null_K > observed + tolerance
    elif tail == "greater":
        milder_K = null_K < observed - tolerance
    else:
        milder_K = np.abs(null_K - middle) < np.abs(observed - middle) - tolerance
    return LabelTest(observed, (1 + (~milder_K).sum(axis=0)) / (1 + n_permutations), low, high)
