"""From tokens to passages to prompts: the three poolings, each named.

Response-weighted (the default of every finding): `prompt_means(passage_sums(...).means, ...)`, then a mean over
prompts; each prompt counts the same. Token-weighted: `prompt_rates(sums.totals, sums.counts, ...)`. Per byte:
`prompt_rates(sums.totals, n_bytes_M, ...)`, the one that may be compared across tokenisers. Rates come with their
sizes, which `bootstrap_means(..., size_P=...)` takes, so all three are resampled over prompts alike. What claims rest
on takes `floored_log` of passage means first: a mean of logs is the log of a geometric mean, and few passages of much
entropy do not carry it.

Axes: N token, M passage, P prompt.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Nats. A passage with less mean entropy counts as this much in logs: nearly greedy replies differ by rounding there,
# and one of 1e-6 nats would weigh as much in a mean of logs as ten of .01 beside the usual ones.
ENTROPY_FLOOR = 0.01


@dataclass(frozen=True)
class PassageSums:
    """Sum of a token quantity over each passage, and the number of tokens in it; both [M]."""

    totals: NDArray[np.float64]
    counts: NDArray[np.int64]

    @property
    def means(self) -> NDArray[np.float64]:
        """[M] mean over a passage's tokens; NaN where none was counted."""
        return ratio(self.totals, self.counts)

    @property
    def token_weighted(self) -> float:
        """Mean over all tokens; NaN without any."""
        return float(ratio(self.totals.sum(), self.counts.sum()))

    def per_byte(self, n_bytes_M: ArrayLike) -> float:
        """Total over the passages' length in bytes (UTF-8 of the response)."""
        return float(ratio(self.totals.sum(), np.asarray(n_bytes_M).sum()))


def passage_sums(
    passage_N: ArrayLike, value_N: ArrayLike, n_passages: int, mask_N: ArrayLike | None = None
) -> PassageSums:
    """Sum a token quantity over each passage.

    Args:
        passage_N: [N] passage codes, 0 to n_passages - 1, in any order.
        value_N: [N] the quantity, for example entropy in nats.
        n_passages: number of passages, so that one without tokens keeps its place.
        mask_N: [N] bool, the tokens that count (`~is_end` for entropy); all by default.

    Raises:
        ValueError: shapes differ, a code is out of range, or a counted value is not finite.
    """
    code_N, value_N = checked_codes(passage_N, n_passages, "passage"), np.asarray(value_N, dtype=np.float64)
    mask_N = np.ones(code_N.shape, bool) if mask_N is None else np.asarray(mask_N, dtype=bool)
    if not code_N.shape == value_N.shape == mask_N.shape:
        raise ValueError(f"codes {code_N.shape}, values {value_N.shape} and mask {mask_N.shape} differ in shape")
    code_N, value_N = code_N[mask_N], value_N[mask_N]
    if not np.isfinite(value_N).all():
        raise ValueError("a counted value is not finite; mask it or correct the scoring")
    return PassageSums(_sums(code_N, value_N, n_passages), np.bincount(code_N, minlength=n_passages))


def floored_log(entropy: ArrayLike) -> NDArray[np.float64]:
    """Log of entropies, nats; what lies below `ENTROPY_FLOOR` counts as that, NaN stays NaN."""
    return np.log(np.maximum(np.asarray(entropy, dtype=np.float64), ENTROPY_FLOOR))


def prompt_means(mean_M: ArrayLike, prompt_M: ArrayLike, n_prompts: int) -> NDArray[np.float64]:
    """[P] mean over a prompt's passages, each counting the same; NaN passages are left out, NaN where none is left.

    Args:
        mean_M: [M] passage means, NaN where a passage has no counted token.
        prompt_M: [M] prompt codes, 0 to n_prompts - 1.
        n_prompts: number of prompts, the same for all cells that are to be paired.

    Raises:
        ValueError: shapes differ or a code is out of range.
    """
    mean_M = np.asarray(mean_M, dtype=np.float64)
    return prompt_rates(np.nan_to_num(mean_M), ~np.isnan(mean_M), prompt_M, n_prompts)[0]


def prompt_rates(
    total_M: ArrayLike, size_M: ArrayLike, prompt_M: ArrayLike, n_prompts: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Total over size of each prompt's passages together, and that size.

    Args:
        total_M: [M] passage totals of the quantity.
        size_M: [M] tokens or bytes of each passage.
        prompt_M: [M] prompt codes, 0 to n_prompts - 1.
        n_prompts: number of prompts.

    Returns:
        (rate_P, size_P); the rate is NaN where the size is 0.

    Raises:
        ValueError: shapes differ or a code is out of range.
    """
    code_M = checked_codes(prompt_M, n_prompts, "prompt")
    total_M, size_M = np.asarray(total_M, dtype=np.float64), np.asarray(size_M, dtype=np.float64)
    if not code_M.shape == total_M.shape == size_M.shape:
        raise ValueError(f"codes {code_M.shape}, totals {total_M.shape} and sizes {size_M.shape} differ in shape")
    size_P = _sums(code_M, size_M, n_prompts)
    return ratio(_sums(code_M, total_M, n_prompts), size_P), size_P


def _sums(code_N: NDArray[np.int64], value_N: NDArray[np.float64], n_codes: int) -> NDArray[np.float64]:
    return np.asarray(np.bincount(code_N, weights=value_N, minlength=n_codes), dtype=np.float64)


def checked_codes(code: ArrayLike, n_codes: int, name: str) -> NDArray[np.int64]:
    """Group codes as int64; for the modules of this package.

    Raises:
        ValueError: not a 1-d array of integers, or one outside 0..n_codes - 1.
    """
    code = np.asarray(code)
    if code.ndim != 1 or (code.size and not np.issubdtype(code.dtype, np.integer)):
        raise ValueError(f"{name} codes must be a 1-d array of integers, not {code.dtype} of shape {code.shape}")
    if code.size and (code.min() < 0 or code.max() >= n_codes):
        raise ValueError(f"{name} codes run from {code.min()} to {code.max()}; they must lie in 0..{n_codes - 1}")
    return code.astype(np.int64)


def ratio(total: ArrayLike, size: ArrayLike) -> NDArray[np.float64]:
    """total / size, NaN where size is 0; for the modules of this package."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.asarray(size) > 0, np.divide(total, size), np.nan)
