"""All commands as one application, and what becomes of their errors."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.main import get_command

import enaction
from enaction.cli import audit, check, completing, demo, doctor, report, run, sample, score, stopping, zoo
from enaction.cli.showing import guarded, print_error
from enaction.cli.talking import with_talking_options
from enaction.errors import UserError

# Every option of a command has a variable of the environment: `ENACTION_RUN_WORKERS` for `enaction run --workers`.
# What one wants of all commands has one for all of them too: `ENACTION_DEVICE`.
_PREFIX = "ENACTION"
_OF_ALL = ("--device", "--dtype", "--quiet", "--verbose")

app = typer.Typer(
    help="Does a language model recognise its own words, and what does it do about it?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = {
    "demo": demo,
    "run": run,
    "sample": sample,
    "score": score,
    "check": check,
    "audit": audit,
    "doctor": doctor,
    "report": report,
}
for name, module in COMMANDS.items():
    app.command(name)(with_talking_options(module.command))
app.add_typer(zoo.app, name="zoo")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"enaction {enaction.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options without a command."""


def application() -> Any:
    """The commands as typer builds them, with a variable of the environment for each option."""
    built = get_command(app)
    _name_variables(built, "")
    return built


def _name_variables(command: Any, path: str) -> None:
    """Name the variables of a command's options, and of the commands beneath it."""
    for name, inner in getattr(command, "commands", {}).items():
        _name_variables(inner, f"{path}{name} ")
    for option in command.params if path else ():
        if option.param_type_name == "option":
            names = variables(path, option.opts)
            option.envvar = names if len(names) > 1 else names[0]


def variables(path: str, names: Sequence[str]) -> list[str]:
    """The variables of the environment that set an option, the first that is set before the others.

    Args:
        path: of the command, as in `zoo list`.
        names: of the option, as in `--out` and `-o`.
    """
    name = next((name for name in names if name.startswith("--")), names[0])
    given = [f"{path} {name}", *([name] if name in _OF_ALL else [])]
    return ["_".join([_PREFIX, *re.findall("[a-z0-9]+", words.lower())]).upper() for words in given]


def carry_out() -> int:
    """Carry out what the command line asks for, with one line for each error of the user.

    Returns:
        The exit code.
    """
    completing.undo_splitting(os.environ)
    try:
        code = application()(prog_name="enaction", standalone_mode=False)
    except UserError as error:
        print_error(str(error))
        return 2
    except BrokenPipeError:  # whoever reads the output (`head`, say) has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if (usage := _usage(error)) is not None:
            return usage
        if stopping.is_asked():
            raise
        with guarded():
            traceback.print_exception(error)
        return 1
    return code if isinstance(code, int) else 0


# How typer names the variable that an option could have come from.
_VARIABLE = re.compile(rf" \(env var: '\[?'?({_PREFIX}\w+).*?\)(?=[:;]|$)")


def _if_set(found: re.Match[str]) -> str:
    return found[0] if found[1] in os.environ else ""


def _usage(error: Any) -> int | None:
    """Print what is wrong with the options, and give the exit code; None for an error of another kind.

    By its form, since typer has a copy of click's classes and versions of it differ.
    """
    if not hasattr(error, "format_message") or not hasattr(error, "exit_code"):
        return None
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
    else:
        command = context.command_path if context is not None else "enaction"
        message = _VARIABLE.sub(_if_set, " ".join(error.format_message().split())).rstrip(".")
        asks = message.endswith("?")
        print_error(f"{message[:1].lower()}{message[1:]}{' See' if asks else '; see'} `{command} --help`")
    return error.exit_code
