"""What commands share: progress bars on stderr, so that stdout stays clean for results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
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
from rich.text import Text


def progress_bar() -> Progress:
    """A bar with counts, elapsed time and an ETA."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<28}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def printable(text: str) -> str:
    """Text without what a terminal would obey: escapes, line breaks and marks of direction as their codes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def literal(text: str) -> Text:
    """Text for a table of rich, of which nothing is taken for its markup."""
    return Text(printable(text))


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
