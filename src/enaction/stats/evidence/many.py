"""Which of many texts are reported, with a bound on the share of false reports."""

from __future__ import annotations

import math

import numpy as np


def e_bh(log_e_M: np.ndarray, alpha: float) -> np.ndarray:
    """Mask [M] of the texts that are reported: the e-BH procedure (Wang and Ramdas 2022).

    The expected share of false reports among all is at most alpha, however the e-values depend on each other. The k
    largest are reported for the greatest k whose smallest is at least M/(alpha k). The values have to be e-values: of
    an e-process at a time that was fixed or stopped at, not the largest that it ever was.

    Args:
        log_e_M: logarithms of the e-values, nats.
        alpha: level, between 0 and 1.
    """
    order_M = np.argsort(-log_e_M, kind="stable")
    need_M = math.log(len(log_e_M) / alpha) - np.log(np.arange(1, len(log_e_M) + 1)) if len(log_e_M) else log_e_M
    enough = np.nonzero(log_e_M[order_M] >= need_M)[0]
    reported_M = np.zeros(len(log_e_M), dtype=bool)
    if len(enough):
        reported_M[order_M[: enough[-1] + 1]] = True
    return reported_M
