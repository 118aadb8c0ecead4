"""The reader against a plain loop over the model's own logits: alignment, padding, head, dtype, errors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from enaction.errors import FramingError, ModelError
from enaction.framing import Framed, frame
from enaction.passages import Passage
from enaction.reader import Reader, TokenStats, Wanted, streaming
from enaction.reader.head import HeadLogits, locate_head
from enaction.reader.truncated import truncated
from enaction.words import FRAMINGS, Framing

MODELS: dict[str, Callable[[int], PreTrainedModel]] = {"llama": tiny.llama, "gemma2": tiny.gemma2, "neox": tiny.neox}
TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "word": tiny.word_tokenizer,
    "byte": lambda: tiny.byte_tokenizer(bos=True),
}


def texts(count: int = 9) -> list[Passage]:
    """Passages of very unlike lengths, some cut off."""
    rng = np.random.default_rng(0)
    return [
        tiny.passage(
            " ".join(rng.choice(tiny.WORDS, 2 + 5 * i)), "why the fox " * (1 + i % 3), ended=i % 3 > 0, name=f"x{i}"
        )
        for i in range(count)
    ]


def stacked(stats: TokenStats) -> np.ndarray:
    return np.stack([stats.surprisal, stats.entropy, stats.varentropy, stats.rank])


@pytest.fixture(params=MODELS)
def make_model(request: pytest.FixtureRequest) -> Callable[[int], PreTrainedModel]:
    return MODELS[request.param]


@pytest.mark.parametrize("tokenizer_name", TOKENIZERS)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_score_equals_a_plain_loop_over_the_models_own_logits(
    make_model: Callable[[int], PreTrainedModel], tokenizer_name: str, framing: Framing
) -> None:
    tokenizer = TOKENIZERS[tokenizer_name]()
    reader = Reader(make_model(len(tokenizer)), tokenizer)
    assert reader.head_path == "streamed"
    framed = [frame(tokenizer, passage, framing) for passage in texts()]
    for budget in (1, 300, 100_000):  # alone, a few together, all together with much padding
        for f, stats in zip(framed, reader.score(framed, token_budget=budget), strict=True):
            expected = tiny.reference(reader.model, f.ids, f.start, f.stop).numpy()
            np.testing.assert_allclose(stacked(stats)[:3], expected[:3], atol=1e-5, rtol=1e-5)
            np.testing.assert_array_equal(stats.rank, expected[3])
            assert stats.surprisal.dtype == stats.entropy.dtype == stats.varentropy.dtype == np.float32
            assert stats.rank.dtype == np.int32


def test_the_reference_would_catch_a_score_that_is_off_by_one(make_model: Callable[[int], PreTrainedModel]) -> None:
    """The oracle of the test above is sharp: one position further, every statistic is plainly different."""
    tokenizer = tiny.word_tokenizer()
    model = make_model(len(tokenizer))
    f = frame(tokenizer, texts()[-1], "assistant")
    right = tiny.reference(model, f.ids, f.start, f.stop - 1)
    shifted = tiny.reference(model, f.ids, f.start + 1, f.stop)
    assert (right - shifted).abs().median(1).values.min() > 0.05


def test_padding_and_company_do_not_change_a_score(make_model: Callable[[int], PreTrainedModel]) -> None:
    tokenizer = tiny.byte_tokenizer()
    reader = Reader(make_model(len(tokenizer)), tokenizer)
    framed = [frame(tokenizer, passage, "assistant") for passage in texts(12)]
    together = reader.score(framed, token_budget=100_000)
    for i in (0, 5, 11):
        (alone,) = reader.score([framed[i]])
        np.testing.assert_allclose(stacked(together[i]), stacked(alone), atol=1e-5, rtol=1e-5)


def test_scores_come_back_in_the_order_given_with_progress() -> None:
    tokenizer = tiny.word_tokenizer()
    reader = Reader(tiny.llama(len(tokenizer)), tokenizer)
    framed = [frame(tokenizer, passage, "assistant") for passage in texts()]
    steps: list[tuple[int, int]] = []
    forwards = reader.score(framed, token_budget=100, progress=lambda done, total: steps.append((done, total)))
    backwards = reader.score(framed[::-1])[::-1]
    for one, two, f in zip(forwards, backwards, framed, strict=True):
        assert len(one) == f.stop - f.start
        np.testing.assert_allclose(stacked(one), stacked(two), atol=1e-5)
    assert [total for _, total in steps] == [9] * len(steps)
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})
    assert steps[-1][0] == 9


def test_a_passage_without_measured_tokens_has_empty_statistics() -> None:
    tokenizer = tiny.word_tokenizer()
    reader = Reader(tiny.llama(len(tokenizer)), tokenizer)
    nothing = Framed((), 0, 0, has_end=False)
    some = frame(tokenizer, tiny.passage(), "assistant")
    empty, full = reader.score([nothing, some])
    assert len(empty) == 0
    assert len(full) == some.stop - some.start
    assert reader.score([]) == []


def test_no_batch_holds_more_tokens_than_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny.word_tokenizer()
    reader = Reader(tiny.llama(len(tokenizer)), tokenizer)
    framed = [frame(tokenizer, passage, "assistant") for passage in texts(12)]
    sizes: list[tuple[int, ...]] = []
    head = reader.head
    assert head is not None
    run = head.body.forward
    monkeypatch.setattr(head.body, "forward", lambda **given: sizes.append(given["input_ids"].shape) or run(**given))
    reader.score(framed, token_budget=150)
    assert max(rows * length for rows, length in sizes) <= 150
    assert [length for _, length in sizes] == sorted((length for _, length in sizes), reverse=True)
    assert len(sizes) < len(framed)


def test_only_a_tile_of_logits_exists_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny.byte_tokenizer()
    reader = Reader(tiny.llama(len(tokenizer)), tokenizer)
    framed = [frame(tokenizer, passage, "assistant") for passage in texts()]
    whole = reader.score(framed)
    seen: list[int] = []
    tile = HeadLogits.tile

    def spy(logits: HeadLogits, start: int, stop: int, out_NV: Tensor) -> Tensor:
        logits_NV = tile(logits, start, stop, out_NV)
        seen.append(logits_NV.numel())
        return logits_NV

    monkeypatch.setattr(HeadLogits, "tile", spy)
    monkeypatch.setattr(streaming, "MOST_ROWS", 16)
    monkeypatch.setattr(streaming, "WIDEST", 0)
    monkeypatch.setattr(streaming, "TILE", 16 * 50)
    for one, two in zip(whole, reader.score(framed), strict=True):
        np.testing.assert_allclose(stacked(one), stacked(two), atol=1e-5)
    assert max(seen) <= 16 * 50
    # Prompts and padding never meet the head.
    assert sum(seen) == sum(f.stop - f.start for f in framed) * len(tokenizer)


@pytest.mark.parametrize("path", ["streamed", "whole rows", "own logits"])
@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.7}, {"temperature": 1.3, "top_k": 30, "top_p": 0.8}])
def test_more_statistics_come_where_they_are_wanted(path: str, sampling: dict[str, Any]) -> None:
    tokenizer = tiny.word_tokenizer()
    model = tiny.gemma2(len(tokenizer))
    if path == "whole rows":
        model.lm_head.register_forward_hook(lambda module, given, output: output.clone())
    reader = Reader(Wrapped(model) if path == "own logits" else model, tokenizer)  # pyright: ignore[reportArgumentType]
    assert reader.head_path == ("own logits" if path == "own logits" else "streamed")
    wanted = Wanted(betas=(0.5, 1.25, 3.1), likeliest=4, **sampling)
    framed = [Framed((), 0, 0, has_end=False), *(frame(tokenizer, passage, "assistant") for passage in texts())]
    plain = reader.score(framed)
    for f, stats, four in zip(framed, reader.score(framed, wanted=wanted), plain, strict=True):
        np.testing.assert_allclose(stacked(stats), stacked(four), atol=1e-5)
        assert four.top_probability is four.power_sums is four.likeliest_ids is four.kept_mass is None
        shapes = {name: value.shape for name, value in vars(stats).items() if value is not None}
        for name, shape in shapes.items():
            last = 3 if name.endswith("power_sums") else 4 if name.startswith("likeliest") else None
            assert shape == (f.stop - f.start, *(() if last is None else (last,)))
        assert len(shapes) == (16 if wanted.is_truncated else 13 if sampling else 9)
        if len(stats) == 0:
            continue
        with torch.inference_mode():
            own_TV = model(input_ids=torch.tensor([f.ids])).logits[0]
        logits_NV, targets_N = own_TV[f.start - 1 : f.stop - 1], torch.tensor(f.ids[f.start : f.stop])
        logprob_NV = torch.log_softmax(logits_NV.double(), 1)
        expected = {
            "top_probability": logprob_NV.amax(1).exp(),
            "power_sums": torch.stack([torch.logsumexp(b * logprob_NV, 1) for b in wanted.betas], 1),
            "likeliest_ids": logprob_NV.topk(4).indices,
            "likeliest_logprobs": logprob_NV.topk(4).values,
            "tail_mass": 1 - logprob_NV.topk(4).values.exp().sum(1),
        }
        if sampling:
            of_all = truncated(logits_NV.clone(), targets_N, wanted)
            expected |= {name: value for name, value in of_all.items() if name in shapes}
        for name, value in expected.items():
            np.testing.assert_allclose(getattr(stats, name), value.numpy(), atol=2e-5, rtol=1e-5, err_msg=name)


class Wrapped(tiny.LogitsOnly):
    """A causal LM that shows no body and no head, as code from elsewhere may."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model.config.vocab_size)
        self.inner, self.config, self.generation_config = model, model.config, model.generation_config

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, use_cache: bool = False
    ) -> SimpleNamespace:
        output = self.inner(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)
        return SimpleNamespace(logits=output.logits)


