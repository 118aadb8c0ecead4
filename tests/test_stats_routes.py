"""Subspaces of a patch: encoding directions, their energy, and controls that hold as much of it."""

from __future__ import annotations

import numpy as np
import pytest

from enaction.stats.routes import (
    centroid_basis,
    energy_share,
    equivalent_dose,
    random_basis_in_complement,
    surprise_bins,
)


def _traced(seed: int = 0, n: int = 3000, channels: int = 24) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States that hold a trace along one direction, within noise that is strong in a few others."""
    rng = np.random.default_rng(seed)
    trace = rng.exponential(size=n)
    direction = np.linalg.qr(rng.normal(size=(channels, 1)))[0]
    noise = rng.normal(size=(n, channels)) * np.linspace(2.0, 0.1, channels)
    return (
        noise @ np.linalg.qr(rng.normal(size=(channels, channels)))[0] + trace[:, None] * direction.T,
        trace,
        direction,
    )


def test_centroids_find_the_direction_in_which_a_trace_is_written() -> None:
    states, trace, direction = _traced()
    found = centroid_basis(states, surprise_bins(trace, 20), 1)
    assert abs((found.T @ direction).item()) > 0.97
    two = centroid_basis(states, surprise_bins(trace, 20), 2)
    np.testing.assert_allclose(two.T @ two, np.eye(2), atol=1e-12)


def test_too_few_bins_for_a_rank_are_refused() -> None:
    with pytest.raises(ValueError, match="use more texts"):
        centroid_basis(np.zeros((6, 4)), [0, 0, 0, 1, 1, 1], 2)


def test_what_is_not_surprising_is_one_bin_and_the_rest_has_equal_counts() -> None:
    surprisal = np.concatenate([np.zeros(60), np.linspace(0.5, 9, 40)])
    bins = surprise_bins(surprisal, 5)
    assert np.bincount(bins).tolist() == [60, 10, 10, 10, 10]
    assert (np.diff(bins) >= 0).all()
    assert np.bincount(surprise_bins(np.linspace(0.1, 9, 40), 4)).tolist() == [10, 10, 10, 10]
    assert surprise_bins(np.linspace(0.1, 9, 12), 20, least=5).max() == 1


@pytest.mark.parametrize("rank", [1, 2])
def test_random_subspaces_of_the_complement_hold_the_energy_that_is_asked_for(rank: int) -> None:
    states, trace, _ = _traced()
    patch = states[:1000] - states[1000:2000]
    basis = centroid_basis(states, surprise_bins(trace, 20), rank)
    for seed in range(5):
        drawn = random_basis_in_complement(patch, basis, 0.12, np.random.default_rng(seed))
        np.testing.assert_allclose(drawn.T @ drawn, np.eye(rank), atol=1e-9)
        np.testing.assert_allclose(basis.T @ drawn, 0, atol=1e-9)
        assert energy_share(patch, drawn) == pytest.approx(0.12, abs=0.01)
    # Equal rank alone would hold next to nothing.
    free = np.linalg.qr(np.random.default_rng(0).normal(size=(states.shape[1], rank)))[0]
    assert energy_share(patch, free) < 0.12


def test_a_share_is_translated_through_the_dose_curve() -> None:
    # The pilot's curve of a report by trace: a quarter of the patch does next to nothing.
    doses, shares = [0.25, 0.5, 0.75], [0.02, 0.15, 0.70]
    np.testing.assert_allclose(equivalent_dose([0, 0.15, 0.425, 1], doses, shares), [0, 0.5, 0.625, 1], atol=1e-9)
    # In and complement of two linear halves add up, in doses and not in shares.
    assert equivalent_dose(0.15, doses, shares) + equivalent_dose(0.15, doses, shares) == pytest.approx(1.0)
    assert np.isfinite(equivalent_dose([-0.1, 1.2], doses, [0.3, 0.2, 0.9])).all()
