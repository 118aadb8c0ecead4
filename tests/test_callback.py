"""The training callback: right numbers, training untouched by them, and mistakes met before the first step."""

from __future__ import annotations

import functools
import json
import logging
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from transformers import LlamaForCausalLM, PreTrainedModel, TrainerCallback, TrainingArguments

from enaction.errors import UserError
from enaction.framing import frame, frame_prompt
from enaction.integrations import rolled, trl, verdicts
from enaction.integrations.rolled import Drawn
from enaction.integrations.trl import EnactionCallback
from enaction.integrations.untouched import untouched
from enaction.passages import Passage, Prompt
from enaction.reader import Reader
from enaction.rollouts import read_rollouts
from enaction.sampling import sample

pytest.importorskip("accelerate")
pytestmark = pytest.mark.filterwarnings("ignore")

TOKENIZER = tiny.word_tokenizer()
PROMPTS = [tiny.prompt(f"tell me about the {word}", f"p{i}") for i, word in enumerate(("fox", "river", "house", "old"))]
FOREIGN = [
    Passage(f"x{i}", p.id, p.messages, text, "person", ended=True)
    for i, (p, text) in enumerate(
        zip(PROMPTS, ("the old fox", "a river song but why", "house near the river", "old"), strict=True)
    )
]


def _model() -> LlamaForCausalLM:
    """With dropout, so that a random number too many shows in the weights."""
    model = tiny.llama(len(TOKENIZER))
    model.config.attention_dropout = 0.3
    layers: Any = model.model.layers
    for layer in layers:
        layer.self_attn.attention_dropout = 0.3
    return model


class _Board(TrainerCallback):
    """What a logger that was there before sees."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.seen.append(dict(logs))


def _train(folder: Path, model: Any, *callbacks: TrainerCallback, steps: int = 4, **changes: Any) -> Any:
    """A trainer after a short training."""
    trainer = _trainer(folder, model, *callbacks, steps=steps, **changes)
    trainer.train()
    return trainer


def _trainer(folder: Path, model: Any, *callbacks: TrainerCallback, steps: int = 4, **changes: Any) -> Any:
    from transformers import Trainer

    ids = torch.randint(8, len(TOKENIZER), (16, 12), generator=torch.Generator().manual_seed(1))
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=4,
        learning_rate=0.05,
        logging_steps=2,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=3,
        **changes,
    )
    data: Any = [{"input_ids": row, "labels": row} for row in ids]
    return Trainer(
        model=model, args=arguments, train_dataset=data, processing_class=TOKENIZER, callbacks=list(callbacks)
    )


def _callback(**changes: Any) -> EnactionCallback:
    options: dict[str, Any] = {"every_steps": 2, "time_share": 1, "max_new_tokens": 8}
    return EnactionCallback(PROMPTS, FOREIGN, **options | changes)


@pytest.fixture(name="warned")
def _warned() -> Iterator[list[str]]:
    """Lines that the callback warned with; transformers' loggers do not pass theirs on."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    trl._log.addHandler(handler)
    trl._log.setLevel(logging.WARNING)  # whatever verbosity transformers was left with
    yield lines
    trl._log.setLevel(logging.NOTSET)
    trl._log.removeHandler(handler)


def _same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_training_ends_with_the_same_weights_and_every_logger_sees_the_numbers(tmp_path: Path) -> None:
    plain = _train(tmp_path, _model())
    board, callback = _Board(), _callback()
    watched = _trainer(tmp_path, _model(), board)
    callback.attach(watched)
    watched.train()
    assert _same(plain.model, watched.model)
    assert watched.model.training
    losses = [[e["loss"] for e in t.state.log_history if "loss" in e] for t in (plain, watched)]
    assert losses[0] == losses[1]

    assert [e["step"] for e in callback.history] == [0, 2, 4]
    assert callback.to_table()["step"].to_pylist() == [0, 2, 4]
    for entries in (board.seen, watched.state.log_history):
        logged = [e for e in entries if "loss" in e]
        assert [e["enaction/identity"] for e in logged] == [e["identity"] for e in callback.history[1:]]
        assert all({"enaction/recognition", "enaction/ease", "enaction/verdict"} <= set(e) for e in logged)
    json.dumps(watched.state.log_history)
    start, _, end = callback.history
    assert start["recognition"] == pytest.approx(0, abs=1e-6)
    assert start["kl_start"] == pytest.approx(0, abs=1e-6)
    assert end["kl_start"] > 0.05


