"""Commands of the pages can be given, and those of docs/tutorial.md print what the page shows, in their order."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from enaction.cli.commands import application

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tutorial.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# What is fenced, what it is, and for a file the name that the text before it gives.
FENCED = re.compile(r"(?:`([\w.]+)`[^`]*?)?^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e-\d+)?")


class Block(NamedTuple):
    """A fenced block: `sh` is run, `text` is what the block before it prints, anything else is the file `name`."""

    name: str
    kind: str
    text: str


def _blocks() -> list[Block]:
    blocks = [Block(*found) for found in FENCED.findall(PAGE.read_text(encoding="utf-8"))]
    return [block for block in blocks if block.kind]  # the commands of an installation name no kind


def _run(line: str, folder: Path) -> str:
    """What a command of the page prints: results (standard output) and summaries (standard error)."""
    program, *arguments = shlex.split(line)
    assert program in {"enaction", "python"}, line
    command = [sys.executable, *(["-m", "enaction"] if program == "enaction" else []), *arguments]
    environment = {**os.environ, "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}"
    return done.stdout


def _like(shown: str, printed: str) -> bool:
    """Whether two lines agree but for blanks, the sign of what is nearly 0, and the last digits of numbers."""

    def words(line: str) -> str:
        return re.sub(r"\s+", " ", NUMBER.sub("0", line)).replace("-0", "0").strip()

    def numbers(line: str) -> list[float]:
        return [float(number) for number in NUMBER.findall(line)]

    return words(shown) == words(printed) and numbers(printed) == pytest.approx(numbers(shown), rel=0.05, abs=0.05)


def _missing(shown: str, printed: str) -> list[str]:
    """Lines of a block that were not printed, in the order of the block; `...` stands for any lines."""
    rest, missing = printed.splitlines(), []
    for line in shown.splitlines():
        if line.strip() in {"", "..."}:
            continue
        at = next((i for i, other in enumerate(rest) if _like(line, other)), None)
        if at is None:
            missing.append(line)
        else:
            rest = rest[at + 1 :]
    return missing


def _fenced(page: Path) -> list[str]:
    """The lines of the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        line for block in re.findall(r"^```.*?^```$", text, re.DOTALL | re.MULTILINE) for line in block.splitlines()
    ]


def _parse(line: str) -> None:
    """Let the command line read the options of a command, and carry nothing out."""
    command, (_, *arguments) = application(), shlex.split(line, comments=True)
    name = "enaction"
    while hasattr(command, "commands") and not arguments[0].startswith("-"):
        name = arguments.pop(0)
        command = command.commands[name]
    if arguments != ["--version"]:
        command.make_context(name, arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_have_the_options_that_they_are_given(page: Path) -> None:
    for line in _fenced(page):
        if line.startswith("enaction "):
            _parse(line)


def test_a_command_with_an_option_that_does_not_exist_is_found() -> None:
    with pytest.raises(Exception, match="--colour"):
        _parse("enaction run a.yaml --colour  # red")
    with pytest.raises(KeyError, match="runs"):
        _parse("enaction runs a.yaml")


def test_the_targets_of_make_that_pages_name_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        name
        for page in PAGES
        for name in re.findall(r"(?:^|`)make ([a-z][\w-]*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert named >= {"demo", "test", "real"}
    assert named <= targets


def test_the_page_gives_each_file_a_name_and_each_output_a_command() -> None:
    blocks = _blocks()
    assert [block.name for block in blocks if block.kind not in {"sh", "text"}] == [
        "small.yaml",
        "stand_in.py",
        "mine.yaml",
        "look.py",
    ]
    assert all(before.kind == "sh" for before, after in pairwise(blocks) if after.kind == "text")
    assert {line.split()[1] for block in blocks if block.kind == "sh" for line in block.text.splitlines()} >= {
        *("check", "sample", "score", "run", "report")
    }


def test_an_output_that_is_no_longer_printed_is_found() -> None:
    assert _missing("...\na  0.25 [0.2]\n...\nb: -0.01\n", "x\na 0.252 [0.21]\ny\nb: 0.01\n") == []
    assert _missing("a 0.25\n", "a 0.45\n") == ["a 0.25"]
    assert _missing("a 1\nb 2\n", "b 2\na 1\n") == ["b 2"]


@pytest.mark.slow
def test_the_commands_of_the_page_print_what_it_shows(tmp_path: Path) -> None:
    printed = ""
    for block in _blocks():
        if block.kind == "sh":
            printed = "".join(_run(line, tmp_path) for line in block.text.splitlines())
        elif block.kind == "text":
            assert _missing(block.text, printed) == [], printed
        else:
            (tmp_path / block.name).write_text(block.text, encoding="utf-8")
