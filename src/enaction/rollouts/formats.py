"""Shapes that need more than a rename: objects inside rows, several answers in a row, log-probabilities in pairs.

| from | shape |
|---|---|
| vLLM `RequestOutput` | `outputs: [{token_ids, logprobs: [{id: {logprob}}]}]` |
| servers like OpenAI's | `choices: [{token_ids, logprobs: {token_logprobs} or {content: [{logprob}]}}]`, ids also as |
| | texts, `token_id:17` |
| SGLang, slime | `meta_info: {output_token_logprobs: [[logprob, id, text]]}` |
| NeMo-Gym | `response: {output: [{prompt_token_ids, generation_token_ids, generation_log_probs}]}` |
| Harbor | `rollout_details: [{prompt_token_ids: [[...]], completion_token_ids: [[...]], logprobs: [[...]]}]` |
| tinker | `sequences: [{tokens, logprobs}]`, `transitions: [{ob, ac: {tokens, maybe_logprobs}}]` |
| NeMo-RL | `message_log: [{role, token_ids, generation_logprobs, token_loss_mask}]` |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from enaction.errors import PassageError
from enaction.passages.rows import kind
from enaction.rollouts.aliases import ALIASES, LOGGED
from enaction.rollouts.numbers import is_nested

Fields = dict[str, Any]

_SETTINGS = ("sampling_params", "sampling", "sampling_config", "generation_config", "responses_create_params")
_SETTING_NAMES = ("temperature", "top_p", "top_k")
# Lists of answers or turns, one of which is a rollout.
_PARTS = ("outputs", "choices", "sequences", "rollout_details", "transitions", "trajectory", "steps", "turns")
# Objects whose keys are as good as the row's own.
_INNER = ("meta_info", "ac", "action", "tokens", "agent_result", "training_input")
# What servers of NeMo-Gym put into the message of a choice.
_IDENTIFIED = ("prompt_token_ids", "generation_token_ids", "generation_log_probs")
_PER_TOKEN = ("sampler_logprobs", "trainer_logprobs", "entropies", "mask")


def rows_within(record: Mapping[str, Any]) -> Iterator[Fields]:
    """The rows of answers in a row: itself, or one for each answer or turn in it, with what they share."""
    row = _opened(record)
    if isinstance(log := row.get("message_log"), list) and all(isinstance(m, dict) and "token_ids" in m for m in log):
        yield _joined({key: value for key, value in row.items() if key != "message_log"}, log)
        return
    for name in _PARTS:
        parts = row.get(name)
        if isinstance(parts, list) and parts and all(isinstance(part, dict) for part in parts):
            opened = [_opened(part) for part in parts]
            if any(_has_answer(part) for part in opened):
                shared = {key: value for key, value in row.items() if key != name}
                for part in opened:
                    yield from rows_within(shared | {k: v for k, v in part.items() if v is not None})
                return
    yield row


def _opened(record: Mapping[str, Any]) -> Fields:
    """A row with the keys of the objects in it that tell of the same answer."""
    row = dict(record)
    for name in _SETTINGS:
        if isinstance(inner := row.get(name), dict):
            row = {key: inner[key] for key in _SETTING_NAMES if inner.get(key) is not None} | row
    if isinstance(inner := row.get("metrics"), dict):
        row = {key: inner[key] for key in LOGGED if key in inner} | row
    for name in _INNER:
        if isinstance(inner := row.get(name), dict):
            del row[name]
            row = {key: value for key, value in inner.items() if value is not None} | row
    if isinstance(row.get("tokens"), list) and {"response_length", "response_lengths"} & row.keys():
        row["input_ids"] = row.pop("tokens")  # slime: prompt and answer
    if isinstance(observed := row.get("ob"), dict):
        chunks = observed.get("chunks")
        ids = (
            [chunk.get("tokens") for chunk in chunks]
            if isinstance(chunks, list)
            and all(isinstance(chunk, dict) and isinstance(chunk.get("tokens"), list) for chunk in chunks)
            else []
        )
        row = ({"prompt_ids": [token for part in ids for token in part]} if ids else {}) | row
    if isinstance(response := row.get("response"), dict):
        row |= _response(response, row)
    if isinstance(message := row.get("message"), dict):  # of a choice
        row = {"response": message.get("content")} | _only(message, _IDENTIFIED) | row
    if isinstance(asked := row.get("responses_create_params"), dict):
        row = {"prompt": _conversation(asked.get("input"))} | row
    return row


def _conversation(items: Any) -> Any:
    """The input of a request of OpenAI's Responses as messages; None where an item is none."""
    if not isinstance(items, list):
        return items
    messages = []
    for item in items:
        content = item.get("content") if isinstance(item, dict) and "role" in item else None
        if isinstance(content, list) and all(isinstance(p, dict) and "text" in p for p in content):
            content = "".join(str(part["text"]) for part in content)
        if not isinstance(content, str):
            return None
        messages.append({"role": item["role"], "content": content})
    return messages


