"""Exact on every architecture: classes of transformers built tiny, and a model that transformers knows nothing of."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertLMHeadModel,
    PreTrainedConfig,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.modeling_outputs import CausalLMOutput

from benchmarks.architectures import (
    CAUSAL,
    NOTES,
    REASONS,
    REQUIRED,
    Outcome,
    document,
    exact_statistics,
    examine,
    own_logits,
    texts,
    word_tokenizer,
)
from benchmarks.tiny_models import model_types, tiny_model
from enaction.errors import ModelError
from enaction.framing import frame
from enaction.reader import Reader
from enaction.reader.head import Head, parity_error
from enaction.reader.stepping import REPLAYED, Route
from enaction.sampling import sample

# Their own forward is not a causal one, which a tiny model with a short window shows and a real one does beyond
# thousands of tokens: nothing to be exact to.
LOOKS_AHEAD = ("doge", "reformer")


def assert_right(o: Outcome) -> None:
    assert o.is_exact, o
    assert o.is_batch_free, o
    assert o.look_ahead <= CAUSAL, o
    assert o.is_sampled_right, o


@pytest.mark.parametrize("model_type", REQUIRED)
def test_a_named_architecture_is_read_and_sampled_exactly(model_type: str) -> None:
    outcome = examine(model_type)
    assert_right(outcome)
    assert outcome.path == "streamed"


@pytest.mark.parametrize("model_type", REQUIRED)
def test_the_models_of_the_sweep_are_sharp(model_type: str) -> None:
    """Far from uniform and unlike at each position: on a flat model every mistake would look right."""
    framed = texts()[-1]
    statistics = exact_statistics(own_logits(tiny_model(model_type), framed.ids), framed)
    assert statistics[1].mean() < 0.97 * math.log(96)
    assert statistics[1].std() > 0.01
    assert np.abs(statistics[0, 1:] - statistics[0, :-1]).mean() > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("model_type", model_types())
def test_every_class_is_read_exactly_or_says_why_not(model_type: str) -> None:
    outcome = examine(model_type)
    if outcome.path is None:
        assert model_type in REASONS, outcome.reason
    elif model_type in LOOKS_AHEAD:
        assert outcome.look_ahead > CAUSAL
        assert model_type in NOTES
    else:
        assert_right(outcome)


def test_the_page_names_each_class_with_its_path_or_its_reason() -> None:
    read_ = Outcome(
        "llama", "LlamaForCausalLM", "streamed", "", 0.0, 1e-6, 2e-6, 3e-5, 3e-5, 0.0, "cache, padded", 1e-6
    )
    page = document([read_, Outcome("xlnet", "XLNetLMHeadModel", reason="a | b")])
    assert "| `llama` | LlamaForCausalLM | streamed | 2e-06 | 3e-05 (3e-05) | cache, padded, 1e-06 |  |" in page
    assert "| `xlnet` | XLNetLMHeadModel | not read | | | | a \\| b |" in page
    assert "Of 2 classes that `AutoModelForCausalLM` knows 1 can be read" in page


class LstmConfig(PreTrainedConfig):
    model_type = "enaction_test_lstm"

    def __init__(self, vocab_size: int = 60, hidden_size: int = 24, **kwargs: Any) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        super().__init__(**kwargs)


class LstmForCausalLM(PreTrainedModel):
    """Custom code of another age: no cache, no attention mask, no output embeddings to ask for."""

    config_class = LstmConfig

    def __init__(self, config: LstmConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.rnn = nn.LSTM(config.hidden_size, config.hidden_size, num_layers=2, batch_first=True)
        self.out = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def get_output_embeddings(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None

    def forward(self, input_ids: Tensor) -> CausalLMOutput:
        return CausalLMOutput(logits=self.out(self.rnn(self.embed(input_ids))[0]))  # pyright: ignore


@pytest.fixture(name="lstm")
def _lstm() -> Reader:
    torch.manual_seed(0)
    tokenizer = tiny.word_tokenizer()
    model = LstmForCausalLM(LstmConfig(len(tokenizer))).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.7)
    with torch.no_grad():
        model.out.bias[7] = 3.0  # responses end
    return Reader(model, tokenizer, name="lstm")


def test_a_model_with_custom_code_and_no_cache_is_read_through_its_own_logits(lstm: Reader) -> None:
    assert lstm.head_path == "own logits"
    passages = [tiny.passage(" ".join(tiny.WORDS[: 3 + 6 * i]), name=f"x{i}") for i in range(5)]
    framed = [frame(lstm.tokenizer, p, "assistant") for p in passages]
    for budget in (1, 10_000):
        for f, s in zip(framed, lstm.score(framed, token_budget=budget), strict=True):
            expected = tiny.reference(lstm.model, f.ids, f.start, f.stop).numpy()
            found = np.stack([s.surprisal, s.entropy, s.varentropy])
            np.testing.assert_allclose(found, expected[:3], atol=1e-5, rtol=1e-5)


def test_a_model_without_a_cache_is_sampled_by_reading_anew(lstm: Reader) -> None:
    assert lstm.route == REPLAYED
    prompts = [tiny.prompt("why", "a"), tiny.prompt("tell me about the old red fox", "b")]
    passages = sample(lstm, prompts, n=40, max_new_tokens=20)
    assert len({len(p.token_ids or ()) for p in passages}) > 5  # rows left the batch on the way
    scores = lstm.score([frame(lstm.tokenizer, p, "assistant") for p in passages])
    for p, s in zip(passages, scores, strict=True):
        np.testing.assert_allclose(s.surprisal, -np.array(p.logprobs), atol=1e-4)
    surprisal, entropy, varentropy = (
        np.concatenate([getattr(s, name) for s in scores]) for name in ("surprisal", "entropy", "varentropy")
    )
    assert abs((surprisal - entropy).sum() / math.sqrt(varentropy.sum())) < 4


def half(model_type: str, dtype: torch.dtype) -> PreTrainedModel:
    """As `from_pretrained` would give it: what the class wants in float32 stays in float32."""
    model = tiny_model(model_type)
    wanted = [getattr(model, name, None) or () for name in ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict")]
    kept = [name for name, _ in model.named_parameters() if any(part in name for parts in wanted for part in parts)]
    model.to(dtype)  # pyright: ignore[reportArgumentType]
    for name in kept:
        parameter = model.get_parameter(name)
        parameter.data = parameter.data.float()
    return model


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("model_type", ["hy_v4", "mamba", "llama"])
def test_half_precision_is_streamed_though_the_head_has_another_dtype(model_type: str, dtype: torch.dtype) -> None:
    model = half(model_type, dtype)
    if model_type == "hy_v4":
        assert model.get_parameter("lm_head.weight").dtype == torch.float32  # and its states are of the other one
    reader = Reader(model, word_tokenizer())
    assert reader.head_path == "streamed"
    framed = texts()
    for f, stats in zip(framed, reader.score(framed, token_budget=1), strict=True):
        expected = exact_statistics(own_logits(model, f.ids), f)
        np.testing.assert_allclose(np.stack([stats.surprisal, stats.entropy]), expected[:2], atol=1e-4)


def test_a_class_that_cannot_run_in_half_precision_is_named_with_the_remedy() -> None:
    with pytest.raises(ModelError, match=r"xLSTMForCausalLM\) fails on a short text in bfloat16 .*: load it as float"):
        Reader(half("xlstm", torch.bfloat16), word_tokenizer())


def test_a_forward_that_wants_more_than_ids_is_one_line() -> None:
    """An encoder with a decoder, which wants the decoder's ids too."""
    tokenizer = word_tokenizer()
    sizes: dict[str, Any] = {"d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    model = T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), **sizes)).eval()
    with pytest.raises(ModelError, match=r"T5ForConditionalGeneration\) fails on a short text in float32") as caught:
        Reader(model, tokenizer)
    assert "\n" not in str(caught.value)


def test_a_body_that_raises_anything_is_not_run_apart() -> None:
    class Refusing(nn.Module):
        def forward(self, input_ids: Tensor) -> Tensor:
            raise IndexError("the whole model runs me")

    model = tiny.llama(len(word_tokenizer()))
    assert parity_error(model, Head(Refusing(), model.lm_head, 1.0, None)) == math.inf


# What padding and company could touch: attention of several kinds, a router of experts, a recurrent state.
COMPANY = ("llama", "gemma2", "bloom", "mixtral", "qwen3_moe", "deepseek_v3", "mamba", "mamba2", "rwkv", "jamba")


@pytest.mark.parametrize("model_type", COMPANY)
def test_a_score_depends_neither_on_padding_nor_on_order_nor_on_company(model_type: str) -> None:
    reader = Reader(tiny_model(model_type), word_tokenizer())
    framed = texts()
    alone = np.concatenate([np.stack([s.surprisal, s.entropy]) for s in reader.score(framed, token_budget=1)], axis=1)
    shuffled = [framed[i] for i in (3, 0, 5, 1, 4, 2)]
    for given in (framed, framed[::-1], shuffled, [*framed, *framed]):
        found = dict(zip((f.passage_id for f in given), reader.score(given, token_budget=100_000), strict=True))
        together = [np.stack([found[f.passage_id].surprisal, found[f.passage_id].entropy]) for f in framed]
        np.testing.assert_allclose(np.concatenate(together, axis=1), alone, atol=1e-5, rtol=0)


def test_an_encoder_that_looks_ahead_is_refused() -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = BertConfig(vocab_size=60, intermediate_size=48, initializer_range=0.3, **sizes)
    with pytest.raises(ModelError, match=r"change with the tokens that come later.*is_decoder=True"):
        Reader(BertLMHeadModel(config).eval(), tiny.word_tokenizer())
    config.is_decoder = True
    assert Reader(BertLMHeadModel(config).eval(), tiny.word_tokenizer()).head_path == "own logits"


def forget(body: nn.Module, *, only_padded: bool) -> None:
    """Make cached steps a little wrong, as a cache with a bug does."""
    run = body.forward

    def forward(*, past_key_values: Any = None, attention_mask: Tensor | None = None, **kwargs: Any) -> Any:
        output = run(past_key_values=past_key_values, attention_mask=attention_mask, **kwargs)
        if past_key_values is not None and (attention_mask is not None or not only_padded):
            output.last_hidden_state = output.last_hidden_state * 1.02
        return output

    body.forward = forward  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("only_padded", "expected"),
    [(True, Route(is_cached=True, is_padded=False, drops_rows=True)), (False, REPLAYED)],
)
def test_a_cache_that_is_a_little_wrong_is_not_used(only_padded: bool, expected: Route) -> None:
    tokenizer = tiny.word_tokenizer()
    model = tiny.llama(len(tokenizer))
    assert Reader(model, tokenizer).route == Route(is_cached=True, is_padded=True, drops_rows=True)
    forget(model.model, only_padded=only_padded)
    reader = Reader(model, tokenizer)
    assert reader.head_path == "streamed"
    assert reader.route == expected
    passages = sample(reader, [tiny.prompt("why", "a"), tiny.prompt("tell me about it", "b")], n=5, max_new_tokens=12)
    scores = reader.score([frame(tokenizer, p, "assistant") for p in passages])
    for p, s in zip(passages, scores, strict=True):
        np.testing.assert_allclose(s.surprisal, -np.array(p.logprobs), atol=1e-4)


def test_the_sweeps_tokenizer_gives_the_ids_that_its_words_name() -> None:
    """`w1` as a special token once split `w10`, and the prompts were full of padding tokens."""
    tokenizer = word_tokenizer()
    assert tokenizer.encode("w08 w10 w31", add_special_tokens=False) == [8, 10, 31]
    assert frame(tokenizer, tiny.passage("w11 w12", "w08"), "none").ids == (8, 11, 12)


@pytest.fixture(autouse=True)
def _quiet_library() -> None:
    logging.getLogger("transformers").setLevel(logging.ERROR)
