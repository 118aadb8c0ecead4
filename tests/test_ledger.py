"""The ledger: one finding for each place, with interval, pooling, null and p-value; and what it refuses."""

from __future__ import annotations

from pathlib import Path

import handmade
import numpy as np
import pytest

from enaction import stats
from enaction.analysis.data import Data
from enaction.analysis.ledger import INTERVAL, T_INTERVAL, Ledger, Permuted, along, with_mean
from enaction.analysis.measures import (
    GEOMETRIC_RATIO,
    INTERACTION,
    INTERACTION_OF_MEANS,
    LOG_RATIO,
    RECOGNITION,
    Measure,
    add_measure,
    difference,
)
from enaction.experiments import plan
from enaction.findings import Findings, read_findings, write_findings
from enaction.study.store import Run

READERS = ["ash", "birch", "cedar"]


@pytest.fixture(name="ledger")
def _ledger(tmp_path: Path) -> Ledger:
    study = handmade.study(tmp_path, {"matrix": {}})
    return Ledger.of(Data(study, Run(tmp_path / "run"), plan(study)), "test")


@pytest.fixture(name="entropy_RAP")
def _entropy(ledger: Ledger) -> np.ndarray:
    return np.random.default_rng(0).uniform(1, 2, (3, 3, ledger.data.n_prompts))


@pytest.mark.parametrize("measure", [INTERACTION, INTERACTION_OF_MEANS], ids=lambda measure: measure.name)
def test_a_measure_is_written_for_each_reader_and_their_mean_as_stats_estimates_it(
    ledger: Ledger, entropy_RAP: np.ndarray, measure: Measure
) -> None:
    entropy_RAP[0, 1, :2] = np.nan
    here = ledger.at(stage="rl", notes=["a note"])
    test = Permuted([0.1, 0.2, 0.3, 0.04], "authors shuffled, one-sided")
    if measure is INTERACTION:
        entropy_RAP = np.log(entropy_RAP)
    table = ledger.resampled(entropy_RAP)
    add_measure(here, measure, table, READERS, test=test)
    expected = (
        table.jackknife(with_mean(stats.diagonal_residual))
        if measure is INTERACTION
        else stats.bootstrap_estimate(entropy_RAP, ledger.data.weights, with_mean(stats.interaction))
    )
    interval = {INTERACTION: T_INTERVAL, INTERACTION_OF_MEANS: INTERVAL}[measure]
    assert [f.where for f in ledger.findings] == [{"reader": r, "stage": "rl"} for r in [*READERS, "mean"]]
    for i, f in enumerate(ledger.findings):
        assert (f.estimate, f.low, f.high) == (expected.value[i], expected.low[i], expected.high[i])
        assert (f.n, f.null, f.p) == (ledger.data.n_prompts - 2, 0.0, test.pvalue[i])
        assert f.definition == f"{measure.text}; {measure.pooling}; {interval}"
        assert f.remarks == ["a note"]
        assert f.notes[-1].startswith(f"permutation p = {test.pvalue[i]:.4f} (authors")


def test_a_table_of_two_has_one_number_for_both_readers(ledger: Ledger, entropy_RAP: np.ndarray) -> None:
    log_RAP = np.log(entropy_RAP[:2, :2])
    test = Permuted(np.array([0.1, 0.2, 0.3]), "authors shuffled, one-sided")
    joint = []
    for measure in (INTERACTION, RECOGNITION):
        (found,) = add_measure(ledger, measure, ledger.resampled(log_RAP), READERS[:2], test=test)
        assert (found.where["reader"], found.p) == ("mean", 0.3)
        assert any("one number for both readers" in note for note in found.notes)
        joint.append(found.estimate)
    assert joint[1] == pytest.approx(-2 * joint[0])
    each = add_measure(ledger, LOG_RATIO, ledger.resampled(log_RAP), READERS[:2])
    assert [f.where["reader"] for f in each] == [*READERS[:2], "mean"]


def test_the_geometric_ratio_is_the_log_ratio_on_its_own_scale(ledger: Ledger, entropy_RAP: np.ndarray) -> None:
    table = ledger.resampled(np.log(entropy_RAP))
    logs, ratios = (add_measure(ledger, measure, table, READERS) for measure in (LOG_RATIO, GEOMETRIC_RATIO))
    for log, ratio in zip(logs, ratios, strict=True):
        for bound in ("estimate", "low", "high"):
            assert getattr(ratio, bound) == pytest.approx(np.exp(getattr(log, bound)))
        assert (log.null, ratio.null) == (0.0, 1.0)


def test_stacked_tables_give_what_one_array_gives(ledger: Ledger, entropy_RAP: np.ndarray) -> None:
    tables = [entropy_RAP, entropy_RAP * np.array([0.5, 1, 1])[:, None, None]]
    stacked = stats.Resampled.stack([ledger.resampled(t) for t in tables])
    change = difference(stats.interaction, 1, 0)
    one, two = stacked.estimate(change), ledger.resampled(np.array(tables)).estimate(change)
    for bound in ("value", "low", "high"):
        np.testing.assert_array_equal(getattr(one, bound), getattr(two, bound))


def test_axes_name_the_places_of_an_estimate(ledger: Ledger, entropy_RAP: np.ndarray) -> None:
    axes = [along("reader", READERS), along("author", READERS)]
    ledger.add("entropy", "nats", "entropy", entropy_RAP, axes=axes)
    found = Findings(ledger.findings).one("entropy", reader="birch", author="cedar")
    assert found is not None
    assert found.estimate == pytest.approx(entropy_RAP[1, 2].mean())
    with pytest.raises(ValueError, match=r"shape \(3, 3\) for axes \(3,\)"):
        ledger.add("entropy", "nats", "entropy", entropy_RAP, axes=axes[:1])
    with pytest.raises(ValueError, match="names its pooling"):
        ledger.add("entropy", "nats", "entropy", entropy_RAP, axes=axes, pooling="")


def test_what_is_left_out_says_why_and_a_number_that_is_not_finite_is_none(ledger: Ledger, tmp_path: Path) -> None:
    """An infinite identity residual must raise the alarm, not stop the run at the file."""
    ledger.leave_out("entropy", "nats", "nobody wrote", reader="ash")
    ledger.fact("identity_residual", "standard deviations", "how", float("inf"), 3, low=float("nan"))
    write_findings(tmp_path / "findings.json", ledger.findings)
    left_out, infinite = read_findings(tmp_path / "findings.json")
    assert (left_out.estimate, left_out.left_out, left_out.notes) == (None, "nobody wrote", ["nobody wrote"])
    assert (infinite.estimate, infinite.low) == (None, None)
