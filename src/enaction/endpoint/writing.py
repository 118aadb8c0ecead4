"""A server's model as an author: passages with their token ids, as `enaction.sampling` has them of a model here.

Every setting that bends a distribution is sent with its neutral value, because servers take what a request leaves out
from the model's generation settings. Every passage has a seed of its own, from the seed, the author, the prompt and its
number; whether a server draws the same for the same seed is up to the server.

Log-probabilities belong to the distribution that was drawn from. At temperature 1 with full support there is one such;
else servers differ in what they report (vLLM: the model's own, unless it is started with `--logprobs-mode
processed_logprobs`), which is tried, and passages have log-probabilities only if they are the right ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from enaction.endpoint.client import RefusedError
from enaction.endpoint.reader import EndpointReader
from enaction.errors import FramingError, ModelError, UserError
from enaction.framing import frame_prompt, special_ids
from enaction.passages import Message, Passage, Prompt, prompt_hash
from enaction.words import Framing

if TYPE_CHECKING:
    from enaction.reader import Progress

# What vLLM, SGLang and their like would take from generation_config.json.
_NEUTRAL = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
_MOST_SEEDS = 2**31


@dataclass(frozen=True)
class Written:
    """What a server's model wrote after given ids.

    Attributes:
        ids: of the tokens, the end token included.
        logprobs: as the server reports them, nats; None if it does not.
        ended: by the model itself, not cut off.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...] | None
    ended: bool


def sample(
    reader: EndpointReader,
    prompts: Sequence[Prompt | str],
    *,
    n: int = 1,
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_new_tokens: int = 256,
    framing: Framing | None = None,
    separator: str = "\n",
    seed: int = 0,
    author: str | None = None,
    beginnings: Mapping[str, Sequence[int]] | None = None,
    numbers: Mapping[str, Sequence[int]] | None = None,
    progress: Progress | None = None,
) -> list[Passage]:
    """Sample `n` responses to each prompt, as `enaction.sampling.sample` does of a model that is here.

    Args:
        reader: the author.
        prompts: what is answered, with ids that differ; a string is one message of the user.
        n: responses to each prompt.
        temperature: 1 is the model's own distribution; 0 takes the most probable token.
        top_p: the smallest set of tokens with this probability is kept; 1 keeps all.
        max_new_tokens: cut off here, the end token included.
        framing: `assistant` or `none`; by default `assistant` where the tokenizer has a chat template.
        separator: between prompt and response in `none`.
        seed: of the seeds that are sent.
        author: name in the passages; the reader's by default.
        beginnings: prompt id -> ids that its responses begin with, as if the author had written them.
        numbers: prompt id -> which of its responses are sampled; all `n` by default.
        progress: called after each response with the number done and their total.

    Returns:
        Passages in the order of the prompts, then of their numbers; without log-probabilities where the server reports
        those of another distribution than it drew from.

    Raises:
        FramingError: a prompt cannot be framed, or with `max_new_tokens` does not fit into the server's context.
        ModelError: the server fails, or returns no token ids.
        UserError: settings out of range.
    """
    if not 0 <= temperature <= 100:
        raise UserError(f"temperature {temperature} is not possible: 0 is greedy, 1 the model's own distribution")
    if not 0 < top_p <= 1:
        raise UserError(f"top_p {top_p} is not possible: it is a probability above 0 and at most 1")
    for name, value in (("n", n), ("max_new_tokens", max_new_tokens)):
        if value < 1:
            raise UserError(f"{name} {value} is not possible: it has to be at least 1")
    framing = framing or ("assistant" if reader.has_template else "none")
    writer = author or reader.name
    requests: list[_Request] = []
    for prompt in map(_prompt, prompts):
        framed = frame_prompt(reader.tokenizer, prompt, framing, separator=separator)
        begun = tuple(beginnings[prompt.id]) if beginnings else ()
        ids, limit = (*framed.ids, *begun), reader.context_length
        if limit is not None and len(ids) + max_new_tokens > limit + 1:
            raise FramingError(
                f"prompt '{prompt.id}' has {len(ids)} tokens and with {max_new_tokens} new ones does not fit "
                f"into the {limit + 1} of {reader.name}: shorten the prompt, or lower max_new_tokens"
            )
        stops = reader.stop_ids | ({framed.end_id} if framed.end_id is not None else set())
        wanted = range(n) if numbers is None else numbers[prompt.id]
        requests += [_Request(prompt, k, ids, begun, stops, _seed(seed, writer, prompt, k)) for k in wanted]
    if not requests:
        return []
    reports_drawn = temperature in (0, 1) and top_p == 1
    if not reports_drawn:
        reports_drawn = reports_processed(reader, requests[0].ids)
    settings = {"temperature": temperature, "top_p": top_p, "max_tokens": max_new_tokens}
    written = reader.client.each(
        lambda r: write_after(reader, r.ids, stops=r.stops, seed=r.seed, **settings), requests, progress
    )
    sampling = {
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "max_new_tokens": max_new_tokens,
        "framing": framing,
    }
    passages = []
    for request, response in zip(requests, written, strict=True):
        logprobs = response.logprobs if reports_drawn else None
        if temperature == 0:
            logprobs = (0.0,) * len(response.ids)
        if request.begun:
            logprobs = None
        passages.append(_passage(reader, request, response, logprobs, writer, sampling))
    return passages