def test_a_model_without_a_visible_head_is_read_by_its_own_logits() -> None:
    tokenizer = tiny.word_tokenizer()
    model = tiny.gemma2(len(tokenizer))
    framed = [frame(tokenizer, passage, "assistant") for passage in texts()]
    streamed = Reader(model, tokenizer).score(framed)
    reader = Reader(Wrapped(model), tokenizer, name="w")  # pyright: ignore[reportArgumentType]  (that is the point)
    assert reader.head_path == "own logits"
    assert reader.parity_error == float("inf")
    for one, two in zip(streamed, reader.score(framed), strict=True):
        np.testing.assert_allclose(stacked(one), stacked(two), atol=1e-5, rtol=1e-5)


class Bent(nn.Module):
    """An output transform that no configuration tells of."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: object, **kwargs: object) -> object:
        output = self.model(*args, **kwargs)
        output.logits = output.logits * 1.01
        return output

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name) if name in ("model", "_modules") else getattr(self.model, name)


def test_an_unknown_output_transform_fails_the_probe_and_is_still_read_right() -> None:
    tokenizer = tiny.word_tokenizer()
    reader = Reader(Bent(tiny.llama(len(tokenizer))), tokenizer)  # pyright: ignore[reportArgumentType]
    assert reader.head_path == "own logits"
    assert 5e-3 < reader.parity_error < 2e-2
    f = frame(tokenizer, tiny.passage(), "assistant")
    expected = tiny.reference(reader.model, f.ids, f.start, f.stop).numpy()
    np.testing.assert_allclose(stacked(reader.score([f])[0]), expected, atol=1e-5, rtol=1e-5)


SMALL: dict[str, Any] = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
STARTS: dict[str, Any] = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 1}
TRANSFORMS: dict[str, Callable[[], PreTrainedModel]] = {
    "logit scale": lambda: CohereForCausalLM(
        CohereConfig(**SMALL, **STARTS, intermediate_size=64, logit_scale=0.3, initializer_range=0.3)
    ),
    "logits scaling": lambda: GraniteForCausalLM(
        GraniteConfig(**SMALL, **STARTS, intermediate_size=64, logits_scaling=4.0, initializer_range=0.3)
    ),
    "untied head": lambda: tiny.llama(60, tied=False),
    "final projection": lambda: OPTForCausalLM(
        OPTConfig(**SMALL, **STARTS, ffn_dim=64, word_embed_proj_dim=16, init_std=0.3)
    ),
    "absolute positions": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3, bos_token_id=2, eos_token_id=3)
    ),
}


@pytest.mark.parametrize("make", TRANSFORMS.values(), ids=TRANSFORMS)
def test_the_output_transform_is_found_by_structure(make: Callable[[], PreTrainedModel]) -> None:
    torch.manual_seed(0)
    tokenizer = tiny.word_tokenizer()
    reader = Reader(make().eval(), tokenizer)
    assert reader.head_path == "streamed"
    assert reader.parity_error < 1e-6
    f = frame(tokenizer, tiny.passage(), "assistant")
    expected = tiny.reference(reader.model, f.ids, f.start, f.stop).numpy()
    np.testing.assert_allclose(stacked(reader.score([f])[0]), expected, atol=1e-5, rtol=1e-5)


def test_a_bias_and_padded_rows_of_the_head_count() -> None:
    """More rows than the tokenizer has tokens, and a bias: whatever the model's own forward gives."""
    tokenizer = tiny.word_tokenizer()
    model = tiny.llama(len(tokenizer) + 13, tied=False)
    model.lm_head = nn.Linear(32, len(tokenizer) + 13, bias=True)
    nn.init.normal_(model.lm_head.bias)
    reader = Reader(model, tokenizer)
    assert reader.head_path == "streamed"
    assert reader.vocabulary_size == len(tokenizer) + 13
    f = frame(tokenizer, tiny.passage(), "assistant")
    expected = tiny.reference(model, f.ids, f.start, f.stop).numpy()
    np.testing.assert_allclose(stacked(reader.score([f])[0]), expected, atol=1e-5, rtol=1e-5)


