"""Passages: what is read.

A passage is one response text to one prompt, with its author, the settings it was sampled with, and the author's own
token ids and log-probabilities where they exist. Token ids are the truth for a model's own text: the response string is
what a person reads, and what a reader with another tokenizer has to re-tokenise.

This room holds the data type and its two file formats (JSON lines and Parquet); it knows nothing of models.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypedDict, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from enaction.errors import PassageError
from enaction.files import write_atomically

STDIO = "-"
T = TypeVar("T")


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Prompt:
    """A conversation that ends where a response is due."""

    id: str
    messages: tuple[Message, ...]


class Sampling(BaseModel):
    """How passages are sampled; temperature 1 with full support is what the identity residual needs, 0 is greedy.

    Attributes:
        per_prompt: responses to each prompt.
        temperature: 1 is the model's own distribution; 0 takes the most probable token.
        top_p: the smallest set of tokens with this probability is kept; 1 keeps all.
        max_new_tokens: a response is cut off here, the end token included.
        batch_size: responses that are sampled together; changes no response.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    per_prompt: Annotated[int, Field(ge=1)] = 2
    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_new_tokens: Annotated[int, Field(ge=1)] = 110
    batch_size: Annotated[int, Field(ge=1)] = 64


# What `Passage.sampling` holds for a passage that was sampled here.
SAMPLING_KEYS = ("temperature", "top_p", "seed", "max_new_tokens", "framing", "begun_with")


@dataclass(frozen=True)
class Passage:
    """One response to one prompt.

    Attributes:
        id: unique within its author.
        prompt_id: the prompt it answers; the cluster of every bootstrap.
        prompt: the conversation before the response.
        response: the text of the response, without any template or end-of-turn token.
        author: what wrote it: the name of a model, or `world`, or a person.
        sampling: how it was sampled (temperature, top_p, seed, max_new_tokens, framing); empty for text from elsewhere.
        token_ids: the author's own ids of the response, including the end-of-turn token if it ended by itself.
        logprobs: the author's log-probability of each of `token_ids`, nats, at the settings it was sampled with.
        tokenizer: fingerprint of the tokenizer that `token_ids` belong to.
        ended: True if the author ended the response itself, False if it was cut off; None if that is not known.
        marks: what an experiment notes about the passage for its own analysis (where a splice lies, say).
    """

    id: str
    prompt_id: str
    prompt: tuple[Message, ...]
    response: str
    author: str
    sampling: dict[str, Any] = field(default_factory=dict)
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    tokenizer: str | None = None
    ended: bool | None = None
    marks: dict[str, Any] = field(default_factory=dict)


