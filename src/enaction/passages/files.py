"""Files of passages and prompts: JSON lines, and Parquet for passages."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from enaction.errors import PassageError
from enaction.files import write_atomically
from enaction.passages.rows import kind, passage_of, prompt_of
from enaction.passages.types import SAMPLING_KEYS, Passage, Prompt, extras_of

STDIO = "-"


def read_passages(path: str | Path) -> list[Passage]:
    """Read passages from JSON lines, or from Parquet where the name ends in `.parquet`; `-` is JSON lines on stdin.

    A line is `{"id", "prompt": [{"role", "content"}], "response", "author"}` and may carry `prompt_id`, `sampling`,
    `token_ids` with `tokenizer`, `logprobs`, `ended` and `marks`; a row of Parquet has the same as columns, of which
    the four first are needed. A prompt that is a plain string is one user message; a missing `prompt_id` is a hash of
    the prompt. A content may be a list of parts of type text, which are joined; other keys of a message are kept. Empty
    lines are skipped. The response may be empty only where `token_ids` or `ended` are given (a model that ended at once
    wrote one token, the end-of-turn token).

    Raises:
        PassageError: the file is missing, empty or not UTF-8; or a line is not such an object (with its number).
    """
    is_table = str(path) != STDIO and Path(path).suffix == ".parquet"
    rows = _rows(Path(path)) if is_table else _records(path)
    passages: list[Passage] = []
    places: dict[tuple[str, str], str] = {}
    for where, record in rows:
        passage = passage_of(record, where)
        name = (passage.author, passage.id)
        if name in places:
            raise PassageError(
                f"{where}: author '{passage.author}' already has a passage with id '{passage.id}' in {places[name]}; "
                "give each passage of an author an id of its own"
            )
        places[name] = where
        passages.append(passage)
    if not passages and not is_table:  # a text of a run can come out empty
        raise PassageError(f"{_shown(path)} holds no passages; write one JSON object a line")
    return passages


def read_prompts(path: str | Path) -> list[Prompt]:
    """Read prompts from JSON lines; `-` reads stdin.

    A line is `{"id", "prompt": [{"role", "content"}]}`; `messages` is read as `prompt`, a plain string is one user
    message, and a missing id is a hash of the prompt. A passage file is a prompt file too: passages of one prompt
    (the same `prompt_id` and the same messages) give it once.

    Raises:
        PassageError: as `read_passages`; also an empty prompt, one that ends with the assistant, or one id for two
            different prompts.
    """
    prompts: dict[str, Prompt] = {}
    for where, record in _records(path):
        prompt = prompt_of(record, where)
        if prompts.setdefault(prompt.id, prompt) != prompt:
            raise PassageError(f"{where}: id '{prompt.id}' already names another prompt; ids must be unique")
    if not prompts:
        raise PassageError(f"{_shown(path)} holds no prompts; write one JSON object a line")
    return list(prompts.values())


def write_passages(passages: Iterable[Passage], path: str | Path) -> None:
    """Write passages as JSON lines, or as Parquet where the name ends in `.parquet`; `-` writes JSON lines to stdout.

    Files appear whole or not at all, in UTF-8 whatever the locale. What is written is read back equal by
    `read_passages`.

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
                pq.write_table(_table(passages), temporary)
            else:
                temporary.write_bytes("".join(map(_line, passages)).encode())
    except UnicodeEncodeError as err:
        raise PassageError(
            f"a text for {_shown(path)} holds half of a character (a lone surrogate): write it whole, or as \\ufffd"
        ) from err
    except BrokenPipeError:
        raise
    except OSError as err:
        raise PassageError(f"cannot write {_shown(path)} ({err.strerror}): give another place") from err


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


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a Parquet file as the objects that JSON lines would hold, with their places, counted from 1."""
    if not path.is_file():
        raise PassageError(f"there is no file {path}; check the path")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as err:
        raise PassageError(f"{path} is not a readable Parquet file ({_first_line(err)}); write it again") from err
    missing = [name for name in _NEEDED if name not in table.column_names]
    if missing:
        raise PassageError(f"{path} is not a passage table: it is missing the columns {', '.join(missing)}")
    for number, row in enumerate(table.to_pylist(), start=1):
        yield f"row {number}", _record(row, f"row {number}")


def _record(row: dict[str, Any], where: str) -> dict[str, Any]:
    """A row with its JSON columns read; marks of version 0.1 are taken out of `sampling`."""
    record = {key: value for key, value in row.items() if value is not None or key in _NEEDED}
    for key in ("sampling", "marks", "prompt_extras"):
        if isinstance(text := record.get(key), str):
            record[key] = _json(text, f"{where}: '{key}'")
    if record.get("token_ids") is None:
        # A text that an experiment made of another one has no ids of its own; what was said of the other's is void.
        record.pop("logprobs", None)
    extras = record.pop("prompt_extras", None)
    if isinstance(extras, list) and isinstance(record["prompt"], list) and len(extras) == len(record["prompt"]):
        record["prompt"] = [message | extra for message, extra in zip(record["prompt"], extras, strict=True)]
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
        column = pq.ParquetFile(path).read(columns=["sampling"], use_threads=False)["sampling"]
        return (json.loads(column[0].as_py()) if len(column) else None) or {}
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as err:
        raise PassageError(f"{path} is not a readable Parquet file ({_first_line(err)}); write it again") from err


def _line(passage: Passage) -> str:
    record = {k: v for k, v in asdict(passage).items() if v is not None and (k != "marks" or v)}
    return json.dumps(record, ensure_ascii=False) + "\n"


def _records(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON objects of a file with their places, lines counted from 1."""
    for number, line in _lines(path):
        if not line.strip():
            continue
        if number == 1 and line.lstrip().startswith("["):
            raise PassageError(
                f"{_shown(path)} begins with a list; write one JSON object a line (jq -c '.[]' FILE does it)"
            )
        record = _json(line, f"line {number} of {_shown(path)}")
        if not isinstance(record, dict):
            raise PassageError(f"line {number} of {_shown(path)} is {kind(record)}; write one JSON object a line")
        # An escape can spell half of a character, which is no text and cannot be written.
        if "\\u" in line and (key := next((k for k, v in record.items() if not _is_unicode([k, v])), None)):
            raise PassageError(
                f"line {number}: '{key}' holds half of a character (a lone surrogate); write it whole, or as \\ufffd"
            )
        yield f"line {number}", record


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as err:
        raise PassageError(
            f"{where} is not valid JSON ({err.msg} at column {err.colno}); write one JSON object a line"
        ) from err
    except RecursionError as err:
        raise PassageError(f"{where} is nested too deep to be read; write one JSON object a line") from err
    except ValueError as err:  # Python reads no whole number of more than 4,300 digits
        raise PassageError(f"{where} holds a number with too many digits; write it shorter") from err


def _is_unicode(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """The lines of a file or of standard input: UTF-8, without a byte order mark, whatever the locale."""
    try:
        if str(path) == STDIO:
            binary = getattr(sys.stdin, "buffer", None)
            if binary is None:  # a text stream without bytes behind it
                yield from enumerate(sys.stdin, start=1)
                return
            decoded = io.TextIOWrapper(binary, encoding="utf-8-sig")
            try:
                yield from enumerate(decoded, start=1)
            finally:
                decoded.detach()  # standard input stays open
            return
        with Path(path).open(encoding="utf-8-sig") as handle:
            yield from enumerate(handle, start=1)
    except FileNotFoundError as err:
        raise PassageError(f"there is no file {path}; check the path, or give '-' to read standard input") from err
    except OSError as err:
        raise PassageError(f"cannot read {path} ({err.strerror}); give a JSON lines file, or '-'") from err
    except UnicodeDecodeError as err:
        raise PassageError(f"{_shown(path)} is not UTF-8 text ({err.reason}); save it as UTF-8 JSON lines") from err


def _shown(path: str | Path) -> str:
    return "standard input" if str(path) == STDIO else str(path)


def _first_line(err: BaseException) -> str:
    return (str(err).strip() or type(err).__name__).splitlines()[0]
