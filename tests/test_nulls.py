"""Nulls: where there is nothing to recognise the instrument finds nothing, on the zoo and through the whole pipeline.

Each null is run with seeds 0 to 19, which nobody chose. A 95 % interval that covers as often as it says misses the
truth in one of twenty, so 19 is what to expect and not what to demand: with 19 demanded a sound instrument fails more
often than one time in four. `enough` is the largest count that a sound one misses less than one time in a hundred; the
message of each assertion says how many there were.

Percentile intervals of heavy-tailed means are short. Mean entropies of a zoo model's responses have a kurtosis of some
27, and in 1,000 redrawn nulls the interval of the ratio covered 88 % with 54 prompts and 92 % with 108, one response
each; the matched gap 93 %, the interaction 95 %. What is demanded is what intervals of such coverage give.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from math import comb
from pathlib import Path

import numpy as np
import pytest

from enaction import stats
from enaction.analysis.data import Data
from enaction.analysis.ledger import with_mean
from enaction.experiments import analyse, plan
from enaction.findings import Finding, select
from enaction.running import run_study
from enaction.study.config import Study
from enaction.study.store import Run
from enaction.words import TRACE

SEEDS = range(20)
COVERAGE = {"interaction": 0.95, "matched_gap": 0.93, "other_self_ratio": 0.92}

pytestmark = pytest.mark.slow


def enough(coverage: float) -> int:
    """Largest number of seeds that intervals of this coverage reach in 99 of 100 draws of twenty seeds."""
    n = len(SEEDS)
    chance = [comb(n, k) * coverage**k * (1 - coverage) ** (n - k) for k in range(n + 1)]
    return max(count for count in range(n + 1) if sum(chance[count:]) > 0.99)


def test_enough_is_what_a_sound_instrument_misses_less_than_once_in_a_hundred() -> None:
    assert [enough(coverage) for coverage in (0.92, 0.93, 0.95, 0.975)] == [15, 15, 16, 17]  # scipy.stats.binom
    assert sum(comb(20, k) * 0.95**k * 0.05 ** (20 - k) for k in (19, 20)) == pytest.approx(0.736, abs=1e-3)


def _study(models: dict[str, str], seed: int, n_prompts: int | None = None) -> Study:
    """A study of models of the zoo, each as a family of its own."""
    return Study.model_validate(
        {
            "name": "null",
            "models": {name: {"model": model, "family": name} for name, model in models.items()},
            "n_prompts": n_prompts,
            "framings": ["assistant"],
            "sampling": {"per_prompt": 1},
            "seed": seed,
            "resamples": 1000,
        }
    )


def _covers(found: Finding, truth: float) -> bool:
    assert found.low is not None
    assert found.high is not None
    return found.low <= truth <= found.high


def _demand_null(findings: list[list[Finding]], quantity: str, truth: float, reader: str) -> None:
    found = [select(run, quantity, reader=reader, framing="assistant")[0] for run in findings]
    count, demanded = sum(_covers(f, truth) for f in found), enough(COVERAGE[quantity])
    told = (
        f"{quantity} of {reader}: {truth:g} is in {count} of {len(SEEDS)} intervals; expected 19, demanded {demanded}"
    )
    print(told)
    assert count >= demanded, told


def _runs(
    folder: Path,
    models: dict[str, str],
    plant: Callable[[Run, int], None] | None = None,
    n_prompts: int | None = None,
) -> list[list[Finding]]:
    """The findings of a run for each seed; `plant` may put passages in before."""
    findings = []
    for seed in SEEDS:
        study, run = _study(models, seed, n_prompts), Run(folder / str(seed))
        run.open(study)
        if plant is not None:
            plant(run, seed)
        findings.append(analyse(study, run_study(study, run.folder)))
    return findings


RL = {f"{family}-rl": f"zoo:{family}-rl" for family in ("ash", "birch", "cedar")}


@pytest.fixture(scope="module", name="labelled")
def _labelled(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three RL models with their own texts."""
    return run_study(_study(RL, 0, 54), tmp_path_factory.mktemp("labelled") / "run")


