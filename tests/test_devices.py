"""Models on several devices, and how a study or a command says where a model goes."""

from __future__ import annotations

import gc
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from command import enaction
from torch import nn

from enaction.errors import ModelError, StudyError
from enaction.framing import frame
from enaction.reader import Reader
from enaction.reader.head import Head
from enaction.reader.measuring import measure
from enaction.reader.naming import DeviceMap
from enaction.reader.placing import device_of
from enaction.sampling import sample
from enaction.study.config import study_of

EMBEDDING, NORM, HEAD, LAYERS = "model.embed_tokens", "model.norm", "lm_head", "model.layers"
PARTS = {
    EMBEDDING: "cpu",
    "model.rotary_emb": "cpu",
    f"{LAYERS}.0": "cpu",
    f"{LAYERS}.1": "cpu",
    NORM: "cpu",
    HEAD: "cpu",
}


@pytest.fixture(scope="module", name="folders")
def _folders(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Model folders by whether the head is tied to the embedding."""
    folders = {}
    for tied in (False, True):
        folders[tied] = tmp_path_factory.mktemp("model")
        tokenizer = tiny.word_tokenizer()
        tokenizer.save_pretrained(folders[tied])
        tiny.llama(len(tokenizer), tied=tied).save_pretrained(folders[tied])
    return folders


@pytest.mark.parametrize(
    ("device_map", "tied", "on_disk"),
    [
        ({"": "cpu"}, True, False),
        ("auto", False, False),
        ({"": "disk"}, True, True),
        (PARTS | {f"{LAYERS}.1": "disk", NORM: "disk"}, True, True),
        (PARTS | {HEAD: "disk"}, False, True),
        (PARTS | {EMBEDDING: "disk"}, False, True),
    ],
)
def test_parts_elsewhere_change_no_score_and_no_sample(
    folders: dict[bool, Path], device_map: DeviceMap, tied: bool, on_disk: bool
) -> None:
    plain = Reader.load(str(folders[tied]), name="tiny", device="cpu")
    spread = Reader.load(str(folders[tied]), name="tiny", device_map=device_map)
    assert any(p.is_meta for p in spread.model.parameters()) == on_disk
    assert ("disk" in spread.placement) == on_disk
    assert spread.device == torch.device("cpu")
    assert spread.head_path == "streamed"
    prompts = [tiny.prompt(), tiny.prompt("the old red fox", "p1")]
    written = [sample(reader, prompts, n=3, max_new_tokens=12) for reader in (plain, spread)]
    assert [p.token_ids for p in written[0]] == [p.token_ids for p in written[1]]
    framed = [frame(plain.tokenizer, passage, "assistant") for passage in written[0]]
    for ours, theirs in zip(spread.score(framed), plain.score(framed), strict=True):
        np.testing.assert_allclose(ours.entropy, theirs.entropy, atol=1e-6)


@pytest.mark.parametrize("part", [HEAD, EMBEDDING])
def test_a_tied_head_apart_from_its_embedding_is_refused(folders: dict[bool, Path], part: str) -> None:
    with pytest.raises(ModelError, match="share"):
        Reader.load(str(folders[True]), device_map=PARTS | {part: "disk"})


@torch.inference_mode()
def test_hidden_states_go_to_the_device_of_the_head() -> None:
    """Meta stands for a second device: it shows where everything is computed, though not what."""
    head = Head(nn.Identity(), nn.Linear(4, 9, bias=False, device="meta"), 1.0, None)
    columns = measure(head, torch.randn(6, 4), torch.tensor([0, 3]), torch.tensor([1, 2]), 9, None)
    assert {name: (column.device.type, len(column)) for name, column in columns.items()} == {
        name: ("meta", 2) for name in ("surprisal", "entropy", "varentropy", "rank")
    }


def test_a_hook_says_where_a_module_takes_its_input() -> None:
    hooks = pytest.importorskip("accelerate.hooks")
    module = nn.Linear(2, 2)
    assert device_of(module) == torch.device("cpu")
    hooks.add_hook_to_module(module, hooks.AlignDevicesHook(execution_device="meta"))
    assert device_of(module) == torch.device("meta")


def test_a_head_that_is_only_moved_to_is_read_in_tiles(folders: dict[bool, Path]) -> None:
    for place, is_tiled in (("cpu", True), ("disk", False)):
        reader = Reader.load(str(folders[False]), device_map=PARTS | {f"{LAYERS}.0": "disk", HEAD: place})
        assert reader.head is not None
        assert reader.head.is_tiled == is_tiled


def test_weights_on_disk_leave_nothing_behind(
    folders: dict[bool, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    reader = Reader.load(str(folders[False]), device_map={"": "disk"})
    assert len(list(tmp_path.iterdir())) == 1
    del reader
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_without_accelerate_the_extra_is_named(folders: dict[bool, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "accelerate" else find_spec(name))
    with pytest.raises(
        ModelError, match=r"device_map needs accelerate, not installed: pip install 'enaction\[devices\]'"
    ):
        Reader.load(str(folders[False]), device_map="auto")


def test_a_device_and_a_map_contradict_each_other(folders: dict[bool, Path]) -> None:
    with pytest.raises(ModelError, match="give one of them"):
        Reader.load(str(folders[False]), device="cpu", device_map="auto")


def test_what_a_study_says_of_all_models_is_overruled_by_what_it_says_of_one() -> None:
    given: dict[str, Any] = {"name": "s", "dtype": "bf16", "device_map": "auto", "quantization": "4bit"}
    models = {"a": "zoo:ash-rl", "b": {"model": "zoo:ash-rl", "device": "cpu", "dtype": "float32"}}
    study = study_of(given | {"models": models}, "study.yaml")
    a, b = study.models.values()
    assert (a.dtype, a.device, a.device_map, a.quantization) == ("bfloat16", "auto", "auto", "4bit")
    assert (b.dtype, b.device, b.device_map, b.quantization) == ("float32", "cpu", None, "4bit")
    again = study_of(study.model_dump(mode="json"), "again")
    assert again == study
    assert not {"dtype", "device", "device_map", "quantization"} & study.model_dump().keys()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"device_map": "everywhere"}, "there is no device_map 'everywhere': use auto"),
        ({"device_map": {"": "gpu"}}, "there is no device 'gpu'"),
        ({"device_map": {}}, "places nothing"),
        ({"device": "cpu", "device_map": "auto"}, "contradict each other"),
        ({"quantization": "3bit"}, "4bit"),
    ],
)
def test_a_place_that_is_none_is_refused_with_the_key(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(StudyError, match=r"^study.yaml: models.a") as error:
        study_of({"name": "s", "models": {"a": {"model": "zoo:ash-rl"} | spec}}, "study.yaml")
    assert said in str(error.value)


def test_the_command_takes_a_map_and_prints_the_device(
    folders: dict[bool, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("tell me\n")
    command = ["sample", "--model", folders[True], "--prompts", prompts, "--max-new-tokens", 4]
    code, _, said = enaction(capsys, monkeypatch, *command, "--device-map", '{"": "cpu"}', "-o", tmp_path / "a.jsonl")
    assert (code, "device: cpu (float32)" in said) == (0, True), said
    for given, why in (("{", "not JSON"), ("all", "no device_map 'all'")):
        code, _, said = enaction(capsys, monkeypatch, *command, "--device-map", given)
        assert (code, why in said, said.count("\n")) == (2, True, 1), said


def test_a_run_prints_where_its_models_lie_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(
        "{name: s, device: cpu, models: {a: zoo:ash-rl}, n_prompts: 2, framings: [none], resamples: 100, "
        "sampling: {max_new_tokens: 4, per_prompt: 1}}"
    )
    for options, count in (((), 1), (("--quiet",), 0)):
        out = tmp_path / f"run{count}"
        code, _, said = enaction(capsys, monkeypatch, "run", study, "--out", out, *options)
        assert (code, said.count("device: cpu (float32)")) == (0, count), said
