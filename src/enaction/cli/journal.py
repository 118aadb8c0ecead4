"""Rows of work whose length is not known before: kept in parts beside the file that is asked for until that is whole.

As in `resuming`, a folder `FILE.partial` holds the parts and what they were made with; each part also holds the state
from which the next one goes on.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from enaction.cli import resuming, stopping
from enaction.errors import UserError
from enaction.files import write_atomically

# A part is written after so many seconds or rows.
_SECONDS = 20.0
_ROWS = 5_000
_STATE = b"enaction audit"


class Journal:
    """Rows that are kept as they come; in memory alone where no file is asked for, which keeps none.

    Attributes:
        state: of the last part that an earlier command kept, None if it kept nothing.
    """

    def __init__(self, out: Path | None, schema: pa.Schema, settings: dict[str, Any]) -> None:
        """Look for what an earlier command kept.

        Raises:
            UserError: the folder of parts belongs to another command.
        """
        self._out, self._schema, self._settings = out, schema, settings
        self._held: list[dict[str, Any]] = []
        self._parts: list[Path] = []
        self._n_kept = 0
        self._since = time.monotonic()
        self.state: dict[str, Any] | None = None
        if out is not None and resuming.folder_of(out).exists():
            resuming.claim(resuming.folder_of(out), settings)
            self._find()

    def _find(self) -> None:
        """Parts in order, up to the first that is missing or damaged."""
        assert self._out is not None
        while (path := self._path(len(self._parts))).exists():
            try:
                notes = pq.read_schema(path).metadata or {}
                state = json.loads(notes[_STATE])
                self._n_kept += pq.read_metadata(path).num_rows
            except (pa.ArrowInvalid, OSError, KeyError, ValueError):
                break
            self._parts.append(path)
            self.state = state
        self._explain()

    def _path(self, number: int) -> Path:
        assert self._out is not None
        return resuming.folder_of(self._out) / f"{number:05}.parquet"

    def _explain(self) -> None:
        if self._parts:
            stopping.explain(self.kept)

    @property
    def kept(self) -> str:
        """What is kept and how to go on."""
        if self._out is None or not self._parts:
            return stopping.NOTHING_KEPT
        return f"{self._n_kept} turns are kept in {resuming.folder_of(self._out)}; the same command resumes"

    def add(self, row: dict[str, Any], state: Callable[[], dict[str, Any]]) -> None:
        """Keep a row.

        Args:
            row: by the schema.
            state: from which the next row goes on.
        """
        if self._out is None:
            return
        self._held.append(row)
        if len(self._held) >= _ROWS or time.monotonic() - self._since > _SECONDS:
            self.flush(state())

    def flush(self, state: dict[str, Any]) -> None:
        """Write what is held as a part."""
        if self._out is None or not self._held:
            return
        resuming.claim(resuming.folder_of(self._out), self._settings)
        path = self._path(len(self._parts))
        notes = {_STATE: json.dumps(state).encode()}
        with write_atomically(path) as temporary:
            table = pa.Table.from_pylist(self._held, schema=self._schema)
            pq.write_table(table.replace_schema_metadata(notes), temporary)
        self._parts.append(path)
        self._n_kept += len(self._held)
        self._held, self._since = [], time.monotonic()
        self._explain()

    def rows(self) -> Iterator[dict[str, Any]]:
        """All rows, those of earlier commands first."""
        for path in self._parts:
            for batch in pq.ParquetFile(path).iter_batches(batch_size=4096, use_threads=False):
                yield from batch.to_pylist()
        yield from self._held

    def finish(self, write: Callable[[Path, Iterator[dict[str, Any]]], None]) -> None:
        """Write the whole file and remove the parts.

        Raises:
            UserError: it cannot be written; the parts are kept.
        """
        if self._out is None:
            return
        try:
            write(self._out, self.rows())
        except UserError as error:
            raise type(error)(f"{error} ({self.kept})") from error
        shutil.rmtree(resuming.folder_of(self._out), ignore_errors=True)
