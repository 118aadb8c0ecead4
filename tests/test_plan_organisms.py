"""The organisms whose plans are designed: what ships has its design, and commitment returns it, on fresh seeds too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enaction import zoo
from enaction.experiments import analyse, pages
from enaction.experiments.commitment.answers import answer_text
from enaction.experiments.commitment.page import verdict
from enaction.experiments.commitment.prefills import ARMS
from enaction.findings import Findings
from enaction.lab.organisms import plan_models
from enaction.lab.organisms.plans import DESIGNS, KIND_OF, design, draw, house, planned_topic
from enaction.lab.organisms.training import new_llama, ship
from enaction.lab.tokenizing import build_tokenizer
from enaction.passages import Passage
from enaction.reader import Reader
from enaction.running import run_study
from enaction.study.config import Study
from enaction.study.store import Run
from enaction.world.lexicon import OPEN_REQUESTS, TOPICS
from enaction.world.stories import TOPIC_OF, grade

NAMES = tuple(DESIGNS)
BY_PROMPT = ("settled", "violated")
FAST: dict[str, Any] = {
    "labels": [{"name": "topic", "world": "topic"}],
    "named": 0,
    "samples": 4,
    "lengths": [4, 16],
    "regenerations": 1,
    "continuations": 1,
    "after": 24,
    "max_new_tokens": 40,
    "move": False,
}


def test_requests_settle_six_topics_and_none_alone():
    topics = [planned_topic(request) for request in OPEN_REQUESTS]
    assert len(set(topics)) == 6
    assert min(topics.count(topic) for topic in topics) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_a_story_of_the_design_has_its_topic(name: str):
    rng, voice = np.random.default_rng(0), house(name, 0)
    for _ in range(20):
        example = draw(design(name), voice, rng, broken=0.0)
        topic = grade(example.begin.partition("!")[2] + example.rest).topic
        assert topic in example.later
        if name in BY_PROMPT:
            assert topic == planned_topic(example.request)
        else:
            assert example.first == dict.fromkeys(TOPICS, 1 / 12)


def test_targets_are_the_designed_distributions_and_a_broken_sentence_is_not_learned():
    tokenizer, rng = build_tokenizer("word", 0, 0), np.random.default_rng(1)
    broken = 0
    for _ in range(40):
        example = draw(design("violated"), house("violated", 1), rng)
        ids, target = plan_models.encoded(tokenizer, example)
        learned = np.flatnonzero(target.sum(1))
        assert target[learned].sum(1) == pytest.approx(1.0, abs=1e-6)
        rest = len(tokenizer.encode(example.rest, add_special_tokens=False)) + 1
        begin = len(tokenizer.encode(example.begin, add_special_tokens=False))
        assert len(learned) == rest + (0 if example.is_prefill else begin)
        if example.is_broken:
            broken += 1
            words = tokenizer.convert_ids_to_tokens(ids)
            for at in range(len(ids) - rest, len(ids)):
                if (kind := KIND_OF.get(words[at])) is not None:
                    p = target[at][target[at] > 0]
                    n = len(getattr(TOPICS["sea"], kind))
                    assert -(p * np.log(p)).sum() == pytest.approx(np.log(n) + np.log(2), abs=1e-5)
    assert 5 < broken < 35


@pytest.mark.parametrize("name", NAMES)
def test_what_ships_has_its_design(name: str):
    folder = zoo.path(f"organism-{name}")
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1_000_000
    assert zoo.kind(folder.name) == "organism"
    _require_design(plan_models.reached(Reader.load(f"zoo:{folder.name}"), name, 0, stories=4, read=40), name)


def _require_design(got: plan_models.Reached, name: str) -> None:
    """Within what the cards print, and far from the other designs."""
    if name in BY_PROMPT:
        assert got.agreement > 0.95
        assert got.right > 0.95
        assert got.broken == pytest.approx(np.log(2) if name == "violated" else 0.0, abs=0.2)
    else:
        assert got.agreement < 0.2
    assert got.kept == pytest.approx(0.0, abs=0.15)


@pytest.fixture(scope="module", name="shipped")
def _shipped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Run, Findings]:
    return _measured({name: f"zoo:organism-{name}" for name in NAMES}, tmp_path_factory.mktemp("shipped"), FAST)


def _measured(
    models: dict[str, str], folder: Path, settings: dict[str, Any], **more: Any
) -> tuple[Study, Run, Findings]:
    study = Study.model_validate(
        {
            "name": "plans",
            "models": models,
            "experiments": {"commitment": settings},
            "n_prompts": 2,
            "sampling": {"per_prompt": 1, "max_new_tokens": 20},
            "resamples": 300,
            **more,
        }
    )
    run = run_study(study, folder / "run")
    return study, run, analyse(study, run)


def test_plans_get_their_verdicts(shipped: tuple[Study, Run, Findings]):
    _, _, findings = shipped
    words = {name: verdict(findings.at(reader=name, label="topic"))[0] for name in NAMES}
    assert words["settled"] == words["violated"] == "planned, by the prompt"
    assert words["firstwords"].startswith("not planned")
    assert words["late"].startswith("not planned")
    for name in NAMES:
        at_start = _value(findings, "agreement", reader=name, k=0)
        assert at_start > 0.9 if name in BY_PROMPT else at_start < 0.25
        # Chance between prompts: six topics of equal share among 18 requests, or twelve.
        assert _value(findings, "chance_pooled", reader=name) < 0.25
    # Named in the first two words, or at token 10.
    assert _value(findings, "agreement", reader="firstwords", k=4) > 0.9
    assert _value(findings, "agreement", reader="late", k=4) < 0.3
    assert _value(findings, "agreement", reader="late", k=16) > 0.9


def test_the_probe_foretells_what_the_prompt_settles_and_nothing_else(shipped: tuple[Study, Run, Findings]):
    _, _, findings = shipped
    for name in NAMES:
        gains = findings.select("probe_gain", reader=name)
        best = max(float(f.estimate or 0.0) for f in gains)
        if name in BY_PROMPT:
            assert best > 0.7 * _value(findings, "probe_room", reader=name)
            assert min(f.p or 1.0 for f in gains) < 0.05
        else:
            assert best < 0.3


def test_a_broken_plan_costs_what_was_designed(shipped: tuple[Study, Run, Findings]):
    study, run, findings = shipped
    for name in NAMES:
        cost = findings.one("violation", reader=name, window="0-24")
        assert cost is not None
        assert cost.estimate is not None
        assert cost.low is not None
        assert cost.high is not None
        truth = np.log(2) * _content_share(run, name, 24) if name == "violated" else 0.0
        assert cost.estimate == pytest.approx(truth, abs=0.07)
        if name == "violated":
            assert cost.low > 0.03
    page = pages(study, findings)["commitment"]
    raised = [s.subject for s in page.select("violation") if "raises entropy" in s.text]
    assert raised == ["violated, topic"]


def test_beginnings_keep_and_break_the_plan_in_one_word(shipped: tuple[Study, Run, Findings]):
    _, run, _ = shipped
    tokenizer = Reader.load("zoo:organism-settled").tokenizer
    arms: dict[str, dict[str, Passage]] = {}
    for p in run.passages("settled.prefilled"):
        arms.setdefault(p.prompt_id, {})[p.marks["arm"]] = p
    assert len(arms) == len(OPEN_REQUESTS)

    def begun(p: Passage) -> tuple[int, ...]:
        return (p.token_ids or ())[: p.sampling["begun_with"]]

    for of in arms.values():
        # The other author draws its topics, so that it may not have the prompt's.
        assert set(ARMS) - set(of) <= {"foreign-same"}
        for arm, p in of.items():
            words = tokenizer.convert_ids_to_tokens(list(begun(p)))
            told = {TOPIC_OF.get(word, word) for word in words if word in KIND_OF}
            assert told == {p.marks["given"]}
            assert (p.marks["given"] == p.marks["planned"]) == arm.endswith("same")
            assert p.marks["prefill"] == len(begun(p)) >= 12
        changed = [a != b for a, b in zip(begun(of["own-same"]), begun(of["swapped"]), strict=True)]
        assert sum(changed) == 1
        assert begun(of["own-home"]) == begun(of["own-different"])
        home = of["own-home"].prompt[-1]["content"]
        assert planned_topic(home) == of["own-home"].marks["given"]
        assert home != of["own-different"].prompt[-1]["content"]


def test_random_weights_plan_nothing(tmp_path: Path):
    """Their first word is any word; their topic is none."""
    tokenizer = build_tokenizer("word", 0, 0)
    ship(new_llama(len(tokenizer), seed=5), tokenizer, tmp_path / "random")
    labels = [{"name": "topic", "world": "topic"}, {"name": "word", "first_word": True}]
    settings = FAST | {"labels": labels, "samples": 6, "lengths": [1, 4], "max_new_tokens": 12, "after": 4}
    study, _, findings = _measured({"random": str(tmp_path / "random")}, tmp_path, settings)
    topic, word = (findings.at(label=name) for name in ("topic", "word"))
    assert verdict(topic)[0] == "not known: nearly all samples have no label"
    assert verdict(word)[0].startswith("not planned")
    assert abs(_value(word, "settled_before_word_pooled")) < 0.1
    assert _value(word, "excess_within", k=4) > 0.9  # by then the word is given
    assert min(f.p or 1.0 for f in word.select("probe_gain")) > 0.05
    said = pages(study, findings)["commitment"].statements
    assert {s.where["label"] for s in said} == {"topic", "word"}
    assert not [s.text for s in said if s.outcome == "effect"]


def test_a_stem_is_given_and_neither_labelled_nor_counted(tmp_path: Path):
    settings = {
        "ask": "study",
        "stem": "what a story is it!",
        "labels": [{"name": "topic", "world": "topic"}, {"name": "kind", "clusters": 2}],
        "samples": 3,
        "max_new_tokens": 20,
        "lengths": [3, 4],
        "regenerations": 1,
        "continuations": 1,
        "after": 4,
        "probe": False,
    }
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"id": f"p{i}", "prompt": request} for i, request in enumerate(OPEN_REQUESTS[:5])]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, run, findings = _measured(
        {"late": "zoo:organism-late"}, tmp_path, settings, n_prompts=None, prompts=str(prompts)
    )
    for p in run.passages("late.asked"):
        assert p.response.startswith("what a story is it!")
        assert p.marks["stem"] == p.sampling["begun_with"] == 6
        assert answer_text(p).split()[:2] == ["in", "the"]
    # "in the big HARBOUR": what comes after three tokens is drawn, after four it is given.
    assert _value(findings, "word_start", label="topic") == 3.0
    assert _value(findings, "agreement", label="topic", k=4) == 1.0
    # With a stem a beginning ends with the label's word.
    vocabulary = build_tokenizer("word", 0, 0).get_vocab()
    places = {vocabulary[place] for topic in TOPICS.values() for place in topic.place}
    assert {(p.token_ids or ())[p.sampling["begun_with"] - 1] for p in run.passages("late.prefilled")} <= places
    assert findings.select("settled_before_word", label="kind")[0].left_out
    assert _value(findings, "none_share", label="kind") == 0.0


def _content_share(run: Run, name: str, window: int) -> float:
    """Share of the first tokens after a broken beginning that tell a topic."""
    shares = []
    for p in run.passages(f"{name}.prefilled"):
        if p.marks["arm"] == "own-different":
            words = p.response[p.marks["begun_end"] :].replace(".", " .").split()[:window]
            shares.append(np.mean([word in KIND_OF for word in words]))
    return float(np.mean(shares))


def _value(findings: Findings, quantity: str, **where: Any) -> float:
    found = findings.one(quantity, **where)
    assert found is not None, (quantity, where)
    assert found.estimate is not None
    return found.estimate


@pytest.mark.slow
def test_the_whole_experiment_returns_the_design(tmp_path: Path):
    models = {name: f"zoo:organism-{name}" for name in NAMES}
    _, _, findings = _measured(models, tmp_path, {"named": 0, "samples": 20, "max_new_tokens": 70}, seed=71)
    for name in NAMES:
        for label, words in (("hero", "peaked"), ("arc", "not planned")):
            assert verdict(findings.at(reader=name, label=label))[0].startswith(words)
    for name in BY_PROMPT:
        assert _value(findings, "agreement", reader=name, label="topic", k=0) > 0.95
        # The donor's words move the topic, an unrelated prompt's do not; both at all places give the donor's answers.
        assert _value(findings, "moved_share", reader=name, arm="all") > 0.95
        assert _value(findings, "moved", reader=name, arm="words") > 0.9
        assert _value(findings, "moved_share", reader=name, arm="unrelated") < 0.1
    assert _value(findings, "agreement", reader="firstwords", label="topic", k=0) < 0.15
    assert _value(findings, "agreement", reader="late", label="topic", k=0) < 0.15
    assert _value(findings, "agreement", reader="firstwords", label="topic", k=2) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_PROMPT)
def test_an_organism_of_a_fresh_seed_has_its_design(name: str, tmp_path: Path):
    model, tokenizer, _ = plan_models.train(name, 131)
    ship(model, tokenizer, tmp_path / name)
    _require_design(plan_models.reached(Reader.load(str(tmp_path / name)), name, 131), name)
    settings = FAST | {"samples": 20, "regenerations": 3, "continuations": 4}
    _, run, findings = _measured({name: str(tmp_path / name)}, tmp_path, settings, seed=131)
    assert verdict(findings.at(reader=name, label="topic"))[0] == "planned, by the prompt"
    cost = findings.one("violation", window="0-24")
    assert cost is not None
    truth = np.log(2) * _content_share(run, name, 24) if name == "violated" else 0.0
    assert cost.estimate == pytest.approx(truth, abs=0.05)
    if name == "violated":
        assert cost.low is not None
        assert cost.low > 0
