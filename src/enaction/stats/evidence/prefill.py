"""How much of the beginning of a text cannot have been sampled from the model."""

from __future__ import annotations

import math

import numpy as np

from enaction.stats.evidence.bets import Bets
from enaction.stats.evidence.processes import groups, log_sum_exp, normalised, shared_path

# Beginnings that are tried together; the search ends in the first block that has one which is not rejected.
BLOCK = 24


def fewest_foreign(bets: Bets, log_threshold: float) -> int:
    """The smallest k such that "all tokens from number k on were sampled from the model" is not rejected.

    If a text is k foreign tokens followed by own ones, this is at most k except with probability alpha, since the
    e-process that begins at k reaches 1/alpha with probability alpha at most. So at least this many tokens at the
    beginning are not the model's. Nothing is said about an upper end: the model goes on with foreign text as it would
    have gone on by itself, and after a few tokens nothing tells the two apart. 0 where nothing is rejected, the number
    of tokens where every k is.

    Args:
        bets: on the tokens of the passage.
        log_threshold: log 1/alpha.
    """
    n, start, block = len(bets), 0, 1
    while start < n:
        count = min(block, n - start)
        for k, greatest in enumerate(_greatest(bets, start, count, log_threshold)):
            if greatest < log_threshold:
                return start + k
        start, block = start + count, BLOCK
    return n


def _greatest(bets: Bets, start: int, count: int, log_threshold: float) -> np.ndarray:
    """The largest value [count] of the log e-processes that begin at tokens `start`, `start` + 1, ...

    Read on in steps until all have reached the threshold.
    """
    length = len(bets) - start
    reach, greatest_K = min(length, max(64, 2 * count)), np.zeros(count)
    while True:
        greatest_K = _paths(bets, start, count, start + reach).max(1)
        if reach == length or (greatest_K >= log_threshold).all():
            return greatest_K
        reach = min(length, 4 * reach)


def _paths(bets: Bets, start: int, count: int, stop: int) -> np.ndarray:
    """Log e-processes [count, stop - start] of the passage from `start`, `start` + 1, ... on; 0 before they begin."""
    sums_NE = bets.log_factors_NE[start:stop].cumsum(0)
    before_KE = np.concatenate([np.zeros((1, sums_NE.shape[1])), sums_NE[: count - 1]])
    parts = [shared_path(bets.log_arms_NA[start:stop], bets.log_arm_weights_A, count).reshape(count, -1)]
    later_KN = np.arange(stop - start) >= np.arange(count)[:, None]
    for of_E in groups(bets):
        weights_E = normalised(bets.log_weights_E[of_E])
        path_KN = np.stack([log_sum_exp(sums_NE[:, of_E] - before_E[of_E] + weights_E) for before_E in before_KE])
        parts.append(np.where(later_KN, path_KN, 0.0))
    return np.where(later_KN, log_sum_exp(np.stack(parts, -1)) - math.log(len(parts)), 0.0)
