"""The generator of stories, and the parser that reads its latents back.

A story is drawn from latents: a topic, an arc, a hero, four content words, and a voice. A voice is a writer's taste:
log preferences over every synonym slot, sentence opener, sentence pattern, arc and topic. Every sentence parses back to
its possible positions in a story, so that everything the lab rewards is checked by rule (`grade`), never by a model.

Every choice in `tell` has an explicit probability, so that a reader can compute P(text) by enumeration: topic, arc,
hero, patterns, openers, stops and synonyms have `Voice.probabilities`; content words are uniform within the topic,
unless their probabilities are given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from enaction.world.lexicon import (
    ANSWERS,
    ARCS,
    CLOSINGS,
    CORRECTIONS,
    DESCRIPTIONS,
    HEROES,
    KEEPINGS,
    NAMINGS,
    OPENERS,
    OPENINGS,
    STOPS,
    SYNONYMS,
    TOPICS,
)

BEATS = 4
ENDING_LEFT_OUT = 0.5  # of sloppy stories
SENTENCES = BEATS + 3  # opening, description, four beats, closing

# Topic -> kind -> probabilities of its content words.
WordShares = Mapping[str, Mapping[str, np.ndarray]]

_SLOT = re.compile(r"\[(\w+)\]|\{(\w+)\}")


def _taste_sizes() -> dict[str, int]:
    """Every choice in which voices differ, with its number of options."""
    sizes = {f"[{key}]": len(words) for key, words in SYNONYMS.items()}
    sizes |= {"opener": len(OPENERS), "stop": len(STOPS), "topic": len(TOPICS), "arc": len(ARCS), "hero": len(HEROES)}
    sizes |= {"opening": len(OPENINGS), "description": len(DESCRIPTIONS), "closing": len(CLOSINGS)}
    sizes |= {"answer": len(ANSWERS), "keeping": len(KEEPINGS), "naming": len(NAMINGS)}
    sizes |= {f"{arc}/{beat}": len(patterns) for arc, beats in ARCS.items() for beat, patterns in enumerate(beats)}
    return sizes | {"correction": len(CORRECTIONS)}


TASTES = _taste_sizes()
_STARTS = np.concatenate([[0], np.cumsum(list(TASTES.values()))[:-1]])
_N_LOGITS = sum(TASTES.values())
# Taste is weaker for content (which topic, arc, hero) than for wording, as it is among people.
_STRENGTH = np.concatenate(
    [np.full(size, 0.4 if name in ("topic", "arc", "hero") else 1.0) for name, size in TASTES.items()]
)
_BIAS = np.zeros(_N_LOGITS)
_BIAS[_STARTS[list(TASTES).index("opener")]] = 2.0  # most sentences have no opener


class Voice:
    """A writer's taste.

    Attributes:
        probabilities: for each choice, the probabilities of its options.
        cumulative: their cumulative sums.
        favourite: for each choice, the index of its likeliest option.
    """

    def __init__(self, scale: float, rng: np.random.Generator) -> None:
        """Draw a voice; at scale 0 all voices are equal, above about 2 a writer nearly always picks the same words."""
        logits = _BIAS + scale * _STRENGTH * rng.standard_normal(_N_LOGITS)
        parts = np.split(logits, _STARTS[1:])
        self._take({name: np.exp(part - part.max()) for name, part in zip(TASTES, parts, strict=True)})

    @classmethod
    def weighted(cls, weights: Mapping[str, np.ndarray]) -> Voice:
        """The voice that takes the options of each choice in proportion to these weights, e.g. to how often they were
        seen; a choice without any weight has equal ones.
        """
        voice = cls.__new__(cls)
        voice._take({name: weights[name] if weights[name].any() else np.ones(size) for name, size in TASTES.items()})
        return voice

    def _take(self, weights: Mapping[str, np.ndarray]) -> None:
        """Become the voice of these weights, which are not all 0 for any choice."""
        self.probabilities: dict[str, np.ndarray] = {}
        self.cumulative: dict[str, np.ndarray] = {}
        self.favourite: dict[str, int] = {}
        for name, of_options in weights.items():
            self.probabilities[name] = of_options / of_options.sum()
            self.cumulative[name] = np.cumsum(self.probabilities[name])
            self.favourite[name] = int(of_options.argmax())

    def pick(self, name: str, rng: np.random.Generator) -> int:
        """Draw one option of a choice."""
        return min(int(np.searchsorted(self.cumulative[name], rng.random())), TASTES[name] - 1)


@dataclass(frozen=True)
class Story:
    """A story with its latents."""

    text: str
    topic: str
    arc: str
    hero: str


def pick_topic(voice: Voice, rng: np.random.Generator, among: Sequence[str] = tuple(TOPICS)) -> str:
    """Draw a topic by the voice's taste, until it is one of these."""
    while (topic := list(TOPICS)[voice.pick("topic", rng)]) not in among:
        pass
    return topic


