"""Bins, centroid directions, probes and similarity of states, on arrays whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from enaction.stats import bins
from enaction.stats.decoding import foretold_by, means_by_code
from enaction.stats.directions import alignment, alignment_floor, centroids, matched, orthogonal_to, rotated
from enaction.stats.similarity import linear_cka, mean_cosine, procrustes

RNG = np.random.default_rng


def test_a_floor_is_one_bin_and_the_rest_have_equal_counts() -> None:
    rng = RNG(0)
    value = np.where(rng.random(8000) < 0.6, 0.001 * rng.random(8000), rng.exponential(size=8000) + 0.05)
    edge = bins.edges(value, 8)
    count = np.bincount(bins.binned(value, edge))
    assert len(edge) == 7
    assert edge[0] == bins.FLOOR
    assert count[0] == (value < bins.FLOOR).sum()
    assert count[1:].max() - count[1:].min() <= 2
    even = bins.edges(rng.random(8000), 8)
    np.testing.assert_allclose(even, np.arange(1, 8) / 8, atol=0.02)
    with pytest.raises(ValueError, match="2 bins"):
        bins.edges([], 8)


def test_cells_need_enough_tokens_and_two_of_a_key() -> None:
    key, bin_ = np.repeat([0, 0, 1, 1], [30, 30, 30, 5]), np.repeat([0, 1, 0, 1], [30, 30, 30, 5])
    cells = bins.cells(key, bin_, 2, 2)
    assert cells.usable.tolist() == [[True, True], [False, False]]
    assert cells.share == pytest.approx(60 / 95)
    value = RNG(0).normal(size=(95, 3))
    means = bins.cell_means(value, key, bin_, (2, 3))
    np.testing.assert_allclose(means[0, 1], value[30:60].mean(0))
    assert np.isnan(means[:, 2]).all()
    np.testing.assert_allclose(bins.cell_means(value[:, 0], key, bin_, (2, 3))[1, 0], value[60:90, 0].mean())


def _planted(confounded: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """States with a direction of the trace and one of the key; the key moves the trace too if it confounds."""
    rng = RNG(3)
    key = rng.integers(0, 3, 6000)
    trace = rng.exponential(size=6000) + (2.0 * key if confounded else 0)
    state = 0.3 * rng.normal(size=(6000, 16))
    state[:, 0] += trace
    state[:, 1] += 3.0 * key
    return state, key, bins.binned(trace, bins.edges(trace, 8)), trace, np.eye(16)


@pytest.mark.parametrize("confounded", [False, True])
def test_centroids_within_a_key_find_the_trace_and_raw_ones_the_key(confounded: bool) -> None:
    state, key, bin_, _, axis = _planted(confounded)
    within = centroids(state, key, bin_, bins.cells(key, bin_, 3, 8))
    assert alignment(within.basis, axis[:, :1]) > 0.99
    raw = centroids(state, 0 * key, bin_, bins.cells(0 * key, bin_, 1, 8))
    assert (alignment(raw.basis, axis[:, :1]) > 0.99) != confounded
    coordinates = within.coordinates(1)
    k, b = np.argwhere(bins.cells(key, bin_, 3, 8).usable)[2]
    expected = state[(key == k) & (bin_ == b)].mean(0) @ within.basis[:, 0]
    assert coordinates[k, b, 0] == pytest.approx(expected, abs=1e-6)


def test_controls_keep_size_and_leave_the_direction() -> None:
    state, key, bin_, _, _ = _planted(False)
    cells = bins.cells(key, bin_, 3, 8)
    of = centroids(state, key, bin_, cells)
    basis, coordinates = rotated(of, 2, RNG(5))
    np.testing.assert_allclose(basis.T @ basis, np.eye(2), atol=1e-9)
    own = of.coordinates(2) - (of.mean @ of.basis[:, :2])[:, None]
    np.testing.assert_allclose(coordinates - (of.mean @ basis)[:, None], own)
    keep = cells.usable[key, bin_]
    residual = state[keep] - of.mean[key[keep]] - of.deviation[key[keep], bin_[keep]]
    drawn, at = matched(of, residual, RNG(6))
    assert np.abs(of.basis.T @ drawn).max() < 1e-9
    scores = [
        np.nanstd(c - (of.mean @ b)[:, None]) / (residual @ b).std()
        for b, c in ((of.basis[:, :1], of.coordinates(1)), (drawn, at))
    ]
    assert scores[0] == pytest.approx(scores[1])
    assert np.linalg.norm(orthogonal_to(of.basis, RNG(1).normal(size=16))) == pytest.approx(1)
    random = [
        abs(RNG(i).normal(size=400) @ np.eye(400)[0]) / np.linalg.norm(RNG(i).normal(size=400)) for i in range(400)
    ]
    assert np.mean(np.array(random) < alignment_floor(400)) == pytest.approx(0.95, abs=0.03)


def test_probes_are_judged_on_other_prompts() -> None:
    rng = RNG(0)
    prompt = np.repeat(np.arange(20), 60)
    x = rng.normal(size=(1200, 10))
    y = 2 * x[:, 0] + rng.normal(size=1200)
    predicted = foretold_by(x, y, prompt)
    assert 1 - np.square(y - predicted).sum() / np.square(y - y.mean()).sum() == pytest.approx(0.8, abs=0.05)
    # What is only known within a prompt foretells nothing of another one.
    own = rng.normal(size=20)[prompt]
    memorised = foretold_by(np.eye(20)[prompt], own, prompt)
    assert np.square(own - memorised).sum() >= 0.95 * np.square(own - own.mean()).sum()
    code = rng.integers(0, 5, 1200)
    by_code = means_by_code(code, code + 0.1 * rng.normal(size=1200), prompt)
    np.testing.assert_allclose(by_code, code, atol=0.1)
    with pytest.raises(ValueError, match="two at least"):
        foretold_by(x[:60], y[:60], prompt[:60])


def test_similarity_knows_rotation_and_shuffling() -> None:
    rng = RNG(0)
    one = rng.normal(size=(2000, 12)) * np.arange(1, 13) + 5
    turn, _ = np.linalg.qr(rng.normal(size=(12, 12)))
    turned, shuffled = 3 * (one - one.mean(0)) @ turn, one[rng.permutation(2000)]
    assert mean_cosine(one, one) == pytest.approx(1)
    assert linear_cka(one, turned) == pytest.approx(1)
    assert procrustes(one, turned) == pytest.approx(0, abs=1e-9)
    assert linear_cka(one, shuffled) < 0.05
    assert procrustes(one, shuffled) > 0.9
    # A common offset makes raw cosines large, and centring takes it away.
    assert mean_cosine(one + 50, shuffled + 50) > 0.9
    assert abs(mean_cosine(one + 50, shuffled + 50, centred=True)) < 0.1
