"""The reader x author table: planted effects come back, and the split of the ratio is exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from enaction.stats import foreign_recognition, interaction, log_ratio_split, other_self_ratio
from studies.paper_matrix import PRINTED_AR

tables = st.integers(2, 6).flatmap(lambda n: arrays(np.float64, (n, n), elements=st.floats(1e-3, 1e2)))


def test_printed_table_of_the_paper_splits_as_quoted():
    """By all cells the interaction spreads one reader's recognition over the table; foreign cells alone do not."""
    split = log_ratio_split(PRINTED_AR.T)
    np.testing.assert_allclose(split.log_geometric_ratio, [1.07, 0.31, 0.36, 0.25, 0.43], atol=0.005)
    np.testing.assert_allclose(-5 / 4 * interaction(PRINTED_AR.T), [0.92, 0.23, 0.53, 0.22, 0.51], atol=0.005)
    np.testing.assert_allclose(split.recognition, [1.065, 0.148, 0.544, 0.134, 0.520], atol=0.0005)
    np.testing.assert_allclose(split.recognition, foreign_recognition(np.log(PRINTED_AR.T)))
    assert split.recognition.mean() == pytest.approx(0.482, abs=0.0005)


def test_readers_are_rows_and_authors_columns():
    # The printed table's own-author columns are minima: with the axes swapped the first reader's ratio would differ.
    first = np.mean([0.548, 0.660, 0.494, 0.691]) / 0.204
    assert other_self_ratio(PRINTED_AR.T)[0] == pytest.approx(first)
    assert other_self_ratio(PRINTED_AR)[0] != pytest.approx(first)


@given(tables)
def test_log_ratio_is_exactly_recognition_plus_ease(entropy_RA):
    split = log_ratio_split(entropy_RA)
    np.testing.assert_allclose(split.recognition + split.ease, split.log_geometric_ratio, atol=1e-10)


@given(tables, st.data())
def test_reader_and_author_effects_do_not_move_the_interaction(entropy_RA, data):
    n = len(entropy_RA)
    reader_R = data.draw(arrays(np.float64, (n, 1), elements=st.floats(0.01, 100)))
    author_A = data.draw(arrays(np.float64, (1, n), elements=st.floats(0.01, 100)))
    moved_RA = entropy_RA * reader_R * author_A
    np.testing.assert_allclose(interaction(moved_RA), interaction(entropy_RA), atol=1e-9)
    # ... nor does a sharper reader move its ratio; an easier author does, and that goes to ease alone.
    np.testing.assert_allclose(
        log_ratio_split(moved_RA).recognition, log_ratio_split(entropy_RA).recognition, atol=1e-9
    )
    np.testing.assert_allclose(other_self_ratio(entropy_RA * reader_R), other_self_ratio(entropy_RA), rtol=1e-9)


@given(tables, st.data())
def test_renaming_the_models_renames_the_results(entropy_RA, data):
    order = np.array(data.draw(st.permutations(range(len(entropy_RA)))))
    swapped_RA = entropy_RA[np.ix_(order, order)]
    np.testing.assert_allclose(interaction(swapped_RA), interaction(entropy_RA)[order], atol=1e-10)
    np.testing.assert_allclose(other_self_ratio(swapped_RA), other_self_ratio(entropy_RA)[order], rtol=1e-10)


@settings(deadline=None)
@given(tables)
def test_interaction_equals_least_squares_residuals(entropy_RA):
    n = len(entropy_RA)
    reader, author = np.divmod(np.arange(n * n), n)
    design = np.column_stack([np.ones(n * n), np.eye(n)[reader], np.eye(n)[author]])
    log_entropy = np.log(entropy_RA).ravel()
    coefficients = np.linalg.lstsq(design, log_entropy, rcond=None)[0]
    residual = log_entropy - design @ coefficients
    np.testing.assert_allclose(interaction(entropy_RA), residual[:: n + 1], atol=1e-8)


@given(
    arrays(
        np.float64,
        st.tuples(array_shapes(max_dims=2, max_side=3)).map(lambda s: (*s[0], 3, 3)),
        elements=st.floats(0.01, 10),
    )
)
def test_batched_tables_equal_a_loop(entropy_RA):
    for function in (interaction, other_self_ratio, lambda e: log_ratio_split(e).ease):
        batched = function(entropy_RA)
        for where in np.ndindex(entropy_RA.shape[:-2]):
            np.testing.assert_allclose(batched[where], function(entropy_RA[where]), atol=1e-12)


def test_planted_recognition_is_recovered_beside_large_main_effects():
    rng = np.random.default_rng(0)
    n, planted = 4, -0.5
    reader, author = rng.normal(size=(n, 1)), rng.normal(size=(1, n))
    entropy_RA = np.exp(reader + author + planted * np.eye(n))
    # An additive fit takes 1/n of a diagonal effect into the main effects; the factor N/(N-1) gives it back.
    np.testing.assert_allclose(interaction(entropy_RA), planted * (1 - 1 / n))
    np.testing.assert_allclose(log_ratio_split(entropy_RA).recognition, -planted)


def test_sharp_reader_and_easy_author_without_recognition_show_none():
    entropy_RA = np.array([[0.1, 0.4, 0.4], [0.25, 1.0, 1.0], [0.25, 1.0, 1.0]])  # model 0 is both sharp and easy
    assert other_self_ratio(entropy_RA)[0] == pytest.approx(4)
    np.testing.assert_allclose(interaction(entropy_RA), 0, atol=1e-12)
    np.testing.assert_allclose(log_ratio_split(entropy_RA).ease[0], np.log(4))


def test_two_readers_share_one_interaction():
    values = interaction([[0.2, 0.5], [0.9, 0.3]])
    assert values[0] == pytest.approx(values[1])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.ones((2, 3)), "same models"),
        (np.ones(3), "same models"),
        (np.ones((1, 1)), "2 models"),
        ([[1.0, 0.0], [1.0, 1.0]], r"entropy\[0, 1\] is 0.0"),
        ([[1.0, 1.0], [np.nan, 1.0]], r"entropy\[1, 0\] is nan"),
        ([[1.0, 1.0], [np.inf, 1.0]], "finite"),
    ],
)
@pytest.mark.parametrize("function", [interaction, other_self_ratio, log_ratio_split])
def test_unusable_tables_are_refused(function, table, message):
    with pytest.raises(ValueError, match=message):
        function(table)
