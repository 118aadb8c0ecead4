"""The rows of a file one by one, in memory that does not grow with the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from enaction.errors import PassageError
from enaction.passages.inspect_logs import is_inspect_log
from enaction.passages.tables import STDIO, Row, first_line, in_unicode, loaded, placed, rows_of, shown

# Rows of Parquet that are Python objects at a time: rows of thousands of tokens are large.
_BATCH = 64
_CHUNK = 1 << 20
_TORCH = "python -c \"import json, torch; [print(json.dumps(row)) for row in torch.load('{path}')['samples']]\""
_ARRAYS = {".json", ".jsonl", ".ndjson", ""}


def streamed(path: str | Path) -> Iterator[Row]:
    """The rows of a file of any kind that `passages.tables` reads, each with its place.

    JSON lines, JSON arrays and Parquet (by row groups) are never held whole; `-` is JSON on standard input.

    Raises:
        PassageError: there is no such file, it is of another kind, or it is damaged.
    """
    file = Path(path)
    if str(path) != STDIO and file.is_file():
        if file.suffix.lower() in {".pt", ".pth"}:  # slime keeps rollouts so
            command = _TORCH.replace("{path}", str(file))
            raise PassageError(f"{file}: files of torch are not read; convert it: {command} > {file.stem}.jsonl")
        if is_inspect_log(file):
            raise PassageError(f"{file} is a log of Inspect, which holds no token ids; `enaction score` reads it")
        if file.suffix.lower() == ".parquet":
            return placed(_parquet(file))
        if file.suffix.lower() in _ARRAYS and _is_array(file):
            return _array(file)
    return rows_of(path, lines_of_text=False)


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for batch in file.iter_batches(batch_size=_BATCH, use_threads=False):
                yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as err:
        raise PassageError(f"{path} is not a readable Parquet file ({first_line(err)}); write it again") from err


def _is_array(path: Path) -> bool:
    """Whether a file begins with a bracket; what cannot be read is told by who reads it."""
    try:
        with path.open(encoding="utf-8-sig") as handle:
            while begin := handle.read(4096):
                if begin.strip():
                    return begin.lstrip().startswith("[")
    except (OSError, UnicodeDecodeError):
        pass
    return False


def _array(path: Path) -> Iterator[Row]:
    """The objects of a JSON array, each decoded as soon as it is read whole."""
    remedy = "write a JSON array of objects, or one object a line"
    decoder = json.JSONDecoder()
    number, text, at = 0, "", 0
    try:
        with path.open(encoding="utf-8-sig") as handle:

            def more() -> bool:
                """Read on, and forget what is done; false at the end."""
                nonlocal text, at
                read = handle.read(max(_CHUNK, len(text) - at))  # doubled, so that a long row takes linear time
                text, at = text[at:] + read, 0
                return bool(read)

            def following() -> str:
                """The next character that is no space; empty at the end."""
                nonlocal at
                while True:
                    while at < len(text) and text[at] in " \t\r\n":
                        at += 1
                    if at < len(text) or not more():
                        return text[at : at + 1]

            following()
            at += 1  # the bracket
            while (begin := following()) != "]":
                if number and begin == ",":
                    at += 1
                    begin = following()
                elif number:
                    raise PassageError(f"row {number + 1} of {path} is not valid JSON; {remedy}")
                number += 1
                where = f"row {number}"
                if begin and begin != "{":
                    raise PassageError(f"{where} of {path} is no object; {remedy}")
                while True:
                    try:
                        record, stop = decoder.raw_decode(text, at)
                        break
                    except (ValueError, RecursionError):
                        if not more():
                            loaded(text[at:], f"{where} of {path}", remedy)
                            raise
                yield where, in_unicode(record, where, text[at:stop])
                at = stop
    except UnicodeDecodeError as err:
        raise PassageError(f"{shown(path)} is not UTF-8 text ({err.reason}); save it as UTF-8") from err
    except OSError as err:
        raise PassageError(f"cannot read {path} ({err.strerror}); give a file") from err
