"""Recognition at equal difficulty: does a reader find its own passages easier than its line on difficulty says?

`foreign_recognition` takes difficulty for an author's effect that moves every reader alike. A reader that hardly
responds to difficulty, as one of random weights or one at a high temperature, then differs from the others on its own
text without recognising it. Here its response is measured: passages that neither it nor a judge wrote give the line of
its log entropy over the judge's, and its own passages are compared with that line. Judges are the other readers, and
readers that wrote none of the texts.

A judge's entropy is a noisy measure of difficulty, so the plain (direct) slope is too small, and corrects too little
where own text is easier. Regressing the judge on the reader gives a slope that is too large (reverse). With a second
judge of the same passages as instrument the slope is consistent; it is kept between the two ends. Judges count by the
squared correlation with the reader on the passages that neither wrote: one that does not respond says nothing. A slope
is that of most passages: log entropies are clipped at three robust standard deviations from their author's median for
it, so that no odd reply carries it. Means are of all.

Axes: J reader or judge, the N authors first, in their order; A author; P prompt; M passage; B what is left in: all
prompts, then all but one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from enaction.stats.pooling import ratio
from enaction.stats.resampling import Estimate
from enaction.stats.tails import t_interval

# Robust standard deviations at which log entropies are clipped for slopes; median absolute deviations in one of them.
_CLIP, _MAD = 3.0, 0.67448975
# Variance of log entropy below which a judge finds all passages alike, up to rounding of float32.
_CONSTANT = 1e-10


@dataclass(frozen=True)
class AdjustedRecognition:
    """What passages say of each reader, [R]; all intervals are t intervals over prompts.

    recognition: expected minus found log entropy of own passages, log units; > 0: recognition. With two judges of the
    same passages at the consistent slope, else the end that is worse for recognition.
    direct, reverse: the same at the two ends of the slope.
    slope: log units of the reader's entropy for one of the judges', direct, so a lower bound of the response; NaN where
        its judges find all passages alike.
    has_instrument: [R] bool, whether there were two judges.
    """

    recognition: Estimate
    direct: Estimate
    reverse: Estimate
    slope: Estimate
    has_instrument: NDArray[np.bool_]


def adjusted_recognition(
    log_entropies: Sequence[ArrayLike],
    prompts: Sequence[ArrayLike],
    left_out_JA: ArrayLike | None = None,
) -> AdjustedRecognition:
    """Recognition of each reader at equal difficulty of the passages.

    Args:
        log_entropies: for each author [J, M] log mean entropy of its passages as read by each author (in the same
            order) and then by judges that wrote none of the texts; a passage that someone could not read (NaN) is
            left out.
        prompts: for each author [M] codes of the passages' prompts; equal codes are one prompt for all authors.
        left_out_JA: [J, A] bool, texts that are not foreign to a reader though it did not write them: those of kin.

    Raises:
        ValueError: fewer judges than one for somebody, that is two authors without a further judge; or shapes differ.
    """
    parts = [np.asarray(log_JM, dtype=np.float64) for log_JM in log_entropies]
    n_authors, n_judges = len(parts), len(parts[0]) if parts else 0
    if n_judges < max(n_authors, 3):
        raise ValueError(f"{n_authors} authors and {n_judges} readers: it takes three readers, the authors among them")
    foreign_JA = ~np.eye(n_judges, n_authors, dtype=bool)
    if left_out_JA is not None:
        foreign_JA &= ~np.asarray(left_out_JA, dtype=bool)
    codes = [np.asarray(code_M) for code_M in prompts]
    if any(log_JM.shape != (n_judges, *code_M.shape) for log_JM, code_M in zip(parts, codes, strict=True)):
        raise ValueError("log entropies must be [reader, passage], and each passage needs a prompt code")
    used_P, code_M = np.unique(np.concatenate(codes), return_inverse=True)
    codes = np.split(code_M, np.cumsum([len(code_M) for code_M in codes])[:-1])
    # Small numbers keep the digits of the squares: every reader is centred once, on all texts.
    centre_J = np.nanmean(np.concatenate(parts, axis=1), axis=1)
    sums = [_sums(log_JM - centre_J[:, None], code_M, len(used_P)) for log_JM, code_M in zip(parts, codes, strict=True)]
    moments = _Moments(*(np.stack(column, axis=1) for column in zip(*sums, strict=True)))
    lines = [_reader(moments, foreign_JA, r) for r in range(n_authors)]
    recognition, direct, reverse, slope = (_estimate(np.stack(column)) for column in list(zip(*lines, strict=True))[:4])
    has_instrument = np.array([line.has_instrument for line in lines])
    return AdjustedRecognition(recognition, direct, reverse, slope, has_instrument)


class _Moments(NamedTuple):
    """Numbers of passages [B, A], sums of log entropy [B, A, J]; of the clipped, and of its products [B, A, J, J]."""

    number: NDArray[np.float64]
    total: NDArray[np.float64]
    clipped: NDArray[np.float64]
    product: NDArray[np.float64]


class _Line(NamedTuple):
    """Of one reader, each [B]; see `AdjustedRecognition`."""

    recognition: NDArray[np.float64]
    direct: NDArray[np.float64]
    reverse: NDArray[np.float64]
    slope: NDArray[np.float64]
    has_instrument: bool


class _Pooled(NamedTuple):
    """Means [B, J], and covariances [B, J, J] of the clipped, over the passages of some authors."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


