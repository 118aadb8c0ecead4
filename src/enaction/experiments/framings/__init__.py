"""E2: is it chat formatting or authorship? The same texts in every role, with the question and without it.

Question: is own text read with least entropy in every framing, and does the reader x author interaction depend on the
role in which byte-identical text appears?
Procedure: the cells that the matrix reads (assistant turn, user turn, no template), read again with the question
dropped: `assistant` as a turn that follows nothing, `user` as a turn that holds the response alone, `none` following
BOS alone. Every reader of a stage reads every author of it; so does each reader's base. Nulls: the base stage, roles
swapped within prompts, authors shuffled within prompts.
Source: From Simulation to Enaction (arXiv 2605.25459), its comparison of roles and formats.

A model's own text has recorded ids, which are read in every framing; foreign text is tokenised anew together with what
precedes it, so that its first token can differ from framing to framing: `first_token_differs` counts that.

Axes: see `analysis`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.experiments.base import Experiment
from enaction.experiments.framings import analysis, page
from enaction.experiments.framings.texts import Alone, Condition, Question
from enaction.findings import Findings
from enaction.page import Page
from enaction.passages import Prompt
from enaction.study.config import Study
from enaction.study.planning import Plan, Text
from enaction.study.store import Cell
from enaction.words import FRAMINGS, Framing


class Framings(Experiment):
    """The same texts in every role, with and without the question.

    Attributes:
        framings: how texts are put.
        question: `kept` before the response, `dropped`, or both.
        stages: the study's stages that take part; all by default.
    """

    name = "framings"
    title = "Framings"
    asks = (
        "Is it chat formatting or authorship: is own text lowest in every role, and does recognition depend on the "
        "role in which byte-identical text appears?"
    )

    framings: Annotated[tuple[Framing, ...], Field(min_length=1)] = FRAMINGS
    question: Annotated[tuple[Question, ...], Field(min_length=1)] = ("kept", "dropped")
    stages: list[str] | None = None

    @property
    def conditions(self) -> list[Condition]:
        """Every framing with the question kept, then with it dropped."""
        return [Condition(f, q) for q in dict.fromkeys(self.question) for f in dict.fromkeys(self.framings)]

    def plan(self, study: Study, prompts: Sequence[Prompt]) -> Plan:
        """Every text of a stage read in every condition by the models of the stage and by their bases.

        Args:
            study, prompts: as in `Experiment.plan`.
        """
        texts: dict[str, Text] = {}
        cells: list[Cell] = []
        count = len(prompts) * study.sampling.per_prompt
        for members in study.groups_named(self.stages).values():
            readers = [*members, *analysis.bases_of(study, members)]
            for reader, condition, author in itertools.product(readers, self.conditions, members):
                name = condition.text_of(author)
                if name != author:
                    texts[name] = Alone(name=name, model=None, count=count, needs=(author,), source=author)
                cells.append(Cell(reader, name, condition.framing))
        return Plan(texts, cells, frozenset(cell for cell in cells if cell.author in texts))

    def analyse(self, data: Data, ledger: Ledger) -> None:
        """Entropies and recognition in each condition, differences between conditions, first tokens."""
        for stage, members in data.study.groups_named(self.stages).items():
            analysis.analyse(data, ledger.at(stage=stage), members, self.conditions)

    def page(self, findings: Findings) -> Page:
        """Whether own text is lowest in every condition, and what the role changes."""
        return page.page(self.title, self.asks, findings)
