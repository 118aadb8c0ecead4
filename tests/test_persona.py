"""Personas: planted squares of conditions recovered, nulls null, and the texts that are read are the ones meant."""

from __future__ import annotations

import json

import handmade
import numpy as np
import pytest
import tiny
from transformers import AutoTokenizer

from enaction.errors import StudyError
from enaction.experiments import analyse, plan
from enaction.experiments.persona import ASSISTANT_PERSONAS, NOBODY, Persona
from enaction.experiments.persona.texts import with_system
from enaction.findings import Findings, select
from enaction.framing import frame
from enaction.passages import Message, Passage
from enaction.running import run_study
from enaction.study.config import Study
from enaction.study.store import Cell, Run

SPOKEN = {"poet": "you are a poet", "pirate": "you are a pirate", "lawyer": "you are a lawyer"}
RECOGNISED, DEFAULT, SURPRISE = 0.4, 0.7, 0.5


def _conditions(cell: Cell) -> tuple[str, str, str]:
    """Author, persona of the text, persona asked for."""
    text, _, asked = cell.author.partition(".under-")
    author, _, written = text.partition(".as-")
    return author, written or NOBODY, asked or written or NOBODY


def _reading(cell: Cell, passage: Passage) -> tuple[np.ndarray, np.ndarray]:
    """After RL entropy is lower under the text's own persona and lowest for the default; base readers know neither."""
    author, written, asked = _conditions(cell)
    level = handmade.noise(passage.prompt_id, scale=0.3) * handmade.noise(written, passage.prompt_id)
    level *= handmade.noise(cell.reader, asked, scale=0.1)
    surprisal = np.linspace(1, 2, len(passage.response.split()))
    if cell.reader.endswith("-rl") and author == cell.reader:
        level *= np.exp(-RECOGNISED * (written == asked)) * (DEFAULT if written == NOBODY else 1.0)
        surprisal = surprisal + SURPRISE * (written != asked)
    return np.full(len(surprisal), level), surprisal


@pytest.fixture(scope="module", name="findings")
def _findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    folder = tmp_path_factory.mktemp("planted")
    study = handmade.study(folder, {"persona": {"personas": SPOKEN, "n_prompts": 12}})
    return analyse(study, handmade.run(study, folder / "run", _reading))


def test_planted_square_gives_the_planted_interaction_and_its_null_none(findings: Findings) -> None:
    kept = 1 - 1 / (1 + len(SPOKEN))  # of a diagonal entry without its row and column means
    for persona in (NOBODY, *SPOKEN, "mean"):
        (found,) = select(findings, "persona_interaction", reader="mean", stage="rl", persona=persona)
        assert found.estimate == pytest.approx(-RECOGNISED * kept, abs=1e-6)
        assert float(found.notes[0].split()[3]) < 0.01
        (null,) = select(findings, "persona_interaction", reader="mean", stage="base", persona=persona)
        assert null.estimate == pytest.approx(0, abs=1e-9)
        assert null.n == 12


def test_paired_contrasts_are_those_planted(findings: Findings) -> None:
    for quantity in ("surprisal_own_minus_none", "surprisal_own_minus_other"):
        (found,) = select(findings, quantity, reader="ash-rl", stage="rl", persona="mean")
        assert found.estimate == pytest.approx(-SURPRISE, abs=1e-6)
        (null,) = select(findings, quantity, reader="ash-base", stage="base", persona="mean")
        assert null.estimate == pytest.approx(0, abs=1e-6)
    own, unasked = (
        select(findings, q, reader="ash-rl", stage="rl", persona="poet")[0]
        for q in ("persona_entropy", "persona_entropy_unasked")
    )
    (contrast,) = select(findings, "entropy_own_minus_none", reader="ash-rl", stage="rl", persona="poet")
    assert own.estimate is not None
    assert unasked.estimate is not None
    assert contrast.estimate == pytest.approx(own.estimate - unasked.estimate)
    assert contrast.high is not None
    assert contrast.high < 0


def test_default_is_called_lowest_where_it_was_planted_so_and_only_there(findings: Findings) -> None:
    (found,) = select(findings, "default_margin", reader="mean", stage="rl")
    assert found.low is not None
    assert found.low > 0
    assert float(found.notes[0].split()[3]) < 0.01
    (null,) = select(findings, "default_margin", reader="mean", stage="base")
    assert float(null.notes[0].split()[3]) > 0.05


def test_running_mean_of_surprise_is_a_mean_over_the_first_tokens(findings: Findings) -> None:
    surprisal = np.linspace(1, 2, 12)
    for length in (1, 4, 8, 64):
        for asked, more in (("poet", 0.0), (NOBODY, SURPRISE)):
            at = {"persona": "poet", "asked": asked, "tokens": length, "stage": "rl"}
            for reader in ("birch-rl", "mean"):
                (found,) = select(findings, "running_surprise", reader=reader, **at)
                assert found.estimate == pytest.approx(surprisal[:length].mean() + more, abs=1e-6)


