"""Write docs/command-line.md, the reference of every command and option, from the commands themselves.

python studies/command_line.py            # writes the page
python studies/command_line.py --check    # exit code 1 if the page is not what would be written
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from typer.models import ArgumentInfo, OptionInfo

from enaction.cli import zoo
from enaction.cli.commands import COMMANDS, variables
from enaction.cli.talking import with_talking_options

PAGE = Path(__file__).parents[1] / "docs" / "command-line.md"

_OPENING = """# The command line: every command, option and variable

This page is generated from the code by `python studies/command_line.py`; a test says when it is out of date.

## What all commands share

- **Results** go to standard output; bars, remarks, warnings and errors go to standard error. Bars appear in
  terminals only. Control characters and marks of direction in names and messages appear as codes, such as `\\x1b`.
- **How much is said**: `-q` leaves out bars, remarks and warnings, never results and errors. `-v` logs what is done,
  and `-vv` in detail. In Python, the logger is `enaction`, and nothing is printed unless a handler asks for it.
- **Errors** of the user are one line that begins with `enaction:` and names the remedy; the exit code is 2. With
  `--json` too, errors are this line on standard error, and standard output is empty.
- **Exit codes**: 0 is success, 1 a failed test of `check` or what `--fail-on` names (or a bug, with its traceback),
  2 a mistake in what was given, 130 an interruption.
- **Ctrl-C**, SIGTERM and the end of a terminal stop a command within seconds. The last line says what is kept and
  how to resume. Files appear whole or not at all.
- **`--json`** prints one JSON value on standard output. `run`, `demo` and `report` give `study`, `answer`,
  `numbers`, `cautions`, `claims`, `files` (every path that was written) and `findings`, each with its `definition`;
  `check` gives facts and tests; `sample` and `score` give a summary with `cautions` and `files`. Numbers that JSON
  does not have (infinity, NaN) are `null`.
- **Variables**: every option can be set by a variable of the environment, named in the tables:
  `ENACTION_RUN_WORKERS=2` is `enaction run --workers 2`. `ENACTION_DEVICE`, `ENACTION_DTYPE`, `ENACTION_QUIET` and
  `ENACTION_VERBOSE` hold for all commands. An option on the command line wins.
- **Completion** of commands, options and names of embedded models in bash, zsh and fish:
  `enaction --install-completion`, once.
"""


def page() -> str:
    """The page as Markdown."""
    commands = {name: with_talking_options(module.command) for name, module in COMMANDS.items()}
    commands |= {f"zoo {info.name}": info.callback for info in zoo.app.registered_commands if info.callback}
    return "\n".join([_OPENING, *(_section(path, command) for path, command in commands.items())])


def _section(path: str, command: Callable[..., Any]) -> str:
    # The example is on a line of its own in the help, and a paragraph here.
    text = re.sub(r"\s*\bExample:", "\n\nExample:", inspect.cleandoc(command.__doc__ or ""))
    given = {
        name: (parameter, *get_args(parameter.annotation))
        for name, parameter in inspect.signature(command, eval_str=True).parameters.items()
    }
    arguments = [name.upper() for name, (_, _, info) in given.items() if isinstance(info, ArgumentInfo)]
    head = ["| option | value | default | variable | meaning |", "|---|---|---|---|---|"]
    rows = [_row(path, name, *parts) for name, parts in given.items()]
    usage = " ".join(["enaction", path, *arguments, "[OPTIONS]"])
    return "\n".join([f"## enaction {path}", "", text, "", f"`{usage}`", "", *head, *rows, ""])


def _row(path: str, name: str, parameter: inspect.Parameter, kind: Any, info: ArgumentInfo | OptionInfo) -> str:
    is_argument = isinstance(info, ArgumentInfo)
    names = [name.upper()] if is_argument else _names(name, info)
    default, is_flag = parameter.default, kind is bool or getattr(info, "count", False)
    shown = "required" if default is inspect.Parameter.empty else "" if is_flag or default is None else f"`{default}`"
    cells = [
        ", ".join(f"`{name}`" for name in names),
        _kind(kind, info),
        shown,
        "" if is_argument else ", ".join(f"`{variable}`" for variable in variables(path, names)),
        (info.help or "").replace("|", "\\|"),
    ]
    return f"| {' | '.join(cells)} |"


def _names(name: str, info: Any) -> list[str]:
    """The names of an option: typer keeps the first in place of the default."""
    given = [*([info.default] if isinstance(info.default, str) else []), *(info.param_decls or ())]
    return given or [f"--{name.replace('_', '-')}"]


def _kind(annotation: Any, info: ArgumentInfo | OptionInfo) -> str:
    if annotation is bool or getattr(info, "count", False):
        return "flag" if annotation is bool else "flag, may be repeated"
    parts = [part for part in get_args(annotation) if part is not type(None)]
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if get_origin(annotation) is list:
        return f"{_kind(parts[0], info)}, may be repeated"
    if parts:  # or null
        return _kind(parts[0], info)
    least = f", at least {info.min}" if info.min is not None else ""
    return {str: "text", int: "whole number", float: "number", Path: "path"}[annotation] + least


def main() -> None:
    """Write the page, or say whether it is current."""
    if "--check" in sys.argv[1:]:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == page() else f"{PAGE} is out of date: {__doc__}")
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
