"""Files of passages and prompts: read whatever kind they are, written as JSON lines or Parquet."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from enaction.errors import PassageError
from enaction.files import write_atomically
from enaction.passages.data_sets import is_hub_id
from enaction.passages.inspect_logs import is_inspect_log, rows_of_log
from enaction.passages.rows import passage_of, prompt_of
from enaction.passages.shapes import QUESTIONS, RESPONSES, passage_rows, prompt_row
from enaction.passages.tables import STDIO, Row, first_line, is_table, loaded, rows_of, shown
from enaction.passages.types import SAMPLING_KEYS, Passage, Prompt, extras_of


def read_passages(
    path: str | Path,
    *,
    author: str | None = None,
    prompt_column: str | None = None,
    response_column: str | None = None,
    split: str | None = None,
    limit: int | None = None,
) -> list[Passage]:
    """Read passages from a file or data set of any kind that `tables` reads; `-` is JSON on standard input.

    A row is `{"id", "prompt": [{"role", "content"}], "response", "author"}` and may carry `prompt_id`, `sampling`,
    `token_ids` with `tokenizer`, `logprobs`, `ended` and `marks`. A prompt that is a plain string is one user message;
    a missing `prompt_id` is a hash of the prompt. A content may be a list of parts of type text, which are joined;
    other keys of a message are kept. The response may be empty only where `token_ids` or `ended` are given (a model
    that ended at once wrote one token, the end-of-turn token).

    Rows of other programs are read by the names of their columns, see `shapes`: a whole conversation gives a passage
    for each turn of the assistant, with the id `ID/0`, `ID/1` and so on. Plain text is one passage without a prompt.
    Where no row has an `id`, its number is its id, and where none has an `author`, all have the one given here.

    Args:
        path: of the file, of the folder of a data set, or its id on the hub (`ORG/NAME`, `ORG/NAME:CONFIG`).
        author: of rows that name none; the name of the file without its ending by default.
        prompt_column, response_column: where the texts are, if not under a name that is known.
        split: of a data set; may be left out where there is one.
        limit: the first that many passages alone; what comes after them is not read.

    Raises:
        PassageError: the file is missing, empty or of no kind that is read; or a row is not such an object (with its
            place and what to do about it).
    """
    passages: list[Passage] = []
    places: dict[tuple[str, str], str] = {}
    for where, passage in _placed_passages(path, author, prompt_column, response_column, split, limit):
        name = (passage.author, passage.id)
        if name in places:
            raise PassageError(
                f"{where}: author '{passage.author}' already has a passage with id '{passage.id}' in "
                f"{places[name]}; give each passage of an author an id of its own"
            )
        places[name] = where
        passages.append(passage)
    return passages


def each_passage(
    path: str | Path,
    *,
    author: str | None = None,
    prompt_column: str | None = None,
    response_column: str | None = None,
    split: str | None = None,
    limit: int | None = None,
) -> Iterator[Passage]:
    """The passages of a file one by one, as `read_passages` reads them, in memory that does not grow with the file.

    Whether two have one id is not looked at. JSON arrays and plain text are held whole; JSON lines, Parquet, CSV and
    logs of Inspect are not.

    Args:
        path, author, prompt_column, response_column, split, limit: as of `read_passages`.

    Raises:
        PassageError: as `read_passages`, when the row is reached.
    """
    for _, passage in _placed_passages(path, author, prompt_column, response_column, split, limit):
        yield passage


def _placed_passages(
    path: str | Path,
    author: str | None,
    prompt_column: str | None,
    response_column: str | None,
    split: str | None,
    limit: int | None,
) -> Iterator[tuple[str, Passage]]:
    """Passages with the places of their rows."""
    named = author or _default_author(path)
    given: dict[str, bool] = {}
    count = 0
    rows = _rows(path, lines_of_text=False, split=split, is_limited=limit is not None)
    for number, (where, row) in enumerate(rows, start=1):
        row = _plain_record(row, where, {prompt_column, response_column}) if is_table(path) else row
        _require_like(row, given, where)
        completed = {"id": str(number), "author": named} | row
        for record in passage_rows(completed, where, prompt_column, response_column):
            yield where, passage_of(record, where)
            count += 1
            if count == limit:
                return
    if not count and Path(path).suffix.lower() != ".parquet":  # a text of a run can come out empty
        raise PassageError(f"{shown(path)} holds no passages; write one JSON object a line")


def _rows(path: str | Path, *, lines_of_text: bool, split: str | None, is_limited: bool) -> Iterator[Row]:
    """The rows of a file of any kind; those of a log of Inspect are its turns."""
    if str(path) != STDIO and split is None and is_inspect_log(Path(path)):
        return rows_of_log(Path(path))
    return rows_of(path, lines_of_text=lines_of_text, split=split, is_limited=is_limited)


def _default_author(path: str | Path) -> str:
    """The name of a file, folder or data set, without ending, configuration and revision."""
    if str(path) == STDIO:
        return "stdin"
    return re.split("[:@]", Path(path).name)[0] if is_hub_id(str(path)) else Path(path).resolve().stem


def _require_like(row: dict[str, Any], given: dict[str, bool], where: str) -> None:
    """Fail where some rows have an id or an author and others not: a default would mix with what was given."""
    for key in ("id", "author"):
        if given.setdefault(key, key in row) != (key in row):
            other = "earlier rows have one" if given[key] else "earlier rows have none"
            raise PassageError(
                f"{where}: '{key}' {'missing' if given[key] else 'given'}, and {other}; give one to all or to none"
            )


def read_prompts(
    path: str | Path, *, column: str | None = None, split: str | None = None, limit: int | None = None
) -> list[Prompt]:
    """Read prompts from a file or data set of any kind that `tables` reads; `-` is JSON on standard input.

    A row is `{"id", "prompt": [{"role", "content"}]}`; a plain string is one user message, and a missing id is a hash
    of the prompt. Rows of other programs are read by the names of their columns, see `shapes`; a whole conversation
    gives what comes before its last reply. A line of plain text is a prompt. A passage file is a prompt file too:
    passages of one prompt (the same `prompt_id` and the same messages) give it once.

    Args:
        path: of the file, of the folder of a data set, or its id on the hub (`ORG/NAME`, `ORG/NAME:CONFIG`).
        column: where the prompt is, if not under a name that is known.
        split: of a data set; may be left out where there is one.
        limit: the first that many prompts alone; what comes after them is not read.

    Raises:
        PassageError: as `read_passages`; also an empty prompt, one that ends with the assistant, or one id for two
            different prompts.
    """
    prompts: dict[str, Prompt] = {}
    for where, row in _rows(path, lines_of_text=True, split=split, is_limited=limit is not None):
        record = prompt_row(_plain_record(row, where, {column}) if is_table(path) else row, where, column)
        prompt = prompt_of(record, where)
        if prompts.setdefault(prompt.id, prompt) != prompt:
            raise PassageError(f"{where}: id '{prompt.id}' already names another prompt; ids must be unique")
        if len(prompts) == limit:
            break
    if not prompts:
        raise PassageError(f"{shown(path)} holds no prompts; write one JSON object a line")
    return list(prompts.values())


def write_passages(passages: Iterable[Passage], path: str | Path, notes: Mapping[bytes, bytes] | None = None) -> None:
    """Write passages as JSON lines, or as Parquet where the name ends in `.parquet`; `-` writes JSON lines to stdout.

    Files appear whole or not at all, in UTF-8 whatever the locale. What is written is read back equal by
    `read_passages`.

    Args:
        passages: to be written.
        path: of the file.
        notes: metadata of a Parquet file, by key.

    Raises:
        PassageError: there is no place for the file, or a text is no Unicode.
    """
    passages = list(passages)
    try:
        if str(path) == STDIO:
            _write_out("".join(map(_line, passages)).encode())
            return
        path = Path(path)
        with write_atomically(path) as temporary:
            if path.suffix == ".parquet":
                table = _table(passages).replace_schema_metadata(dict(notes) if notes else None)
                pq.write_table(table, temporary, write_page_checksum=True)
            else:
                temporary.write_bytes("".join(map(_line, passages)).encode())
    except UnicodeEncodeError as err:
        raise PassageError(
            f"a text for {_written(path)} holds half of a character (a lone surrogate): write it whole, or as \\ufffd"
        ) from err
    except BrokenPipeError:
        raise
    except OSError as err:
        raise PassageError(f"cannot write {_written(path)} ({err.strerror}): give another place") from err


def _written(path: str | Path) -> str:
    """The path of an output as messages name it."""
    return "standard output" if str(path) == STDIO else str(path)


def _write_out(data: bytes) -> None:
    """UTF-8 on standard output, which may be a text stream without bytes behind it (in a notebook)."""
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None:
        sys.stdout.write(data.decode())
    else:
        sys.stdout.flush()
        binary.write(data)
    sys.stdout.flush()


# `sampling`, `marks` and what messages have besides role and content are free-form, so Parquet keeps them as JSON
# strings; float64 brings log-probabilities back equal.
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("prompt_id", pa.string()),
        ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("response", pa.string()),
        ("author", pa.string()),
        ("sampling", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("logprobs", pa.list_(pa.float64())),
        ("tokenizer", pa.string()),
        ("ended", pa.bool_()),
        ("marks", pa.string()),
        ("prompt_extras", pa.string()),
    ]
)
_NEEDED = ("id", "prompt", "response", "author")


def _table(passages: list[Passage]) -> pa.Table:
    rows = [
        asdict(p)
        | {"prompt": list(p.prompt), "sampling": json.dumps(p.sampling), "marks": json.dumps(p.marks)}
        | {"prompt_extras": json.dumps(extras) if any(extras := [extras_of(m) for m in p.prompt]) else None}
        for p in passages
    ]
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def _plain_record(row: dict[str, Any], where: str, named: set[str | None]) -> dict[str, Any]:
    """A row with its JSON columns read, nulls only where a text is due; marks of version 0.1 leave `sampling`."""
    due = {*_NEEDED, *QUESTIONS, *RESPONSES, *named}
    record = {key: value for key, value in row.items() if value is not None or key in due}
    for key in ("sampling", "marks", "prompt_extras"):
        if isinstance(text := record.get(key), str):
            record[key] = loaded(text, f"{where}: '{key}'")
    if record.get("token_ids") is None:
        # A text that an experiment made of another one has no ids of its own; what was said of the other's is void.
        record.pop("logprobs", None)
    extras, prompt = record.pop("prompt_extras", None), record.get("prompt")
    if isinstance(extras, list) and isinstance(prompt, list) and len(extras) == len(prompt):
        record["prompt"] = [message | extra for message, extra in zip(prompt, extras, strict=True)]
    sampling = record.get("sampling")
    if "marks" not in row and isinstance(sampling, dict):
        record["marks"] = {key: value for key, value in sampling.items() if key not in SAMPLING_KEYS}
        record["sampling"] = {key: value for key, value in sampling.items() if key in SAMPLING_KEYS}
    return record


def first_sampling(path: Path) -> dict[str, Any]:
    """`sampling` of the first passage of a Parquet file of passages, without reading the rest; empty if it has none.

    Raises:
        PassageError: there is no such file, or it is damaged.
    """
    if not path.is_file():
        raise PassageError(f"there is no file {path}; check the path")
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        column = file.read(columns=["sampling"], use_threads=False)["sampling"]
        return (json.loads(column[0].as_py()) if len(column) else None) or {}
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as err:
        raise PassageError(f"{path} is not a readable Parquet file ({first_line(err)}); write it again") from err


def _line(passage: Passage) -> str:
    record = {k: v for k, v in asdict(passage).items() if v is not None and (k != "marks" or v)}
    return json.dumps(record, ensure_ascii=False) + "\n"
