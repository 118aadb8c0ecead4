"""Work that is stopped keeps its finished parts, and the same command goes on with the rest."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import command
import pytest
import tiny

from enaction import sampling, tokens
from enaction.cli import resuming
from enaction.errors import ModelError, UserError
from enaction.passages import read_passages
from enaction.reader import Reader
from enaction.reader import reader as reader_module
from enaction.reader.sources import find
from enaction.tokens import read_token_table, table_notes

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tiny.word_tokenizer()
    tiny.llama(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def call(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    rows = [{"prompt": f"why {'the ' * i}", "response": "the old fox walked " * 4} for i in range(6)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(resuming, "tokens_of_part", lambda _: 50)
    given = {"score": ("score", "p.jsonl", "-o", "t.parquet"), "sample": ("sample", "--prompts", "p.jsonl")}
    given["sample"] += ("-o", "s.jsonl", "-n", 2, "--batch-size", 1, "--max-new-tokens", 5)

    def enaction(name: str, *more: object) -> tuple[int, str, str]:
        return command.enaction(capsys, monkeypatch, *given[name], "--model", model, *more)

    return enaction


def _stopping(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, at: int, error: BaseException | None) -> list:
    """Let a function of a module raise at its call of this number; the list of calls."""
    real, calls = getattr(module, name), []

    def stopped(*args: Any, **more: Any) -> Any:
        calls.append(args)
        if len(calls) == at and error is not None:
            raise error
        return real(*args, **more)

    monkeypatch.setattr(module, name, stopped)
    return calls


@pytest.mark.parametrize(
    ("name", "module", "function", "out", "n_parts"),
    [("score", tokens, "score_passages", "t.parquet", 3), ("sample", sampling, "sample", "s.jsonl", 3)],
)
def test_what_is_finished_is_kept_and_resumed(
    name: str, module: Any, function: str, out: str, n_parts: int, call: Call, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        calls = _stopping(patch, module, function, n_parts, KeyboardInterrupt())
        code, _, err = call(name)
    folder = tmp_path / f"{out}.partial"
    assert code == 130
    assert f"of {12 if name == 'sample' else 6} passages are kept in {folder.name}; the same command resumes" in err
    assert not (tmp_path / out).exists()
    assert len(list(folder.glob("*.parquet"))) == n_parts - 1
    code, _, err = call(name, "--dtype", "bf16")
    assert (code, "it differs in dtype" in err) == (2, True)
    (folder / "00000.parquet").write_bytes(b"rotten")  # is made again
    with pytest.MonkeyPatch.context() as patch:
        again = _stopping(patch, module, function, 0, None)
        code, _, err = call(name)
    assert code == 0, err
    assert not folder.exists()
    kept = (tmp_path / out).rename(tmp_path / f"first-{out}")
    with pytest.MonkeyPatch.context() as patch:
        whole = _stopping(patch, module, function, 0, None)
        assert call(name)[0] == 0
    assert len(calls) == n_parts
    assert len(again) == len(whole) - (n_parts - 1) + 1  # all but the finished ones, and the rotten one
    if name == "sample":
        assert read_passages(kept) == read_passages(tmp_path / out)
    else:
        assert read_token_table(kept).equals(read_token_table(tmp_path / out))


def test_a_file_never_mixes_two_models_or_two_divisions(
    call: Call, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts have numbers: divided otherwise, part 0 would be taken for more texts than it holds."""
    with pytest.MonkeyPatch.context() as patch:
        _stopping(patch, sampling, "sample", 2, KeyboardInterrupt())
        assert call("sample")[0] == 130
    code, _, err = call("sample", "--batch-size", 2)
    assert (code, "it differs in division into parts" in err) == (2, True), err
    weights = next(model.glob("*.safetensors"))
    before = weights.stat()
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    code, _, err = call("sample")
    assert (code, "it differs in model" in err) == (2, True), err
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader_module, "quantization_of", lambda _: "bitsandbytes 4-bit")
        patch.setattr(Reader, "fingerprint", "another")
        code, _, err = call("sample")
    assert (code, "it differs in quantization, tokenizer" in err) == (2, True), err
    assert call("sample")[0] == 0
    assert len(read_passages(tmp_path / "s.jsonl")) == 12


