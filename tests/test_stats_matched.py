"""Matched gap: zero where entropy only follows surprise, the planted value where it does not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enaction.stats import cluster_weights, matched_gap, next_token_pairs


def simulated_pairs(rng, n_tokens=40_000, n_prompts=60, planted=0.0):
    """Own text has lower surprisal; next entropy follows surprisal and the prompt, plus `planted` on own text."""
    is_own = rng.random(n_tokens) < 0.25
    prompt = rng.integers(0, n_prompts, n_tokens)
    surprisal = rng.exponential(np.where(is_own, 0.5, 1.5))
    entropy = 0.4 + 0.5 * np.sqrt(surprisal) + 0.2 * rng.normal(size=n_prompts)[prompt] + planted * is_own
    return surprisal, entropy + 0.3 * rng.normal(size=n_tokens), is_own, prompt


def test_gap_that_surprise_explains_vanishes_when_matched():
    rng = np.random.default_rng(0)
    result = matched_gap(*simulated_pairs(rng), cluster_weights(60, 500, rng))
    assert result.raw_gap.high < -0.2
    assert abs(result.gap.value) < 0.01
    assert result.gap.low < 0 < result.gap.high


def test_planted_gap_is_recovered():
    rng = np.random.default_rng(1)
    result = matched_gap(*simulated_pairs(rng, planted=-0.3), cluster_weights(60, 500, rng))
    assert float(result.gap.value) == pytest.approx(-0.3, abs=0.015)  # 3 standard errors
    assert result.gap.high < -0.25


def test_interval_covers_under_clustering():
    """Own text of some prompts is easier by chance: only whole prompts give honest intervals."""
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(200):
        prompt = np.repeat(np.arange(40), 30)
        is_own = np.tile(np.arange(30) < 10, 40)
        surprisal = rng.exponential(np.where(is_own, 0.5, 1.0))
        entropy = 0.3 * surprisal + is_own * (-0.2 + 0.3 * rng.normal(size=40)[prompt]) + 0.1 * rng.normal(size=1200)
        gap = matched_gap(surprisal, entropy, is_own, prompt, cluster_weights(40, 300, rng), n_bins=20).gap
        covered.append(gap.low <= -0.2 <= gap.high)
    assert 0.88 <= np.mean(covered) <= 0.995


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_matched_gap_equals_a_loop_over_drawn_tokens(seed, n_bins):
    rng = np.random.default_rng(seed)
    n = 60
    surprisal = rng.integers(0, 6, n) / 2  # with ties
    entropy, is_own, prompt = rng.random(n), rng.random(n) < 0.4, rng.integers(0, 4, n)
    is_own[0], is_own[1] = True, False
    surprisal[0] = surprisal[1]
    weight_BP = cluster_weights(4, 7, rng)
    result = matched_gap(
        surprisal, entropy, is_own, prompt, np.concatenate([np.ones((1, 4), int), weight_BP]), n_bins=n_bins
    )

    def by_loop(weights):
        rows = np.repeat(np.arange(n), weights[prompt])
        bins = np.digitize(surprisal[rows], result.edges)
        top = bottom = 0.0
        for b in range(len(result.edges) + 1):
            own, other = (entropy[rows[(bins == b) & (is_own[rows] == side)]] for side in (True, False))
            if len(own) and len(other):
                weight = len(own) * len(other) / (len(own) + len(other))
                top, bottom = top + weight * (own.mean() - other.mean()), bottom + weight
        return top / bottom if bottom else np.nan

    assert float(result.gap.value) == pytest.approx(by_loop(np.ones(4, int)), abs=1e-12)
    samples = np.array([by_loop(w) for w in (np.ones(4, int), *weight_BP)])
    if not np.isnan(samples).any():
        np.testing.assert_allclose([result.gap.low, result.gap.high], np.quantile(samples, [0.025, 0.975]), atol=1e-12)
    assert result.own_count.sum() + result.other_count.sum() == n
    assert float(result.raw_gap.value) == pytest.approx(entropy[is_own].mean() - entropy[~is_own].mean())
    raw = [
        e[o].mean() - e[~o].mean() if o.any() and not o.all() else np.nan
        for rows in (np.repeat(np.arange(n), w[prompt]) for w in (np.ones(4, int), *weight_BP))
        for e, o in [(entropy[rows], is_own[rows])]
    ]
    shares = samples / np.array(raw)
    if np.isfinite(shares).all():
        found = [result.share.low, result.share.high]
        np.testing.assert_allclose(found, np.quantile(shares, [0.025, 0.975]), rtol=1e-6, atol=1e-9)


def test_matched_gap_is_the_least_squares_coefficient_with_a_level_per_bin():
    rng = np.random.default_rng(3)
    surprisal, entropy, is_own, prompt = simulated_pairs(rng, n_tokens=2000)
    result = matched_gap(surprisal, entropy, is_own, prompt, cluster_weights(60, 10, rng), n_bins=10)
    design = np.column_stack([is_own, np.eye(10)[np.digitize(surprisal, result.edges)]])
    assert float(result.gap.value) == pytest.approx(np.linalg.lstsq(design, entropy, rcond=None)[0][0])


def test_pairs_join_a_tokens_surprisal_with_the_next_entropy_inside_a_passage():
    passage = [5, 5, 5, 2, 2, 9, 7, 7]
    position = [0, 1, 2, 0, 1, 0, 3, 5]  # passage 7 lacks position 4
    surprisal = np.arange(8) / 10
    entropy = np.arange(8) + 100.0
    pairs = next_token_pairs(passage, position, surprisal, entropy)
    assert pairs.index.tolist() == [0, 1, 3]
    assert pairs.surprisal.tolist() == [0.0, 0.1, 0.3]
    assert pairs.next_entropy.tolist() == [101, 102, 104]


@given(st.lists(st.integers(1, 5), max_size=6))
def test_pairs_equal_a_loop(lengths):
    passage = np.repeat(np.arange(len(lengths)), lengths).astype(np.int64)
    position = np.concatenate([np.arange(n) for n in lengths]) if lengths else np.zeros(0, np.int32)
    value = np.arange(len(passage), dtype=float)
    pairs = next_token_pairs(passage, position.astype(np.uint32), value, value)
    expected = [(i, i + 1) for i in range(len(passage) - 1) if passage[i] == passage[i + 1]]
    assert list(zip(pairs.surprisal, pairs.next_entropy, strict=True)) == expected


@pytest.mark.parametrize(
    ("passage", "position", "message"),
    [
        ([1, 2, 1], [0, 0, 1], "do not follow one another"),
        ([1, 1], [1, 0], "do not rise"),
        ([1, 1], [0, 0], "do not rise"),
        ([1, 1, 1], [0, 1], "one length"),
    ],
)
def test_unsorted_tokens_are_refused(passage, position, message):
    with pytest.raises(ValueError, match=message):
        next_token_pairs(passage, position, np.zeros(len(passage)), np.zeros(len(passage)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is_own_N": [True] * 4}, "one side only"),
        ({"surprisal_N": [0.0, 1.0, np.nan, 0.0]}, "not finite"),
        ({"prompt_N": [0, 1, 2, 0]}, "0..1"),
        ({"prompt_N": [0.0, 1.0, 1.0, 0.0]}, "integers"),
        ({"surprisal_N": [0.0, 0.0]}, "one length"),
        ({"weight_BP": np.ones(2)}, r"\[resample, prompt\]"),
        ({"n_bins": 0}, "at least 1"),
        ({"surprisal_N": [0.0, 0.0, 9.0, 9.0], "n_bins": 2}, "no surprise bin"),
    ],
)
def test_unusable_input_is_refused(change, message):
    good = {
        "surprisal_N": [0.0, 1.0, 0.0, 1.0],
        "next_entropy_N": [1.0, 1.0, 1.0, 1.0],
        "is_own_N": [True, True, False, False],
        "prompt_N": [0, 1, 0, 1],
        "weight_BP": np.ones((3, 2)),
    }
    matched_gap(**good)
    with pytest.raises(ValueError, match=message):
        matched_gap(**(good | change))
