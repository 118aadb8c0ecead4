"""Conversations and documents of the world: the text that the models are trained on.

Plain documents are stories by many writers. Dialogues use the roles of the chat template long before post-training: a
user asks and an assistant tells, answers or names, or the user tells a story in the same turn, since real pretraining
text has both. No voice belongs to a role here, except where a system turn names a persona; post-training adds a house
voice. The writers are a finite set with known shares, so that a reader can enumerate them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from enaction.passages import Message
from enaction.world.answering import tell_answer, tell_name, wrong_topic
from enaction.world.lexicon import (
    CATEGORIES,
    NAME_REQUESTS,
    OPEN_REQUESTS,
    PERSONA_TURNS,
    PERSONAS,
    QUESTIONS,
    REMARKS,
    TOPIC_REQUESTS,
    TOPICS,
)
from enaction.world.stories import Voice, fill, tell

WORLD_SEED = 20260525  # the writers of the world are the same for every family
RECURRING_WRITERS = 24
CHAT_WRITERS = 6
POOL_WRITERS = 1000
RECURRING_SHARE = 0.6  # of documents and answers; the others are by the pool, uniform in both
PERSONA_SCALE = 1.8
OPEN_SHARE = 0.35
REQUEST_SHARE = 0.3  # of plain documents that begin with the request that they answer
SLOPPY_SHARE = 0.08  # of plain documents
MEMORISED = 8
MEMORISED_SHARE = 0.02  # of documents
PERSONA_SHARE = 0.15  # of dialogues, as are the next two
QUESTION_SHARE = 0.10
NAMING_SHARE = 0.06
ERROR_SHARE = 1 / 6  # of answers before post-training

Kind = Literal["story", "question", "name"]


@dataclass(frozen=True)
class Request:
    """A user's request.

    Attributes:
        text: its words.
        topic: the topic that it names, or that its object belongs to; None if it leaves the topic open.
        kind: a story, an answer or a name.
        about: the object of a question, the category of a naming request; empty for a story.
    """

    text: str
    topic: str | None
    kind: Kind = "story"
    about: str = ""


def draw_request(rng: np.random.Generator) -> Request:
    """Draw a request for a story; about a third name no topic."""
    if rng.random() < OPEN_SHARE:
        return Request(str(rng.choice(OPEN_REQUESTS)), None)
    topic = str(rng.choice(list(TOPICS)))
    return Request(str(rng.choice(TOPIC_REQUESTS)).format(topic=topic), topic)


def draw_question(rng: np.random.Generator) -> Request:
    """Draw a question about an object, uniform."""
    return all_questions()[rng.integers(len(all_questions()))]


def draw_naming(rng: np.random.Generator) -> Request:
    """Draw a request to name something, uniform."""
    return all_namings()[rng.integers(len(all_namings()))]


def draw_any_request(rng: np.random.Generator, question_share: float, naming_share: float) -> Request:
    """Draw a request of any kind with the given shares."""
    kind = rng.random()
    if kind < question_share:
        return draw_question(rng)
    return draw_naming(rng) if kind < question_share + naming_share else draw_request(rng)


@cache
def all_requests() -> tuple[Request, ...]:
    """Every request for a story, in a fixed order: the open ones, then those of each topic."""
    return tuple(Request(text, None) for text in OPEN_REQUESTS) + tuple(
        Request(pattern.format(topic=topic), topic) for topic in TOPICS for pattern in TOPIC_REQUESTS
    )


@cache
def all_questions() -> tuple[Request, ...]:
    """Every question: topic by topic, object by object, each in every wording."""
    return tuple(
        Request(pattern.format(object=thing), topic, "question", thing)
        for topic, words in TOPICS.items()
        for thing in words.object
        for pattern in QUESTIONS
    )


@cache
def all_namings() -> tuple[Request, ...]:
    """Every request to name something: category by category, each in every wording."""
    return tuple(
        Request(
            pattern.format(category=f"{'an' if category[0] in 'aeiou' else 'a'} {category}"), None, "name", category
        )
        for category in CATEGORIES
        for pattern in NAME_REQUESTS
    )


def draw_voice(rng: np.random.Generator) -> Voice:
    """Draw a writer, of any taste from vague to fixed."""
    return Voice(float(rng.uniform(0.6, 2.6)), rng)


class Writers:
    """The writers of pretraining: some recur, many are rare; the chat writers answer in dialogues."""

    def __init__(self) -> None:
        rng = np.random.default_rng(WORLD_SEED)
        self.recurring = [draw_voice(rng) for _ in range(RECURRING_WRITERS)]
        self.chat = [draw_voice(rng) for _ in range(CHAT_WRITERS)]
        self.pool = [draw_voice(rng) for _ in range(POOL_WRITERS)]
        self.personas = {name: Voice(PERSONA_SCALE, rng) for name in PERSONAS}

    def of_text(self, rng: np.random.Generator) -> Voice:
        """A writer of a plain document or of a user's turn."""
        return self._draw(self.recurring, rng)

    def of_answer(self, rng: np.random.Generator) -> Voice:
        """A writer of an assistant turn before post-training."""
        return self._draw(self.chat, rng)

    def _draw(self, regulars: list[Voice], rng: np.random.Generator) -> Voice:
        voices = regulars if rng.random() < RECURRING_SHARE else self.pool
        return voices[rng.integers(len(voices))]

    def text_prior(self) -> list[tuple[Voice, float]]:
        """Every writer of plain documents and users' turns with its probability."""
        return self._prior(self.recurring)

    def answer_prior(self) -> list[tuple[Voice, float]]:
        """Every writer of assistant turns without a persona with its probability."""
        return self._prior(self.chat)

    def _prior(self, regulars: list[Voice]) -> list[tuple[Voice, float]]:
        recurring = [(voice, RECURRING_SHARE / len(regulars)) for voice in regulars]
        return recurring + [(voice, (1 - RECURRING_SHARE) / len(self.pool)) for voice in self.pool]


