"""E4: is the effect stronger when a model reads its own prior outputs? Both readings of that sentence, labelled.

Question: (a) `position`: does the gap between own and foreign text grow along one response? (b) `earlier`: does an
earlier turn by the reader itself, instead of one by another model, change how it reads a turn that stays the same?
Procedure: (a) cells of the matrix, in bins of positions and in first-k beginnings, where every author's text of the
prompt has all of these positions. (b) conversations of two rounds: a first question, an earlier answer by each author
of the stage, a second question, and a measured answer, byte-identical whoever wrote the earlier one. The measured
answers are the study's own, sampled without the first round, so that no arm is the one that they were sampled in.
Nulls: the base stage; authors shuffled within prompts; and the continuity of a foreign author, because two own answers
are also two answers of one author.
Source: From Simulation to Enaction (arXiv 2605.25459), of which only the sentence is known.

Question 1 of prompt i of n (of the chosen prompts, in their order) is the question of prompt (i + n // 2) mod n; an
author's response number k to it is the earlier answer before measured response number k.

Axes: see `positions` for (a), `earlier` for (b).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.experiments.base import Experiment
from enaction.experiments.prior import earlier, page, positions
from enaction.experiments.prior.texts import TwoRounds, text_of
from enaction.findings import Findings
from enaction.page import Page
from enaction.passages import Prompt, thinned
from enaction.study.config import Study
from enaction.study.planning import Plan, Text
from enaction.study.store import Cell


class Prior(Experiment):
    """A model's own prior outputs.

    Attributes:
        stages: the study's stages that take part; all by default.
        edges: edges of the bins of positions, in the reader's tokens; also the lengths of the first-k beginnings.
        n_prompts: conversations of two rounds: how many of the study's prompts, spread evenly; null for all.
        match_length: cut the earlier answers to one number of words, the least of all authors' at that prompt.
    """

    name = "prior"
    title = "Own prior outputs"
    asks = (
        "Is the effect amplified when a model reads its own prior outputs: (a) along one response, (b) with an own "
        "earlier turn before a turn that stays the same?"
    )

    stages: list[str] | None = None
    edges: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=2)] = (1, 2, 4, 8, 16, 32, 64, 128)
    n_prompts: Annotated[int, Field(ge=2)] | None = 24
    match_length: bool = True

    def plan(self, study: Study, prompts: Sequence[Prompt]) -> Plan:
        """The matrix's cells, and every author following every earlier author of its stage, read by the stage."""
        count = len(thinned(prompts, self.n_prompts)) * study.sampling.per_prompt
        of_text: dict[str, Any] = {"count": count, "n_prompts": self.n_prompts, "match_length": self.match_length}
        texts: dict[str, Text] = {}
        cells: list[Cell] = []
        for stage, members in study.groups_named(self.stages).items():
            cells += [Cell(r, a, "assistant") for r in members for a in members]
            for author, before in itertools.product(members, members):
                name = text_of(author, before, stage, self.match_length)
                needs = tuple(members)
                texts[name] = TwoRounds(name=name, model=None, needs=needs, author=author, earlier=before, **of_text)
                cells += [Cell(reader, name, "assistant") for reader in members]
        return Plan(texts, cells, frozenset(cell for cell in cells if cell.author in texts))

    def analyse(self, data: Data, ledger: Ledger) -> None:
        """Write all findings, stage by stage: both readings."""
        two_rounds = ledger.at(reading="earlier", prompts=data.subset(thinned(data.prompts, self.n_prompts)))
        for stage, members in data.study.groups_named(self.stages).items():
            positions.analyse(data, ledger.at(reading="position", stage=stage), members, self.edges)
            texts_EA = [[text_of(a, e, stage, self.match_length) for a in members] for e in members]
            earlier.analyse(data, two_rounds.at(stage=stage), members, texts_EA)

    def page(self, findings: Findings) -> Page:
        """What the report shows of own prior outputs."""
        return page.page(self.title, self.asks, findings)
