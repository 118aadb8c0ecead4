"""Which weights wrote which part: each span of a rollout by the checkpoint whose numbers its own are nearest to.

Axes: N tokens of the batch. In nats.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from enaction.doctor.batch import Batch
from enaction.doctor.hypotheses import LARGEST, LEAST_GAIN
from enaction.doctor.naming import LEAST_TOKENS, ROUNDING


@dataclass(frozen=True)
class Version:
    """The spans with one label.

    Attributes:
        label: the version that the file states; "" where it states none.
        fits: weights -> number of spans that they fit best, the most first.
        undecided: spans too short, or as near to two of the weights.
        rms: weights -> residual over all tokens of the label, nats.
        n_tokens: of the spans.
    """

    label: str
    fits: dict[str, int]
    undecided: int
    rms: dict[str, float]
    n_tokens: int

    @property
    def is_mixed(self) -> bool:
        """Whether spans of one label come from several weights."""
        return len(self.fits) > 1


def by_version(batch: Batch, given_N: np.ndarray, weights: Mapping[str, np.ndarray]) -> list[Version]:
    """Fit every span of stated versions, or every rollout where none are stated, with each of the weights.

    A span is decided if its best weights gain 6 nats on the second, n log(rms_2 / rms_1).

    Args:
        batch: the rollouts.
        given_N: the sampler's log-probabilities; NaN where they do not count.
        weights: name -> its log-probabilities [N] of the same tokens.
    """
    parts: dict[str, list[np.ndarray]] = {}
    for rollout, rows in zip(batch.rollouts, batch.slices, strict=True):
        spans = [(s.version, s.start, s.stop) for s in rollout.versions] or [("", 0, rows.stop - rows.start)]
        for label, start, stop in spans:
            at = np.arange(rows.start + start, min(rows.start + stop, rows.stop))
            parts.setdefault(label, []).append(at[np.isfinite(given_N[at])])
    return [_version(label, spans, given_N, weights) for label, spans in parts.items()]


def _version(label: str, spans: list[np.ndarray], given_N: np.ndarray, weights: Mapping[str, np.ndarray]) -> Version:
    counted: Counter[str] = Counter()
    undecided = 0
    for span in spans:
        ranked = sorted((_rms(given_N[span] - w_N[span]), name) for name, w_N in weights.items())
        is_decided = len(span) >= LEAST_TOKENS and (
            len(ranked) == 1 or len(span) * math.log(ranked[1][0] / ranked[0][0]) > LEAST_GAIN
        )
        if is_decided:
            counted[ranked[0][1]] += 1
        else:
            undecided += 1
    together = np.concatenate(spans)
    rms = {name: _rms(given_N[together] - w_N[together]) for name, w_N in weights.items()}
    return Version(label, dict(counted.most_common()), undecided, rms, len(together))


def _rms(residual_N: np.ndarray) -> float:
    residual_N = residual_N[np.isfinite(residual_N)]
    if not len(residual_N):
        return math.inf
    return math.sqrt(float((np.clip(residual_N, -LARGEST, LARGEST) ** 2).mean()) + ROUNDING**2)
