"""Intervals and p-values over prompts: the bootstrap, the jackknife, and shuffled authors.

Prompts are the units that were drawn: tokens of a response, responses to a prompt and the same prompt in another cell
are not independent, so a resample draws whole prompts, and draws the same ones for every cell. Differences between
stages, framings and readers are then paired by construction: use ONE `cluster_weights` for everything that is to be
compared. Readers and authors are fixed: an interval speaks of new prompts to these models, not of new models.

Axes: B resample, P prompt, R reader, A author, K permutation; `...` are cells of any arrangement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from enaction.stats.matrix import diagonal_residual
from enaction.stats.tails import t_interval

N_RESAMPLES = 2000
# Above this share of undefined resamples the rest no longer stand for the sampling distribution.
MAX_UNDEFINED_SHARE = 0.05
_CHUNK_VALUES = 2**22  # float64 values in the largest temporary array: 32 MiB

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Estimate:
    """A value with its interval: three arrays of one shape, or three numbers; an index takes the same of all three."""

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def __getitem__(self, index: int | slice | tuple[int | slice, ...]) -> Estimate:
        return Estimate(self.value[index], self.low[index], self.high[index])


@dataclass(frozen=True)
class ExchangeabilityTest:
    """Interaction (log units) with its one-sided p-value of exchangeable authors: each reader's [R], and the mean's."""

    interaction: NDArray[np.float64]
    pvalue: NDArray[np.float64]
    mean_interaction: float
    mean_pvalue: float
    n_permutations: int


def cluster_weights(n_clusters: int, n_resamples: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """How often each prompt is drawn in each bootstrap resample, [B, P]; rows sum to P (multinomial, equal chances).

    Raises:
        ValueError: no clusters or no resamples.
    """
    if n_clusters < 1 or n_resamples < 1:
        raise ValueError(f"{n_clusters} clusters and {n_resamples} resamples; both must be at least 1")
    return rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=n_resamples).astype(np.int32)


def bootstrap_means(value_P: ArrayLike, weight_BP: ArrayLike, size_P: ArrayLike | None = None) -> NDArray[np.float64]:
    """Weighted mean over prompts of each cell in each resample.

    Args:
        value_P: [..., P] per-prompt mean of each cell; NaN where the cell lacks the prompt, which then has weight 0
            in that cell.
        weight_BP: [B, P] from `cluster_weights`; a row of ones gives the plain mean.
        size_P: [..., P] size of each prompt within its cell, for pooled rates: token counts make the means
            token-weighted, byte counts make them per byte. Without it every prompt counts the same.

    Returns:
        [B, ...]; NaN where a resample holds no prompt of the cell.

    Raises:
        ValueError: prompt axes differ, an infinite value, or a negative or non-finite weight or size.
    """
    mass_PC, size_PC, weight_BP, cells = _as_columns(value_P, weight_BP, size_P)
    mean_BC = np.concatenate(
        [_means(weight_BP[rows], mass_PC, size_PC) for rows in _row_chunks(weight_BP, mass_PC.shape[1])]
    )
    return mean_BC.reshape(len(weight_BP), *cells)


def percentile_interval(sample_B: ArrayLike, level: float = 0.95) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Central percentile interval over the first axis.

    Undefined (NaN) resamples are left out; where more than 5% are undefined both bounds are NaN, for what remains no
    longer stands for the sampling distribution. Percentile intervals of few prompts and of heavy-tailed means are
    short: tests/test_coverage.py prints how short. What claims rest on has intervals by `Resampled.jackknife`.

    Args:
        sample_B: [B, ...].
        level: coverage aimed at.

    Returns:
        (low, high), each [...].

    Raises:
        ValueError: level outside (0, 1), or no samples.
    """
    sample_B = np.asarray(sample_B, dtype=np.float64)
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1, as .95 does")
    if sample_B.ndim == 0 or len(sample_B) == 0:
        raise ValueError("no resamples to take an interval of")
    undefined_B = np.isnan(sample_B)
    usable = undefined_B.mean(axis=0) <= MAX_UNDEFINED_SHARE
    # nanquantile is slow and warns on all-NaN columns; it is needed only where something is undefined.
    quantile = np.nanquantile if undefined_B.any() else np.quantile
    low, high = quantile(np.where(usable, sample_B, 0.0), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.where(usable, low, np.nan), np.where(usable, high, np.nan)


def bootstrap_estimate(
    value_P: ArrayLike,
    weight_BP: ArrayLike,
    statistic: Statistic | None = None,
    *,
    size_P: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate:
    """A statistic of the cell means, with its cluster-bootstrap interval.

    `bootstrap_estimate(entropy_RAP, weight_BP, interaction)` gives every reader's interaction. For a paired difference
    stack the cells on a leading axis: with entropy of shape [2, R, A, P],
    `lambda m: interaction(m[..., 1, :, :]) - interaction(m[..., 0, :, :])`.

    Args:
        value_P: [..., P] per-prompt means, NaN where missing, as in `bootstrap_means`.
        weight_BP: [B, P] from `cluster_weights`.
        statistic: maps cell means [batch, ...] to [batch, anything], vectorised over the batch; the cell means
            themselves by default.
        size_P: [..., P] sizes for token-weighted or per-byte means, as in `bootstrap_means`.
        level: coverage aimed at.

    Raises:
        ValueError: as `bootstrap_means`, a cell without any prompt, or what the statistic raises.
    """
    return Resampled(value_P, weight_BP, size_P).estimate(statistic, level)


class Resampled:
    """Cells with their means in every resample, computed once for all statistics of them.

    Args:
        value_P, weight_BP, size_P: as in `bootstrap_means`.

    Raises:
        ValueError: as `bootstrap_means`, or a cell without any prompt.
    """

    def __init__(self, value_P: ArrayLike, weight_BP: ArrayLike, size_P: ArrayLike | None = None) -> None:
        self.value = np.asarray(value_P, dtype=np.float64)
        self._mass_PC, self._size_PC, self._weight_BP, self._cells = _as_columns(value_P, weight_BP, size_P)
        plain_C = _means(np.ones((1, len(self._mass_PC))), self._mass_PC, self._size_PC)[0]
        if np.isnan(plain_C).any():
            empty = np.argwhere(np.isnan(plain_C.reshape(self._cells)))[0].tolist()
            raise ValueError(f"the cell at index {empty} has no measured prompt; measure it or drop it")
        self.mean = plain_C.reshape(self._cells)
        self._parts: Sequence[Resampled] = ()

    @classmethod
    def stack(cls, parts: Sequence[Resampled]) -> Resampled:
        """Cells of one shape on a new leading axis, for paired differences; their resampled means are not taken again.

        Args:
            parts: resampled with the same weights, without sizes.

        Raises:
            ValueError: cells of several shapes, or other weights.
        """
        first = parts[0]
        if any(part._weight_BP is not first._weight_BP or part._cells != first._cells for part in parts):
            raise ValueError("only cells of one shape that share their resampling weights can be stacked")
        stacked = cls(np.array([part.value for part in parts]), first._weight_BP)
        stacked._parts = parts
        return stacked

    @property
    def n_prompts(self) -> int:
        """Prompts that every cell has."""
        return int(np.isfinite(self.value).all(axis=tuple(range(self.value.ndim - 1))).sum())

    def estimate(self, statistic: Statistic | None = None, level: float = 0.95) -> Estimate:
        """A statistic of the cell means, with its interval, as in `bootstrap_estimate`.

        Raises:
            ValueError: what the statistic raises.
        """
        statistic = statistic or (lambda mean: mean)
        value = np.asarray(statistic(self.mean[None])[0])
        sample_B = np.full((len(self._weight_BP), *value.shape), np.nan)
        for rows, mean_B, defined_B in self._resamples:
            if defined_B.any():
                sample_B[rows][defined_B] = statistic(mean_B[defined_B])
        return Estimate(value, *percentile_interval(sample_B, level))

    def jackknife(self, statistic: Statistic | None = None, level: float = 0.95) -> Estimate:
        """A statistic of the cell means, with a skewness-adjusted t interval over prompts.

        What a prompt says is its pseudo-value, n times the statistic minus (n - 1) times the statistic without the
        prompt. Where the statistic is linear in the cell means and no cell lacks a prompt, that is the prompt's own
        value. A prompt that some cells lack counts in the others.

        Raises:
            ValueError: what the statistic raises.
        """
        statistic = statistic or (lambda mean: mean)
        value = np.asarray(statistic(self.mean[None])[0])
        used_P = np.flatnonzero(self._size_PC.any(axis=1))
        without_PP = np.ones((len(used_P), len(self._size_PC)))
        without_PP[np.arange(len(used_P)), used_P] = 0.0
        mean_PC = _means(without_PP, self._mass_PC, self._size_PC)
        if len(used_P) < 2 or np.isnan(mean_PC).any():  # a cell of a single prompt
            nothing = np.full(value.shape, np.nan)
            return Estimate(value, nothing, nothing)
        left_P = np.moveaxis(np.asarray(statistic(mean_PC.reshape(-1, *self._cells))), 0, -1)
        effect_P = len(used_P) * value[..., None] - (len(used_P) - 1) * left_P
        return Estimate(value, *t_interval(value, effect_P, level))

    @cached_property
    def _resamples(self) -> list[tuple[slice, NDArray[np.float64], NDArray[np.bool_]]]:
        """Rows of resamples, the cell means in each [b, ...], and whether all of its cells have one."""
        if self._parts:
            return [
                (
                    rows[0][0],
                    np.stack([mean_B for _, mean_B, _ in rows], axis=1),
                    np.all([d for _, _, d in rows], axis=0),
                )
                for rows in zip(*(part._resamples for part in self._parts), strict=True)
            ]
        parts = []
        for rows in _row_chunks(self._weight_BP, self._mass_PC.shape[1]):
            mean_BC = _means(self._weight_BP[rows], self._mass_PC, self._size_PC)
            parts.append((rows, mean_BC.reshape(-1, *self._cells), ~np.isnan(mean_BC).any(axis=1)))
        return parts


def exchangeability_test(
    log_RAP: ArrayLike, rng: np.random.Generator, n_permutations: int = N_RESAMPLES
) -> ExchangeabilityTest:
    """Are the authors of a prompt exchangeable? If they are, the diagonal is as negative as this with chance p.

    Shuffles the authors of each prompt, the same way for all readers, so a text keeps what every reader thinks of it
    and loses only whose it is. One-sided: p = (1 + permutations with an interaction as small or smaller) /
    (1 + n_permutations). The null, exchangeable authors within a prompt, is more than "no recognition": an author whose
    texts vary more than the others', as a sharp model's own texts do, breaks it without recognition, and p is then too
    small, for its reader and for the mean. It is no substitute for the interval.

    Args:
        log_RAP: [R, A, P] log entropy of each reader, author and prompt; NaN where missing.
        n_permutations: how many.

    Raises:
        ValueError: not [R, A, P], not the same models on both axes, no permutations, or a cell without any prompt.
    """
    log_RAP = np.asarray(log_RAP, dtype=np.float64)
    if log_RAP.ndim != 3:
        raise ValueError(f"log entropy has shape {log_RAP.shape}; it must be [reader, author, prompt]")
    if n_permutations < 1:
        raise ValueError(f"{n_permutations} permutations; there must be at least 1")
    n_readers, n_authors, n_prompts = log_RAP.shape
    if n_readers != n_authors or n_readers < 2:
        raise ValueError(f"{n_readers} readers and {n_authors} authors; they must be the same models, two or more")
    present_PAR = ~np.isnan(log_RAP).transpose(2, 1, 0)
    if not present_PAR.any(axis=0).all():
        raise ValueError("a cell has no measured prompt; measure it or drop it")
    observed_R = diagonal_residual(bootstrap_means(log_RAP, np.ones((1, n_prompts)))[0])

    filled_PAR = np.where(present_PAR, np.ascontiguousarray(log_RAP.transpose(2, 1, 0)), 0.0)
    count_as_extreme_R = np.zeros(n_readers, dtype=int)
    count_as_extreme_mean = 0
    # The identity shuffle must count as a tie whatever order its sums were taken in.
    tolerance = 1e-12 * (1 + np.abs(observed_R).max())
    chunk = max(1, _CHUNK_VALUES // log_RAP.size)
    for start in range(0, n_permutations, chunk):
        n_now = min(chunk, n_permutations - start)
        order_KPA = rng.permuted(np.broadcast_to(np.arange(n_authors), (n_now, n_prompts, n_authors)), axis=-1)
        prompt_P1 = np.arange(n_prompts)[:, None]
        mean_KAR = filled_PAR[prompt_P1, order_KPA].sum(axis=1)
        if present_PAR.all():
            mean_KAR /= n_prompts
        else:
            with np.errstate(invalid="ignore"):  # 0/0: no prompt left in that cell
                mean_KAR /= present_PAR[prompt_P1, order_KPA].sum(axis=1)
        shuffled_KR = diagonal_residual(mean_KAR.swapaxes(1, 2))
        # "Not larger" rather than "smaller or equal": an undefined table then counts against the finding.
        count_as_extreme_R += (~(shuffled_KR > observed_R + tolerance)).sum(axis=0)
        count_as_extreme_mean += int((~(shuffled_KR.mean(axis=1) > observed_R.mean() + tolerance)).sum())
    return ExchangeabilityTest(
        interaction=observed_R,
        pvalue=(1 + count_as_extreme_R) / (1 + n_permutations),
        mean_interaction=float(observed_R.mean()),
        mean_pvalue=(1 + count_as_extreme_mean) / (1 + n_permutations),
        n_permutations=n_permutations,
    )


def _as_columns(
    value_P: ArrayLike, weight_BP: ArrayLike, size_P: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.generic], tuple[int, ...]]:
    """Cells as columns (C): size x value and size, both 0 where missing; the weights; the shape of the cells."""
    value_P = np.asarray(value_P, dtype=np.float64)
    weight_BP = np.asarray(weight_BP)
    if value_P.ndim < 1 or weight_BP.ndim != 2 or value_P.shape[-1] != weight_BP.shape[1]:
        raise ValueError(f"values {value_P.shape} and weights {weight_BP.shape} must share their last axis, prompts")
    if np.isinf(value_P).any():
        raise ValueError("a value is infinite; missing prompts are marked by NaN")
    size_P = np.ones_like(value_P) if size_P is None else np.broadcast_to(np.asarray(size_P, np.float64), value_P.shape)
    for name, array in (("weight", weight_BP), ("size", size_P)):
        if not (np.isfinite(array) & (array >= 0)).all():
            raise ValueError(f"a {name} is negative or not finite")
    size_PC = np.where(np.isnan(value_P), 0.0, size_P).reshape(-1, value_P.shape[-1]).T
    value_PC = np.nan_to_num(value_P).reshape(-1, value_P.shape[-1]).T
    return value_PC * size_PC, size_PC, weight_BP, value_P.shape[:-1]


def _means(
    weight_BP: NDArray[np.generic], mass_PC: NDArray[np.float64], size_PC: NDArray[np.float64]
) -> NDArray[np.float64]:
    weight_BP = weight_BP.astype(np.float64)
    size_BC = weight_BP @ size_PC
    with np.errstate(invalid="ignore"):  # 0/0 is the NaN that is wanted
        return (weight_BP @ mass_PC) / size_BC


def _row_chunks(weight_BP: NDArray[np.generic], n_cells: int) -> list[slice]:
    n_rows, n_prompts = weight_BP.shape
    step = max(1, _CHUNK_VALUES // max(n_prompts, n_cells, 1))
    return [slice(start, start + step) for start in range(0, n_rows, step)]
