"""The command line: one file per command, no logic of its own.

Commands import their libraries when they run, so that `--help` and a misspelt option answer at once.

User errors are caught here, printed on one line, and exit with code 2; anything else is a bug and shows its traceback.
Ctrl-C exits with 130 and keeps the finished parts in the run folder.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

import enaction
from enaction.cli import check, demo, report, run, sample, score, zoo
from enaction.cli.showing import printable
from enaction.errors import UserError

app = typer.Typer(
    help="Does a language model recognise its own words, and what does it do about it?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = {"demo": demo, "run": run, "sample": sample, "score": score, "check": check, "report": report}
for name, module in COMMANDS.items():
    app.command(name)(module.command)
app.add_typer(zoo.app, name="zoo")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"enaction {enaction.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options without a command."""


_INTERRUPTED = 130


def main() -> None:
    """Entry point of the `enaction` script."""
    try:
        app(prog_name="enaction")
    except UserError as error:
        Console(stderr=True, soft_wrap=True).print(f"enaction: {printable(str(error))}", markup=False, highlight=False)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer turns Ctrl-C into an exit with this code and says nothing.
        if isinstance(end, SystemExit) and end.code != _INTERRUPTED:
            raise
        Console(stderr=True).print("enaction: stopped; the same command resumes from here")
        sys.exit(_INTERRUPTED)