def test_a_base_that_changed_is_another_model(tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    for folder, name in ((base, "config.json"), (adapter, "adapter_config.json")):
        folder.mkdir()
        (folder / name).write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "../base"}))
    for folder, name in ((base, "model.safetensors"), (adapter, "adapter_model.safetensors")):
        (folder / name).write_bytes(b"")
    of_adapter = {adapter / "adapter_model.safetensors", adapter / "adapter_config.json"}
    whole = of_adapter | {base / "model.safetensors", base / "config.json"}
    assert {path.resolve() for path in find(str(adapter)).files_with(None)} == whole
    assert {path.resolve() for path in find(str(adapter)).files_with(base)} == whole


def test_parts_make_the_table_that_is_read_in_one_go(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("score")[0] == 0
    parts = read_token_table(tmp_path / "t.parquet")
    monkeypatch.setattr(resuming, "tokens_of_part", lambda _: 10**6)
    assert call("score")[0] == 0
    whole = read_token_table(tmp_path / "t.parquet")
    assert table_notes(parts) == table_notes(whole)
    assert whole["surprisal"].to_pylist() == pytest.approx(parts["surprisal"].to_pylist(), abs=1e-5)
    for column in ("passage_id", "text", "token_id", "is_end"):
        assert whole[column].to_pylist() == parts[column].to_pylist()


def test_an_error_says_what_is_kept(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    _stopping(monkeypatch, tokens, "score_passages", 2, ModelError("no memory: take a smaller model"))
    code, _, err = call("score")
    assert code == 2
    assert "no memory: take a smaller model (" in err
    assert "of 6 passages are kept in t.parquet.partial; the same command resumes)" in err


def test_a_passage_that_cannot_be_read_is_found_before_any_is_read(call: Call, tmp_path: Path) -> None:
    with (tmp_path / "p.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "why", "response": "the " * 1000}) + "\n")
    code, _, err = call("score")
    assert (code, "takes 256" in err) == (2, True)
    assert not (tmp_path / "t.parquet.partial").exists()


def test_a_folder_that_no_command_left_is_not_touched(call: Call, tmp_path: Path) -> None:
    (tmp_path / "t.parquet.partial").mkdir()
    (tmp_path / "t.parquet.partial" / "mine.txt").write_text("x")
    code, _, err = call("score")
    assert (code, "is not what an unfinished command left" in err) == (2, True)
    assert [path.name for path in (tmp_path / "t.parquet.partial").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("size", [50, 10**6])
def test_a_full_disk_at_the_end_loses_nothing(
    size: int, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resuming, "tokens_of_part", lambda _: size)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    real = tokens.write_token_table

    def full(table: Any, path: Path) -> None:
        if path == Path("t.parquet"):
            raise UserError("cannot write t.parquet (No space left on device): make room")
        real(table, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "write_token_table", full)
        code, _, err = call("score")
    assert code == 2
    assert "No space left on device" in err
    if size == 50:
        assert len(list((tmp_path / "t.parquet.partial").glob("*.parquet"))) > 1
        calls = _stopping(monkeypatch, tokens, "score_passages", 0, None)
        assert call("score")[0] == 0
        assert not calls
    else:
        (spare,) = tmp_path.glob("enaction-*/t.parquet")
        assert f"Nothing is lost: it is in {spare}, move it from there" in err
        assert len(read_token_table(spare)) > 0


def test_groups_keep_the_order_and_their_size() -> None:
    assert resuming.grouped([3, 9, 1, 1, 2], lambda n: n, 4) == [[3], [9], [1, 1, 2]]
    assert resuming.grouped([], len, 4) == [[]]
