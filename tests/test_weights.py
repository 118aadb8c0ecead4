"""Weights that are not the model's: missing, misshapen, misnamed, an adapter's; and what a GGUF file leaves open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from enaction.check import check
from enaction.errors import ModelError
from enaction.framing import frame
from enaction.reader import Reader

Weights = dict[str, torch.Tensor]


def saved(folder: Path, change: Callable[[Weights], Weights], *, tied: bool = False) -> str:
    """A folder that `save_pretrained` wrote, its tensors changed."""
    tokenizer = tiny.byte_tokenizer()
    tiny.llama(len(tokenizer), tied=tied).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    weights = change(load_file(folder / "model.safetensors"))
    save_file({k: v.contiguous() for k, v in weights.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def without(*names: str) -> Callable[[Weights], Weights]:
    return lambda w: {k: v for k, v in w.items() if k not in names}


def renamed(old: str, new: str) -> Callable[[Weights], Weights]:
    return lambda w: {k.replace(old, new): v for k, v in w.items()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("lm_head.weight"), "holds no lm_head.weight: without these weights it is another model"),
        (without("model.layers.1.mlp.up_proj.weight", "model.norm.weight"), "holds no model.layers.1.* and 1 more"),
        (renamed("model.", "module.model."), "holds no .* it holds .*module"),
        (renamed("q_proj.", "q_proj.base_layer."), "adapter that nobody merged .*base_layer"),
        (lambda w: w | {"model.layers.0.self_attn.q_proj.lora_A.default.weight": torch.zeros(2, 32)}, "merge it"),
        (lambda w: w | {"model.norm.weight": torch.zeros(5)}, "another shape of model.norm.weight"),
        (lambda w: w | {"model.layers.0.self_attn.q_proj.bias": torch.ones(32)}, "q_proj.bias, and by its config.json"),
        (lambda w: w | {"model.layers.0.mlp.up_proj.weight_scale": torch.ones(1)}, "up_proj.weight_scale, and by its"),
    ],
)
def test_weights_that_are_not_the_models_are_refused_by_name(
    change: Callable[[Weights], Weights], words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = saved(tmp_path, change)
    capfd.readouterr()
    with pytest.raises(ModelError, match=words) as caught:
        Reader.load(folder)
    assert "\n" not in str(caught.value)
    assert "LOAD REPORT" not in capfd.readouterr().err


def test_a_tied_head_is_not_missing_and_unused_weights_are_told(tmp_path: Path) -> None:
    reader = Reader.load(saved(tmp_path / "tied", lambda w: w, tied=True))
    assert reader.doubts == ()
    more = Reader.load(saved(tmp_path / "more", lambda w: w | {"score.weight": torch.zeros(1, 32)}))
    assert more.doubts == ("the file holds weights that the model has no place for (score.weight)",)
    assert any("score.weight" in warning for warning in check(more, max_new_tokens=4).warnings)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of names that PEFT uses
def test_a_model_and_its_adapter_in_one_folder_are_refused(tmp_path: Path) -> None:
    """Transformers puts the adapter on the model and tells nothing of the model's own missing weights."""
    peft = pytest.importorskip("peft")
    folder = saved(tmp_path, without("lm_head.weight"))
    settings = peft.LoraConfig(r=2, init_lora_weights=False, target_modules=["q_proj"])
    adapted = peft.get_peft_model(tiny.llama(400, tied=False), settings)
    adapted.peft_config["default"].base_model_name_or_path = folder
    adapted.save_pretrained(folder)
    with pytest.raises(ModelError, match="whether the model beneath it is whole is not known: merge it"):
        Reader.load(folder)


