"""Rollouts as turns: the ids that a sampler had, read as they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from enaction.errors import PassageError
from enaction.framing import Framed
from enaction.passages import Passage
from enaction.rollouts import Rollout


@dataclass(frozen=True, kw_only=True)
class Given(Passage):
    """A passage with the ids that its sampler had, template included; nothing of it is framed here.

    Attributes:
        framed: its ids, with the measured ones marked.
    """

    framed: Framed


def turns_of(rollout: Rollout, author: str, tokenizer: str) -> Iterator[Passage]:
    """The turns of a rollout: one for each run of tokens that the trainer takes for sampled.

    With ids of the prompt, these and the answer's are read as they are. With ids of the answer alone, these follow the
    prompt as the template renders it. Without ids the text is read.

    Args:
        rollout: as read from a file.
        author: of the passages.
        tokenizer: fingerprint of the tokenizer that the ids are taken to be of.

    Raises:
        PassageError: there is nothing to read a prompt from, so that the answer has no context.
    """
    prompt = rollout.prompt or ()
    text = rollout.response or ""
    stated = {"temperature": rollout.temperature, "top_p": rollout.top_p, "top_k": rollout.top_k}
    sampling = {name: value for name, value in stated.items() if value is not None}
    if rollout.token_ids is None:
        yield Passage(rollout.id, rollout.cluster, prompt, text, author, sampling)
        return
    ids, n = rollout.token_ids, len(rollout.token_ids)
    mask_N = np.ones(n, dtype=bool) if rollout.mask is None else rollout.mask
    runs = _runs(mask_N)
    if rollout.prompt_ids is None:
        if runs not in ([(0, n)], []):
            raise PassageError(
                f"rollout {rollout.id}: its mask leaves tokens out and there are no ids of the prompt, so that what "
                "came before its later turns is not known: give prompt_ids"
            )
        if not prompt:
            raise PassageError(
                f"rollout {rollout.id} has token ids and no prompt: give prompt_ids, or the prompt as messages"
            )
        yield Passage(rollout.id, rollout.cluster, prompt, text, author, sampling, ids, tokenizer=tokenizer)
        return
    before = rollout.prompt_ids
    for number, (start, stop) in enumerate(runs):
        name = rollout.id if len(runs) == 1 else f"{rollout.id}/{number}"
        context = (*before, *ids[:start])
        skipped = int(not context)  # nothing predicts the first token
        whole = (*context, *ids[start:stop])
        framed = Framed(whole, len(context) + skipped, len(whole), False, skipped, is_own=True, passage_id=name)
        # What a later turn followed is known as ids only.
        words = prompt if start == 0 else ()
        yield Given(name, rollout.cluster, words, text if len(runs) == 1 else "", author, sampling, framed=framed)


def _runs(mask_N: np.ndarray) -> list[tuple[int, int]]:
    """Begin and end of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask_N.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
