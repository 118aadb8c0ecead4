"""What commands share: progress bars on stderr, so that stdout stays clean for results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def progress_bar() -> Progress:
    """A bar with counts, elapsed time and an ETA."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


@contextmanager
def counting(description: str, total: int) -> Iterator[Progress]:
    """A bar for one task of `total` passages; advance it with `update`."""
    with progress_bar() as bar:
        bar.add_task(description, total=total)
        yield bar
