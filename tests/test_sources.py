"""Names of models: each means one kind of source, and what is wrong with it is reported before anything is loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from enaction import zoo
from enaction.errors import ModelError
from enaction.reader.sources import absolute_name, embedded_name, find, short_name


def _folder(path: Path, **files: str) -> Path:
    path.mkdir()
    for name, text in files.items():
        (path / name.replace("_json", ".json").replace("_safetensors", ".safetensors")).write_text(text)
    return path


def test_each_form_of_a_name_means_one_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _folder(tmp_path / "plain", config_json="{}")
    _folder(tmp_path / "adapted", base_json="{}")
    Path("org/name").mkdir(parents=True)
    kinds = {
        "zoo:ash-rl": "zoo",
        "zoo:smollm2-rl-a": "zoo",
        "model.gguf": "gguf",
        "./adapted": "adapter",
        "plain": "folder",
        "org/name": "folder",  # it exists
        "./nothing": "folder",
        "a/b/c": "folder",
        "org/other": "hub",
        "gpt2@main": "hub",
    }
    assert {name: find(name).kind for name in kinds} == kinds
    assert all(find(name).name == name for name in kinds)
    assert find("zoo:ash-rl").location == str(zoo.path("ash-rl"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nothing", "there is no model folder ./nothing"),
        ("./empty", "holds no config.json"),
        ("none.gguf", "there is no file none.gguf"),
    ],
)
def test_a_source_that_does_not_exist_is_refused_by_require_alone(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    with pytest.raises(ModelError, match=message):
        find(name).require()
    assert find(name).identity() == {"revision": "latest"}  # a finished run is reported without its models


def test_a_revision_comes_from_the_name_or_beside_it() -> None:
    assert find("org/name@v1").revision == find("org/name", "v1").revision == find("org/name@v1", "v1").revision == "v1"
    assert find("org/name@v1").location == "org/name"
    assert find("org/name@v1").identity() == {"revision": "v1"}
    assert find("org/name").identity() == {"revision": "latest"}
    with pytest.raises(ModelError, match="names a revision"):
        find("org/name@v1", "v2")


def test_weights_and_settings_fix_a_folder_and_other_files_do_not(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "model", config_json="{}", b_safetensors="two", a_safetensors="one", card_json="{}")
    parts = [hashlib.sha256(text.encode()).digest() for text in ("one", "two", "{}")]
    before = find(str(folder)).identity()
    assert before == {"sha256": hashlib.sha256(b"".join(parts)).hexdigest()}
    (folder / "card.json").write_text("changed")
    assert find(str(folder)).identity() == before
    (folder / "config.json").write_text('{"softcap": 30}')
    assert find(str(folder)).identity() != before


def test_a_study_s_paths_become_absolute_and_other_names_do_not_change(tmp_path: Path) -> None:
    for name in ("./model", "../model", "sub/model.gguf", "model.gguf"):
        assert absolute_name(name, tmp_path) == str((tmp_path / name).resolve())
    assert absolute_name("~/model", tmp_path) == str(Path("~/model").expanduser())
    for name in ("zoo:ash-rl", "org/name", "org/name@v1", "gpt2"):
        assert absolute_name(name, tmp_path) == name


def test_embedded_models_have_requests_of_their_own_and_real_ones_have_not() -> None:
    assert find("zoo:ash-rl").own_prompts() == zoo.prompts()
    assert find("zoo:smollm2-rl-a").own_prompts() is None
    assert find("org/name").own_prompts() is None


def test_short_names_leave_out_where_a_model_is() -> None:
    names = ("zoo:ash-rl", "org/name", "/home/me/model/", "gpt2")
    assert [short_name(name) for name in names] == ["ash-rl", "name", "model", "gpt2"]
    assert embedded_name("zoo:ash-rl") == embedded_name("ash-rl") == "ash-rl"
