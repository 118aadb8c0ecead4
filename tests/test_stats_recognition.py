"""Recognition by foreign cells alone: a planted reader keeps its recognition, and nobody inherits it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from enaction.stats import familiarity, foreign_recognition, interaction, log_ratio_split

logs = st.integers(3, 6).flatmap(lambda n: arrays(np.float64, (n, n), elements=st.floats(-4, 3)))


def by_least_squares(log_RA, left_out_RA):
    """Predicted minus found of every cell, one `lstsq` and a loop."""
    n_readers, n_authors = log_RA.shape
    rows, values = [], []
    for r, a in np.ndindex(log_RA.shape):
        if not left_out_RA[r, a]:
            rows.append([float(r == i) for i in range(n_readers)] + [float(a == i) for i in range(n_authors)])
            values.append(log_RA[r, a])
    effect = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
    return effect[:n_readers, None] + effect[None, n_readers:] - log_RA


@settings(deadline=None)
@given(logs)
def test_recognition_is_the_distance_of_own_cells_from_a_fit_to_the_others(log_RA):
    own_RA = np.eye(len(log_RA), dtype=bool)
    expected = np.diagonal(by_least_squares(log_RA, own_RA))
    np.testing.assert_allclose(foreign_recognition(log_RA), expected, atol=1e-9)


@settings(deadline=None)
@given(logs)
def test_its_mean_is_that_of_the_interaction(log_RA):
    n = len(log_RA)
    mean = -n / (n - 1) * interaction(np.exp(log_RA)).mean()
    assert foreign_recognition(log_RA).mean() == pytest.approx(mean, abs=1e-9)
    split = log_ratio_split(np.exp(log_RA))
    np.testing.assert_allclose(split.recognition + split.ease, split.log_geometric_ratio, atol=1e-9)
    assert split.ease.mean() == pytest.approx(0, abs=1e-9)


@given(logs, st.data())
def test_reader_and_author_effects_do_not_move_it(log_RA, data):
    n = len(log_RA)
    effects = data.draw(arrays(np.float64, (n, 1), elements=st.floats(-3, 3))) + data.draw(
        arrays(np.float64, (1, n), elements=st.floats(-3, 3))
    )
    np.testing.assert_allclose(foreign_recognition(log_RA + effects), foreign_recognition(log_RA), atol=1e-9)


@pytest.mark.parametrize("n", [3, 4, 6])
def test_nobody_inherits_the_recognition_of_one_reader(n):
    rng = np.random.default_rng(n)
    log_RA = rng.normal(size=(n, 1)) + rng.normal(size=(1, n))
    log_RA[1, 1] -= 0.7
    expected = np.where(np.arange(n) == 1, 0.7, 0.0)
    np.testing.assert_allclose(foreign_recognition(log_RA), expected, atol=1e-12)
    # ... as they do of a fit to all cells.
    assert (np.abs(interaction(np.exp(log_RA))) > 0.01).all()


def test_kin_that_is_left_out_does_not_bend_the_prediction():
    """Models 0 and 1 are kin: each is as sharp on the other's text as on its own."""
    rng = np.random.default_rng(0)
    log_RA = rng.normal(size=(5, 1)) + rng.normal(size=(1, 5))
    kin_RA = np.zeros((5, 5), dtype=bool)
    kin_RA[:2, :2] = True
    log_RA[kin_RA] -= 0.5
    expected = [0.5, 0.5, 0, 0, 0]
    np.testing.assert_allclose(foreign_recognition(log_RA, kin_RA), expected, atol=1e-9)
    np.testing.assert_allclose(np.diagonal(familiarity(log_RA, kin_RA | np.eye(5, dtype=bool))), expected, atol=1e-9)
    np.testing.assert_allclose(familiarity(log_RA, kin_RA | np.eye(5, dtype=bool))[0, 1], 0.5, atol=1e-9)
    assert np.abs(foreign_recognition(log_RA) - expected).max() > 0.1


def test_familiarity_takes_readers_that_are_no_authors_and_marks_what_is_not_predicted():
    rng = np.random.default_rng(1)
    log_RA, left_out_RA = rng.normal(size=(4, 3)), np.zeros((4, 3), dtype=bool)
    left_out_RA[:3] = np.eye(3, dtype=bool)
    np.testing.assert_allclose(familiarity(log_RA, left_out_RA), by_least_squares(log_RA, left_out_RA), atol=1e-9)
    left_out_RA[0] = True  # nothing is known of the first reader
    found = familiarity(log_RA, left_out_RA)
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1:]).all()


def test_batched_tables_equal_a_loop():
    log_BCRA = np.random.default_rng(2).normal(size=(2, 5, 3, 3))
    found = foreign_recognition(log_BCRA)
    for where in np.ndindex(2, 5):
        np.testing.assert_allclose(found[where], foreign_recognition(log_BCRA[where]), atol=1e-12)


def test_a_missing_cell_makes_its_table_undefined_and_no_other():
    log_BRA = np.random.default_rng(2).normal(size=(2, 3, 3))
    log_BRA[0, 0, 1] = np.nan
    assert np.isnan(foreign_recognition(log_BRA)).any(axis=-1).tolist() == [True, False]


@pytest.mark.parametrize(
    ("log_RA", "left_out", "message"),
    [
        (np.zeros((2, 2)), None, r"reader \[0, 1\] is not identified.*one joint number"),
        (np.zeros((3, 2)), None, "same models"),
        (np.zeros((3, 3)), np.array([[0, 1, 1], [0, 0, 0], [0, 0, 0]]), r"reader \[0\] is not identified"),
        (np.zeros((3, 3)), np.zeros((2, 2)), "broadcast|differ"),
        (np.zeros((3, 3)), np.ones((3, 3)), "every cell is left out"),
    ],
)
def test_what_is_not_identified_is_refused(log_RA, left_out, message):
    with pytest.raises(ValueError, match=message):
        foreign_recognition(log_RA, left_out)