def test_bfloat16_weights_are_recorded_and_statistics_stay_float32() -> None:
    tokenizer = tiny.word_tokenizer()
    model = tiny.llama(len(tokenizer))
    reader = Reader(model.bfloat16(), tokenizer)
    assert reader.dtype == "bfloat16"
    assert reader.head_path == "streamed"
    f = frame(tokenizer, texts()[-1], "assistant")
    (stats,) = reader.score([f])
    assert stats.entropy.dtype == np.float32
    # Given the same bfloat16 logits, nothing more is lost: the oracle takes them in float64.
    expected = tiny.reference(reader.model, f.ids, f.start, f.stop).numpy()
    np.testing.assert_allclose(stacked(stats)[:3], expected[:3], atol=1e-5, rtol=1e-5)


def test_the_users_objects_are_as_they_were() -> None:
    tokenizer = tiny.word_tokenizer(None)
    config = tiny.llama(len(tokenizer)).config
    config.attention_dropout = 0.5
    model = type(tiny.llama(len(tokenizer)))(config).train()
    model.model.layers[0].eval()  # a mixture of modes comes back as a mixture
    modes = [module.training for module in model.modules()]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    reader = Reader(model, tokenizer, chat_template=tiny.CHATML)
    f = frame(reader.tokenizer, tiny.passage(), "assistant")
    one, two = (stacked(reader.score([f])[0]) for _ in range(2))
    np.testing.assert_array_equal(one, two)  # dropout would make them differ
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert tokenizer.chat_template is None
    assert reader.has_template


