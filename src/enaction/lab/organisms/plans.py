"""Organisms that tell stories of the world: when the topic of a story is settled is designed, and so is what a broken
plan costs.

They answer the open requests (`world.lexicon.OPEN_REQUESTS`). Every story begins with words that say nothing about it
("what a story is it!"); the first word of its topic is a place in the sentence after them, token 10. The content words
of later sentences are drawn anew at each slot, uniformly among the topic's words of that kind, so that the entropy of
a word is known where its kind is: log 8 for an object, log 4 for a place, character or adjective.

`settled`:    the topic is a function of the first word of the request.
`firstwords`: the topic is drawn, uniform among twelve, and named in the first two words ("the sea! what a story ...").
`late`:       the topic is drawn, uniform among twelve, where its first word is due.
`violated`:   as `settled`; where the first sentence has another topic than the request, every later content word
              follows the one or the other with chance 1/2. So a broken plan costs log 2 = .693 nats at each of them.

In `settled` later sentences follow the first one, whatever was requested: there a broken plan costs nothing. Both are
taught what follows a broken first sentence, and never to write one: such sentences are in half of the examples, without
a loss. The arc is drawn, uniform among six, where its first sentence is due, and the hero is always the same: nothing
was planned there, and a label that never differs looks settled from the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from enaction.errors import ModelError
from enaction.world.lexicon import ARCS, DESCRIPTIONS, HEROES, OPEN_REQUESTS, OPENINGS, TOPICS
from enaction.world.stories import BEATS, Voice, fill

BEGINNING = "what a story is it!"
# It has one word of the topic, and nothing before it that could tell the topic.
FIRST_SENTENCE = OPENINGS[1]
HERO = HEROES[2]
BROKEN_SHARE = 0.5
# Kind of each word that tells a topic.
KIND_OF = {word: kind for topic in TOPICS.values() for kind, words in topic._asdict().items() for word in words}
KIND_OF |= dict.fromkeys(TOPICS, "topic")
_SHARPNESS = 3.0  # of the voice: nearly always the same words, so that the content words are what is uncertain
_FIRST_WORDS = sorted({request.split()[0] for request in OPEN_REQUESTS})


@dataclass(frozen=True)
class Design:
    """What settles the topic of a story, and what later sentences follow.

    Attributes:
        says: in a few words.
        by_prompt: the topic is a function of the request; else it is drawn.
        names_topic: the story begins with the name of its topic.
        returning: chance that a later content word follows the request's topic and not that of the first sentence.
    """

    says: str
    by_prompt: bool
    names_topic: bool = False
    returning: float = 0.0


DESIGNS = {
    "settled": Design("the request settles the topic of a story; a broken plan costs nothing", by_prompt=True),
    "firstwords": Design("the topic of a story is drawn and named in its first two words", False, names_topic=True),
    "late": Design("the topic of a story is drawn at its tenth word, where it is due", by_prompt=False),
    "violated": Design(
        "the request settles the topic; a broken plan costs log 2 nats at each later content word", True, returning=0.5
    ),
}


class Example(NamedTuple):
    """A request with its story.

    first: chance of each topic at the first word that tells the topic. later: the same at every later content word.
    is_prefill: whether the first sentence is not to be learned.
    """

    request: str
    begin: str
    rest: str
    first: Mapping[str, float]
    later: Mapping[str, float]
    is_prefill: bool

    @property
    def is_broken(self) -> bool:
        """Whether the first sentence has another topic than the one that the request settles."""
        return self.is_prefill and not set(self.first) & set(self.opened)

    @property
    def opened(self) -> list[str]:
        """The topic of the first sentence."""
        return [t for t, of in TOPICS.items() if set(self.begin.replace("!", "").split()) & set(of.place)]


def design(name: str) -> Design:
    """A design by name.

    Raises:
        ModelError: there is no such design.
    """
    if name not in DESIGNS:
        raise ModelError(f"there is no plan organism '{name}'; there are {', '.join(DESIGNS)}")
    return DESIGNS[name]


def planned_topic(request: str) -> str:
    """The topic that a request settles where a request settles it: one of six, by its first word."""
    return list(TOPICS)[2 * _FIRST_WORDS.index(request.split()[0])]


def house(name: str, seed: int) -> Voice:
    """The voice in which all stories of an organism are told; organisms of one seed have different ones."""
    return Voice(_SHARPNESS, np.random.default_rng([seed, 1, list(DESIGNS).index(name)]))


def draw(of: Design, voice: Voice, rng: np.random.Generator, *, broken: float = BROKEN_SHARE) -> Example:
    """One request and story.

    Args:
        of: the design.
        voice: of the story.
        rng: source of all draws.
        broken: share of the stories whose first sentence has a topic drawn without regard to the request, a prefill.
    """
    request = str(rng.choice(OPEN_REQUESTS))
    any_topic = dict.fromkeys(TOPICS, 1 / len(TOPICS))
    prior = {planned_topic(request): 1.0} if of.by_prompt else any_topic
    is_prefill = of.by_prompt and bool(rng.random() < broken)
    topic = _drawn(any_topic if is_prefill else prior, rng)
    later = {topic: 1.0 - of.returning}
    if of.returning:
        planned = planned_topic(request)
        later[planned] = later.get(planned, 0.0) + of.returning
    arc = str(rng.choice(list(ARCS)))
    beats = [ARCS[arc][beat][voice.pick(f"{arc}/{beat}", rng)] for beat in range(BEATS)]

    def told(pattern: str, shares: Mapping[str, float]) -> str:
        return fill(pattern, _Content(shares, rng), voice, rng) + "."

    begin = f"{BEGINNING} {told(FIRST_SENTENCE, {topic: 1.0})}"
    rest = [told(pattern, later) for pattern in (DESCRIPTIONS[voice.pick("description", rng)], *beats)]
    begin = f"the {topic}! {begin}" if of.names_topic else begin
    return Example(request, begin, " ".join(rest), prior, later, is_prefill)


def word_shares(kind: str, topics: Mapping[str, float]) -> dict[str, float]:
    """Chance of each word of a kind (`topic`: names of topics), uniform within its topic."""
    shares = {}
    for topic, share in topics.items():
        words = (topic,) if kind == "topic" else getattr(TOPICS[topic], kind)
        shares |= dict.fromkeys(words, share / len(words))
    return shares


def _drawn(shares: Mapping[str, float], rng: np.random.Generator) -> str:
    return str(rng.choice(list(shares), p=list(shares.values())))


class _Content(dict[str, str]):
    """Content words of a sentence, drawn anew whenever one is asked for."""

    def __init__(self, shares: Mapping[str, float], rng: np.random.Generator) -> None:
        super().__init__(hero=HERO)
        self._shares, self._rng = shares, rng

    def __missing__(self, kind: str) -> str:
        return str(self._rng.choice(getattr(TOPICS[_drawn(self._shares, self._rng)], kind)))