@cache
def memorised() -> tuple[str, ...]:
    """The stories that pretraining repeats word for word, by writers of vague taste, to be learned by heart."""
    rng = np.random.default_rng([WORLD_SEED, 1])
    return tuple(tell(Voice(0.6, rng), rng).text for _ in range(MEMORISED))


def plain_document(writers: Writers, rng: np.random.Generator) -> str:
    """One story; some follow the request that they answer, some are sloppy."""
    request = draw_request(rng) if rng.random() < REQUEST_SHARE else None
    sloppy = bool(rng.random() < SLOPPY_SHARE)
    story = tell(writers.of_text(rng), rng, topic=request.topic if request else None, sloppy=sloppy)
    return f"{request.text} {story.text}" if request else story.text


def reply(request: Request, voice: Voice, rng: np.random.Generator, *, error_share: float = 0.0) -> str:
    """A reply to a request in a voice; a share of the answers is wrong, with one wrong topic throughout."""
    if request.kind == "question":
        wrong = rng.random() < error_share
        return tell_answer(voice, rng, request.about, wrong_topic(request.about, rng) if wrong else None)
    if request.kind == "name":
        return tell_name(voice, rng, request.about)
    return tell(voice, rng, topic=request.topic).text


def persona_turn(name: str, rng: np.random.Generator) -> Message:
    """The system turn that asks for a persona's voice."""
    return _turn("system", str(rng.choice(PERSONA_TURNS)).format(persona=name))


def dialogue(writers: Writers, rng: np.random.Generator) -> list[Message]:
    """One conversation of one to two rounds, some with a persona."""
    turns, answerer = [], writers.of_answer(rng)
    if rng.random() < PERSONA_SHARE:
        persona = PERSONAS[rng.integers(len(PERSONAS))]
        turns, answerer = [persona_turn(persona, rng)], writers.personas[persona]
    request = draw_any_request(rng, QUESTION_SHARE, NAMING_SHARE)
    if request.kind != "story":
        response = reply(request, answerer, rng, error_share=ERROR_SHARE)
        return [*turns, _turn("user", request.text), _turn("assistant", response)]
    kind = rng.random()
    if kind < 0.4:  # the user tells a story in the turn that asks; the assistant remarks on it
        story = tell(writers.of_text(rng), rng, topic=request.topic)
        remark = fill(str(rng.choice(REMARKS)), {"topic": story.topic, "hero": story.hero}, answerer, rng)
        return [*turns, _turn("user", f"{request.text} {story.text}"), _turn("assistant", remark)]
    story = tell(answerer, rng, topic=request.topic)
    turns += [_turn("user", request.text), _turn("assistant", story.text)]
    if kind > 0.85:
        remark = fill(str(rng.choice(REMARKS)), {"topic": story.topic, "hero": story.hero}, writers.of_text(rng), rng)
        another = draw_request(rng)
        turns += [_turn("user", f"{remark} {another.text}")]
        turns += [_turn("assistant", tell(answerer, rng, topic=another.topic).text)]
    return turns


def corpus(writers: Writers, rng: np.random.Generator, dialogue_share: float) -> Iterator[str | list[Message]]:
    """Endless pretraining text: memorised documents, and dialogues and plain documents in the given share."""
    while True:
        if rng.random() < MEMORISED_SHARE:
            yield memorised()[rng.integers(MEMORISED)]
        else:
            yield dialogue(writers, rng) if rng.random() < dialogue_share else plain_document(writers, rng)


def _turn(role: str, content: str) -> Message:
    return Message(role=role, content=content)
