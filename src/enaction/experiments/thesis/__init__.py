"""The thesis: does closing the loop from a model's outputs to its inputs matter, or only the text that comes of it?

Question: a model that was trained on its own samples recognises them. Does a *twin* that never sampled, and was trained
on the same samples, recognise them as well, and does it take them for its own?
Procedure: arms of training with several seeds: an actor, twins that learn from its stored replies, further loops,
controls. At points of training all arms read each other's texts and those of neutral models, which read the arms'. What
an unrelated reader would find in a text comes from the cells between arms and neutral models alone; familiarity is how
much less than that a reader finds. The seed is the unit of every conclusion.
Source: the thesis of arXiv 2605.25459, that acting, and not reading, makes a text one's own.

Axes: see `analysis`.
"""

from __future__ import annotations

from collections.abc import Sequence

from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.experiments.base import Experiment
from enaction.experiments.thesis import analysis, page
from enaction.experiments.thesis.contrasts import Roles
from enaction.experiments.thesis.panels import check, panels
from enaction.findings import Findings
from enaction.page import Page
from enaction.passages import Prompt
from enaction.study.config import Study
from enaction.study.planning import Plan
from enaction.study.store import Cell
from enaction.words import Framing


class Thesis(Experiment):
    """Loops, their twins and their controls.

    Attributes:
        arms: arm -> point of training, per cent of its steps -> its model for each seed; the first point is its start.
        neutral: family -> models that never met the arms' data.
        akin: arm -> neutral families that it shares a start with.
        actor: the loop whose replies the twins learned from.
        twins: arms that learned from the actor's replies and never sampled.
        loops: further arms that learned from their own samples by the actor's reward; for each seed, the first of them
            started where the near twins did.
        control: an arm that learned from another loop's replies as the twins did from the actor's; None without one.
        other: the arm of that other loop; None without one.
        empty: an arm that learned from its own samples by a reward that means nothing; None without one.
        framing: how texts are read.
        gate: least share of responses that end, of sentences that parse, of a story's parts in their place (the last
            two where the prompts are the world's); an arm that fails it is shown and enters no statement.
    """

    name = "thesis"
    title = "The thesis: the loop or the data"
    asks = "Does a model know its text because it wrote it, or because it was trained on text like it?"

    arms: dict[str, dict[int, tuple[str, ...]]] = {}  # noqa: RUF012  # pydantic copies it
    neutral: dict[str, tuple[str, ...]] = {}  # noqa: RUF012
    akin: dict[str, tuple[str, ...]] = {}  # noqa: RUF012
    actor: str = "actor"
    twins: tuple[str, ...] = ()
    loops: tuple[str, ...] = ()
    control: str | None = None
    other: str | None = None
    empty: str | None = None
    framing: Framing = "assistant"
    gate: dict[str, float] = {"ended": 0.85, "well_formed": 0.85, "complete": 0.75}  # noqa: RUF012

    def plan(self, study: Study, prompts: Sequence[Prompt]) -> Plan:
        """Every member of a panel reads every text of the panel.

        Args:
            study, prompts: as in `Experiment.plan`.

        Raises:
            StudyError: as `panels.check`.
        """
        check(study, self.arms, self.neutral, self.akin, self.roles.named if self.arms else ())
        cells = [
            Cell(reader, author, self.framing)
            for panel in panels(self.arms, self.neutral, self.akin)
            for reader in panel.members
            for author in panel.members
        ]
        return Plan({}, list(dict.fromkeys(cells)))

    def analyse(self, data: Data, ledger: Ledger) -> None:
        """Quality of the texts, familiarity and its contrasts, point by point, of each seed and over seeds."""
        of = list(panels(self.arms, self.neutral, self.akin))
        analysis.analyse(data, ledger, of, self.roles, self.framing, self.gate)

    def page(self, findings: Findings) -> Page:
        """Whether a passive reader recognises, whether the loop adds, and what else the arms show."""
        return page.page(self.title, self.asks, findings, self.roles)

    @property
    def roles(self) -> Roles:
        """Which arm plays which part."""
        return Roles(self.actor, self.twins, self.loops, self.control, self.other, self.empty)
