"""Rows as other programs write them, as rows of ours: which column is the prompt, which the response.

Read by name: `prompt`; whole conversations in `messages` (OpenAI), `conversation` or `conversations` (ShareGPT, with
`from` and `value`); the one of `question`, `query`, `instruction` (with `input` or `context`, as Alpaca and Dolly have
it), `input` and `text` that a row has; requests of OpenAI's batches, in their `body`. What is not certain is refused
with the option that settles it: nothing is guessed between two columns, and nothing that the model should see is left
out unsaid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from enaction.errors import PassageError
from enaction.passages.rows import kind
from enaction.passages.types import Message, worded_extras

CONVERSATIONS = ("messages", "conversations", "conversation")
QUESTIONS = ("question", "query", "instruction", "input", "text")
RESPONSES = ("response", "completion", "output", "answer", "reply")
# They belong to an instruction, and would be left out of a question.
_MATERIAL = ("input", "context")
_LOST = ("context", "choices", "options")
_SYSTEM = ("system", "system_prompt")
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant"}
_ROLES |= {"system": "system", "tool": "tool"}


def prompt_row(record: dict[str, Any], where: str, column: str | None = None) -> dict[str, Any]:
    """A row as one of prompts: its conversation under `prompt`, with `prompt_id` or `id` if it has them.

    A whole conversation gives what comes before the last turn of the assistant, if that is its end.

    Args:
        record: a row of a file.
        where: it stands, for messages.
        column: of the prompt; by default it is found by name.

    Raises:
        PassageError: the row has no such column, or what the prompt is cannot be told.
    """
    record = _unwrapped(record)
    key = _named(record, column, where, "--prompt-column") if column else _prompt_key(record, where)
    value = _conversation(record, key, where)
    if isinstance(value, list) and key != "prompt" and len(value) > 1 and _role(value[-1]) == "assistant":
        value = value[:-1]
    return _ours(record) | {"prompt": value if column else _complete(record, key, value, where)}


def passage_rows(
    record: dict[str, Any], where: str, prompt_column: str | None = None, response_column: str | None = None
) -> list[dict[str, Any]]:
    """A row as rows of passages: itself, or one for each turn of the assistant in a whole conversation.

    The prompt of a turn is the conversation before it. A turn that only calls a tool has no text and gives none.

    Args:
        record: a row of a file.
        where: it stands, for messages.
        prompt_column: of the prompt; by default it is found by name.
        response_column: of the response; by default it is found by name.

    Raises:
        PassageError: the row has no such column, what the prompt or the response is cannot be told, or no turn of a
            conversation is the assistant's.
    """
    record = _unwrapped(record)
    response_key = _response_key(record, where) if response_column is None else response_column
    if prompt_column is None and response_key is None:
        conversation = next((key for key in CONVERSATIONS if key in record), None)
        if conversation is not None:
            value = _complete(record, conversation, _conversation(record, conversation, where), where)
            return _turns(_ours(record), value, conversation, where)
        if record.keys() & {*QUESTIONS, "prompt"} == {"text"}:
            return [_ours(record) | {"prompt": [], "response": record["text"]}]
        raise _missing(record, "response", where, "--response-column")
    if response_key is None:
        raise _missing(record, "response", where, "--response-column")
    response = record[_named(record, response_key, where, "--response-column")]
    if isinstance(response, list) and prompt_column is None and not _has_prompt(record):
        return _turns(_ours(record), _conversation(record, response_key, where), response_key, where)[-1:]
    rest = {key: value for key, value in record.items() if key != response_key}
    prompt = prompt_row(rest, where, prompt_column)
    if isinstance(response, list):
        response = _last_turn(response, prompt["prompt"], response_key, where)
    return [prompt | {"response": response}]


def _ours(record: dict[str, Any]) -> dict[str, Any]:
    """The row without the columns that `prompt` and `response` are made from."""
    made = {*CONVERSATIONS, *QUESTIONS, *RESPONSES, "prompt"}
    return {key: value for key, value in record.items() if key not in made}


def _unwrapped(record: dict[str, Any]) -> dict[str, Any]:
    """A request of OpenAI's batches is in its `body`."""
    body = record.get("body")
    if isinstance(body, dict) and "messages" in body:
        kept = {key: record[key] for key in ("id", "author") if key in record}
        return kept | ({"id": record["custom_id"]} if "custom_id" in record else {}) | body
    return record


def _named(record: dict[str, Any], column: str, where: str, option: str) -> str:
    if column not in record:
        raise PassageError(f"{where}: there is no column '{column}'; give {option} one of {_columns(record)}")
    return column


def _prompt_key(record: dict[str, Any], where: str) -> str:
    for key in ("prompt", *CONVERSATIONS):
        if key in record:
            return key
    found = [key for key in QUESTIONS if record.get(key)]
    if "instruction" in found:
        found = [key for key in found if key not in _MATERIAL]
    if len(found) > 1:
        raise PassageError(f"{where}: which of {_listed(found)} is the prompt? Say it with --prompt-column {found[0]}")
    if not found:
        raise _missing(record, "prompt", where, "--prompt-column")
    lost = [key for key in _LOST if record.get(key) and found != ["instruction"]]
    if lost:
        raise PassageError(
            f"{where}: '{lost[0]}' would be left out beside '{found[0]}'; write it into the prompt, or give "
            f"--prompt-column {found[0]} to leave it out"
        )
    return found[0]


