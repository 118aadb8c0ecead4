"""The command line as a user sees it: results on stdout, one clear line and exit code 2 on bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
from command import enaction
from typer.testing import CliRunner

from enaction.cli import app
from enaction.passages import read_passages
from enaction.tokens import read_token_table


@pytest.fixture(scope="module", name="model")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tiny.word_tokenizer()
    tiny.llama(len(tokenizer), context=64).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", name="plain_model")
def _plain_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    tokenizer = tiny.word_tokenizer(chat_template=None)
    tiny.llama(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _lines(path: Path, *records: object) -> Path:
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records) + "\n")
    return path


def _passage(response: str = "the old fox", prompt: str = "tell me a story") -> dict[str, object]:
    return {"id": "x", "prompt": [{"role": "user", "content": prompt}], "response": response, "author": "person"}


def _run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> tuple[int, str]:
    """Exit code and standard error of `enaction ARGUMENTS`."""
    code, _, err = enaction(capsys, monkeypatch, *arguments)
    return code, err


def test_sample_then_score_round_trip(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = _lines(tmp_path / "p.jsonl", {"id": "a", "prompt": "tell me"}, {"id": "b", "prompt": "what is it"})
    written, tokens = tmp_path / "s.jsonl", tmp_path / "t.parquet"
    sampling = ["sample", "--model", model, "--prompts", prompts, "-n", 2, "--max-new-tokens", 9, "-o", written]
    assert _run(capsys, monkeypatch, *sampling)[0] == 0
    passages = read_passages(written)
    assert [p.id for p in passages] == ["a/0", "a/1", "b/0", "b/1"]
    assert _run(capsys, monkeypatch, "score", written, "--model", model, "-o", tokens)[0] == 0
    table = read_token_table(tokens)
    recorded = [-x for p in passages for x in p.logprobs or ()]
    assert table["surprisal"].to_pylist() == pytest.approx(recorded, abs=1e-4)


def test_bad_input_gets_one_clear_line_and_exit_code_2(
    model: Path,
    plain_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = _lines(tmp_path / "good.jsonl", _passage())
    score = ("--model", model, "-o", tmp_path / "t.parquet")
    cases: list[tuple[tuple[object, ...], str]] = [
        (("score", tmp_path / "none.jsonl", *score), "none.jsonl"),
        (("score", _lines(tmp_path / "b.jsonl", _passage(), "{not json"), *score), "line 2"),
        (("score", _lines(tmp_path / "e.jsonl", _passage("")), *score), "line 1: 'response' is empty"),
        (("score", _lines(tmp_path / "k.jsonl", {"id": "x", "response": "a"}), *score), "line 1"),
        (("score", _lines(tmp_path / "l.jsonl", _passage(prompt="fox " * 90)), *score), "takes 64"),
        (("score", good, "--model", "zoo:oak-rl", "-o", tmp_path / "t.parquet"), "the zoo has no model 'oak-rl'"),
        (("score", good, "--model", "./nowhere", "-o", tmp_path / "t.parquet"), "no model folder ./nowhere"),
        (
            ("score", good, *score, "--model", plain_model, "--framing", "assistant"),
            "chat template: use --framing none",
        ),
        (("sample", "--model", model, "--prompts", tmp_path / "no.jsonl"), "no.jsonl"),
        (("sample", "--model", model, "--prompts", good, "--temperature", "-1"), "temperature"),
        (("sample", "--model", model, "--prompts", good, "--chat-template", tmp_path / "no.jinja"), "--chat-template"),
        (("run", tmp_path / "no.yaml"), "no such study file"),
        (("report", tmp_path / "nowhere"), "no run folder"),
        (("zoo", "path", "oak"), "the zoo has no model"),
        (("zoo", "build", "--family", "oak"), "no family oak"),
        (("zoo", "build", "--family", "smollm2", "--base", tmp_path / "no.gguf"), "there is no base file"),
        (("check", "zoo:ash-rl", "--base", good), "zoo:ash-rl does not ship as an adapter and has no base"),
    ]
    for arguments, message in cases:
        code, shown = _run(capsys, monkeypatch, *arguments)
        last = [line for line in shown.splitlines() if line.startswith("enaction: ")]
        assert code == 2, (arguments, shown)
        assert len(last) == 1, (arguments, shown)
        assert message in last[0], (arguments, shown)
        assert "Traceback" not in shown


def test_plain_model_is_read_without_a_template(
    plain_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    passages = _lines(tmp_path / "p.jsonl", _passage())
    arguments = ("score", passages, "--model", plain_model, "--framing", "none", "-o", tmp_path / "t.parquet")
    code, shown = _run(capsys, monkeypatch, *arguments)
    assert code == 0, shown
    assert "person" in shown


def test_a_study_takes_the_given_number_of_prompts(
    model: Path, plain_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [{"id": str(i), "prompt": f"tell me {what}"} for i, what in enumerate(("why", "what", "a story", "it"))]
    _lines(tmp_path / "p.jsonl", *prompts)
    models = {"a": {"model": str(model), "family": "a"}, "b": {"model": str(plain_model), "family": "b"}}
    study = {"name": "s", "models": models, "prompts": "./p.jsonl", "sampling": {"max_new_tokens": 6}}
    (tmp_path / "s.yaml").write_text(json.dumps(study | {"framings": ["assistant"], "resamples": 100}))
    out = tmp_path / "run"
    for given, code in (("2", 0), ("9", 2)):
        arguments = ("run", tmp_path / "s.yaml", "--out", out, "--n-prompts", given)
        assert _run(capsys, monkeypatch, *arguments)[0] == code
    assert {p.prompt_id for p in read_passages(out / "passages" / "a.parquet")} == {"0", "2"}


def test_every_command_has_help_with_an_example() -> None:
    for command in (["demo"], ["run"], ["sample"], ["score"], ["report"], ["zoo", "list"], ["zoo", "build"]):
        result = CliRunner().invoke(app, [*command, "--help"])
        assert result.exit_code == 0
        assert "Example" in result.output, command
