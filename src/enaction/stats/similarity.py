"""How alike two models' states of the same tokens are.

Axes: N token, C channel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mean_cosine(one_NC: NDArray, other_NC: NDArray, *, centred: bool = False) -> float:
    """Mean cosine of the states of the same token; with `centred`, after taking each model's mean state off."""
    one, other = np.asarray(one_NC, float), np.asarray(other_NC, float)
    if centred:
        one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / np.maximum(norms, 1e-12)).mean())


def linear_cka(one_NC: NDArray, other_NC: NDArray) -> float:
    """Linear centred kernel alignment (Kornblith and others 2019, arXiv 1905.00414): 1 for states equal up to rotation
    and scale, near 0 for unrelated ones if there are many more tokens than channels."""
    one, other = _centred(one_NC), _centred(other_NC)
    cross = np.square(one.T @ other).sum()
    return float(cross / np.sqrt(np.square(one.T @ one).sum() * np.square(other.T @ other).sum()))


def procrustes(one_NC: NDArray, other_NC: NDArray) -> float:
    """Procrustes distance: the share of variance left when one set, centred and of norm 1, is turned onto the other.

    1 - (sum of singular values of the cross product)^2; 0 for states equal up to rotation and scale.
    """
    one, other = _centred(one_NC), _centred(other_NC)
    one, other = one / np.linalg.norm(one), other / np.linalg.norm(other)
    return float(1 - np.linalg.svd(one.T @ other, compute_uv=False).sum() ** 2)


def _centred(state_NC: NDArray) -> NDArray:
    state_NC = np.asarray(state_NC, dtype=np.float64)
    return state_NC - state_NC.mean(axis=0)
