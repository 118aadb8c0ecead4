"""Entropy, agreement and chance of labels against brute force, and clusters of planted groups."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from enaction.stats import labels


def test_counts_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    label, prompt = rng.integers(4, size=60), rng.integers(5, size=60)
    count = labels.label_counts(label, prompt, 4, 5)
    assert count.sum() == 60
    for p, of in itertools.product(range(5), range(4)):
        assert count[p, of] == sum((label == of) & (prompt == p))
    with pytest.raises(ValueError, match="label codes"):
        labels.label_counts([4], [0], 4, 5)


def test_entropy_of_few_samples_is_corrected_towards_the_truth():
    rng, truth = np.random.default_rng(1), np.log(12)
    count = rng.multinomial(50, np.full(12, 1 / 12), size=400)
    share = count / 50
    plug_in = -np.where(count > 0, share * np.log(np.where(count > 0, share, 1)), 0).sum(-1).mean()
    corrected = labels.label_entropy(count).mean()
    assert plug_in < truth - 0.08
    assert abs(corrected - truth) < 0.02
    assert np.isnan(labels.label_entropy([[0, 0], [3, 0]])[0])
    assert labels.label_entropy([[3, 0]])[0] == 0.0


def test_agreement_is_the_share_of_pairs():
    counts = [[3, 2, 0], [1, 0, 0], [0, 4, 0]]
    texts = [0, 0, 0, 1, 1]
    pairs = [a == b for a, b in itertools.combinations(texts, 2)]
    agree = labels.agreement(counts)
    assert agree[0] == pytest.approx(np.mean(pairs))
    assert np.isnan(agree[1])
    assert agree[2] == 1.0


def test_pooled_agreement_pairs_a_prompt_with_the_others_alone():
    counts = np.array([[3, 1, 0], [0, 2, 2], [0, 0, 0], [5, 0, 0]])
    share = [np.array(c) / sum(c) for c in counts if sum(c)]
    expected = [np.mean([share[i] @ share[j] for j in range(3) if j != i]) for i in range(3)]
    assert labels.pooled_agreement(counts)[[0, 1, 3]] == pytest.approx(expected)
    assert np.isnan(labels.pooled_agreement(counts)[2])
    assert np.isnan(labels.pooled_agreement([[2, 1]])[0])


def test_agreement_with_a_first_text_of_some_labels_is_that_of_a_loop():
    counts, may = np.array([[3, 2, 2], [0, 4, 1], [0, 0, 5]]), [True, True, False]
    texts = [np.repeat(range(3), of) for of in counts]
    agree, pooled = labels.agreement(counts, may), labels.pooled_agreement(counts, may)
    for p in (0, 1):
        first = [i for i, label in enumerate(texts[p]) if may[label]]
        pairs = [texts[p][i] == texts[p][j] for i in first for j in range(len(texts[p])) if i != j]
        assert agree[p] == pytest.approx(np.mean(pairs))
        others = [np.mean([texts[p][i] == label for i in first for label in texts[q]]) for q in range(3) if q != p]
        assert pooled[p] == pytest.approx(np.mean(others))
    assert np.isnan(agree[2])
    assert np.isnan(pooled[2])


def test_excess_is_0_at_chance_1_at_certainty_and_undefined_without_room():
    assert labels.excess([0.2, 1.0, 0.6], [0.2, 0.2, 0.2]) == pytest.approx([0.0, 1.0, 0.5])
    assert np.isnan(labels.excess(1.0, 1.0))


def test_shuffled_entropy_is_that_of_one_common_distribution():
    settled = np.eye(6) * 50
    assert labels.label_entropy(settled).mean() == 0.0
    shuffled = labels.shuffled_entropy(settled, np.random.default_rng(2), 20)
    assert shuffled.mean() == pytest.approx(np.log(6), abs=0.03)


def test_clusters_find_planted_groups_whatever_their_order():
    rng = np.random.default_rng(3)
    group = rng.integers(4, size=120)
    vector = 8 * rng.standard_normal((4, 10))[group] + rng.standard_normal((120, 10))
    code, centre = labels.clusters(vector, 4, rng)
    assert {len(set(code[group == g])) for g in range(4)} == {1}
    assert len(set(code)) == 4
    assert (labels.nearest(vector, centre) == code).all()
    with pytest.raises(ValueError, match="5 clusters of 3"):
        labels.clusters(vector[:3], 5, rng)


def test_clusters_of_equal_vectors_do_not_fail():
    code, _ = labels.clusters(np.ones((6, 3)), 2, np.random.default_rng(4))
    assert len(code) == 6
