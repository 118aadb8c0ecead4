"""Rows as other programs write them, as rows of ours: which column is the prompt, which the response.

Read by name: `prompt`; whole conversations in `messages` (OpenAI), `conversation` or `conversations` (ShareGPT, with
`from` and `value`); the one of `question`, `query`, `instruction` (with `input` or `context`, as Alpaca and Dolly have
it), `input` and `text` that a row has; requests and answers of OpenAI (a chat completion, or a row of a batch). What is
not certain is refused with the option or the command that settles it: nothing is guessed between two columns, and
nothing that the model should see is left out unsaid.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from enaction.errors import PassageError
from enaction.passages.rows import BESIDE, kind
from enaction.passages.types import Message, worded_extras

CONVERSATIONS = ("messages", "conversations", "conversation")
QUESTIONS = ("question", "query", "instruction", "input", "text")
RESPONSES = ("response", "completion", "output", "answer", "reply")
# They belong to an instruction, and would be left out of a question.
_MATERIAL = ("input", "context")
_LOST = ("context", "choices", "options")
_SYSTEM = ("system", "system_prompt")
_WANTED = '{"prompt": ..., "response": ...}'
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
    if value is None:
        raise _empty(key, where)
    if remedy := _columnwise(record, key, value):
        raise PassageError(f"{where}: '{key}' holds several texts; {remedy}")
    if isinstance(value, list) and key != "prompt" and len(value) > 1 and _role(value[-1]) == "assistant":
        value = value[:-1]
    return _ours(record) | {"prompt": value if column else _complete(record, key, value, where)}


def passage_rows(
    record: dict[str, Any], where: str, prompt_column: str | None = None, response_column: str | None = None
) -> list[dict[str, Any]]:
    """A row as rows of passages: itself, or one for each turn of the assistant in a whole conversation.

    The prompt of a turn is the conversation before it. A turn that only calls a tool has no text and gives none. An
    answer of OpenAI gives one for each of its choices, without a prompt unless the request is in the row.

    Args:
        record: a row of a file.
        where: it stands, for messages.
        prompt_column: of the prompt; by default it is found by name.
        response_column: of the response; by default it is found by name.

    Raises:
        PassageError: the row has no such column, what the prompt or the response is cannot be told, or no turn of a
            conversation is the assistant's.
    """
    answer = _answer(record, where) if prompt_column is None and response_column is None else None
    if answer is not None:
        return _answered(record, answer, where)
    record = _unwrapped(record)
    response_key = _response_key(record, where) if response_column is None else response_column
    if prompt_column is None and response_key is None:
        conversation = next((key for key in CONVERSATIONS if key in record), None)
        if conversation is not None:
            value = _complete(record, conversation, _conversation(record, conversation, where), where)
            return _turns(_ours(record), value, conversation, where)
        if {key for key in (*QUESTIONS, "prompt") if record.get(key) is not None} == {"text"}:
            return [_ours(record) | {"prompt": [], "response": record["text"]}]
        raise _missing(record, "response", where, "--response-column")
    if response_key is None:
        raise _missing(record, "response", where, "--response-column")
    response = record[_named(record, response_key, where, "--response-column")]
    if response is None:
        raise _empty(response_key, where)
    if isinstance(response, list) and prompt_column is None and not _has_prompt(record):
        return _turns(_ours(record), _conversation(record, response_key, where), response_key, where)[-1:]
    rest = {key: value for key, value in record.items() if key != response_key}
    if isinstance(response, dict):
        raise _missing(record, "response", where, "--response-column")
    prompt = prompt_row(rest | ({response_key: response} if _is_texts(response) else {}), where, prompt_column)
    if isinstance(response, list):
        response = _last_turn(response, prompt["prompt"], response_key, where)
    return [prompt | {"response": response}]


def _ours(record: dict[str, Any]) -> dict[str, Any]:
    """The row without the columns that `prompt` and `response` are made from."""
    made = {*CONVERSATIONS, *QUESTIONS, *RESPONSES, "prompt"}
    return {key: value for key, value in record.items() if key not in made}


def _unwrapped(record: dict[str, Any]) -> dict[str, Any]:
    """A request of OpenAI's batches is in its `body`, and logs have it in `request`."""
    for asked in (record.get("body"), record.get("request")):
        asked = asked["body"] if isinstance(asked, dict) and isinstance(asked.get("body"), dict) else asked
        if isinstance(asked, dict) and "messages" in asked and not _has_prompt(record):
            kept = {key: record[key] for key in ("id", "author") if key in record}
            return kept | ({"id": record["custom_id"]} if "custom_id" in record else {}) | asked
    return record


def _answer(record: dict[str, Any], where: str) -> dict[str, Any] | None:
    """The chat completion that a row is or holds, as an output row of a batch does in `response.body`; else None.

    Raises:
        PassageError: the request of an output row failed.
    """
    response = record.get("response")
    inner = response.get("body") if isinstance(response, dict) else None
    for answer in (inner, *record.values(), record):
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if isinstance(choices, list) and choices and all(isinstance(c, dict) and "message" in c for c in choices):
            return answer
    if "custom_id" in record and "response" in record and (record.get("error") or isinstance(response, dict)):
        raise PassageError(
            f"{where}: this request of a batch failed, so that there is no answer; take such rows out: "
            "jq -c 'select(.response.body.choices)' FILE > ANSWERS.jsonl"
        )
    return None


