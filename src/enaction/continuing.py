"""Sampling under interventions: what a model writes after given ids while its states are changed.

One text at a time, many continuations of it: the text is read once under the edits, its cache is repeated, and edits at
every position go on for the tokens that are drawn. Without edits it draws from what `sample` draws from.

Axes: `B` continuations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from enaction.errors import FramingError
from enaction.reader import Reader
from enaction.reader.interventions import Edit, intervening
from enaction.sampling import draw


class Continuation(NamedTuple):
    """What was drawn.

    Attributes:
        ids: the tokens, the end token included.
        logprobs: float, nats, of each under the distribution that it was drawn from.
        ended: whether it ends with an end token.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    ended: bool


def continued(
    reader: Reader,
    ids: Sequence[int],
    n: int,
    max_new_tokens: int,
    *,
    edits: Sequence[Edit] = (),
    stops: frozenset[int] | None = None,
    temperature: float = 1.0,
    seed: int = 0,
) -> list[Continuation]:
    """Draw `n` continuations of a text.

    Args:
        reader: who writes.
        ids: what is read first, at least one token.
        n: continuations.
        max_new_tokens: cut off here.
        edits: each with positions in `ids`, or None for every position, those that are drawn included.
        stops: tokens that end a continuation; by default the reader's.
        temperature: 1 is the model's own distribution; 0 takes the most probable token.
        seed: of the random numbers, with the ids.

    Raises:
        FramingError: the text and its continuation do not fit into the context, or on one side of a change of rotation.
        UserError: an edit that the model does not take.
    """
    _require_room(reader, ids, max_new_tokens)
    stops = reader.stop_ids if stops is None else stops
    digest = hashlib.sha256(f"{seed}\0{','.join(map(str, ids))}".encode()).digest()
    uniform_BT = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16]))).random((n, max_new_tokens))
    uniform = torch.from_numpy(uniform_BT).to(reader.device)
    is_cached = reader.route.is_cached
    drawn: list[torch.Tensor] = []
    logprobs: list[torch.Tensor] = []
    text_1T, cache = torch.tensor([list(ids)], device=reader.device), None
    ended_B = torch.zeros(n, dtype=torch.bool, device=reader.device)
    stop_S = torch.tensor(sorted(stops), dtype=torch.long, device=reader.device)
    with reader.reading(), intervening(reader, edits) as at:
        for step in range(max_new_tokens):
            if cache is not None:
                at(len(ids) + step - 1)
                output = reader.forward.run(input_ids=drawn[-1][:, None], past_key_values=cache, use_cache=True)
            else:
                # The first time, or a model without a cache that can be repeated: the whole text.
                at(0)
                whole = text_1T if not drawn else torch.cat([text_1T.expand(n, -1), torch.stack(drawn, 1)], 1)
                output = reader.forward.run(input_ids=whole, use_cache=is_cached)
                cache = getattr(output, "past_key_values", None) if is_cached else None
                if cache is not None and hasattr(cache, "batch_repeat_interleave"):
                    cache.batch_repeat_interleave(n)
                else:
                    cache = None  # a state that cannot be repeated (Mamba): every step reads the whole text
            logits_BV = reader.forward.logits(output, -1)
            token_B, logprob_B = draw(logits_BV.expand(n, -1), uniform[:, step], temperature, 1.0)
            drawn.append(token_B)
            logprobs.append(logprob_B)
            ended_B = ended_B | (token_B[:, None] == stop_S).any(1)
            if bool(ended_B.all()):
                break
    ids_BT, logprob_BT = torch.stack(drawn, 1).tolist(), torch.stack(logprobs, 1).tolist()
    return [_cut(row, values, stops) for row, values in zip(ids_BT, logprob_BT, strict=True)]


def _require_room(reader: Reader, ids: Sequence[int], max_new_tokens: int) -> None:
    longest = len(ids) + max_new_tokens
    limits = [*reader.rotary_switches, reader.context_length or longest]
    limit = min(limits)
    if not ids or longest > limit:
        raise FramingError(
            f"a text of {len(ids)} tokens with {max_new_tokens} new ones, and {reader.name} takes 1 to {limit} here: "
            "shorten the text, or lower max_new_tokens"
        )


def _cut(ids: list[int], logprobs: list[float], stops: frozenset[int]) -> Continuation:
    """Up to the first end token."""
    end = next((i for i, token in enumerate(ids) if token in stops), None)
    length = len(ids) if end is None else end + 1
    return Continuation(tuple(ids[:length]), tuple(logprobs[:length]), end is not None)
