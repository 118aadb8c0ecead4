"""One JSON object as a passage or a prompt, or one line that says what is wrong with it."""

from __future__ import annotations

import math
from typing import Any, TypeVar, cast

from enaction.errors import PassageError
from enaction.passages.types import Message, Passage, Prompt, prompt_hash

T = TypeVar("T")

# What some programs give to a template besides the messages. Nothing here hands it on, so it must not be lost unsaid.
BESIDE = {
    "tools": "write what the model should see of it into a system message",
    "functions": "write what the model should see of it into a system message",
    "documents": "write what the model should see of it into a message",
    "chat_template_kwargs": "give it to the command as --template-option NAME=VALUE",
}


def passage_of(record: dict[str, Any], where: str) -> Passage:
    """A passage.

    Args:
        record: of a file; unknown keys are left alone.
        where: it stands, such as `line 3`, for messages.

    Raises:
        PassageError: something is missing or of another kind.
    """
    missing = [key for key in ("id", "prompt", "response", "author") if key not in record]
    if missing:
        raise PassageError(
            f"{where}: {', '.join(repr(key) for key in missing)} missing; a passage needs 'id', 'prompt', "
            "'response' and 'author'"
        )
    messages = messages_of(record, "prompt", where)
    response = _text(record, "response", where)
    token_ids = _token_ids(record, where)
    logprobs = _logprobs(record, where)
    tokenizer = _typed(record, "tokenizer", where, str, "a string")
    ended = _typed(record, "ended", where, bool, "true, false or null")
    if not response and not token_ids and ended is None:
        raise PassageError(f"{where}: 'response' is empty; a passage needs at least one token to measure")
    if logprobs is not None and (token_ids is None or len(logprobs) != len(token_ids)):
        raise PassageError(
            f"{where}: {len(logprobs)} logprobs for {len(token_ids or ())} token_ids; give one for each, or none"
        )
    if token_ids is not None and tokenizer is None:
        raise PassageError(
            f"{where}: 'token_ids' without 'tokenizer' mean nothing; set it to the fingerprint that `enaction sample` "
            "writes (Reader.fingerprint), or leave 'token_ids' out"
        )
    return Passage(
        id=_name(record, "id", where),
        prompt_id=_name(record, "prompt_id", where) if "prompt_id" in record else prompt_hash(messages),
        prompt=messages,
        response=response,
        author=_text(record, "author", where),
        sampling=_typed(record, "sampling", where, dict, "an object") or {},
        token_ids=token_ids,
        logprobs=logprobs,
        tokenizer=tokenizer,
        ended=ended,
        marks=_typed(record, "marks", where, dict, "an object") or {},
    )


def prompt_of(record: dict[str, Any], where: str) -> Prompt:
    """A prompt.

    Args:
        record: of a file of prompts or of passages.
        where: it stands, for messages.

    Raises:
        PassageError: no messages, or the last of them is the assistant's.
    """
    messages = messages_of(record, "prompt", where)
    if not messages:
        raise PassageError(f"{where}: 'prompt' has no messages; a prompt needs at least one")
    if messages[-1]["role"] == "assistant":
        raise PassageError(
            f"{where}: the prompt ends with a turn of the assistant, so that no response is due; take that turn out "
            "(in a file of passages it is the 'response')"
        )
    named = "prompt_id" if "prompt_id" in record else "id"
    return Prompt(_name(record, named, where) if named in record else prompt_hash(messages), messages)


def messages_of(record: dict[str, Any], key: str, where: str) -> tuple[Message, ...]:
    """The conversation under a key of a row; a plain string is one message of the user.

    Raises:
        PassageError: there is none, or it is no list of messages (with its place and what to do about it).
    """
    if key not in record:
        raise PassageError(f'{where}: \'{key}\' missing; give a list of {{"role", "content"}} messages')
    for name, remedy in BESIDE.items():
        if record.get(name):
            raise PassageError(f"{where}: '{name}' is not given to the chat template; {remedy}, and leave it out")
    prompt = record[key]
    if isinstance(prompt, str):
        return (Message(role="user", content=prompt),)
    return tuple(_message(m, key, where) for m in (prompt if isinstance(prompt, list) else [prompt]))


def _message(given: object, key: str, where: str) -> Message:
    """A message with all its keys but those that are null."""
    if isinstance(given, dict) and isinstance(given.get("role"), str):
        kept = {str(name): value for name, value in given.items() if value is not None}
        content = kept.get("content")
        if isinstance(content, list):
            content = "".join(_part(part, key, where) for part in content)
        if content is None and kept.get("tool_calls"):
            content = ""  # a turn that calls a tool has nothing to say
        if isinstance(content, str):
            return cast("Message", kept | {"content": content})
        given = given.get("content") if "content" in given else given
    raise PassageError(
        f"{where}: '{key}' must be a list of messages with the strings 'role' and 'content', and holds {kind(given)} "
        "that is not one"
    )


def _part(part: object, key: str, where: str) -> str:
    """The words of one part of a content; the parts of a text follow each other as they are."""
    match part:
        case str():
            return part
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": str(other)}:
            raise PassageError(f"{where}: '{key}' has content of type '{other}', and only text is read; take it out")
    raise PassageError(f'{where}: \'{key}\' has content that is no text; give a string, or {{"type": "text", "text"}}')


def _name(record: dict[str, Any], key: str, where: str) -> str:
    """A name, which may be a whole number."""
    return str(record[key]) if type(record[key]) is int else _text(record, key, where)


def _text(record: dict[str, Any], key: str, where: str) -> str:
    value = record[key]
    if value is None:
        raise PassageError(f"{where}: '{key}' is null and must be a string; fill it in, or leave the column out")
    if not isinstance(value, str):
        raise PassageError(f"{where}: '{key}' is {kind(value)} and must be a string; put it in quotes")
    return value


def _token_ids(record: dict[str, Any], where: str) -> tuple[int, ...] | None:
    values = _typed(record, "token_ids", where, list, "a list")
    # bool is an int to Python and no token id; hence the exact type.
    bad = next((v for v in values or () if type(v) is not int or not 0 <= v < 2**31), None)
    if values is not None and bad is None and None not in values:
        return tuple(values)
    return None if values is None else _refuse(bad, "token_ids", "token ids (whole numbers from 0)", where)


def _logprobs(record: dict[str, Any], where: str) -> tuple[float, ...] | None:
    values = _typed(record, "logprobs", where, list, "a list")
    if values is None:
        return None
    numbers = []
    for value in values:
        try:
            number = float(value) if type(value) in (int, float) else math.nan
        except OverflowError:  # a whole number of more than 308 digits
            number = math.inf
        if not math.isfinite(number):
            return _refuse(value, "logprobs", "finite numbers", where)
        numbers.append(number)
    return tuple(numbers)


def _refuse(value: object, key: str, wanted: str, where: str) -> Any:
    shown = repr(value) if not isinstance(value, int) or value.bit_length() < 64 else "a number beyond all of them"
    raise PassageError(f"{where}: '{key}' must hold {wanted}, and holds {shown}; correct it or leave it out")


def _typed(record: dict[str, Any], key: str, where: str, wanted: type[T], shown: str) -> T | None:
    value = record.get(key)
    if value is not None and not isinstance(value, wanted):
        raise PassageError(f"{where}: '{key}' is {kind(value)} and must be {shown}; correct it or leave it out")
    return value


def kind(value: object) -> str:
    """What a value of JSON is called."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
