"""Names, files and ends that would do harm: each is refused in one line, found and mended, or leaves nothing behind."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest

from enaction.errors import StudyError
from enaction.experiments import plan
from enaction.passages import Sampling
from enaction.study.config import Study, study_of
from enaction.study.names import LONGEST, suggestion
from enaction.study.planning import Plan, Sampled, merged


def _study(**changes: Any) -> dict[str, Any]:
    return {"name": "s", "models": {"a": {"model": "zoo:ash-rl", "family": "f"}}} | changes


def _models(*names: str) -> dict[str, Any]:
    return _study(models={name: {"model": "zoo:ash-rl", "family": "f"} for name in names})


BAD = [
    "", "-b", "a-", "a--b", ".a", "a.", "a..b", "..", "../x", "/x", "a/b", "a\\b", "a b", "a\0b", "a\n", "\x1b[31mred",
    "\u202eabc", "\u2066a\u2069", "cost$}$", "$_$", "a<b>", "a\uffff", "a:b", "x" * (LONGEST + 1), "\ud800",
    unicodedata.normalize("NFD", "é"),
]  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("given", [lambda name: _study(name=name), _models,
                                   lambda name: _study(models={"a": {"model": "m", "family": "f", "stage": name}}),
                                   lambda name: _study(models={"a": {"model": "m", "family": name}}),
                                   lambda name: _models("a", "b") | {"matrices": {name: ["a", "b"]}}])  # fmt: skip
def test_a_name_that_is_more_than_a_name_is_refused_in_plain_letters_with_one_that_can_be_given(
    name: str, given: Any
) -> None:
    with pytest.raises(StudyError, match="cannot name a") as caught:
        study_of(given(name), "study.yaml")
    assert str(caught.value).isprintable()
    assert study_of(given(suggestion(name)), "study.yaml")


@pytest.mark.parametrize("name", ["world", "mean", "Mean", "human", "memorised", "x.again", "x.T0.5", "x.as-pirate",
                                  "a.moved.plain"])  # fmt: skip
def test_names_of_what_is_no_model_are_refused(name: str) -> None:
    with pytest.raises(StudyError, match="cannot name a model"):
        study_of(_models(name), "study.yaml")


@pytest.mark.parametrize("name", ["ash-rl", "actor-1.30", "llama-3.2", "qwen2.5-0.5b", "Modèle_7", "模型"])
def test_names_that_models_have_are_taken(name: str) -> None:
    assert list(study_of(_models(name), "study.yaml").models) == [name]


@pytest.mark.parametrize("names", [("a", "A"), ("straße", "STRASSE"), ("É", "é")])
def test_names_that_some_disk_takes_for_one_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(StudyError, match="one file"):
        study_of(_models(*names), "study.yaml")


def test_a_plan_never_has_two_texts_of_one_file() -> None:
    def of(name: str, temperature: float) -> Plan:
        return Plan(
            {name: Sampled(name=name, model="a", count=2, sampling=Sampling(temperature=temperature))}, []
        )  # fmt: skip

    assert len(merged([of("x", 1), of("x", 1), of("y", 1)]).texts) == 2
    with pytest.raises(StudyError, match="two different texts would be called 'x'"):
        merged([of("x", 1), of("x", 0.5)])
    with pytest.raises(StudyError, match="one file"):
        merged([of("x", 1), of("X", 1)])


def test_a_derived_text_never_takes_the_place_of_a_models_own() -> None:
    models = {name: {"model": "zoo:ash-rl", "family": "f", "stage": "rl"} for name in ("x", "y")}
    study = Study.model_validate(_study(models=models, experiments={"controls": {}}))
    derived = next(name for name in plan(study).texts if name.startswith("x."))
    spec = study.models["x"]
    clash = study.model_copy(update={"models": {**study.models, derived: spec}})  # past the study file's own check
    with pytest.raises(StudyError, match="two different texts"):
        plan(clash)