def _sums(log_JM: NDArray[np.float64], code_M: NDArray[np.int64], n_prompts: int) -> _Moments:
    """Of one author, without the axis of authors."""
    is_read_M = np.isfinite(log_JM).all(axis=0)
    log_MJ, code_M = log_JM[:, is_read_M].T, code_M[is_read_M]
    middle_J = np.median(log_MJ, axis=0)
    reach_J = _CLIP / _MAD * np.median(np.abs(log_MJ - middle_J), axis=0)
    clipped_MJ = np.clip(log_MJ, middle_J - reach_J, middle_J + reach_J)
    each = (np.ones(len(code_M)), log_MJ, clipped_MJ, clipped_MJ[:, :, None] * clipped_MJ[:, None, :])
    totals = []
    for value_M in each:
        value_P = np.zeros((n_prompts, *value_M.shape[1:]))
        np.add.at(value_P, code_M, value_M)
        totals.append(np.concatenate([value_P.sum(axis=0)[None], value_P.sum(axis=0) - value_P]))
    return _Moments(*totals)


def _pooled(moments: _Moments, authors: Sequence[int] | NDArray[np.int64]) -> _Pooled:
    number_B, total_BJ, clipped_BJ, product_BJJ = (part[:, authors].sum(axis=1) for part in moments)
    clipped_BJ, product_BJJ = ratio(clipped_BJ, number_B[:, None]), ratio(product_BJJ, number_B[:, None, None])
    covariance_BJJ = product_BJJ - clipped_BJ[:, :, None] * clipped_BJ[:, None, :]
    return _Pooled(ratio(total_BJ, number_B[:, None]), covariance_BJJ)


