"""The callback in short real runs of TRL's SFT, DPO and GRPO trainers on embedded models, beside runs without it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from enaction import zoo
from enaction.framing import frame_prompt
from enaction.integrations.trl import EnactionCallback
from enaction.passages import Passage, Prompt
from enaction.reader import Reader
from enaction.rollouts import read_rollouts
from enaction.sampling import sample

pytest.importorskip("trl")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

HELD_OUT, ASKED = zoo.prompts()[:12], zoo.prompts()[12:44]
COMMON: dict[str, Any] = {
    "report_to": "none",
    "disable_tqdm": True,
    "use_cpu": True,
    "bf16": False,
    "save_strategy": "no",
    "logging_steps": 5,
    "seed": 1,
}


@cache
def _written(name: str) -> list[Passage]:
    return sample(Reader.load(f"zoo:{name}"), [*HELD_OUT, *ASKED], n=2, max_new_tokens=64)


def _turns(prompt: Prompt | Passage) -> list[dict[str, str]]:
    messages = prompt.messages if isinstance(prompt, Prompt) else prompt.prompt
    return [dict(m) for m in messages]  # pyright: ignore[reportReturnType, reportArgumentType]


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _sft(folder: Path) -> Any:
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    reader = Reader.load("zoo:ash-base")
    rows = [{"prompt": _turns(p), "completion": _said(p.response)} for p in _written("ash-sft") if p.response]
    arguments = SFTConfig(
        output_dir=str(folder), max_steps=20, per_device_train_batch_size=8, learning_rate=1e-3, **COMMON
    )
    return SFTTrainer(
        model=reader.model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=reader.tokenizer
    )


def _dpo(folder: Path) -> Any:
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    reader, written = Reader.load("zoo:ash-sft"), _written("ash-sft")
    rows = [
        {"prompt": _turns(p), "chosen": _said(better.response), "rejected": _said(worse.response)}
        for p, *pair in zip(ASKED, written[24::2], written[25::2], strict=True)
        for worse, better in [sorted(pair, key=lambda x: len(set(x.response.split())))]
    ]
    arguments = DPOConfig(
        output_dir=str(folder), max_steps=20, per_device_train_batch_size=8, learning_rate=3e-4, **COMMON
    )
    return DPOTrainer(
        model=reader.model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=reader.tokenizer
    )


def _grpo(folder: Path, *, drift: float = 1.0, has_logprobs: bool = True) -> Any:
    """With a sampler of its own, as vLLM is one; it draws at `drift` times the temperature that it is asked for."""
    from datasets import Dataset
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    reader = Reader.load("zoo:ash-sft")
    arguments = GRPOConfig(
        output_dir=str(folder),
        max_steps=20,
        per_device_train_batch_size=16,
        num_generations=4,
        max_completion_length=64,
        temperature=0.9,
        learning_rate=1e-3,
        **COMMON,
    )

    def rollouts(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        sampler = Reader(trainer.model, reader.tokenizer, name="sampler")
        asked = [Prompt(f"p{i}", tuple(turns)) for i, turns in enumerate(prompts)]
        seed = trainer.state.global_step
        drawn = sample(sampler, asked, temperature=0.9 * drift, max_new_tokens=64, seed=seed)
        return {
            "prompt_ids": [list(frame_prompt(reader.tokenizer, p, "assistant").ids) for p in asked],
            "completion_ids": [list(p.token_ids or ()) for p in drawn],
            "logprobs": [list(p.logprobs or ()) for p in drawn],
        }

    def reward(completions: list[Any], **_: Any) -> list[float | None]:
        return [float(len(set(c[0]["content"].split()))) for c in completions]

    return GRPOTrainer(
        model=reader.model,
        reward_funcs=reward,
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": _turns(p)} for p in ASKED]),
        processing_class=reader.tokenizer,
        rollout_func=rollouts if has_logprobs else None,
    )


def _callback(**changes: Any) -> EnactionCallback:
    foreign = [p for p in _written("birch-sft") if p.prompt_id in {q.id for q in HELD_OUT}]
    options: dict[str, Any] = {"every_steps": 10, "time_share": 1}
    return EnactionCallback(HELD_OUT, foreign, **options | changes)


@pytest.mark.parametrize("make", [_sft, _dpo, _grpo], ids=["sft", "dpo", "grpo"])
def test_a_real_run_ends_with_the_same_weights_and_is_called_sound(make: Callable[[Path], Any], tmp_path: Path) -> None:
    plain = make(tmp_path / "a")  # which also seeds
    plain.train()
    watched = make(tmp_path / "b")
    callback = _callback().attach(watched)
    begun = time.perf_counter()
    watched.train()
    total = time.perf_counter() - begun
    one, other = plain.model.state_dict(), watched.model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    rewards = [[e.get("reward", e.get("loss")) for e in t.state.log_history if "loss" in e] for t in (plain, watched)]
    assert rewards[0] == rewards[1]

    assert [e["step"] for e in callback.history] == [0, 10, 20]
    assert [e["alarm"] for e in callback.history] == [0, 0, 0]
    logged = [e for e in watched.state.log_history if "enaction/recognition" in e]
    assert [e["step"] for e in logged] == [5, 10, 20]  # that of the start goes with the first entry
    assert callback.history[-1]["kl_start"] > 0.01
    assert ("kl_sampler" in callback.history[-1]) == (make is _grpo)
    print(f"\n{total:.1f} s with evaluations of", [f"{e['seconds']:.2f}" for e in callback.history])
    for entry in callback.history:
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in entry.items()})


def test_rollouts_of_a_real_run_are_saved_with_the_log_probabilities_of_both_sides(tmp_path: Path) -> None:
    trainer = _grpo(tmp_path)
    callback = _callback(save_rollouts=tmp_path / "rollouts.jsonl").attach(trainer)
    trainer.train()
    read = list(read_rollouts(tmp_path / "rollouts.jsonl"))
    assert len(read) == 32
    for rollout in read:
        assert rollout.sampler_logprobs is not None
        assert rollout.trainer_logprobs is not None
        assert abs(rollout.sampler_logprobs - rollout.trainer_logprobs).max() < 1e-3
        assert rollout.temperature == 0.9
    assert callback.history[-1]["kl_sampler"] == pytest.approx(0, abs=1e-4)


def test_a_sampler_at_another_temperature_is_an_alarm(tmp_path: Path) -> None:
    trainer = _grpo(tmp_path, drift=1.3)
    callback = _callback().attach(trainer)
    trainer.train()
    assert [e["alarm"] for e in callback.history] == [0, 1, 1]
    assert "not sampled from what is trained" in callback.history[-1]["verdict"]


def test_rollouts_of_transformers_own_sampler_are_checked_without_its_log_probabilities(tmp_path: Path) -> None:
    trainer = _grpo(tmp_path, has_logprobs=False)
    callback = _callback(save_rollouts=tmp_path / "rollouts.jsonl").attach(trainer)
    trainer.train()
    for entry in callback.history[1:]:
        assert abs(entry["rollout_identity_z"]) < 4
        assert "kl_sampler" not in entry
    assert all(r.trainer_logprobs is not None for r in read_rollouts(tmp_path / "rollouts.jsonl"))