def _response(response: dict[str, Any], row: Fields) -> Fields:
    """A response of OpenAI's kinds: its items with token ids as `turns`, its choices as they are."""
    items = response.get("output")
    if isinstance(items, list):
        turns = [item for item in items if isinstance(item, dict) and _has_answer(item)]
        if turns:
            return {"turns": turns, "response": None}
        texts = [p.get("text") for i in items if isinstance(i, dict) for p in _list(i.get("content")) if "text" in p]
        return {"response": "".join(t for t in texts if isinstance(t, str)) or None}
    if isinstance(response.get("choices"), list):
        return {"choices": response["choices"], "response": None} | _only(response, ALIASES["prompt_ids"])
    return {"response": response.get("content", response.get("text"))} | _only(response, row.keys() ^ response.keys())


def _only(values: Mapping[str, Any], names: Any) -> Fields:
    return {name: values[name] for name in names if name in values}


def _list(value: Any) -> list[Any]:
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []


def _has_answer(part: Mapping[str, Any]) -> bool:
    ids = (*ALIASES["token_ids"], *ALIASES["input_ids"], "output_token_logprobs")
    return any(isinstance(part.get(name), list) for name in ids) or any(
        isinstance(part.get(name), str) for name in ("text", "response")
    )


def _joined(shared: Fields, log: list[dict[str, Any]]) -> Fields:
    """The messages of a log as one row of ids, with a mask of what the assistant wrote."""
    row: Fields = shared | {"input_ids": [], "loss_mask": [], "logprobs": []}
    for message in log:
        ids = _given(message, "token_ids")
        n = len(ids)
        default = [int(message.get("role") == "assistant")] * n
        row["input_ids"] += ids
        row["loss_mask"] += _given(message, "token_loss_mask") or default
        row["logprobs"] += _given(message, "generation_logprobs") or [None] * n
    return row


def _given(message: Mapping[str, Any], name: str) -> list[Any]:
    return list(value) if isinstance(value := message.get(name), list) else []


def turns_of(fields: Fields, where: str) -> list[Fields]:
    """The fields of a row that holds a list for each turn, or for each of several answers to a prompt, one by one.

    Prompt ids that are one list belong to all of them.

    Raises:
        PassageError: there are not as many lists of one thing as of another.
    """
    named = next((name for name in ("token_ids", "input_ids") if is_nested(fields.get(name))), None)
    if named is None:
        return [fields]
    ids = fields[named]
    turns: list[Fields] = []
    for turn in range(len(ids)):
        mine = dict(fields) | {named: ids[turn], "response": None}
        for name in (*_PER_TOKEN, "prompt_ids", "response_length", "attention_mask"):
            values = fields.get(name)
            if values is None or (name == "prompt_ids" and not is_nested(values)):
                continue
            if not isinstance(values, list) or len(values) != len(ids):
                count = len(values) if isinstance(values, list) else kind(values)
                raise PassageError(
                    f"{where}: {count} lists of {name} for {len(ids)} lists of {named}; give one for each turn"
                )
            mine[name] = values[turn]
        if isinstance(versions := fields.get("versions"), list) and len(versions) == len(ids):
            mine["versions"] = versions[turn]
        turns.append(mine)
    return turns