def _reader(moments: _Moments, foreign_JA: NDArray[np.bool_], reader: int) -> _Line:
    """The lines of a reader over its judges, and the distance of its own passages from them.

    Each judge gives weights and weights times slopes, of which none divides by a covariance that may be 0.
    """
    own, plain, instrumented = _pooled(moments, [reader]), _Lines.empty(moments), _Lines.empty(moments)
    reverse = _Lines.empty(moments)
    has_instrument, varies_B = True, np.zeros(len(moments.number), dtype=bool)
    for judge in range(len(foreign_JA)):
        shared_A = foreign_JA[reader] & foreign_JA[judge]
        if judge == reader or not foreign_JA[judge, reader] or not shared_A.any():
            continue
        both = _pooled(moments, np.flatnonzero(shared_A))
        gap_B = both.mean[:, reader] - own.mean[:, reader]
        shift_B = own.mean[:, judge] - both.mean[:, judge]
        common_B = np.maximum(both.covariance[:, reader, judge], 0.0)
        of_reader_B, of_judge_B = (both.covariance[:, j, j] for j in (reader, judge))
        varies_B |= of_judge_B > _CONSTANT
        weight_B, direct_B = ratio(common_B**2, of_reader_B * of_judge_B), ratio(common_B, of_judge_B)
        plain = plain.plus(weight_B, weight_B * direct_B, gap_B, shift_B)
        reverse = reverse.plus(weight_B, direct_B, gap_B, shift_B)  # the weight times the reverse slope
        found = _instrument(moments, foreign_JA, reader, judge, shared_A)
        if found is None:
            has_instrument = False
            continue
        with_reader_B, with_judge_B, size_B = found
        strength_B = weight_B * ratio(with_judge_B, of_judge_B * size_B)
        instrumented = instrumented.plus(strength_B * with_judge_B, strength_B * with_reader_B, gap_B, shift_B)
    direct_B, reverse_B = plain.distance, reverse.distance
    recognition_B = instrumented.distance if has_instrument else np.minimum(direct_B, reverse_B)
    return _Line(recognition_B, direct_B, reverse_B, np.where(varies_B, plain.slope, np.nan), has_instrument)


class _Lines(NamedTuple):
    """Sums over judges, each [B]: of weights, of weights times slopes, and of weights times distances of own text."""

    weight: NDArray[np.float64]
    weighted_slope: NDArray[np.float64]
    weighted_distance: NDArray[np.float64]

    @classmethod
    def empty(cls, moments: _Moments) -> _Lines:
        """No judge yet."""
        return cls(*np.zeros((3, len(moments.number))))

    def plus(self, weight_B: NDArray, slope_B: NDArray, gap_B: NDArray, shift_B: NDArray) -> _Lines:
        """With a judge more: its weight and weight times slope, and by how much the reader and it see own text lower
        and higher than the others'.
        """
        distance_B = weight_B * gap_B + slope_B * shift_B
        return _Lines(self.weight + weight_B, self.weighted_slope + slope_B, self.weighted_distance + distance_B)

    @property
    def slope(self) -> NDArray[np.float64]:
        """0 where no judge goes with the reader."""
        return np.where(self.weight > 0, ratio(self.weighted_slope, self.weight), 0.0)

    @property
    def distance(self) -> NDArray[np.float64]:
        """NaN where no judge goes with the reader."""
        return ratio(self.weighted_distance, self.weight)


def _instrument(
    moments: _Moments, foreign_JA: NDArray[np.bool_], reader: int, judge: int, shared_A: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
    """[B] covariances of all other judges, taken together, with the reader and with a judge, and their size.

    Each counts by its regression on the reader; None if nobody else reads text that is foreign to all three.
    """
    with_reader_B, with_judge_B, size_B = np.zeros((3, len(moments.number)))
    others = [k for k in range(len(foreign_JA)) if k not in (reader, judge) and (shared_A & foreign_JA[k]).any()]
    for other in others:
        covariance_BJJ = _pooled(moments, np.flatnonzero(shared_A & foreign_JA[other])).covariance
        share_B = ratio(np.maximum(covariance_BJJ[:, reader, other], 0.0), covariance_BJJ[:, other, other])
        with_reader_B = with_reader_B + share_B * covariance_BJJ[:, reader, other]
        with_judge_B = with_judge_B + share_B * covariance_BJJ[:, judge, other]
        size_B = size_B + share_B**2 * covariance_BJJ[:, other, other]
    return (with_reader_B, with_judge_B, size_B) if others else None


def _estimate(value_RB: NDArray[np.float64]) -> Estimate:
    """The estimate of all prompts, with a t interval of the jackknife's pseudo-values."""
    value_R, without_RP = value_RB[:, 0], value_RB[:, 1:]
    n = without_RP.shape[1]
    return Estimate(value_R, *t_interval(value_R, n * value_R[:, None] - (n - 1) * without_RP))
