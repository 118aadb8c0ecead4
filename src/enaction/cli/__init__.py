"""The command line: one file per command, no logic of its own.

Commands import their libraries when they run, so that `--help` and a misspelt option answer at once.

User errors are caught here, printed on one line, and exit with code 2; anything else is a bug and shows its traceback.
Ctrl-C exits with 130 and says what is kept. This file imports nothing that takes time before it listens to signals.
"""

from __future__ import annotations

import sys

from enaction.cli import stopping
from enaction.lazy import lazily

__all__ = ["app", "main"]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__ = lazily(__name__, {"app": "commands"})


def main() -> None:
    """Entry point of the `enaction` script."""
    with stopping.listening():
        code = _exit_code()
    sys.exit(code)


def _exit_code() -> int:
    try:
        from enaction.cli.commands import carry_out

        code = carry_out()
    except KeyboardInterrupt:
        code = stopping.CODE
    except BaseException:
        if not stopping.is_asked():
            raise
        code = stopping.CODE  # a library has turned the interruption into an error of its own
    if code == stopping.CODE:
        stopping.say()
    return code
