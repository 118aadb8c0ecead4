"""Calibration: planted models with known confidence, accuracy and compounding; questions; sums against a plain loop."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from enaction.errors import StudyError
from enaction.experiments import analyse
from enaction.experiments.calibration import Calibration
from enaction.experiments.calibration.questions import Question, claimed, first_sentence, followed, read_questions
from enaction.experiments.calibration.texts import Decisions
from enaction.experiments.pieces import decoded
from enaction.findings import Findings, select
from enaction.passages import Passage, Sampling, thinned
from enaction.reader import Reader
from enaction.reader.sources.hub import Hub
from enaction.report.drawing import draw
from enaction.running import run_study
from enaction.stats.calibration import calibrated_errors, reliability
from enaction.study.config import ModelSpec, Study
from enaction.study.desk import Desk
from enaction.study.store import Run

N_QUESTIONS = 24
# fox is right. An answer goes on with what fits its claim, less so where that is in the other's style ("then ...").
OPTIONS = {"fox": {"says": ["fox"], "follows": ["river", "garden"]}, "bird": {"says": ["bird"], "follows": ["stone"]}}
P_RIGHT = 0.7
BEHIND = {
    ("own", "fox"): {"river": 0.5, "garden": 0.4, "stone": 0.1},
    ("own", "bird"): {"stone": 0.8, "river": 0.2},
    ("foreign", "fox"): {"river": 0.6, "stone": 0.4},
    ("foreign", "bird"): {"stone": 0.4, "river": 0.6},
}


def tokenizer_with_stops() -> Any:
    tokenizer = tiny.word_tokenizer()
    tokenizer.add_tokens(["."])
    return tokenizer


class Teller(tiny.LogitsOnly):
    """Writes "[then] CLAIM . WORD" from a table; `then` is the style of one of the two models."""

    def __init__(self, *, has_style: bool) -> None:
        tokenizer = tokenizer_with_stops()
        super().__init__(len(tokenizer))
        self.tokenizer = tokenizer
        claims: Mapping[str, float] = {"fox": P_RIGHT, "bird": 1 - P_RIGHT}
        self.table: dict[tuple[str, ...], Mapping[str, float]] = {(): {"then": 1.0} if has_style else claims}
        self.table["then",] = claims
        for style in ((), ("then",)):
            for claim in claims:
                self.table[*style, claim] = {".": 1.0}
                by = "own" if bool(style) == has_style else "foreign"
                self.table[*style, claim, "."] = BEHIND[by, claim]

    def forward(self, input_ids: Tensor) -> SimpleNamespace:
        logits = torch.full((*input_ids.shape, len(self.tokenizer)), -30.0)
        for b, row in enumerate(input_ids.tolist()):
            words: list[str] = self.tokenizer.convert_ids_to_tokens(row)
            said: list[str] = []
            for t, word in enumerate(words):
                said = [] if word == "<|assistant|>" else [*said, word]
                for token, p in self.table.get(tuple(said), {"<|end|>": 1.0}).items():
                    logits[b, t, self.tokenizer.convert_tokens_to_ids(token)] = float(np.log(p))
        return SimpleNamespace(logits=logits)


def write_questions(path: Path, n: int) -> None:
    lines = [{"id": f"q{i}", "prompt": tiny.WORDS[i], "options": OPTIONS, "right": "fox"} for i in range(n)]
    path.write_text("\n".join(map(json.dumps, lines)))


@pytest.fixture(scope="module", name="run")
def _run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("tellers")
    models = {"plain": Teller(has_style=False), "styled": Teller(has_style=True)}

    def load(path: str, **_: Any) -> Reader:
        return Reader(models[path], models[path].tokenizer, name=path)  # pyright: ignore[reportArgumentType]

    write_questions(folder / "questions.jsonl", N_QUESTIONS)
    (folder / "prompts.jsonl").write_text('{"prompt": "why"}\n{"prompt": "how"}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reader, "load", load)
        patch.setattr(Hub, "require", lambda *_: None)
        patch.setattr(Hub, "settings", lambda *_: None)
        study = Study(
            name="calibration",
            models={name: ModelSpec(model=name, family=name) for name in models},
            prompts=str(folder / "prompts.jsonl"),
            experiments={"calibration": {"questions": str(folder / "questions.jsonl"), "continuations": 8}},
            sampling=Sampling(per_prompt=1, max_new_tokens=8),
            resamples=300,
        )
        return run_study(study, folder / "run")


@pytest.fixture(scope="module", name="findings")
def _findings(run: Run) -> Findings:
    return analyse(run.study(), run)


def planted(author: str, claim: str) -> dict[str, float]:
    """What a start of this kind leads to: accuracy, confidence and error of the decision behind it."""
    table = BEHIND[author, claim]
    p_fox = table.get("river", 0.0) + table.get("garden", 0.0)
    p_bird = table["stone"]
    return {
        "accuracy": p_fox,
        "confidence": p_fox**2 + p_bird**2,
        # Two bins: all of one are right, all of the other are wrong.
        "calibration_error": p_fox * (1 - p_fox) + p_bird * p_bird,
        "decision_entropy": -sum(p * np.log(p) for p in table.values()),
    }


@pytest.mark.parametrize("reader", ["plain", "styled"])
def test_every_arm_has_the_planted_accuracy_confidence_and_error(findings: Findings, reader: str) -> None:
    for author in ("own", "foreign"):
        for kind, claim in (("right", "fox"), ("wrong", "bird")):
            for quantity, expected in planted(author, claim).items():
                (found,) = select(findings, quantity, reader=reader, arm=f"{author}-{kind}")
                # 24 questions with 8 continuations each: standard error below .037.
                limit = 1e-4 if quantity == "decision_entropy" else 0.11
                assert found.estimate == pytest.approx(expected, abs=limit), (author, kind, quantity)
    (accuracy,) = select(findings, "accuracy", reader=reader, arm="answer")
    assert accuracy.estimate == pytest.approx(P_RIGHT, abs=0.08)
    assert accuracy.low is not None
    assert accuracy.high is not None
    assert accuracy.low < P_RIGHT < accuracy.high


def test_confidence_and_error_are_those_of_a_plain_loop_over_the_sampled_texts(run: Run, findings: Findings) -> None:
    settings = Calibration(continuations=8)
    for reader in ("plain", "styled"):
        confidence, right = [], []
        for p in run.passages(settings.continued_of(reader)):
            if p.marks["arm"] == "own-wrong":
                last = p.response.split()[-1]
                confidence.append(0.8 if last == "stone" else 0.2)
                right.append(last != "stone")
        count = len(right)
        assert count > 100
        expected = sum(right) / count * 0.8 + (1 - sum(right) / count) * 0.8
        for quantity, value in (
            ("accuracy", np.mean(right)),
            ("confidence", np.mean(confidence)),
            ("overconfidence", np.mean(confidence) - np.mean(right)),
            ("stays", 1 - np.mean(right)),
            ("returns", np.mean(right)),
            ("calibration_error", expected),
            ("settled_share", 1.0),
        ):
            (found,) = select(findings, quantity, reader=reader, arm="own-wrong")
            assert found.estimate == pytest.approx(value, abs=1e-4), quantity


def test_errors_compound_more_behind_own_starts_as_planted(findings: Findings) -> None:
    own, foreign = planted("own", "bird"), planted("foreign", "bird")
    for quantity, expected in (
        ("stays_difference", foreign["accuracy"] - own["accuracy"]),
        ("returns_difference", own["accuracy"] - foreign["accuracy"]),
        ("confidence_difference", own["confidence"] - foreign["confidence"]),
    ):
        (found,) = select(findings, quantity, reader="mean", start="wrong")
        assert found.estimate == pytest.approx(expected, abs=0.08)
        assert any(float(note.split("=")[1].split()[0]) < 0.01 for note in found.notes if "permutation" in note)
    (entropy,) = select(findings, "entropy_difference", reader="mean", start="wrong")
    assert entropy.estimate == pytest.approx(own["decision_entropy"] - foreign["decision_entropy"], abs=1e-4)
    (compounding,) = select(findings, "compounding", reader="mean", start="own")
    assert compounding.estimate == pytest.approx(0.9 - 0.2, abs=0.08)
    (compounding,) = select(findings, "compounding", reader="mean", start="foreign")
    assert compounding.estimate == pytest.approx(0.6 - 0.6, abs=0.08)


def test_starts_are_the_first_sentences_of_who_wrote_them(run: Run) -> None:
    settings = Calibration(continuations=8)
    for reader, other in (("plain", "styled"), ("styled", "plain")):
        answers = {m: {p.token_ids for p in run.passages(settings.answers_of(m))} for m in (reader, other)}
        for p in run.passages(settings.continued_of(reader)):
            by = reader if p.marks["arm"].startswith("own") else other
            assert p.marks["start_by"] == by
            start = (p.token_ids or ())[: p.sampling["begun_with"]]
            assert any((ids or ())[: len(start)] == start for ids in answers[by])
            assert (p.marks["started"] == "fox") == p.marks["arm"].endswith("right")


def test_page_names_the_danger_first(findings: Findings) -> None:
    page = Calibration().page(findings)
    assert "own wrong first sentence" in page.sentences[0]
    draw(page.charts["calibration"]).draw_without_rendering()
    assert all(len(row) == len(grid.header) for grid in page.grids for row in grid.rows)


def test_without_questions_it_is_left_out_with_a_note(run: Run) -> None:
    study = run.study().model_copy(update={"experiments": {"calibration": {}}})
    (found,) = analyse(study, run)
    assert found.quantity == "left_out"
    assert "name a file of questions" in found.notes[0]
    (statement,) = Calibration().page(Findings([found])).statements
    assert "left out" in statement.sentence
    assert statement.verdict == "left out"
    assert Calibration().plan(study, ()).cells == []


def test_a_decision_is_read_with_every_word_in_the_place_of_the_one_that_came() -> None:
    tokenizer = tiny.byte_tokenizer()
    reader = Reader(tiny.llama(len(tokenizer)), tokenizer, name="m")
    text = "it is of the garden now. then over the river"
    ids = tuple(tokenizer.encode(text, add_special_tokens=False))
    begun = len(tokenizer.encode("it is of the garden now.", add_special_tokens=False))
    options = {"a": {"says": ["garden"], "follows": ["river", "stone", "bird song"]}, "b": ["fox"]}
    question = Question.model_validate({"id": "q", "prompt": "what", "options": options, "right": "b"})
    whole = Passage("q/0", "q", question.messages, text, "m", {"framing": "assistant"}, ids, None, reader.fingerprint)
    marks = {"arm": "own-wrong", "started": "a"}
    sampling = {"framing": "assistant", "begun_with": begun}
    later = replace(whole, id="q/own-wrong/0", sampling=sampling, marks=marks)
    passages = {"answers": [whole, whole], "continued": [later]}
    desk = Desk(Study(name="x", models={"m": ModelSpec(model="m", family="m")}), (), Run(Path()), reader)
    decisions = Decisions(name="decisions", model="m", count=0, questions=(question,), needs=("answers", "continued"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "passages", lambda _, name: passages[name])
        found = decisions.write(desk)
    texts = [p.response for p in found]
    assert texts == [
        "it is of the garden",
        *(f"it is of the garden now. then over the {word}" for word in ("river", "stone", "bird song")),
    ]
    assert [p.marks["count"] for p in found] == [2, 1, 1, 1]
    for p in found:
        at = p.marks["at"]
        assert (p.token_ids or ())[:at] == ids[:at]
        assert decoded(tokenizer, (p.token_ids or ())[at:]) in (" garden", " river", " stone", " bird song")


def test_options_are_found_as_whole_words_and_the_first_counts() -> None:
    question = Question.model_validate(
        {"id": "q", "prompt": "?", "options": {"a": ["B"], "c": ["C", "see"]}, "right": "a"}
    )
    assert claimed(question, "But it is C, not B.") == claimed(question, "But it is C, not B. no")
    found = claimed(question, "But it is C, not B.")
    assert found is not None
    assert (found.option, found.word, found.start) == ("c", "C", 10)
    assert followed(question, "BC sees") is None
    assert first_sentence("It is 3.5 m. And more.") == "It is 3.5 m."
    assert first_sentence("no end") == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1"),
        ('{"id": "a", "prompt": "?", "options": {"x": ["X"], "y": ["Y"]}, "right": "z"}', "right option 'z'"),
        ('{"id": "a", "prompt": "?", "options": {"x": ["X"], "y": ["XY"]}, "right": "x"}', "begins with 'X'"),
        ('{"id": "a", "prompt": "?", "options": {"x": ["X"], "y": ["Y"]}, "right": "x"}', "at least two"),
    ],
)
def test_bad_questions_are_refused(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(line)
    with pytest.raises(StudyError, match=message):
        read_questions(tmp_path / "q.jsonl")
    with pytest.raises(StudyError, match="check the path"):
        read_questions(tmp_path / "none.jsonl")


def test_questions_are_thinned_evenly(tmp_path: Path) -> None:
    write_questions(tmp_path / "q.jsonl", 10)
    assert [q.id for q in thinned(read_questions(tmp_path / "q.jsonl"), 5)] == ["q0", "q2", "q4", "q6", "q8"]


def test_calibration_error_equals_a_plain_loop_and_resamples_prompts() -> None:
    rng = np.random.default_rng(0)
    confidence, correct = rng.random(200), rng.random(200) < 0.6
    prompt = rng.integers(10, size=200)
    sums = reliability(confidence, correct, prompt, 10)
    weights = np.stack([np.ones(10, int), rng.multinomial(10, np.full(10, 0.1))])
    for row, found in zip(weights, sums.weighted(weights).error, strict=True):
        index = np.repeat(np.arange(200), row[prompt])
        expected = 0.0
        for k in range(10):
            inside = index[(confidence[index] >= k / 10) & (confidence[index] < (k + 1) / 10)]
            if len(inside):
                expected += len(inside) / len(index) * abs(correct[inside].mean() - confidence[inside].mean())
        assert found == pytest.approx(expected)
    doubled = reliability(confidence, correct, prompt, 10, count_N=np.full(200, 2)).weighted(weights)
    np.testing.assert_allclose(doubled.error, sums.weighted(weights).error)
    with pytest.raises(ValueError, match="outside 0 to 1"):
        reliability([1.5], [True], [0], 1)


def test_a_calibrated_model_has_the_error_of_the_null() -> None:
    rng = np.random.default_rng(1)
    confidence = rng.random(300)
    null = calibrated_errors(confidence, rng, 500)
    low, high = np.quantile(null, [0.001, 0.999])
    correct = rng.random(300) < confidence
    found = reliability(confidence, correct, np.zeros(300, int), 1).weighted(np.ones((1, 1))).error[0]
    assert low < found < high
    assert null.mean() > 0.02  # above 0 by chance alone
