"""Own against other text at equal input surprise: what recognition adds beyond the last token.

A reader meets fewer surprises in its own text, and entropy follows surprise; so part of the entropy gap needs no
knowledge of authorship. Here tokens are compared only with tokens that surprised the reader as much: s_t is what
the newest input x_t cost, and H_{t+1} is the first entropy that it can act on.

Axes: N pair of consecutive tokens, S surprise bin, P prompt, B resample.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from enaction.stats.pooling import checked_codes, ratio
from enaction.stats.resampling import Estimate, percentile_interval


class NoOverlapError(ValueError):
    """No bin holds both own and other items, so there is nothing to compare."""


@dataclass(frozen=True)
class NextTokenPairs:
    """Consecutive tokens of a passage: what each cost, and the entropy right after it.

    All are [N]. index: row of the token x_t in the table that was given (to look up its prompt, author ...).
    surprisal: s_t, nats. next_entropy: H_{t+1}, nats.
    """

    index: NDArray[np.int64]
    surprisal: NDArray[np.float64]
    next_entropy: NDArray[np.float64]


@dataclass(frozen=True)
class MatchedGap:
    """Own minus other mean H_{t+1}, nats; negative: less entropy on own text.

    gap: among tokens of equal input surprise. raw_gap: among all tokens. Both token-weighted, with interval.
    share: gap / raw_gap, what matching leaves of the difference, resampled together.
    edges: [S - 1] inner bin edges, nats of surprisal; the outer bins are open.
    own_mean, other_mean: [S] mean H_{t+1} in each bin, NaN where empty. own_count, other_count: [S] tokens.
    """

    gap: Estimate
    raw_gap: Estimate
    share: Estimate
    edges: NDArray[np.float64]
    own_mean: NDArray[np.float64]
    other_mean: NDArray[np.float64]
    own_count: NDArray[np.int64]
    other_count: NDArray[np.int64]


def next_token_pairs(
    passage_N: ArrayLike, position_N: ArrayLike, surprisal_N: ArrayLike, entropy_N: ArrayLike
) -> NextTokenPairs:
    """Pair each token's surprisal with the entropy of the next position, never across passages or over a gap.

    Args:
        passage_N: [N] passage codes; rows of a passage follow one another.
        position_N: [N] integer positions, rising within a passage.
        surprisal_N: [N] nats.
        entropy_N: [N] nats.

    A passage's last row begins no pair and its first row ends none. Leave `is_end` rows out beforehand if the entropy
    at the end-of-turn token is not to count.

    Raises:
        ValueError: shapes differ, or the rows are not sorted by passage and position.
    """
    passage_N, position_N = np.asarray(passage_N), np.asarray(position_N)
    surprisal_N, entropy_N = np.asarray(surprisal_N, dtype=np.float64), np.asarray(entropy_N, dtype=np.float64)
    if passage_N.ndim != 1 or not passage_N.shape == position_N.shape == surprisal_N.shape == entropy_N.shape:
        raise ValueError("passage, position, surprisal and entropy must be 1-d and of one length: a row a token")
    is_same_passage = passage_N[1:] == passage_N[:-1]
    n_runs = int((~is_same_passage).sum()) + 1 if passage_N.size else 0
    if n_runs != len(np.unique(passage_N)):
        raise ValueError("the rows of a passage do not follow one another; sort the tokens by passage and position")
    # Unsigned positions would wrap around in the difference.
    step = np.diff(position_N.astype(np.int64))
    if (step[is_same_passage] <= 0).any():
        raise ValueError("positions do not rise within a passage; sort the tokens by passage and position")
    index_N = np.flatnonzero(is_same_passage & (step == 1))
    return NextTokenPairs(index_N, surprisal_N[index_N], entropy_N[index_N + 1])


def matched_gap(
    surprisal_N: ArrayLike,
    next_entropy_N: ArrayLike,
    is_own_N: ArrayLike,
    prompt_N: ArrayLike,
    weight_BP: ArrayLike,
    *,
    n_bins: int = 50,
    level: float = 0.95,
) -> MatchedGap:
    """Difference of mean next entropy between own and other text among tokens of equal input surprise.

    Tokens of one reader are binned by quantiles of the pooled surprisal. The gap is the mean of the bins' differences
    weighted by own * other / (own + other) tokens (Mantel and Haenszel): the coefficient of `is_own` in a least-squares
    fit with one level per bin, with least variance if tokens were equally noisy, and continuous where a bin runs out
    of one side, so that no rule for dropping bins is needed. The top bin is wide, and with few bins or tokens some
    surprise stays unmatched within it. The bins are the same in all resamples.

    Args:
        surprisal_N: [N] s_t, nats, from `next_token_pairs`.
        next_entropy_N: [N] H_{t+1}, nats.
        is_own_N: [N] bool, written by the reader itself.
        prompt_N: [N] prompt codes, 0 to P - 1.
        weight_BP: [B, P] from `cluster_weights`.
        n_bins: number of quantile bins; fewer where surprisals are tied.
        level: coverage of the intervals.

    Raises:
        ValueError: shapes differ, a value is not finite, a code is out of range, fewer than 1 bin, or tokens of one
            side only.
        NoOverlapError: no bin with both.
    """
    weight_BP = np.asarray(weight_BP)
    if weight_BP.ndim != 2:
        raise ValueError(f"weights have shape {weight_BP.shape}; they must be [resample, prompt]")
    n_prompts = weight_BP.shape[1]
    surprisal_N = np.asarray(surprisal_N, dtype=np.float64)
    next_entropy_N = np.asarray(next_entropy_N, dtype=np.float64)
    is_own_N, code_N = np.asarray(is_own_N, dtype=bool), checked_codes(prompt_N, n_prompts, "prompt")
    if not surprisal_N.shape == next_entropy_N.shape == is_own_N.shape == code_N.shape:
        raise ValueError("surprisal, next entropy, is_own and prompt must be 1-d and of one length: a row a pair")
    if not (np.isfinite(surprisal_N).all() and np.isfinite(next_entropy_N).all()):
        raise ValueError("a surprisal or entropy is not finite; leave such tokens out")
    if n_bins < 1:
        raise ValueError(f"{n_bins} bins; there must be at least 1")
    if is_own_N.all() or not is_own_N.any():
        raise ValueError("tokens of one side only; a gap needs own and other text")

    edge_S = np.unique(np.quantile(surprisal_N, np.linspace(0, 1, n_bins + 1)[1:-1]))
    n_bins = len(edge_S) + 1
    shape = (n_prompts, n_bins, 2)
    cell_N = np.ravel_multi_index((code_N, np.searchsorted(edge_S, surprisal_N, side="right"), is_own_N), shape)
    size = int(np.prod(shape))
    count_PS2 = np.bincount(cell_N, minlength=size).reshape(shape)
    total_PS2 = np.bincount(cell_N, weights=next_entropy_N, minlength=size).reshape(shape)

    count_S2, total_S2 = count_PS2.sum(axis=0), total_PS2.sum(axis=0)
    if not count_S2.all(axis=1).any():
        raise NoOverlapError("no surprise bin holds both own and other tokens; use fewer bins or more text")
    weight_BP = weight_BP.astype(np.float64)
    count_BS2 = np.tensordot(weight_BP, count_PS2.astype(np.float64), axes=1)
    total_BS2 = np.tensordot(weight_BP, total_PS2, axes=1)
    gap, raw_gap, share = (
        Estimate(np.asarray(value), *percentile_interval(sample_B, level))
        for value, sample_B in zip(_differences(count_S2, total_S2), _differences(count_BS2, total_BS2), strict=True)
    )
    mean_S2 = ratio(total_S2, count_S2)
    return MatchedGap(gap, raw_gap, share, edge_S, mean_S2[:, 1], mean_S2[:, 0], count_S2[:, 1], count_S2[:, 0])


def _stratified_difference(count_S2: NDArray, total_S2: NDArray) -> NDArray[np.float64]:
    """Mantel-Haenszel mean over bins of own minus other, [...]; NaN where no bin holds both."""
    mean_S2 = ratio(total_S2, count_S2)
    weight_S = ratio(count_S2.prod(axis=-1), count_S2.sum(axis=-1))
    is_shared_S = count_S2.all(axis=-1)
    weight_S = np.where(is_shared_S, weight_S, 0.0)
    difference_S = np.where(is_shared_S, mean_S2[..., 1] - mean_S2[..., 0], 0.0)
    return ratio((weight_S * difference_S).sum(axis=-1), weight_S.sum(axis=-1))


def _plain_difference(count_S2: NDArray, total_S2: NDArray) -> NDArray[np.float64]:
    mean_2 = ratio(total_S2.sum(axis=-2), count_S2.sum(axis=-2))
    return mean_2[..., 1] - mean_2[..., 0]


def _differences(count_S2: NDArray, total_S2: NDArray) -> tuple[NDArray[np.float64], ...]:
    """Matched difference, plain difference and the share of the plain one that the matched one keeps, each [...]."""
    matched, plain = _stratified_difference(count_S2, total_S2), _plain_difference(count_S2, total_S2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return matched, plain, np.where(plain != 0, matched / plain, np.nan)
