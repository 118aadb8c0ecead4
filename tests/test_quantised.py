"""Quantised weights: checkpoints as transformers loads them, quantisation on loading, and what is refused in one line.

bitsandbytes and torchao are not installed for tests. A checkpoint in fp8 needs neither: on a CPU its weights are
expanded on loading.
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import transformers
from command import enaction
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from enaction.errors import ModelError
from enaction.framing import frame
from enaction.reader import Reader
from enaction.reader.lean import lean_steps
from enaction.reader.precision import is_coarse, quantization_of
from enaction.reader.sources.quantised import PACKAGES
from enaction.reader.sources.source import Loading, from_pretrained
from enaction.reader.warnings import warnings_of

BLOCK = 128


def wide_llama(vocabulary: int) -> LlamaForCausalLM:
    """Large enough for a block of fp8."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": BLOCK,
        "intermediate_size": 2 * BLOCK,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, initializer_range=0.15, **sizes)).eval()


@pytest.fixture(name="saved")
def _saved(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Saves a model whose configuration says that it is quantised."""

    def save(quantization: dict[str, Any]) -> Path:
        tokenizer = tiny.byte_tokenizer()
        tokenizer.save_pretrained(tmp_path)
        wide_llama(len(tokenizer)).save_pretrained(tmp_path)
        path = tmp_path / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": quantization}))
        return tmp_path

    return save


def test_a_checkpoint_in_fp8_is_read_as_its_scaled_weights(saved: Callable[[dict[str, Any]], Path]) -> None:
    folder = saved({"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK]})
    tokenizer = tiny.byte_tokenizer()
    model, stored = wide_llama(len(tokenizer)), {}
    for name, weight in load_file(folder / "model.safetensors").items():
        stored[name] = weight
        if name.endswith("_proj.weight"):
            blocks = weight.view(weight.shape[0] // BLOCK, BLOCK, weight.shape[1] // BLOCK, BLOCK)
            scale = blocks.abs().amax((1, 3)) / 448
            stored[name] = (blocks / scale[:, None, :, None]).to(torch.float8_e4m3fn).view(weight.shape)
            stored[f"{name}_scale_inv"] = scale
            expanded = stored[name].view(blocks.shape).float() * scale[:, None, :, None]
            model.get_parameter(name).data = expanded.view(weight.shape)
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    reader = Reader.load(str(folder), device="cpu")
    framed = frame(tokenizer, tiny.passage(), "assistant")
    (scores,) = reader.score([framed])
    expected = tiny.reference(model, framed.ids, framed.start, framed.stop)
    np.testing.assert_allclose(scores.entropy, expected[1], atol=1e-5)
    assert reader.quantization is None  # plain numbers by now


@pytest.mark.parametrize("method", ["gptq", "awq", "compressed-tensors", "torchao", "bitsandbytes", "hqq", "quanto"])
def test_a_package_that_a_checkpoint_needs_is_named_in_one_line_and_at_once(
    saved: Callable[[dict[str, Any]], Path],
    method: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = saved({"load_in_4bit": True} if method == "bitsandbytes" else {"quant_method": method})
    find_spec = importlib.util.find_spec
    hidden = set(PACKAGES[method]) - {"accelerate"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in hidden else find_spec(name))
    capsys.readouterr()  # the bar of saving
    begin = time.monotonic()
    code, _, said = enaction(capsys, monkeypatch, "check", folder)
    assert time.monotonic() - begin < 1
    assert (code, said.count("\n")) == (2, 1)
    assert f"is quantised ({method}), which needs" in said
    assert all((PACKAGES[method][name] or name) in said.partition("pip install")[2] for name in hidden)


def test_to_quantise_what_is_quantised_or_without_the_package_is_refused(
    saved: Callable[[dict[str, Any]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved({"quant_method": "fp8"})
    with pytest.raises(ModelError, match=r"is quantised already \(fp8\): leave out quantization 4bit"):
        Reader.load(str(folder), quantization="4bit")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "bitsandbytes" else find_spec(name)
    )
    with pytest.raises(ModelError, match=r"needs bitsandbytes, not installed: pip install 'enaction\[quantized\]'"):
        Reader.load(str(folder), quantization="8bit")


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_quantisation_is_asked_of_transformers_with_the_device(bits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, asked = tiny.byte_tokenizer(), {}

    def load(_: str, **given: Any) -> Any:
        asked.update(given)
        info = {"unexpected_keys": (), "missing_keys": (), "mismatched_keys": ()}
        return tiny.llama(len(tokenizer)), info

    monkeypatch.setattr(transformers, "BitsAndBytesConfig", dict)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", load)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_: tokenizer)
    from_pretrained("somewhere", {}, Loading(dtype=torch.bfloat16, device="cuda:1", quantization=bits))
    assert asked["quantization_config"]["load_in_4bit"] == (bits == "4bit")
    assert asked["quantization_config"]["load_in_8bit"] == (bits == "8bit")
    assert asked["device_map"] == {"": "cuda:1"}
    assert asked["dtype"] == torch.bfloat16


def test_quantised_weights_are_named_and_judged_as_half_precision() -> None:
    tokenizer = tiny.byte_tokenizer()
    model = tiny.llama(len(tokenizer))
    assert quantization_of(model) is None
    assert not is_coarse(model)
    model.config.quantization_config = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    reader = Reader(model, tokenizer, name="tiny")
    assert reader.placement == "device: cpu (float32, weights bitsandbytes 4-bit)"
    assert reader.is_coarse
    assert any("weights are quantised (bitsandbytes 4-bit)" in warning for warning in warnings_of(reader, "none"))


def test_weights_that_are_tensors_of_another_kind_are_not_copied() -> None:
    """As torchao quantises in place: the matrices of a layer cannot be laid side by side."""

    class Coded(nn.Parameter):
        pass

    model = tiny.llama(64)
    assert lean_steps(model.model) is not None
    attention: Any = model.model.layers[0].self_attn
    attention.q_proj.weight = Coded(attention.q_proj.weight.detach())
    assert lean_steps(model.model) is None
