"""Memory: what a model takes is known before it is loaded, and estimated when it is."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from command import enaction

from enaction.check import facts
from enaction.reader import Reader, load
from enaction.reader.room import Sizes, free_memory, shown, stored_elements, weight_bytes


def test_sizes_are_read_from_the_headers(tmp_path: Path) -> None:
    model = tiny.llama(64, tied=False)
    model.save_pretrained(tmp_path)
    elements = sum(p.numel() for p in model.parameters())
    stored = stored_elements(tmp_path)
    assert stored is not None
    assert stored == {"F32": elements}
    assert weight_bytes(stored, 2) == 2 * elements
    assert weight_bytes({"F16": 10, "I32": 5}, 4, is_quantised=True) == 40
    assert weight_bytes(stored, 4, quantization="4bit") < weight_bytes(stored, 1)
    sizes = Sizes.of(model, 64, 4, is_on_cpu=True)
    assert sizes is not None
    assert sizes.weights >= 4 * elements


def test_files_that_are_none_are_left_to_the_loader(tmp_path: Path) -> None:
    assert stored_elements(tmp_path) is None
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 40)
    assert stored_elements(tmp_path) is None


def test_a_model_larger_than_the_memory_is_one_line_before_it_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tiny.word_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    tiny.llama(len(tokenizer)).save_pretrained(tmp_path)
    capsys.readouterr()
    monkeypatch.setattr(load, "free_memory", lambda device: 1000.0)
    monkeypatch.setattr(load, "swap", lambda: 0.0)
    code, _, said = enaction(capsys, monkeypatch, "check", tmp_path, "--device", "cpu")
    assert (code, said.count("\n")) == (2, 1)
    for words in (
        "MiB for its weights in float32, and cpu has",
        "free: use dtype bf16 (",
        "quantization 4bit",
        "device_map",
    ):
        assert words in said


def test_free_memory_of_this_machine_is_known_on_linux() -> None:
    free = free_memory("cpu")
    assert (free is None) == (not Path("/proc/meminfo").exists())
    assert shown(3 * 2**30) == "3.0 GiB"


def test_check_says_what_weights_reading_and_writing_take() -> None:
    tokenizer = tiny.byte_tokenizer()
    memory = facts(Reader(tiny.llama(len(tokenizer)), tokenizer), "none")["memory"]
    for words in ("weights 0.", "to read 1,024 tokens at a time", "a text of 256", "to write 64 texts of 256"):
        assert words in memory


_MEASURED = """
import ctypes, gc
from pathlib import Path
import torch
from enaction.framing import Framed
from enaction.reader import Reader
from enaction.reader.room import Sizes

def held(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))

def texts(rows, length):
    return [Framed(tuple(range(5, 5 + length)), 1, length, has_end=False) for _ in range(rows)]

reader = Reader.load("zoo:ash-rl")
reader.score(texts(1, 40))
gc.collect()
ctypes.CDLL("libc.so.6").malloc_trim(0)
before = held("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
reader.score(texts(8, 512), token_budget=4096)
sizes = Sizes.of(reader.model, reader.vocabulary_size, 4, is_on_cpu=True)
print((held("VmHWM") - before) / sizes.reading(4096, 512))
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak cannot be measured here")
def test_the_estimate_of_reading_is_good_to_a_third() -> None:
    gc.collect()
    done = subprocess.run([sys.executable, "-c", _MEASURED], capture_output=True, text=True, check=True)
    assert 0.7 < float(done.stdout) < 1.3