def test_a_model_with_a_soft_prompt_is_refused_in_true_words(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny.byte_tokenizer()
    model = tiny.llama(len(tokenizer))
    run: Any = model.forward

    def forward(**given: Any) -> Any:
        logits = run(**given).logits
        return SimpleNamespace(logits=torch.cat([logits[:, :1]] * 8 + [logits], 1))

    monkeypatch.setattr(model, "forward", forward)
    with pytest.raises(ModelError, match=r"makes 9 predictions of 1 token \(a soft prompt"):
        Reader(model, tokenizer)


# GGUF.


def gguf_with(path: Path, tokenizer: PreTrainedTokenizerFast, pre: str | None = None) -> str:
    pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    tiny.write_gguf(path, tiny.llama(len(tokenizer), tied=False), tokenizer, pre=pre)
    return str(path)


@pytest.mark.parametrize(("pre", "told"), [("stablelm2", "('stablelm2')"), (None, "no pre-tokenizer"), ("gpt-2", None)])
def test_a_gguf_pre_tokenizer_that_nobody_knows_is_told(pre: str | None, told: str | None, tmp_path: Path) -> None:
    reader = Reader.load(gguf_with(tmp_path / "m.gguf", tiny.byte_tokenizer(), pre))
    assert [told in doubt for doubt in reader.doubts if told] == ([True] if told else [])
    assert (told is None) == (reader.doubts == ())


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("llama.rope.scaling.type", "yarn", "scales positions .llama.rope.scaling.type."),
        ("rope_freqs.weight", np.full(4, 8, np.float32), "scales positions .rope_freqs.weight."),
        ("blk.0.attn_q.bias", np.ones(32, np.float32), "holds biases .blk.0.attn_q.bias."),
        ("llama.rope.scaling.type", "none", None),
    ],
)
def test_what_transformers_leaves_out_of_a_gguf_file_is_refused(
    key: str, value: Any, words: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf = pytest.importorskip("gguf")
    write = gguf.GGUFWriter.write_header_to_file

    def with_more(writer: Any) -> None:
        if isinstance(value, str):
            writer.add_string(key, value)
            writer.add_float32("llama.rope.scaling.factor", 4.0)
        else:
            writer.add_tensor(key, value)
        write(writer)

    monkeypatch.setattr(gguf.GGUFWriter, "write_header_to_file", with_more)
    path = gguf_with(tmp_path / "m.gguf", tiny.byte_tokenizer(), "gpt-2")
    if words is None:
        assert Reader.load(path).doubts == ()
        return
    with pytest.raises(ModelError, match=f"m.gguf {words}"):
        Reader.load(path)


def test_a_known_gguf_pre_tokenizer_splits_as_the_tokenizer_that_was_written(tmp_path: Path) -> None:
    llama3 = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    )
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(llama3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    text = "f(x)\n\n\tif 12345678 WE'LL:\n"
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=tiny.SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([text] * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    reader = Reader.load(gguf_with(tmp_path / "m.gguf", tokenizer, "llama-bpe"))
    assert reader.tokenizer.encode(text, add_special_tokens=False) == tokenizer.encode(text, add_special_tokens=False)
    assert reader.doubts == ()


def test_a_gguf_vocabulary_without_gpt2s_end_of_text_gets_none(tmp_path: Path) -> None:
    tokenizer = tiny.byte_tokenizer()
    reader = Reader.load(gguf_with(tmp_path / "m.gguf", tokenizer, "gpt-2"))
    assert len(reader.tokenizer) == reader.vocabulary_size == len(tokenizer)
    text = "the <|endoftext|> fox"
    assert reader.tokenizer.encode(text, add_special_tokens=False) == tokenizer.encode(text, add_special_tokens=False)
    f = frame(reader.tokenizer, tiny.passage(text), "assistant")
    assert np.isfinite(reader.score([f])[0].entropy).all()
    assert check(reader, max_new_tokens=8).is_right


def test_added_tokens_that_a_model_has_no_rows_for_are_no_failure() -> None:
    """A padding token that training added and nobody resized the model for; a text that holds it is refused."""
    tokenizer = tiny.byte_tokenizer()
    model = tiny.llama(len(tokenizer))
    tokenizer.add_special_tokens({"pad_token": "<padding>"})
    report = check(Reader(model, tokenizer), max_new_tokens=4)
    assert report.is_right
    assert any("<padding>" in warning for warning in report.warnings)