def write_after(
    reader: EndpointReader,
    ids: Sequence[int],
    *,
    max_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    stops: frozenset[int] = frozenset(),
) -> Written:
    """What the server's model writes after these ids.

    Args:
        reader: the author.
        ids: of the context.
        max_tokens: cut off here.
        temperature, top_p: of sampling.
        seed: sent to the server.
        stops: tokens that end the text, besides those that the server knows of.

    Raises:
        ModelError: the server returns no token ids, or none that fit what was asked.
    """
    asked = {
        "prompt": list(ids),
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "n": 1,
        "logprobs": 1,
        "stop_token_ids": sorted(stops),
        "skip_special_tokens": False,
        "return_token_ids": True,
        **_NEUTRAL,
    }
    url = reader.client.address.url
    remedy = "serve the model with vLLM, which takes them, or give its weights"
    try:
        choice = reader.client.complete(asked)
    except RefusedError as error:
        raise ModelError(f"{error}; sampling needs these settings, token ids among them: {remedy}") from error
    written, sent_back = choice.get("token_ids"), choice.get("prompt_token_ids")
    if not (isinstance(written, list) and all(type(i) is int and i >= 0 for i in written)):
        raise ModelError(f"{url} returns no token ids of what it writes, and text alone does not give them: {remedy}")
    if sent_back is not None and sent_back != list(ids):
        raise ModelError(f"{url} wrote after other ids than it was sent: look into what runs there")
    reason = choice.get("finish_reason")
    if reason not in ("stop", "length"):
        raise ModelError(f"{url} ended a text because of {str(reason)[:40]!r}: it is not what the model would write")
    if not written or len(written) > max_tokens or (reason == "length" and len(written) < max_tokens):
        raise ModelError(
            f"{url} returns {len(written)} tokens of a text of at most {max_tokens} that ended by '{reason}': some are "
            "missing"
        )
    return Written(tuple(written), _reported(choice, len(written), url), reason == "stop")


def reports_processed(reader: EndpointReader, ids: Sequence[int]) -> bool:
    """Whether the server reports log-probabilities after temperature, by the two likeliest tokens at 1 and at 1/2.

    False also if it cannot be told (the two are as likely as each other).
    """
    gaps = []
    for temperature in (1.0, 0.5):
        asked = {"prompt": list(ids), "max_tokens": 1, "temperature": temperature, "logprobs": 2, **_NEUTRAL}
        try:
            told = reader.client.complete(asked).get("logprobs")
        except RefusedError:
            return False
        tops = told.get("top_logprobs") if isinstance(told, dict) else None
        values = list(tops[0].values()) if isinstance(tops, list) and tops and isinstance(tops[0], dict) else []
        if len(values) < 2 or not all(isinstance(value, int | float) for value in values):
            return False
        first, second = sorted(values, reverse=True)[:2]
        gaps.append(first - second)
    return gaps[0] > 0.01 and abs(gaps[1] / gaps[0] - 2) < 0.1


def _reported(choice: dict[str, Any], count: int, url: str) -> tuple[float, ...] | None:
    """Log-probabilities of the tokens that were written, nats; None if there are none."""
    told = choice.get("logprobs")
    values = told.get("token_logprobs") if isinstance(told, dict) else None
    if values is None:
        return None
    is_list = isinstance(values, list) and all(isinstance(v, int | float) and v <= 1e-4 for v in values)
    if not is_list or len(values) != count:
        raise ModelError(f"{url} returns log-probabilities that are none, or not one for each token that it wrote")
    return tuple(min(float(v), 0.0) for v in values)


@dataclass(frozen=True)
class _Request:
    prompt: Prompt
    number: int
    ids: tuple[int, ...]  # the context, then the beginning
    begun: tuple[int, ...]
    stops: frozenset[int]
    seed: int


def _prompt(given: Prompt | str) -> Prompt:
    if isinstance(given, str):
        messages = (Message(role="user", content=given),)
        return Prompt(prompt_hash(messages), messages)
    return given


def _seed(seed: int, author: str, prompt: Prompt, number: int) -> int:
    """A passage's own seed, of the size that every server takes."""
    digest = hashlib.sha256(f"{seed}\0{author}\0{prompt.id}\0{number}".encode()).digest()
    return int.from_bytes(digest[:8]) % _MOST_SEEDS


def _passage(
    reader: EndpointReader,
    request: _Request,
    response: Written,
    logprobs: tuple[float, ...] | None,
    author: str,
    sampling: dict[str, Any],
) -> Passage:
    # A server that stops at a token of its own generation settings returns it too; one that leaves it out, does not.
    has_end = response.ended and response.ids[-1] in (request.stops | special_ids(reader.tokenizer))
    written = (*request.begun, *response.ids)
    body = written[:-1] if has_end else written
    text = reader.tokenizer.decode(list(body), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return Passage(
        id=f"{request.prompt.id}/{request.number}",
        prompt_id=request.prompt.id,
        prompt=request.prompt.messages,
        response=text,
        author=author,
        sampling=sampling | ({"begun_with": len(request.begun)} if request.begun else {}),
        token_ids=written,
        logprobs=logprobs,
        tokenizer=reader.fingerprint,
        ended=response.ended,
    )