def test_numbers_are_those_of_the_definitions(tmp_path: Path) -> None:
    callback = _callback()
    trainer = _train(tmp_path, _model(), callback)
    entry = callback.history[-1]
    now, before = trainer.model.eval(), _model().eval()
    own = sample(Reader(now, TOKENIZER, name="m"), PROMPTS, max_new_tokens=8, author="the model in training")
    log_entropy: dict[tuple[str, str], np.ndarray] = {}
    tokens = []
    for who, model in (("now", now), ("before", before)):
        for author, passages in (("own", own), ("foreign", FOREIGN)):
            means = []
            for passage in passages:
                framed = frame(TOKENIZER, passage, "assistant")
                stats_4N = tiny.reference(model, framed.ids, framed.start, framed.stop)
                means.append(float(stats_4N[1, : stats_4N.shape[1] - framed.has_end].mean()))
                if (who, author) == ("now", "own"):
                    tokens.append(stats_4N)
            log_entropy[who, author] = np.log(means)
    ease_P = log_entropy["before", "foreign"] - log_entropy["before", "own"]
    ratio_P = log_entropy["now", "foreign"] - log_entropy["now", "own"]
    assert entry["ease"] == pytest.approx(ease_P.mean(), abs=1e-4)
    assert entry["recognition"] == pytest.approx((ratio_P - ease_P).mean(), abs=1e-4)
    assert entry["recognition_se"] == pytest.approx((ratio_P - ease_P).std(ddof=1) / 2, abs=1e-4)
    assert entry["log_ratio"] == pytest.approx(ratio_P.mean(), abs=1e-4)
    surprisal_N, entropy_N, varentropy_N, _ = torch.cat(tokens, 1).numpy()
    assert entry["identity"] == pytest.approx((surprisal_N - entropy_N).mean(), abs=1e-4)
    assert entry["identity_se"] == pytest.approx(np.sqrt(varentropy_N.sum()) / len(entropy_N), abs=1e-4)


def test_an_adapter_with_checkpointed_gradients_is_read_and_switched_off_for_the_judge(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")

    def adapted() -> Any:
        torch.manual_seed(0)
        model = _model()
        model.enable_input_require_grads()
        return peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_dropout=0.1))

    callback = _callback()
    plain = _train(tmp_path, adapted(), gradient_checkpointing=True)
    watched = _train(tmp_path, adapted(), callback, gradient_checkpointing=True)
    assert _same(plain.model, watched.model)
    assert not _same(adapted(), watched.model)
    assert [p.requires_grad for p in watched.model.parameters()] == [p.requires_grad for p in adapted().parameters()]
    assert callback.history[0]["kl_start"] == pytest.approx(0, abs=1e-6)
    assert callback.history[-1]["kl_start"] > 0.01


def test_a_model_trained_under_autocast_is_read_in_the_numbers_of_its_weights(tmp_path: Path) -> None:
    callback = _callback()
    plain = _train(tmp_path, _model(), bf16=True)
    watched = _train(tmp_path, _model(), callback, bf16=True)
    assert _same(plain.model, watched.model)
    assert callback._watch is not None
    assert callback._watch.reader.parity_error < 1e-5
    logits = []
    for trainer in (plain, watched):
        with torch.inference_mode():
            logits.append(trainer.model.eval()(torch.tensor([[8, 9]])).logits)
    assert torch.equal(*logits)  # and runs by the trainer's forward again


def test_the_judge_keeps_the_weights_of_the_start_where_trl_replaced_the_forward(tmp_path: Path) -> None:
    model: Any = _model()
    theirs = model.forward
    model.forward = functools.wraps(theirs)(lambda *args, **kwargs: theirs(*args, **kwargs))  # as TRL does
    callback = _callback()
    _train(tmp_path, model, callback)
    assert callback._watch is not None
    assert callback._watch.judge is not None
    judge = callback._watch.judge.reader.model
    ids = torch.arange(8, 20)[None]
    with torch.inference_mode():
        torch.testing.assert_close(judge(ids).logits, _model()(ids).logits)


