"""Texts of the personas: what a model answers under a persona, and the same text put under another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from enaction.errors import FramingError
from enaction.framing import frame_prompt
from enaction.passages import Message, Passage, Prompt, thinned
from enaction.study.desk import Desk
from enaction.study.planning import Text

if TYPE_CHECKING:
    from enaction.reader import Reader

NOBODY = "nobody"


def text_of(model: str, persona: str, requested: str) -> str:
    """Name of a model's text of one persona, put to readers as if `requested` had been requested."""
    written = model if persona == NOBODY else f"{model}.as-{persona}"
    return written if requested == persona else f"{written}.under-{requested}"


@dataclass(frozen=True, kw_only=True)
class Spoken(Text):
    """What a model answers under a persona; nothing where its template takes no system turn.

    Attributes:
        turn: the system turn that requests the persona.
        n_prompts: how many of the study's prompts are answered, spread evenly; None for all.
    """

    turn: str
    n_prompts: int | None

    def write(self, desk: Desk) -> list[Passage]:
        """The passages."""
        bare = thinned(desk.prompts, self.n_prompts)
        prompts = [Prompt(p.id, with_system(p.messages, self.turn)) for p in bare]
        framing = desk.study.models[desk.reader.name].framing
        if not takes_system_turn(desk.reader, prompts[0], bare[0], desk.study.separator, framing == "none"):
            return []
        return desk.sample(prompts, self.name, framing=framing)


@dataclass(frozen=True, kw_only=True)
class Under(Text):
    """A text as if another persona had been requested.

    Attributes:
        source: the text.
        turn: the system turn that requests the other persona; None for the study's prompts as they are.
        n_prompts: how many of the study's prompts are taken, spread evenly; None for all.
    """

    source: str
    turn: str | None
    n_prompts: int | None

    def write(self, desk: Desk) -> list[Passage]:
        """The passages."""
        plain = {p.id: p.messages for p in thinned(desk.prompts, self.n_prompts)}
        prompts = plain if self.turn is None else {name: with_system(m, self.turn) for name, m in plain.items()}
        return [
            replace(passage, author=self.name, prompt=prompts[passage.prompt_id])
            for passage in desk.passages(self.source)
            if passage.prompt_id in prompts
        ]


def takes_system_turn(reader: Reader, prompt: Prompt, bare: Prompt, separator: str, plain: bool) -> bool:
    """Whether the prompt's system turn changes what the reader sees: some templates refuse it, some drop it."""
    framing = "none" if plain or not reader.has_template else "assistant"
    bare_ids = frame_prompt(reader.tokenizer, bare, framing, separator=separator).ids
    try:
        return frame_prompt(reader.tokenizer, prompt, framing, separator=separator).ids != bare_ids
    except FramingError:
        return False


def with_system(messages: Sequence[Message], turn: str) -> tuple[Message, ...]:
    """A conversation with this system turn in place of its own, if it has one."""
    kept = [m for i, m in enumerate(messages) if i or m["role"] != "system"]
    return (Message(role="system", content=turn), *kept)