def tell(
    voice: Voice,
    rng: np.random.Generator,
    *,
    topic: str | None = None,
    among: Sequence[str] = tuple(TOPICS),
    sloppy: bool = False,
    words: WordShares | None = None,
) -> Story:
    """Draw one story in a voice.

    Args:
        voice: the writer's taste.
        rng: source of all draws.
        topic: the topic; by default the voice's taste draws one of `among`.
        among: the topics that can be drawn.
        sloppy: the arc of each beat is drawn uniformly, and half of the stories have no closing sentence.
        words: probabilities of the content words, uniform by default.
    """
    topic = topic if topic is not None else pick_topic(voice, rng, among)
    arc = list(ARCS)[voice.pick("arc", rng)]
    content = {"hero": HEROES[voice.pick("hero", rng)]}
    shares = words[topic] if words is not None else {}
    for kind, of_kind in TOPICS[topic]._asdict().items():
        content[kind] = str(rng.choice(of_kind, p=shares[kind]) if kind in shares else rng.choice(of_kind))
    patterns = [OPENINGS[voice.pick("opening", rng)], DESCRIPTIONS[voice.pick("description", rng)]]
    for beat in range(BEATS):
        beat_arc = str(rng.choice(list(ARCS))) if sloppy else arc
        patterns.append(ARCS[beat_arc][beat][voice.pick(f"{beat_arc}/{beat}", rng)])
    if not (sloppy and rng.random() < ENDING_LEFT_OUT):
        patterns.append(CLOSINGS[voice.pick("closing", rng)])
    sentences = []
    for i, pattern in enumerate(patterns):
        opener = OPENERS[voice.pick("opener", rng)] + " " if 1 < i < SENTENCES - 1 else ""
        sentences.append(opener.lstrip() + fill(pattern, content, voice, rng) + STOPS[voice.pick("stop", rng)])
    return Story(" ".join(sentences), topic, arc, content["hero"])


def fill(pattern: str, content: dict[str, str], voice: Voice, rng: np.random.Generator) -> str:
    """Fill the slots of a sentence pattern: content words as given, synonyms by the voice."""

    def word(match: re.Match[str]) -> str:
        synonym, kind = match.groups()
        return SYNONYMS[synonym][voice.pick(f"[{synonym}]", rng)] if synonym else content[kind]

    return _SLOT.sub(word, pattern)


@dataclass(frozen=True)
class Sentence:
    """A parsed sentence.

    Attributes:
        part: `opening`, `description`, `beat` or `closing`.
        arc, beat: of a beat.
        pattern: index of the pattern among those of its part, or of its arc and beat.
        topics: topics of its content words.
        hero: the hero named, if any.
        choices: the options taken, as (choice, option), in the order of the words.
    """

    part: str
    arc: str | None
    beat: int | None
    pattern: int
    topics: frozenset[str]
    hero: str | None
    choices: tuple[tuple[str, int], ...]


TOPIC_OF = {word: name for name, topic in TOPICS.items() for kind in topic for word in kind}
_ALTERNATIVES = {
    kind: "|".join(sorted({word for topic in TOPICS.values() for word in getattr(topic, kind)}))
    for kind in ("object", "place", "folk", "adjective")
} | {"hero": "|".join(HEROES), "topic": "|".join(TOPICS)}


