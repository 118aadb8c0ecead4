"""One row, with its fields found, as a rollout: the answer's ids, with one number and one mark for each of them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from enaction.errors import PassageError
from enaction.passages import Message, prompt_hash
from enaction.passages.rows import messages_of
from enaction.rollouts.numbers import floats_of, ids_of, mask_of, setting_of
from enaction.rollouts.types import Rollout, Span


def rollout_of(fields: Mapping[str, Any], where: str) -> Rollout:
    """A rollout.

    Args:
        fields: by the names of `aliases.ALIASES`; `id` is there, and ids, input ids or a response.
        where: the row is, for messages.

    Raises:
        PassageError: something is of another kind, or lengths do not fit.
    """
    prompt_ids, token_ids, mask = _tokens(fields, where)
    n, before = len(token_ids or ()), len(prompt_ids or ())
    named = [name for name in ("sampler_logprobs", "trainer_logprobs", "entropies") if fields.get(name) is not None]
    if named and token_ids is None:
        raise PassageError(f"{where}: {named[0]} without token ids mean nothing; add the ids of the answer (token_ids)")
    numbers = {name: _aligned(fields[name], name, n, before, mask, where) for name in named}
    prompt = _prompt(fields.get("prompt"), where, is_needed=prompt_ids is None)
    return Rollout(
        id=fields["id"],
        cluster=_cluster(fields, prompt, prompt_ids),
        prompt=prompt,
        prompt_ids=prompt_ids,
        response=_response(fields.get("response"), where),
        token_ids=token_ids,
        mask=mask,
        sampler_logprobs=numbers.get("sampler_logprobs"),
        trainer_logprobs=numbers.get("trainer_logprobs"),
        entropies=numbers.get("entropies"),
        versions=_versions(fields.get("versions"), n, before, where),
        temperature=setting_of(fields.get("temperature"), "temperature", where, 0.0, 100.0),
        top_p=setting_of(fields.get("top_p"), "top_p", where, 0.0, 1.0),
        top_k=_top_k(fields.get("top_k"), where),
        logged=dict(fields.get("logged") or {}) or None,
    )


Ids = tuple[int, ...]


def _tokens(fields: Mapping[str, Any], where: str) -> tuple[Ids | None, Ids | None, np.ndarray | None]:
    """Ids of the prompt, ids of the answer, and its mask [N]."""
    mask = None if fields.get("mask") is None else mask_of(fields["mask"], "mask", where)
    attended = None if (a := fields.get("attention_mask")) is None else mask_of(a, "attention_mask", where)
    prompt_ids = None if (p := fields.get("prompt_ids")) is None else ids_of(p, "prompt_ids", where)
    if fields.get("token_ids") is None:
        if fields.get("input_ids") is None:
            return prompt_ids, None, None
        whole = ids_of(fields["input_ids"], "input_ids", where)
        start = _start(fields, len(whole), mask, prompt_ids, where)
        prompt_ids, token_ids = whole[:start], whole[start:]
    else:
        token_ids = ids_of(fields["token_ids"], "token_ids", where)
        if prompt_ids is None and mask is not None and len(mask) == len(token_ids) and mask.any() and not mask[0]:
            start = int(np.argmax(mask))  # they begin with the prompt, which is not trained on
            prompt_ids, token_ids = token_ids[:start], token_ids[start:]
    n, before = len(token_ids), len(prompt_ids or ())
    if mask is not None:
        mask = _tail(mask, "mask", n, before, where)
    if attended is not None and len(attended) in (n, before + n):
        attends = attended[len(attended) - n :]
        if not attends.all():  # padding after the answer
            mask = attends if mask is None else mask & attends
        if prompt_ids is not None and len(attended) == before + n:  # padding before the prompt
            prompt_ids = tuple(i for i, a in zip(prompt_ids, attended, strict=False) if a)
    return prompt_ids, token_ids, mask


def _start(fields: Mapping[str, Any], n: int, mask: np.ndarray | None, prompt_ids: Ids | None, where: str) -> int:
    """Where the answer begins in ids that hold prompt and answer."""
    if (length := fields.get("response_length")) is not None:
        if type(length) is not int or not 0 <= length <= n:
            raise PassageError(f"{where}: response_length must be from 0 to the {n} input_ids; correct it")
        return n - length
    if mask is not None and 0 < len(mask) < n:
        return n - len(mask)
    if mask is not None and len(mask) == n:
        if not mask.any():
            raise PassageError(f"{where}: no token is trainable under the mask; take the row out")
        return int(np.argmax(mask))
    if mask is not None:
        raise PassageError(f"{where}: {len(mask)} entries of the mask for {n} input_ids; give one for each token")
    if prompt_ids is not None and ids_of(fields["input_ids"], "input_ids", where)[: len(prompt_ids)] == prompt_ids:
        return len(prompt_ids)
    raise PassageError(
        f"{where}: input_ids hold the prompt and the answer; add loss_mask (1 for each token of the answer), or name "
        "the answer's ids with --column token_ids=NAME"
    )


def _tail(values: np.ndarray, name: str, n: int, before: int, where: str) -> np.ndarray:
    """The entries of the answer, of a list that may cover the prompt too.

    Raises:
        PassageError: the list covers neither. It is never cut or filled, which would shift the numbers.
    """
    if len(values) == n:
        return values
    if before and len(values) == before + n:
        return values[before:]
    also = f" (and {before} of the prompt)" if before else ""
    remedy = "give one for each token of the answer, null where there is none"
    if before and len(values) == before + n - 1:  # of the predictions of a whole sequence, which has none of its first
        remedy = "if they begin with the second token of the prompt, put null before them"
    raise PassageError(f"{where}: {len(values)} entries of {name} for {n} token_ids{also}; {remedy}")


def _aligned(values: Any, name: str, n: int, before: int, mask: np.ndarray | None, where: str) -> np.ndarray:
    """Numbers [N], nats; NaN for null, and for the placeholder 0 of a token that the mask leaves out."""
    count = len(values) if isinstance(values, list) else n
    left_out = (
        np.zeros(count, dtype=bool)
        if mask is None
        else np.concatenate([np.ones(count - n, bool), ~mask])
        if count >= n
        else np.zeros(count, dtype=bool)
    )
    array = _tail(floats_of(values, name, where, left_out), name, n, before, where)
    if mask is not None:
        array = np.where(~mask & (array == 0.0), np.nan, array)
    return array


def _prompt(value: Any, where: str, *, is_needed: bool) -> tuple[Message, ...] | None:
    """The messages of the prompt; None where they are not text (pictures) and ids say what the sampler had."""
    try:
        return None if value is None else messages_of({"prompt": value}, "prompt", where)
    except PassageError:
        if is_needed:
            raise
        return None


def _response(value: Any, where: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return messages_of({"response": value}, "response", where)[-1]["content"]


def _cluster(fields: Mapping[str, Any], prompt: tuple[Message, ...] | None, prompt_ids: Ids | None) -> str:
    """The prompt's name, or one made of it; that of the rollout where there is no prompt."""
    if fields.get("cluster") is not None:
        return str(fields["cluster"])
    if prompt:
        return prompt_hash(prompt)
    if prompt_ids:
        return hashlib.sha256(np.array(prompt_ids, dtype="<i4").tobytes()).hexdigest()[:12]
    return fields["id"]


