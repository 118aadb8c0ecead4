"""The rows of a file as JSON objects with their places, whatever kind of file people keep text in.

JSON lines and JSON arrays, Parquet, CSV and TSV, plain text, and data sets of Hugging Face `datasets` (`data_sets`).
Any other kind is refused with the command that converts it. What a row means is not this module's matter: see `shapes`.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from enaction.errors import PassageError
from enaction.passages.data_sets import is_hub_id, rows_of_folder, rows_of_hub
from enaction.passages.rows import kind

STDIO = "-"
# Rows of Parquet that are Python objects at a time.
_BATCH = 1024
Row = tuple[str, dict[str, Any]]

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_TEXT = ".txt"
_PANDAS = "python -c \"import pandas; pandas.read_{reader}('{path}').to_parquet('{stem}.parquet')\""
# What is refused -> the command that makes of it something that is read.
_CONVERTED_BY = {
    ".gz": "gunzip -k {path}",
    ".bz2": "bunzip2 -k {path}",
    ".xz": "unxz -k {path}",
    ".zst": "unzstd {path}",
    ".zip": "unzip {path}",
    ".xlsx": _PANDAS.replace("{reader}", "excel"),
    ".xls": _PANDAS.replace("{reader}", "excel"),
    ".feather": _PANDAS.replace("{reader}", "feather"),
    ".pkl": _PANDAS.replace("{reader}", "pickle"),
    ".pickle": _PANDAS.replace("{reader}", "pickle"),
    ".arrow": "python -c \"import datasets; datasets.Dataset.from_file('{path}').to_parquet('{stem}.parquet')\"",
    ".yaml": "yq -o json -I 0 '.[]' {path} > {stem}.jsonl",
    ".yml": "yq -o json -I 0 '.[]' {path} > {stem}.jsonl",
    ".docx": "pandoc -t plain {path} -o {stem}.txt",
    ".html": "pandoc -t plain {path} -o {stem}.txt",
    ".pdf": "pdftotext {path} {stem}.txt",
}
# First bytes of files that are not text -> what to do with them.
_MAGIC = {
    b"PAR1": "it is Parquet: let its name end in .parquet",
    b"\x1f\x8b": "it is compressed: gunzip -c {path} > {stem}.out.jsonl",
    b"PK\x03\x04": "it is an archive or a spreadsheet: unzip it, or save it as CSV",
    b"\xff\xfe": "it is UTF-16: iconv -f UTF-16 -t UTF-8 {path} > {stem}.utf8{suffix}",
    b"\xfe\xff": "it is UTF-16: iconv -f UTF-16 -t UTF-8 {path} > {stem}.utf8{suffix}",
}


def rows_of(
    path: str | Path, *, lines_of_text: bool, split: str | None = None, is_limited: bool = False
) -> Iterator[Row]:
    """The rows of a file or data set, each with its place (`line 3`, `row 3`), counted from 1.

    Args:
        path: of the file or folder, or id of a data set of the hub; `-` is JSON on standard input.
        lines_of_text: plain text gives a row a line that is not empty; otherwise the whole of it is one row. Either has
            the one key `text`.
        split: of a data set.
        is_limited: only the first rows will be asked for.

    Raises:
        PassageError: there is no such file, it is of another kind, it is damaged, or it has no splits.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    is_hub = is_hub_id(str(path))
    if split is not None and not is_hub and not file.is_dir():
        raise PassageError(f"{shown(path)} is no data set, so that it has no split {split}; leave --split out")
    if is_hub:
        yield from placed(rows_of_hub(str(path), split, is_limited=is_limited))
    elif str(path) == STDIO:
        yield from _json_rows(path)
    elif file.is_dir():
        yield from placed(rows_of_folder(file, split))
    elif suffix in _CONVERTED_BY and file.exists():
        raise PassageError(f"{file}: {suffix} files are not read; convert it: {_filled(_CONVERTED_BY[suffix], file)}")
    elif suffix == ".parquet":
        yield from placed(_parquet_rows(file))
    elif suffix in _DELIMITERS:
        yield from _csv_rows(file, _DELIMITERS[suffix])
    elif suffix == _TEXT:
        lines = (line for _, line in _lines(file))
        if lines_of_text:
            yield from ((f"line {n}", {"text": t.strip()}) for n, t in enumerate(lines, start=1) if t.strip())
        elif (text := "".join(lines)).strip():
            yield "the text", {"text": text.removesuffix("\n")}
    else:
        yield from _json_rows(path)


