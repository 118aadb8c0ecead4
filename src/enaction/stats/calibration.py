"""Calibration: does what a model says with confidence c come true a share c of the time?

Expected calibration error (Naeini, Cooper and Hauskrecht 2015): answers are put into bins of equal width by confidence;
the error is the mean over answers of |accuracy - mean confidence| of their bin. It is above 0 even for a perfectly
calibrated model, the more so the fewer answers there are; `calibrated_errors` says by how much.

Everything is a function of sums per prompt, so that the same code gives the value and, over resampled prompts, its
interval. Axes: N answer, P prompt, K bin, W weighting (one row of ones, then the resamples).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from enaction.stats.pooling import checked_codes, ratio

BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Sums over the answers of each bin.

    Attributes:
        count, confidence, correct: [..., K] number of answers, sum of their confidences, number of right ones.
    """

    count: NDArray[np.float64]
    confidence: NDArray[np.float64]
    correct: NDArray[np.float64]

    @property
    def mean_confidence(self) -> NDArray[np.float64]:
        """[...] over all answers; NaN without any."""
        return ratio(self.confidence.sum(-1), self.count.sum(-1))

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """[...] share of right answers; NaN without any."""
        return ratio(self.correct.sum(-1), self.count.sum(-1))

    @property
    def error(self) -> NDArray[np.float64]:
        """[...] expected calibration error; NaN without an answer."""
        return ratio(np.abs(self.correct - self.confidence).sum(-1), self.count.sum(-1))

    def weighted(self, weight_WP: ArrayLike) -> "Reliability":
        """[W, K] the sums over prompts, of sums [P, K], each prompt with its weight."""
        weight_WP = np.asarray(weight_WP, dtype=np.float64)
        return Reliability(weight_WP @ self.count, weight_WP @ self.confidence, weight_WP @ self.correct)


def reliability(
    confidence_N: ArrayLike,
    correct_N: ArrayLike,
    prompt_N: ArrayLike,
    n_prompts: int,
    *,
    count_N: ArrayLike | None = None,
    bins: int = BINS,
) -> Reliability:
    """Sums [P, K] of each prompt and bin of confidence; the bins are of equal width, the last holds 1.

    Args:
        confidence_N: [N] in 0 to 1; a rounding error above 1 is taken as 1.
        correct_N: [N] bool.
        prompt_N: [N] prompt codes.
        n_prompts: number of prompts.
        count_N: [N] how many equal answers a row stands for; 1 by default.
        bins: K.

    Raises:
        ValueError: shapes differ, a confidence is outside 0 to 1, or a code is out of range.
    """
    confidence_N, correct_N = np.asarray(confidence_N, np.float64), np.asarray(correct_N, bool)
    code_N = checked_codes(prompt_N, n_prompts, "prompt")
    count_N = np.ones(len(code_N)) if count_N is None else np.asarray(count_N, np.float64)
    if not confidence_N.shape == correct_N.shape == code_N.shape == count_N.shape:
        raise ValueError("confidence, correctness, prompts and counts must be 1-d and of one length")
    if not ((confidence_N >= 0) & (confidence_N <= 1 + 1e-4)).all():
        raise ValueError("a confidence is outside 0 to 1; it has to be a probability")
    bin_N = np.minimum((confidence_N * bins).astype(np.int64), bins - 1)
    cell_N, shape = code_N * bins + bin_N, (n_prompts, bins)

    def sums(value_N: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(cell_N, value_N, n_prompts * bins).reshape(shape).astype(np.float64)

    return Reliability(sums(count_N), sums(count_N * confidence_N), sums(count_N * correct_N))


def calibrated_errors(
    confidence_N: ArrayLike, rng: np.random.Generator, n_draws: int = 1000, *, bins: int = BINS
) -> NDArray[np.float64]:
    """[n_draws] calibration errors of a model with these confidences whose answers are right exactly that often.

    The null of an expected calibration error; answers are drawn independently.
    """
    confidence_N = np.minimum(np.asarray(confidence_N, np.float64), 1.0)
    index_N = np.zeros(len(confidence_N), np.int64)
    return np.array(
        [
            reliability(confidence_N, rng.random(len(confidence_N)) < confidence_N, index_N, 1, bins=bins).error[0]
            for _ in range(n_draws)
        ]
    )
