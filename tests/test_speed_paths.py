"""Faster paths say what the plain ones say, and stand back where they cannot."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tiny
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.modeling_utils import PreTrainedModel

from enaction.framing import Framed
from enaction.passages import Passage
from enaction.reader import Reader
from enaction.reader.lean import LeanSteps, lean_steps
from enaction.sampling import sample

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}


def mistral(vocabulary: int, window: int | None = None) -> PreTrainedModel:
    return MistralForCausalLM(MistralConfig(**SIZES, vocab_size=vocabulary, head_dim=16, sliding_window=window)).eval()


def qwen2(vocabulary: int) -> PreTrainedModel:
    model = Qwen2ForCausalLM(Qwen2Config(**SIZES, vocab_size=vocabulary)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    return model


def yarn(vocabulary: int) -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SIZES, vocab_size=vocabulary, rope_parameters=YARN)).eval()


LEAN: dict[str, Callable[[int], PreTrainedModel]] = {
    "llama": tiny.llama,
    "mistral": mistral,
    "qwen2": qwen2,
    "yarn": yarn,
}
# Unlike in length, so that batches are padded.
PROMPTS = [tiny.prompt("why", "a"), tiny.prompt("tell me about the old red fox near the river", "b")]


def reader(make: Callable[[int], PreTrainedModel]) -> Reader:
    torch.manual_seed(0)
    tokenizer = tiny.word_tokenizer()
    return Reader(make(len(tokenizer)), tokenizer)


def written(model: Reader) -> list[Passage]:
    return sample(model, PROMPTS, n=12, max_new_tokens=40)


@pytest.mark.parametrize("name", LEAN)
def test_lean_steps_draw_the_samples_that_the_models_own_forward_draws(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lean, own = reader(LEAN[name]), reader(LEAN[name])
    monkeypatch.setattr(own._steps, "can_be_lean", False)
    assert lean._steps.can_be_lean
    found = written(lean)
    # The probe of the route did not turn it down.
    assert lean._steps.can_be_lean
    for one, two in zip(found, written(own), strict=True):
        assert one.token_ids == two.token_ids
        np.testing.assert_allclose(np.array(one.logprobs), np.array(two.logprobs), atol=1e-5)
    assert len({len(p.token_ids or ()) for p in found}) > 5


def test_lean_steps_follow_weights_that_changed_between_two_calls() -> None:
    model = reader(tiny.llama)
    before = written(model)
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.mul_(1.1)
    again = Reader(model.model, model.tokenizer)
    after = written(model)
    assert [p.token_ids for p in after] == [p.token_ids for p in written(again)]
    assert [p.token_ids for p in after] != [p.token_ids for p in before]


def _hook(model: PreTrainedModel) -> PreTrainedModel:
    model.get_submodule("model.layers.1.mlp").register_forward_hook(lambda *_: None)
    return model


def _adapter(model: PreTrainedModel) -> PreTrainedModel:
    attention = model.get_submodule("model.layers.0.self_attn")
    attention.q_proj = type("Adapted", (nn.Linear,), {})(32, 32, bias=False)
    return model


REFUSED: dict[str, Callable[[int], PreTrainedModel]] = {
    "hook": lambda v: _hook(tiny.llama(v)),
    "adapter": lambda v: _adapter(tiny.llama(v)),
    "sliding window": lambda v: mistral(v, window=8),
    "half precision": lambda v: tiny.llama(v).bfloat16(),
    "other architecture": tiny.neox,
    "soft cap and windows": tiny.gemma2,
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_what_is_not_plainly_known_runs_its_own_forward(make: Callable[[int], PreTrainedModel]) -> None:
    assert lean_steps(make(60).base_model) is None


def test_a_lean_path_that_the_probe_does_not_confirm_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    own = reader(tiny.llama)
    monkeypatch.setattr(own._steps, "can_be_lean", False)
    expected = written(own)
    step = LeanSteps.step
    monkeypatch.setattr(LeanSteps, "step", lambda *given: step(*given) * 1.01)
    model = reader(tiny.llama)
    assert [p.token_ids for p in written(model)] == [p.token_ids for p in expected]
    assert not model._steps.can_be_lean
    assert model.route.is_cached


SHARING: dict[str, Callable[[int], PreTrainedModel]] = {
    "llama": tiny.llama,
    "windows shorter than the context": tiny.gemma2,
    "neox": tiny.neox,
}


def several_to_each(lengths: tuple[int, ...] = (40, 3, 25)) -> list[Framed]:
    """Passages of unlike length, four behind each context, mixed up."""
    rng = np.random.default_rng(0)
    contexts = [tuple(int(i) for i in rng.integers(8, 50, length)) for length in lengths]
    framed = []
    for k in range(4):
        for context in contexts:
            text = tuple(int(i) for i in rng.integers(8, 50, 5 + 4 * k))
            stop = len(context) + len(text)
            framed.append(Framed(context + text, len(context), stop, has_end=False, passage_id=f"{len(context)}-{k}"))
    return framed


def fed(model: Reader, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the ids that the body will be given."""
    shapes: list[tuple[int, ...]] = []
    body = model.model.base_model
    run = body.forward
    monkeypatch.setattr(body, "forward", lambda **given: shapes.append(given["input_ids"].shape) or run(**given))
    return shapes


@pytest.mark.parametrize("make", SHARING.values(), ids=SHARING)
@pytest.mark.parametrize("budget", [20, 10_000])
def test_a_context_that_is_run_once_leaves_every_score_as_it_is(
    make: Callable[[int], PreTrainedModel], budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = reader(make)
    framed = several_to_each()
    alone = [model.score([f])[0] for f in framed]
    with model.reading():
        assert model.forward.can_share
    shapes = fed(model, monkeypatch)
    together = model.score(framed, token_budget=budget)
    for one, two in zip(alone, together, strict=True):
        for name in ("surprisal", "entropy", "varentropy"):
            np.testing.assert_allclose(getattr(one, name), getattr(two, name), atol=1e-5, rtol=1e-5)
        np.testing.assert_array_equal(one.rank, two.rank)
    # The two long contexts less their last token, each by itself; the short one stays with its passages.
    assert {shape for shape in shapes if shape[0] == 1 and shape[1] >= 24} == {(1, 39), (1, 24)}


def test_short_contexts_are_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    model = reader(tiny.llama)
    shapes = fed(model, monkeypatch)
    model.score(several_to_each((3, 4)), token_budget=10_000)
    assert shapes == [(8, 4 + 5 + 12 - 1)]


def test_a_model_whose_cache_cannot_be_gone_on_from_is_read_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    model = reader(tiny.llama)
    expected = model.score(several_to_each())
    plain = reader(tiny.llama)

    def refuse(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(plain.forward, "continued", refuse)
    for one, two in zip(expected, plain.score(several_to_each()), strict=True):
        np.testing.assert_allclose(one.surprisal, two.surprisal, atol=1e-5, rtol=1e-5)
