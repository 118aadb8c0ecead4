"""What a server says about given ids: the log-probability of each, and the likeliest tokens in its place.

Servers are asked in several ways, the one with most information first. What comes back is believed only if it has an
entry for every id that was sent, and each entry names the id that was sent: some servers ignore the request and return
log-probabilities of what they generated (llama.cpp), and others put a token of their own in front.

Axes: `N` measured tokens, `k` likeliest tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from enaction.endpoint.client import Client, RefusedError
from enaction.endpoint.vocabulary import require_same_words
from enaction.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Likeliest tokens to ask for if the server takes so many: vLLM's default limit, then others'.
TOP = 20
_FEWER = (20, 10, 5, 1, 0)
# Servers round, and add in half precision.
_ABOVE_ZERO, _ABOVE_ONE = 1e-4, 1e-2
# What vLLM writes for minus infinity, which JSON does not have.
_NONE_AT_ALL = -9999.0
_AS_ID = "token_id:"


@dataclass(frozen=True)
class Observed:
    """What is known about the measured tokens of one passage; element i describes ONE prediction, before temperature.

    Attributes:
        logprob: float64 [N], log p of the token that came, nats.
        rank: int32 [N], number of tokens that are more probable; 0 is the most probable, -1 where it is not known.
        top_ids: int32 [N, k], the most probable tokens, most probable first; -1 where the server says only its text.
        top_logprobs: float64 [N, k], their log p; -inf beyond those that the server gave.
        place: int32 [N], where in `top_ids` the token is that came; -1 if it is not among them.
    """

    logprob: np.ndarray
    rank: np.ndarray
    top_ids: np.ndarray
    top_logprobs: np.ndarray
    place: np.ndarray

    def __len__(self) -> int:
        return len(self.logprob)

    @property
    def tail_mass(self) -> np.ndarray:
        """float64 [N], probability of all tokens but the likeliest `k`, by subtraction."""
        return np.clip(1.0 - np.exp(self.top_logprobs).sum(1), 0.0, 1.0)


@dataclass(frozen=True)
class Way:
    """A form of request that a server answers.

    Attributes:
        name: `prompt_logprobs` of vLLM, `echo by id` and `echo` of the older API.
        top: likeliest tokens to ask for.
        new: tokens that have to be generated at least, which are thrown away.
    """

    name: str
    top: int
    new: int

    @property
    def names_ids(self) -> bool:
        """Whether the likeliest tokens come with their ids."""
        return self.name != "echo"

    def payload(self, ids: Sequence[int]) -> dict[str, Any]:
        """The request for these ids."""
        asked: dict[str, Any] = {"prompt": list(ids), "max_tokens": self.new, "temperature": 0}
        if self.name == "prompt_logprobs":
            return asked | {"prompt_logprobs": self.top}
        by_id = {"return_tokens_as_token_ids": True} if self.name == "echo by id" else {}
        return asked | {"echo": True, "logprobs": self.top} | by_id


_WAYS = (
    Way("prompt_logprobs", TOP, 1),
    Way("echo by id", TOP, 0),
    Way("echo by id", TOP, 1),
    Way("echo", TOP, 0),
    Way("echo", TOP, 1),
)


def find_way(client: Client, tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], top: int = TOP) -> Way:
    """The first way in which the server tells log-probabilities of given ids, with as many likeliest tokens as it may.

    Args:
        client: of the server.
        tokenizer: of the model; the server has to call tokens by the same words.
        ids: of a short text.
        top: likeliest tokens to ask for; fewer are taken where the server refuses so many.

    Raises:
        ModelError: none, with what became of each; or another tokenizer.
    """
    reasons: dict[str, str] = {}
    for way in _WAYS:
        for count in [top, *(fewer for fewer in _FEWER if fewer < top)]:
            tried = replace(way, top=count)
            try:
                rows = observe(client, tried, ids, 1)[1]
            except RefusedError as error:
                reasons[way.name] = str(error)
                if "logprob" not in str(error):
                    break  # not the number is refused
            except UnansweredError as error:
                reasons[way.name] = str(error)
                break
            else:
                named = [(row.token, row.word) for row in rows if row.word is not None]
                require_same_words(tokenizer, named, client.address.model)
                return tried
    told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    raise ModelError(
        f"{client.address.url} gives no log-probabilities of given tokens ({told}): serve the model with vLLM, or give "
        "its weights"
    )


def observe(client: Client, way: Way, ids: Sequence[int], start: int) -> tuple[Observed, list[_Row]]:
    """What the server says about `ids[start:]`, and the same as rows.

    Args:
        client: of the server.
        way: that it answers.
        ids: at least two.
        start: of the first measured token, at least 1.

    Raises:
        RefusedError: it does not take the request.
        ModelError: entries are missing, are of other tokens, or are no log-probabilities.
    """
    choice = client.complete(way.payload(ids))
    _require_count(choice, ids)
    rows = _prompt_rows(choice, ids) if way.name == "prompt_logprobs" else _echo_rows(choice, ids, way)
    rows = rows[start - 1 :]
    count = len(rows)
    top_ids_Nk = np.full((count, way.top), -1, dtype=np.int32)
    top_logprobs_Nk = np.full((count, way.top), -np.inf)
    rank_N, place_N = np.full(count, -1, dtype=np.int32), np.full(count, -1, dtype=np.int32)
    for n, row in enumerate(rows):
        likeliest = sorted(row.others, key=lambda other: -other[1])[: way.top]
        # Servers add the token that came to the likeliest, which it follows if it is none of them.
        for j, (token, logprob) in enumerate(likeliest):
            top_ids_Nk[n, j], top_logprobs_Nk[n, j] = token, logprob
            if token == row.token:
                place_N[n] = j
        if row.rank is not None:
            rank_N[n] = row.rank
        elif place_N[n] >= 0:
            rank_N[n] = int((top_logprobs_Nk[n] > row.logprob).sum())
    if count and (worst := float(np.exp(top_logprobs_Nk).sum(1).max())) > 1 + _ABOVE_ONE:
        raise UnansweredError(f"the likeliest tokens have a probability of {worst:.3g} together")
    logprob_N = np.array([row.logprob for row in rows], dtype=np.float64)
    return Observed(logprob_N, rank_N, top_ids_Nk, top_logprobs_Nk, place_N), rows


class UnansweredError(ModelError):
    """An answer that is not about the ids that were sent, or is none."""


@dataclass(frozen=True)
class _Row:
    """An entry of the answer.

    Attributes:
        token: the id that was sent.
        logprob: its log p, nats.
        rank: tokens that are more probable; None if the server does not say.
        word: what the server calls the token, None if it does not say.
        others: the likeliest tokens, the one that was sent among them where the server adds it, each with its log p;
            -1 for an id that is not known.
    """

    token: int
    logprob: float
    rank: int | None
    word: str | None
    others: list[tuple[int, float]]


def _require_count(choice: Mapping[str, Any], ids: Sequence[int]) -> None:
    """Fail where the server says that it read another number of tokens."""
    usage = choice.get("usage")
    read = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    if isinstance(read, int) and read not in (0, len(ids)):  # 0: not counted
        raise UnansweredError(
            f"of {len(ids)} ids it makes {read} tokens; it adds some of its own (BOS) or reads the ids as text"
        )


def _prompt_rows(choice: Mapping[str, Any], ids: Sequence[int]) -> list[_Row]:
    """Rows of all ids but the first, from `prompt_logprobs`, which maps ids to log-probability and rank."""
    entries = choice.get("prompt_logprobs")
    if not isinstance(entries, list):
        raise UnansweredError("the answer has none")
    _require_length(entries, ids)
    rows = []
    for number, (token, entry) in enumerate(zip(ids[1:], entries[1:], strict=True), start=1):
        if not (isinstance(entry, dict) and isinstance(entry.get(str(token)), dict)):
            raise UnansweredError(f"entry {number} is not about the token that was sent")
        own = entry[str(token)]
        rank, word = own.get("rank"), own.get("decoded_token")
        others = [(_id(key), _logprob(of.get("logprob") if isinstance(of, dict) else of)) for key, of in entry.items()]
        rows.append(
            _Row(
                token,
                _logprob(own.get("logprob")),
                rank - 1 if isinstance(rank, int) and rank > 0 else None,
                word if isinstance(word, str) else None,
                others,
            )
        )
    return rows


def _echo_rows(choice: Mapping[str, Any], ids: Sequence[int], way: Way) -> list[_Row]:
    """Rows of all ids but the first, from the lists that `echo` gives; what was generated follows them."""
    told = choice.get("logprobs")
    if not isinstance(told, dict):
        raise UnansweredError("the answer has no log-probabilities")
    words, logprobs, tops = told.get("tokens"), told.get("token_logprobs"), told.get("top_logprobs")
    if not (isinstance(words, list) and isinstance(logprobs, list) and all(isinstance(w, str) for w in words)):
        raise UnansweredError("the answer has no log-probabilities")
    for entries in (words, logprobs):
        _require_length(entries, ids, way.new)
    if not isinstance(tops, list) or len(tops) != len(words):
        if way.top:
            raise UnansweredError("the answer has no likeliest tokens")
        tops = [None] * len(words)
    rows = []
    for number in range(1, len(ids)):
        token, word, top = ids[number], words[number], tops[number]
        by_id = word.removeprefix(_AS_ID) != word
        if way.names_ids != by_id or (by_id and word != f"{_AS_ID}{token}"):
            what = "is not about the token that was sent" if by_id else "names no id"
            raise UnansweredError(f"entry {number} {what}")
        logprob = _logprob(logprobs[number])
        listed = [(key, _logprob(value)) for key, value in top.items()] if isinstance(top, dict) else []
        if by_id:
            others = [(_id(key.removeprefix(_AS_ID)), value) for key, value in listed]
        else:
            # Tokens of the same text share an entry: only one of the same log-probability is this token's.
            others = [(token if (key, value) == (word, logprob) else -1, value) for key, value in listed]
        rows.append(_Row(token, logprob, None, None if by_id else word, others))
    return rows


def _require_length(entries: list[Any], ids: Sequence[int], new: int = 0) -> None:
    """Fail unless there is an entry for each id, and for what was generated."""
    if not len(ids) <= len(entries) <= len(ids) + new:
        what = " (those of generated tokens alone?)" if len(entries) <= max(1, new) else ""
        raise UnansweredError(f"{len(entries)} entries for {len(ids)} tokens{what}")


def _logprob(value: Any) -> float:
    """A log-probability in nats, at most 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value > _ABOVE_ZERO:
        raise UnansweredError(f"{str(value)[:20]} is given as a log-probability")
    return -math.inf if value <= _NONE_AT_ALL else min(float(value), 0.0)


def _id(key: str) -> int:
    if not key.isdecimal() or len(key) > 9:
        raise UnansweredError(f"{key[:20]!r} is given as a token id")
    return int(key)
