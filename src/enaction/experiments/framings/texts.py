"""Ways to put a text, and a text without the conversation before it.

Names: `MODEL.alone` is a model's own text with the question dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from enaction.passages import Passage
from enaction.study.desk import Desk
from enaction.study.planning import Text
from enaction.words import Framing

Question = Literal["kept", "dropped"]


class Condition(NamedTuple):
    """One way to put a text."""

    framing: Framing
    question: Question

    def text_of(self, author: str) -> str:
        """Name of the author's text that is read in this condition."""
        return author if self.question == "kept" else f"{author}.alone"

    def texts_of(self, authors: Iterable[str]) -> list[str]:
        """As `text_of`, of several authors."""
        return [self.text_of(author) for author in authors]

    def minus(self, other: Condition) -> dict[str, Any]:
        """The place of what changes from another condition to this one."""
        return {**self._asdict(), "minus_framing": other.framing, "minus_question": other.question}


@dataclass(frozen=True, kw_only=True)
class Alone(Text):
    """An author's passages without the conversation before them.

    Attributes:
        source: the text whose passages they are.
    """

    source: str

    def write(self, desk: Desk) -> list[Passage]:
        """The passages."""
        return [replace(passage, prompt=(), author=self.name) for passage in desk.passages(self.source)]
