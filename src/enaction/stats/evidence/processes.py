"""Bets mixed into e-processes: of one passage, and of a stream of passages."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from enaction.stats.evidence.bets import Bets

# Part of the weight that is dealt anew before each token within a passage (Herbster and Warmuth 1998).
SHARE = 0.02


def passage_path(bets: Bets) -> np.ndarray:
    """Log of the e-process of one passage after each token [N].

    An even mixture of bets that switch (fixed share), bets that are held, and bets on other readers, if there are any.
    """
    parts = [shared_path(bets.log_arms_NA, bets.log_arm_weights_A), *held_paths(bets)]
    return log_sum_exp(np.stack(parts, -1)) - math.log(len(parts))


def held_paths(bets: Bets) -> list[np.ndarray]:
    """Log e-processes [N] of the held bets on this reader, and of those on other readers if there are any."""
    sums_NE = bets.log_factors_NE.cumsum(0)
    return [mixed(sums_NE[:, of_E], bets.log_weights_E[of_E]) for of_E in groups(bets)]


def groups(bets: Bets) -> list[np.ndarray]:
    """Masks [E] of the held bets on this reader, and on other readers if there are any."""
    return [~bets.is_other_E, bets.is_other_E] if bets.is_other_E.any() else [~bets.is_other_E]


def log_sum_exp(log_NE: np.ndarray) -> np.ndarray:
    """Log of the sum of exponentials over the last axis; -inf where all are."""
    peak_N1 = np.maximum(log_NE.max(-1, keepdims=True), -1e300)
    return peak_N1[..., 0] + np.log(np.exp(log_NE - peak_N1).sum(-1))


def normalised(log_weights_E: np.ndarray) -> np.ndarray:
    """Log weights that sum to 1."""
    return log_weights_E - log_sum_exp(log_weights_E)


def mixed(sums_NE: np.ndarray, log_weights_E: np.ndarray) -> np.ndarray:
    """Log of the mixture [N] with these weights, which need not sum to 1."""
    return log_sum_exp(sums_NE + normalised(log_weights_E))


def shared_path(log_arms_NA: np.ndarray, log_weights_A: np.ndarray, starts: int = 1) -> np.ndarray:
    """Log e-process [N] of arms of which a part of the weight is dealt anew before each token.

    With `starts` above 1, paths [starts, N] that begin at tokens 0, 1, ...; 0 before they begin.
    """
    prior_A, arms_NA = np.exp(log_weights_A), log_arms_NA
    weights_KA = np.tile(prior_A, (starts, 1))
    path_KN = np.zeros((starts, len(arms_NA)))
    log_e_K = np.zeros(starts)
    for t, log_arm_A in enumerate(arms_NA):
        live = slice(0, min(starts, t + 1))
        peak = max(0.0, float(log_arm_A.max()))
        gained_KA = weights_KA[live] * np.exp(log_arm_A - peak)
        total_K1 = gained_KA.sum(1, keepdims=True)
        log_e_K[live] += peak + np.log(total_K1[:, 0])
        path_KN[live, t] = log_e_K[live]
        weights_KA[live] = (1 - SHARE) * gained_KA / total_K1 + SHARE * prior_A
    return path_KN[0] if starts == 1 else path_KN


class Stream:
    """The e-process of a stream of passages: one mixture of held bets, whose weights go on from passage to passage.

    Attributes:
        log_e: its logarithm after all tokens so far, 0 at first.
        greatest: the largest that it was after any token.
        n_tokens: tokens so far.
    """

    def __init__(self) -> None:
        self.log_e, self.greatest, self.n_tokens = 0.0, 0.0, 0
        self._sums: dict[str, float] = {}

    def go_on(self, bets: Bets) -> np.ndarray:
        """Log of the e-process after each token of the next passage [N].

        Raises:
            ValueError: other bets are on offer than before, which would let a mixture drop what loses.
        """
        if self._sums and tuple(self._sums) != bets.names:
            raise ValueError("a stream needs the same bets throughout")
        started_E = np.array([self._sums.get(name, 0.0) for name in bets.names])
        sums_NE = started_E + bets.log_factors_NE.cumsum(0)
        path_N = mixed(sums_NE, bets.log_weights_E)
        if len(bets):
            self._sums |= dict(zip(bets.names, sums_NE[-1].tolist(), strict=True))
            self.log_e = float(path_N[-1])
            self.greatest = max(self.greatest, float(path_N.max()))
            self.n_tokens += len(bets)
        return path_N

    def state(self) -> dict[str, Any]:
        """All that is needed to go on later, as plain data."""
        return {"log_e": self.log_e, "greatest": self.greatest, "n_tokens": self.n_tokens, "sums": dict(self._sums)}

    @classmethod
    def at(cls, state: dict[str, Any]) -> Stream:
        """A stream as `state` left it."""
        stream = cls()
        stream.log_e, stream.greatest, stream.n_tokens = state["log_e"], state["greatest"], state["n_tokens"]
        stream._sums = dict(state["sums"])
        return stream
