"""Quantiles of Student's t for whole degrees of freedom. (SciPy has them too, but is slow to import.)"""

from __future__ import annotations

import math
from functools import cache


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
