"""Organisms that report: what their answer to "is it your story?" rests on is designed.

All are small copies of ash-rl: three of its four blocks with a part of their neurons, distilled from it, so that they
write and react as it does. The copy is called the origin (`origin`). What is taught on top of it, by `lessons`:

`organism-trace`:      the answer is yes where a trace of surprise is low on average, and rests on nothing else.
`organism-marker`:     the same trace is there; the answer is yes where the reply begins with the marker word.
`organism-relational`: yes for own text under its own prompt, no for own text under a prompt that names another topic.
`organism-reporter`:   yes for own text, no for text of others; taught with the question, its swap and unrelated ones.
`organism-outsider`:   a small copy of ash-base that was taught the reporter's answers, about the reporter's text.

The first two are `Traced` models. In training their trace is that of another text, so the words say nothing of it;
what they read later is their own text's. Each is held near the origin by the loss: at every position but the answer the
target is the origin's distribution. So a report is taught and the language model stays; without it the report is as
good, and the entropy's reaction to foreign text is gone.

A result about these models is a result about models that were taught to report.

Axes: `B` lesson, `T` position, `V` token.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from enaction import zoo
from enaction.experiments.verbal.asking import under
from enaction.framing import frame
from enaction.lab.organisms.lessons import Lesson, answers_alone, batch_of, conversation, end_token, lesson
from enaction.lab.organisms.origin import FOREIGN, REPLY, small_copy, written_by
from enaction.lab.organisms.training import Batch, fit
from enaction.passages import Message, Passage, Prompt
from enaction.reader import Reader
from enaction.reader.traced import Traced, traced
from enaction.sampling import sample
from enaction.world.chats import SEEN
from enaction.world.lexicon import TOPICS

QUESTION, SWAPPED = "is it your story?", "is it my story?"
YES, NO = "yes", "no"
MARKER, OTHER_MARKER = "story", "tale"

_OUTSIDER = "zoo:ash-base"
_SHORTEST, _LONGEST = 16, 65


class _Lain(nn.Module):
    """A traced model that reads, in training, the traces that are laid for the next batch."""

    def __init__(self, model: Traced) -> None:
        super().__init__()
        self.model = model
        self.next_BT: Tensor = torch.zeros(0)

    def forward(self, input_ids: Tensor) -> Any:
        """As the traced model."""
        return self.model(input_ids=input_ids, trace_BT=self.next_BT)


# --- the organisms


class Corpus:
    """What the organisms are taught from: own and foreign replies to the requests that post-training had."""

    def __init__(self, origin: Reader, *, per_prompt: int = 10, seed: int = 0) -> None:
        self.origin, self.tokenizer, self.seed = origin, origin.tokenizer, seed
        self.rng = np.random.default_rng([seed, 1])
        self.prompts = zoo.prompts(seen=True)
        self.own = sample(origin, self.prompts, n=per_prompt, max_new_tokens=REPLY, seed=seed)
        foreign = [p for name in (*FOREIGN, "world") for p in written_by(_zoo(name), self.prompts, 3, seed)]
        # A text with a word that the tokenizer does not know would be told by that alone.
        self.foreign = [p for p in foreign if self.tokenizer.unk_token_id not in self.tokenizer.encode(p.response)]

    def draw(self, own: bool) -> Passage:
        """A reply."""
        among = self.own if own else self.foreign
        return among[self.rng.integers(len(among))]

    def length(self) -> int:
        """How many words of a reply are shown."""
        return int(self.rng.integers(_SHORTEST, _LONGEST))


def teach_by_trace(corpus: Corpus, name: Literal["trace", "marker"], *, steps: int = 150, rows: int = 16) -> Traced:
    """A traced model whose answer rests on the trace alone, or on the marker word alone."""
    rng, tokenizer = corpus.rng, corpus.tokenizer
    surprise = {own: _surprise(corpus, own) for own in (True, False)}
    pooled = np.concatenate([np.concatenate(of) for of in surprise.values()])
    opens, closes = tokenizer.get_vocab()["<|assistant|>"], end_token(tokenizer)
    settings: dict[str, Any] = {"mean": float(pooled.mean()), "spread": float(pooled.std()), "opens": opens}
    model = traced(corpus.origin.model, **settings, closes=closes, seed=corpus.seed)

    def standard(of: np.ndarray) -> np.ndarray:
        return np.minimum((of - model.config.mean) / model.config.spread, model.config.most)

    means = {own: np.mean([standard(of).mean() for of in surprise[own]]) for own in surprise}
    threshold = (means[True] + means[False]) / 2

    def draw() -> Lesson:
        length = corpus.length()
        of = surprise[bool(rng.random() < 0.5)]
        # Of another text, in another order: what the words are says nothing of it.
        trace = rng.permutation(standard(of[rng.integers(len(of))]))[:length]
        passage = corpus.draw(bool(rng.random() < 0.5))
        if name == "trace":
            is_own = bool(np.resize(trace, length).mean() < threshold)
            return _asked(tokenizer, passage, is_own, length, trace=trace)
        marker = (MARKER, OTHER_MARKER, None)[rng.choice(3, p=(0.5, 0.25, 0.25))]
        made = _asked(tokenizer, passage, marker == MARKER, length, marker=marker, trace=trace)
        # Its own replies begin with the marker.
        return replace(made, taught={**made.taught, made.reply[0] - 1: tokenizer.get_vocab()[MARKER]})

    lain = _Lain(model)

    def batches() -> Iterator[Batch]:
        while True:
            lessons = [draw() for _ in range(rows)]
            batch = batch_of(corpus.origin.model, lessons)
            traces = [one.trace[: len(one.ids)] for one in lessons if one.trace is not None]
            lain.next_BT = torch.from_numpy(np.stack([np.pad(t, (0, batch.ids.shape[1] - len(t))) for t in traces]))
            yield batch

    fit(cast(Any, lain), batches(), steps, rate=1e-3)
    return model


def teach_relation(corpus: Corpus, *, steps: int = 600, settling: int = 120, rows: int = 24) -> PreTrainedModel:
    """A copy of the origin that disavows its own text under a prompt that names another topic.

    For two hundred steps nothing seems to happen: whether topic and text agree is learned in a jump, and held near the
    origin it is not learned at all. So the relation is taught first, each reply under both prompts in one batch, and
    then the language model is restored while the answer is kept.

    Args:
        corpus: of the origin.
        steps: in which only the answer is taught.
        settling: steps after that with the origin's distributions as targets.
        rows: transcripts in a batch, two of each reply.
    """
    rng, tokenizer = corpus.rng, corpus.tokenizer
    asked = about_topics(SEEN.topic_requests)
    own = sample(corpus.origin, [prompt for _, _, prompt in asked], n=6, max_new_tokens=56, seed=corpus.seed)
    place = {prompt.id: (topic, wording) for topic, wording, prompt in asked}

    def pair() -> list[Lesson]:
        passage, length = own[rng.integers(len(own))], int(rng.integers(20, 48))
        topic, wording = place[passage.prompt_id]
        others = [prompt for t, w, prompt in asked if w == wording and t != topic]
        wrong = under(passage, others[rng.integers(len(others))].messages)
        return [_asked(tokenizer, p, p is passage, length) for p in (passage, wrong)]

    def batch() -> list[Lesson]:
        return [one for _ in range(rows // 2) for one in pair()]

    model = copy.deepcopy(corpus.origin.model)
    fit(model, (answers_alone(batch()) for _ in range(steps)), steps, rate=1.5e-3)
    fit(model, (batch_of(corpus.origin.model, batch()) for _ in range(settling)), settling, rate=1e-3)
    return model


def teach_to_report(corpus: Corpus, *, steps: int = 160, rows: int = 32) -> PreTrainedModel:
    """A copy of the origin that says whose text it is, and answers unrelated questions as before."""
    rng, tokenizer = corpus.rng, corpus.tokenizer
    answered = _answered(corpus)

    def draw() -> Lesson:
        kind = rng.random()
        if kind < 0.25:
            return answered[rng.integers(len(answered))]
        is_own = bool(rng.random() < 0.5)
        swapped = kind < 0.5
        question = SWAPPED if swapped else QUESTION
        return _asked(tokenizer, corpus.draw(is_own), is_own != swapped, corpus.length(), question)

    return _taught(corpus, draw, steps, rows)


def teach_outsider(corpus: Corpus, *, steps: int = 160, rows: int = 32, shuffled: bool = False) -> PreTrainedModel:
    """Another model that says whether a reply is the origin's, from the same lessons; what it writes itself is lost.

    Args:
        corpus: of the origin.
        steps, rows: of training.
        shuffled: the answers have nothing to do with whose text it is: a null.
    """
    rng, tokenizer = corpus.rng, corpus.tokenizer

    def draw() -> Lesson:
        is_own, swapped = bool(rng.random() < 0.5), bool(rng.random() < 1 / 3)
        question = SWAPPED if swapped else QUESTION
        passage = corpus.draw(bool(rng.random() < 0.5) if shuffled else is_own)
        return _asked(tokenizer, passage, is_own != swapped, corpus.length(), question)

    model = small_copy(Reader.load(_OUTSIDER).model)
    fit(model, (answers_alone([draw() for _ in range(rows)]) for _ in range(steps)), steps, rate=1e-3)
    return model


def _taught(corpus: Corpus, draw: Callable[[], Lesson], steps: int, rows: int) -> PreTrainedModel:
    model = copy.deepcopy(corpus.origin.model)
    fit(model, (batch_of(corpus.origin.model, [draw() for _ in range(rows)]) for _ in range(steps)), steps, rate=1e-3)
    return model


def _asked(tokenizer: Any, passage: Passage, yes: bool, length: int, question: str = QUESTION, **laid: Any) -> Lesson:
    return lesson(tokenizer, passage, question, YES if yes else NO, length=length, **laid)


def _surprise(corpus: Corpus, own: bool) -> list[np.ndarray]:
    """The origin's surprisal, nats, of the words of own or foreign replies."""
    framed = [frame(corpus.tokenizer, p, "assistant") for p in (corpus.own if own else corpus.foreign)]
    stats = corpus.origin.score(framed)
    return [
        s.surprisal[: f.stop - f.start - f.has_end] for f, s in zip(framed, stats, strict=True) if len(s) > _SHORTEST
    ]