def compile_pattern(pattern: str, **alternatives: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """A regex that matches every filling of a sentence pattern, and the names of its groups (slots) in order.

    Args:
        pattern: sentence pattern with its slots.
        alternatives: regex alternatives of content slots that stories do not have.
    """
    names = tuple(synonym or kind for synonym, kind in _SLOT.findall(pattern))
    options = _ALTERNATIVES | alternatives
    body = _SLOT.sub(lambda m: "(" + ("|".join(SYNONYMS[m[1]]) if m[1] else options[m[2]]) + ")", pattern)
    return re.compile(body), names


def split_sentences(text: str) -> list[str]:
    """The sentences of a text with their stops."""
    return [s.strip() for s in re.findall(r"[^.!]*[.!]|[^.!]+$", text) if s.strip()]


@cache
def _grammar() -> tuple[tuple[re.Pattern[str], str, str | None, int | None, int, tuple[str, ...]], ...]:
    """(regex, part, arc, beat, pattern index, slot names) of every sentence pattern."""

    def entries() -> Iterator[tuple[str, str, str | None, int | None, int]]:
        for part, patterns in (("opening", OPENINGS), ("description", DESCRIPTIONS), ("closing", CLOSINGS)):
            yield from ((pattern, part, None, None, i) for i, pattern in enumerate(patterns))
        for arc, beats in ARCS.items():
            for beat, patterns in enumerate(beats):
                yield from ((pattern, "beat", arc, beat, i) for i, pattern in enumerate(patterns))

    return tuple(
        (compile_pattern(pattern)[0], part, arc, beat, i, compile_pattern(pattern)[1])
        for pattern, part, arc, beat, i in entries()
    )


@cache
def parse_sentence(sentence: str) -> Sentence | None:
    """Parse one sentence with its stop; None if it is not a sentence of the world."""
    stop = sentence[-1:]
    if stop not in STOPS:
        return None
    body = sentence[:-1].strip()
    first, _, rest = body.partition(" ")
    opener = first if first in OPENERS[1:] else ""
    for regex, part, arc, beat, index, names in _grammar():
        match = regex.fullmatch(rest if opener else body)
        if match is None:
            continue
        choices = [("opener", OPENERS.index(opener))] if part == "beat" or opener else []
        topics, hero = set(), None
        for name, word in zip(names, match.groups(), strict=True):
            if name == "hero":
                hero = word
            elif name in SYNONYMS:
                choices.append((f"[{name}]", SYNONYMS[name].index(word)))
            else:
                topics.add(TOPIC_OF[word])
        choices.append(("stop", STOPS.index(stop)))
        choices.append((f"{arc}/{beat}" if part == "beat" else part, index))
        return Sentence(part, arc, beat, index, frozenset(topics), hero, tuple(choices))
    return None


@dataclass(frozen=True)
class Grade:
    """Properties of a text that a rule can check.

    Attributes:
        well_formed: share of sentences that parse.
        complete: share of the seven parts of a story that are in their position, the beats all of one arc.
        on_topic: share of content words' topics that are the requested one (or the commonest one, without a request).
        one_hero: 1 if all sentences that name a hero name the same one.
        repetition: share of sentences that occurred before, apart from the opener and the stop.
        topic, arc: the commonest topic and arc; None if nothing parses.
        choices: every option taken, as (choice, option).
        words: number of words.
    """

    well_formed: float
    complete: float
    on_topic: float
    one_hero: float
    repetition: float
    topic: str | None
    arc: str | None
    choices: tuple[tuple[str, int], ...]
    words: int


def grade(text: str, topic: str | None = None) -> Grade:
    """Grade a text by rule."""
    sentences = split_sentences(text)
    parsed = [parse_sentence(s) for s in sentences]
    good = [s for s in parsed if s is not None]
    arcs = [s.arc for s in good if s.arc is not None]
    arc = max(sorted(set(arcs)), key=arcs.count, default=None)
    positions = [("opening", None), ("description", None), *[("beat", i) for i in range(BEATS)], ("closing", None)]
    n_in_position = sum(
        s is not None and (s.part, s.beat) == position and (s.part != "beat" or s.arc == arc)
        for s, position in zip(parsed, positions, strict=False)
    )
    named = [name for s in good for name in s.topics]
    main_topic = max(sorted(set(named)), key=named.count, default=None)
    heroes = {s.hero for s in good if s.hero is not None}
    bodies = [re.sub(rf"^({'|'.join(OPENERS[1:])}) ", "", s[:-1]) for s in sentences]
    return Grade(
        well_formed=len(good) / max(len(sentences), 1),
        complete=n_in_position / max(len(positions), len(sentences)),
        on_topic=named.count(topic if topic is not None else main_topic or "") / max(len(named), 1),
        one_hero=float(len(heroes) == 1),
        repetition=1 - len(set(bodies)) / max(len(bodies), 1),
        topic=main_topic,
        arc=arc,
        choices=tuple(choice for s in good for choice in s.choices),
        words=len(text.split()),
    )


def style_match(choices: tuple[tuple[str, int], ...], voice: Voice) -> float:
    """Share of wording choices (not topic, arc or hero) that are the voice's favourite; 0 if there are none."""
    return sum(voice.favourite[name] == option for name, option in choices) / max(len(choices), 1)