def is_table(path: str | Path) -> bool:
    """Whether rows have every column of a table, null or not, and objects may be strings of JSON."""
    if str(path) == STDIO:
        return False
    return Path(path).suffix.lower() in {".parquet", *_DELIMITERS} or Path(path).is_dir() or is_hub_id(str(path))


def shown(path: str | Path) -> str:
    """A path as messages name it."""
    return "standard input" if str(path) == STDIO else str(path)


def first_line(err: BaseException) -> str:
    """The first line of an error's message."""
    return (str(err).strip() or type(err).__name__).splitlines()[0]


def _json_rows(path: str | Path) -> Iterator[Row]:
    """The objects of JSON lines, or of a JSON array."""
    numbered = _lines(path)
    begun = False
    for number, line in numbered:
        if not line.strip():
            continue
        if not begun and line.lstrip().startswith("["):
            yield from _array(path, "".join([line, *(rest for _, rest in numbered)]))
            return
        where = f"line {number}"
        record = loaded(line, f"{where} of {shown(path)}", "" if begun else _remedy(path, line))
        begun = True
        if not isinstance(record, dict):
            raise PassageError(f"{where} of {shown(path)} is {kind(record)}; write one JSON object a line")
        yield where, in_unicode(record, where, line)


def _array(path: str | Path, text: str) -> Iterator[Row]:
    records = loaded(text, shown(path), "write a JSON array of objects, or one object a line")
    for number, record in enumerate(records, start=1):
        if isinstance(record, list):
            raise PassageError(
                f"row {number} of {shown(path)} is a list; make objects of the rows: "
                f"jq -c '.[] | {{messages: .}}' {_filled('{path} > {stem}.rows.jsonl', Path(path))}"
            )
        if not isinstance(record, dict):
            raise PassageError(
                f"row {number} of {shown(path)} is {kind(record)}; make objects of the rows: "
                f"jq -c '.[] | {{prompt: .}}' {_filled('{path} > {stem}.rows.jsonl', Path(path))}"
            )
        yield f"row {number}", in_unicode(record, f"row {number}", text)


def _remedy(path: str | Path, line: str) -> str:
    """What to do about a first line that is not JSON."""
    if line.lstrip().startswith("{"):
        return f"write one JSON object a line ({_filled('jq -c . {path} > {stem}.rows.jsonl', Path(path))})"
    return "write one JSON object a line; the name of plain text ends in .txt, of comma-separated values in .csv"


