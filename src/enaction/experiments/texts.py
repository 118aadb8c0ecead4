"""Texts that several experiments read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from enaction.passages import Passage, Prompt
from enaction.study.config import Study
from enaction.study.desk import Desk
from enaction.study.planning import Text
from enaction.words import WORLD
from enaction.world.passages import world_passages


@dataclass(frozen=True, kw_only=True)
class WorldText(Text):
    """Fresh text of the embedded world: as many passages for each of the study's prompts as a model writes."""

    @classmethod
    def of(cls, study: Study, prompts: Sequence[Prompt]) -> WorldText:
        """The world's text of a study."""
        return cls(name=WORLD, model=None, count=len(prompts) * study.sampling.per_prompt)

    def write(self, desk: Desk) -> list[Passage]:
        """The passages."""
        return world_passages(desk.prompts, desk.study.sampling.per_prompt, desk.study.seed)
