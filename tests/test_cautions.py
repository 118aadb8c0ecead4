"""Cautions: each appears where its reason is given, names what to do, and is silent otherwise."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from enaction.findings import Finding, Findings
from enaction.paper.cautions import cautions
from enaction.report.terminal import show
from enaction.study.config import Study


def a_study(families: dict[str, str], **more: object) -> Study:
    """Model -> family, all of one stage."""
    models = {name: {"model": "nowhere", "family": family} for name, family in families.items()}
    return Study.model_validate({"name": "x", "models": models, **more})


def finding(quantity: str, estimate: float, *, n: int = 72, notes: tuple[str, ...] = ()) -> Finding:
    return Finding("matrix", quantity, {"reader": "a"}, estimate, None, None, n, "", "", [*notes])


THREE = {"a": "ash", "b": "birch", "c": "cedar"}
SOUND = [
    finding("entropy", 1.0),
    finding("identity_residual", 1.5),
    finding("recognised", 1.0, notes=("certified: three witnesses agree",)),
]


def said(study: Study, findings: list[Finding]) -> list[str]:
    return [caution.sentence for caution in cautions(study, Findings(findings))]


def test_a_sound_run_has_no_caution() -> None:
    assert said(a_study(THREE), SOUND) == []


@pytest.mark.parametrize(
    ("study", "findings", "reason", "remedy"),
    [
        (a_study(THREE), [finding("entropy", 1.0, n=39)], "39 prompts", "Raise `n_prompts`"),
        (a_study({"a": "ash"}), SOUND, "one model", "Add a model"),
        (a_study({"a": "ash", "b": "birch"}), SOUND, "one number for both readers", "third family"),
        (a_study(THREE | {"d": "ash"}), SOUND, "several models of the family ash", "matrices of their own"),
        (a_study(THREE | {"d": "d"}, matrices={"x": [*THREE]}), SOUND, "d is in no matrix", "`matrices`"),
        (a_study(THREE), [*SOUND, finding("recognised", 0.0, notes=("flat: slope",))], "slope near 0", "Leave it out"),
        (a_study(THREE), [*SOUND, finding("identity_residual", -4.1)], "outside ±4", "`enaction check`"),
    ],
)
def test_each_caution_has_its_reason_and_a_remedy(
    study: Study, findings: list[Finding], reason: str, remedy: str
) -> None:
    (sentence,) = said(study, findings)
    assert reason in sentence
    assert remedy in sentence


def test_kin_and_judges_that_an_experiment_names_need_no_matrix() -> None:
    models = THREE | {"kin": "ash"}
    named = {"matrix": {}, "controls": {"kin": {"a": ["kin"]}}}
    assert said(a_study(models, matrices={"x": [*THREE]}, experiments=named), SOUND) == []


def test_cautions_are_printed_before_the_pages() -> None:
    console = Console(file=io.StringIO(), width=200, record=True)
    few = cautions(a_study(THREE), Findings([finding("entropy", 1.0, n=12)]))
    show({}, console, cautions=few)
    assert console.export_text().startswith("Caution: This run has 12 prompts")
