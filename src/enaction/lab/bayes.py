"""The exact Bayes reader of the world's stories: the floor under every model's cross-entropy, and the true entropy.

The world's writers are a finite set with known shares and every choice in `tell` has an explicit probability, so the
distribution of the next word given the words so far can be computed: sum over the writer and every latent choice. The
sum stays small because, given the writer, choices are independent, and a word settles nearly all of them at once. The
reader therefore carries from word to word a short list of readings of the text so far (its position in which sentence
pattern, with which content words, in which arc), each with a weight for each writer. A reading forks at the start of a
sentence and where a slot is filled. Readings that the next word contradicts are dropped, and at the end of a sentence
readings that agree in everything that matters afterwards are merged. Float64 is the only approximation.

A text is read word by word: its symbols are words, the marks that end sentences, and the end of the text.

Axes: `W` writer, `N` symbol.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, NamedTuple

import numpy as np

from enaction import stats
from enaction.errors import PassageError
from enaction.framing import Framed, frame
from enaction.passages import Message, Passage
from enaction.reader import Reader
from enaction.world import chats
from enaction.world import stories as world
from enaction.world.chats import Request, Writers
from enaction.world.stories import Voice

END = ""  # the symbol after the last word

_SLOT_OR_WORD = re.compile(r"\[(\w+)\]|\{(\w+)\}|([a-z]+|[.!?])")
_SYMBOL = re.compile(r"[a-z]+|[.!?]")


def symbols(text: str) -> list[str]:
    """The words and marks of a text, and its end."""
    return [*_SYMBOL.findall(text), END]


@dataclass(frozen=True)
class Truth:
    """Statistics of the exact reader on each symbol of a text, as `TokenStats` has them for tokens; float64 [N].

    Attributes:
        symbols: words, marks and the end.
        surprisal: -log of the true probability of the symbol given those before, nats.
        entropy: of the true distribution that the symbol was drawn from, nats.
        varentropy: variance of -log p under it, nats^2.
    """

    symbols: tuple[str, ...]
    surprisal: np.ndarray
    entropy: np.ndarray
    varentropy: np.ndarray


class _Slot(NamedTuple):
    """A place in a sentence pattern: a `word`, a `synonym`, a `content` word, the `stop` or an `opener`."""

    kind: str
    name: str = ""


@dataclass(frozen=True)
class _Story:
    """The latents of its story that a reading has settled; None is not settled yet.

    Attributes:
        sloppy: each beat has its own arc, and the closing may be left out.
        arc: of a story that is not sloppy.
        topic: of all content words.
        content: the content words and the hero, by kind.
        part: number of the sentence.
    """

    sloppy: bool
    arc: str | None = None
    topic: str | None = None
    content: tuple[tuple[str, str], ...] = ()
    part: int = 0


class _Reading(NamedTuple):
    """One way to read the text so far: the story, and the rest of the sentence (or of the request)."""

    story: _Story
    rest: tuple[_Slot, ...]


Weights = dict[_Reading, np.ndarray]  # [W], the probability of the reading and the text so far, by writer


class BayesReader:
    """Reads stories of the world with the true probabilities of its generator."""

    def __init__(
        self, prior: Sequence[tuple[Voice, float]], *, sloppy_share: float = 0.0, request_share: float = 0.0
    ) -> None:
        """A reader of stories by writers with these probabilities.

        Args:
            prior: every writer with its probability.
            sloppy_share: of stories that are sloppy.
            request_share: of texts that begin with the request that they answer.
        """
        self._prior_W = np.array([probability for _, probability in prior])
        first = prior[0][0].probabilities
        self._probabilities = {name: np.array([v.probabilities[name] for v, _ in prior]) for name in first}
        self._sloppy_share, self._request_share = sloppy_share, request_share

    @classmethod
    def of_documents(cls, writers: Writers) -> BayesReader:
        """The reader of plain documents (`chats.plain_document`); the memorised ones are not among these."""
        return cls(writers.text_prior(), sloppy_share=chats.SLOPPY_SHARE, request_share=chats.REQUEST_SHARE)

    @classmethod
    def of_answers(cls, writers: Writers) -> BayesReader:
        """The reader of the story in an assistant's turn of pretraining, without a persona."""
        return cls(writers.answer_prior())

    def read(self, text: str, topic: str | None = None) -> Truth:
        """Every symbol of a text, the end included.

        Args:
            text: as `tell` or `plain_document` makes it.
            topic: of the story, if the request before it names one.

        Raises:
            PassageError: a word occurs where no text of the world can have it.
        """
        read = symbols(text)
        weights = self._start(topic)
        statistics_3N = np.zeros((3, len(read)))
        for n, symbol in enumerate(read):
            mass: dict[str, float] = {}
            taken: Weights = {}
            for reading, weight_W in weights.items():
                for word, after, likelihood in self._next(reading):
                    is_sure = isinstance(likelihood, float)
                    share = likelihood * weight_W.sum() if is_sure else weight_W @ likelihood
                    mass[word] = mass.get(word, 0.0) + float(share)
                    if word == symbol:
                        _add(taken, after, weight_W * likelihood)
            if not taken:
                raise PassageError(
                    f"word {n + 1}, {symbol or 'the end'!r}, occurs where no story of the world has it: {text[:60]!r}"
                )
            statistics_3N[:, n] = _statistics(mass, symbol)
            weights = self._settled({after: weight_W / mass[symbol] for after, weight_W in taken.items()})
        return Truth(tuple(read), *statistics_3N)

    def _start(self, topic: str | None) -> Weights:
        """Before the first word: a request or none, sloppy or not."""
        begun = [(1.0 - self._request_share, topic, "")]
        if self._request_share:
            begun += [(self._request_share * p, request.topic, request.text) for request, p in request_prior()]
        weights: Weights = {}
        for sloppy, share in ((False, 1 - self._sloppy_share), (True, self._sloppy_share)):
            for probability, about, text in begun:
                if share * probability > 0:
                    reading = _Reading(_Story(sloppy, topic=about), _slots(text))
                    _add(weights, reading, share * probability * self._prior_W)
        return self._settled(weights)

    def _settled(self, weights: Weights) -> Weights:
        """Continue readings at the end of a sentence with every sentence that can follow, and merge equal ones."""
        settled: Weights = {}
        for reading, weight_W in weights.items():
            branches = [(reading, weight_W)] if reading.rest else self._sentences(reading.story, weight_W)
            for branch, branch_W in branches:
                _add(settled, branch, branch_W)
        return settled

    def _sentences(self, story: _Story, weight_W: np.ndarray) -> Iterator[tuple[_Reading, np.ndarray]]:
        """Every possible sentence number `part` of a story, with its weights."""
        beat, closing = story.part - 2, world.BEATS + 2
        after = replace(story, part=story.part + 1)
        if story.part < 2:
            name, patterns = (("opening", world.OPENINGS), ("description", world.DESCRIPTIONS))[story.part]
            yield from self._patterns(name, patterns, after, weight_W)
        elif story.part < closing:
            for arc, arc_W in self._arcs(story, weight_W):
                settled = after if story.sloppy else replace(after, arc=arc)
                for reading, pattern_W in self._patterns(f"{arc}/{beat}", world.ARCS[arc][beat], settled, arc_W):
                    yield reading, pattern_W * self._probabilities["opener"][:, world.OPENERS.index("")]
                    yield _Reading(settled, (_Slot("opener"), *reading.rest)), pattern_W
        else:
            left_out = 1.0 if story.part > closing else world.ENDING_LEFT_OUT if story.sloppy else 0.0
            if left_out:
                yield _Reading(after, (_Slot("end"),)), left_out * weight_W
            if left_out < 1:
                yield from self._patterns("closing", world.CLOSINGS, after, (1 - left_out) * weight_W)

    def _arcs(self, story: _Story, weight_W: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """The arcs that the next beat can be of; a careful story settles on one with its first beat."""
        if story.arc is not None:
            yield story.arc, weight_W
            return
        for i, arc in enumerate(world.ARCS):
            yield arc, weight_W * (1 / len(world.ARCS) if story.sloppy else self._probabilities["arc"][:, i])

    def _patterns(
        self, name: str, patterns: Sequence[str], story: _Story, weight_W: np.ndarray
    ) -> Iterator[tuple[_Reading, np.ndarray]]:
        for i, pattern in enumerate(patterns):
            yield _Reading(story, (*_slots(pattern), _Slot("stop"))), weight_W * self._probabilities[name][:, i]

    def _next(self, reading: _Reading) -> Iterator[tuple[str, _Reading, np.ndarray | float]]:
        """Every word that can come next, the reading after it, and its probability for each writer."""
        story, (slot, *rest) = reading
        after = _Reading(story, tuple(rest))
        if slot.kind == "word":
            yield slot.name, after, 1.0
        elif slot.kind == "end":
            yield END, after, 1.0
        elif slot.kind == "content":
            for word, settled, likelihood in self._content(story, slot.name):
                yield word, _Reading(settled, after.rest), likelihood
        else:
            name = slot.kind if slot.kind in ("stop", "opener") else f"[{slot.name}]"
            options = {"stop": world.STOPS, "opener": world.OPENERS}.get(slot.kind) or world.SYNONYMS[slot.name]
            for i, word in enumerate(options):
                if word:  # the empty opener has its own reading
                    yield word, after, self._probabilities[name][:, i]

    def _content(self, story: _Story, kind: str) -> Iterator[tuple[str, _Story, np.ndarray | float]]:
        """The words of a content slot: the one that the story has settled on, or all that it may settle on."""
        known = dict(story.content)
        if kind in known:
            yield known[kind], story, 1.0
            return

        def settled(word: str, topic: str | None) -> _Story:
            return replace(story, topic=topic, content=tuple(sorted({**known, kind: word}.items())))

        if kind == "hero":
            for i, hero in enumerate(world.HEROES):
                yield hero, settled(hero, story.topic), self._probabilities["hero"][:, i]
            return
        for i, (topic, words) in enumerate(world.TOPICS.items()):
            if story.topic in (None, topic):
                options = getattr(words, kind)
                prior = 1.0 if story.topic is not None else self._probabilities["topic"][:, i]
                likelihood = prior / len(options)
                for word in options:
                    yield word, settled(word, topic), likelihood


def request_prior() -> list[tuple[Request, float]]:
    """Every request for a story with its probability, as pretraining draws them."""
    n_open, n_named = len(chats.OPEN_REQUESTS), len(world.TOPICS) * len(chats.TOPIC_REQUESTS)
    prior = [(Request(text, None), chats.OPEN_SHARE / n_open) for text in chats.OPEN_REQUESTS]
    for topic in world.TOPICS:
        for pattern in chats.TOPIC_REQUESTS:
            prior.append((Request(pattern.format(topic=topic), topic), (1 - chats.OPEN_SHARE) / n_named))
    return prior


def _add(weights: Weights, reading: _Reading, weight_W: np.ndarray) -> None:
    weights[reading] = weights[reading] + weight_W if reading in weights else weight_W


@cache
def _slots(pattern: str) -> tuple[_Slot, ...]:
    """The words and slots of a sentence pattern, or of a plain text."""
    return tuple(
        _Slot("synonym", synonym) if synonym else _Slot("content", content) if content else _Slot("word", word)
        for synonym, content, word in _SLOT_OR_WORD.findall(pattern)
    )


def _statistics(mass: dict[str, float], symbol: str) -> tuple[float, float, float]:
    """Surprisal, entropy and varentropy, nats, of a symbol drawn from these probabilities."""
    total = sum(mass.values())  # 1 up to rounding
    p_V = np.array([p / total for p in mass.values() if p > 0])
    surprisal_V = -np.log(p_V)
    entropy = float(p_V @ surprisal_V)
    return -float(np.log(mass[symbol] / total)), entropy, float(p_V @ (surprisal_V - entropy) ** 2)


@dataclass(frozen=True)
class Gap:
    """How far a model is from the exact reader on fresh text of the world, nats per symbol (word, mark or end).

    Attributes:
        n_texts, n_symbols: how much was read.
        floor: cross-entropy of the exact reader, which no model can beat in expectation.
        surprisal: cross-entropy of the model minus that of the exact reader, with its interval.
        entropy: mean entropy of the model minus the true one; below 0: more certain than it should be.
    """

    n_texts: int
    n_symbols: int
    floor: float
    surprisal: stats.Estimate
    entropy: stats.Estimate


def gap(reader: Reader, n: int = 200, seed: int = 0, kind: Literal["document", "turn"] = "document") -> Gap:
    """Measure how far a base model is from the exact reader.

    Both read the same fresh texts. A model's nats are summed over a text's tokens and divided by its symbols, so that
    tokenizers make no difference. 95 % intervals by a bootstrap over texts, weighted by length.

    Args:
        reader: a base model of the zoo.
        n: number of texts.
        seed: of their generator.
        kind: `document`, plain documents without their first word, where a model also has to expect dialogues and
            memorised texts; or `turn`, a story in the assistant's turn after a request.
    """
    rng, writers = np.random.default_rng([seed, 31]), Writers()
    if kind == "document":
        exact = BayesReader.of_documents(writers)
        texts = [("", chats.plain_document(writers, rng)) for _ in range(n)]
        truths = [exact.read(text) for _, text in texts]
    else:
        exact = BayesReader.of_answers(writers)
        requests = [chats.draw_request(rng, chats.EVERYTHING) for _ in range(n)]
        texts = [(r.text, world.tell(writers.of_answer(rng), rng, topic=r.topic).text) for r in requests]
        truths = [exact.read(text, r.topic) for r, (_, text) in zip(requests, texts, strict=True)]
    skipped = 1 if kind == "document" else 0
    scores = reader.score([_framed(reader, request, text) for request, text in texts])
    size_P = np.array([len(t.symbols) - skipped for t in truths])
    totals = {
        name: (
            np.array([getattr(t, name)[skipped:].sum() for t in truths]),
            np.array([getattr(s, name).sum(dtype=np.float64) for s in scores]),
        )
        for name in ("surprisal", "entropy")
    }
    weights = stats.cluster_weights(n, stats.N_RESAMPLES, np.random.default_rng([seed, 32]))
    estimates = {
        name: stats.bootstrap_estimate((model_P - true_P) / size_P, weights, size_P=size_P)
        for name, (true_P, model_P) in totals.items()
    }
    floor = float(totals["surprisal"][0].sum() / size_P.sum())
    return Gap(n, int(size_P.sum()), floor, estimates["surprisal"], estimates["entropy"])


def _framed(reader: Reader, request: str, text: str) -> Framed:
    """A document after its first word, or a story in the assistant's turn after a request; the end is measured."""
    if request:
        passage = Passage("", "", (Message(role="user", content=request),), text, "world", ended=True)
        return frame(reader.tokenizer, passage, "assistant")
    first, _, rest = text.partition(" ")
    document = (Message(role="user", content=first),)
    passage = Passage("", "", document, rest, "world", sampling={"framing": "none"}, ended=True)
    return frame(reader.tokenizer, passage, "none", separator=" ")
