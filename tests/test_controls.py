"""Each arm of the controls gives back what was planted, and the pipeline does what the plan says on tiny models."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import handmade
import numpy as np
import pytest
import tiny
import yaml

from enaction.errors import StudyError
from enaction.experiments import analyse, plan
from enaction.experiments.controls import Controls
from enaction.experiments.controls.page import outcome_of
from enaction.experiments.controls.texts import settings_of
from enaction.findings import Finding, Findings, select
from enaction.running import load_study, run_study
from enaction.study.config import Study
from enaction.study.store import Run

FAMILIES = ("a", "b", "c")
PLANTED = 0.8
# How much of the planted recognition a reader has for its own text so changed.
LEFT = {"": 1.0, ".again": 1.0, ".T0": 1.2, ".T0.5": 1.1, ".T0.7": 1.1, ".T1.5": 0.4, ".p0.9": 1.0, ".moved": 0.9,
        ".plain": 0.8, ".shuffled": 0.1, ".recombined": 1.0, ".anew": 1.0}  # fmt: skip
KIN = 0.6  # of the planted recognition for the near-clone's text


def _study(folder: Path, **more: object) -> Study:
    prompts = [{"id": f"p{i}", "prompt": f"tell me a story {i}"} for i in range(30)]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    texts = [{"id": str(i), "prompt": "x", "response": "the old fox " * 4, "author": "all"} for i in range(3)]
    (folder / "heart.jsonl").write_text("\n".join(map(json.dumps, texts)))
    answers = [p | {"prompt_id": p["id"], "response": "a bird " * 6, "author": "people"} for p in prompts]
    (folder / "human.jsonl").write_text("\n".join(map(json.dumps, answers)))
    (folder / "synonyms.json").write_text(json.dumps({"fox": "bird"}))
    settings = {"kin": {"a-rl": ["a2-rl"]}, "human": str(folder / "human.jsonl"),
                "memorised": str(folder / "heart.jsonl"), "synonyms": str(folder / "synonyms.json")}  # fmt: skip
    models = {f"{f}-{s}": {"model": f"./{f}-{s}", "family": f, "stage": s} for s in ("base", "rl") for f in FAMILIES}
    return Study.model_validate(
        {
            "name": "planted",
            "models": models | {"a2-rl": {"model": "./a2-rl", "family": "a", "stage": "kin"}},
            "prompts": str(folder / "prompts.jsonl"),
            "sampling": {"per_prompt": 1},
            "framings": ["assistant"],
            "resamples": 200,
            "experiments": {"controls": settings},
        }
        | more
    )


def _noise(*what: object, scale: float) -> float:
    """A number of its own for each thing, the same at each call."""
    return float(np.random.default_rng(zlib.crc32(repr(what).encode())).normal(0, scale))


def _entropy(reader: str, author: str, prompt: int, position: int) -> float:
    """Main effects of reader, text and position, and what is planted."""
    model, ending = next(
        (m, author[len(m) :]) for m in (*[f"{f}-rl" for f in FAMILIES], author) if author.startswith(m)
    )
    log = (
        _noise(reader, scale=0.3) + _noise(author, scale=0.3) + _noise(author, prompt, scale=0.2) + 0.3 * (position < 4)
    )
    if author == "memorised":
        log -= PLANTED  # as familiar to everybody as own text to its author
    if model == reader:
        log -= PLANTED * LEFT[ending]
    if (reader, author) == ("a-rl", "a2-rl"):
        log -= PLANTED * KIN
    return float(np.exp(log))


def _run(study: Study, folder: Path) -> Run:
    return handmade.run(
        study, folder, handmade.at_positions(_entropy), writing=handmade.of_foxes,
        words=lambda author, prompt: 3 + (zlib.crc32(author.encode()) + int(prompt[1:])) % 9,
    )  # fmt: skip


@pytest.fixture(scope="module", name="findings")
def _findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    folder = tmp_path_factory.mktemp("planted")
    study = _study(folder)
    run = _run(study, folder / "run")
    return analyse(study, run)


def _mean(findings: Findings, quantity: str, arm: str, **more: str) -> float:
    (found,) = select(findings, quantity, arm=arm, reader="mean", **more)
    assert found.estimate is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.estimate <= found.high
    return found.estimate


# Noise of single texts is shared by all readers, but means of entropies and not of their logarithms are compared.
NEAR = 0.04


def test_tables_give_back_the_planted_recognition(findings: Findings) -> None:
    assert _mean(findings, "arm_recognition", "reference") == pytest.approx(PLANTED, abs=NEAR)
    for arm, setting, ending in (
        ("sampling, all authors", "T0", ".T0"), ("sampling, all authors", "T1.5", ".T1.5"),
        ("off topic, all authors", None, ".moved"), ("one word for synonyms", None, ".plain"),
        ("shuffled words", None, ".shuffled"),
    ):  # fmt: skip
        place = {"setting": setting} if setting else {}
        assert _mean(findings, "arm_recognition", arm, **place) == pytest.approx(PLANTED * LEFT[ending], abs=NEAR)
        assert _mean(findings, "arm_share", arm, **place) == pytest.approx(LEFT[ending], abs=NEAR)
    assert _mean(findings, "arm_recognition", "length") == pytest.approx(PLANTED, abs=NEAR)


def test_contrasts_give_back_what_is_between_own_and_the_other_text(findings: Findings) -> None:
    for arm, setting, left in (
        ("itself again", None, 0.0), ("kin", "a2-rl", 1 - KIN), ("people or the world", "human", 1.0),
        ("memorised", None, 1.0), ("sampling, own text only", "T1.5", 0.4), ("off topic, own text only", None, 0.9),
        ("off topic, foreign text only", None, 1.0),
    ):  # fmt: skip
        place = {"setting": setting} if setting else {}
        assert _mean(findings, "arm_recognition", arm, **place) == pytest.approx(PLANTED * left, abs=NEAR)


def test_a_stranger_taken_for_the_author_leaves_nothing_and_equal_difficulty_leaves_all(
    findings: Findings,
) -> None:
    # Readers differ in nothing but recognition and a constant, so equal base entropy is an equal text.
    assert _mean(findings, "arm_recognition", "equal difficulty") == pytest.approx(PLANTED, abs=0.1)
    assert _mean(findings, "arm_recognition", "equal difficulty, another author for own") == pytest.approx(0, abs=0.1)
    for half in ("easy half", "difficult half"):
        assert _mean(findings, "arm_recognition", half) == pytest.approx(PLANTED, abs=0.15)
    off = select(findings, "off_support", arm="equal difficulty")[0].estimate
    assert off is not None
    assert 0 <= off < 0.5


@pytest.mark.parametrize("judge", ["outsider", "c-rl"])
def test_a_judge_stands_in_for_bases_that_are_not_there(judge: str, tmp_path: Path) -> None:
    readers = {f"{f}-rl": {"model": "x", "family": f, "stage": "rl"} for f in FAMILIES}
    study = _study(
        tmp_path,
        models=readers | {"outsider": {"model": "x", "family": "outsider", "stage": "kin"}},
        matrices={"rl": list(readers)},
        experiments={"controls": {"judge": judge}},
    )
    run = _run(study, tmp_path / "run")
    findings = analyse(study, run)
    found = select(findings, "arm_recognition", arm="equal difficulty")
    assert {f.where["reader"] for f in found} == {*readers, "mean"} - {judge}
    # A judge that knows its own text finds it easier than others do, so that harder text is held against the others'.
    assert PLANTED - 0.12 < _mean(findings, "arm_recognition", "equal difficulty") < PLANTED + 0.12
    assert [any("judges its own text" in note for note in f.notes) for f in found] == [judge == "c-rl"] * len(found)


def test_the_page_says_what_survives(findings: Findings) -> None:
    shown = Controls().page(findings)
    verdicts = {row[0].text: row[-1].text for row in shown.grids[0].cells}
    assert verdicts["reference"] == "there"
    assert verdicts["sampling, all authors: T0"] == "survives"
    assert verdicts["sampling, all authors: T1.5"] == "weakened"
    assert verdicts["shuffled words"] == "weakened"
    assert verdicts["itself again"] == "nothing left, as it must be"
    assert all(len(row) == len(shown.grids[0].header) for row in shown.grids[0].rows)
    assert "controls" in shown.charts
    assert any("known by heart" in line for line in shown.sentences)
    (hot,) = shown.select("arm_recognition", arm="sampling, all authors", setting="T1.5")
    assert (hot.verdict, hot.outcome) == ("effect", "weakened")
    (again,) = shown.select("arm_recognition", arm="itself again")
    assert (again.verdict, again.outcome) == ("no effect", "nothing left")


@pytest.mark.parametrize(
    ("low", "high", "share", "said"),
    [
        (0.1, 0.3, 0.7, "survives"),
        (0.1, 0.3, 0.4, "weakened"),
        (-0.1, 0.3, 0.7, "gone"),
        (-0.2, -0.1, -1.0, "reversed"),
    ],
)
def test_the_verdict_follows_the_rule(low: float, high: float, share: float, said: str) -> None:
    def finding(estimate: float, low: float | None, high: float | None) -> Finding:
        return Finding("controls", "x", {"arm": "length"}, estimate, low, high, 9, "log units", "a test")

    assert outcome_of(finding((low + high) / 2, low, high), finding(share, None, None)).words == said
    assert outcome_of(finding(0.0, None, None), None).words == "left out"


@pytest.mark.parametrize(("low", "said"), [(-0.1, "nothing left"), (1e-16, "nothing left"), (0.01, "something left")])
def test_a_null_is_one_up_to_rounding(low: float, said: str) -> None:
    arm = Finding("controls", "x", {"arm": "itself again"}, 0.02, low, 0.1, 9, "log units", "a test")
    assert outcome_of(arm, None).name == said


def test_settings_that_are_the_studys_own_are_not_sampled_twice(tmp_path: Path) -> None:
    study = _study(tmp_path)
    assert [(s.temperature, s.top_p) for s in settings_of(study, (0.0, 1.0), (0.9, 1.0))] == [(0.0, 1.0), (1.0, 0.9)]
    names = set(plan(study).texts)
    assert {"a-rl.T0", "b-rl.T0.5", "c-rl.p0.9", "a-rl.again", "b-rl.moved", "memorised", "human"} <= names
    assert not any(name.startswith("a2-rl.") for name in names)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kin": {"a-rl": ["a9-rl"]}}, "kin: a9-rl"),
        ({"stage": "dpo"}, "no matrix 'dpo'"),
        ({"judge": "nobody"}, "judge: nobody"),
        ({"human": "heart.jsonl"}, "no passage"),
        ({"synonyms": "human.jsonl"}, "synonyms"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], message: str, tmp_path: Path) -> None:
    _study(tmp_path)
    given = {k: str(tmp_path / v) if isinstance(v, str) and v.endswith("jsonl") else v for k, v in settings.items()}
    with pytest.raises(StudyError, match=message):
        plan(_study(tmp_path, experiments={"controls": given}))


def test_tiny_models_go_through_all_arms_without_recognition(tmp_path: Path) -> None:
    tokenizers = {"a": tiny.word_tokenizer(), "b": tiny.byte_tokenizer()}
    for family, build in (("a", tiny.llama), ("b", tiny.neox)):
        for seed, stage in enumerate(("base", "rl")):
            build(len(tokenizers[family]), seed=seed).save_pretrained(tmp_path / f"{family}-{stage}")
            tokenizers[family].save_pretrained(tmp_path / f"{family}-{stage}")
    (tmp_path / "b-base" / "chat_template.jinja").unlink()
    prompts = ["tell me a story", "what is it", "why", "tell me about the fox", "how was the old house", "in the night"]
    (tmp_path / "prompts.jsonl").write_text(
        "\n".join(json.dumps({"id": f"p{i}", "prompt": text}) for i, text in enumerate(prompts))
    )
    models = {f"{f}-{s}": {"model": f"./{f}-{s}", "family": f, "stage": s} for s in ("base", "rl") for f in ("a", "b")}
    study = {
        "name": "tiny", "models": models, "prompts": "prompts.jsonl", "framings": ["assistant"], "resamples": 100,
        "sampling": {"per_prompt": 2, "max_new_tokens": 16}, "experiments": {"controls": {"temperatures": [0, 2]}},
    }  # fmt: skip
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    run = run_study(load_study(tmp_path / "study.yaml"), tmp_path / "run")
    findings = analyse(run.study(), run)
    own, moved = ({p.prompt_id: p for p in run.passages(name)} for name in ("a-rl", "a-rl.moved"))
    assert (
        moved["p3"].response
        == next(p for p in run.passages("a-rl") if p.id == moved["p3"].id.split("/", 1)[1]).response
    )
    assert moved["p3"].prompt == own["p3"].prompt
    assert moved["p3"].marks["answers"] == "p0"
    for before, after in zip(run.passages("b-rl"), run.passages("b-rl.shuffled"), strict=True):
        assert sorted(before.response.split()) == sorted(after.response.split())
        assert after.token_ids is None
    greedy = run.passages("a-rl.T0")
    assert {p.response for p in greedy if p.prompt_id == "p1"} == {greedy[2].response}
    left_out = {f.where["arm"] for f in select(findings, "arm_recognition") if f.estimate is None}
    assert left_out == {"imitation", "kin", "memorised", "people or the world", "one word for synonyms"}
    # Two models have one number of recognition, which is nobody's own.
    assert [f.where["reader"] for f in select(findings, "arm_recognition", arm="reference")] == ["mean"]
    place = {"arm": "imitation", "setting": "own sentences"}
    assert [f.where["reader"] for f in select(findings, "imitation_recognition", **place)] == ["mean"]
    assert [f.where["reader"] for f in select(findings, "arm_recognition", **place)] == ["a-rl", "b-rl", "mean"]
    recombined = run.passages("b-rl.recombined")
    assert len(recombined) == len(run.passages("b-rl")) == 2 * len(prompts)
    assert all(passage.token_ids is None and passage.response for passage in recombined)
    for f in select(findings, "arm_recognition", reader="mean"):
        assert f.estimate is None or abs(f.estimate) < 0.4, f.where
    assert Controls().page(findings).grids
