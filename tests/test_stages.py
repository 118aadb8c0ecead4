"""A planted course of training comes back: where recognition appears, where the order is reversed, and by how much."""

from __future__ import annotations

import json
from pathlib import Path

import handmade
import numpy as np
import pytest

from enaction import stats
from enaction.errors import StudyError
from enaction.experiments import analyse, plan
from enaction.experiments.stages import Stages
from enaction.experiments.stages.analysis import MEASURES, measured
from enaction.findings import Findings, select
from enaction.study.config import Study
from enaction.study.store import Run

FAMILIES = ("a", "b", "c")
# Recognition by point; at SFT own text has more entropy than others', as in the paper outside the assistant's turn.
PLANTED = {"base": 0.0, "sft": -0.2, "dpo": 0.1, "rl20": 0.4, "rl": 0.8}
EASE = {"a": 0.3, "b": 0.0, "c": -0.3}  # of the texts of a family after RL


def _study(folder: Path, **more: object) -> Study:
    (folder / "prompts.jsonl").write_text("\n".join(json.dumps({"id": f"p{i}", "prompt": str(i)}) for i in range(30)))
    models = {f"{f}-{s}": {"model": "./none", "family": f, "stage": s} for s in PLANTED for f in FAMILIES}
    models["a2-rl"] = {"model": "./none", "family": "a2", "stage": "kin"}
    models["a3-rl"] = {"model": "./none", "family": "a3", "stage": "kin"}
    return Study.model_validate(
        {"name": "s", "models": models, "prompts": str(folder / "prompts.jsonl"), "framings": ["assistant"],
         "matrices": {s: [f"{f}-{s}" for f in FAMILIES] for s in PLANTED}, "resamples": 200,
         "experiments": {"stages": {}}} | more
    )  # fmt: skip


def _entropy(reader: str, author: str, prompt: int, _: int) -> float:
    stage = author.partition("-")[2]
    rng = np.random.default_rng([prompt, *author.encode()])
    log = rng.normal(0, 0.1) - (EASE[author[0]] if stage == "rl" else 0) - (reader == author) * PLANTED[stage]
    return float(np.exp(log))


@pytest.fixture(scope="module", name="run")
def _run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("stages")
    reading = handmade.at_positions(_entropy)
    return handmade.run(_study(folder), folder / "run", reading, words=lambda *_: 3, writing=handmade.of_foxes)


@pytest.fixture(scope="module", name="findings")
def _findings(run: Run) -> Findings:
    return analyse(run.study(), run)


def test_each_point_and_each_change_is_what_was_planted(findings: Findings) -> None:
    before = None
    for point, planted in PLANTED.items():
        (found,) = select(findings, "point_recognition", family="mean", point=point)
        assert found.estimate == pytest.approx(planted, abs=0.03)
        assert found.where["order"] == list(PLANTED).index(point) + 1
        if before is not None:
            (change,) = select(findings, "change_recognition", family="mean", point=point)
            assert change.estimate == pytest.approx(planted - PLANTED[before], abs=0.03)
            assert change.where["from_point"] == before
        before = point
    (whole,) = select(findings, "whole_change_recognition", family="mean")
    assert whole.estimate == pytest.approx(PLANTED["rl"] - next(iter(PLANTED.values())), abs=0.03)
    for family, ease in EASE.items():
        (found,) = select(findings, "point_ease", family=family, point="rl")
        assert found.estimate == pytest.approx(1.5 * ease, abs=0.05)  # against the mean of the two others
    assert not select(findings, "point_ease", family="mean")
    (interaction,) = select(findings, "point_interaction", family="mean", point="rl")
    assert "log entropy" in interaction.definition
    assert "t interval" in interaction.definition


def test_the_matrix_tells_what_a_stage_changed_over_its_checkpoints(run: Run) -> None:
    """Of three models recognition is -3/2 of the interaction."""
    models = {name: spec for name, spec in run.study().models.items() if spec.stage in PLANTED}
    study = run.study().model_copy(update={"experiments": {"matrix": {}}, "models": models, "cross_stage": False})
    told = {
        (f.quantity, f.where["from_stage"], f.where["stage"]): f.estimate
        for f in analyse(study, run)
        if f.quantity.startswith("interaction_change") and f.where["reader"] == "mean"
    }
    steps = [("base", "sft"), ("sft", "dpo"), ("dpo", "rl20"), ("rl20", "rl")]
    ways = [*(("interaction_change", *step) for step in steps), ("interaction_change_over_stage", "dpo", "rl")]
    assert told == {
        (quantity, of, to): pytest.approx((PLANTED[of] - PLANTED[to]) * 2 / 3, abs=0.03) for quantity, of, to in ways
    }


