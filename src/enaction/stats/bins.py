"""Bins of a quantity, and cells of bin and key: what is compared when one thing varies and another is held.

A sharp model has surprisals of nearly 0 at half of its tokens. Quantile bins would put several edges at 0, so that such
a floor is a bin of its own and the rest has bins of equal count.

Axes: N token, K key, B bin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
# Below this a surprisal, nats, is on the floor; where more than this share of tokens is, the floor is a bin.
FLOOR, FLOOR_SHARE = 0.01, 1 / 3
# A cell of fewer tokens has no centroid.
LEAST = 25


def edges(value_N: ArrayLike, n_bins: int, *, has_floor: bool = True) -> Floats:
    """Inner edges of bins of equal count, [at most n_bins - 1], rising; the outer bins are open.

    Args:
        value_N: finite.
        n_bins: at most; values that repeat make fewer.
        has_floor: whether values below `FLOOR` may be a bin of their own.

    Raises:
        ValueError: fewer than 2 bins, or no values.
    """
    value_N = np.asarray(value_N, dtype=np.float64)
    if n_bins < 2 or not len(value_N):
        raise ValueError(f"{n_bins} bins of {len(value_N)} values; there must be 2 bins and a value at least")
    above = value_N[value_N >= FLOOR]
    if has_floor and len(above) and len(above) < (1 - FLOOR_SHARE) * len(value_N):
        inner = np.quantile(above, np.arange(1, n_bins - 1) / (n_bins - 1))
        return np.unique(np.concatenate([[FLOOR], inner]))
    return np.unique(np.quantile(value_N, np.arange(1, n_bins) / n_bins))


def binned(value_N: ArrayLike, edge_B: ArrayLike) -> Codes:
    """The bin of each value, from 0; a value on an edge belongs above it."""
    return np.searchsorted(np.asarray(edge_B, dtype=np.float64), np.asarray(value_N, dtype=np.float64), side="right")


@dataclass(frozen=True)
class Cells:
    """Tokens by key and bin.

    Attributes:
        count: [K, B] tokens.
        usable: [K, B] bool, whether a cell has at least `LEAST` of them and its key has two such cells.
    """

    count: Codes
    usable: NDArray[np.bool_]

    @property
    def share(self) -> float:
        """Share of the tokens that are in usable cells."""
        return float(self.count[self.usable].sum() / max(1, self.count.sum()))


def cells(key_N: Codes, bin_N: Codes, n_keys: int, n_bins: int) -> Cells:
    """How many tokens each cell has, and which cells are usable.

    Args:
        key_N, bin_N: codes from 0.
        n_keys, n_bins: K, B.
    """
    count = np.bincount(key_N * n_bins + bin_N, minlength=n_keys * n_bins).reshape(n_keys, n_bins)
    enough = count >= LEAST
    return Cells(count, enough & (enough.sum(axis=1, keepdims=True) >= 2))


def cell_means(value_N: ArrayLike, key_N: Codes, bin_N: Codes, shape: tuple[int, int]) -> Floats:
    """Mean of a value in each cell, [K, B] or [K, B, C] of values [N, C]; NaN where a cell is empty."""
    value_N = np.asarray(value_N, dtype=np.float64)
    flat, size = key_N * shape[1] + bin_N, shape[0] * shape[1]
    count = np.bincount(flat, minlength=size).astype(float)
    columns = value_N.reshape(len(value_N), -1)
    if columns.shape[1] == 1:
        total = np.bincount(flat, columns[:, 0], size)[:, None]
    else:
        order = np.argsort(flat, kind="stable")
        present, first = np.unique(flat[order], return_index=True)
        total = np.zeros((size, columns.shape[1]))
        if len(present):
            total[present] = np.add.reduceat(columns[order], first, axis=0)
    with np.errstate(invalid="ignore"):
        means = total / count[:, None]
    return means.reshape(*shape, *value_N.shape[1:])