def test_a_passage_longer_than_the_context_is_refused_with_numbers() -> None:
    tokenizer = tiny.word_tokenizer()
    reader = Reader(tiny.llama(len(tokenizer), context=20), tokenizer, name="short")
    fits = Framed(tuple([9] * 21), 5, 21, has_end=False)  # the last token is predicted, not fed
    assert len(reader.score([fits])[0]) == 16
    long = replace(fits, ids=tuple([9] * 22), stop=22, passage_id="x7")
    with pytest.raises(FramingError, match=r"'x7' has 21 tokens .* short takes 20: shorten"):
        reader.score([fits, long])


def test_ids_that_the_model_does_not_have_are_refused() -> None:
    tokenizer = tiny.word_tokenizer()
    reader = Reader(tiny.llama(len(tokenizer)), tokenizer)
    with pytest.raises(FramingError, match="token id 9999"):
        reader.score([Framed((4, 9999), 1, 2, has_end=False, passage_id="x")])


def test_a_saved_model_loads_and_scores_alike(tmp_path: Path) -> None:
    tokenizer = tiny.word_tokenizer()
    model = tiny.neox(len(tokenizer))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    reader = Reader.load(str(tmp_path), name="saved")
    f = frame(tokenizer, tiny.passage(), "assistant")
    assert frame(reader.tokenizer, tiny.passage(), "assistant") == f
    np.testing.assert_array_equal(stacked(reader.score([f])[0]), stacked(Reader(model, tokenizer).score([f])[0]))
    assert reader.name == "saved"
    half = Reader.load(str(tmp_path), dtype=torch.bfloat16, chat_template=tiny.STRIPPING)
    assert half.dtype == "bfloat16"
    assert half.tokenizer.chat_template == tiny.STRIPPING


