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
    log_R_E = np.full(bets.log_factors_NE.shape[1], -np.inf)
    path = []
    masks = groups(bets)
    for log_factor_E in bets.log_factors_NE:
        log_R_E = np.logaddexp(0.0, log_R_E) + log_factor_E
        path.append([mixed(log_R_E[of_E], bets.log_weights_E[of_E]) for of_E in masks])
    path_NG = np.array(path).reshape(len(bets), len(masks))
    return np.logaddexp.reduce(path_NG, axis=1) - np.log(len(masks))
