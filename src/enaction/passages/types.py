"""Messages, prompts and passages as data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")


class Message(TypedDict):
    """One turn of a conversation.

    A message read from a file keeps its other keys too (`tool_calls`, `name`, `reasoning_content`), which a chat
    template may show; `extras_of` gives them.
    """

    role: str
    content: str


# Keys of a message that name or date it: nobody means a model to read them, though a template may.
_LABELS = ("id", "tool_call_id", "type", "timestamp", "created_at")


def extras_of(message: Message) -> dict[str, Any]:
    """What a message has besides role and content."""
    return {key: value for key, value in message.items() if key not in ("role", "content")}


def worded_extras(message: Message) -> list[str]:
    """Keys besides role and content that hold something to read, such as `tool_calls` or `reasoning_content`."""
    return [k for k, v in extras_of(message).items() if isinstance(v, str | list | dict) and v and k not in _LABELS]


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

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    per_prompt: Annotated[int, Field(ge=1, le=10_000)] = 2
    temperature: Annotated[float, Field(ge=0, le=100)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_new_tokens: Annotated[int, Field(ge=1, le=10**6)] = 110
    batch_size: Annotated[int, Field(ge=1, le=10**5)] = 64


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
    turns = [[m["role"], m["content"], *([extras] if (extras := extras_of(m)) else [])] for m in messages]
    canonical = json.dumps(turns, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]
