"""The probe of a prompt's distribution: a planted code is read, and states without it say nothing."""

from __future__ import annotations

import numpy as np
import pytest

from enaction.stats.foretelling import foretold, shuffled_gains


def planted(noise: float, seed: int, n: int = 24, n_labels: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """States that hold the label in 6 directions of 60, and the distributions of the prompts."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % n_labels
    share = 0.9 * np.eye(n_labels)[label] + 0.1 / n_labels
    return rng.standard_normal((n_labels, 60))[label] + noise * rng.standard_normal((n, 60)), share


def test_a_planted_code_is_read_on_prompts_that_were_left_out():
    found = foretold(*planted(0.5, 0))
    assert found.hit.mean() == 1.0
    assert 0.7 * found.room.mean() < found.gain.mean() <= found.room.mean() + 1e-9


def test_states_without_the_code_say_nothing_and_cost_little():
    rng, (_, share) = np.random.default_rng(1), planted(0.5, 1)
    gains = [foretold(rng.standard_normal((24, 60)), share).gain.mean() for _ in range(20)]
    assert -0.15 < np.mean(gains) < 0.05


def test_the_null_is_that_of_labels_dealt_at_random():
    rng, (state, share) = np.random.default_rng(2), planted(0.5, 2)
    order = np.array([rng.permutation(24) for _ in range(30)])
    null = shuffled_gains(state, share, order)
    # Dealing out distributions one set at a time is what the batch does.
    assert null[:3] == pytest.approx([foretold(state, share[o]).gain.mean() for o in order[:3]])
    assert foretold(state, share).gain.mean() > null.max() + 0.5


def test_a_group_is_left_out_as_a_whole():
    rng = np.random.default_rng(3)
    share = np.eye(4)[np.arange(12) // 3]
    # Three wordings of each of four requests; only the request tells the label, so that no other request does.
    state = np.repeat(rng.standard_normal((4, 30)), 3, axis=0) + 0.01 * rng.standard_normal((12, 30))
    alone = foretold(state, share)
    together = foretold(state, share, [i // 3 for i in range(12)])
    assert alone.gain.mean() > 1.0
    assert together.gain.mean() < 0.1


def test_two_groups_are_refused():
    state, share = planted(0.5, 4)
    with pytest.raises(ValueError, match="at least 3"):
        foretold(state[:2], share[:2])
    with pytest.raises(ValueError, match="do not fit"):
        foretold(state[:5], share[:6])