def thinned(items: Sequence[T], n: int | None) -> list[T]:
    """`n` of the items (prompts, questions), spread evenly over them; all of them if there are no more, or for None."""
    n = min(n or len(items), len(items))
    return [items[i * len(items) // n] for i in range(n)]


def prompt_hash(messages: Sequence[Message]) -> str:
    """Name of a prompt that carries none: twelve hexadecimal digits of the SHA-256 of its messages."""
    canonical = json.dumps([[m["role"], m["content"]] for m in messages], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def read_passages(path: str | Path) -> list[Passage]:
    """Read passages from JSON lines, or from Parquet where the name ends in `.parquet`; `-` is JSON lines on stdin.

    A line is `{"id", "prompt": [{"role", "content"}], "response", "author"}` and may carry `prompt_id`, `sampling`,
    `token_ids`, `logprobs`, `tokenizer`, `ended` and `marks`. A prompt that is a plain string is one user message; a
    missing `prompt_id` is a hash of the prompt. Empty lines are skipped. The response may be empty only where
    `token_ids` are given (a model that ended at once wrote one token, the end-of-turn token).

    Raises:
        PassageError: the file is missing, empty or not UTF-8; or a line is not such an object (with its number).
    """
    if str(path) != STDIO and Path(path).suffix == ".parquet":
        return _read_parquet(Path(path))
    passages: list[Passage] = []
    line_of: dict[tuple[str, str], int] = {}
    for number, record in _records(path):
        passage = _passage(record, number)
        name = (passage.author, passage.id)
        if name in line_of:
            raise PassageError(
                f"line {number}: author '{passage.author}' already has a passage with id '{passage.id}' in line "
                f"{line_of[name]}; give each passage of an author an id of its own"
            )
        line_of[name] = number
        passages.append(passage)
    if not passages:
        raise PassageError(f"{_shown(path)} holds no passages; write one JSON object a line")
    return passages


def read_prompts(path: str | Path) -> list[Prompt]:
    """Read prompts from JSON lines; `-` reads stdin.

    A line is `{"id", "prompt": [{"role", "content"}]}`; `messages` is read as `prompt`, a plain string is one user
    message, and a missing id is a hash of the prompt. A passage file is a prompt file too: passages of one prompt
    (the same `prompt_id` and the same messages) give it once.

    Raises:
        PassageError: as `read_passages`; also an empty prompt, or one id for two different prompts.
    """
    prompts: dict[str, Prompt] = {}
    for number, record in _records(path):
        key = "prompt" if "prompt" in record or "messages" not in record else "messages"
        messages = _messages(record, key, number)
        if not messages:
            raise PassageError(f"line {number}: '{key}' has no messages; a prompt needs at least one")
        named = "prompt_id" if "prompt_id" in record else "id"
        prompt = Prompt(_text(record, named, number) if named in record else prompt_hash(messages), messages)
        if prompts.setdefault(prompt.id, prompt) != prompt:
            raise PassageError(f"line {number}: id '{prompt.id}' already names another prompt; ids must be unique")
    if not prompts:
        raise PassageError(f"{_shown(path)} holds no prompts; write one JSON object a line")
    return list(prompts.values())


def write_passages(passages: Iterable[Passage], path: str | Path) -> None:
    """Write passages as JSON lines, or as Parquet where the name ends in `.parquet`; `-` writes JSON lines to stdout.

    Files appear whole or not at all. What is written is read back equal by `read_passages`.
    """
    if str(path) == STDIO:
        sys.stdout.writelines(_line(passage) for passage in passages)
        sys.stdout.flush()
        return
    path = Path(path)
    with write_atomically(path) as temporary:
        if path.suffix == ".parquet":
            pq.write_table(_table(list(passages)), temporary)
        else:
            with temporary.open("w", encoding="utf-8", newline="\n") as handle:
                handle.writelines(_line(passage) for passage in passages)


# `sampling` and `marks` are free-form, so Parquet keeps them as JSON strings; float64 brings log-probabilities back
# equal.
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
    ]
)
# Files of version 0.1 have no such column; they hold marks among `sampling`.
_LATER = ("marks",)


def _table(passages: list[Passage]) -> pa.Table:
    rows = [
        asdict(p) | {"prompt": list(p.prompt), "sampling": json.dumps(p.sampling), "marks": json.dumps(p.marks)}
        for p in passages
    ]
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def _read_parquet(path: Path) -> list[Passage]:
    if not path.is_file():
        raise PassageError(f"there is no file {path}; check the path")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as err:
        raise PassageError(f"{path} is not a readable Parquet file ({_first_line(err)}); write it again") from err
    missing = [name for name in _SCHEMA.names if name not in (*table.column_names, *_LATER)]
    if missing:
        raise PassageError(f"{path} is not a passage table: it is missing the columns {', '.join(missing)}")
    return [
        Passage(
            id=row["id"],
            prompt_id=row["prompt_id"],
            prompt=tuple(Message(role=m["role"], content=m["content"]) for m in row["prompt"]),
            response=row["response"],
            author=row["author"],
            sampling=row["sampling"],
            token_ids=None if row["token_ids"] is None else tuple(row["token_ids"]),
            logprobs=None if row["logprobs"] is None else tuple(row["logprobs"]),
            tokenizer=row["tokenizer"],
            ended=row["ended"],
            marks=row["marks"],
        )
        for row in map(_with_marks, table.to_pylist())
    ]


def _with_marks(row: dict[str, Any]) -> dict[str, Any]:
    """A row with `sampling` and `marks` read; marks of version 0.1 are taken out of `sampling`."""
    sampling = json.loads(row["sampling"])
    if "marks" in row:
        return row | {"sampling": sampling, "marks": json.loads(row["marks"])}
    marks = {key: value for key, value in sampling.items() if key not in SAMPLING_KEYS}
    return row | {"sampling": {k: v for k, v in sampling.items() if k in SAMPLING_KEYS}, "marks": marks}


def first_sampling(path: Path) -> dict[str, Any]:
    """`sampling` of the first passage of a Parquet file of passages, without reading the rest; empty if it has none.

    Raises:
        PassageError: there is no such file, or it is damaged.
    """
    if not path.is_file():
        raise PassageError(f"there is no file {path}; check the path")
    try:
        column = pq.ParquetFile(path).read(columns=["sampling"], use_threads=False)["sampling"]
    except (pa.ArrowInvalid, OSError, KeyError) as err:
        raise PassageError(f"{path} is not a readable Parquet file ({_first_line(err)}); write it again") from err
    return json.loads(column[0].as_py()) if len(column) else {}


def _line(passage: Passage) -> str:
    record = {k: v for k, v in asdict(passage).items() if v is not None and (k != "marks" or v)}
    return json.dumps(record, ensure_ascii=False) + "\n"


def _records(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a file with their line numbers, counted from 1."""
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as err:
            raise PassageError(
                f"line {number} of {_shown(path)} is not valid JSON ({err.msg} at column {err.colno}); "
                "write one JSON object a line"
            ) from err
        if not isinstance(record, dict):
            raise PassageError(f"line {number} of {_shown(path)} is {_kind(record)}; write one JSON object a line")
        yield number, record


def _lines(path: str | Path) -> Iterator[tuple[int, str]]:
    try:
        if str(path) == STDIO:
            yield from enumerate(sys.stdin, start=1)
            return
        # utf-8-sig: a byte order mark at the start is not part of the first object.
        with Path(path).open(encoding="utf-8-sig") as handle:
            yield from enumerate(handle, start=1)
    except FileNotFoundError as err:
        raise PassageError(f"there is no file {path}; check the path, or give '-' to read standard input") from err
    except OSError as err:
        raise PassageError(f"cannot read {path} ({err.strerror}); give a JSON lines file, or '-'") from err
    except UnicodeDecodeError as err:
        raise PassageError(f"{_shown(path)} is not UTF-8 text ({err.reason}); save it as UTF-8 JSON lines") from err


def _passage(record: dict[str, Any], number: int) -> Passage:
    missing = [key for key in ("id", "prompt", "response", "author") if key not in record]
    if missing:
        raise PassageError(
            f"line {number}: {', '.join(repr(key) for key in missing)} missing; a passage needs 'id', 'prompt', "
            "'response' and 'author'"
        )
    messages = _messages(record, "prompt", number)
    response = _text(record, "response", number)
    token_ids = _numbers(record, "token_ids", number, whole=True)
    logprobs = _numbers(record, "logprobs", number, whole=False)
    if not response and not token_ids:
        raise PassageError(f"line {number}: 'response' is empty; a passage needs at least one token to measure")
    if logprobs is not None and (token_ids is None or len(logprobs) != len(token_ids)):
        raise PassageError(
            f"line {number}: {len(logprobs)} logprobs for {len(token_ids or ())} token_ids; give one for each, or none"
        )
    return Passage(
        id=_text(record, "id", number),
        prompt_id=_text(record, "prompt_id", number) if "prompt_id" in record else prompt_hash(messages),
        prompt=messages,
        response=response,
        author=_text(record, "author", number),
        sampling=_typed(record, "sampling", number, dict, "an object") or {},
        token_ids=None if token_ids is None else tuple(int(i) for i in token_ids),
        logprobs=logprobs,
        tokenizer=_typed(record, "tokenizer", number, str, "a string"),
        ended=_typed(record, "ended", number, bool, "true, false or null"),
        marks=_typed(record, "marks", number, dict, "an object") or {},
    )


def _messages(record: dict[str, Any], key: str, number: int) -> tuple[Message, ...]:
    if key not in record:
        raise PassageError(f'line {number}: \'{key}\' missing; give a list of {{"role", "content"}} messages')
    prompt = record[key]
    if isinstance(prompt, str):
        return (Message(role="user", content=prompt),)
    messages = []
    for message in prompt if isinstance(prompt, list) else [prompt]:
        match message:
            case {"role": str(role), "content": str(content)}:
                messages.append(Message(role=role, content=content))
            case _:
                raise PassageError(
                    f"line {number}: '{key}' must be a list of messages with the strings 'role' and 'content', "
                    f"and holds {_kind(message)} that is not one"
                )
    return tuple(messages)


def _text(record: dict[str, Any], key: str, number: int) -> str:
    value = record[key]
    if not isinstance(value, str):
        raise PassageError(f"line {number}: '{key}' is {_kind(value)} and must be a string; put it in quotes")
    return value


def _numbers(record: dict[str, Any], key: str, number: int, *, whole: bool) -> tuple[float, ...] | None:
    values = _typed(record, key, number, list, "a list")
    if values is None:
        return None
    for value in values:
        # bool is an int to Python, and NaN a number to json; neither is a token id or a log-probability.
        good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not good or (whole and (isinstance(value, float) or not 0 <= value < 2**31)):
            wanted = "token ids (whole numbers from 0)" if whole else "finite numbers"
            raise PassageError(
                f"line {number}: '{key}' must hold {wanted}, and holds {value!r}; correct it or leave it out"
            )
    return tuple(values) if whole else tuple(float(v) for v in values)


def _typed(record: dict[str, Any], key: str, number: int, kind: type[T], wanted: str) -> T | None:
    value = record.get(key)
    if value is not None and not isinstance(value, kind):
        raise PassageError(f"line {number}: '{key}' is {_kind(value)} and must be {wanted}; correct it or leave it out")
    return value


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _shown(path: str | Path) -> str:
    return "standard input" if str(path) == STDIO else str(path)


def _first_line(err: BaseException) -> str:
    return (str(err).strip() or type(err).__name__).splitlines()[0]
