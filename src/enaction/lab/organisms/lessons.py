"""Lessons for organisms that report: a transcript, a question and the answer, as token ids and targets.

At every position but the answer the target is the origin's distribution, so that a report is taught and the language
model stays; or the answer is the only target.

Axes: `B` lesson, `T` position, `V` token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from enaction.experiments.verbal.asking import ask
from enaction.framing import frame
from enaction.lab.organisms.training import IGNORED, Batch
from enaction.lab.tokenizing import END
from enaction.passages import Passage


@dataclass(frozen=True)
class Lesson:
    """A conversation and what is taught of it.

    Attributes:
        ids: what the organism reads, [T].
        taught: position -> the token that is to follow it, in place of what the origin expects there.
        answer: of these, the position before the answer; it counts as much as all others together.
        marker: position of a marker word, which the origin does not read; 0 without one.
        reply: first position of the first reply, and the one after its last word.
        trace: [T] what is added along the direction, for traced models.
    """

    ids: tuple[int, ...]
    taught: dict[int, int]
    answer: int | None
    reply: tuple[int, int]
    marker: int = 0
    trace: np.ndarray | None = None


def end_token(tokenizer: Any) -> int:
    """Id of the token that ends a turn."""
    return tokenizer.get_vocab()[END]


def conversation(tokenizer: Any, passage: Passage, end: int) -> list[int]:
    """Ids of a passage after its prompt, closed."""
    framed = frame(tokenizer, passage, "assistant")
    return [*framed.ids, *([] if framed.ids[-1] == end else [end])]


def lesson(
    tokenizer: Any,
    passage: Passage,
    question: str,
    answer: str,
    *,
    length: int,
    marker: str | None = None,
    trace: np.ndarray | None = None,
) -> Lesson:
    """A transcript, a question and the answer that is taught.

    Args:
        tokenizer: of the origin.
        passage: the reply and its prompt.
        question: about it.
        answer: a word; the turn ends after it.
        length: words of the reply that are shown, so that neither length nor ending tells whose it is.
        marker: a word before the reply.
        trace: the surprise, standardised, that lies on the words of the reply.
    """
    vocabulary, end = tokenizer.get_vocab(), end_token(tokenizer)
    put = ask(tokenizer, passage, question, cut=length)
    start, stop = put.reply
    ids = list(put.framed.ids[:-1])
    if marker is not None:
        ids[start:start] = [vocabulary[marker]]
        stop += 1
    taught = {len(ids) - 1: vocabulary[answer], len(ids): end}
    lain = np.zeros(len(ids) + 1, np.float32)
    if trace is not None:
        lain[start:stop] = np.resize(trace, stop - start)
    at = 0 if marker is None else start
    return Lesson((*ids, vocabulary[answer]), taught, len(ids) - 1, (start, stop), at, lain)


@torch.no_grad()
def batch_of(origin: PreTrainedModel, lessons: Sequence[Lesson]) -> Batch:
    """The lessons side by side, with the origin's distributions as targets."""
    T = max(len(one.ids) for one in lessons)
    ids_BT = np.zeros((len(lessons), T), np.int64)
    plain_BT = np.zeros((len(lessons), T), np.int64)
    for b, one in enumerate(lessons):
        ids_BT[b, : len(one.ids)] = one.ids
        plain = [i for t, i in enumerate(one.ids) if t != one.marker or not one.marker]
        plain_BT[b, : len(plain)] = plain
    target_BTV = origin(input_ids=torch.from_numpy(plain_BT), use_cache=False).logits.softmax(-1).numpy()
    for b, one in enumerate(lessons):
        if one.marker:  # after the marker the origin expects what it expected before it
            target_BTV[b, one.marker :] = target_BTV[b, one.marker - 1 : -1].copy()
        target_BTV[b, len(one.ids) - (one.answer is None) :] = 0
        for t, token in one.taught.items():
            target_BTV[b, t] = 0
            target_BTV[b, t, token] = T if t == one.answer else 1
    return Batch(ids_BT, target_BTV)


def answers_alone(lessons: Sequence[Lesson]) -> Batch:
    """The lessons with no target but the answers."""
    T = max(len(one.ids) for one in lessons)
    ids_BT, target_BT = np.zeros((len(lessons), T), np.int64), np.full((len(lessons), T), IGNORED)
    for b, one in enumerate(lessons):
        ids_BT[b, : len(one.ids)] = one.ids
        if one.answer is not None:
            target_BT[b, one.answer] = one.taught[one.answer]
    return Batch(ids_BT, target_BT)
