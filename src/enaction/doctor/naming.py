"""The rule by which a fault is named: the smallest residual, if it is smaller than that of a sound column by enough.

The residual of a hypothesis is the root mean square of column minus prediction over the trained tokens that both have,
each difference cut at `hypotheses.LARGEST`. Over n tokens a hypothesis gains n (rms_sound^2 - rms^2) / (2 s^2) nats on
`sound`, the ratio of two Gaussian likelihoods; s is the noise budget, or the smallest residual of all if that is
larger: one s for all, so that of two hypotheses that fit alike chance does not decide by what both explain. It wins
if that is more than 6 and more than the logarithm of the number of hypotheses over the level. That bounds the chance
that any of them wins on a sound column whose noise is independent, as light in its tails as a Gaussian and within the
budget: the expectation of exp(gain) is then at most 1. Differences far below the budget decide nothing, whatever the
tails of a small noise are (that of bfloat16 is no Gaussian).

If the best that there is leaves more than noise makes, nothing that was tried explains the column: other weights, or a
fault that is not in the list.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from enaction.doctor.hypotheses import LARGEST, LEAST_GAIN, Hypothesis

# A residual above this, or above three times the noise, is no noise: nats.
LEAST_LIMIT = 0.12
# Residuals below this are one: rounding of float32 engines, nats.
ROUNDING = 1e-3
# Share of tokens that a hypothesis may call impossible: tokens at the edge of a nucleus, in another precision.
MOST_IMPOSSIBLE = 0.01
# Fewer tokens than this are not enough for any name.
LEAST_TOKENS = 8


@dataclass(frozen=True)
class Fit:
    """How well a hypothesis fits.

    Attributes:
        hypothesis: it.
        n: trained tokens that it and `sound` speak of.
        rms: residual of the hypothesis over these, nats.
        rms_sound: that of `sound` over the same tokens.
        gain: nats that it gains on `sound`, less its cost.
    """

    hypothesis: Hypothesis
    n: int
    rms: float
    rms_sound: float
    gain: float


@dataclass(frozen=True)
class Named:
    """What is said of one column.

    Attributes:
        column: sampler, trainer or entropy.
        outcome: `sound`; `fault` if `best` explains it; `other` if nothing does; `little` with too few tokens.
        best: the hypothesis that fits best; `sound` itself if it is sound.
        fits: all that were tried, best first.
        threshold: nats that a fault had to gain.
        limit: residual beyond which nothing explains the column, nats.
    """

    column: str
    outcome: str
    best: Fit
    fits: tuple[Fit, ...]
    threshold: float
    limit: float

    @property
    def sound(self) -> Fit:
        """The fit of a sound column."""
        return next(fit for fit in self.fits if fit.hypothesis.name == "sound")


def limit_of(noise: float) -> float:
    """The residual beyond which it is no noise, nats."""
    return max(3 * noise, LEAST_LIMIT)


def name_fault(column: str, given_N: np.ndarray, hypotheses: Sequence[Hypothesis], noise: float, level: float) -> Named:
    """Name what explains a column.

    Args:
        column: its name.
        given_N: its numbers; NaN where they do not count.
        hypotheses: `sound` first.
        noise: budget, standard deviation in nats.
        level: chance of naming a fault on a sound column.
    """
    sound, *others = hypotheses
    found = [fit for h in hypotheses if (fit := _fit(given_N, h, sound)) is not None]
    scale = max(noise, min((fit.rms for fit in found), default=noise))
    found = [replace(fit, gain=_gain(fit, scale, is_sound=fit.hypothesis is sound)) for fit in found]
    threshold = max(LEAST_GAIN, math.log(max(len(others), 1) / level))
    first = next((fit for fit in found if fit.hypothesis is sound), None)
    limit = limit_of(noise)
    if first is None:
        nothing = Fit(sound, 0, math.nan, math.nan, 0.0)
        return Named(column, "little", nothing, (nothing,), threshold, limit)
    fits = sorted(found, key=lambda fit: (-fit.gain, fit.rms))
    best = fits[0] if fits[0].gain > threshold else first
    outcome = "other" if best.rms > limit else "sound" if best is first else "fault"
    return Named(column, outcome, best, tuple(fits), threshold, limit)


def _gain(fit: Fit, scale: float, *, is_sound: bool) -> float:
    return 0.0 if is_sound else fit.n * (fit.rms_sound**2 - fit.rms**2) / (2 * scale**2) - fit.hypothesis.cost


def _fit(given_N: np.ndarray, hypothesis: Hypothesis, sound: Hypothesis) -> Fit | None:
    """The residuals, without a gain; None where the hypothesis says too little, or calls too many tokens impossible."""
    has_N = np.isfinite(given_N) & ~np.isnan(hypothesis.predicted)
    is_possible_N = has_N & (hypothesis.predicted > -np.inf)
    is_sound = hypothesis is sound
    if not is_sound and (has_N & ~is_possible_N).sum() > MOST_IMPOSSIBLE * has_N.sum():
        return None
    both_N = is_possible_N & np.isfinite(sound.predicted)
    n = int(both_N.sum())
    # A hypothesis about a small part of the tokens, such as a rollout's neighbours of other lengths, decides nothing.
    if n < LEAST_TOKENS or (not is_sound and n < 0.5 * np.isfinite(given_N).sum()):
        return None
    rms, rms_sound = (_rms(given_N[both_N] - h.predicted[both_N]) for h in (hypothesis, sound))
    return Fit(hypothesis, n, rms, rms_sound, math.nan)


def _rms(residual_N: np.ndarray) -> float:
    return math.sqrt(float((np.clip(residual_N, -LARGEST, LARGEST) ** 2).mean()) + ROUNDING**2)