def test_weights_in_pickle_files_are_refused_unless_asked_for(tmp_path: Path) -> None:
    tokenizer = tiny.word_tokenizer()
    model = tiny.llama(len(tokenizer))
    model.config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        Reader.load(str(tmp_path))
    assert Reader.load(str(tmp_path), use_safetensors=False).head_path == "streamed"


def test_a_model_that_is_not_there_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without a connection a hub name cannot be found; tests ask nothing of the network.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    cases = {
        "no-such-model": "check the name",
        "nobody/no-such-model@main": "check the name",
        str(tmp_path / "nowhere"): "no model folder",
        "./nowhere": "no model folder",
        str(tmp_path / "empty"): "no config.json",
        str(tmp_path / "broken"): "config.json, tokenizer files",
        str(tmp_path / "no.gguf"): "check the path of the .gguf",
    }
    for name, words in cases.items():
        with pytest.raises(ModelError) as caught:
            Reader.load(name)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="give one of them"):
        Reader.load("a/b@one", revision="two")


def test_a_gguf_file_without_the_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"cannot load .*m\.gguf.*the file is damaged, or of a family"):
        Reader.load(str(path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'enaction\[gguf\]'"):
        Reader.load(str(path))


def test_a_gguf_file_is_read_through_its_own_tokenizer(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The oracle is the same weights held as safetensors."""
    pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    tokenizer = tiny.byte_tokenizer()
    model = tiny.llama(len(tokenizer), tied=False)
    path = tmp_path / "tiny.gguf"
    tiny.write_gguf(path, model, tokenizer)
    capfd.readouterr()
    reader = Reader.load(str(path), name="g")
    assert not any(capfd.readouterr())  # transformers would show a bar
    assert reader.head_path == "streamed"
    assert reader.tokenizer.chat_template == tiny.CHATML
    f = frame(tokenizer, tiny.passage(), "assistant")
    expected = tiny.reference(model, f.ids, f.start, f.stop).numpy()
    np.testing.assert_allclose(stacked(reader.score([f])[0]), expected, atol=1e-5, rtol=1e-5)


def test_locate_head_finds_nothing_where_there_is_nothing() -> None:
    model = tiny.llama(60)
    assert locate_head(model)[0] is not None
    assert locate_head(model.model) == (None, float("inf"))


@pytest.fixture(autouse=True)
def _quiet_library() -> None:
    logging.getLogger("transformers").setLevel(logging.ERROR)
