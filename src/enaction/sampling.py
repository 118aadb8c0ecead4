"""Sampling: how passages are written, with the author's own ids and log-probabilities.

A loop of our own over the model's cache (without a usable one, over the whole sequence again), because what the
instrument rests on has to be exact: float32 log-probabilities of the very distribution that was drawn from, full
support at temperature 1, no token dropped, no default of a generation config that bends the distribution. A response is
sampled after the ids that `framing` would read it after.

Every passage has a stream of random numbers of its own, from the seed, the author, the prompt and its number: it does
not depend on the batch size or on what shared its batch (up to rounding), and sampling more passages later adds to
what is there.

Axes: `B` rows of a batch, `T` time, `V` vocabulary.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from enaction.errors import FramingError, ModelError, UserError
from enaction.framing import frame_prompt
from enaction.passages import Message, Passage, Prompt, Sampling, prompt_hash
from enaction.reader import Progress, Reader
from enaction.reader.memory import halving
from enaction.reader.rotary import side
from enaction.reader.stepping import keep_rows
from enaction.words import Framing


def sample(
    reader: Reader,
    prompts: Sequence[Prompt | str],
    *,
    n: int = 1,
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_new_tokens: int = 256,
    framing: Framing | None = None,
    separator: str = "\n",
    seed: int = 0,
    batch_size: int = 64,
    author: str | None = None,
    beginnings: Mapping[str, Sequence[int]] | None = None,
    numbers: Mapping[str, Sequence[int]] | None = None,
    progress: Progress | None = None,
) -> list[Passage]:
    """Sample `n` responses to each prompt.

    A response ends with the end-of-turn token of the template or an EOS of the model's generation settings; that token
    is the last of `token_ids`, and `ended` is True. A response cut off at `max_new_tokens` has `ended` False and no
    such token. `logprobs` are those of the distribution drawn from: tempered, and cut and renormalised where
    `top_p < 1`. The text is the decoded ids without the end token; special tokens inside a response stay visible in
    it. A response that ends at once has an empty text and one token, and is kept: leaving it out would bend what the
    author says.

    Args:
        reader: the author.
        prompts: what is answered, with ids that differ; a string is one message of the user.
        n: responses to each prompt; their ids are `PROMPT/0` to `PROMPT/n-1`.
        temperature: 1 is the model's own distribution; 0 takes the most probable token, the first of equals.
            Nothing is drawn then, and all log-probabilities are 0.
        top_p: the smallest set of tokens with this probability is kept; 1 keeps all.
        max_new_tokens: cut off here, the end token included.
        framing: `assistant` or `none`; by default `assistant` where the tokenizer has a chat template.
        separator: between prompt and response in `none`.
        seed: of all random numbers, with author, prompt id and number.
        batch_size: responses that are sampled together.
        author: name in the passages; the reader's by default.
        beginnings: prompt id -> ids that its responses begin with, as if the author had written them (a prefill);
            `framing.beginning_ids` makes them from text. They are part of the passage, `sampling["begun_with"]` is
            their number; such a passage has no `logprobs`. `max_new_tokens` counts what is drawn.
        numbers: prompt id -> which of its responses are sampled; all `n` by default. A response is the same whatever
            is sampled beside it, so that this adds to what exists.
        progress: called after each batch with the number of passages done and their total.

    Returns:
        Passages in the order of the prompts, then of their numbers.

    A batch that memory has no room for is sampled in halves, with the same responses.

    Raises:
        FramingError: a prompt cannot be framed, with `max_new_tokens` does not fit into the context, or holds ids that
            the model does not have.
        ModelError: memory has no room for one response by itself, or logits are NaN or infinite.
        UserError: settings out of range.
    """
    settings = _settings(n, temperature, top_p, max_new_tokens, batch_size)
    framing = framing or ("assistant" if reader.has_template else "none")
    writer = author or reader.name
    sampling = {
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "max_new_tokens": max_new_tokens,
        "framing": framing,
    }
    requests: list[_Request] = []
    for prompt in map(_prompt, prompts):
        framed = frame_prompt(reader.tokenizer, prompt, framing, separator=separator)
        begun = tuple(beginnings[prompt.id]) if beginnings else ()
        ids = (*framed.ids, *begun)
        _check_context(reader, prompt, len(ids), max_new_tokens)
        reader.check_ids(ids, f"prompt '{prompt.id}'")
        stops = reader.stop_ids | ({framed.end_id} if framed.end_id is not None else set())
        wanted = range(n) if numbers is None else numbers[prompt.id]
        requests += [_Request(prompt, k, ids, begun, stops, _stream(seed, writer, prompt, k)) for k in wanted]
    order = sorted(range(len(requests)), key=lambda i: len(requests[i].ids))
    responses: dict[int, _Response] = {}
    with reader.reading():
        sampled = halving(
            _batches(requests, order, settings.batch_size, lambda r: _company(reader, r, max_new_tokens)),
            lambda batch: _sample_batch(reader, [requests[i] for i in batch], settings),
            size=lambda batch: len(batch) * (len(requests[batch[-1]].ids) + max_new_tokens),
            too_large=lambda i: (
                f"memory has no room for {reader.name} with one response to prompt '{requests[i].prompt.id}': use "
                "bfloat16, lower max_new_tokens, or take a larger machine"
            ),
        )
        for batch, drawn in sampled:
            responses.update(zip(batch, drawn, strict=True))
            if progress is not None:
                progress(len(responses), len(requests))
    return [_passage(reader, request, responses[i], writer, sampling) for i, request in enumerate(requests)]


def _prompt(given: Prompt | str) -> Prompt:
    if isinstance(given, str):
        messages = (Message(role="user", content=given),)
        return Prompt(prompt_hash(messages), messages)
    return given


def continuation(
    reader: Reader, ids: Sequence[int], max_new_tokens: int, *, seed: int = 0
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """What a model writes after these ids at temperature 1, end tokens included, with the log-probabilities, nats."""
    prompt = Prompt("ids", ())
    request = _Request(prompt, 0, tuple(ids), (), frozenset(), _stream(seed, reader.name, prompt, 0))
    with reader.reading():
        (response,) = _sample_batch(reader, [request], Sampling(max_new_tokens=max_new_tokens))
    return response.ids, response.logprobs


@dataclass(frozen=True)
class _Request:
    prompt: Prompt
    number: int
    ids: tuple[int, ...]  # the context, then the beginning
    begun: tuple[int, ...]
    stops: frozenset[int]
    stream: int

    def uniform(self, count: int) -> np.ndarray:
        """The same numbers [count] each time, for a batch may have to be sampled again in halves."""
        return np.random.Generator(np.random.PCG64(self.stream)).random(count)


@dataclass(frozen=True)
class _Response:
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    ended: bool


def _sample_batch(reader: Reader, requests: list[_Request], settings: Sampling) -> list[_Response]:
    """Draw one response for each request; finished rows leave the batch once they are a quarter of it."""
    device, rows, max_new_tokens = reader.device, len(requests), settings.max_new_tokens
    lengths = torch.tensor([len(r.ids) for r in requests])
    longest = int(lengths.max())
    # Left padding puts the newest token of every row into the last column. Room for the whole response is made now.
    ids_BT = torch.zeros((rows, longest), dtype=torch.long)
    mask_BT = torch.ones((rows, longest + max_new_tokens), dtype=torch.long)
    for row, request in enumerate(requests):
        ids_BT[row, longest - len(request.ids) :] = torch.tensor(request.ids)
        mask_BT[row, : longest - len(request.ids)] = 0
    is_padded = int(lengths.min()) < longest
    ids_BT, mask_BT = ids_BT.to(device), mask_BT.to(device)
    positions_B1 = (lengths[:, None] - 1).to(device)
    uniform_BT = torch.from_numpy(np.stack([r.uniform(max_new_tokens) for r in requests])).to(device)
    stops = sorted(set().union(*(r.stops for r in requests)))
    # stops_BS[b, s]: whether stop token s ends row b; templates may differ in nothing, so this is mostly all True.
    stop_S = torch.tensor(stops, dtype=torch.long, device=device)
    stops_BS = torch.tensor([[s in r.stops for s in stops] for r in requests], dtype=torch.bool, device=device)

    drawn_BT = torch.zeros((rows, max_new_tokens), dtype=torch.long, device=device)
    logprob_BT = torch.zeros((rows, max_new_tokens), device=device)
    length_B = torch.full((rows,), max_new_tokens, device=device)
    ended_B = torch.zeros(rows, dtype=torch.bool, device=device)
    # Rows of the batch that are still in the cache, and whether each of them is unfinished.
    kept_B = torch.arange(rows, device=device)
    live_B = torch.ones(rows, dtype=torch.bool, device=device)

    new_BT, cache = ids_BT, None
    positions_BT = (mask_BT[:, :longest].cumsum(1) - 1).clamp(min=0)
    for step in range(max_new_tokens):
        if step and side(longest + step, reader.rotary_switches) != side(longest + step - 1, reader.rotary_switches):
            # The model rotates all positions otherwise from here on: what it has read is read again. The rows of such a
            # batch have one length.
            new_BT, cache = torch.cat([ids_BT[kept_B], drawn_BT[kept_B, :step]], 1), None
        mask = mask_BT[kept_B, : longest + step] if is_padded else None
        logits_BV, cache = reader.next_logits(new_BT, mask, positions_BT if is_padded else None, cache)
        token_B, logprob_B = draw(logits_BV, uniform_BT[kept_B, step], settings.temperature, settings.top_p)
        drawn_BT[kept_B, step] = token_B
        logprob_BT[kept_B, step] = logprob_B
        stopped_B = live_B & ((token_B[:, None] == stop_S) & stops_BS[kept_B]).any(1)
        length_B[kept_B[stopped_B]] = step + 1
        ended_B[kept_B[stopped_B]] = True
        live_B = live_B & ~stopped_B
        live = int(live_B.sum())
        if live == 0:
            break
        if live <= 0.75 * len(kept_B) and reader.route.drops_rows:
            index = live_B.nonzero().squeeze(1)
            keep_rows(cache, index)
            kept_B, token_B, live_B = kept_B[index], token_B[index], live_B[index]
        new_BT = token_B[:, None]
        positions_BT = positions_B1[kept_B] + step + 1
    responses = []
    for ids, logprobs, length, ended in zip(
        drawn_BT.tolist(), logprob_BT.tolist(), length_B.tolist(), ended_B.tolist(), strict=True
    ):
        responses.append(_Response(tuple(ids[:length]), tuple(logprobs[:length]), ended))
    for request, response in zip(requests, responses, strict=True):
        if any(map(math.isnan, response.logprobs)):
            raise ModelError(
                f"logits of {reader.name} ({reader.dtype}) became NaN or infinite in a response to prompt "
                f"'{request.prompt.id}': load it as float32 or bfloat16; if it is that, its weights are damaged"
            )
    return responses


def draw(logits_BV: Tensor, uniform_B: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
    """One token for each row by inverting the distribution function, and its log-probability; at 0 the most probable.

    The cumulative sum is float64: in float32 the tail of a large vocabulary would be lost to rounding, and with it the
    full support that the identity residual rests on.
    """
    if temperature == 0.0:
        return logits_BV.argmax(1), torch.zeros(len(logits_BV), device=logits_BV.device)
    if temperature != 1.0:
        logits_BV = logits_BV / temperature
    logprob_BV = torch.log_softmax(logits_BV, 1)
    if top_p < 1.0:
        logprob_BV = _nucleus(logprob_BV, top_p)
    cumulative_BV = logprob_BV.double().exp_().cumsum_(1)
    threshold_B1 = uniform_B[:, None] * cumulative_BV[:, -1:]
    # The first token whose cumulative probability exceeds the threshold; one of probability 0 never does so first.
    token_B1 = torch.searchsorted(cumulative_BV, threshold_B1, right=True).clamp_(max=logits_BV.shape[1] - 1)
    return token_B1.squeeze(1), logprob_BV.gather(1, token_B1).squeeze(1)


def _nucleus(logprob_BV: Tensor, top_p: float) -> Tensor:
    """Keep the smallest set of most probable tokens that holds `top_p`, renormalised; the rest has probability 0."""
    ordered_BV, index_BV = logprob_BV.sort(1, descending=True)
    p_BV = ordered_BV.exp()
    outside_BV = p_BV.cumsum(1) - p_BV >= top_p
    kept_BV = ordered_BV.masked_fill(outside_BV, float("-inf"))
    return torch.full_like(logprob_BV, float("-inf")).scatter_(1, index_BV, torch.log_softmax(kept_BV, 1))


def _company(reader: Reader, request: _Request, max_new_tokens: int) -> tuple[int, int]:
    """What requests of one batch have in common: a length, unless they can be padded and stay on one rotary side."""
    length, switches = len(request.ids), reader.rotary_switches
    on = side(length, switches)
    crosses = side(length + max_new_tokens - 1, switches) != on
    return on, length if crosses or not reader.takes_left_padding else 0


def _batches(
    requests: list[_Request], order: list[int], size: int, company: Callable[[_Request], tuple[int, int]]
) -> Iterator[list[int]]:
    """Requests in order of length, `size` at a time, of one company."""
    batch: list[int] = []
    for index in order:
        if len(batch) == size or (batch and company(requests[index]) != company(requests[batch[0]])):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _passage(reader: Reader, request: _Request, response: _Response, author: str, sampling: dict) -> Passage:
    written = (*request.begun, *response.ids)
    body = written[:-1] if response.ended else written
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
        logprobs=None if request.begun else response.logprobs,
        tokenizer=reader.fingerprint,
        ended=response.ended,
    )


def _stream(seed: int, author: str, prompt: Prompt, number: int) -> int:
    """Seed of this passage's own numbers. The author is in it, so that two similar models do not write in lockstep."""
    digest = hashlib.sha256(f"{seed}\0{author}\0{prompt.id}\0{number}".encode()).digest()
    return int.from_bytes(digest[:16])


def _settings(n: int, temperature: float, top_p: float, max_new_tokens: int, batch_size: int) -> Sampling:
    if not temperature >= 0:
        raise UserError(f"temperature {temperature} is not possible: 0 is greedy, 1 the model's own distribution")
    if not 0 < top_p <= 1:
        raise UserError(f"top_p {top_p} is not possible: it is a probability above 0 and at most 1")
    for name, value in (("n", n), ("max_new_tokens", max_new_tokens), ("batch_size", batch_size)):
        if value < 1:
            raise UserError(f"{name} {value} is not possible: it has to be at least 1")
    return Sampling(
        per_prompt=n, temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, batch_size=batch_size
    )


def _check_context(reader: Reader, prompt: Prompt, length: int, max_new_tokens: int) -> None:
    limit = reader.context_length
    if limit is not None and length + max_new_tokens > limit:
        raise FramingError(
            f"prompt '{prompt.id}' has {length} tokens and with {max_new_tokens} new ones does not fit into the "
            f"{limit} of {reader.name}: shorten the prompt, or lower max_new_tokens"
        )
