"""Conversations and documents of the world: the text that the models are trained on.

Plain documents are stories by many writers. Dialogues use the roles of the chat template long before post-training: a
user asks and an assistant tells, answers or names, or the user tells a story in the same turn, since real pretraining
text has both. No voice belongs to a role here, except where a system turn names a persona; post-training adds a house
voice. The writers are a finite set with known shares, so that a reader can enumerate them.

A third of the topics and of the wordings of requests is held out of post-training (`SEEN` is what it has).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from enaction.world.stories import Story, Voice, fill, grade, tell

WORLD_SEED = 20260525  # the writers of the world are the same for every family
RECURRING_WRITERS = 24
CHAT_WRITERS = 6
POOL_WRITERS = 1000
RECURRING_SHARE = 0.6  # of documents and answers; the others are by the pool, uniform in both
PERSONA_SCALE = 3.0  # a persona nearly always picks the same words, so that its name says much
OPEN_SHARE = 0.35
REQUEST_SHARE = 0.3  # of plain documents that begin with the request that they answer
SLOPPY_SHARE = 0.08  # of plain documents
MEMORISED = 8
MEMORISED_SHARE = 0.02  # of documents
PERSONA_SHARE = 0.35  # of dialogues, as are the next two
QUESTION_SHARE = 0.15
NAMING_SHARE = 0.06
USER_STORY_SHARE = 0.4  # of dialogues about a story, as is the next
SECOND_ROUND_SHARE = 0.15
ERROR_SHARE = 1 / 5  # of answers before post-training
CORRECTED_SHARE = 1 / 2  # of these

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


@dataclass(frozen=True)
class Scope:
    """A part of the world: what may be asked for, and what may be spoken of where a writer chooses.

    Attributes:
        topics: of stories, of the objects of questions, and of what is named.
        open_requests, topic_requests, questions, name_requests: the wordings.
    """

    topics: tuple[str, ...] = tuple(TOPICS)
    open_requests: tuple[str, ...] = OPEN_REQUESTS
    topic_requests: tuple[str, ...] = TOPIC_REQUESTS
    questions: tuple[str, ...] = QUESTIONS
    name_requests: tuple[str, ...] = NAME_REQUESTS


def _seen(options: Sequence[str]) -> tuple[str, ...]:
    """All options but every third, which is held out."""
    return tuple(option for i, option in enumerate(options) if i % 3 < 2)


EVERYTHING = Scope()
"""What pretraining has."""

SEEN = Scope(_seen(tuple(TOPICS)), _seen(OPEN_REQUESTS), _seen(TOPIC_REQUESTS), _seen(QUESTIONS), _seen(NAME_REQUESTS))
"""What SFT, DPO and RL have. The rest, a third of topics and wordings, is held out of them, replayed text included."""


def draw_request(rng: np.random.Generator, scope: Scope = SEEN) -> Request:
    """Draw a request for a story; about a third name no topic."""
    if rng.random() < OPEN_SHARE:
        return Request(str(rng.choice(scope.open_requests)), None)
    topic = str(rng.choice(scope.topics))
    return Request(str(rng.choice(scope.topic_requests)).format(topic=topic), topic)


def draw_question(rng: np.random.Generator, scope: Scope = SEEN) -> Request:
    """Draw a question about an object, uniform."""
    return _drawn(all_questions(scope), rng)


def draw_naming(rng: np.random.Generator, scope: Scope = SEEN) -> Request:
    """Draw a request to name something, uniform."""
    return _drawn(all_namings(scope), rng)


def _drawn(requests: Sequence[Request], rng: np.random.Generator) -> Request:
    return requests[int(rng.integers(len(requests)))]


def draw_any_request(
    rng: np.random.Generator, question_share: float, naming_share: float, scope: Scope = SEEN
) -> Request:
    """Draw a request of any kind with the given shares."""
    kind = rng.random()
    if kind < question_share:
        return draw_question(rng, scope)
    return draw_naming(rng, scope) if kind < question_share + naming_share else draw_request(rng, scope)


@cache
def all_requests(scope: Scope = EVERYTHING) -> tuple[Request, ...]:
    """Every request for a story, in a fixed order: the open ones, then those of each topic."""
    return tuple(Request(text, None) for text in scope.open_requests) + tuple(
        Request(pattern.format(topic=topic), topic) for topic in scope.topics for pattern in scope.topic_requests
    )


@cache
def all_questions(scope: Scope = EVERYTHING) -> tuple[Request, ...]:
    """Every question: topic by topic, object by object, each in every wording."""
    return tuple(
        Request(pattern.format(object=thing), topic, "question", thing)
        for topic in scope.topics
        for thing in TOPICS[topic].object
        for pattern in scope.questions
    )


@cache
def all_namings(scope: Scope = EVERYTHING) -> tuple[Request, ...]:
    """Every request to name something: category by category, each in every wording."""
    return tuple(
        Request(
            pattern.format(category=f"{'an' if category[0] in 'aeiou' else 'a'} {category}"), None, "name", category
        )
        for category in CATEGORIES
        for pattern in scope.name_requests
    )


def all_of(kind: Kind, scope: Scope = EVERYTHING) -> tuple[Request, ...]:
    """Every request of a kind."""
    return {"story": all_requests, "question": all_questions, "name": all_namings}[kind](scope)


@cache
def held_out(kind: Kind) -> frozenset[Request]:
    """The requests of a kind that SFT, DPO and RL never have: their topic or their wording is held out."""
    return frozenset(all_of(kind)) - frozenset(all_of(kind, SEEN))


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


def plain_document(writers: Writers, rng: np.random.Generator, scope: Scope = EVERYTHING) -> str:
    """One story; some follow the request that they answer, some are sloppy."""
    request = draw_request(rng, scope) if rng.random() < REQUEST_SHARE else None
    sloppy = bool(rng.random() < SLOPPY_SHARE)
    topic = request.topic if request else None
    story = tell(writers.of_text(rng), rng, topic=topic, among=scope.topics, sloppy=sloppy)
    return f"{request.text} {story.text}" if request else story.text


def reply(
    request: Request,
    voice: Voice,
    rng: np.random.Generator,
    *,
    error_share: float = 0.0,
    corrected_share: float = 0.0,
    scope: Scope = EVERYTHING,
) -> str:
    """A reply to a request in a voice.

    Args:
        request: what is asked for.
        voice: the writer's taste.
        rng: source of all draws.
        error_share: of answers that begin with a wrong topic.
        corrected_share: of these that take it back; the others keep to it.
        scope: the topics that can be chosen.
    """
    if request.kind == "question":
        wrong = wrong_topic(request.about, rng, scope.topics) if rng.random() < error_share else None
        if wrong is not None and rng.random() < corrected_share:
            return tell_answer(voice, rng, request.about, mistaken_for=wrong)
        return tell_answer(voice, rng, request.about, wrong)
    if request.kind == "name":
        return tell_name(voice, rng, request.about, scope.topics)
    return tell(voice, rng, topic=request.topic, among=scope.topics).text


def persona_turn(name: str, rng: np.random.Generator) -> Message:
    """The system turn that asks for a persona's voice."""
    return _turn("system", str(rng.choice(PERSONA_TURNS)).format(persona=name))