def _top_k(value: Any, where: str) -> int | None:
    """Top-k; None for null and for the 0 and -1 that turn it off."""
    number = setting_of(value, "top_k", where, -1, 2**31)
    return None if number is None or number < 1 else int(number)


def _versions(value: Any, n: int, before: int, where: str) -> tuple[Span, ...]:
    """Spans of one version of the weights: as given, a version a token, or one for all."""
    if value is None or value == [] or n == 0:
        return ()
    if isinstance(value, str | int):
        return (Span(str(value), 0, n),)
    if not isinstance(value, list):
        raise PassageError(f"{where}: versions must be a list of {{version, start, end}}; correct it or leave it out")
    if all(isinstance(part, dict) for part in value):
        spans = [_span(part, before + n, where) for part in value]
        if any(span.stop > n for span in spans):  # counted from the first token of the prompt
            spans = [Span(s.version, max(0, s.start - before), max(0, s.stop - before)) for s in spans]
        return tuple(span for span in spans if span.stop > span.start)
    names = [str(part) for part in (value[before:] if len(value) == before + n else value)]
    if len(names) != n:  # one for each call, which says nothing of where it ended, unless all are one
        return (Span(names[0], 0, n),) if len(set(names)) == 1 else ()
    edges = [0, *(i for i in range(1, n) if names[i] != names[i - 1]), n]
    return tuple(Span(names[a], a, b) for a, b in itertools.pairwise(edges))


def _span(part: dict[str, Any], n: int, where: str) -> Span:
    start, stop = part.get("start"), part.get("end", part.get("stop"))
    if type(start) is not int or type(stop) is not int or not 0 <= start <= stop <= n or "version" not in part:
        raise PassageError(
            f"{where}: a version must be {{version, start, end}} within the {n} tokens; correct it or leave it out"
        )
    return Span(str(part["version"]), start, stop)
