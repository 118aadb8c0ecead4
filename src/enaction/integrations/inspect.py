"""Logs of Inspect as passages: `.eval` files and their JSON, without the package `inspect_ai`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from enaction.passages import Passage
from enaction.passages.inspect_logs import rows_of_log
from enaction.passages.rows import passage_of


def read_eval(path: str | Path) -> Iterator[Passage]:
    """Every turn of the assistant in every sample of a log, in its order, one sample in memory at a time.

    `read_passages` reads the same file at once. What `id`, `author`, `sampling` and `marks` are:
    `enaction.passages.inspect_logs.rows_of_log`. Inspect says in `marks["source"]` who wrote a turn as far as it knows:
    `generate` a model, `input` the data set, `unknown` a solver, which is where words are put into a model's mouth.

    Args:
        path: of a `.eval` file, or of the JSON form (which is read whole).

    Raises:
        PassageError: as `rows_of_log`; or a turn holds something else than text.
    """
    for where, row in rows_of_log(Path(path)):
        yield passage_of(row, where)