def with_plain_logprobs(fields: Fields, where: str) -> Fields:
    """The fields with log-probabilities as one number a token, and with the ids that came in pairs with them.

    Raises:
        PassageError: an entry is of no shape that is known, has no number for its token, or names another token than
            the row's ids do.
    """
    plain = dict(fields)
    if (spelled := _spelled(plain.get("token_ids"))) is not None:
        plain["token_ids"] = spelled
    for name in ("sampler_logprobs", "trainer_logprobs"):
        values = fields.get(name)
        if isinstance(values, dict):  # of OpenAI's two kinds of completions
            named = values.get("tokens")
            if not isinstance(held := values.get("token_logprobs") or values.get("content"), list):
                raise PassageError(
                    f"{where}: {name} is an object of no known shape; give a number a token, [logprob, id] or "
                    "{id: {logprob}}"
                )
            values = held
            plain[name] = values
            if isinstance(values, list) and values and all(isinstance(value, dict) for value in values):
                named = [value.get("token") for value in values]
            if plain.get("token_ids") is None and (spelled := _spelled(named)) is not None:
                plain["token_ids"] = spelled
        if not isinstance(values, list) or not {list, dict} & set(map(type, values)):
            continue
        if all(isinstance(v, list) and len(v) >= 2 and type(v[1]) is int for v in values):
            own = [value[1] for value in values]
            given = plain.get("token_ids")
            if given is None and plain.get("input_ids") is not None and plain.get("response_length") is None:
                plain |= {"token_ids": own}
            elif given is not None and list(given) != own:
                at = next((i for i, (a, b) in enumerate(zip(given, own, strict=False)) if a != b), len(own))
                raise PassageError(
                    f"{where}: the ids within {name} differ from token_ids from token {at} on; the rows of the two "
                    "columns belong to different answers"
                )
            plain.setdefault("token_ids", own)
            plain[name] = [value[0] for value in values]
        else:
            ids = plain.get("token_ids")
            plain[name] = [_number(v, ids, i, name, where) for i, v in enumerate(values)]
    return plain


def _spelled(tokens: Any) -> list[int] | None:
    """The ids that vLLM writes in place of texts (`token_id:17`) where it is asked to; None for texts."""
    if not isinstance(tokens, list) or not tokens or not isinstance(tokens[0], str):
        return None
    ids = [str(token).removeprefix("token_id:") for token in tokens]
    is_all = all(
        str(t).startswith("token_id:") and i.isascii() and i.isdigit() for t, i in zip(tokens, ids, strict=True)
    )
    return [int(i[:12]) for i in ids] if is_all else None


def _number(value: Any, ids: Any, at: int, name: str, where: str) -> Any:
    """The log-probability of one token, of an object or a list that holds it."""
    match value:
        case None | int() | float():
            return value
        case [None | int() | float() as number]:
            return number
        case {"logprob": number}:
            return number
        case dict() if isinstance(ids, list) and at < len(ids):
            entry = value.get(str(ids[at]))
            entry = entry.get("logprob") if isinstance(entry, dict) else entry
            if entry is not None:
                return entry
            raise PassageError(
                f"{where}: entry {at} of {name} has no number for token {ids[at]}, only for others; sample with "
                "logprobs=0 or more, so that the sampled token has one"
            )
    raise PassageError(
        f"{where}: entry {at} of {name} is {kind(value)} of no known shape; give a number a token, [logprob, id] or "
        "{id: {logprob}}"
    )
