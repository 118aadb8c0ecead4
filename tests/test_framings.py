"""Framings: planted role effects recovered, nulls null, and dropped questions read as plain transformers reads them."""

from __future__ import annotations

import json
from pathlib import Path

import handmade
import numpy as np
import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from enaction.errors import StudyError
from enaction.experiments import analyse, plan
from enaction.experiments.framings import Framings
from enaction.findings import Findings, select
from enaction.framing import frame
from enaction.passages import Passage
from enaction.running import run_study
from enaction.study.config import Study
from enaction.study.store import Cell, Run
from enaction.tokens import table_notes

# Log units by which an RL reader of the planted run is surer of its own text, by framing; half without the question.
OWN = {"assistant": 0.6, "user": 0.3, "none": 0.1}
DIAGONAL = 2 / 3  # what is left of a diagonal entry of a 3 x 3 table without its row and column means


def _reading(cell: Cell, passage: Passage) -> tuple[np.ndarray, np.ndarray]:
    author, alone, _ = cell.author.partition(".alone")
    own = OWN[cell.framing] * (0.5 if alone else 1.0) if author == cell.reader and author.endswith("-rl") else 0.0
    level = handmade.noise(passage.prompt_id, scale=0.3) * handmade.noise(
        cell.reader, author, scale=0.2 * ("rl" in author)
    )
    level *= (
        handmade.noise(author, passage.prompt_id) * (1.1 if alone else 1.0) * (0.8 if cell.framing == "user" else 1)
    )
    values = np.full(len(passage.response.split()), level * np.exp(-own))
    return values, values


@pytest.fixture(scope="module", name="findings")
def _findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    folder = tmp_path_factory.mktemp("planted")
    study = handmade.study(folder, {"framings": {}})
    return analyse(study, handmade.run(study, folder / "run", _reading, words=lambda *_: 4))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (("assistant", "kept"), ("user", "kept"), -0.3),
        (("assistant", "kept"), ("none", "kept"), -0.5),
        (("user", "dropped"), ("none", "dropped"), -0.1),
        (("assistant", "kept"), ("assistant", "dropped"), -0.3),
    ],
)
def test_planted_role_effect_is_the_difference_of_interactions(
    findings: Findings, first: tuple[str, str], second: tuple[str, str], expected: float
) -> None:
    where = {"framing": first[0], "question": first[1], "minus_framing": second[0], "minus_question": second[1]}
    (found,) = select(findings, "interaction_difference", reader="mean", stage="rl", **where)
    assert found.estimate == pytest.approx(expected * DIAGONAL, abs=1e-6)
    assert found.low is not None
    assert found.high is not None
    assert found.low - 1e-7 <= expected * DIAGONAL <= found.high + 1e-7
    assert "p = 0.00" in found.notes[0]
    (null,) = select(findings, "interaction_difference", reader="mean", stage="base", **where)
    assert null.estimate == pytest.approx(0, abs=1e-6)


def test_role_that_moves_all_text_moves_no_interaction(findings: Findings) -> None:
    where = {"reader": "ash-rl", "stage": "rl", "minus_framing": "user", "question": "kept", "minus_question": "kept"}
    (own,) = select(findings, "own_change", framing="assistant", **where)
    (foreign,) = select(findings, "foreign_change", framing="assistant", **where)
    assert foreign.estimate == pytest.approx(-np.log(0.8), abs=1e-6)
    assert own.estimate == pytest.approx(-np.log(0.8) - 0.3, abs=1e-6)
    (both,) = select(findings, "own_minus_foreign_change", framing="assistant", **where)
    assert both.estimate == pytest.approx(-0.3, abs=1e-6)


def test_own_is_lowest_where_it_was_planted_so_and_the_table_says_so(findings: Findings) -> None:
    for framing in OWN:
        for reader in ("ash-rl", "birch-rl", "cedar-rl"):
            at = {"reader": reader, "stage": "rl", "framing": framing, "question": "kept"}
            entropy = {f.where["author"]: f.estimate for f in select(findings, "entropy", **at)}
            own = entropy.pop(reader)
            assert own is not None
            (margin,) = select(findings, "lowest_margin", **at)
            assert margin.estimate == pytest.approx(min(e for e in entropy.values() if e) - own)
    (share,) = select(findings, "lowest_share", stage="rl", framing="assistant", question="kept")
    assert share.estimate == 1


def test_page_tells_the_role_effect_with_its_null(findings: Findings) -> None:
    made = Framings().page(findings)
    assert any("assistant turn" in s and "user turn" in s and "-0.200" in s for s in made.sentences)
    assert any("base" in s.lower() for s in made.sentences)
    assert set(made.charts) == {"framings"}
    assert all(len(row) == len(grid.header) for grid in made.grids for row in grid.rows)


