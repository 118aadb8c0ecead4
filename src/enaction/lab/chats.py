"""Conversations and documents of the world: what the models are trained on.

Plain documents are stories by many writers. Dialogues use the roles of the chat template long before post-training: a
user asks and an assistant tells, or the user tells a story in the same turn, as real pretraining has both. Nobody's
voice belongs to a role here; that is what post-training brings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from enaction.lab.lexicon import OPEN_REQUESTS, REMARKS, TOPIC_REQUESTS, TOPICS
from enaction.lab.world import Voice, fill, tell
from enaction.passages import Message

WORLD_SEED = 20260525  # the writers of the world are the same for every family
RECURRING_WRITERS = 24
CHAT_WRITERS = 6
OPEN_SHARE = 0.35


@dataclass(frozen=True)
class Request:
    """A user's request: its words, and the topic it names (None if it leaves that open)."""

    text: str
    topic: str | None


def draw_request(rng: np.random.Generator) -> Request:
    """Draw a request; about a third name no topic."""
    if rng.random() < OPEN_SHARE:
        return Request(str(rng.choice(OPEN_REQUESTS)), None)
    topic = str(rng.choice(list(TOPICS)))
    return Request(str(rng.choice(TOPIC_REQUESTS)).format(topic=topic), topic)


def all_requests() -> list[Request]:
    """Every request there is, in a fixed order: the open ones, then those of each topic."""
    return [Request(text, None) for text in OPEN_REQUESTS] + [
        Request(pattern.format(topic=topic), topic) for topic in TOPICS for pattern in TOPIC_REQUESTS
    ]


def fresh_voice(rng: np.random.Generator) -> Voice:
    """A writer never met before, anything from vague to fixed in taste."""
    return Voice(float(rng.uniform(0.6, 2.6)), rng)


class Writers:
    """The writers of pretraining: some recur, some are met once; the chat writers answer in dialogues."""

    def __init__(self) -> None:
        rng = np.random.default_rng(WORLD_SEED)
        self.recurring = [fresh_voice(rng) for _ in range(RECURRING_WRITERS)]
        self.chat = [fresh_voice(rng) for _ in range(CHAT_WRITERS)]

    def of_text(self, rng: np.random.Generator) -> Voice:
        """A writer of a plain document or of a user's turn."""
        return self.recurring[rng.integers(RECURRING_WRITERS)] if rng.random() < 0.6 else fresh_voice(rng)

    def of_answer(self, rng: np.random.Generator) -> Voice:
        """A writer of an assistant turn before post-training."""
        return self.chat[rng.integers(CHAT_WRITERS)] if rng.random() < 0.6 else fresh_voice(rng)


def plain_document(writers: Writers, rng: np.random.Generator) -> str:
    """One story, now and then with the request that it answers, now and then a careless one."""
    request = draw_request(rng) if rng.random() < 0.3 else None
    story = tell(writers.of_text(rng), rng, topic=request.topic if request else None, sloppy=rng.random() < 0.08)
    return f"{request.text} {story.text}" if request else story.text


def dialogue(writers: Writers, rng: np.random.Generator) -> list[Message]:
    """One conversation of one to two rounds."""
    request, answerer = draw_request(rng), writers.of_answer(rng)
    kind = rng.random()
    if kind < 0.4:  # the user tells a story in the turn that asks; the assistant remarks on it
        story = tell(writers.of_text(rng), rng, topic=request.topic)
        remark = fill(str(rng.choice(REMARKS)), {"topic": story.topic, "hero": story.hero}, answerer, rng)
        return [_turn("user", f"{request.text} {story.text}"), _turn("assistant", remark)]
    story = tell(answerer, rng, topic=request.topic)
    turns = [_turn("user", request.text), _turn("assistant", story.text)]
    if kind > 0.85:
        remark = fill(str(rng.choice(REMARKS)), {"topic": story.topic, "hero": story.hero}, writers.of_text(rng), rng)
        another = draw_request(rng)
        turns += [_turn("user", f"{remark} {another.text}")]
        turns += [_turn("assistant", tell(answerer, rng, topic=another.topic).text)]
    return turns


def corpus(writers: Writers, rng: np.random.Generator, dialogue_share: float) -> Iterator[str | list[Message]]:
    """Endless pretraining text: plain documents and dialogues."""
    while True:
        yield dialogue(writers, rng) if rng.random() < dialogue_share else plain_document(writers, rng)


def _turn(role: str, content: str) -> Message:
    return Message(role=role, content=content)