def test_all_that_a_reading_may_change_is_set_back_even_after_an_error() -> None:
    model = _model()
    rotary: Any = model.model.rotary_emb
    before = (rotary.inv_freq, rotary.max_seq_len_cached)

    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    def disturb() -> None:
        with untouched(model), torch.inference_mode():
            draws()
            rotary.inv_freq = rotary.inv_freq * 2
            rotary.max_seq_len_cached = 9
            model.lm_head.weight.requires_grad_(False)
            raise RuntimeError

    with untouched(model):
        expected = draws()
    with pytest.raises(RuntimeError):
        disturb()
    assert draws() == expected
    assert rotary.inv_freq is before[0]
    assert rotary.max_seq_len_cached == before[1]
    assert model.lm_head.weight.requires_grad


def test_evaluations_beyond_the_time_budget_are_skipped_and_the_log_says_so(tmp_path: Path) -> None:
    callback = _callback(time_share=1e-6)
    trainer = _train(tmp_path, _model(), callback)
    assert [e["step"] for e in callback.history] == [0]
    assert callback.skipped == 2
    assert [e["enaction/skipped"] for e in trainer.state.log_history if "loss" in e] == [1, 2]


def test_an_error_in_the_middle_is_one_warning_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warned: list[str]
) -> None:
    plain = _train(tmp_path, _model())
    callback, numbers = _callback(), trl.Watch.numbers
    calls = []

    def broken(self: trl.Watch) -> Any:
        calls.append(torch.rand(()))
        if len(calls) > 1:
            raise RuntimeError("out of\nmemory")
        return numbers(self)

    monkeypatch.setattr(trl.Watch, "numbers", broken)
    watched = _train(tmp_path, _model(), callback)
    assert warned == ["enaction: out of memory; EnactionCallback is off from here on, and the training goes on"]
    assert callback.is_off
    assert len(calls) == 2
    assert _same(plain.model, watched.model)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _callback(every_steps=0), "every_steps 0 is not possible"),
        (lambda: _callback(time_share=5), "time_share 5 is not possible"),
        (lambda: EnactionCallback([], FOREIGN), "no prompts"),
        (lambda: EnactionCallback([PROMPTS[0], PROMPTS[0]]), "same id"),
        (lambda: EnactionCallback(["why"], FOREIGN), "fewer than 2 of the prompts"),
        (lambda: _callback(save_rollouts="x.jsonl"), "attach"),
        (lambda: _callback(judge=Reader(_model(), TOKENIZER, name="person")), "judge person wrote foreign"),
        (lambda: _callback(judge="./nowhere"), "nowhere"),
        (lambda: _callback(max_new_tokens=500), "does not fit"),
        (lambda: EnactionCallback("none.jsonl"), "none.jsonl"),
    ],
)
def test_what_could_not_work_fails_before_the_first_step(
    make: Callable[[], EnactionCallback], message: str, tmp_path: Path
) -> None:
    steps: list[int] = []
    counter = TrainerCallback()
    counter.on_step_begin = lambda *_, **__: steps.append(1)
    with pytest.raises(UserError, match=message):
        _train(tmp_path, _model(), counter, make())
    assert steps == []


def _batch(model: PreTrainedModel, temperature: float) -> list[dict[str, torch.Tensor]]:
    """Answers to the prompts as TRL keeps them, with the sampler's log-probabilities."""
    reader = Reader(model, TOKENIZER, name="sampler")
    answers = sample(reader, PROMPTS, n=12, max_new_tokens=20, temperature=temperature)
    before = [frame_prompt(TOKENIZER, Prompt(p.prompt_id, p.prompt), "assistant").ids for p in answers]

    def padded(rows: list[Any], side: str, dtype: torch.dtype = torch.long) -> torch.Tensor:
        tensors = [torch.tensor(row, dtype=dtype) for row in rows]
        return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_side=side)

    ids = [p.token_ids or () for p in answers]
    return [
        {
            "prompt_ids": padded([*before, (2, 2, 2)], "left")[:-1],
            "prompt_mask": padded([[1] * len(b) for b in before], "left"),
            "completion_ids": padded(ids, "right"),
            "completion_mask": padded([[1] * len(i) for i in ids], "right"),
            "sampling_per_token_logps": padded([p.logprobs for p in answers], "right", torch.float32),
        }
    ]


def _compared(reader: Reader, batch: list[dict[str, torch.Tensor]], how: Drawn) -> tuple[Any, Any]:
    return rolled.compared(reader, rolled.rolled(batch), how, is_fresh=True, noise=0.05)


