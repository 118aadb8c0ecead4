"""Directions in a model's states: subspaces of centroids, and what they are compared with.

Encoding directions, never decoding ones: the means of states in bins of a quantity say where the model puts it. The
weights of a regression that reads it out say something else, hold a fraction of the energy, and steer nothing.

Axes: N token, C channel, K key, B bin, r rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from enaction.stats.bins import Cells, Codes, cell_means

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Centroids:
    """Means of states by key and bin, and the subspace in which they vary within a key.

    Attributes:
        mean: [K, C] of a key's usable tokens.
        deviation: [K, B, C] of a cell's centroid from its key's mean; NaN where the cell is not usable.
        basis: [C, R] orthonormal, the principal directions of the deviations, each cell weighted by its tokens; the
            first explains most.
    """

    mean: Floats
    deviation: Floats
    basis: Floats

    def coordinates(self, rank: int) -> Floats:
        """[K, B, r] coordinates of the centroids in the first directions: what a clamp sets."""
        basis = self.basis[:, :rank]
        return (self.mean @ basis)[:, None] + self.deviation @ basis


def centroids(state_NC: NDArray, key_N: Codes, bin_N: Codes, of: Cells, most: int = 4) -> Centroids:
    """Saturated centroids: one for each usable cell of key and bin.

    Args:
        state_NC: states.
        key_N, bin_N: their cells.
        of: the counts of these tokens.
        most: directions that are kept.

    Raises:
        ValueError: no usable cell.
    """
    if not of.usable.any():
        raise ValueError("no cell of key and bin has enough tokens for a centroid")
    keep = of.usable[key_N, bin_N]
    state_NC, key_N, bin_N = np.asarray(state_NC, dtype=np.float64)[keep], key_N[keep], bin_N[keep]
    means = cell_means(state_NC, key_N, bin_N, (of.count.shape[0], of.count.shape[1]))
    weight = np.where(of.usable, of.count, 0).astype(float)
    filled = np.where(of.usable[..., None], means, 0.0)
    with np.errstate(invalid="ignore"):
        mean_KC = (weight[..., None] * filled).sum(axis=1) / weight.sum(axis=1)[:, None]
    mean_KC = np.nan_to_num(mean_KC)
    deviation = np.where(of.usable[..., None], means - mean_KC[:, None], np.nan)
    flat = np.sqrt(weight[of.usable])[:, None] * deviation[of.usable]
    basis = np.linalg.svd(flat, full_matrices=False)[2][:most].T
    return Centroids(mean_KC, deviation, basis)


def rotated(of: Centroids, rank: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Centroids of equal norm and arrangement in random directions: basis [C, r] and coordinates [K, B, r]."""
    basis, _ = np.linalg.qr(rng.normal(size=(len(of.basis), rank)))
    return basis, (of.mean @ basis)[:, None] + of.deviation @ of.basis[:, :rank]


def orthogonal_to(basis_CR: Floats, direction_C: Floats) -> Floats:
    """The part of a direction outside a subspace, of norm 1."""
    rest = direction_C - basis_CR @ (basis_CR.T @ direction_C)
    return rest / np.linalg.norm(rest)


def matched(of: Centroids, residual_NC: NDArray, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """A random direction of the covariance of states within cells, outside the subspace, at equal z-scores.

    Args:
        of: the centroids whose first direction it stands against.
        residual_NC: states less their cell's centroid.
        rng: of the draw.

    Returns:
        basis [C, 1] and coordinates [K, B, 1].
    """
    drawn = orthogonal_to(of.basis, residual_NC.T @ rng.normal(size=len(residual_NC)))[:, None]
    own = of.basis[:, :1]
    scale = (residual_NC @ drawn).std() / max(1e-12, float((residual_NC @ own).std()))
    return drawn, (of.mean @ drawn)[:, None] + scale * (of.deviation @ own)


def alignment(one_CR: NDArray, other_CR: NDArray) -> float:
    """|cosine| of the first directions of two bases: of two halves of the data, the reliability of a direction."""
    one, other = np.asarray(one_CR)[:, 0], np.asarray(other_CR)[:, 0]
    return float(abs(one @ other) / (np.linalg.norm(one) * np.linalg.norm(other)))


def alignment_floor(channels: int) -> float:
    """95 % quantile of |cosine| of two random directions, by the normal approximation: 1.96 / sqrt(channels)."""
    return float(1.96 / np.sqrt(channels))
