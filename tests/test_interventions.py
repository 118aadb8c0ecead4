"""Interventions against hand-written forwards, donors' caches, and nnsight where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from enaction.continuing import continued
from enaction.errors import FramingError, ModelError, UserError
from enaction.framing import Framed, frame
from enaction.reader import Reader
from enaction.reader.interventions import Capture, Edit, Spot, Treated, intervening, layers, overwrite_cache
from enaction.reader.projections import projections

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.3,
    "max_position_embeddings": 256,
}


WINDOWED: dict[str, Any] = SHAPE | {"sliding_window": 8, "query_pre_attn_scalar": 8}
NEOX: dict[str, Any] = {key: value for key, value in SHAPE.items() if key not in ("num_key_value_heads", "head_dim")}
MODELS: dict[str, Callable[[int], tuple[type[PreTrainedModel], PreTrainedConfig]]] = {
    "llama": lambda v: (LlamaForCausalLM, LlamaConfig(vocab_size=v, **SHAPE)),
    "gpt-neox": lambda v: (GPTNeoXForCausalLM, GPTNeoXConfig(vocab_size=v, **NEOX)),
    "qwen3": lambda v: (Qwen3ForCausalLM, Qwen3Config(vocab_size=v, **SHAPE)),
    "gemma2": lambda v: (Gemma2ForCausalLM, Gemma2Config(vocab_size=v, **WINDOWED)),
    "gemma3": lambda v: (Gemma3ForCausalLM, Gemma3TextConfig(vocab_size=v, **WINDOWED)),
}


def _model(name: str, vocabulary: int) -> PreTrainedModel:
    torch.manual_seed(3)
    kind, config = MODELS[name](vocabulary)
    return kind(config).eval()


@pytest.fixture(scope="module", params=list(MODELS))
def reader(request: pytest.FixtureRequest) -> Reader:
    tokenizer = tiny.word_tokenizer()
    return Reader(_model(request.param, len(tokenizer)), tokenizer, name=request.param)


TEXTS = (
    "a small red fox walked into the garden",
    "the river",
    "one old bird sang a song near the stone house at night",
)


@pytest.fixture(scope="module")
def framed(reader: Reader) -> list[Framed]:
    return [frame(reader.tokenizer, tiny.passage(text), "assistant") for text in TEXTS]


def _responses(framed: list[Framed]) -> list[np.ndarray]:
    return [np.arange(f.start - 1, f.stop - 1) for f in framed]


def _direction(channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=channels).astype(np.float32)


def _width(reader: Reader) -> int:
    return reader.model.config.get_text_config().hidden_size


def _by_hand(reader: Reader, framed: Framed, change: dict[int, Callable[[torch.Tensor], torch.Tensor]]) -> torch.Tensor:
    """Logits [T, V] of one text by a loop over the blocks, each residual stream changed as asked."""
    model: Any = reader.model
    ids = torch.tensor([framed.ids[: framed.stop - 1]])
    body = model.base_model
    stack = body.layers
    calls: list[tuple[tuple, dict]] = []
    handles = [
        block.register_forward_pre_hook(lambda m, a, k: calls.append((a, k)), with_kwargs=True) for block in stack
    ]
    with torch.inference_mode():
        body(input_ids=ids, use_cache=False)
    for handle in handles:
        handle.remove()
    state = calls[0][0][0] if calls[0][0] else calls[0][1]["hidden_states"]
    with torch.inference_mode():
        state = change.get(0, lambda h: h)(state)
        for number, (block, (given, named)) in enumerate(zip(stack, calls, strict=True), start=1):
            rest = {key: value for key, value in named.items() if key != "hidden_states"}
            out = block(state, *given[1:], **rest)
            state = change.get(number, lambda h: h)(out if isinstance(out, torch.Tensor) else out[0])
        norm = body.norm if hasattr(body, "norm") else body.final_layer_norm
        logits = model.get_output_embeddings()(norm(state))
        cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
        return (torch.tanh(logits / cap) * cap if cap else logits)[0]


def _entropy(logits_TV: torch.Tensor) -> np.ndarray:
    logprobs = torch.log_softmax(logits_TV.double(), 1)
    return -(logprobs.exp() * logprobs).sum(1).numpy()


def test_zero_strength_is_bit_equal_and_no_intervention_is_a_score(reader: Reader, framed: list[Framed]) -> None:
    treated, where = Treated(reader, framed), _responses(framed)
    plain = treated.read().scores
    spots = [Spot(layer) for layer in range(layers(reader) + 1)] + [Spot(2, "key"), Spot(3, "value")]
    edits = [Edit(spot, where, _direction(_channels(reader, spot)), strength=0.0) for spot in spots]
    nothing = treated.read(edits).scores
    for one, other, own in zip(plain, nothing, reader.score(framed), strict=True):
        np.testing.assert_array_equal(one.entropy, other.entropy)
        np.testing.assert_allclose(one.entropy, own.entropy, atol=2e-6)


def _channels(reader: Reader, spot: Spot) -> int:
    if spot.part == "residual":
        return _width(reader)
    config = reader.model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return heads * (getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


@pytest.mark.parametrize("how", ["bfloat16", "own logits"])
def test_half_precision_and_models_that_are_run_whole(how: str) -> None:
    """Zero strength changes no bit in half precision either; a model whose head is not run apart is read as it is."""
    model = _model("gemma2", len(tiny.word_tokenizer()))
    reader = Reader(model.bfloat16() if how == "bfloat16" else model, tiny.word_tokenizer())
    if how == "own logits":
        reader.forward.head = None
    framed = [frame(reader.tokenizer, tiny.passage(text), "assistant") for text in TEXTS]
    treated, value = Treated(reader, framed), _direction(_width(reader))
    plain = treated.read().scores
    spots = [Spot(1), Spot(2, "key"), Spot(2, "value"), Spot(4)]
    nothing = treated.read([Edit(s, None, _direction(_channels(reader, s)), strength=0.0) for s in spots]).scores
    moved = treated.read([Edit(Spot(1), None, value)]).scores
    for one, other, far, own in zip(plain, nothing, moved, reader.score(framed), strict=True):
        np.testing.assert_array_equal(one.entropy, other.entropy)
        np.testing.assert_allclose(one.entropy, own.entropy, atol=0.1 if how == "bfloat16" else 1e-5)
        assert np.abs(one.entropy - far.entropy).max() > 1e-3


@pytest.mark.parametrize("layer", [0, 2, 4])
@pytest.mark.parametrize("kind", ["add", "set"])
def test_an_edit_is_that_of_a_hand_written_forward(reader: Reader, framed: list[Framed], layer: int, kind: str) -> None:
    basis, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(_width(reader), 2)))
    coordinates = np.array([0.7, -1.2], np.float32)
    where = [np.arange(f.start - 1, f.stop - 1, 2) for f in framed]
    edit = Edit(Spot(layer), where, coordinates, kind, basis=basis, strength=0.5)  # pyright: ignore
    scores = Treated(reader, framed).read([edit]).scores
    B = torch.from_numpy(basis).float()
    for f, at, score in zip(framed, where, scores, strict=True):

        def change(h: torch.Tensor, at: np.ndarray = at) -> torch.Tensor:
            h, value = h.clone(), torch.from_numpy(coordinates)
            delta = value if kind == "add" else value - h[:, at] @ B
            h[:, at] += 0.5 * delta @ B.T
            return h

        expected = _entropy(_by_hand(reader, f, {layer: change}))[f.start - 1 :]
        np.testing.assert_allclose(score.entropy, expected, atol=2e-5)
        assert np.abs(score.entropy - _entropy(_by_hand(reader, f, {}))[f.start - 1 :]).max() > 1e-3


def test_captures_are_hidden_states_and_see_edits(reader: Reader, framed: list[Framed]) -> None:
    where, n = _responses(framed), layers(reader)
    captures = [Capture(Spot(layer), where) for layer in range(n)]
    captured = Treated(reader, framed).read(captures=captures).captured
    for i, f in enumerate(framed):
        with torch.inference_mode():
            hidden = reader.model(torch.tensor([f.ids[: f.stop - 1]]), output_hidden_states=True).hidden_states
        for layer, capture in enumerate(captures):
            np.testing.assert_allclose(captured[capture][i], hidden[layer][0, where[i]].numpy(), atol=1e-4)
    value, at = _direction(_width(reader)), Capture(Spot(2), where)
    moved = Treated(reader, framed).read([Edit(Spot(2), where, value, "set")], [at]).captured[at]
    np.testing.assert_allclose(moved[0], np.tile(value, (len(where[0]), 1)), atol=1e-6)


def test_layers_below_an_edit_are_not_run_again_and_nothing_changes(reader: Reader, framed: list[Framed]) -> None:
    where, value = _responses(framed), 2 * _direction(_width(reader))
    calls: list[int] = []
    body: Any = reader.model.base_model
    handle = body.layers[0].mlp.register_forward_hook(lambda *_: calls.append(1))
    treated = Treated(reader, framed)
    first = treated.read([Edit(Spot(2), where, value)]).scores
    fresh = Treated(reader, framed).read([Edit(Spot(3), where, value)]).scores
    ran = len(calls)
    again = treated.read([Edit(Spot(2), where, value)]).scores
    later = treated.read([Edit(Spot(3), where, value)]).scores
    assert len(calls) == ran  # block 1 was not run in the last two
    plain = treated.read().scores
    assert len(calls) > ran
    handle.remove()
    for one, two, three, four in zip(first, again, fresh, later, strict=True):
        np.testing.assert_array_equal(one.entropy, two.entropy)
        np.testing.assert_array_equal(three.entropy, four.entropy)
    assert np.abs(plain[0].entropy - first[0].entropy).max() > 1e-3


def test_patching_all_keys_and_values_is_the_donors_continuation(reader: Reader) -> None:
    tokenizer = reader.tokenizer
    one = frame(tokenizer, tiny.passage("a small red fox walked into the garden and saw the river"), "assistant")
    ids = list(one.ids)
    swapped = [*ids[: one.start], *reversed(ids[one.start : one.start + 6]), *ids[one.start + 6 :]]
    other = Framed(tuple(swapped), one.start, one.stop, one.has_end)
    at = np.arange(one.start, one.start + 6)
    spots = [Spot(layer, part) for layer in range(1, layers(reader) + 1) for part in ("key", "value")]
    captures = [Capture(spot, [at]) for spot in spots]
    donor = Treated(reader, [other]).read(captures=captures)
    edits = [Edit(spot, [at], donor.captured[c], "set") for spot, c in zip(spots, captures, strict=True)]
    patched = Treated(reader, [one]).read(edits).scores[0]
    plain = Treated(reader, [one]).read().scores[0]
    # What follows the patched positions is read as after the donor's words.
    np.testing.assert_allclose(patched.entropy[7:], donor.scores[0].entropy[7:], atol=1e-5)
    assert np.abs(plain.entropy[7:] - donor.scores[0].entropy[7:]).max() > 1e-3


def test_overwriting_a_cache_is_the_donors_run_and_dropped_positions_are_refused() -> None:
    tokenizer = tiny.word_tokenizer()
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(rng.integers(8, len(tokenizer), (2, 20)))
    model = _model("llama", len(tokenizer)).double()
    with torch.inference_mode():
        own = model(ids[:1], use_cache=True).past_key_values
        donor = model(ids[1:], use_cache=True).past_key_values
        overwrite_cache(own, donor, range(20))
        after, expected = (model(ids[:1, :3], past_key_values=cache).logits for cache in (own, donor))
    assert torch.equal(after, expected)
    windowed = _model("gemma3", len(tokenizer))
    with torch.inference_mode():
        own, donor = (windowed(row[None], use_cache=True).past_key_values for row in ids)
    with pytest.raises(UserError, match="window"):
        overwrite_cache(own, donor, [0, 1])
    overwrite_cache(own, donor, [18, 19])


def test_edits_go_on_in_cached_decoding(reader: Reader, framed: list[Framed]) -> None:
    """Token by token from a cache, an edit at every position gives what reading the whole text under it gives."""
    f, value = framed[0], 2 * _direction(_width(reader))
    edit = Edit(Spot(2), None, value)
    whole = Treated(reader, [f]).read([edit]).scores[0]
    ids = torch.tensor([f.ids[: f.stop - 1]])
    entropies, cache = [], None
    with reader.reading(), intervening(reader, [edit]) as at:
        for past, stop in [(0, f.start), *((i, i + 1) for i in range(f.start, f.stop - 1))]:
            at(past)
            output = reader.forward.run(input_ids=ids[:, past:stop], past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            entropies.append(_entropy(reader.forward.logits(output, slice(-1, None))[0])[-1])
    np.testing.assert_allclose(whole.entropy, entropies, atol=2e-5)


def test_wrong_places_are_refused(reader: Reader, framed: list[Framed]) -> None:
    treated, value = Treated(reader, framed), _direction(_width(reader))
    with pytest.raises(UserError, match="no residual at layer 9"):
        treated.read([Edit(Spot(9), None, _direction(_width(reader)))])
    with pytest.raises(UserError, match="no key at layer 0"):
        treated.read([Edit(Spot(0, "key"), None, _direction(4))])
    with pytest.raises(UserError, match="has no position 999"):
        treated.read([Edit(Spot(1), [[999], [1], [1]], _direction(_width(reader)))])
    with pytest.raises(UserError, match="numbers at"):
        treated.read([Edit(Spot(1), None, _direction(5))])
    with pytest.raises(UserError, match="one value of shape"):
        treated.read([Edit(Spot(1), None, np.zeros((3, _width(reader)), np.float32))])
    with pytest.raises(UserError, match="no residual at layer 9"), intervening(reader, [Edit(Spot(9), None, value)]):
        pass
    with pytest.raises(FramingError, match="takes 1 to 256"):
        continued(reader, framed[0].ids, 1, 300)


def test_projections_of_an_unknown_attention_are_refused() -> None:
    tokenizer = tiny.word_tokenizer()
    reader = Reader(tiny.llama(len(tokenizer)), tokenizer)
    for block in reader.model.model.layers:  # pyright: ignore
        block.self_attn.kv_b_proj = block.self_attn.k_proj
        del block.self_attn._modules["v_proj"]
    with pytest.raises(ModelError, match="intervene in the residual"):
        projections(reader)


def test_nnsight_gives_the_same(reader: Reader, framed: list[Framed]) -> None:
    nnsight = pytest.importorskip("nnsight")
    f, value = framed[0], torch.from_numpy(2 * _direction(_width(reader)))
    where = [np.arange(f.start - 1, f.stop - 1)]
    ids = torch.tensor([f.ids[: f.stop - 1]])
    wrapped: Any = nnsight.NNsight(reader.model)
    path = wrapped.gpt_neox.layers if hasattr(reader.model, "gpt_neox") else wrapped.model.layers
    with torch.no_grad(), wrapped.trace(input_ids=ids):
        out = path[1].output
        out[:, where[0]] += value
        state = path[2].output.save()
        logits = wrapped.output.logits.save()
    capture = Capture(Spot(3), where)
    treatment = Treated(reader, [f]).read([Edit(Spot(2), where, value.numpy())], [capture])
    np.testing.assert_allclose(treatment.captured[capture][0], state[0, where[0]].numpy(), atol=1e-5)
    np.testing.assert_allclose(treatment.scores[0].entropy, _entropy(logits[0])[f.start - 1 :], atol=1e-5)


def test_sampling_under_edits_draws_from_what_reading_under_them_gives(reader: Reader, framed: list[Framed]) -> None:
    f, value = framed[0], 2 * _direction(_width(reader))
    ids = f.ids[: f.start]
    edits = [Edit(Spot(2), None, value)]
    drawn = continued(reader, ids, 3, 5, edits=edits, stops=frozenset())
    for one in drawn:
        text = Framed((*ids, *one.ids), f.start, f.start + len(one.ids), False)
        score = Treated(reader, [text]).read(edits).scores[0]
        np.testing.assert_allclose(-score.surprisal, one.logprobs, atol=3e-5)
    plain = continued(reader, ids, 3, 5, stops=frozenset())
    own = reader.score([Framed((*ids, *plain[0].ids), f.start, f.start + 5, False)])[0]
    np.testing.assert_allclose(-own.surprisal, plain[0].logprobs, atol=3e-5)
    assert plain != drawn
    assert continued(reader, ids, 2, 5, stops=frozenset({plain[0].ids[0]}))[0].ids[-1] == plain[0].ids[0]
