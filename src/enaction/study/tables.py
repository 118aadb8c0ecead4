"""Measured tables of a run: one Parquet file each in `measured/`, with what they follow from.

A table whose recipe has changed is measured again as a whole.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from enaction.errors import StudyError
from enaction.files import write_atomically
from enaction.study.recipes import Recipe, agree

_NOTE = b"enaction.measured"
_AGAIN = "remove it, and `enaction run` with the same study and --out measures it again"


def path_of(folder: Path, name: str) -> Path:
    """The file of a table in a run folder."""
    return folder / "measured" / f"{name}.parquet"


def write_table(folder: Path, name: str, table: pa.Table, recipe: Recipe) -> None:
    """Store a table and what it follows from; this finishes it."""
    path = path_of(folder, name)
    path.parent.mkdir(exist_ok=True)
    note = {"table": name, "recipe": recipe, "rows": len(table), "columns": _columns(table)}
    noted = table.replace_schema_metadata({_NOTE: json.dumps(note).encode()})
    with write_atomically(path) as temporary:
        pq.write_table(noted, temporary, compression="zstd", write_page_checksum=True)


def has_table(folder: Path, name: str, recipe: Recipe) -> bool:
    """Whether a run has a table, whole and of this recipe."""
    path = path_of(folder, name)
    try:
        status = path.stat()
        note = _checked(path, name, status.st_size, status.st_mtime_ns)
    except (OSError, StudyError):
        return False
    return "recipe" in note and agree(note["recipe"], recipe)


def read_table(folder: Path, name: str) -> pa.Table:
    """A table of a run.

    Raises:
        StudyError: there is none, or the file is damaged or another table's.
    """
    path = path_of(folder, name)
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        columns, note = _columns(table), _note(table)
    except FileNotFoundError:
        raise StudyError(f"{path} is not there: `enaction run` with the same study and --out measures it") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StudyError(f"{path} is damaged ({' '.join(str(error).split())[:120]}): {_AGAIN}") from error
    is_whole = note.get("rows") == len(table) and note.get("columns", columns) == columns
    if note.get("table") != name or not is_whole:
        raise StudyError(f"{path} is another table's, or has changed since it was written: {_AGAIN}")
    return table


def _columns(table: pa.Table) -> list[str]:
    """Names and types of the columns, which no checksum of a page covers; Parquet has a name of its own for items."""
    return [f"{field.name}: {field.type}".replace("<item:", "<element:") for field in table.schema]


def _note(table: pa.Table) -> dict[str, Any]:
    """What a table says of itself; nothing if it is nobody's."""
    note = json.loads((table.schema.metadata or {}).get(_NOTE, b"null"))
    return note if isinstance(note, dict) else {}


@functools.lru_cache(maxsize=1024)
def _checked(path: Path, name: str, size: int, time: int) -> dict[str, Any]:
    """What a whole file says of itself, as it was at this size and time."""
    return _note(read_table(path.parent.parent, name))
