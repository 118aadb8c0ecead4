"""Subspaces of a patch: their energy, controls that hold as much of it, and what a share is worth."""

from __future__ import annotations

import numpy as np
import pytest

from enaction.stats.routes import energy_share, equivalent_dose, random_basis_in_complement


def _traced(seed: int = 0, n: int = 3000, channels: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """States that hold a trace along one direction, within noise that is strong in a few others."""
    rng = np.random.default_rng(seed)
    trace = rng.exponential(size=n)
    direction = np.linalg.qr(rng.normal(size=(channels, 1)))[0]
    noise = rng.normal(size=(n, channels)) * np.linspace(2.0, 0.1, channels)
    turned = np.linalg.qr(rng.normal(size=(channels, channels)))[0]
    return noise @ turned + trace[:, None] * direction.T, direction


@pytest.mark.parametrize("rank", [1, 2])
def test_random_subspaces_of_the_complement_hold_the_energy_that_is_asked_for(rank: int) -> None:
    states, direction = _traced()
    patch = states[:1000] - states[1000:2000]
    basis = np.linalg.qr(np.hstack([direction, np.random.default_rng(9).normal(size=(24, rank - 1))]))[0]
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
