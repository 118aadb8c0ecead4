"""Student's t: quantiles for whole degrees of freedom, and the interval of a rate over clusters.

Axes: C cluster (a prompt).
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from enaction.stats.resampling import Estimate

_NORMAL = 1.96  # half width of a central 95 % interval of the standard normal


@cache
def t_quantile(degrees: int, level: float = 0.95) -> float:
    """The half width of a central interval of Student's t, e.g. 2.571 for 5 degrees of freedom and 95 %.

    Raises:
        ValueError: fewer than 1 degree of freedom, or a level outside 0 to 1.
    """
    if degrees < 1 or not 0 < level < 1:
        raise ValueError(f"{degrees} degrees of freedom at level {level}: at least 1, and a level between 0 and 1")
    low, high = 0.0, 1.0
    while _central_mass(high, degrees) < level:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _central_mass(middle, degrees) < level else (low, middle)
    return high


def cluster_rate(total_C: ArrayLike, count_C: ArrayLike, variance_C: ArrayLike = 0.0) -> Estimate:
    """All totals divided by all counts, with a 95 % t interval over clusters.

    The interval is that of a ratio of sums: the deviations are total - rate * count of each cluster, so that clusters
    with more tokens count for more. Clusters without a count are left out; one cluster alone has no interval (NaN), and
    without any the rate is NaN.

    Args:
        total_C: [C] sums over a cluster's tokens, in any unit; infinite makes the rate infinite, without interval.
        count_C: [C] numbers of tokens.
        variance_C: [C] variances of the totals that theory predicts. The interval is never narrower than they make it:
            rare tokens that carry a variance are missing from most small samples, whose spread is then too small.
    """
    total_C, count_C = (np.asarray(a, dtype=np.float64) for a in (total_C, count_C))
    variance_C = np.broadcast_to(np.asarray(variance_C, dtype=np.float64), total_C.shape)
    total_C, variance_C, count_C = (a[count_C > 0] for a in (total_C, variance_C, count_C))
    n_clusters, n_tokens = len(count_C), count_C.sum()
    rate = np.asarray(total_C.sum() / n_tokens if n_clusters else np.nan)
    if n_clusters < 2 or not np.isfinite(rate):
        return Estimate(rate, np.asarray(np.nan), np.asarray(np.nan))
    squares = ((total_C - rate * count_C) ** 2).sum() * n_clusters / (n_clusters - 1)
    found = t_quantile(n_clusters - 1) * np.sqrt(squares)
    predicted = _NORMAL * np.sqrt(max(variance_C.sum(), 0.0))
    half = max(found, predicted) / n_tokens
    return Estimate(rate, rate - half, rate + half)


def _central_mass(t: float, degrees: int) -> float:
    """P(-t < T < t): Abramowitz and Stegun 26.7.3 and 26.7.4, finite sums for whole degrees of freedom."""
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = degrees % 2
    term = cosine if is_odd else 1.0
    total = 0.0
    for k in range(1, degrees // 2 + 1):
        total += term
        term *= cosine**2 * (2 * k / (2 * k + 1) if is_odd else (2 * k - 1) / (2 * k))
    return (angle + sine * total) * 2 / math.pi if is_odd else sine * total
