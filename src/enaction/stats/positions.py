"""What a quantity does along a response: means over spans of positions, passage by passage, pooled to prompts.

Entropy falls and rises along a response for every author, and long responses weigh their late tokens more; so texts of
unlike length are compared over the same positions. Nested spans (0, 1), (0, 2), (0, 4) ... give "the first k tokens",
disjoint ones a curve along the response. A passage that does not reach the end of a span has no value there: all that
enter a mean have all of its positions.

Axes: N token, M passage, K span, P prompt.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from enaction.stats.pooling import checked_codes, prompt_means, ratio


def span_means(
    passage_N: ArrayLike,
    position_N: ArrayLike,
    value_N: ArrayLike,
    prompt_M: ArrayLike,
    n_prompts: int,
    spans: Sequence[tuple[int, int]],
    mask_N: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Mean over a prompt's passages of the mean over each span of positions, [K, P]; NaN where none reaches its end.

    Args:
        passage_N: [N] passage codes, 0 to M - 1.
        position_N: [N] positions from 0, each at most once in a passage.
        value_N: [N] the quantity, for example entropy in nats.
        prompt_M: [M] prompt code of each passage, 0 to n_prompts - 1.
        n_prompts: number of prompts, the same for all cells that are to be paired.
        spans: [K] (start, stop): positions start, start + 1, ..., stop - 1. Where nothing predicted the first token of
            a response and its row is missing, spans from 0 go without it.
        mask_N: [N] bool, the tokens that count (`~is_end` for entropy); all by default.

    Raises:
        ValueError: shapes differ, a code is out of range, a position occurs twice or is negative, a counted value is
            not finite, or a span is empty or begins below 0.
    """
    prompt_M = np.asarray(prompt_M)
    code_N = checked_codes(passage_N, len(prompt_M), "passage")
    position_N, value_N = np.asarray(position_N), np.asarray(value_N, dtype=np.float64)
    mask_N = np.ones(code_N.shape, bool) if mask_N is None else np.asarray(mask_N, dtype=bool)
    if not code_N.shape == position_N.shape == value_N.shape == mask_N.shape:
        raise ValueError("passage, position, value and mask must be 1-d and of one length: a row a token")
    if any(not 0 <= start < stop for start, stop in spans):
        raise ValueError(f"spans are (start, stop) with 0 <= start < stop, not {list(spans)}")
    if not np.isfinite(value_N[mask_N]).all():
        raise ValueError("a counted value is not finite; mask it or correct the scoring")
    if (position_N < 0).any():
        raise ValueError("a position is negative; positions count a response's tokens from 0")
    reach = max((stop for _, stop in spans), default=0)
    counted_N = mask_N & (position_N < reach)
    cell_N = code_N[counted_N] * reach + position_N[counted_N]
    shape = len(prompt_M), reach
    count_MT = np.bincount(cell_N, minlength=len(prompt_M) * reach).reshape(shape)
    if (count_MT > 1).any():
        raise ValueError("a position occurs twice in a passage; give each passage a code of its own")
    total_MT = np.bincount(cell_N, weights=value_N[counted_N], minlength=len(prompt_M) * reach).reshape(shape)
    # Column t: sum and number over positions below t.
    before_MT, size_MT = (np.pad(a.cumsum(axis=1), ((0, 0), (1, 0))) for a in (total_MT, count_MT))
    mean_KP = np.full((len(spans), n_prompts), np.nan)
    for k, (start, stop) in enumerate(spans):
        mean_M = ratio(before_MT[:, stop] - before_MT[:, start], size_MT[:, stop] - size_MT[:, start])
        mean_KP[k] = prompt_means(np.where(count_MT[:, stop - 1] > 0, mean_M, np.nan), prompt_M, n_prompts)
    return mean_KP
