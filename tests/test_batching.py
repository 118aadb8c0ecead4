"""Passages are cut into batches at the least cost, by brute force over all cuts."""

from __future__ import annotations

from itertools import chain, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enaction.framing import Framed
from enaction.reader.batching import BATCH_COST, CPU, GPU, batches, pace_of, shared_contexts


def passages(lengths: list[int]) -> list[Framed]:
    return [Framed(tuple(range(n)), 1, n, has_end=False) for n in lengths]


def cost(rows: list[int], shared: int) -> int:
    """Of one batch of passages of these lengths, in tokens."""
    return BATCH_COST + shared + len(rows) * (max(rows) - shared)


def least_cost(lengths: list[int], budget: int, shared: int) -> int:
    """Over all ways to cut the passages, in order of length, into batches within the budget."""
    ordered, costs = sorted(lengths, reverse=True), []
    for cuts in product([False, True], repeat=len(lengths) - 1):
        parts = [[ordered[0]]]
        for is_cut, length in zip(cuts, ordered[1:], strict=True):
            if is_cut:
                parts.append([])
            parts[-1].append(length)
        if all(len(rows) == 1 or len(rows) * (rows[0] - shared) <= budget for rows in parts):
            costs.append(sum(cost(rows, shared) for rows in parts))
    return min(costs)


@given(st.lists(st.integers(8, 200), min_size=1, max_size=8), st.integers(1, 600), st.integers(0, 7))
def test_batches_cost_least_of_all_within_the_budget(lengths: list[int], budget: int, shared: int) -> None:
    framed = passages(lengths)
    found = [[lengths[i] for i in batch] for batch in batches(framed, list(range(len(lengths))), budget, shared)]
    assert list(chain(*found)) == sorted(lengths, reverse=True)
    assert all(len(rows) == 1 or len(rows) * (rows[0] - shared) <= budget for rows in found)
    assert sum(cost(rows, shared) for rows in found) == least_cost(lengths, budget, shared)


@pytest.mark.parametrize("lengths", [[100, 20, 20, 20, 20, 20], [20, 100, 20, 20, 100]])
def test_short_passages_are_not_padded_to_a_long_one(lengths: list[int]) -> None:
    found = list(batches(passages(lengths), list(range(len(lengths))), 1024))
    assert [{lengths[i] for i in batch} for batch in found] == [{100}, {20}]


def test_passages_that_are_not_members_are_left_out() -> None:
    assert sorted(chain(*batches(passages([30, 31, 32, 33]), [0, 2], 1024))) == [0, 2]
    assert list(batches(passages([30]), [], 1024)) == []


def test_a_gpu_reads_in_few_large_batches_and_shares_what_saves_a_forward() -> None:
    assert pace_of("cuda") == GPU
    assert pace_of("cpu") == CPU
    framed = passages([20, 500, 120, 40, 90] * 8)
    found = list(batches(framed, list(range(40)), GPU.token_budget, batch_cost=GPU.batch_cost))
    assert len(found) < 4 < len(list(batches(framed, list(range(40)), GPU.token_budget)))
    context = tuple(range(400))
    several = [Framed((*context, i, 1, 2), 400, 403, has_end=False) for i in range(40)]
    few, many = list(range(5)), list(range(40))
    assert shared_contexts(several, few) == ([(few, 399)], [])
    assert shared_contexts(several, few, GPU) == ([], few)
    assert shared_contexts(several, many, GPU) == ([(many, 399)], [])
