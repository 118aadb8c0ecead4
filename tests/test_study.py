"""A study end to end on tiny models: the numbers of `enaction run` against a plain loop, resuming, and bad input."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import tiny
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from enaction import stats
from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.errors import StudyError
from enaction.experiments import EXPERIMENTS, analyse, plan
from enaction.experiments.base import Experiment
from enaction.findings import Findings, read_findings, select, write_findings
from enaction.framing import beginning_ids
from enaction.passages import Passage, Prompt, Sampling
from enaction.running import load_study, run_study
from enaction.study.config import Study
from enaction.study.desk import Desk
from enaction.study.planning import Plan, Text, own_framing
from enaction.study.store import Cell, Run

PROMPTS = [
    "tell me a story", "tell me about the fox", "please tell me about a garden in the night", "what is it", "why",
    "how was the old stone house made and lost",
]  # fmt: skip


@pytest.fixture(scope="module", name="study_file")
def _study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two architectures, two tokenizers, two stages; one base has no chat template."""
    folder = tmp_path_factory.mktemp("models")
    tokenizers = {"a": tiny.word_tokenizer(), "b": tiny.byte_tokenizer()}
    for family, build in (("a", tiny.llama), ("b", tiny.neox)):
        for seed, stage in enumerate(("base", "rl")):
            build(len(tokenizers[family]), seed=seed).save_pretrained(folder / f"{family}-{stage}")
            tokenizers[family].save_pretrained(folder / f"{family}-{stage}")
    (folder / "b-base" / "chat_template.jinja").unlink()
    (folder / "prompts.jsonl").write_text(
        "\n".join(json.dumps({"id": f"p{i}", "prompt": text}) for i, text in enumerate(PROMPTS))
    )
    study = {
        "name": "tiny",
        "models": {
            f"{family}-{stage}": {"model": f"./{family}-{stage}", "family": family, "stage": stage}
            for stage in ("base", "rl")
            for family in ("a", "b")
        },
        "prompts": "prompts.jsonl",
        "sampling": {"per_prompt": 2, "max_new_tokens": 24, "batch_size": 5},
        "resamples": 200,
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return folder / "study.yaml"


@pytest.fixture(scope="module", name="run")
def _run(study_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_study(load_study(study_file), tmp_path_factory.mktemp("run") / "tiny")


@pytest.fixture(scope="module", name="findings")
def _findings(run: Run) -> Findings:
    return analyse(run.study(), run)


def _plain_entropy(folder: Path, passage: Passage, framing: str) -> tuple[float, float]:
    """Mean entropy and surprisal of a response's tokens by nothing but transformers and float64."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    question = passage.prompt[0]["content"]
    if framing == "assistant":
        before, after = f"<|user|>{question}<|end|><|assistant|>", ""
    elif framing == "user":
        before, after = f"<|user|>{question}\n", ""
    else:
        before, after = f"{question}\n", ""
    own = passage.author == folder.name
    if own:
        context = tokenizer.encode(before, add_special_tokens=False)
        body = list(passage.token_ids or ())[: -1 if passage.ended else None]
    else:
        encoded = tokenizer(before + passage.response + after, add_special_tokens=False, return_offsets_mapping=True)
        is_body = [end > len(before) for _, end in encoded["offset_mapping"]]
        context = [i for i, b in zip(encoded["input_ids"], is_body, strict=True) if not b]
        body = [i for i, b in zip(encoded["input_ids"], is_body, strict=True) if b]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([context + body])).logits[0].double()
    entropies, surprisals = [], []
    for t, token in enumerate(body, start=len(context)):
        p = torch.softmax(logits[t - 1], 0)
        entropies.append(float(torch.special.entr(p).sum()))
        surprisals.append(float(-p[token].log()))
    return float(np.mean(entropies)), float(np.mean(surprisals))


def test_matrix_equals_a_plain_loop_over_hugging_face_logits(study_file: Path, run: Run, findings: Findings) -> None:
    checked = 0
    for reader, author, framing in [
        ("a-rl", "a-rl", "assistant"), ("a-rl", "b-rl", "assistant"), ("b-rl", "a-rl", "assistant"),
        ("b-rl", "b-rl", "assistant"), ("a-rl", "b-rl", "user"), ("b-rl", "b-rl", "none"), ("b-base", "a-rl", "none"),
        ("a-base", "b-base", "user"),
    ]:  # fmt: skip
        by_prompt: dict[str, list[tuple[float, float]]] = {}
        for passage in run.passages(author):
            if passage.response:
                means = _plain_entropy(study_file.parent / reader, passage, framing)
                by_prompt.setdefault(passage.prompt_id, []).append(means)
        expected = np.mean([np.mean(means, axis=0) for means in by_prompt.values()], axis=0)
        for i, quantity in enumerate(("entropy", "surprisal")):
            (found,) = select(findings, quantity, reader=reader, author=author, framing=framing)
            assert found.estimate == pytest.approx(expected[i], abs=1e-4), (reader, author, framing, quantity)
            assert found.low is not None
            assert found.high is not None
            assert found.low <= expected[i] <= found.high
            checked += 1
    assert checked == 16


def test_ratio_and_interaction_follow_from_the_printed_matrix(findings: Findings) -> None:
    members = ["a-rl", "b-rl"]
    entropy = np.array(
        [
            [select(findings, "entropy", reader=r, author=a, framing="assistant")[0].estimate for a in members]
            for r in members
        ]
    )
    at = {"stage": "rl", "framing": "assistant"}
    for i, reader in enumerate(members):
        (found,) = select(findings, "other_self_ratio", reader=reader, **at)
        assert found.estimate == pytest.approx(stats.other_self_ratio(entropy)[i], abs=1e-9)
    (found,) = select(findings, "interaction_of_means", **at)  # one number for both
    assert found.estimate == pytest.approx(stats.interaction(entropy)[0], abs=1e-9)


def test_geometric_measures_follow_from_the_token_tables(run: Run, findings: Findings) -> None:
    members, at = ["a-rl", "b-rl"], {"stage": "rl", "framing": "assistant"}
    log_RA, log_byte_RA = np.zeros((2, 2)), np.zeros((2, 2))
    for r, a in np.ndindex(2, 2):
        passages = {p.id: p for p in run.passages(members[a])}
        rows = run.tokens(Cell(members[r], members[a], "assistant")).to_pandas()
        rows = rows[~rows.is_end]
        table = rows.groupby("passage_id", observed=True).entropy.agg(["mean", "count"])
        table["prompt"] = [passages[i].prompt_id for i in table.index]
        table["log"] = np.log(np.maximum(table["mean"], stats.ENTROPY_FLOOR))
        n_bytes = [len(passages[i].response.encode()) for i in table.index]
        table["log_byte"] = table["log"] + np.log(table["count"] / n_bytes)
        log_RA[r, a], log_byte_RA[r, a] = table.groupby("prompt")[["log", "log_byte"]].mean().mean()
    for quantity, table in (("interaction", log_RA), ("interaction_per_byte", log_byte_RA)):
        (found,) = select(findings, quantity, **at)
        assert found.where["reader"] == "mean"
        assert found.estimate == pytest.approx(stats.interaction(np.exp(table)).mean(), abs=1e-6)
        assert any("one number for both readers" in note for note in found.notes)
    (recognition,) = select(findings, "recognition", **at)
    assert recognition.estimate == pytest.approx(-2 * stats.interaction(np.exp(log_RA))[0], abs=1e-6)
    for quantity in ("recognition_adjusted", "difficulty_slope", "recognised"):
        assert not select(findings, quantity)
    for i, reader in enumerate(members):
        (ratio,) = select(findings, "geometric_ratio", reader=reader, **at)
        assert ratio.estimate == pytest.approx(np.exp(log_RA[i, 1 - i] - log_RA[i, i]), rel=1e-6)


def test_interaction_over_spans_and_ranks_follow_from_the_token_tables(run: Run, findings: Findings) -> None:
    members = ["a-rl", "b-rl"]
    for quantity, start, stop in (("interaction_first_tokens", 0, 4), ("interaction_at_positions", 2, 4)):
        by_prompt: dict[tuple[str, str], dict[str, float]] = {}
        for reader, author in itertools.product(members, repeat=2):
            rows = run.tokens(Cell(reader, author, "assistant")).to_pandas()
            rows = rows[~rows.is_end]
            lengths = rows.groupby("passage_id", observed=True).position.max()
            rows = rows[rows.passage_id.map(lengths).astype(int) >= stop - 1]
            rows = rows[(rows.position >= start) & (rows.position < stop)]
            means = rows.groupby(["prompt_id", "passage_id"], observed=True).entropy.mean()
            by_prompt[reader, author] = means.groupby("prompt_id", observed=True).mean().to_dict()
        shared = set.intersection(*(set(means) for means in by_prompt.values()))
        table = [[np.mean([by_prompt[r, a][p] for p in shared]) for a in members] for r in members]
        (found,) = select(findings, quantity, stage="rl", framing="assistant", start=start, stop=stop)
        assert found.estimate == pytest.approx(stats.interaction(table).mean(), abs=1e-6)
        assert found.n == len(shared)
    # The first token is predicted from the prompt alone, so nobody can know who wrote it.
    (first,) = select(findings, "interaction_at_positions", stage="rl", framing="assistant", start=0)
    assert first.estimate == pytest.approx(0, abs=1e-6)
    for reader, other in (members, members[::-1]):
        own, foreign = (
            select(findings, "entropy", reader=reader, author=author, framing="assistant")[0].estimate or 0
            for author in (reader, other)
        )
        (rank,) = select(findings, "own_rank_among_authors", reader=reader, framing="assistant")
        assert rank.estimate == 1 + (foreign < own)


def test_identity_residual_is_quiet_on_every_reader(findings: Findings) -> None:
    found = select(findings, "identity_residual")
    assert {f.where["reader"] for f in found} == {"a-base", "b-base", "a-rl", "b-rl"}
    assert all(f.estimate is not None and abs(f.estimate) < 4 for f in found)


def test_model_without_template_reads_without_one_and_the_findings_say_so(run: Run, findings: Findings) -> None:
    study = run.study()
    assert own_framing(study, run, "b-base") == "none"
    assert {cell.framing for cell in plan(study).read_by(study, run, "b-base")} == {"none"}
    assert {cell.framing for cell in plan(study).read_by(study, run, "a-base")} == {"assistant", "user", "none"}
    (found,) = select(findings, "interaction", reader="mean", stage="base", framing="assistant")
    assert any("b-base has no chat template" in note for note in found.notes)
    (other,) = select(findings, "interaction", reader="mean", stage="rl", framing="assistant")
    assert not any("no chat template" in note for note in other.notes)


def test_random_models_show_no_recognition(findings: Findings) -> None:
    # Weights that never met any text cannot recognise their own; a leak of authorship into the reading would show here.
    for framing in ("assistant", "user", "none"):
        (found,) = select(findings, "interaction", reader="mean", stage="rl", framing=framing)
        assert found.estimate is not None
        assert abs(found.estimate) < 0.1


def test_end_of_turn_enters_the_identity_and_not_the_mean(run: Run) -> None:
    cell = Cell("a-rl", "a-rl", "assistant")
    tokens = run.tokens(cell).to_pandas()
    passages = {p.id: p for p in run.passages("a-rl")}
    assert any(p.ended for p in passages.values()) or any(not p.ended for p in passages.values())
    for name, rows in tokens.groupby("passage_id", observed=True):
        passage = passages[str(name)]
        assert rows.token_id.tolist() == list(passage.token_ids or ())
        assert rows.is_end.tolist() == [False] * (len(rows) - 1) + [bool(passage.ended)]
        assert rows.is_first.tolist() == [True] + [False] * (len(rows) - 1)
        assert rows.surprisal.to_numpy() == pytest.approx(-np.array(passage.logprobs), abs=1e-4)


def test_finished_cells_are_not_computed_again_and_missing_ones_are(run: Run) -> None:
    study = run.study()
    files = sorted((run.folder / "tokens").iterdir())
    before = {f.name: f.stat().st_mtime_ns for f in files}
    gone = files[3]
    content = gone.read_bytes()
    gone.unlink()
    done: list[tuple[str, int]] = []
    run_study(study, run.folder, report=lambda phase, model, n: done.append((phase, n)))
    after = {f.name: f.stat().st_mtime_ns for f in sorted((run.folder / "tokens").iterdir())}
    assert {name for name in before if before[name] != after[name]} == {gone.name}
    assert gone.read_bytes() == content
    assert {phase for phase, _ in done} == {"reading"}
    assert sum(n for _, n in done) == len(PROMPTS) * 2


def test_two_workers_give_the_same_tables_as_one_and_are_heard(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = run.study()
    caplog.set_level(logging.INFO, "enaction")
    other = run_study(study, tmp_path / "two", workers=2)
    assert {text.split(" is loaded")[0] for text in caplog.messages if " is loaded" in text} == set(study.models)
    assert len([record for record in caplog.records if record.name == "enaction.device"]) == 1
    for cell in plan(study).read_by(study, run, "b-rl"):
        one, two = run.tokens(cell).to_pandas(), other.tokens(cell).to_pandas()
        assert one.token_id.tolist() == two.token_id.tolist()
        assert one.entropy.to_numpy() == pytest.approx(two.entropy.to_numpy(), abs=1e-5)


def test_a_run_of_another_study_is_refused(run: Run) -> None:
    changed = run.study().model_copy(update={"seed": 99})
    with pytest.raises(StudyError, match="another study"):
        run_study(changed, run.folder)


def test_a_run_folder_of_an_older_version_is_gone_on_with_and_a_damaged_one_is_told(run: Run, tmp_path: Path) -> None:
    study = run.study()
    written = yaml.safe_load((run.folder / "study.yaml").read_text())
    del written["experiments"]  # a key that an older version did not know
    older, damaged = Run(tmp_path / "older"), Run(tmp_path / "damaged")
    for folder, text in ((older, yaml.safe_dump(written)), (damaged, "models: [")):
        folder.folder.mkdir()
        (folder.folder / "study.yaml").write_text(text)
    older.open(study)
    assert older.study() == study
    for again in (lambda: damaged.open(study), damaged.study):
        with pytest.raises(StudyError, match="not YAML"):
            again()


@dataclass(frozen=True, kw_only=True)
class Backwards(Text):
    """A text with its words in reverse order."""

    def write(self, desk: Desk) -> list[Passage]:
        return [
            dataclasses.replace(
                p, response=" ".join(reversed(p.response.split())) or "why", token_ids=None, author=self.name
            )
            for p in desk.passages("a-base")
        ]


@dataclass(frozen=True, kw_only=True)
class Afterwards(Text):
    """What a model says after the first words of another text."""

    of: str
    words: int

    def write(self, desk: Desk) -> list[Passage]:
        first = {p.prompt_id: " ".join(p.response.split()[: self.words]) for p in desk.passages(self.of)}
        begun = {p.id: beginning_ids(desk.reader.tokenizer, p, first[p.id], "assistant") for p in desk.prompts}
        short = Sampling(per_prompt=1, max_new_tokens=5)
        return desk.sample(desk.prompts, self.name, framing=None, sampling=short, beginnings=begun)


class Reversed(Experiment):
    """The experiment of this file: a-base's text backwards, and what a-rl says after its first words."""

    name: ClassVar[str] = "reversed"
    words: int = 3

    def plan(self, study: Study, prompts: Sequence[Prompt]) -> Plan:
        name, n = f"a-base.reversed{self.words}", len(PROMPTS)
        texts: dict[str, Text] = {
            "a-rl.after": Afterwards(
                name="a-rl.after", model="a-rl", count=n, needs=(name,), of=name, words=self.words
            ),
            name: Backwards(name=name, model=None, count=2 * n, needs=("a-base",)),
        }
        return Plan(texts, [Cell("a-rl", author, "assistant") for author in texts])

    def analyse(self, data: Data, ledger: Ledger) -> None:
        rate = data.cell("a-rl", f"a-base.reversed{self.words}", "assistant").entropy
        ledger.fact("rate", "nats", "a test", float(np.mean(rate)), len(rate))


def test_an_experiment_adds_texts_and_cells_to_a_run_that_is_there(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXPERIMENTS, "reversed", Reversed)
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    study = run.study().model_copy(update={"experiments": {"matrix": {}, "reversed": {"words": 2}}})
    done: list[tuple[str, str]] = []
    grown = run_study(study, folder, report=lambda phase, name, _: done.append((phase, name)))
    assert set(done) == {("sampling", "a-rl.after"), ("sampling", "a-base.reversed2"), ("reading", "a-rl")}
    assert analyse(study, grown)[-1].estimate is not None
    sources = {p.prompt_id: p for p in run.passages("a-base") if p.id.endswith("/1")}
    for passage in grown.passages("a-rl.after"):
        source = sources[passage.prompt_id].response.split() or ["why"]
        assert passage.response.split()[:2] == list(reversed(source))[:2]
        assert len(passage.token_ids or ()) <= passage.sampling["begun_with"] + 5
        assert passage.logprobs is None
    with pytest.raises(StudyError, match="another study"):
        run_study(run.study(), folder)  # the experiment would be forgotten
    with pytest.raises(StudyError, match="reversed: words"):
        plan(study.model_copy(update={"experiments": {"reversed": {"words": "many"}}}))
    with pytest.raises(StudyError, match="no experiment 'reverse'"):
        plan(study.model_copy(update={"experiments": {"reverse": {}}}))


def test_an_author_that_wrote_nothing_is_named(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    study, copy = run.study(), Run(tmp_path / "run")
    for cell in plan(study).read_by(study, copy, "a-rl"):
        if cell.author == "b-rl":
            copy.write_tokens(cell, copy.tokens(cell).slice(0, 0))
    with pytest.raises(StudyError, match="no token to measure in b-rl's passages"):
        analyse(study, copy)


def test_findings_survive_the_file(findings: Findings, tmp_path: Path) -> None:
    write_findings(tmp_path / "findings.json", findings)
    assert read_findings(tmp_path / "findings.json") == findings
    assert all(f.definition and f.unit and f.n > 0 for f in findings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "not YAML"),
        ("just words", "mapping"),
        ("name: x\nmodels: {}", "at least one model"),
        ("name: x\nmodels: {m: {model: zoo:ash-rl, family: f, colour: red}}", "models.m.colour"),
        ("name: x\nmodels: {world: {model: zoo:ash-rl, family: f}}", "cannot name a model"),
        ("name: x\nmodels: {m: {model: a, family: f}}\nsampling: {temperature: -1}", "sampling.temperature"),
        ("name: x\nmodels: {m: {model: a, family: f}}\nmatrices: {s: [m, n]}", "not among the models"),
        ("name: x\nmodels: {m: {model: a, family: f}}\nframings: [system]", "framings.0"),
        ("name: x\nmodels: {m: {model: a, family: f}}\nprompts: p.jsonl\nworld_text: true", "world_text"),
    ],
)
def test_bad_study_files_are_refused_with_the_key_at_fault(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match=message) as caught:
        load_study(path)
    assert "\n" not in str(caught.value)


def test_files_named_in_settings_are_found_beside_the_study(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    models = "models: {m: {model: 'zoo:ash-rl', family: f}}"
    path.write_text(
        f"name: x\n{models}\nexperiments: {{controls: {{human: people.jsonl}}, calibration: {{answers: 4}}}}"
    )
    study = load_study(path)
    assert study.experiments == {"controls": {"human": str(tmp_path / "people.jsonl")}, "calibration": {"answers": 4}}


def test_more_prompts_than_there_are_is_refused() -> None:
    study = Study.model_validate({"name": "x", "models": {"m": {"model": "a", "family": "f"}}, "n_prompts": 500})
    with pytest.raises(StudyError, match="lower n_prompts"):
        study.load_prompts()


def test_thinned_prompts_are_spread_over_all_topics() -> None:
    study = Study.model_validate({"name": "x", "models": {"m": {"model": "a", "family": "f"}}, "n_prompts": 54})
    prompts = study.load_prompts()
    assert len({p.id for p in prompts}) == 54
    assert len({p.id.rpartition("-")[0] for p in prompts}) == 13
