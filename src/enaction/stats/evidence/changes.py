"""Where text ceases to be the model's: the Shiryaev-Roberts procedure on bets."""

from __future__ import annotations

import numpy as np

from enaction.stats.evidence.bets import Bets
from enaction.stats.evidence.processes import groups, mixed


def change_path(bets: Bets) -> np.ndarray:
    """Log of the Shiryaev-Roberts statistic after each token [N]: R = (1 + R) r, mixed over the held bets.

    R_t - t is a supermartingale if all tokens are the model's, so that the expected number of own tokens until R
    reaches A is at least A (Pollak 1987).
    """
    sums_NE = bets.log_factors_NE.cumsum(0)
    # R_t is the sum over beginnings k of the product of the factors from k to t.
    before_NE = np.concatenate([np.zeros((1, sums_NE.shape[1])), sums_NE[:-1]])
    log_R_NE = sums_NE + np.logaddexp.accumulate(-before_NE, axis=0)
    paths = [mixed(log_R_NE[:, of_E], bets.log_weights_E[of_E]) for of_E in groups(bets)]
    return np.logaddexp.reduce(paths, axis=0) - np.log(len(paths))
