"""Own against one other text where there is no square table: text of people, near-clones, familiar text.

A reader's entropy on its own text against another's mixes recognition with the ease of the two texts. Readers that
wrote neither say how easy they are; what the writer's log ratio has beyond theirs is recognition, the same number as
in `matrix.log_ratio_split` where every reader recognises only its own text and all do so equally.

Axes: R reader, the writer of the own text first and then those that wrote neither; 2 the own text, the other; P prompt,
K permutation; any leading axes are a batch.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from enaction.stats.resampling import N_RESAMPLES


def double_difference(log_R2: ArrayLike) -> NDArray[np.float64]:
    """log(other / own) of the writer minus its mean over readers that wrote neither, log units, [...].

    Above 0: the writer is more certain on its own text, against this other one, than the two texts explain.

    Args:
        log_R2: [..., R, 2] mean log entropy of reader r on the own text and the other; reader 0 wrote the own text, the
            others wrote neither.

    Raises:
        ValueError: fewer than two readers, not two texts, or a value that is not finite.
    """
    log_R2 = np.asarray(log_R2, dtype=np.float64)
    if log_R2.ndim < 2 or log_R2.shape[-1] != 2 or log_R2.shape[-2] < 2:
        raise ValueError(f"log entropy has shape {log_R2.shape}; it must be [..., reader, 2] with two or more readers")
    if not np.isfinite(log_R2).all():
        raise ValueError("a log entropy is not finite; every cell needs a mean")
    return _double_difference(log_R2)


def swap_pvalue(logs: list[NDArray[np.float64]], rng: np.random.Generator, n_permutations: int = N_RESAMPLES) -> float:
    """Could the mean double difference be as large as it is if it did not matter who wrote what?

    Exchanges the two texts of a prompt for all readers and all comparisons at once (prompts are what was drawn, and
    comparisons of one prompt share texts), each prompt with chance one half. One-sided: p = (1 + permutations with a
    mean as large or larger) / (1 + n_permutations).

    Args:
        logs: log entropies, each [R, 2, P] as in `double_difference`, NaN where missing; R may differ.
        n_permutations: how many.

    Raises:
        ValueError: no comparison, or as `double_difference`.
    """
    if not logs or n_permutations < 1:
        raise ValueError(f"{len(logs)} comparisons and {n_permutations} permutations; both must be at least 1")
    swaps_KP = rng.random((n_permutations, logs[0].shape[-1])) < 0.5
    observed, permuted_K = 0.0, np.zeros(n_permutations)
    for log_R2P in logs:
        there_P = ~np.isnan(log_R2P).any(axis=(0, 1))
        mean_R2 = log_R2P[..., there_P].mean(axis=-1)
        observed += double_difference(mean_R2)
        more_RP = (log_R2P[:, 1] - log_R2P[:, 0])[:, there_P]
        shift_KR = swaps_KP[:, there_P] @ more_RP.T / max(there_P.sum(), 1)
        swapped_KR2 = mean_R2 + np.stack([shift_KR, -shift_KR], axis=-1)
        permuted_K += _double_difference(swapped_KR2)
    # "Not smaller" within rounding, so that the identity counts as a tie.
    as_large = ~(permuted_K < observed - 1e-12 * (1 + abs(observed)))
    return float((1 + as_large.sum()) / (1 + n_permutations))


def _double_difference(log_R2: NDArray[np.float64]) -> NDArray[np.float64]:
    more_R = log_R2[..., 1] - log_R2[..., 0]
    return more_R[..., 0] - more_R[..., 1:].mean(axis=-1)
