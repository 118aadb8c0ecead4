"""Study files: short forms, defaults, and sentences with cause and remedy for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from enaction.errors import StudyError
from enaction.running import load_study
from enaction.study.config import Study
from enaction.study.growth import obstacles, only_experiments_were_added

ONE = {"name": "x", "models": {"m": "zoo:ash-rl"}}


def test_a_name_alone_is_a_model_and_its_own_family() -> None:
    study = Study.model_validate({"name": "x", "models": {"a": "org/a", "b": {"model": "org/b", "family": "f"}}})
    long = {"a": {"model": "org/a", "family": "a", "stage": "model"}, "b": {"model": "org/b", "family": "f"}}
    assert study == Study.model_validate({"name": "x", "models": long})
    assert study.groups() == {"model": ["a", "b"]}
    assert Study.model_validate(study.model_dump(mode="json")) == study


def test_dtypes_have_short_names_and_the_study_keeps_the_long_one() -> None:
    models = {name: {"model": "m", "dtype": name} for name in ("bf16", "fp16", "fp32", "auto", "bfloat16")}
    study = Study.model_validate({"name": "x", "models": models})
    assert [spec.dtype for spec in study.models.values()] == ["bfloat16", "float16", "float32", "auto", "bfloat16"]
    assert {spec.device for spec in study.models.values()} == {"auto"}


def test_prompts_of_a_study_come_from_any_file(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("frage,antwort\nwhy,so\nhow,thus\n")
    study = {**ONE, "prompts": "./p.csv", "prompt_column": "frage"}
    (tmp_path / "s.yaml").write_text(json.dumps(study))
    prompts = load_study(tmp_path / "s.yaml").load_prompts()
    assert [p.messages[0]["content"] for p in prompts] == ["why", "how"]


def test_a_run_resumes_on_another_device_and_not_with_another_dtype() -> None:
    def study(**more: str) -> Study:
        return Study.model_validate({"name": "x", "models": {"m": {"model": "org/m", **more}}})

    assert only_experiments_were_added(study(device="cuda"), study(device="cpu"))
    assert not list(obstacles(study(device="cuda"), study(device="cpu")))
    assert not only_experiments_were_added(study(dtype="bf16"), study())
    assert list(obstacles(study(dtype="bf16"), study())) == ["models.m.dtype is bfloat16 there and float32 here"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"promts": "p.jsonl"}, r"promts: there is no such key. Did you mean 'prompts'\? The keys are name, models, "),
        ({"model": {}}, r"model: there is no such key. Did you mean 'models'\?"),
        ({"colour": 1}, r"colour: there is no such key. The keys are name"),
        ({"models": {"m": {"model": "a", "templates": "t"}}}, r"models.m.templates: .* The keys are model, family, "),
        ({"models": {"m": {"model": "a", "d_type": "t"}}}, r"models.m.d_type: .* Did you mean 'dtype'\?"),
        ({"sampling": {"max_tokens": 5}}, r"sampling.max_tokens: .* Did you mean 'max_new_tokens'\?"),
        ({"models": {"m": {"family": "f"}}}, r"models.m.model: this key is missing"),
        ({"models": {"m": {"model": "a", "dtype": "floot16"}}}, r"there is no 'floot16'. Did you mean 'float16'\?"),
        ({"models": {"m": {"model": "a", "dtype": 16}}}, r"models.m.dtype: there is no 16. Use one of float32, bfloat"),
        ({"models": {"m": {"model": "a", "device": "gpu"}}}, r"models.m.device: there is no device 'gpu': use auto, c"),
        ({"models": {1: "zoo:ash-rl"}}, r"models.1: a name must be text; put it in quotes"),
        ({"models": ["zoo:ash-rl"]}, r"models: give each model a name, as in \{llama: meta-llama"),
        ({"models": {"m": 5}}, r"models.m: is 5, and must be a mapping"),
        ({"name": 7}, r"name: is 7, and must be text; put it in quotes"),
        ({"n_prompts": 1}, r"n_prompts: must be at least 2, and is 1"),
        ({"n_prompts": "all"}, r"n_prompts: is 'all', and must be a whole number"),
        ({"sampling": {"top_p": 0}}, r"sampling.top_p: must be greater than 0, and is 0"),
        ({"sampling": "hot"}, r"sampling: is 'hot', and must be a mapping"),
        ({"cross_stage": "perhaps"}, r"cross_stage: is 'perhaps', and must be true or false"),
        ({"framings": "assistant"}, r"framings: is 'assistant', and must be a list"),
        ({"framings": ["asistant"]}, r"framings.0: there is no 'asistant'. Did you mean 'assistant'\? Use one of"),
        ({"experiments": {"stagess": {}}}, r"there is no experiment 'stagess'. Did you mean 'stages'\? There are matr"),
        ({"experiments": {"persona": {"stege": "rl"}}}, r"experiment persona: stege: there is no .* mean 'stages'\?"),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_a_sentence_with_its_remedy(change: dict, words: str, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(ONE | change))
    with pytest.raises(StudyError, match=words) as caught:
        load_study(tmp_path / "s.yaml")
    message = str(caught.value)
    assert "\n" not in message
    assert not any(word in message for word in ("Input should be", "Value error", "Extra inputs", "Field required"))