def test_shuffled_authors_are_not_recognised(labelled: Run, tmp_path: Path) -> None:
    """The texts of three RL models, dealt out to them anew within each prompt, and read."""
    texts_PA = list(zip(*(labelled.passages(name) for name in RL), strict=True))

    def deal(run: Run, seed: int) -> None:
        rng = np.random.default_rng([seed, 7])
        dealt_PA = [[texts_A[i] for i in rng.permutation(len(RL))] for texts_A in texts_PA]
        for name, texts_P in zip(RL, zip(*dealt_PA, strict=True), strict=True):
            run.write_passages(name, [dataclasses.replace(text, author=name) for text in texts_P])

    _demand_null(_runs(tmp_path, RL, deal, 54), "interaction", 0, "mean")
    # Left as they were the labels are recognised: the null is not that of a blind instrument.
    (found,) = select(analyse(labelled.study(), labelled), "interaction", reader="mean", framing="assistant")
    assert found.high is not None
    assert found.high < 0


def test_intervals_of_shuffled_authors_cover_as_often_as_they_say(labelled: Run) -> None:
    """The same null four hundred times, on the tables that were read: readers know no labels."""
    study = labelled.study()
    data, rng = Data(study, labelled, plan(study)), np.random.default_rng(0)
    entropy_RAP = data.table(list(RL), list(RL), "assistant", "entropy")
    n, covered_R = 400, np.zeros(len(RL) + 1)
    for _ in range(n):
        order_AP = rng.permuted(np.tile(np.arange(len(RL))[:, None], data.n_prompts), axis=0)
        dealt_RAP = np.take_along_axis(entropy_RAP, np.broadcast_to(order_AP, entropy_RAP.shape), axis=1)
        found = data.estimate(dealt_RAP, with_mean(stats.interaction))
        covered_R += (found.low <= 0) & (found.high >= 0)
    print(f"coverage over {n} shuffles: {covered_R / n}")
    assert (covered_R / n > 0.9).all(), covered_R / n


def test_a_reader_does_not_tell_two_samples_of_itself_apart(tmp_path: Path) -> None:
    """One model under two names, which are two streams of random numbers."""
    findings = _runs(tmp_path, {"once": "zoo:ash-rl", "again": "zoo:ash-rl"})
    for run in findings:
        for found in select(run, "interaction"):
            assert found.estimate == pytest.approx(0, abs=1e-5)  # up to rounding: both readers are the same
    _demand_null(findings, "other_self_ratio", 1, "once")
    _demand_null(findings, "matched_gap", 0, "once")


def test_two_bases_of_one_recipe_hardly_recognise_themselves(tmp_path: Path) -> None:
    """Two base models that differ in the seeds of their training.

    They are not the same model, so zero is not the truth: what each has mislearned makes it a little surer where it
    wrote itself. Over twenty seeds the mean is -.0015 log units, and 14 intervals hold zero. Two reach
    to -.010 and -.018, where one odd prompt makes them lopsided. What is demanded is that none leaves what counts as a
    trace.
    """
    runs = _runs(tmp_path, {"ash-base": "zoo:ash-base", "ash3-base": "zoo:ash3-base"})
    found = [select(run, "interaction", reader="mean", framing="assistant")[0] for run in runs]
    bounds = [(f.low or 0.0, f.high or 0.0) for f in found]
    mean = float(np.mean([f.estimate or 0.0 for f in found]))
    print(f"{sum(_covers(f, 0) for f in found)} of {len(found)} intervals hold 0, mean {mean:.4f}: {bounds}")
    assert all(low > -TRACE and high < TRACE for low, high in bounds)
    assert mean == pytest.approx(0, abs=0.003)