def loaded(text: str, where: str, remedy: str = "") -> Any:
    """JSON, or one line that says what is wrong with it and what to do.

    Raises:
        PassageError: it is not JSON, too deep, or holds a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as err:
        at = f"column {err.colno}" if "\n" not in text.strip() else f"line {err.lineno}, column {err.colno}"
        raise PassageError(
            f"{where} is not valid JSON ({err.msg} at {at}); {remedy or 'write one JSON object a line'}"
        ) from err
    except RecursionError as err:
        raise PassageError(f"{where} is nested too deep to be read; write one JSON object a line") from err
    except ValueError as err:  # Python reads no whole number of more than 4,300 digits
        raise PassageError(f"{where} holds a number with too many digits; write it shorter") from err


def in_unicode(record: dict[str, Any], where: str, source: str) -> dict[str, Any]:
    """The record, made of this source. An escape can spell half of a character, which is no text and cannot be written.

    Raises:
        PassageError: it does.
    """
    if "\\u" in source and (key := next((k for k, v in record.items() if not _is_unicode([k, v])), None)):
        raise PassageError(
            f"{where}: '{key}' holds half of a character (a lone surrogate); write it whole, or as \\ufffd"
        )
    return record


def _is_unicode(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise PassageError(f"there is no file {path}; check the path")
    try:
        for batch in pq.ParquetFile(path, page_checksum_verification=True).iter_batches(
            batch_size=_BATCH, use_threads=False
        ):
            yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as err:
        raise PassageError(f"{path} is not a readable Parquet file ({first_line(err)}); write it again") from err


def placed(rows: Iterable[dict[str, Any]]) -> Iterator[Row]:
    """Rows of a table with their places."""
    yield from ((f"row {number}", _plain(row)) for number, row in enumerate(rows, start=1))


def _plain(value: Any) -> Any:
    """A value of Arrow as JSON would hold it: days, times, bytes and decimals become text."""
    match value:
        case dict():
            return {key: _plain(part) for key, part in value.items()}
        case [int() | float(), *_]:
            return value
        case list():
            return [_plain(part) for part in value]
        case None | str() | int() | float():
            return value
    return str(value)


def _csv_rows(path: Path, delimiter: str) -> Iterator[Row]:
    """The rows under a line of names; an empty cell is null, which CSV has no other sign for."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    lines = (line for _, line in _lines(path))
    header = next(lines, "")
    if delimiter == "," and "," not in header and ";" in header:
        delimiter = ";"  # as spreadsheets write it where the comma is the decimal sign
    reader = csv.reader((line for part in ([header], lines) for line in part), delimiter=delimiter, strict=True)
    number = 0
    try:
        names = next(reader, [])
        if len(set(names)) < len(names):
            raise PassageError(f"{path}: two columns have one name; rename one of them in the first line")
        for number, cells in enumerate(reader, start=1):
            if not cells:
                continue
            if len(cells) != len(names):
                raise PassageError(
                    f"row {number} of {path} has {len(cells)} cells for {len(names)} columns; put text that holds "
                    "commas, quotes or line breaks in quotes"
                )
            yield f"row {number}", {n: _cell(c, n, number) if c else None for n, c in zip(names, cells, strict=True)}
    except csv.Error as err:
        raise PassageError(f"row {number + 1} of {path} is not CSV ({err}); write the file again") from err


def _cell(cell: str, name: str, number: int) -> object:
    """A cell as text, or as the list of messages that it spells."""
    if not (cell.startswith("[{") and any(f"'{key}'" in cell.replace('"', "'") for key in ("role", "from"))):
        return cell
    return loaded(
        cell,
        f"row {number}: '{name}' looks like a list of messages and",
        "write the table as JSON lines or Parquet, which hold lists (to_json(..., orient='records', lines=True))",
    )


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
        with Path(path).open(encoding="utf-8-sig", newline="" if Path(path).suffix in _DELIMITERS else None) as handle:
            yield from enumerate(handle, start=1)
    except FileNotFoundError as err:
        raise PassageError(f"there is no file {path}; check the path, or give '-' to read standard input") from err
    except OSError as err:
        raise PassageError(f"cannot read {path} ({err.strerror}); give a file, or '-'") from err
    except UnicodeDecodeError as err:
        raise PassageError(f"{shown(path)} is not UTF-8 text ({err.reason}); {_by_magic(path)}") from err


def _by_magic(path: str | Path) -> str:
    begin = b"" if str(path) == STDIO else _first_bytes(Path(path))
    remedies: Iterable[str] = (remedy for magic, remedy in _MAGIC.items() if begin.startswith(magic))
    return _filled(next(iter(remedies), "save it as UTF-8"), Path(path))


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as handle:
        return handle.read(4)


def _filled(command: str, path: Path) -> str:
    """A command with the file that it is for."""
    name = "FILE" if str(path) == STDIO else str(path)
    parts = {"{path}": name, "{stem}": str(Path(name).with_suffix("")), "{suffix}": path.suffix or ".jsonl"}
    for part, value in parts.items():
        command = command.replace(part, value)
    return command
