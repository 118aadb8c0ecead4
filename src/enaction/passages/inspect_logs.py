"""Logs of Inspect (`.eval`, or its JSON) as rows of passages: every turn of the assistant in every sample.

A `.eval` file is a zip of JSON: `header.json` and `samples/ID_epoch_N.json`. Newer versions of Inspect compress it with
zstd, which Python's `zipfile` does not know before 3.14; pyarrow does. Samples are read one by one. Nothing of the zip
is written anywhere, and what unpacks to more than `LARGEST` is refused.

The format: https://inspect.aisi.org.uk/eval-logs.html
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from enaction.errors import PassageError
from enaction.passages.rows import kind
from enaction.passages.tables import first_line, in_unicode, loaded

# Bytes of one sample, unpacked: as Python objects they are several times that.
LARGEST = 512 * 2**20
_ZSTD = 93
_HEADERS = ("header.json", "_journal/start.json")  # the second alone if the evaluation was stopped
_SETTINGS = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "seed": "seed"}
_SETTINGS |= {"max_tokens": "max_new_tokens"}
_ENDED = {"stop": True, "max_tokens": False, "model_length": False}
_ATTACHED = "attachment://"
Json = dict[str, Any]


def is_inspect_log(path: Path) -> bool:
    """Whether a file is a log of Inspect: by the ending `.eval`, or by the first keys of its JSON."""
    if path.suffix.lower() == ".eval":
        return True
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    try:
        with path.open("rb") as handle:
            begin = handle.read(4096)
    except OSError:  # said by who reads it
        return False
    return begin.lstrip().startswith(b"{") and all(key in begin for key in (b'"version"', b'"status"', b'"eval"'))


def rows_of_log(path: Path) -> Iterator[tuple[str, Json]]:
    """The turns of a log as rows of passages with their places.

    The id of a row is `SAMPLE/EPOCH/TURN`, its author the model; `input` for a turn that the data set wrote. `marks`
    has `task`, `sample`, `epoch`, `source` (what Inspect says of the turn: `generate`, `input` or `unknown`), the
    number of `tools` that the model was shown, the number of `tool_calls` after the text, the `reasoning` before it,
    and `logged_tokens` with `logged_logprobs` (nats), which have no ids. A turn without text, such as
    one that only calls a tool, gives no row unless the model ended it.

    Raises:
        PassageError: the file is missing, damaged, too large or no log; or a sample is not one.
    """
    is_empty = True
    names: set[str] = set()
    for header, place, sample in _samples(path):
        where = f"{place} of {path}"
        for row in _turns(header, sample, where):
            is_empty = False
            if row["id"] in names:
                raise PassageError(f"{where}: there are two samples of this id and epoch; take one of them out")
            names.add(row["id"])
            yield where, row
    if is_empty:
        raise PassageError(f"{path} holds no turn of the assistant; give a log whose samples were answered and logged")


def _samples(path: Path) -> Iterator[tuple[Json, str, Json]]:
    """Header, place and sample, one by one."""
    if not path.is_file():
        raise PassageError(f"there is no file {path}; check the path")
    if path.suffix.lower() != ".eval":
        log = _object(path.read_bytes(), str(path))
        for number, sample in enumerate(_items(log, "samples"), start=1):
            yield log, f"sample {number}", sample
        return
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
            entries = {info.filename: info for info in archive.infolist()}
            found = next((name for name in _HEADERS if name in entries), None)
            if found is None:
                raise PassageError(f"{path} is a zip without header.json, so no log of Inspect; give its .eval file")
            header = _object(_unpacked(archive, raw, entries[found], path), f"{found} of {path}")
            for name, info in entries.items():
                if name.startswith("samples/") and name.endswith(".json"):
                    place = ascii(name)[1:-1][:80]
                    yield header, place, _object(_unpacked(archive, raw, info, path), f"{place} of {path}")
    except zipfile.BadZipFile as err:
        raise PassageError(f"{path} is no zip, or a damaged one ({err}); copy it again") from err
    except (zlib.error, EOFError, NotImplementedError, OSError, RuntimeError) as err:
        raise PassageError(
            f"{path} cannot be unpacked ({first_line(err)}); copy it again, or write it as JSON: "
            f"inspect log convert --to json --output-dir JSON {path}"
        ) from err


def _unpacked(archive: zipfile.ZipFile, raw: BinaryIO, info: zipfile.ZipInfo, path: Path) -> bytes:
    """The bytes of an entry.

    Raises:
        PassageError: they are too many, or not those that the directory of the zip tells of.
    """
    name = ascii(info.filename)[1:-1][:80]
    if info.file_size > LARGEST:
        raise PassageError(
            f"{name} of {path} unpacks to {info.file_size / 2**20:,.0f} MB, and at most {LARGEST // 2**20} MB of a "
            "sample are read; take it out of the log"
        )
    if info.flag_bits & 1:
        raise PassageError(f"{name} of {path} is encrypted, which logs of Inspect are not; write the log again")
    if info.compress_type != _ZSTD:
        with archive.open(info) as entry:
            data = entry.read(info.file_size + 1)
    else:
        data = _unzstd(raw, info)
    if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
        raise PassageError(f"{name} of {path} is damaged (its size or checksum is not the noted one); copy it again")
    return data


def _unzstd(raw: BinaryIO, info: zipfile.ZipInfo) -> bytes:
    """The bytes of an entry that is one or several frames of zstd, at most one more than the noted number."""
    raw.seek(info.header_offset)
    local = raw.read(30)  # the lengths of the name and the extra field end the fixed part of the local header
    if len(local) < 30 or local[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile("a local header is missing")
    raw.seek(int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little"), 1)
    packed = pa.BufferReader(raw.read(info.compress_size))
    with pa.CompressedInputStream(packed, "zstd") as stream:
        return stream.read(info.file_size + 1)


def _object(data: bytes, where: str) -> Json:
    try:
        text = data.decode("utf-8")
        value = loaded(text, where, "write the log again")
    except UnicodeDecodeError as err:
        raise PassageError(f"{where} is not UTF-8 text ({err.reason}); write the log again") from err
    if not isinstance(value, dict):
        raise PassageError(f"{where} is {kind(value)} and must be an object; give a log of Inspect")
    return in_unicode(value, where, text)


def _turns(header: Json, sample: object, where: str) -> Iterator[Json]:
    """A row for each turn of the assistant in one sample."""
    if not isinstance(sample, dict) or not isinstance(messages := sample.get("messages"), list):
        raise PassageError(f"{where} is no sample with messages; write the log with its samples (log_samples)")
    run = _inner(header, "eval")
    attached = _inner(sample, "attachments")
    calls = _calls(sample)
    by_default = _inner(run, "model_generate_config") | _set(_inner(_inner(header, "plan"), "config"))
    history: list[Json] = []
    turn = 0
    for at, given in enumerate(messages):
        if not isinstance(given, dict) or not isinstance(given.get("role"), str):
            raise PassageError(f"{where}: message {at + 1} is {kind(given)} without a role; write the log again")
        message, reasoning = _message(given, attached)
        call, choice = calls.get(str(given.get("id")), ({}, {}))
        config = by_default | _set(_inner(call, "config"))
        has_text = message["content"] or (_ended(choice, config) is not None and not message.get("tool_calls"))
        if message["role"] == "assistant" and has_text:
            source = given.get("source") if isinstance(given.get("source"), str) else "unknown"
            is_sampled = source != "input"
            name = str(sample.get("id"))
            marks = {"task": run.get("task"), "sample": name, "epoch": sample.get("epoch"), "source": source}
            marks |= {"tools": len(tools)} if isinstance(tools := call.get("tools"), list) and tools else {}
            marks |= {"tool_calls": len(written)} if (written := message.get("tool_calls")) else {}
            marks |= {"reasoning": reasoning} if reasoning else {}
            row: Json = {
                "id": f"{name}/{sample.get('epoch', 1)}/{turn}",
                "prompt": list(history),
                "response": message["content"],
                "author": str(given.get("model") or run.get("model") or "unknown") if is_sampled else "input",
                "sampling": _sampling(config) if is_sampled else {},
                "ended": _ended(choice, config),
                "marks": marks | _logged(choice),
            }
            yield row
            turn += 1
        history.append(message)


def _inner(value: Json, key: str) -> Json:
    return inner if isinstance(inner := value.get(key), dict) else {}


def _items(value: Json, key: str) -> list[Any]:
    return items if isinstance(items := value.get(key), list) else []


def _set(values: Json) -> Json:
    return {key: value for key, value in values.items() if value is not None}


def _calls(sample: Json) -> dict[str, tuple[Json, Json]]:
    """Id of a message -> the call of the model that wrote it, and the choice that it is."""
    calls: dict[str, tuple[Json, Json]] = {}
    events = [e for e in _items(sample, "events") if isinstance(e, dict) and e.get("event") == "model"]
    for event in ({"output": sample.get("output")}, *events):
        for choice in _items(_inner(event, "output"), "choices"):
            if isinstance(choice, dict):
                calls[str(_inner(choice, "message").get("id"))] = event, choice
    return calls


def _message(given: Json, attached: Json) -> tuple[Json, str]:
    """A message as chat templates take it, and its reasoning.

    Long texts are references to the sample's attachments; calls of tools have their own form in Inspect.
    """

    def whole(text: Any) -> Any:
        is_attached = isinstance(text, str) and text.startswith(_ATTACHED)
        return attached.get(text.removeprefix(_ATTACHED), text) if is_attached else text

    content, reasoning = whole(given.get("content") or ""), ""
    if isinstance(content, list):
        thoughts = [part for part in content if isinstance(part, dict) and part.get("type") == "reasoning"]
        reasoning = "".join(str(whole(part.get("reasoning") or "")) for part in thoughts)
        rest = [part for part in content if part not in thoughts]
        content = [p | {"text": whole(p["text"])} if isinstance(p, dict) and "text" in p else p for p in rest]
        content = [{"type": p["type"], "text": p["text"]} if _is_text(p) else p for p in content]
        if all(map(_is_text, content)):
            content = "".join(part["text"] for part in content)
    message: Json = {"role": given["role"], "content": content}
    if given["role"] == "assistant":
        calls = _items(given, "tool_calls")
        message |= {"reasoning_content": reasoning} if reasoning else {}
        message |= {"tool_calls": [_tool_call(c) for c in calls if isinstance(c, dict)]} if calls else {}
    elif given["role"] == "tool":
        message |= {k: given[k] for k in ("tool_call_id",) if given.get(k)}
        message |= {"name": given["function"]} if isinstance(given.get("function"), str) else {}
    return message, reasoning


def _is_text(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _tool_call(call: Json) -> Json:
    if isinstance(call.get("function"), dict):  # as OpenAI has it
        return call
    function = {"name": call.get("function"), "arguments": call.get("arguments")}
    return {"id": call.get("id"), "type": "function", "function": function}


def _sampling(config: Json) -> Json:
    return {ours: config[theirs] for theirs, ours in _SETTINGS.items() if config.get(theirs) is not None}


def _ended(choice: Json, config: Json) -> bool | None:
    """Whether the model ended the turn itself, which a stop sequence leaves open."""
    return None if config.get("stop_seqs") else _ENDED.get(str(choice.get("stop_reason")))


def _logged(choice: Json) -> Json:
    """Tokens (texts) and log-probabilities of a turn, if they were logged."""
    logged = [t for t in _items(_inner(choice, "logprobs"), "content") if isinstance(t, dict)]
    if not logged or not all(isinstance(t.get("token"), str) and isinstance(t.get("logprob"), float) for t in logged):
        return {}
    return {"logged_tokens": [t["token"] for t in logged], "logged_logprobs": [t["logprob"] for t in logged]}