def test_another_run_of_a_stage_is_compared_with_the_stage_before_it(run: Run) -> None:
    matrices = {stage: run.study().matrices[of] for stage, of in {"dpo": "dpo", "rl": "rl", "rl-b": "rl20"}.items()}
    names = {name for members in matrices.values() for name in members}
    models = {name: spec for name, spec in run.study().models.items() if name in names}
    changed = {"experiments": {"matrix": {}}, "matrices": matrices, "models": models, "cross_stage": False}
    findings = analyse(run.study().model_copy(update=changed), run)
    (change,) = select(findings, "interaction_change", stage="rl-b", reader="mean")
    assert change.where["from_stage"] == "dpo"
    assert change.estimate == pytest.approx((PLANTED["dpo"] - PLANTED["rl20"]) * 2 / 3, abs=0.03)


def test_a_branch_changes_from_the_point_that_it_leaves(run: Run) -> None:
    settings = {"points": ["base", "dpo", "rl"], "branches": {"rl20": "dpo"}}
    study = run.study().model_copy(update={"experiments": {"stages": settings}})
    findings = analyse(study, run)
    (found,) = select(findings, "branch_change_recognition")
    assert found.estimate == pytest.approx(PLANTED["rl20"] - PLANTED["dpo"], abs=0.03)
    assert (found.where["branch"], found.where["from_point"]) == ("rl20", "dpo")
    (there,) = select(findings, "branch_recognition")
    assert there.estimate == pytest.approx(PLANTED["rl20"], abs=0.03)
    (same,) = select(findings, "change_recognition", family="mean", point="dpo")
    assert same.estimate == pytest.approx(PLANTED["dpo"], abs=0.03)
    assert any(line.startswith("Branch") and "RL 20" in line for line in Stages().page(findings).sentences)
    assert [row[0] for row in Stages().page(findings).grids[0].rows] == ["base", "DPO", "RL", "RL 20"]
    for wrong, message in (({"rl20": "ppo"}, "needs to name a point"), ({"ppo": "dpo"}, "no matrix ppo")):
        with pytest.raises(StudyError, match=message):
            plan(study.model_copy(update={"experiments": {"stages": settings | {"branches": wrong}}}))


def test_the_bases_find_nothing_in_the_same_texts(findings: Findings) -> None:
    for point in list(PLANTED)[1:]:
        (found,) = select(findings, "point_interaction_of_bases", point=point)
        assert found.estimate == pytest.approx(0, abs=1e-6)


def test_where_it_appears_and_where_it_is_reversed(findings: Findings) -> None:
    (found,) = select(findings, "appears_at")
    assert found.where["point"] == "dpo"
    assert found.estimate == 3
    shares = {f.where["point"]: f.estimate for f in select(findings, "share_of_last")}
    assert shares["rl20"] == pytest.approx(0.5, abs=0.03)
    shown = Stages().page(findings)
    reversal = next(line for line in shown.sentences if line.startswith("Reversed"))
    assert "mean at SFT" in reversal
    assert "RL" not in reversal
    assert len(shown.grids[0].rows) == len(PLANTED)
    assert "stages" in shown.charts


def test_measures_are_those_of_the_matrix() -> None:
    table_SRA = np.exp(np.random.default_rng(0).normal(0, 0.5, (2, 3, 3)))
    tables = {"entropy": table_SRA, "log_entropy": np.log(table_SRA)}
    found = {measure.stem: measured(tables[measure.field], measure) for measure in MEASURES}
    np.testing.assert_allclose(found["ratio"][:, :3], stats.other_self_ratio(table_SRA))
    own_SR = np.diagonal(table_SRA, axis1=1, axis2=2)
    np.testing.assert_allclose(found["own_entropy"][:, :3], own_SR)
    np.testing.assert_allclose(found["other_entropy"][:, :3], (table_SRA.sum(axis=-1) - own_SR) / 2)
    np.testing.assert_allclose(found["recognition"] + found["ease"], found["log_ratio"])
    np.testing.assert_allclose(found["interaction"][:, 3], stats.interaction(table_SRA).mean(-1))
    np.testing.assert_allclose(found["recognition"][:, :3], stats.foreign_recognition(np.log(table_SRA)))


def test_groups_of_other_families_are_no_points_unless_they_are_asked_for(tmp_path: Path) -> None:
    study = _study(tmp_path)
    kin = {"kin": ["a2-rl", "a3-rl"]}
    beside = study.model_copy(update={"matrices": kin | study.matrices})
    assert not any("a2" in cell.author for cell in plan(beside).cells)
    for settings, message in (({"points": ["base", "kin"]}, "same families"), ({"points": ["rl"]}, "two or more"),
                              ({"points": ["ppo"]}, "no matrix ppo")):  # fmt: skip
        with pytest.raises(StudyError, match=message):
            plan(beside.model_copy(update={"experiments": {"stages": settings}}))
    chosen = plan(beside.model_copy(update={"experiments": {"stages": {"points": ["base", "rl"]}}}))
    assert {cell.author.partition("-")[2] for cell in chosen.cells} == {"base", "rl"}
