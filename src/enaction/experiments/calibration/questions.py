"""Questions whose answers can be checked: options, the words that settle them, and which option is right."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from enaction.errors import StudyError
from enaction.passages import Message, Prompt
from enaction.world import chats
from enaction.world.lexicon import TOPICS

# A sentence ends at a stop before white space or the end, or at a line break.
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")

Words = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]


class Option(BaseModel):
    """One answer that can be given.

    Attributes:
        says: words that claim it.
        follows: words that go with it in what is said after the claim; `says` by default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    says: Words
    follows: Words = ("",)

    @model_validator(mode="before")
    @classmethod
    def _words_alone(cls, given: object) -> object:
        given = {"says": given} if isinstance(given, list) else given
        return {"follows": given.get("says"), **given} if isinstance(given, dict) else given


class Question(BaseModel):
    """A question with its options; a line of a questions file.

    Attributes:
        id: unique.
        prompt: the user's words.
        options: by name.
        right: the name of the right one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    prompt: str
    options: Annotated[dict[str, Option], Field(min_length=2)]
    right: str

    @model_validator(mode="after")
    def _fits(self) -> Question:
        if self.right not in self.options:
            raise ValueError(f"the right option '{self.right}' is not among the options")
        for kind in ("says", "follows"):
            words = sorted((word, name) for name, option in self.options.items() for word in getattr(option, kind))
            for (one, of_one), (other, of_other) in itertools.combinations(words, 2):
                # The probability of a word includes that of every longer one, so these could not be told apart.
                if of_one != of_other and other.startswith(one):
                    raise ValueError(f"'{other}' of {of_other} begins with '{one}' of {of_one}: use other words")
        return self

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation."""
        return (Message(role="user", content=self.prompt),)

    def as_prompt(self) -> Prompt:
        """The question as a prompt."""
        return Prompt(self.id, self.messages)


@dataclass(frozen=True)
class Settled:
    """Where a text takes an option: the word and its position in characters."""

    option: str
    word: str
    start: int


def read_questions(path: Path) -> list[Question]:
    """Read a JSON lines file of questions.

    Raises:
        StudyError: the file is missing, or a line is not a question.
    """
    questions: dict[str, Question] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise StudyError(f"{path}: cannot read the questions ({error.strerror}): check the path") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            question = Question.model_validate(json.loads(line))
        except (json.JSONDecodeError, ValidationError) as error:
            problem = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.msg
            raise StudyError(
                f"{path}, line {number}: {problem}; a line is "
                '{"id", "prompt", "options": {NAME: [words that claim it]}, "right": NAME}'
            ) from None
        if question.id in questions:
            raise StudyError(f"{path}, line {number}: id '{question.id}' is used already; ids must be unique")
        questions[question.id] = question
    if len(questions) < 2:
        raise StudyError(f"{path} holds {len(questions)} questions; calibration needs at least two")
    return list(questions.values())


def world_questions() -> list[Question]:
    """One question about each object of the embedded world, in wordings that post-training has not seen about it."""
    options = {name: Option(says=(name,), follows=(*topic.folk, *topic.place)) for name, topic in TOPICS.items()}
    wordings: dict[str, list] = {}
    for request in filter(chats.held_out("question").__contains__, chats.all_questions()):
        wordings.setdefault(request.about, []).append(request)
    return [
        Question(id=thing, prompt=of[i % len(of)].text, options=options, right=of[0].topic)
        for i, (thing, of) in enumerate(wordings.items())
    ]


def first_sentence(text: str) -> str:
    """The first sentence with its stop, without the white space after it; empty if no sentence ends."""
    end = _SENTENCE_END.search(text)
    return text[: end.end()].rstrip() if end else ""


def claimed(question: Question, text: str) -> Settled | None:
    """The option that a text claims first."""
    return _settled(text, ((name, option.says) for name, option in question.options.items()))


def followed(question: Question, text: str) -> Settled | None:
    """The option whose words come first in what is said after a claim."""
    return _settled(text, ((name, option.follows) for name, option in question.options.items()))


def _settled(text: str, words_of: Iterable[tuple[str, tuple[str, ...]]]) -> Settled | None:
    option_of = {word: name for name, words in words_of for word in words}
    longest_first = sorted(option_of, key=len, reverse=True)
    match = re.search(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", text)
    return Settled(option_of[match[0]], match[0], match.start()) if match else None
