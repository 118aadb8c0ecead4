"""Own prior outputs: planted effects of position and of earlier turns recovered, and kept apart from continuity."""

from __future__ import annotations

import json

import handmade
import numpy as np
import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from enaction.experiments import analyse
from enaction.experiments.prior import Prior
from enaction.findings import Findings, select
from enaction.passages import Passage
from enaction.running import run_study
from enaction.study.config import Study
from enaction.study.store import Cell, Run

# Log units: a doubling of the position; an own earlier turn; one by the measured text's author; both own.
TREND, EARLIER, CONTINUITY, BOTH = 0.1, 0.3, 0.2, 0.15
DIAGONAL = 2 / 3
PROMPTS = 20


def _words(author: str, prompt: str) -> int:
    """Unlike lengths: authors differ, and a quarter of the prompts are answered in a few words."""
    return (6 if int(prompt[1:]) % 4 == 0 else 40) + len(author)


def _reading(cell: Cell, passage: Passage) -> tuple[np.ndarray, np.ndarray]:
    author, _, earlier = cell.author.partition(".after-")
    earlier = earlier.partition(".cut")[0]
    position = np.arange(len(passage.response.split()))
    level = handmade.noise(passage.prompt_id, scale=0.3) * handmade.noise(author, passage.prompt_id, scale=0.05)
    entropy_T = level * handmade.noise(cell.reader, scale=0.3) * np.ones(len(position))
    if cell.reader.endswith("-rl"):
        own = TREND * np.log2(np.maximum(position, 1)) * (author == cell.reader) * (position > 0)
        own = own + EARLIER * (earlier == cell.reader) + CONTINUITY * (earlier == author)
        entropy_T = entropy_T * np.exp(-own - BOTH * (earlier == author == cell.reader))
    return entropy_T, entropy_T


@pytest.fixture(scope="module", name="made")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("planted")
    study = handmade.study(folder, {"prior": {"n_prompts": 12, "edges": [1, 2, 4, 8, 16, 32]}}, prompts=PROMPTS)
    return handmade.run(study, folder / "run", _reading, words=_words)


@pytest.fixture(scope="module", name="findings")
def _findings(made: Run) -> Findings:
    return analyse(made.study(), made)


