"""Shuffled labels: exact enumeration, planted effects, and p-values that are uniform where nothing is there."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from enaction import stats


def _difference(mean_L: np.ndarray) -> np.ndarray:
    return mean_L[..., 0] - mean_L[..., 1]


def _enumerated(value_LP: np.ndarray, tail: stats.Tail) -> float:
    """p by all orders of the labels in all prompts."""
    n_labels, n_prompts = value_LP.shape
    orders = itertools.product(itertools.permutations(range(n_labels)), repeat=n_prompts)
    null = np.array([_difference(np.mean([value_LP[list(o), p] for p, o in enumerate(os)], axis=0)) for os in orders])
    observed = _difference(value_LP.mean(axis=1))
    if tail == "less":
        return float((null <= observed + 1e-12).mean())
    if tail == "greater":
        return float((null >= observed - 1e-12).mean())
    return float((np.abs(null) >= abs(observed) - 1e-12).mean())  # the null of a difference is symmetric about 0


@pytest.mark.parametrize("tail", ["less", "greater", "both"])
def test_pvalue_agrees_with_all_orders_enumerated(tail: stats.Tail) -> None:
    value_LP = np.random.default_rng(3).normal(size=(2, 8)) + np.array([[0.0], [0.6]])
    found = stats.label_test(value_LP, 0, _difference, np.random.default_rng(0), 20_000, tail=tail)
    assert found.value == pytest.approx(value_LP[0].mean() - value_LP[1].mean())
    assert found.pvalue == pytest.approx(_enumerated(value_LP, tail), abs=0.012)


def test_other_axes_keep_their_places_and_are_shuffled_alike() -> None:
    # The second label is the first plus a constant in each of three cells; shuffled alike, the cells stay in step.
    rng = np.random.default_rng(5)
    base_P = rng.normal(size=12)
    value_XLP = np.array([[base_P + x, base_P + x + 1] for x in (0.0, 10.0, 20.0)])
    found = stats.label_test(value_XLP, 1, lambda m: m[..., 1] - m[..., 0], rng, 500, tail="greater")
    assert found.value == pytest.approx([1, 1, 1])
    assert found.pvalue == pytest.approx(1 / 501, abs=1e-3)
    spread = stats.label_test(value_XLP, 1, lambda m: np.ptp(m[..., 1] - m[..., 0], axis=-1), rng, 500, tail="greater")
    assert spread.null_high == pytest.approx(0, abs=1e-9)


def test_missing_prompts_are_left_out_of_the_means() -> None:
    value_LP = np.array([[1.0, 2.0, np.nan, 3.0], [1.5, np.nan, 4.0, 3.5]])
    found = stats.label_test(value_LP, 0, _difference, np.random.default_rng(0), 200, tail="both")
    assert found.value == pytest.approx(2.0 - 3.0)


def test_a_shuffle_that_empties_a_cell_counts_against_the_finding() -> None:
    """Label 0 has one prompt in each cell but the first: half of the shuffles move it to label 1."""

    def strict(mean_KL: np.ndarray) -> np.ndarray:
        assert np.isfinite(mean_KL).all(), "asked about a table that is not there"
        return mean_KL[:, 0] - mean_KL[:, 1]

    value_LP = np.array([[1.0, np.nan, np.nan], [np.nan, 9.0, np.nan]])
    found = stats.label_test(value_LP, 0, strict, np.random.default_rng(0), 400, tail="less")
    # Of the four equally likely shuffles one is the identity, one its mirror image, two leave a label without a prompt.
    assert found.pvalue == pytest.approx(0.75, abs=0.07)


def test_null_is_null_in_most_seeds() -> None:
    rng = np.random.default_rng(11)
    pvalues = [
        stats.label_test(rng.normal(size=(3, 20)), 0, _difference, rng, 199, tail="both").pvalue for _ in range(100)
    ]
    assert np.mean(np.array(pvalues) <= 0.05) <= 0.12
    assert 0.35 < np.mean(pvalues) < 0.65


@pytest.mark.parametrize(("axis", "shape"), [(1, (2, 5)), (0, (1, 5)), (-1, (2, 5))])
def test_an_axis_that_cannot_be_shuffled_is_refused(axis: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cannot be shuffled"):
        stats.label_test(np.zeros(shape), axis, _difference, np.random.default_rng(0), 10, tail="less")