def _has_prompt(record: dict[str, Any]) -> bool:
    return any(record.get(key) for key in ("prompt", *CONVERSATIONS, *QUESTIONS))


def _response_key(record: dict[str, Any], where: str) -> str | None:
    if "response" in record:
        return "response"
    found = [key for key in RESPONSES if record.get(key)]
    if len(found) > 1:
        raise PassageError(
            f"{where}: which of {_listed(found)} is the response? Say it with --response-column {found[0]}"
        )
    return found[0] if found else None


def _missing(record: dict[str, Any], what: str, where: str, option: str) -> PassageError:
    """What to say about a row without a prompt or a response."""
    tables = [key for key, value in record.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    if what == "prompt" and len(tables) == 1:
        return PassageError(
            f"{where}: 'prompt' missing; if the rows are in '{tables[0]}', take them out: "
            f"jq -c '.{tables[0]}[]' FILE > ROWS.jsonl"
        )
    more = " (two responses are compared: chosen, say)" if {"chosen", "rejected"} <= record.keys() else ""
    return PassageError(f"{where}: '{what}' missing; give {option} one of {_columns(record)}{more}")


def _conversation(record: dict[str, Any], key: str, where: str) -> Any:
    """A prompt's value as `rows` reads it: ShareGPT's turns become messages."""
    value = record[key]
    if not (isinstance(value, list) and value and isinstance(value[0], dict) and "from" in value[0]):
        return value
    messages = []
    for turn in value:
        role = _role(turn)
        if role is None or not isinstance(turn.get("value"), str):
            raise PassageError(
                f"{where}: '{key}' has a turn from {turn.get('from') if isinstance(turn, dict) else kind(turn)!r}; "
                f"give 'from' ({', '.join(_ROLES)}) and the text as 'value'"
            )
        messages.append({"role": role, "content": turn["value"]})
    return messages


def _role(turn: object) -> str | None:
    """Who speaks, in our words."""
    if not isinstance(turn, dict):
        return None
    role = turn.get("role", turn.get("from"))
    return _ROLES.get(role) if isinstance(role, str) else None


def _complete(record: dict[str, Any], key: str, value: Any, where: str) -> Any:
    """The prompt with what belongs to it in other columns: an instruction's material, and a system prompt."""
    if key == "instruction" and isinstance(value, str):
        material = [m for name in _MATERIAL if isinstance(m := record.get(name), str) and m.strip()]
        value = "\n\n".join([value, *material])
    system = next((s for name in _SYSTEM if isinstance(s := record.get(name), str) and s), None)
    if system is None:
        return value
    messages = [Message(role="user", content=value)] if isinstance(value, str) else value
    if not isinstance(messages, list) or (messages and _role(messages[0]) == "system"):
        return value
    return [Message(role="system", content=system), *messages]


def _turns(row: dict[str, Any], messages: Any, key: str, where: str) -> list[dict[str, Any]]:
    """A row for each turn of the assistant."""
    if not isinstance(messages, list):
        raise PassageError(f"{where}: '{key}' is {kind(messages)} and must be a list of messages")
    rows = []
    for at, message in enumerate(messages):
        if _role(message) != "assistant":
            continue
        content = message.get("content")
        if message.get("tool_calls") and not content:
            continue
        extras = worded_extras(message)
        if extras:
            raise PassageError(
                f"{where}: turn {at + 1} of '{key}' has '{extras[0]}' beside its content, which would not be measured; "
                "write it into 'content' as the model wrote it, or leave it out"
            )
        begun = {"id": f"{row['id']}/{len(rows)}"} if isinstance(row.get("id"), str | int) else {}
        rows.append(row | begun | {"prompt": messages[:at], "response": _joined(content)})
        if rows[1:]:  # the row's prompt_id is that of its first turn
            rows[-1].pop("prompt_id", None)
    if not rows:
        raise PassageError(
            f"{where}: no turn of '{key}' is the assistant's, so there is nothing to measure; `enaction sample` writes "
            "responses to such prompts"
        )
    if len(rows) > 1 and row.get("token_ids") is not None:
        raise PassageError(f"{where}: 'token_ids' of {len(rows)} turns at once; leave them out, or give a row a turn")
    return rows


def _joined(content: Any) -> Any:
    """The text of a content that is a list of parts of type text; any other content as it is, to be checked later."""
    if isinstance(content, list) and all(isinstance(p, dict) and p.get("type") == "text" for p in content):
        return "".join(str(part.get("text", "")) for part in content)
    return content


def _last_turn(response: list[Any], prompt: Any, key: str, where: str) -> Any:
    """The text of a response that is a list of messages: one turn, or the prompt and one turn."""
    given = [turn for turn in response if isinstance(turn, dict)]
    turns = [{"role": _role(turn), "content": _joined(turn.get("content", turn.get("value")))} for turn in given]
    known = [Message(role="user", content=prompt)] if isinstance(prompt, str) else prompt
    before = [{"role": m.get("role"), "content": m.get("content")} for m in known if isinstance(m, dict)]
    if turns and turns[-1]["role"] == "assistant" and turns[:-1] in ([], before):
        return turns[-1]["content"]
    raise PassageError(
        f"{where}: '{key}' is a list and must be a text, or one turn of the assistant with the prompt before it or not"
    )


def _columns(record: dict[str, Any]) -> str:
    return ", ".join(str(key) for key in record if key not in ("id", "author")) or "none: the row has no columns"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)
