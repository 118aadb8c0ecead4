"""What has to answer at once leaves torch and transformers, which take seconds, unimported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers")
LIGHT = (
    "enaction.words",
    "enaction.errors",
    "enaction.files",
    "enaction.findings",
    "enaction.passages",
    "enaction.world.answering",
    "enaction.world.chats",
    "enaction.world.lexicon",
    "enaction.world.passages",
    "enaction.world.stories",
    "enaction.stats",
    "enaction.framing",
    "enaction.zoo",
    "enaction.reader",
    "enaction.reader.sources",
    "enaction.endpoint",
    "enaction.endpoint.reader",
    "enaction.endpoint.writing",
    "enaction.tokens",
    "enaction.study.planning",
    "enaction.experiments",
    "enaction.report",
    "enaction.running",
    "enaction.cli",
)


def _run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python code that prints, last of all, which of the heavy packages it imported."""
    report = f"import sys\n{code}\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", report, *arguments], capture_output=True, text=True, check=False)


def test_light_rooms_import_neither_torch_nor_transformers() -> None:
    """One process imports room after room, so that a failure names the first that is heavy."""
    code = "\n".join(
        f"import {room}\nassert not {{*sys.modules}} & {{*{HEAVY!r}}}, '{room} is heavy'" for room in LIGHT
    )
    process = _run(code)
    assert process.returncode == 0, process.stderr
    assert process.stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check", "zoo:oak-rl"), "the zoo has no model 'oak-rl'"),
        (("check", "./nowhere"), "there is no model folder ./nowhere"),
        (("check", "none.gguf"), "there is no file none.gguf"),
        (("check", "zoo:ash-rl", "--base", "x"), "zoo:ash-rl does not ship as an adapter"),
        (("check", "zoo:ash-rl", "--device", "gpu"), "there is no device 'gpu': use auto, cpu, cuda, cuda:1 or mps"),
        (("check", "zoo:ash-rl", "--dtype", "int4"), "--dtype int4: use one of float32, bfloat16"),
        (("sample", "--model", "zoo:oak-rl", "--prompts", "zoo"), "the zoo has no model 'oak-rl'"),
        (("sample", "--model", "zoo:ash-rl", "--prompts", "none.jsonl"), "there is no file none.jsonl"),
        (("score", "none.jsonl", "--model", "zoo:ash-rl", "-o", "t.parquet"), "there is no file none.jsonl"),
        (("run", "none.yaml"), "no such study file"),
        (("run", "list.yaml"), "a study is a mapping"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_name_is_reported_before_torch_is_imported(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.yaml").write_text("[]")
    process = _run(
        "from enaction.cli import main\ntry:\n    main()\nexcept SystemExit as end:\n    assert end.code == 2",
        *arguments,
    )
    assert process.returncode == 0, process.stderr
    assert message in process.stderr
    assert process.stdout == "[]\n"
