"""Curves aligned on an event: when does a paired difference leave zero, and when is it back?

A curve is a mean over prompts at each offset from the event, with its bootstrap resamples. Both answers are offsets,
found by a rule that is the same for the curve and for each of its resamples, whose spread is the answer's interval.

Axes: T offset, B resample, P prompt.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from enaction.stats.resampling import Estimate, bootstrap_means, percentile_interval

# Nats; rounding of float32 and of batches lies well below, nothing that matters does.
NEGLIGIBLE = 1e-4


@dataclass(frozen=True)
class Curve:
    """A mean difference at each offset from an event.

    Attributes:
        offset: [T] rising by one; 0 is the event.
        mean: [T] over prompts; NaN where no prompt has the offset.
        sample: [B, T] its resamples.
    """

    offset: NDArray[np.int64]
    mean: NDArray[np.float64]
    sample: NDArray[np.float64]

    @property
    def estimate(self) -> Estimate:
        """The mean at each offset with its pointwise 95 % interval."""
        return Estimate(self.mean, *percentile_interval(self.sample))

    def total(self, first: int, stop: int) -> Estimate:
        """The sum over the offsets `first` to `stop - 1`: the area under the curve, NaN if one of them is missing."""
        inside = (self.offset >= first) & (self.offset < stop)
        return Estimate(self.mean[inside].sum(), *percentile_interval(self.sample[:, inside].sum(axis=1)))

    def minus(self, other: "Curve") -> "Curve":
        """The difference of two curves over the same offsets and resamples."""
        return Curve(self.offset, self.mean - other.mean, self.sample - other.sample)


def curve(difference_TP: ArrayLike, offset_T: ArrayLike, weight_BP: ArrayLike, *, least: int = 1) -> Curve:
    """The mean curve of a paired difference.

    Args:
        difference_TP: [T, P] nats; NaN where a prompt does not have the offset.
        offset_T: [T] integers that rise by one.
        weight_BP: [B, P] from `cluster_weights`.
        least: offsets with fewer prompts are left out (NaN).

    Raises:
        ValueError: shapes do not fit, or offsets do not rise by one.
    """
    difference_TP, offset_T = np.asarray(difference_TP, dtype=np.float64), np.asarray(offset_T, dtype=np.int64)
    if difference_TP.ndim != 2 or difference_TP.shape[0] != len(offset_T) or (np.diff(offset_T) != 1).any():
        raise ValueError(f"differences {difference_TP.shape} and {len(offset_T)} offsets; offsets must rise by one")
    rare_T = np.isfinite(difference_TP).sum(axis=1) < least
    difference_TP = np.where(rare_T[:, None], np.nan, difference_TP)
    plain = np.ones((1, difference_TP.shape[1]))
    return Curve(offset_T, bootstrap_means(difference_TP, plain)[0], bootstrap_means(difference_TP, weight_BP))


def mean_curve(curves: list[Curve]) -> Curve:
    """The mean of several curves over the same offsets and resamples, each counting the same."""
    return Curve(
        curves[0].offset,
        np.mean([c.mean for c in curves], axis=0),
        np.mean([c.sample for c in curves], axis=0),
    )


def departure(found: Curve, *, first: int, level: float = 0.95) -> Estimate:
    """The first offset, from `first` on, at which the curve lies outside a simultaneous band around zero.

    The band has the half-width c * standard error at each offset, c being the `level` quantile of the largest
    studentised deviation of a resample from the curve over all offsets from `first` on (max-t band): the chance that a
    curve of no effect leaves it anywhere is 1 - level. Interval: the same band applied to each resample.

    Returns:
        value NaN if the curve never leaves the band; bounds NaN if more than 5 % of the resamples never do.
    """
    from_T = (found.offset >= first) & np.isfinite(found.mean)
    mean_T, sample_BT, offset_T = found.mean[from_T], found.sample[:, from_T], found.offset[from_T]
    if not len(offset_T):
        return Estimate(np.array(np.nan), np.array(np.nan), np.array(np.nan))
    error_T = np.nanstd(sample_BT, axis=0)
    # A resample without any prompt at an offset (NaN) says nothing there.
    studentised_BT = np.nan_to_num(np.abs(sample_BT - mean_T) / np.maximum(error_T, NEGLIGIBLE))
    band_T = np.maximum(np.quantile(studentised_BT.max(axis=1), level) * error_T, NEGLIGIBLE)
    value = _first(np.abs(mean_T)[None] > band_T, offset_T)[0]
    return Estimate(np.asarray(value), *percentile_interval(_first(np.abs(sample_BT) > band_T, offset_T)))


def comeback(found: Curve, *, first: int, tolerance: float | None = None, in_a_row: int = 3) -> Estimate:
    """The first of `in_a_row` offsets, from `first` on, at all of which the curve is back at zero.

    Back: within `tolerance`, nats; or without one, where the pointwise 95 % interval holds zero. The interval of the
    answer comes from the same rule applied to each resample (without a tolerance, with the half-widths of the curve).

    Returns:
        value NaN if the curve does not come back within its offsets; bounds NaN if over 5 % of the resamples do not.
    """
    from_T = (found.offset >= first) & np.isfinite(found.mean)
    mean_T, sample_BT, offset_T = found.mean[from_T], found.sample[:, from_T], found.offset[from_T]
    if tolerance is None:
        low_T, high_T = percentile_interval(sample_BT) if len(offset_T) else (mean_T, mean_T)
        below_T, above_T = (np.maximum(side, NEGLIGIBLE) for side in (mean_T - low_T, high_T - mean_T))
    else:
        below_T = above_T = np.full(len(offset_T), tolerance)
    # Zero is held by [value - below, value + above].
    back_BT = np.concatenate([mean_T[None], sample_BT])
    back_BT = (back_BT - below_T <= 0) & (back_BT + above_T >= 0)
    n_starts = max(0, len(offset_T) - in_a_row + 1)
    stays_BT = np.all([back_BT[:, i : i + n_starts] for i in range(in_a_row)], axis=0)
    found_B = _first(stays_BT, offset_T[:n_starts])
    return Estimate(np.asarray(found_B[0]), *percentile_interval(found_B[1:]))


def _first(true_BT: NDArray[np.bool_], offset_T: NDArray[np.int64]) -> NDArray[np.float64]:
    """[B] the first offset at which a row is true, NaN where it never is."""
    if not len(offset_T):
        return np.full(len(true_BT), np.nan)
    return np.where(true_BT.any(axis=1), offset_T[true_BT.argmax(axis=1)], np.nan)