def _answered(record: dict[str, Any], answer: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """A row of a passage for each choice of a chat completion."""
    name = record.get("custom_id") or record.get("id")
    kept = {key: record[key] for key in ("author", "prompt_id") if record.get(key) is not None} | {"id": name}
    asked = _unwrapped(record)
    prompt = prompt_row(asked | {"choices": None}, where)["prompt"] if _has_prompt(asked) else []
    messages = [Message(role="user", content=prompt)] if isinstance(prompt, str) else prompt
    beside = {key: asked[key] for key in BESIDE if key in asked}
    rows = []
    for number, choice in enumerate(answer["choices"]):
        message = {"role": "assistant"} | (choice["message"] if isinstance(choice["message"], dict) else {})
        numbered = f"{name}/{number}" if len(answer["choices"]) > 1 else name
        rows += _turns(kept | beside, [*messages, message], "choices", where)[-1:]
        rows[-1]["id"] = numbered
    return rows


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
    """What to say about a row without a prompt or a response: the option or the command that gives it one."""
    empty = [key for key in (RESPONSES if what == "response" else QUESTIONS) if key in record and not record[key]]
    if empty:
        return _empty(empty[0], where)
    tables = [key for key, value in record.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    talks = [key for key in tables if _role(record[key][0]) and {"content", "value"} & record[key][0].keys()]
    more = ""
    if {"chosen", "rejected"} <= record.keys():
        more = " (two responses are compared: chosen, say)"
    elif what == "prompt" and _answer(record, where):
        more = "; these are answers, which `enaction score` reads"
    elif talks:
        more = f"; if '{talks[0]}' is a conversation, name it so: jq -c '{{messages: .{talks[0]}}}' FILE > ROWS.jsonl"
    elif len(tables) == 1 and len(record.keys() - {"id", "author"}) == 1:
        more = f"; if the rows are in '{tables[0]}', take them out: jq -c '.{tables[0]}[]' FILE > ROWS.jsonl"
    elif any(isinstance(value, dict | list) and value for value in record.values()):
        more = f"; or take the texts out, as with {_extraction(record)}"
    if not record.keys() - {"id", "author"}:
        return PassageError(f"{where}: '{what}' missing: the row has no text; write {_WANTED}")
    return PassageError(f"{where}: '{what}' missing; give {option} one of {_columns(record)}{more}")


def _empty(key: str, where: str) -> PassageError:
    return PassageError(f"{where}: '{key}' is empty; fill it in, or take the row out")


def _columnwise(record: dict[str, Any], key: str, value: Any) -> str | None:
    """What to do about a prompt that is several: a list of texts, or a whole column by the numbers of its rows."""
    if isinstance(value, dict) and value and all(str(name).isdigit() for name in value):
        return "write one object a row: to_json(..., orient='records', lines=True)"
    if not _is_texts(value):
        return None
    other = next((name for name in RESPONSES if _is_texts(record.get(name))), None)
    if other is None:
        return f"take one of them: jq -c '.{key} = .{key}[0]' FILE > ROWS.jsonl"
    each = f"[.{key}, .{other}] | transpose[] | {{prompt: .[0], response: .[1]}}"
    return f"make a row of each: jq -c '{each}' FILE > ROWS.jsonl"


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, str) for part in value)


def _extraction(record: dict[str, Any]) -> str:
    """The command that makes rows of the likeliest texts of a row, however deep in objects and lists they are."""
    texts = [names for names, value in _leaves(record) if isinstance(value, str) and names[0] not in ("id", "author")]
    named = [[part for part in names if isinstance(part, str)] for names in texts]
    asks = [names for names, keys in zip(texts, named, strict=True) if {"prompt", *QUESTIONS} & {*keys[-1:]}]
    says = [names for names, keys in zip(texts, named, strict=True) if {*RESPONSES} & {*keys} and names not in asks]
    ask = (asks or texts[:1] or [("PROMPT",)])[0]
    say = (says or [names for names in texts if names != ask][-1:] or [("RESPONSE",)])[0]
    return f"jq -c '{{prompt: {_jq_path(ask)}, response: {_jq_path(say)}}}' FILE > ROWS.jsonl"


def _leaves(value: object, names: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], object]]:
    """What is in objects, and first in lists, with the way to it."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _leaves(part, (*names, str(key)))
    elif isinstance(value, list):
        yield from _leaves(value[0], (*names, 0)) if value else ()
    else:
        yield names, value


def _jq_path(names: tuple[str | int, ...]) -> str:
    parts = [f".{name}" if str(name).isidentifier() else f"[{json.dumps(name)}]" for name in names]
    return "".join(parts) if parts[0][0] == "." else f".{''.join(parts)}"


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
    return ", ".join(str(key) for key in record if key not in ("id", "author"))


def _listed(names: Sequence[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)
