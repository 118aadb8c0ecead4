"""Trained tokens that the policy did not write: where a model would have to be surprised too often.

The e-value of a uniform alternative: a factor 1 - b + b (1/V) / p for each token, with E_p = 1 exactly under a model
that drew the tokens with probability p. Read with noise, p is known up to a factor whose mean the budget bounds. What
it finds are observations, edits and fabricated turns among the trained tokens; `enaction audit` looks closer.

Axes: N tokens of the batch. In nats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from enaction.doctor.batch import Batch

# Shares of tokens that may be foreign, averaged over.
_SHARES = (0.003, 0.01, 0.03, 0.1, 0.3)


@dataclass(frozen=True)
class Foreign:
    """Evidence that some trained tokens were not sampled.

    Attributes:
        log10_e: of the whole batch.
        is_found: whether it reaches 1/level.
        worst: rollouts with the most evidence: number of the rollout, first token, token after the last, log10.
    """

    log10_e: float
    is_found: bool
    worst: tuple[tuple[int, int, int, float], ...]


def foreign(batch: Batch, logprob_N: np.ndarray, vocabulary: int, noise: float, level: float) -> Foreign | None:
    """Look for tokens that were not drawn from a model.

    Args:
        batch: the rollouts.
        logprob_N: log-probability of each token under what it is said to be drawn from; NaN where it does not count.
        vocabulary: number of tokens that the model has.
        noise: budget; the factors are divided by 1 + noise^2.
        level: 1/level is what the evidence has to reach.
    """
    known_N = batch.is_trained & np.isfinite(logprob_N)
    if not known_N.any():
        return None
    log_r_N = np.where(known_N, -math.log(vocabulary) - logprob_N - math.log1p(noise**2), 0.0)
    gains = [np.where(known_N, np.logaddexp(math.log1p(-b), math.log(b) + log_r_N), 0.0) for b in _SHARES]
    log_e = float(np.logaddexp.reduce([g.sum() for g in gains])) - math.log(len(_SHARES))
    strongest = max(gains, key=lambda g: g.sum())
    spans = [(row, *_best_run(strongest[rows])) for row, rows in enumerate(batch.slices)]
    spans = sorted((s for s in spans if s[3] > math.log(1 / level)), key=lambda s: -s[3])[:5]
    worst = tuple((row, start, stop, total / math.log(10)) for row, start, stop, total in spans)
    return Foreign(log_e / math.log(10), log_e >= -math.log(level), worst)


def _best_run(gain_T: np.ndarray) -> tuple[int, int, float]:
    """Start, stop and sum of the run with the largest sum."""
    best, start, best_run = 0.0, 0, (0, 0)
    running = 0.0
    for i, gain in enumerate(gain_T.tolist()):
        if running <= 0:
            running, start = 0.0, i
        running += gain
        if running > best:
            best, best_run = running, (start, i + 1)
    return *best_run, best