def test_rollouts_agree_with_the_model_that_sampled_them_and_with_no_other(tmp_path: Path) -> None:
    model = _model().eval()
    reader, batch = Reader(model, TOKENIZER, name="trainer"), _batch(model, 0.8)
    numbers, answers = _compared(reader, batch, Drawn(0.8, 1.0, None, False))
    assert numbers["kl_sampler"] == pytest.approx(0, abs=1e-5)
    assert numbers["kl_sampler_sd"] < 1e-4
    assert abs(numbers["rollout_identity_z"]) < 4
    assert verdicts.verdict_on(numbers, True) == ("sound", False)

    rolled.append(tmp_path / "r.jsonl", answers, Drawn(0.8, 1.0, None, False), 7)
    read = list(read_rollouts(tmp_path / "r.jsonl"))
    assert [r.token_ids for r in read] == [a.completion_ids for a in answers]
    for rollout in read:
        assert rollout.sampler_logprobs is not None
        assert rollout.trainer_logprobs is not None
        np.testing.assert_allclose(rollout.sampler_logprobs, rollout.trainer_logprobs, atol=1e-4)
        assert rollout.temperature == 0.8

    raw, _ = _compared(reader, batch, Drawn(1.0, 1.0, None, False))
    words, is_alarm = verdicts.verdict_on(raw, True)
    assert is_alarm
    assert "rollouts were not sampled from what is trained" in words
    assert "sampler and trainer differ beyond noise" in words
    other, _ = _compared(Reader(tiny.llama(len(TOKENIZER), seed=5), TOKENIZER), batch, Drawn(0.8, 1.0, None, False))
    assert other["kl_sampler"] > 0.1


def test_tokens_that_the_policy_did_not_write_do_not_count() -> None:
    model = _model().eval()
    (batch,) = _batch(model, 1.0)
    tool = torch.ones_like(batch["completion_mask"])
    tool[:, 1] = 0
    batch["sampling_per_token_logps"][:, 1] = -50.0
    batch["tool_mask"] = tool
    numbers, answers = _compared(Reader(model, TOKENIZER), [batch], Drawn(1.0, 1.0, None, False))
    assert numbers["kl_sampler"] == pytest.approx(0, abs=1e-5)
    assert "rollout_identity" not in numbers
    assert not any(a.mask[1] for a in answers if len(a.mask) > 1)


def test_recorded_log_probabilities_are_compared_where_the_weights_have_moved_on() -> None:
    model = _model().eval()
    (batch,) = _batch(model, 1.0)
    batch["old_per_token_logps"] = batch["sampling_per_token_logps"] - 0.1
    answers = rolled.rolled([batch])
    numbers, _ = rolled.compared(
        Reader(tiny.llama(len(TOKENIZER), seed=5), TOKENIZER),
        answers,
        Drawn(1.0, 0.9, None, False),
        is_fresh=False,
        noise=0.05,
    )
    assert numbers["kl_sampler"] == pytest.approx(0.1, abs=1e-6)
    assert "top_p" in verdicts.verdict_on(numbers, True)[0]


def test_sampling_settings_are_those_of_the_trainer() -> None:
    args = SimpleNamespace(
        temperature=0.7, top_p=1.0, top_k=0, min_p=None, repetition_penalty=1.0, generation_kwargs=None
    )
    assert rolled.drawn(args) == Drawn(0.7, 1.0, None, False)
    assert rolled.drawn(args).is_full
    for change in ({"top_k": 20}, {"top_p": 0.9}, {"min_p": 0.1}, {"mask_truncated_completions": True}):
        assert not rolled.drawn(SimpleNamespace(**vars(args) | change)).is_full


def test_verdicts_say_what_the_interval_says() -> None:
    for low, high, words in (
        (0.1, 0.3, "better"),
        (-0.3, -0.1, "less well"),
        (-0.01, 0.01, "as well"),
        (-0.1, 0.2, "open"),
    ):
        numbers = {"recognition": (low + high) / 2, "recognition_low": low, "recognition_high": high}
        assert words in verdicts.verdict_on(numbers, False)[0]
    assert verdicts.verdict_on({"identity_z": 4.5, "identity": 0.2}, False)[1]
    assert not verdicts.verdict_on({"identity_z": 3.5, "identity": 0.2}, False)[1]