def test_page_answers_whether_the_default_is_lowest(findings: Findings) -> None:
    made = Persona().page(Findings(findings).of("persona"))
    assert any("RL" in s and "the default Assistant has the lowest entropy" in s for s in made.sentences)
    assert set(made.charts) == {"persona", "persona-surprise"}
    assert all(len(row) == len(grid.header) for grid in made.grids for row in grid.rows)


# ---- tiny models ----

REFUSING = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turns') }}{% endif %}" + tiny.CHATML
DROPPING = (
    "{% for m in messages %}{% if m['role'] != 'system' %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
TEMPLATES = {"a": tiny.CHATML, "b": REFUSING, "c": DROPPING, "d": None}


@pytest.fixture(scope="module", name="run")
def _run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("tiny")
    for seed, (name, template) in enumerate(TEMPLATES.items()):
        tokenizer = tiny.word_tokenizer(template)
        tiny.llama(len(tokenizer), seed=seed).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    prompts = [{"id": f"p{i}", "prompt": text} for i, text in enumerate(("tell me a story", "why", "what is the fox"))]
    (folder / "p.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    study = Study.model_validate(
        {
            "name": "tiny", "prompts": str(folder / "p.jsonl"), "resamples": 100,
            "models": {name: {"model": str(folder / name), "family": name, "stage": "rl"} for name in TEMPLATES},
            "sampling": {"per_prompt": 1, "max_new_tokens": 8},
            "experiments": {"persona": {"personas": {"fox": "the old fox", "bird": "the small bird"}, "n_prompts": 2}},
        }
    )  # fmt: skip
    return run_study(study, folder / "run")


def test_every_text_stands_behind_the_persona_that_its_name_says(run: Run) -> None:
    tokenizer = AutoTokenizer.from_pretrained(run.study().models["a"].model)
    turns = {"fox": "<|system|>the old fox<|end|>", "bird": "<|system|>the small bird<|end|>", NOBODY: ""}
    for name, asked in (
        ("a.as-fox", "fox"), ("a.as-fox.under-bird", "bird"), ("a.as-fox.under-nobody", NOBODY), ("a.under-fox", "fox"),
    ):  # fmt: skip
        passages = run.passages(name)
        assert [p.prompt_id for p in passages] == ["p0", "p1"]
        source = {p.id: p for p in run.passages(name.partition(".under-")[0])}
        for passage in passages:
            framed = frame(tokenizer, passage, "assistant")
            question = passage.prompt[-1]["content"]
            context = f"{turns[asked]}<|user|>{question}<|end|><|assistant|>"
            assert list(framed.ids[: framed.start]) == tokenizer.encode(context, add_special_tokens=False)
            assert framed.is_own
            assert passage.token_ids == source[passage.id].token_ids


def test_models_whose_template_takes_no_system_turn_are_left_out_with_a_note(run: Run) -> None:
    assert run.passages("b.as-fox") == run.passages("c.as-fox") == []
    assert len(run.passages("d.as-fox")) == 2
    found = analyse(run.study(), run)
    gone = [f for f in found if f.estimate is None and f.quantity == "persona_entropy"]
    assert {f.where["reader"] for f in gone} == {"b", "c"}
    assert all("takes no system turn" in f.notes[0] for f in gone)
    assert {f.where["reader"] for f in select(found, "persona_interaction")} == {"a", "d", "mean"}
    assert any("takes no system turn" in s for s in Persona().page(found).sentences)


def test_default_personas_need_no_world(tmp_path_factory: pytest.TempPathFactory) -> None:
    study = handmade.study(tmp_path_factory.mktemp("x"), {"persona": {}})
    assert Persona().turns(study) == ASSISTANT_PERSONAS


def test_a_system_turn_of_the_prompt_gives_way() -> None:
    turns = (Message(role="system", content="be brief"), Message(role="user", content="why"))
    assert with_system(turns, "the old fox") == (Message(role="system", content="the old fox"), turns[1])
    assert with_system(turns[1:], "the old fox")[1:] == turns[1:]


@pytest.mark.parametrize("names", [["a"], ["a", "b--c"], ["a", "nobody"], ["a", "x/y"]])
def test_persona_names_that_cannot_be_files_are_refused(names: list[str]) -> None:
    given = {"persona": {"personas": {name: "you" for name in names}}}
    study = Study.model_validate({"name": "x", "models": {"m": {"model": "a", "family": "f"}}, "experiments": given})
    with pytest.raises(StudyError, match="persona: personas"):
        plan(study)
