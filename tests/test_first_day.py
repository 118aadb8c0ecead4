"""What a new user tries first: devices, dtypes, options, a few lines of Python."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import command
import pytest
import tiny
import torch

import enaction
from enaction.errors import ModelError
from enaction.passages import read_passages
from enaction.reader import Reader, load
from enaction.sampling import sample
from enaction.tokens import read_token_table, score_passages


@pytest.fixture(scope="module", name="model")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _saved(tmp_path_factory.mktemp("model"), tiny.CHATML)


@pytest.fixture(scope="module", name="plain_model")
def _plain_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _saved(tmp_path_factory.mktemp("plain"), None)


def _saved(folder: Path, template: str | None, dtype: torch.dtype = torch.float32) -> Path:
    tokenizer = tiny.word_tokenizer(chat_template=template)
    tiny.llama(len(tokenizer)).to(dtype).save_pretrained(folder)  # pyright: ignore[reportArgumentType]
    tokenizer.save_pretrained(folder)
    return folder


def _conversations(path: Path) -> Path:
    turns = ("tell me", "the old fox"), ("why", "because it was near"), ("how", "it walked")
    messages = [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    path.write_text(json.dumps([{"messages": messages}, {"messages": messages[:2]}]))
    return path


# Devices and dtypes.


def test_auto_takes_the_best_device_there_is(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda, mps, best in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda is_there=cuda: is_there)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda is_there=mps: is_there)
        assert load.best_device() == best
    monkeypatch.setattr(load, "best_device", lambda: "meta")
    assert Reader.load("zoo:ash-base").device.type == "cpu"  # small models of the embedded world stay there
    with pytest.raises(ModelError, match="on meta tensors"):  # any other goes where `auto` says
        Reader.load(str(model))


@pytest.mark.parametrize("saved", [torch.float32, torch.bfloat16])
def test_auto_is_the_dtype_that_the_weights_are_saved_in(saved: torch.dtype, tmp_path: Path) -> None:
    assert Reader.load(str(_saved(tmp_path, None, saved)), dtype="auto").dtype == str(saved).removeprefix("torch.")


@pytest.mark.parametrize(("alias", "dtype"), [("bf16", "bfloat16"), ("half", "float16"), ("fp32", "float32")])
def test_dtypes_have_short_names(alias: str, dtype: str, model: Path) -> None:
    assert Reader.load(str(model), dtype=alias).dtype == dtype


def test_an_unknown_dtype_lists_the_short_names_too(model: Path) -> None:
    with pytest.raises(ModelError, match=r"use one of float32, .*bf16.*auto"):
        Reader.load(str(model), dtype="int4")


def test_a_command_says_where_the_model_is_and_refuses_an_unknown_dtype(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    passages = _conversations(tmp_path / "chat.json")
    arguments = ("score", passages, "--model", model, "-o", tmp_path / "t.parquet", "--device", "cpu", "--dtype")
    code, _, err = command.enaction(capsys, monkeypatch, *arguments, "bf16")
    assert code == 0, err
    assert f"{model}: device: cpu (bfloat16)" in err
    code, _, err = command.enaction(capsys, monkeypatch, *arguments, "int4")
    assert code == 2
    assert err.splitlines()[-1].startswith("enaction: --dtype int4: use one of float32")


# The command line.


def test_whole_conversations_are_scored_without_an_author(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    passages, out = _conversations(tmp_path / "chat.json"), tmp_path / "t.parquet"
    code, _, err = command.enaction(capsys, monkeypatch, "score", passages, "--model", model, "-o", out)
    assert code == 0, err
    table = read_token_table(out)
    assert set(table["author"].to_pylist()) == {"chat"}
    assert list(dict.fromkeys(table["passage_id"].to_pylist())) == ["1/0", "1/1", "1/2", "2/0"]
    same = [
        [
            s
            for s, name in zip(table["surprisal"].to_pylist(), table["passage_id"].to_pylist(), strict=True)
            if name == i
        ]
        for i in ("1/0", "2/0")
    ]
    assert len(same[0]) == 3
    assert same[0] == pytest.approx(same[1], abs=1e-5)  # one turn, with the same words before it


def test_limit_author_and_columns_are_options(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "frage.csv"
    table.write_text("frage,antwort\ntell me,the old fox\nwhy,it was\nhow,so\n")
    out, texts = tmp_path / "t.parquet", tmp_path / "s.jsonl"
    score = ("score", table, "--model", model, "-o", out, "--prompt-column", "frage", "--response-column", "antwort")
    code, _, err = command.enaction(capsys, monkeypatch, *score, "--author", "ada", "--limit", 2)
    assert code == 0, err
    assert set(read_token_table(out)["author"].to_pylist()) == {"ada"}
    assert set(read_token_table(out)["passage_id"].to_pylist()) == {"1", "2"}
    sampling = ("sample", "--model", model, "--prompts", table, "--prompt-column", "frage", "-o", texts)
    code, _, err = command.enaction(capsys, monkeypatch, *sampling, "--limit", 2, "--max-new-tokens", 3)
    assert code == 0, err
    assert [p.prompt[0]["content"] for p in read_passages(texts)] == ["tell me", "why"]


@pytest.mark.parametrize(
    ("which", "text", "framing"), [("plain", False, "none"), ("chat", True, "none"), ("chat", False, "assistant")]
)
def test_score_falls_back_to_framing_none(
    which: str,
    text: bool,
    framing: str,
    model: Path,
    plain_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For a model without a template, and for texts without a prompt."""
    (tmp_path / "essay.txt").write_text("the old fox walked\n")
    passages = tmp_path / "essay.txt" if text else _conversations(tmp_path / "chat.json")
    out = tmp_path / "t.parquet"
    arguments = ("score", passages, "--model", model if which == "chat" else plain_model, "-o", out)
    code, _, err = command.enaction(capsys, monkeypatch, *arguments)
    assert code == 0, err
    assert f"framing {framing}" in err
    assert set(read_token_table(out)["framing"].to_pylist()) == {framing}


@pytest.mark.parametrize("arguments", [["--version"], ["-h"], ["score", "-h"], ["zoo", "path", "-h"]])
def test_version_and_short_help(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = command.enaction(capsys, monkeypatch, *arguments)
    assert code == 0
    assert (out == f"enaction {enaction.__version__}\n") if "--version" in arguments else "Usage: enaction" in out


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "enaction", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"enaction {enaction.__version__}\n"


# Python.


def test_strings_are_prompts_and_the_framing_has_a_default(model: Path, plain_model: Path) -> None:
    for folder, framing in ((model, "assistant"), (plain_model, "none")):
        reader = Reader.load(str(folder), name="tiny")
        passages = sample(reader, ["tell me", "why"], n=2, max_new_tokens=4)
        assert [p.prompt[0] for p in passages[::2]] == [{"role": "user", "content": t} for t in ("tell me", "why")]
        table = score_passages(reader, passages)
        assert set(table["framing"].to_pylist()) == {framing}
        recorded = [-x for p in passages for x in p.logprobs or ()]
        assert table["surprisal"].to_pylist() == pytest.approx(recorded, abs=1e-4)


def test_a_reader_says_what_it_is(model: Path) -> None:
    shown = repr(Reader.load(str(model), name="tiny"))
    for words in ("Reader tiny", "LlamaForCausalLM", "M parameters", "float32 on cpu", "256 tokens", "a chat template"):
        assert words in shown
