"""Which passages are read together, and which context they run once instead of each separately.

Responses to one prompt share its ids. A long prompt is run once and its keys and values are shared. The second run
costs more per token than a plain one (it attends through a mask, and a prompt's batch is smaller), so that sharing a
short prompt loses time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from enaction.framing import Framed

# Tokens in a batch: a larger one is slower on a CPU (0.9M parameters: 8 % at 2048, 50 % at 4096), because its
# activations leave the cache.
TOKEN_BUDGET = 1024
# Share of a group's tokens that has to be saved. Measured with 8 responses of 57 tokens and 0.9M parameters: sharing
# is 0.9 times as fast as not with prompts of 16 tokens (0.19 saved), 1.1 at 32 (0.31), 1.4 at 64 (0.46), 2.5 at 256
# (0.72).
LEAST_SAVED = 0.33
# What a batch costs in addition to its tokens, in tokens: a forward of 4 layers at 0.9M parameters takes 1.5 ms to
# start and 0.03 ms per token (one core of a Zen 4). Larger models need fewer, which changes little.
BATCH_COST = 48


class Pace(NamedTuple):
    """What suits a kind of device.

    Attributes:
        token_budget: tokens in a batch, padding included.
        batch_cost: what a batch costs in addition to its tokens, in tokens.
        least_saved: tokens that sharing a context has to save, beside the share `LEAST_SAVED`.
    """

    token_budget: int
    batch_cost: int
    least_saved: int


CPU = Pace(TOKEN_BUDGET, BATCH_COST, 0)
# On a GPU a forward takes as long as the host needs to start its kernels, about 1 ms a layer, until it has thousands of
# tokens: at 135M parameters a batch of 1,024 took 32 ms and one of 16,384 took 35 ms (H100, benchmarks/results). So
# padding is cheap, and a shared context, which is a forward of its own, has to save two of them. The budget was timed,
# the other two are reckoned from it.
GPU = Pace(16_384, 4096, 8192)


def pace_of(device_type: str) -> Pace:
    """What suits a device of a type that torch names so."""
    return GPU if device_type == "cuda" else CPU


def shared_contexts(
    framed: Sequence[Framed], measured: list[int], pace: Pace = CPU
) -> tuple[list[tuple[list[int], int]], list[int]]:
    """Groups of passages with the number of leading tokens they share, and the passages that share none.

    The last token of a context is not shared: it predicts the first measured token.
    """
    by_context: dict[tuple[int, ...], list[int]] = {}
    for i in measured:
        by_context.setdefault(framed[i].ids[: framed[i].start - 1], []).append(i)
    groups, alone = [], []
    for context, members in by_context.items():
        saved = (len(members) - 1) * len(context)
        total = sum(framed[i].stop - 1 for i in members)
        if saved > 0 and saved >= max(LEAST_SAVED * total, pace.least_saved):
            groups.append((members, len(context)))
        else:
            alone += members
    return groups, alone


def batches(
    framed: Sequence[Framed], members: list[int], token_budget: int, shared: int = 0, batch_cost: int = BATCH_COST
) -> Iterator[list[int]]:
    """Indices of passages that share a batch: longest first, so that memory peaks at the start, and least work in all.

    Of all ways to cut passages in order of length into batches within the budget, the one with the fewest tokens,
    padding and the cost of each batch included: a few passages of different length are not padded to the longest.

    Args:
        framed: all passages.
        members: those to be put into batches.
        token_budget: tokens in a batch, padding included and `shared` leading tokens left out; a longer passage has a
            batch of its own.
        shared: leading tokens that are run once in each batch.
        batch_cost: what a batch costs in addition to its tokens, in tokens.
    """
    order = sorted(members, key=lambda i: -framed[i].stop)
    # cost[k]: the least that the first k passages cost; begin[k]: where the last of their batches begins.
    cost, begin = np.full(len(order) + 1, np.inf), np.zeros(len(order) + 1, dtype=np.int64)
    cost[0] = 0
    for first, index in enumerate(order):
        width = framed[index].stop - shared
        rows = np.arange(1, 1 + min(len(order) - first, max(1, token_budget // width)))
        with_it = cost[first] + batch_cost + shared + width * rows
        cheaper = with_it < cost[first + rows]
        cost[(first + rows)[cheaper]], begin[(first + rows)[cheaper]] = with_it[cheaper], first
    cuts = [len(order)]
    while cuts[-1]:
        cuts.append(int(begin[cuts[-1]]))
    for first, stop in pairwise(reversed(cuts)):
        yield order[first:stop]
