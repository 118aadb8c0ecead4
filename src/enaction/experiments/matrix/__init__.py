"""E1, E2 and E5: reader x author entropy at each stage and framing, and what it says of recognition.

Question: does each reader have less entropy on its own text than its own confidence and the text's difficulty explain,
which stage brings that, and does it matter in whose turn the text appears?
Procedure: every model of a stage reads every model's passages; the table of mean entropies gives the ratio, which a
critic distrusts, and the interaction, which removes reader and author main effects. The controls are the family's own
base on the same texts, text of the world, surprisal, and the identity residual of every reader.
Source: From Simulation to Enaction (arXiv 2605.25459), its entropy matrix, role comparison and training stages.

Axes: see `analysis`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.experiments.base import Experiment
from enaction.experiments.matrix import analysis, page
from enaction.experiments.texts import WorldText
from enaction.findings import Findings
from enaction.page import Page
from enaction.passages import Prompt
from enaction.study.config import Study
from enaction.study.planning import Plan, Text
from enaction.study.store import Cell
from enaction.words import WORLD


class Matrix(Experiment):
    """Every reader on every author; models, framings and world text are the study's own.

    Attributes:
        first_tokens: numbers k for the interaction over the first k tokens, and over the tokens between them.
    """

    name = "matrix"
    title = "Matrix"
    asks = "Is a reader more familiar with text like its own than its confidence and the text's ease explain?"

    first_tokens: tuple[Annotated[int, Field(ge=1)], ...] = (1, 2, 4, 8, 16, 32, 64)

    def plan(self, study: Study, prompts: Sequence[Prompt]) -> Plan:
        """The world's text if the study wants it, and every text read by all, or within each matrix and by the bases.

        Args:
            study, prompts: as in `Experiment.plan`.
        """
        texts: dict[str, Text] = {WORLD: WorldText.of(study, prompts)} if study.world_text else {}
        cells = [
            Cell(reader, author, framing)
            for reader in study.models
            for framing in study.framings
            for author in [*_authors(study, reader), *texts]
        ]
        return Plan(texts, cells)

    def analyse(self, data: Data, ledger: Ledger) -> None:
        """Trust, cells and quality of the texts, then what each table says, then changes between stages."""
        analysis.analyse(data, ledger, sorted(set(self.first_tokens)))

    def page(self, findings: Findings) -> Page:
        """Whether the instrument can be trusted, who is certain on whose text, and why."""
        return page.page(self.title, self.asks, findings)


def _authors(study: Study, reader: str) -> list[str]:
    if study.cross_stage or study.models[reader].stage == "base":
        return list(study.models)
    mates = {m for members in study.groups().values() if reader in members for m in members} | {reader}
    return [name for name in study.models if name in mates]
