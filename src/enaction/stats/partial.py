"""Partial regression over prompts: slopes, and what of a gap between groups each block of variables takes.

A regression is kept as the sums X'X and X'y of each prompt, so that resampling prompts costs a weighted sum and
a small solve. A block is a set of columns: one variable as a piecewise linear function (`bent`), say.

Axes: N row (a token), K column, P prompt, W weighting (a row of `cluster_weights`, or ones), G group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from enaction.stats.pooling import ratio

# Relative to the mean of the diagonal: columns that a resample leaves empty or equal get a coefficient all the same.
_RIDGE = 1e-9
# Means of levels below this count as taken out; two kinds of levels that cross need few turns.
_NO_MEAN, _MOST_TURNS = 1e-9, 200


def bent(value_N: ArrayLike, knots: Sequence[float]) -> NDArray[np.float64]:
    """[N, 1 + knots] columns of a piecewise linear function: the value, and what it exceeds each knot by."""
    value_N = np.asarray(value_N, dtype=np.float64)
    return np.stack([value_N, *(np.maximum(value_N - knot, 0.0) for knot in knots)], axis=1)


def knots_of(value_N: ArrayLike, n: int) -> list[float]:
    """At most n knots at quantiles of the values, equally many between two; of many equal values one remains.

    Values within 1 % of the range of the smallest are left out, so that a variable that is nearly always 0 has knots
    where it is not.
    """
    value_N = np.asarray(value_N, dtype=np.float64)
    low, high = value_N.min(initial=np.inf), value_N.max(initial=-np.inf)
    if not high > low:
        return []
    least = 0.01 * (high - low)
    quantiles = np.quantile(value_N[value_N > low + least], np.linspace(0, 1, n + 2)[1:-1])
    knots: list[float] = []
    for knot in quantiles:
        if knot - (knots[-1] if knots else low) >= least and high - knot >= least:
            knots.append(float(knot))
    return knots


def without_levels(column_NK: NDArray[np.float64], *levels: NDArray[np.integer]) -> NDArray[np.float64]:
    """[N, K] columns without what levels account for: as if each level had a column of its own in the regression.

    Args:
        column_NK: [N, K].
        levels: [N] codes of a level each (which token, which prompt); means are taken out in turn until none is left.
    """
    known = []
    for level_N in levels:
        code_N = np.unique(level_N, return_inverse=True)[1]
        order_N = np.argsort(code_N, kind="stable")
        start_L = np.flatnonzero(np.r_[True, np.diff(code_N[order_N]) > 0])
        known.append((code_N, order_N, start_L, np.diff(np.r_[start_L, len(code_N)])[:, None]))
    for _ in range(_MOST_TURNS if len(levels) > 1 else 1):
        largest = 0.0
        for code_N, order_N, start_L, count_L1 in known:
            mean_LK = np.add.reduceat(column_NK[order_N], start_L, axis=0) / count_L1
            column_NK = column_NK - mean_LK[code_N]
            largest = np.abs(mean_LK).max(initial=0.0)
        if largest < _NO_MEAN:
            break
    return column_NK


@dataclass(frozen=True)
class Explained:
    """A gap between groups and what takes it (Gelbach 2016): gap = sum of the parts + levels + left; each [W].

    gap: mean of the outcome in the groups minus that in the reference group, mean over the groups. parts: by block, the
    difference of the block's columns times their coefficients in the full regression. left: the groups' own
    coefficients there. levels: what is due to the levels that the rows have; 0 without levels.
    """

    gap: NDArray[np.float64]
    parts: dict[str, NDArray[np.float64]]
    levels: NDArray[np.float64]
    left: NDArray[np.float64]


@dataclass(frozen=True)
class Regression:
    """The sums of a regression, by prompt.

    Attributes:
        xx: [P, K, K]; the first column is the constant.
        xy: [P, K]. Both are of columns and outcomes without their levels.
        sums: [P, G, K + 1] of the columns as they are, and of the outcome, in each group; the first is the reference.
        blocks: name -> its columns, of the columns after the constant and those of groups.
        groups: columns that are 1 for the rows of a group and else 0; the reference group has none.
    """

    xx: NDArray[np.float64]
    xy: NDArray[np.float64]
    sums: NDArray[np.float64]
    blocks: Mapping[str, Sequence[int]]
    groups: Sequence[int]

    @classmethod
    def of(
        cls,
        outcome_N: ArrayLike,
        blocks: Mapping[str, ArrayLike],
        group_N: ArrayLike,
        prompt_N: ArrayLike,
        n_prompts: int,
        levels: Sequence[NDArray[np.integer]] = (),
    ) -> Regression:
        """The sums.

        Args:
            outcome_N: [N].
            blocks: name -> [N, columns].
            group_N: [N] codes from 0, the reference group.
            prompt_N: [N] codes of prompts.
            n_prompts: P.
            levels: [N] codes each, of what a row is where that is one of many (which token); each has a level of its
                own, the same in all resamples.

        Raises:
            ValueError: no rows, rows of different numbers, or a value that is not finite.
        """
        y_N, group_N = np.asarray(outcome_N, dtype=np.float64), np.asarray(group_N)
        n_groups = int(group_N.max(initial=0)) + 1
        columns = [np.ones((len(y_N), 1)), *((group_N == g)[:, None].astype(float) for g in range(1, n_groups))]
        at, start = {}, len(columns)
        for name, block in blocks.items():
            columns.append(np.asarray(block, dtype=np.float64))
            at[name] = range(start, start + columns[-1].shape[1])
            start += columns[-1].shape[1]
        if not len(y_N) or any(len(column) != len(y_N) for column in columns):
            raise ValueError(f"{len(y_N)} outcomes for columns of {[len(column) for column in columns]} rows")
        xy_NK = np.concatenate([*columns, y_N[:, None]], axis=1)
        if not np.isfinite(xy_NK).all():
            raise ValueError("an outcome or a column is not finite; leave such rows out")
        within_NK = without_levels(xy_NK, *levels)
        order_N = np.argsort(prompt_N, kind="stable")
        bounds = np.searchsorted(np.asarray(prompt_N)[order_N], np.arange(n_prompts + 1))
        moments_PKK = np.array([within_NK[r].T @ within_NK[r] for r in np.split(order_N, bounds[1:-1])])
        sums_PGK = np.zeros((n_prompts, n_groups, xy_NK.shape[1]))
        np.add.at(sums_PGK, (np.asarray(prompt_N), group_N), xy_NK)
        return cls(moments_PKK[:, :-1, :-1], moments_PKK[:, :-1, -1], sums_PGK, at, range(1, n_groups))

    def columns(self, *without: str, straight: str = "") -> list[int]:
        """Constant, groups and blocks.

        Args:
            without: these blocks are left out.
            straight: of this block the first column alone, which is the variable itself.
        """
        chosen = [0, *self.groups]
        for name, block in self.blocks.items():
            chosen += [] if name in without else block[:1] if name == straight else block
        return chosen

    def coefficients(self, weight_WP: ArrayLike, columns: Sequence[int]) -> NDArray[np.float64]:
        """[W, columns] of the least squares fit on these columns."""
        xx_WKK, xy_WK = self._weighted(np.asarray(weight_WP, dtype=np.float64), columns)
        return np.asarray(np.linalg.solve(xx_WKK, xy_WK[..., None])[..., 0], dtype=np.float64)

    def slope(self, weight_WP: ArrayLike, block: str, *without: str) -> NDArray[np.float64]:
        """[W] coefficient of a block's variable itself, all other blocks but those left out and the groups in full."""
        columns = self.columns(*without, straight=block)
        return self.coefficients(weight_WP, columns)[:, columns.index(self.blocks[block][0])]

    def explained(self, weight_WP: ArrayLike, *without: str) -> Explained:
        """The gap between the groups and the reference, by block, of those that are not left out.

        Raises:
            ValueError: there is one group only.
        """
        if not len(self.groups):
            raise ValueError("a gap needs rows of at least two groups")
        weight_WP, columns = np.asarray(weight_WP, dtype=np.float64), self.columns(*without)
        of_WK = np.zeros((len(weight_WP), self.xx.shape[1]))
        of_WK[:, columns] = self.coefficients(weight_WP, columns)
        sums_WGK = np.tensordot(weight_WP, self.sums, axes=1)
        # A resample without a group is left out, as NaN.
        mean_WGK = ratio(sums_WGK, sums_WGK[..., :1])
        further_WK = mean_WGK[:, 1:].mean(axis=1) - mean_WGK[:, 0]
        parts = {
            name: (further_WK[:, list(block)] * of_WK[:, list(block)]).sum(axis=1)
            for name, block in self.blocks.items()
        }
        left_W, gap_W = of_WK[:, list(self.groups)].mean(axis=1), further_WK[:, -1]
        # The full fit has no residual on average in any group.
        return Explained(gap_W, parts, gap_W - left_W - sum(parts.values()), left_W)

    def _weighted(
        self, weight_WP: NDArray[np.float64], columns: Sequence[int]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        xx_PKK = self.xx[:, columns][:, :, columns]
        n = len(columns)
        xx_WKK = (weight_WP @ xx_PKK.reshape(len(xx_PKK), -1)).reshape(-1, n, n)
        scale_W = np.trace(xx_WKK, axis1=1, axis2=2) / n
        xx_WKK[:, range(n), range(n)] += _RIDGE * scale_W[:, None]
        return xx_WKK, weight_WP @ self.xy[:, columns]
