"""GGUF files against an implementation that shares no code: llama.cpp on the same file and the same ids.

On the file itself the two agree to the rounding that llama.cpp does to its activations (see docs/gguf.md). With the
same weights written out in float32 that rounding is gone, and what is left says whether we read the file right.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from enaction.framing import Framed
from enaction.reader import Reader

pytestmark = [pytest.mark.slow, pytest.mark.real]

MODELS = Path(__file__).parent.parent / ".models"
FILES = {"smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf", "gemma3": "gemma-3-270m.Q4_K_M.gguf"}
TEXTS = (
    "The lighthouse keeper climbed the stairs every evening, lit the lamp, and wrote down the weather. One night a "
    "small boat came in out of the fog, and nobody was aboard.",
    "Water boils at a lower temperature on a mountain because the pressure of the air is lower there. 3.14159 is a "
    "number; def f(x): return x ** 2 is a function.",
    "Zwei Katzen saßen auf der Mauer. Il pleuvait depuis trois jours. 今日はいい天気です。",
)
FLOAT32 = 0  # GGML_TYPE_F32
# Largest and mean difference of surprisal and entropy, nats, with float32 weights and cache. llama.cpp looks GELU up
# in a table of half-precision numbers, whatever the weights are, so Gemma agrees less than SmolLM2, which has none.
EXACT = {"smollm2": (2e-4, 2e-5), "gemma3": (2e-2, 2e-3)}
# The same on the quantised file, where llama.cpp rounds each block of 32 or 256 activations to 8 bits.
QUANTISED = (2.0, 0.2)


@dataclass(frozen=True)
class Read:
    """Surprisal and entropy of every token of the texts but the first, nats."""

    surprisal: np.ndarray
    entropy: np.ndarray


@pytest.fixture(scope="module", params=FILES, name="model")
def _model(request: pytest.FixtureRequest) -> tuple[str, Path, list[list[int]], Read]:
    """Name, file, ids of the texts, and what our reader finds in them."""
    pytest.importorskip("llama_cpp")
    path = MODELS / FILES[request.param]
    if not path.is_file():
        pytest.skip("run `make real`, which puts the public checkpoints under .models/")
    reader = Reader.load(str(path))
    ids = [list(reader.tokenizer(text)["input_ids"]) for text in TEXTS]
    scores = reader.score([Framed(tuple(i), 1, len(i), has_end=False) for i in ids])
    found = Read(*(np.concatenate([getattr(s, c) for s in scores]) for c in ("surprisal", "entropy")))
    del reader
    gc.collect()
    return request.param, path, ids, found


def llama_cpp_reads(path: Path, ids: list[list[int]]) -> Read:
    """The same by llama.cpp, statistics in float64."""
    Llama = pytest.importorskip("llama_cpp", reason="pip install llama-cpp-python (it compiles for minutes)").Llama

    model = Llama(
        str(path),
        n_ctx=256,
        n_batch=256,
        logits_all=True,
        n_threads=1,
        n_threads_batch=1,
        type_k=FLOAT32,
        type_v=FLOAT32,
        verbose=False,
    )
    surprisals, entropies = [], []
    for one in ids:
        model.reset()
        model.eval(one)
        logprob_TV = torch.log_softmax(torch.tensor(np.array(model.scores[: len(one) - 1])).double(), 1)
        surprisals.append(-logprob_TV.gather(1, torch.tensor(one[1:])[:, None])[:, 0].numpy())
        entropies.append(-(logprob_TV.exp() * logprob_TV).sum(1).numpy())
    model.close()
    return Read(np.concatenate(surprisals), np.concatenate(entropies))


def in_float32(path: Path, out: Path) -> Path:
    """The same file with every tensor written out in float32."""
    gguf = pytest.importorskip("gguf")
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            kind, inner = field.types[0], field.types[-1]
            listed: dict[str, Any] = {"sub_type": inner} if kind == gguf.GGUFValueType.ARRAY else {}
            writer.add_key_value(name, field.contents(), kind, **listed)
    for tensor in reader.tensors:
        weights = gguf.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, np.ascontiguousarray(weights, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def differences(ours: Read, theirs: Read) -> np.ndarray:
    """[2, N] of surprisal and entropy, nats, signed."""
    return np.stack([ours.surprisal - theirs.surprisal, ours.entropy - theirs.entropy])


def shown(name: str, weights: str, difference: np.ndarray) -> str:
    surprisal, entropy = np.abs(difference)
    return (
        f"{name}, {weights}: surprisal max {surprisal.max():.1e} mean {surprisal.mean():.1e}, "
        f"entropy max {entropy.max():.1e} mean {entropy.mean():.1e}, {difference.shape[1]} tokens"
    )


def test_the_weights_of_the_file_are_read_as_llama_cpp_reads_them(
    model: tuple[str, Path, list[list[int]], Read], tmp_path: Path
) -> None:
    name, path, ids, ours = model
    difference = differences(ours, llama_cpp_reads(in_float32(path, tmp_path / "f32.gguf"), ids))
    print(shown(name, "float32 weights", difference))
    most, mean = EXACT[name]
    assert np.abs(difference).max() < most
    assert np.abs(difference).mean(1).max() < mean


def test_the_file_itself_is_read_alike_up_to_quantised_activations(
    model: tuple[str, Path, list[list[int]], Read],
) -> None:
    name, path, ids, ours = model
    difference = differences(ours, llama_cpp_reads(path, ids))
    print(shown(name, "the file", difference))
    most, mean = QUANTISED
    assert np.abs(difference).max() < most
    assert np.abs(difference).mean(1).max() < mean
    # Rounding has no direction: the mean does not move by more than three standard errors.
    surprisal = difference[0]
    assert abs(surprisal.mean()) < 3 * surprisal.std() / np.sqrt(len(surprisal))


def test_both_cut_text_into_the_same_tokens(model: tuple[str, Path, list[list[int]], Read]) -> None:
    Llama = pytest.importorskip("llama_cpp", reason="pip install llama-cpp-python (it compiles for minutes)").Llama

    _, path, ids, _ = model
    tokenizer = Llama(str(path), vocab_only=True, verbose=False)
    for text, ours in zip(TEXTS, ids, strict=True):
        theirs = tokenizer.tokenize(text.encode(), add_bos=False)
        assert ours[len(ours) - len(theirs) :] == theirs
        assert len(ours) - len(theirs) <= 1  # a BOS that the tokenizer adds
    tokenizer.close()
