"""The study files for real families: they load, they are of one piece, and they run with embedded models in place of
ids that could not be looked up."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import families
import pytest
import tiny

from enaction import zoo
from enaction.experiments import analyse
from enaction.findings import select
from enaction.framing import frame, frame_prompt
from enaction.passages import read_prompts
from enaction.running import load_study, run_study
from enaction.study.config import Study

STUDIES = Path(__file__).parents[1] / "studies"
FILES = sorted((STUDIES / "families").glob("*.yaml"))
PROMPTS = STUDIES / "prompts" / "families.jsonl"
CATEGORIES = ("open", "factual", "creative", "advice", "code", "maths", "list", "roleplay")
each_file = pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])


def test_the_prompts_are_many_in_each_category_and_unlike() -> None:
    prompts = read_prompts(PROMPTS)
    assert len(prompts) >= 200
    counts = Counter(p.id.rpartition("-")[0] for p in prompts)
    assert set(counts) == set(CATEGORIES)
    assert min(counts.values()) >= 25
    everyday = {p.messages[0]["content"] for p in read_prompts(STUDIES / "prompts" / "everyday.jsonl")}
    texts = [p.messages[-1]["content"] for p in prompts]
    assert not everyday & set(texts)
    words = [set(re.findall(r"\w+", text.lower())) for text in texts]
    for (i, one), (j, two) in combinations(enumerate(words), 2):
        # Some share a frame ("list five ..."); what they ask about may not be the same.
        assert len(one & two) / len(one | two) < 0.6, (texts[i], texts[j])


@each_file
def test_a_study_file_loads_and_says_what_was_not_checked(path: Path) -> None:
    study = load_study(path)
    assert "COULD NOT BE CHECKED" in path.read_text()
    assert study.prompts == str(PROMPTS)
    assert len(study.load_prompts()) >= 200
    assert len({spec.model for spec in study.models.values()}) == len(study.models)
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+", spec.model) for spec in study.models.values())
    for members in study.groups().values():
        assert len({study.models[name].family for name in members}) == len(members) >= 3
    for spec in study.models.values():
        # A base checkpoint has no template that it was trained with, whatever its tokenizer says.
        assert (spec.framing == "none") == (spec.stage == "base")
        assert spec.chat_template is None or spec.chat_template.is_file()


def test_all_families_that_are_promised_are_there() -> None:
    found = {spec.family for path in FILES for spec in load_study(path).models.values()}
    assert found == {"olmo3", "llama31", "qwen25", "qwen3", "gemma2", "gemma3"}


def with_embedded_models(study: Study) -> Study:
    """The study with embedded models in place of its own, a base for a base, and little to do."""
    bases = [name for name in zoo.names() if zoo.stage(name) == "base"]
    others = [name for name in zoo.names() if zoo.stage(name) != "base"]
    models = {}
    for i, (name, spec) in enumerate(study.models.items()):
        stand_in = (bases if spec.stage == "base" else others)[i % len(bases)]
        changed = {"model": f"zoo:{stand_in}", "chat_template": None, "device": "cpu"}
        models[name] = spec.model_copy(update=changed)
    sampling = study.sampling.model_copy(update={"per_prompt": 1, "max_new_tokens": 10})
    # To everyday questions an embedded base may say nothing at all.
    changed = {"models": models, "prompts": "zoo", "n_prompts": 4, "sampling": sampling, "resamples": 100}
    return study.model_copy(update=changed)


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=p.stem, marks=[pytest.mark.slow] * (p.stem != "stages")) for p in FILES]
)
def test_a_study_runs_with_embedded_models_in_place(path: Path, tmp_path: Path) -> None:
    study = with_embedded_models(load_study(path))
    everything = analyse(study, run_study(study, tmp_path / "run"))
    assert {f.experiment for f in everything} == set(study.experiments)
    findings = [f for f in everything if f.experiment == "matrix"]
    for stage, members in study.groups().items():
        for framing in study.framings:
            for reader in [*members, "mean"]:
                (found,) = select(findings, "interaction", stage=stage, reader=reader, framing=framing)
                assert found.estimate is not None
    assert len(select(findings, "identity_residual")) == len(study.models)


def test_qwen_3_without_thinking_is_asked_and_read_behind_an_empty_block_of_thoughts() -> None:
    tokenizer = families.byte_level(families.FAMILIES["qwen 3"], bos=False)
    tokenizer.chat_template = (STUDIES / "families" / "qwen3-plain.jinja").read_text()
    context = frame_prompt(tokenizer, tiny.prompt("why"), "assistant").ids
    assert tokenizer.decode(list(context)) == (
        "<|im_start|>user\nwhy<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    framed = frame(tokenizer, tiny.passage("the fox", "why"), "assistant")
    assert tokenizer.decode(list(framed.ids[: framed.start])) == tokenizer.decode(list(context))
    assert tokenizer.decode(list(framed.ids[framed.start :])) == "the fox<|im_end|>"