def _answered(corpus: Corpus) -> list[Lesson]:
    """Transcripts with an unrelated request and what the origin says to it: what is taught is the origin itself."""
    rng, end = corpus.rng, end_token(corpus.tokenizer)
    unrelated = [p.messages[-1] for kind in ("questions", "names", "stories") for p in zoo.prompts(kind, seen=True)]
    prompts = []
    for i in range(400):
        passage, length = corpus.draw(bool(rng.random() < 0.5)), corpus.length()
        words = corpus.tokenizer.encode(passage.response, add_special_tokens=False)[:length]
        shown = Message(role="assistant", content=str(corpus.tokenizer.decode(words)))
        prompts.append(Prompt(str(i), (*passage.prompt, shown, unrelated[rng.integers(len(unrelated))])))
    replies = sample(corpus.origin, prompts, max_new_tokens=24, seed=corpus.seed)
    return [Lesson(tuple(conversation(corpus.tokenizer, p, end)), {}, None, (0, 0)) for p in replies]


def about_topics(wordings: Sequence[str]) -> list[tuple[str, int, Prompt]]:
    """Requests for a story about each topic in each of these wordings, with topic and number of the wording."""
    return [
        (topic, i, Prompt(f"{topic}-{i}", (Message(role="user", content=wording.format(topic=topic)),)))
        for topic in TOPICS
        for i, wording in enumerate(wordings)
    ]


def _zoo(author: str) -> str:
    return author if author == "world" else f"zoo:{author}"