# ---- tiny models ----

# Insists on a user's turn first, and knows no system turn, as Gemma 2 does not.
STRICT = "{% if messages[0]['role'] != 'user' %}{{ raise_exception('a user speaks first') }}{% endif %}" + tiny.CHATML


@pytest.fixture(scope="module", name="run")
def _run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("tiny")
    for name, build, tokenizer in (
        ("a", tiny.llama, tiny.word_tokenizer()),
        ("b", tiny.neox, tiny.byte_tokenizer(STRICT, bos=True)),
    ):
        build(len(tokenizer), seed=1).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    prompts = [{"id": f"p{i}", "prompt": text} for i, text in enumerate(("tell me a story", "why", "what is the fox"))]
    (folder / "p.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    models = {name: {"model": str(folder / name), "family": name, "stage": "rl"} for name in ("a", "b")}
    study = Study.model_validate(
        {
            "name": "tiny", "models": models, "prompts": str(folder / "p.jsonl"), "experiments": {"framings": {}},
            "sampling": {"per_prompt": 1, "max_new_tokens": 12}, "resamples": 100,
        }
    )  # fmt: skip
    return run_study(study, folder / "run")


@pytest.mark.parametrize(("reader", "before"), [("a", {"assistant": "<|assistant|>", "user": "<|user|>", "none": ""}),
                                                ("b", {"user": "<|user|>", "none": "<s>"})])  # fmt: skip
def test_without_the_question_nothing_stands_before_the_response(run: Run, reader: str, before: dict[str, str]) -> None:
    spec = run.study().models[reader]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(spec.model), AutoTokenizer.from_pretrained(spec.model)
    for framing, context in before.items():
        tokens = run.tokens(Cell(reader, f"{reader}.alone", framing)).to_pandas()  # pyright: ignore[reportArgumentType]
        for passage in run.passages(reader):
            body = list(passage.token_ids or ())[: -1 if passage.ended else None]
            ids = tokenizer.encode(context, add_special_tokens=False) + body
            with torch.no_grad():
                log_p = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0].double(), -1)
            entropy_T = -(log_p.exp() * log_p).sum(-1).numpy()
            rows = tokens[(tokens.passage_id == passage.id) & ~tokens.is_end]
            # Without BOS or template nothing predicts the first token.
            first = len(ids) - len(body) + (1 if not context else 0)
            assert rows.token_id.tolist() == ids[first:]
            assert rows.entropy.to_numpy() == pytest.approx(entropy_T[first - 1 : -1], abs=1e-4)


def test_a_template_that_wants_a_question_leaves_its_cell_out_with_the_reason(run: Run) -> None:
    left = run.tokens(Cell("b", "a.alone", "assistant"))
    assert len(left) == 0
    assert "a user speaks first" in table_notes(left)["left_out"]
    found = analyse(run.study(), run)
    (gone,) = select(found, "entropy", reader="b", framing="assistant", question="dropped")
    assert gone.estimate is None
    assert "a user speaks first" in gone.notes[0]
    assert not select(found, "interaction", framing="assistant", question="dropped")
    (joint,) = select(found, "interaction", framing="user", question="dropped")  # of two readers
    assert joint.where["reader"] == "mean"
    assert Framings().page(found).sentences


def test_required_cells_still_stop_the_run(run: Run, tmp_path: Path) -> None:
    study = run.study().model_copy(update={"experiments": {"matrix": {}, "framings": {}}})
    made = plan(study)
    assert Cell("b", "a.alone", "assistant") in made.optional
    assert Cell("b", "a", "assistant") not in made.optional


def test_first_tokens_that_depend_on_the_framing_are_counted(run: Run) -> None:
    # Byte-level BPE: a word begins with its blank or not, as what stands before it ends.
    study, found = run.study(), analyse(run.study(), run)
    tokenizer = AutoTokenizer.from_pretrained(study.models["b"].model)
    passages = [p for p in run.passages("a") if p.response]
    of = [[f.ids[f.start] for p in passages if (f := frame(tokenizer, p, c))] for c in ("assistant", "none")]
    expected = np.mean([a != b for a, b in zip(*of, strict=True)])
    (share,) = select(found, "first_token_differs", reader="b", framing="none", question="kept")
    assert share.estimate == pytest.approx(expected)


def test_settings_are_checked() -> None:
    study = Study.model_validate(
        {"name": "x", "models": {"m": {"model": "a", "family": "f"}}, "experiments": {"framings": {"question": []}}}
    )
    with pytest.raises(StudyError, match="framings: question"):
        plan(study)
    assert [c.question for c in Framings(framings=("user",)).conditions] == ["kept", "dropped"]
