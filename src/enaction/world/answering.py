"""Short replies: answers to questions about the world, and names of things, written in a voice and graded by rule.

A question ("where does the rake belong?") has one right answer: the topic that the object is a word of. An answer has
two sentences: the first claims a topic, the second says who keeps the object where, which must fit the claim. A mistake
can be taken back: then a sentence between them claims another topic, and the last one must fit that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from enaction.world.lexicon import ANSWERS, CATEGORIES, CORRECTIONS, HEROES, KEEPINGS, NAMINGS, STOPS, SYNONYMS, TOPICS
from enaction.world.stories import TOPIC_OF, Voice, compile_pattern, fill, pick_topic, split_sentences

_WORDS_OF = {"object": "object", "place": "place", "character": "folk"}  # category -> kind of content word


def tell_answer(
    voice: Voice, rng: np.random.Generator, thing: str, topic: str | None = None, mistaken_for: str | None = None
) -> str:
    """Answer where an object belongs.

    The patterns, synonyms and stops are the voice's; the folk and the place are uniform within the topic of the answer.

    Args:
        voice: the writer's taste.
        rng: source of all draws.
        thing: the object.
        topic: the topic that the answer settles for; by default the true one.
        mistaken_for: a topic that the answer claims first and takes back.
    """
    topic = topic if topic is not None else TOPIC_OF[thing]
    content = {"object": thing, "topic": topic}
    content |= {kind: str(rng.choice(getattr(TOPICS[topic], kind))) for kind in ("folk", "place")}

    def sentence(patterns: tuple[str, ...], part: str, topic: str = topic) -> str:
        filled = fill(patterns[voice.pick(part, rng)], content | {"topic": topic}, voice, rng)
        return filled + STOPS[voice.pick("stop", rng)]

    sentences = [sentence(ANSWERS, "answer", mistaken_for or topic)]
    sentences += [sentence(CORRECTIONS, "correction")] if mistaken_for else []
    return " ".join([*sentences, sentence(KEEPINGS, "keeping")])


def wrong_topic(thing: str, rng: np.random.Generator, among: Sequence[str] = tuple(TOPICS)) -> str:
    """A topic that the object does not belong to, uniform among these."""
    return str(rng.choice([topic for topic in among if topic != TOPIC_OF[thing]]))


def tell_name(voice: Voice, rng: np.random.Generator, category: str, among: Sequence[str] = tuple(TOPICS)) -> str:
    """Name something of a category; hero and topic, one of these, by the voice's taste, uniform within the topic."""
    if category == "hero":
        thing = HEROES[voice.pick("hero", rng)]
    else:
        topic = pick_topic(voice, rng, among)
        word = topic if category == "topic" else str(rng.choice(getattr(TOPICS[topic], _WORDS_OF[category])))
        thing = f"the {word}"
    content = {"thing": thing, "category": category}
    return fill(NAMINGS[voice.pick("naming", rng)], content, voice, rng) + STOPS[voice.pick("stop", rng)]


@dataclass(frozen=True)
class AnswerGrade:
    """Properties of an answer that a rule can check.

    Attributes:
        well_formed: it is a claim about the object and a keeping, with at most one correction between them.
        topic: the topic that it settles for: that of the correction, else of the first sentence; None if there is none.
        right: that topic is the true one.
        consistent: the last sentence's folk and place are of that topic.
        taken_back: the first sentence claims another topic than the answer settles for.
        choices: every option taken, as (choice, option).
    """

    well_formed: bool
    topic: str | None
    right: bool
    consistent: bool
    taken_back: bool
    choices: tuple[tuple[str, int], ...]


def grade_answer(text: str, thing: str) -> AnswerGrade:
    """Grade an answer to "where does the `thing` belong?" by rule."""
    sentences = split_sentences(text)
    claim = _parse(sentences[0], "answer") if sentences else None
    correction = _parse(sentences[1], "correction") if len(sentences) > 1 else None
    at = 1 if correction is None else 2
    keeping = _parse(sentences[at], "keeping") if len(sentences) > at else None
    spoken = [part for part in (claim, correction) if part is not None]
    about_it = claim is not None and all(part.content.get("object", thing) == thing for part in spoken)
    claims = [part.content["topic"] for part in spoken] if about_it else []
    topic = claims[-1] if claims else None
    kept_in = {TOPIC_OF[word] for word in keeping.content.values()} if keeping is not None else set()
    return AnswerGrade(
        # A correction that claims the same again corrects nothing.
        well_formed=topic is not None
        and len(set(claims)) == len(claims)
        and keeping is not None
        and len(sentences) == at + 1,
        topic=topic,
        right=topic == TOPIC_OF[thing],
        consistent=topic is not None and kept_in == {topic},
        taken_back=len(set(claims)) > 1,
        choices=tuple(choice for part in (claim, correction, keeping) if part is not None for choice in part.choices),
    )


@dataclass(frozen=True)
class NameGrade:
    """Properties of a naming that a rule can check.

    Attributes:
        well_formed: it is one sentence that names something.
        in_category: the named thing is of the requested category, and called so.
        topic: the topic of the named thing; None for heroes and for a naming that is not well formed.
        named: the word; None if the naming is not well formed.
        choices: every option taken, as (choice, option).
    """

    well_formed: bool
    in_category: bool
    topic: str | None
    named: str | None
    choices: tuple[tuple[str, int], ...]


def grade_name(text: str, category: str) -> NameGrade:
    """Grade a reply to a request to name something of a category by rule."""
    sentences = split_sentences(text)
    naming = _parse(sentences[0], "naming") if len(sentences) == 1 else None
    if naming is None:
        return NameGrade(False, False, None, None, ())
    named = naming.content["thing"].removeprefix("the ")
    return NameGrade(
        well_formed=True,
        in_category=named in category_words(category) and naming.content.get("category", category) == category,
        topic=named if named in TOPICS else TOPIC_OF.get(named),
        named=named,
        choices=naming.choices,
    )


def category_words(category: str) -> tuple[str, ...]:
    """Every word of a category."""
    if category == "hero":
        return HEROES
    if category == "topic":
        return tuple(TOPICS)
    return tuple(word for topic in TOPICS.values() for word in getattr(topic, _WORDS_OF[category]))


@dataclass(frozen=True)
class _Parsed:
    content: dict[str, str]
    choices: tuple[tuple[str, int], ...]


@cache
def _grammar(part: str) -> tuple[tuple[Any, tuple[str, ...]], ...]:
    """(regex, slot names) of the patterns of a part."""
    patterns = {"answer": ANSWERS, "correction": CORRECTIONS, "keeping": KEEPINGS, "naming": NAMINGS}[part]
    things = [f"the {word}" for category in CATEGORIES if category != "hero" for word in category_words(category)]
    alternatives = {"thing": "|".join([*things, *HEROES]), "category": "|".join(CATEGORIES)}
    return tuple(compile_pattern(pattern, **alternatives) for pattern in patterns)


@cache
def _parse(sentence: str, part: str) -> _Parsed | None:
    """Parse one sentence with its stop as this part of a reply; None if it does not match."""
    if sentence[-1:] not in STOPS:
        return None
    for index, (regex, names) in enumerate(_grammar(part)):
        match = regex.fullmatch(sentence[:-1])
        if match is not None:
            slots = list(zip(names, match.groups(), strict=True))
            choices = [(part, index), ("stop", STOPS.index(sentence[-1]))]
            choices += [(f"[{name}]", SYNONYMS[name].index(word)) for name, word in slots if name in SYNONYMS]
            return _Parsed({name: word for name, word in slots if name not in SYNONYMS}, tuple(choices))
    return None