def test_planted_trend_is_recovered_in_bins_that_all_texts_reach(findings: Findings) -> None:
    for low, high, n in ((1, 2, PROMPTS), (2, 4, PROMPTS), (4, 8, PROMPTS), (16, 32, 3 * PROMPTS // 4)):
        at = {"reader": "mean", "stage": "rl", "span": "bin", "from": low, "to": high}
        (found,) = select(findings, "interaction_at_position", **at)
        own = np.mean(np.exp(-TREND * np.log2(np.arange(low, high))))
        assert found.estimate == pytest.approx(np.log(own) * DIAGONAL, abs=1e-6)
        assert found.n == n
        (null,) = select(findings, "interaction_at_position", **(at | {"stage": "base"}))
        assert null.estimate == pytest.approx(0, abs=1e-7)
    (trend,) = select(findings, "position_trend", reader="mean", stage="rl")
    assert trend.estimate == pytest.approx(-TREND * DIAGONAL, rel=0.05)
    assert "p = 0.00" in trend.notes[0]
    (null,) = select(findings, "position_trend", reader="mean", stage="base")
    assert null.estimate == pytest.approx(0, abs=1e-7)


def test_earlier_turns_planted_effects_are_taken_apart(findings: Findings) -> None:
    expected = {
        ("earlier_interaction", "own"): -(EARLIER + CONTINUITY + BOTH) * DIAGONAL,
        ("earlier_interaction", "foreign"): -(EARLIER - CONTINUITY / 2) * DIAGONAL,
        ("continuity", "own"): -EARLIER - CONTINUITY - BOTH,
        ("continuity", "foreign"): -CONTINUITY,
        ("continuity_difference", None): -EARLIER - BOTH,
        ("amplification_beyond_continuity", None): BOTH,
    }
    for (quantity, measured), value in expected.items():
        more = {} if measured is None else {"measured": measured}
        (found,) = select(findings, quantity, reader="mean", stage="rl", **more)
        assert found.estimate == pytest.approx(value, abs=1e-6), (quantity, measured)
        assert found.n == 12
        (null,) = select(findings, quantity, reader="mean", stage="base", **more)
        assert null.estimate == pytest.approx(0, abs=1e-7)
    (own,) = select(findings, "earlier_effect", reader="mean", stage="rl", measured="own")
    assert own.high is not None
    assert own.high < 0
    assert "p = 0.00" in own.notes[0]


def test_amplification_compares_the_gap_behind_own_and_foreign_turns(findings: Findings) -> None:
    (found,) = select(findings, "amplification", reader="mean", stage="rl")
    # Behind an own turn the own measured text gains CONTINUITY and BOTH on the foreign one; behind a foreign turn the
    # foreign measured text gains CONTINUITY where it is of that author, in one of two.
    assert found.estimate == pytest.approx(1.5 * CONTINUITY + BOTH, abs=1e-6)
    (alone,) = select(findings, "gap_behind", reader="mean", stage="base", earlier="none")
    assert alone.estimate == pytest.approx(0, abs=0.03)


def test_earlier_turns_have_one_length_and_other_questions(made: Run) -> None:
    of = {e: made.passages(f"ash-rl.after-{e}.cut-rl") for e in ("ash-rl", "birch-rl", "cedar-rl")}
    for same in zip(*of.values(), strict=True):
        assert len({p.response for p in same}) == len({p.prompt_id for p in same}) == 1
        assert len({p.prompt[0]["content"] for p in same}) == 1
        assert len({len(p.prompt[1]["content"].split()) for p in same}) == 1
        assert same[0].prompt[0] != same[0].prompt[2]
    for author, passages in of.items():
        assert all(p.prompt[1]["content"].startswith(author) for p in passages)


def test_page_tells_both_readings(findings: Findings) -> None:
    made = Prior().page(Findings(findings).of("prior"))
    assert any("(a) along one response" in s and "recognition grows" in s for s in made.sentences)
    assert any("(b) earlier turns" in s for s in made.sentences)
    assert set(made.charts) == {"prior-position", "prior-earlier"}
    assert all(len(row) == len(grid.header) for grid in made.grids for row in grid.rows)


# ---- tiny models ----


@pytest.fixture(scope="module", name="run")
def _run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("tiny")
    for seed, name in enumerate("ab"):
        tokenizer = tiny.word_tokenizer()
        # b's context holds one round and not two.
        tiny.llama(len(tokenizer), seed=seed, context=256 if name == "a" else 20).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    prompts = [{"id": f"p{i}", "prompt": text} for i, text in enumerate(("tell me a story", "why", "what is the fox"))]
    (folder / "p.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    study = Study.model_validate(
        {
            "name": "tiny", "prompts": str(folder / "p.jsonl"), "resamples": 100,
            "models": {name: {"model": str(folder / name), "family": name, "stage": "rl"} for name in "ab"},
            "sampling": {"per_prompt": 2, "max_new_tokens": 10}, "experiments": {"prior": {}},
        }
    )  # fmt: skip
    return run_study(study, folder / "run")


def test_measured_tokens_are_the_same_in_all_arms_and_read_as_transformers_reads_two_rounds(run: Run) -> None:
    path = run.study().models["a"].model
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    arms = [run.tokens(Cell("a", f"a.after-{e}.cut-rl", "assistant")).to_pandas() for e in "ab"]
    assert len(arms[0]) > 0
    assert arms[0].token_id.tolist() == arms[1].token_id.tolist()
    assert arms[0].entropy.tolist() != arms[1].entropy.tolist()
    answers = {p.id: p for p in run.passages("b")}
    for passage in run.passages("a.after-b.cut-rl"):
        first, earlier, second = (m["content"] for m in passage.prompt)
        asked = passage.marks["earlier_prompt"]
        whole = answers[f"{asked}/{passage.id[-1]}"].response.split()
        assert earlier.split() == whole[: len(earlier.split())]
        text = f"<|user|>{first}<|end|><|assistant|>{earlier}<|end|><|user|>{second}<|end|><|assistant|>"
        context, body = tokenizer.encode(text, add_special_tokens=False), list(passage.token_ids or ())
        with torch.no_grad():
            log_p = torch.log_softmax(model(input_ids=torch.tensor([context + body])).logits[0].double(), -1)
        entropy_T = -(log_p.exp() * log_p).sum(-1).numpy()[len(context) - 1 : -1]
        rows = arms[1][arms[1].passage_id == passage.id]
        assert rows.token_id.tolist() == body
        assert rows.entropy.to_numpy() == pytest.approx(entropy_T, abs=1e-4)


def test_a_context_too_short_for_two_rounds_leaves_the_reading_out_with_the_reason(run: Run) -> None:
    found = analyse(run.study(), run)
    (gone,) = select(found, "earlier_effect", reader="b")
    assert gone.estimate is None
    assert "takes 20" in gone.notes[0]
    assert not select(found, "amplification")
    assert any("cannot read two rounds" in s for s in Prior().page(found).sentences)
