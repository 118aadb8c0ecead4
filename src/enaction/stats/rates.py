"""The interval of a rate over clusters.

Axes: C cluster (a prompt).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from enaction.stats.resampling import Estimate
from enaction.stats.student import t_quantile

_NORMAL = 1.96  # half width of a central 95 % interval of the standard normal


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
