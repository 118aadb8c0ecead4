"""Commitment: planted processes, labels, beginnings, and the organisms whose plans are designed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.errors import StudyError
from enaction.experiments.commitment import curves
from enaction.experiments.commitment.answers import Answer, commonest
from enaction.experiments.commitment.labels import Label, LabelSpec
from enaction.experiments.commitment.measured import common_ends
from enaction.experiments.commitment.page import verdict
from enaction.experiments.commitment.states import add_probe
from enaction.experiments.commitment.texts import is_original
from enaction.findings import Finding, Findings
from enaction.passages import Message, Passage, Prompt
from enaction.study.config import Study
from enaction.study.planning import Plan
from enaction.study.store import Run

STORY = (
    "in the big harbour there once lived clara. the blue boat was pretty and old. the boat was lost and clara cried."
)


# Labels


@pytest.mark.parametrize(
    ("spec", "value", "word"),
    [
        ({"world": "topic"}, "sea", "harbour"),
        ({"world": "hero"}, "clara", "clara"),
        ({"world": "arc"}, "search", "the boat was lost and clara cried."),
        ({"words": ["boat", "Lived"]}, "lived", "lived"),
        ({"pattern": r"the (\w+) was lost"}, "boat", "boat"),
        ({"first_word": True}, "big", "big"),
    ],
)
def test_a_label_knows_its_word(spec: dict[str, Any], value: str, word: str):
    label = LabelSpec(name="x", **spec).labeller()(STORY)
    assert label is not None
    assert label.value == value
    assert STORY[label.start : label.end] == word


def test_the_name_of_a_topic_tells_it():
    label = LabelSpec(name="x", world="topic").labeller()(f"the sea! {STORY}")
    assert label is not None
    assert (label.value, label.start) == ("sea", 4)


def test_first_word_skips_stop_words_and_adverbs():
    label = LabelSpec(name="x", first_word=True).labeller()
    assert label(" definitely the Tennis.") == Label("tennis", 16, 22)
    assert label(" it is the most") is None
    assert label("I'm glad it's you’re that's") == ("glad", 4, 8)
    assert label("a child's greatest joy") == ("child's", 2, 9)


def test_a_function_of_the_users_is_imported_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mylabels.py").write_text("def first(text):\n    return text.split()[0] if text else None\n")
    monkeypatch.syspath_prepend(tmp_path)
    label = LabelSpec(name="x", function="mylabels:first").labeller()
    assert label("one two") == Label("one", -1, -1)
    assert label("") is None
    with pytest.raises(StudyError, match=r"mylabels:second.*cannot be imported"):
        LabelSpec(name="x", function="mylabels:second").labeller()


def test_a_label_has_exactly_one_way():
    with pytest.raises(ValidationError, match="exactly one"):
        LabelSpec(name="x")
    with pytest.raises(ValidationError, match="exactly one"):
        LabelSpec(name="x", pattern="a", clusters=3)
    with pytest.raises(ValidationError, match="no regular expression"):
        LabelSpec(name="x", pattern="(")


def test_a_word_of_another_topic_is_of_the_same_kind():
    spec = LabelSpec(name="x", world="topic")
    assert spec.word_for("farm", "", "harbour") == "barn"
    assert spec.word_for("farm", "", "sea") == "farm"
    assert LabelSpec(name="x", world="hero").word_for("leo", "leo", "clara") == "leo"
    assert LabelSpec(name="x", world="arc").word_for("gift", "", "search") is None


def test_tokens_of_an_answer_are_counted_by_characters():
    answer = Answer("p", "in the big harbour", (1, 2, 3, 4), [2, 6, 10, 18])
    assert answer.tokens_before(11) == 3
    assert answer.tokens_through(18) == 4
    assert answer.tokens_through(9) == 3
    assert answer.tokens_through(19) is None


def test_none_is_the_commonest_label_only_without_another():
    assert commonest(["none", "none", "sea"]) == ("sea", 1 / 3)
    assert commonest(["none"]) == ("none", 1.0)


def test_prompts_share_their_ends():
    assert common_ends([(1, 2, 5, 6, 9), (1, 2, 7, 9), (1, 2, 8, 4, 9)]) == (2, 1)
    assert common_ends([(1, 1), (1, 1, 1)]) == (2, 0)


# Planted processes: an answer is four words, of which the last tells the label.

N_PROMPTS, N_LABELS = 12, 4
Process = Callable[[int, list[str], np.random.Generator], list[str]]


def _settled(prompt: int, given: list[str], rng: np.random.Generator) -> list[str]:
    return ["w", "w", "w", f"l{prompt % N_LABELS}"]


def _late(prompt: int, given: list[str], rng: np.random.Generator) -> list[str]:
    return ["w", "w", "w", f"l{rng.integers(N_LABELS)}"]


def _early(prompt: int, given: list[str], rng: np.random.Generator) -> list[str]:
    code = given[0] if given else f"c{rng.integers(N_LABELS)}"
    return [code, "w", "w", f"l{code[1:]}"]


def _peaked(prompt: int, given: list[str], rng: np.random.Generator) -> list[str]:
    return ["w", "w", "w", "l0" if rng.random() < 0.96 else "l1"]


def planted(process: Process, seed: int, *, n: int = 40, again: int = 5) -> Findings:
    """Findings of the curve of a process."""
    rng, label = np.random.default_rng(seed), LabelSpec(name="l", pattern=r"\bl\d").labeller()
    prompts = [Prompt(f"p{i}", (Message(role="user", content="?"),)) for i in range(N_PROMPTS)]
    samples, regenerated = [], []

    def passage(name: str, prompt: int, words: list[str], **marks: Any) -> tuple[Passage, Label | None]:
        text = " ".join(words)
        ends = np.cumsum([len(word) + 1 for word in words]) - 1
        of = Passage(name, f"p{prompt}", prompts[prompt].messages, text, "a", marks={"ends": ends.tolist(), **marks})
        return of, label(text)

    def written(prompt: int, given: list[str]) -> list[str]:
        return given + process(prompt, given, rng)[len(given) :]

    for p in range(N_PROMPTS):
        for i in range(n):
            samples.append(passage(f"p{p}/{i}", p, words := written(p, [])))
            if i < 2:
                for k in (1, 2, 3, 4):
                    for j in range(again):
                        marks = {"original": f"p{p}/{i}", "k": k}
                        regenerated.append(passage(f"p{p}/{i}/{k}/{j}", p, written(p, words[:k]), **marks))
    study = Study.model_validate({"name": "x", "models": {"m": "m"}, "resamples": 300})
    data = Data(study, Run(Path()), Plan({}, [], prompts=tuple(prompts)))
    ledger = Ledger.of(data, "commitment")
    labelled = curves.Labelled.of(data.prompt_code, samples, regenerated)
    curves.add_variety(ledger, labelled, rng)
    curves.add_curve(ledger, labelled, [p for p, _ in samples if is_original(p)], data.prompt_code)
    return Findings(ledger.findings)


@pytest.mark.parametrize(
    ("process", "words"),
    [
        (_settled, "planned, by the prompt"),
        (_early, "planned, in the words before it"),
        (_late, "not planned"),
        (_peaked, "peaked"),
    ],
)
@pytest.mark.parametrize("seed", [101, 102, 103])
def test_a_planted_process_gets_its_verdict(process: Process, words: str, seed: int):
    assert verdict(planted(process, seed))[0].startswith(words)


def test_curves_have_their_designed_values():
    settled, early, late = (planted(process, 104) for process in (_settled, _early, _late))
    # Of the 11 other prompts 2 have the same label.
    assert _value(settled, "chance_pooled") == pytest.approx(2 / 11)
    assert _value(settled, "excess_pooled", k=0) == 1.0
    assert settled.select("excess_within", k=0)[0].left_out
    for k in (1, 2, 3):
        assert _value(early, "excess_within", k=k) == 1.0
        assert abs(_value(late, "excess_within", k=k)) < 0.2
    assert _value(late, "excess_within", k=4) == 1.0
    assert _value(late, "word_start") == 3.0
    assert _value(late, "word_end") == 4.0
    entropy = late.one("label_entropy")
    assert entropy is not None
    assert entropy.null == pytest.approx(np.log(N_LABELS), abs=0.05)


def test_a_label_that_is_often_missing_is_no_plan():
    """An original has to have a label for its word to be known, and such a text agrees more often than any text."""

    def now_and_then(prompt: int, given: list[str], rng: np.random.Generator) -> list[str]:
        return ["w", "w", "w", "l0" if rng.random() < 0.75 else "w"]

    found = [planted(now_and_then, seed) for seed in range(200, 216)]
    assert abs(np.mean([_value(of, "settled_before_word_pooled") for of in found])) < 0.12
    assert abs(np.mean([_value(of, "settled_before_word_within") for of in found])) < 0.12
    assert sum(not verdict(of)[0].startswith("not planned") for of in found) <= 2


def test_a_constant_writer_is_peaked_and_has_no_excess():
    findings = planted(lambda prompt, given, rng: ["w", "w", "w", "l0"], 106)
    assert verdict(findings)[0].startswith("peaked")
    for f in (*findings.select("excess_pooled"), findings.select("settled_before_word_pooled")[0]):
        assert f.left_out is not None
    assert _value(findings, "label_entropy") == 0.0
    assert _value(findings, "commonest_share") == 1.0


def _probed(is_shuffled: bool, seed: int) -> tuple[Finding, list[Finding]]:
    """The best gain of a probe and all, where states hold the label of their prompt, and labels are dealt or not."""
    rng, n, layers, prompts = np.random.default_rng(seed), 24, 2, range(24)
    label = rng.permutation(np.arange(n) % N_LABELS)
    names = [Prompt(f"p{i}", (Message(role="user", content="?"),)) for i in prompts]
    code = np.eye(N_LABELS)[label] @ rng.normal(size=(N_LABELS, 12))
    states = [code + 0.3 * rng.normal(size=(n, 12)) for _ in range(layers)]
    told = rng.permutation(label) if is_shuffled else label
    samples: list[tuple[Passage, Label | None]] = [
        (Passage(f"p{i}/{j}", f"p{i}", names[i].messages, "w", "a"), Label(f"l{told[i] if rng.random() < 0.9 else 0}"))
        for i in prompts
        for j in range(10)
    ]
    study = Study.model_validate({"name": "x", "models": {"m": "m"}, "resamples": 200})
    data = Data(study, Run(Path()), Plan({}, [], prompts=tuple(names)))
    ledger = Ledger.of(data, "commitment")
    table = pa.table(
        {
            "prompt_id": [name.id for _ in states for name in names],
            "layer": np.repeat(np.arange(layers), n),
            "state": [row.tolist() for state in states for row in state],
        }
    )
    add_probe(ledger, table, curves.Labelled.of(data.prompt_code, samples, []), data.prompt_code)
    gains = list(Findings(ledger.findings).select("probe_gain"))
    return max(gains, key=lambda f: f.estimate or -np.inf), gains


def test_the_probe_reads_planted_labels_and_nothing_of_labels_that_are_dealt_anew():
    best, _ = _probed(is_shuffled=False, seed=31)
    assert best.p == pytest.approx(1 / 101)
    assert best.low is not None
    assert best.low > 0.3
    dealt = [_probed(is_shuffled=True, seed=seed)[0] for seed in range(32, 44)]
    # A p of the null is below .05 in one of 20, and in 3 or more of 12 in one of 50.
    assert sum((f.p or 0) < 0.05 for f in dealt) < 3
    assert np.median([f.p or 0 for f in dealt]) > 0.15
    assert np.mean([f.estimate or 0 for f in dealt]) < 0.1


def test_texts_without_a_label_are_a_class_with_examples():
    def silent(prompt: int, given: list[str], rng: np.random.Generator) -> list[str]:
        return ["w", "w", "w", "w"]

    findings = planted(silent, 105)
    none = findings.one("none_share")
    assert none is not None
    assert none.estimate == 1.0
    assert none.notes[0] == "without a label: 'w w w w'"
    assert verdict(findings)[0] == "not known: nearly all samples have no label"


def _value(findings: Findings, quantity: str, **where: Any) -> float:
    found = findings.one(quantity, **where)
    assert found is not None, quantity
    assert found.estimate is not None
    return found.estimate
