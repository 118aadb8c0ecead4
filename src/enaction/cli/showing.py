"""What commands share in what they print: results on standard output, all else on standard error.

Everything that is printed passes `harmless`: what a terminal would obey (escapes, marks of direction) appears as its
code, whether it comes from a name, an error, a warning of a library or a traceback. Consoles of rich, which colour and
move by escapes of their own, write past the guarded streams and make the text harmless themselves.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any, cast

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.text import Text

from enaction.words import printable as printable

if TYPE_CHECKING:
    from enaction.page import Page

# C0 without tab and line break, DEL and C1, marks of direction, separators of lines, and halves of characters.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufff9-\ufffb]"
)
# Whether remarks are left out, and the bar on the screen, above which they are printed.
_is_quiet = False
_bar: Progress | None = None


def harmless(text: str) -> str:
    """Text without what a terminal would obey, but for tabs and line breaks: as its codes, `\\x1b` for ESC."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def literal(text: str) -> Text:
    """Text for a table of rich, of which nothing is taken for its markup."""
    return Text(printable(text))


class _Guarded:
    """A stream of text that makes harmless what is written to it, and is the stream otherwise."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(harmless(text.replace("\r\n", "\n").replace("\r", "\n")))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def guarded() -> Iterator[None]:
    """Make harmless what anybody prints while the block runs: libraries, warnings, tracebacks."""
    with redirect_stdout(cast("Any", _Guarded(sys.stdout))), redirect_stderr(cast("Any", _Guarded(sys.stderr))):
        yield


class _HarmlessConsole(Console):
    """A console whose own escapes pass and whose text is harmless."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=harmless(segment.text))


def results(**options: Any) -> Console:
    """The console of results: standard output."""
    return _HarmlessConsole(file=_beneath(sys.stdout), **options)


def messages(**options: Any) -> Console:
    """The console of all else: standard error."""
    return _HarmlessConsole(file=_beneath(sys.stderr), **options)


def _beneath(stream: Any) -> Any:
    return stream.stream if isinstance(stream, _Guarded) else stream


@contextmanager
def quietly(is_quiet: bool) -> Iterator[None]:
    """Print no bars and no remarks while the block runs, if so asked."""
    global _is_quiet
    before, _is_quiet = _is_quiet, is_quiet
    try:
        yield
    finally:
        _is_quiet = before


def remark(text: str | Text, style: str = "") -> None:
    """A line on standard error that nobody needs who knows; nothing under `--quiet`."""
    if not _is_quiet:
        console = messages() if _bar is None else _bar.console
        console.print(literal(text) if isinstance(text, str) else text, style=style, soft_wrap=True, highlight=False)


def print_error(text: str) -> None:
    """The one line of an error."""
    messages(soft_wrap=True).print(f"enaction: {printable(text)}", markup=False, highlight=False)


def print_json(value: Any) -> None:
    """A result for programs on standard output: JSON in ASCII, `null` for what JSON has no number for."""
    typer.echo(json.dumps(finite(value), indent=1, allow_nan=False))


def finite(value: Any) -> Any:
    """Plain data without infinities and NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_page(page: Page) -> None:
    """The answer, the faults and the notes, then the tables."""
    from enaction.report.terminal import WIDTH, tables

    console = results(highlight=False, soft_wrap=False)
    if not console.is_terminal:  # a file or a pipe has room
        console.width = max(WIDTH, console.width)
    for statement in page.statements:
        style = "bold" if statement.headline else "red" if statement.verdict == "alarm" else "dim"
        console.print(
            f"{'' if statement.headline else '- '}{statement.sentence}", markup=False, style=style, soft_wrap=True
        )
    console.print()
    for section in page.sections:
        for grid in section.grids:
            for table in tables(grid, max(WIDTH, console.width), compact=True):
                console.print(table)
                console.print()


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar with counts, elapsed time and an ETA; nothing where nobody watches (a log, `--quiet`)."""
    global _bar
    console = messages()
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<28}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        console=console,
        disable=_is_quiet or not console.is_terminal,
        redirect_stdout=False,
    )
    before, _bar = _bar, bar
    try:
        with bar:
            yield bar
    finally:
        _bar = before


_PHASES = {"sampling": "sampling passages", "reading": "reading", "analysing": "analysing"}


@contextmanager
def phases() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each phase of a run that has work to do; gives what `enaction.run` takes as `progress`."""
    with progress_bar() as bar:
        tasks: dict[str, TaskID] = {}

        def progress(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                for task in tasks.values():  # a text can come out with fewer passages than planned
                    bar.update(task, completed=bar.tasks[task].total)
                tasks[phase] = bar.add_task(_PHASES[phase], total=total)
            bar.update(tasks[phase], completed=done, total=total)

        yield progress


@contextmanager
def counting(description: str, total: int) -> Iterator[Progress]:
    """A bar for one task of `total` passages; advance it with `update`."""
    with progress_bar() as bar:
        bar.add_task(printable(description), total=total)
        yield bar
