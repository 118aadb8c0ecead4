"""What all commands share: how much they say, JSON, variables, completion, harmless text, and what a signal does."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import tiny
from command import enaction
from rich.text import Text

from enaction.cli import showing, stopping
from enaction.cli.commands import application
from enaction.passages import write_passages
from enaction.running import load_study, run_study
from studies.command_line import PAGE, page

HOSTILE = "a\x1b[31mred\x1b]0;title\x07\x85\u202eeslaf\x7f"


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two tiny models, and passages."""
    folder = tmp_path_factory.mktemp("line")
    tokenizer = tiny.word_tokenizer()
    for name in ("a", "b"):
        tiny.llama(len(tokenizer)).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    prompts = [{"id": str(i), "prompt": f"tell me {what}"} for i, what in enumerate(("why", "what", "a story", "it"))]
    (folder / "p.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    study = {"name": "s", "models": {"a": "./a", "b": "./b"}, "prompts": "p.jsonl", "resamples": 100}
    (folder / "s.yaml").write_text(json.dumps(study | {"sampling": {"max_new_tokens": 6}, "framings": ["assistant"]}))
    write_passages([tiny.passage("the old fox", "why"), tiny.passage("it is", "what", name="y")], folder / "t.jsonl")
    return folder


def _give(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path, line: str
) -> tuple[str, str]:
    """Standard output and standard error of a command in the folder that succeeds."""
    monkeypatch.chdir(folder)
    code, out, err = enaction(capsys, monkeypatch, *line.split())
    assert code == 0, err
    return out, err


# JSON.

SAMPLE = "sample --model ./a --prompts p.jsonl --max-new-tokens 6"


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("run s.yaml --out r --json", {"study", "answer", "numbers", "cautions", "claims", "files", "findings"}),
        ("run s.yaml --out r --json -q", {"study", "answer", "cautions", "claims", "files", "findings"}),
        ("report r --json", {"study", "answer", "cautions", "claims", "files", "findings"}),
        ("check ./a --json", {"model", "is_right", "error", "warnings", "facts", "tests"}),
        (
            "sample --model ./a --prompts p.jsonl --max-new-tokens 6 -o w.jsonl --json",
            {"model", "passages", "cautions", "files"},
        ),
        ("score t.jsonl --model ./a -o w.parquet --json", {"model", "authors", "cautions", "definitions", "files"}),
    ],
)
def test_json_alone_is_on_standard_output(
    line: str, keys: set[str], folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = _give(capsys, monkeypatch, folder, line)
    found = json.loads(out)
    assert keys <= set(found)
    for path in (path for path in found.get("files", {}).values() if isinstance(path, str)):
        assert Path(path).exists(), path
    for finding in found.get("findings", ()):
        assert finding["definition"]
        assert finding["unit"]


def test_the_list_of_embedded_models_is_json_too(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = json.loads(_give(capsys, monkeypatch, folder, "zoo list --json")[0])
    assert {"ash-rl", "birch-base"} <= {model["name"] for model in found}


def test_an_error_under_json_is_the_same_line_and_no_output(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    code, out, err = enaction(capsys, monkeypatch, "run", "none.yaml", "--json")
    assert (code, out) == (2, "")
    assert err == "enaction: none.yaml: no such study file\n"


def test_numbers_that_json_does_not_have_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    showing.print_json({"a": [float("inf"), float("nan"), 1.5], "b": "\u202e\x85"})
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": [None, None, 1.5], "b": "\u202e\x85"}
    assert out.isascii()


# How much is said.


def test_quiet_prints_results_and_verbose_says_what_is_done(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    score = "score t.jsonl --model ./a -o w.parquet"
    plain, quiet, verbose = (_give(capsys, monkeypatch, folder, f"{score} {o}")[1] for o in ("", "-q", "-v"))
    assert "token table: w.parquet" in plain
    assert "token table" not in quiet
    assert "entropy (nats)" in quiet
    assert "token table: w.parquet" in verbose
    verbose, quiet = (_give(capsys, monkeypatch, folder, f"run s.yaml --out v {option}") for option in ("-v", "-q"))
    assert quiet == (verbose[0], "")
    assert re.search(r"^\d\d:\d\d:\d\d enaction\.study\.work: a wrote a: \d+ passages$", verbose[1], re.MULTILINE)
    assert "b read a, framing assistant" in verbose[1]


def test_the_library_prints_nothing_by_itself_and_leaves_the_logger_as_it_was(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("enaction")
    before = (logger.level, list(logger.handlers))
    _give(capsys, monkeypatch, folder, "zoo list -vv")
    assert (logger.level, list(logger.handlers)) == before
    monkeypatch.setattr(logger, "propagate", False)  # the handlers of the tests
    run_study(load_study(folder / "s.yaml"), folder / "library")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_no_bar_is_drawn_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with showing.counting("reading", 3) as bar:
        bar.update(bar.task_ids[0], completed=3)
    assert capsys.readouterr().err == ""


# The environment, help and completion.


def test_every_option_has_a_variable_that_help_shows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for path in (["run"], ["demo"], ["sample"], ["score"], ["check"], ["report"], ["zoo", "list"], ["zoo", "build"]):
        code, out, _ = enaction(capsys, monkeypatch, *path, "--help")
        assert code == 0
        command = application()
        for name in path:
            command = command.commands[name]
        given = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
        for option in given:
            variable = option.envvar if isinstance(option.envvar, str) else option.envvar[0]
            assert variable.startswith("_".join(["ENACTION", *path]).upper())
            assert variable in out, (path, option.name)


def test_variables_set_options_and_options_win(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SAMPLE_MODEL": "./a", "SAMPLE_OUT": "e.jsonl", "SAMPLE_JSON": "1", "QUIET": "1"}.items():
        monkeypatch.setenv(f"ENACTION_{name}", value)
    out, err = _give(capsys, monkeypatch, folder, "sample --prompts p.jsonl --max-new-tokens 6")
    assert (json.loads(out)["files"], err) == ({"passages": "e.jsonl"}, "")
    out, _ = _give(capsys, monkeypatch, folder, "sample --prompts p.jsonl --max-new-tokens 6 -o f.jsonl")
    assert json.loads(out)["files"] == {"passages": "f.jsonl"}


def test_the_page_of_the_command_line_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python studies/command_line.py`"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_completes_in_each_shell(shell: str) -> None:
    shown = _complete({"_ENACTION_COMPLETE": f"source_{shell}"})
    assert "_ENACTION_COMPLETE" in shown
    assert "enaction" in shown


@pytest.mark.parametrize(
    ("words", "found", "others"),
    [
        (["enaction", "sc"], ["score"], ["sample"]),
        (["enaction", "check", "zoo"], ["zoo:ash-rl", "zoo:birch-rl"], []),
        (["enaction", "check", "zoo", ":", "birch-r"], ["birch-rl"], ["ash-rl", "zoo:birch-rl"]),
        (["enaction", "check", "zoo", ":"], ["ash-rl"], ["zoo:ash-rl"]),
        (["enaction", "zoo", "card", "ash-"], ["ash-rl"], ["birch-rl"]),
        (["enaction", "sample", "--model", "zoo", ":", "ash-rl", "--prom"], ["--prompts"], ["--model"]),
    ],
)
def test_bash_completes_commands_options_and_models(words: list[str], found: list[str], others: list[str]) -> None:
    line = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1), "_ENACTION_COMPLETE": "complete_bash"}
    given = _complete(line).split()
    assert set(found) <= set(given)
    assert set(others).isdisjoint(given)


def _complete(environment: dict[str, str]) -> str:
    code = "from enaction.cli import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return done.stdout


# Harmless text.


def _is_harmless(text: str) -> bool:
    return showing.harmless(text) == text


def test_control_characters_of_anybody_are_printed_as_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert _is_harmless("a tab\tand\nlines, thé 模型 🙂")
    with showing.guarded():
        print(HOSTILE)
        print(warnings.formatwarning(UserWarning(HOSTILE), UserWarning, HOSTILE, 1), file=sys.stderr)
        logging.StreamHandler(sys.stderr).emit(logging.makeLogRecord({"msg": HOSTILE}))  # as transformers logs
        showing.remark(HOSTILE)
        showing.results(force_terminal=True, highlight=False).print(Text(HOSTILE, "bold"))
    showing.print_error(HOSTILE)
    shown = capsys.readouterr()
    assert "\\x1b[31mred" in shown.err
    assert _is_harmless(shown.err)
    begins, own, ends = shown.out.rpartition("\n\x1b[1m")
    assert own, "rich's own bold passes"
    assert _is_harmless(begins)
    assert _is_harmless(ends.removesuffix("\x1b[0m\n"))
    assert shown.out.count("\\x1b[31mred") == 2


def test_a_traceback_is_harmless_and_exits_with_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(HOSTILE)

    monkeypatch.setattr("enaction.zoo.names", fail)
    code, out, err = enaction(capsys, monkeypatch, "zoo", "list")
    assert (code, out) == (1, "")
    assert err.startswith("Traceback")
    assert "RuntimeError: a\\x1b[31mred" in err
    assert _is_harmless(err)


def test_hostile_names_of_files_and_options_are_harmless(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments in (["run", f"{HOSTILE}.yaml"], ["check", f"./{HOSTILE}"], ["run", f"--{HOSTILE}"], [HOSTILE]):
        code, _, err = enaction(capsys, monkeypatch, *arguments)
        assert code == 2
        assert _is_harmless(err)
        assert len(err.splitlines()) == 1


def test_hostile_authors_and_ids_are_harmless_in_the_table_of_score_and_in_errors(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    row = {"id": HOSTILE, "prompt_id": HOSTILE, "prompt": "why", "response": "the fox", "author": f"{HOSTILE} [/b]"}
    for rows, expected in (([row], 0), ([row, row], 2)):
        (tmp_path / "h.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in rows))
        monkeypatch.chdir(folder)
        given = ("score", tmp_path / "h.jsonl", "--model", "./a", "-o", tmp_path / "h.parquet")
        code, out, err = enaction(capsys, monkeypatch, *given)
        assert code == expected, err
        assert _is_harmless(out + err)
        assert "\\x1b[31mred" in err


def test_the_guarded_stream_is_the_stream_otherwise() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    guarded = showing._Guarded(stream)
    assert guarded.write("a\rb\r\n") == 5
    guarded.writelines(["\x1b", "c"])
    guarded.flush()
    assert (stream.buffer.getvalue(), guarded.encoding) == (b"a\nb\n\\x1bc", "utf-8")  # pyright: ignore[reportAttributeAccessIssue]


# Signals.

# `enaction zoo list` with a body of its own, which says when it can be stopped.
WAITING = """
import sys, time
from enaction import zoo
from enaction.cli import main
def names(**_):
    {body}
zoo.names = names
sys.argv = ["enaction", "zoo", "list"]
main()
"""
SLEEP = "print('now', flush=True); time.sleep(60)"
SWALLOW = """import time
print('now', flush=True)
end = time.time() + 60
while time.time() < end:
    try: time.sleep(1)
    except BaseException: pass
"""


def _start(command: list[str], **options: Any) -> subprocess.Popen[str]:
    def hear() -> None:  # in the background of a script, shells let processes ignore Ctrl-C
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    options = {"preexec_fn": hear} | options
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def _stop(process: subprocess.Popen[str], number: int) -> tuple[str, float]:
    """Send a signal when the process says that it can be stopped; standard error, and the seconds to its end."""
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    began = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == stopping.CODE
    return err, time.monotonic() - began


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_with_one_line(number: int) -> None:
    err, seconds = _stop(_start([sys.executable, "-c", WAITING.format(body=SLEEP)]), number)
    assert err == f"enaction: stopped; {stopping.NOTHING_KEPT}\n"
    assert seconds < stopping.PATIENCE


@pytest.mark.parametrize("is_importing", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_code_that_swallows_a_signal_is_ended_and_imports_at_once(is_importing: bool, tmp_path: Path) -> None:
    wait = "\n    ".join(SWALLOW.splitlines())
    (tmp_path / "slow_module.py").write_text(SWALLOW)
    script = WAITING.format(body="import slow_module" if is_importing else wait)
    process = _start([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(tmp_path)})
    err, seconds = _stop(process, signal.SIGINT)
    assert err == f"enaction: stopped; {stopping.NOTHING_KEPT}\n"
    assert (seconds < stopping.PATIENCE) is is_importing


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", [1.5, 3.0, 8.0])
def test_a_run_that_is_stopped_says_what_is_kept_and_resumes(number: int, seconds: float, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("name: s\nmodels: {a: 'zoo:ash-rl', b: 'zoo:birch-rl'}\n")
    command = [sys.executable, "-m", "enaction", "run", "s.yaml", "--workers", "2"]
    process = _start(command, cwd=tmp_path, start_new_session=True)
    time.sleep(seconds)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)  # Ctrl-C reaches the workers too
    _, err = process.communicate(timeout=60)
    assert process.returncode == stopping.CODE
    *remarks, line = err.splitlines()
    assert all(remark.startswith("device: ") for remark in remarks)
    assert "nothing was written" in line or line.endswith(
        "what is finished is kept in runs/s, and the same command resumes it"
    )
