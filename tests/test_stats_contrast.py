"""The double difference finds planted recognition through main effects; its p-value is uniform where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from enaction import stats


def _planted(recognition: float, n_readers: int = 3, n_prompts: int = 40, seed: int = 0) -> np.ndarray:
    """[R, 2, P] log entropy: sharper readers, easier own text, noise of prompts and texts that all readers share."""
    rng = np.random.default_rng(seed)
    log_R2P = rng.normal(0, 0.4, (n_readers, 1, 1)) + np.array([[-0.3], [0.2]]) + rng.normal(0, 0.2, (1, 2, n_prompts))
    log_R2P[0, 0] -= recognition
    return log_R2P


def test_double_difference_is_the_planted_recognition_whatever_reader_and_text_are_like() -> None:
    found = stats.double_difference(_planted(0.7).mean(axis=-1))
    assert found == pytest.approx(0.7, abs=1e-12)


def test_double_difference_equals_the_recognition_of_a_table_where_all_recognise_alike() -> None:
    rng = np.random.default_rng(1)
    table_RA = np.exp(rng.normal(0, 0.5, (3, 1)) + rng.normal(0, 0.5, (1, 3)) - 0.4 * np.eye(3))
    recognition = stats.log_ratio_split(table_RA).recognition
    for r in range(3):
        for a in {0, 1, 2} - {r}:
            (third,) = {0, 1, 2} - {r, a}
            log_R2 = np.log(table_RA[[[r], [third]], [r, a]])
            assert stats.double_difference(log_R2) == pytest.approx(recognition[r])


def test_swapping_texts_within_prompts_by_hand_gives_the_same_pvalue() -> None:
    entropies = [_planted(0.02, 3, 6, seed=3), _planted(0.05, 2, 6, seed=4)]
    entropies[0][1, 0, 2] = np.nan
    found = stats.swap_pvalue(entropies, np.random.default_rng(5), 300)
    swaps_KP = np.random.default_rng(5).random((300, 6)) < 0.5

    def mean_difference(swap_P: np.ndarray) -> float:
        values = []
        for e in entropies:
            there = ~np.isnan(e).any((0, 1))
            swapped = np.where(swap_P, e[:, ::-1], e)[..., there]
            values.append(stats.double_difference(swapped.mean(-1)))
        return float(np.sum(values))

    observed = mean_difference(np.zeros(6, bool))
    expected = (1 + sum(mean_difference(s) >= observed - 1e-12 for s in swaps_KP)) / 301
    assert found == expected


def test_swap_pvalue_is_small_with_recognition_and_not_without() -> None:
    assert stats.swap_pvalue([_planted(0.1)], np.random.default_rng(0), 1000) == 1 / 1001
    null = [stats.swap_pvalue([_with_noise(seed)], np.random.default_rng(seed), 200) for seed in range(200)]
    assert 0.01 < np.mean(np.array(null) <= 0.05) < 0.1


def _with_noise(seed: int) -> np.ndarray:
    """No recognition, equally easy texts, and each reader with an opinion of its own of each text."""
    return np.random.default_rng([seed, 7]).normal(0, 0.3, (3, 2, 40))


def test_what_is_no_comparison_is_refused() -> None:
    with pytest.raises(ValueError, match="two or more readers"):
        stats.double_difference(np.ones((1, 2)))
    with pytest.raises(ValueError, match="not finite"):
        stats.double_difference(np.log([[1.0, 2.0], [np.nan, 2.0]]))
    with pytest.raises(ValueError, match="at least 1"):
        stats.swap_pvalue([], np.random.default_rng(0))


def test_own_rank_is_the_place_of_the_diagonal_in_its_row() -> None:
    # PAPER.md E1 prints authors in rows: the diagonal is each reader's minimum, but not each text's.
    printed_AR = np.array([
        [.204, .334, .464, .605, .519], [.548, .247, .405, .538, .448], [.660, .357, .317, .746, .630],
        [.494, .334, .441, .494, .447], [.691, .319, .514, .661, .329],
    ])  # fmt: skip
    assert stats.own_rank(printed_AR.T).tolist() == [1] * 5
    assert stats.own_rank(printed_AR).tolist() == [1, 1, 1, 4, 2]
