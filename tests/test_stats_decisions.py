"""Reports on own and foreign text: ranks, decisions, gaps; and what a share of a patch is worth."""

from __future__ import annotations

import numpy as np
import pytest

from enaction import stats
from enaction.stats.decisions import auroc, auroc_difference, decisions, shuffled_gaps


def _reports(seed: int, n_prompts: int = 40, gap: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    prompt = np.repeat(np.arange(n_prompts), 2)
    of_prompt = rng.normal(0, 0.5, n_prompts)[prompt]
    return of_prompt + rng.normal(gap, 1, len(prompt)), prompt, of_prompt + rng.normal(0, 1, len(prompt)), prompt


def test_decisions_agree_with_a_count_of_pairs_and_of_texts() -> None:
    own, own_prompt, other, other_prompt = _reports(0)
    other[:3] = own[:3]  # ties
    weights = stats.cluster_weights(40, 50, np.random.default_rng(0))
    got = decisions(own, own_prompt, other, other_prompt, weights)
    pairs = [(a > b) + (a == b) / 2 for a in own for b in other]
    assert got.auroc.value == pytest.approx(np.mean(pairs))
    assert got.auroc.value == pytest.approx(auroc(own, other))
    assert got.balanced.value == pytest.approx(((own > 0).mean() + (other <= 0).mean()) / 2)
    limit = np.sort(own)[int(0.05 * len(own))]
    assert (own < limit).mean() <= 0.05
    assert got.balanced_at_limit.value == pytest.approx(((own >= limit).mean() + (other < limit).mean()) / 2)
    assert got.gap.value == pytest.approx(own.mean() - other.mean())
    assert got.claims.value == pytest.approx((other > 0).mean())


def test_a_resample_is_the_sample_with_whole_prompts_repeated() -> None:
    own, own_prompt, other, other_prompt = _reports(1, n_prompts=6)
    weight = np.array([[2, 0, 1, 3, 0, 0]])
    repeated = [
        np.concatenate([value[prompt == p] for p, times in enumerate(weight[0]) for _ in range(times)])
        for value, prompt in ((own, own_prompt), (other, other_prompt))
    ]
    got = decisions(own, own_prompt, other, other_prompt, weight)
    whole = decisions(repeated[0], np.zeros(12, int), repeated[1], np.zeros(12, int), np.ones((1, 1)))
    for name in ("auroc", "balanced", "balanced_at_limit", "own_claims", "claims", "gap"):
        assert getattr(got, name).low == pytest.approx(getattr(whole, name).value), name


def test_near_kin_come_apart_in_rank_and_in_decision() -> None:
    """The pilot's near-clone: well ranked, and called own at threshold 0."""
    own, prompt = np.full(40, 6.0) + np.linspace(0, 1, 40), np.arange(40)
    got = decisions(own, prompt, own - 3, prompt, stats.cluster_weights(40, 50, np.random.default_rng(0)))
    assert [got.auroc.value, got.balanced.value, got.balanced_at_limit.value] == pytest.approx([1, 0.5, 0.975])


def test_privileged_access_is_zero_where_the_outsider_says_the_same() -> None:
    own, own_prompt, other, other_prompt = _reports(2)
    weights = stats.cluster_weights(40, 400, np.random.default_rng(0))
    same = auroc_difference([own, own], own_prompt, [other, other], other_prompt, weights)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    blind = np.random.default_rng(3).normal(size=(2, 80))
    more = auroc_difference([own, blind[0]], own_prompt, [other, blind[1]], other_prompt, weights)
    assert more.value == pytest.approx(auroc(own, other) - auroc(*blind))
    assert more.low > 0.2


def test_shuffled_labels_have_a_gap_around_zero_and_stay_within_their_prompt() -> None:
    own, own_prompt, other, other_prompt = _reports(4)
    gaps = shuffled_gaps(own, own_prompt, other, other_prompt, np.random.default_rng(0), 300)
    assert abs(gaps.mean()) < 0.1
    assert np.abs(gaps).max() < own.mean() - other.mean()
    # Prompts that differ by any amount add nothing to the null: labels change places within a prompt.
    shift = 1000.0 * own_prompt
    far = shuffled_gaps(own + shift, own_prompt, other + shift, other_prompt, np.random.default_rng(0), 300)
    np.testing.assert_allclose(far, gaps, atol=1e-6)


def test_both_kinds_of_text_are_needed() -> None:
    with pytest.raises(ValueError, match="both are needed"):
        decisions([1.0], [0], [], [], np.ones((1, 1)))