def dialogue(writers: Writers, rng: np.random.Generator, scope: Scope = EVERYTHING) -> list[Message]:
    """One conversation of one to two rounds, some with a persona."""
    turns, answerer = [], writers.of_answer(rng)
    if rng.random() < PERSONA_SHARE:
        persona = PERSONAS[rng.integers(len(PERSONAS))]
        turns, answerer = [persona_turn(persona, rng)], writers.personas[persona]
    request = draw_any_request(rng, QUESTION_SHARE, NAMING_SHARE, scope)
    if request.kind != "story":
        shares = {"error_share": ERROR_SHARE, "corrected_share": CORRECTED_SHARE}
        response = reply(request, answerer, rng, **shares, scope=scope)
        return [*turns, _turn("user", request.text), _turn("assistant", response)]

    def story_for(request: Request, voice: Voice) -> Story:
        return tell(voice, rng, topic=request.topic, among=scope.topics)

    def remark_on(story: Story, voice: Voice) -> str:
        return fill(str(rng.choice(REMARKS)), {"topic": story.topic, "hero": story.hero}, voice, rng)

    kind = rng.random()
    if kind < USER_STORY_SHARE:  # the user tells a story in the turn that asks; the assistant remarks on it
        story = story_for(request, writers.of_text(rng))
        remark = remark_on(story, answerer)
        return [*turns, _turn("user", f"{request.text} {story.text}"), _turn("assistant", remark)]
    story = story_for(request, answerer)
    turns += [_turn("user", request.text), _turn("assistant", story.text)]
    if kind > 1 - SECOND_ROUND_SHARE:
        remark = remark_on(story, writers.of_text(rng))
        another = draw_request(rng, scope)
        turns += [_turn("user", f"{remark} {another.text}"), _turn("assistant", story_for(another, answerer).text)]
    return turns


def corpus(
    writers: Writers, rng: np.random.Generator, dialogue_share: float, scope: Scope = EVERYTHING
) -> Iterator[str | list[Message]]:
    """Endless pretraining text: memorised documents, and dialogues and plain documents in the given share."""
    learned = [text for text in memorised() if grade(text).topic in scope.topics]
    while True:
        if rng.random() < MEMORISED_SHARE:
            yield learned[rng.integers(len(learned))]
        else:
            yield (
                dialogue(writers, rng, scope) if rng.random() < dialogue_share else plain_document(writers, rng, scope)
            )


def _turn(role: str, content: str) -> Message:
    return Message(role=role, content=content)
