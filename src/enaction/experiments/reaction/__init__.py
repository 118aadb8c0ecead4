"""Reaction: what does the entropy of the next prediction react to, the last surprisal or authorship?

Question: a model's entropy is higher on text that it did not write. Does that follow the surprise of the newest token,
the evidence so far of who wrote the text, or what the model expected anyway?
Procedure: from token tables alone, nothing is changed in a model. One regression for each reader, over tokens of its
own and the other models' texts: H_{t+1} on the surprisal s_t, the log-odds so far that the reader and not another
model of its group wrote the text, earlier surprisals, position, token, prompt and author. Each number enters as a bent
line, so that a reaction that saturates is not taken for one to something else. The gap between foreign and own text is
then divided among them (Gelbach 2016). H_t is in the regression once and once not: held equal, it takes along the
reaction to all that came before; left free, what merely continues is taken for a reaction. A verdict has to come out of
both. The null: log-odds shuffled among tokens of equal surprisal, and surprisals among tokens of equal log-odds.
Source: arXiv 2605.25459 answers "surprise"; arXiv 2606.00545, by the same author, "authorship".

What goes with the entropy need not move it: this is an observation, and no more is claimed.

Axes: see `rows` and `analysis`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.experiments.base import Experiment
from enaction.experiments.reaction import analysis, page
from enaction.experiments.reaction.measured import Ends, table_of
from enaction.experiments.reaction.rows import Against
from enaction.findings import Findings
from enaction.page import Page
from enaction.passages import Prompt
from enaction.study.config import Study
from enaction.study.planning import Measured, Plan
from enaction.study.store import Cell
from enaction.words import Framing


class Reaction(Experiment):
    """How the regression is set up.

    Attributes:
        lags: surprisals before the newest that are held equal.
        saturation: surprisals and log-odds beyond this many nats count as this many; at 8, authorship is settled at
            3,000 to 1.
        against: the log-odds are those against the others' `mixture`, each as likely, or the `mean` of those against
            each.
        shuffles: draws of the null.
        framing: in which the texts are read.
        stages: the study's stages that take part; all by default.
    """

    name = "reaction"
    title = "Reaction"
    asks = "Does the entropy react to the last surprisal, or to who seems to have written the text?"

    lags: Annotated[int, Field(ge=0)] = 3
    saturation: Annotated[float, Field(gt=0)] = 8.0
    against: Against = "mixture"
    shuffles: Annotated[int, Field(ge=2)] = 20
    framing: Framing = "assistant"
    stages: list[str] | None = None

    def plan(self, study: Study, prompts: Sequence[Prompt]) -> Plan:
        """Every model of a group reads every text of it, and it is measured where its tokens end."""
        read: dict[str, dict[str, None]] = {}
        for members in study.groups_named(self.stages).values():
            for reader in members:
                read.setdefault(reader, {}).update(dict.fromkeys(members))
        n = len(prompts) * study.sampling.per_prompt
        measured: dict[str, Measured] = {
            table_of(reader): Ends(
                name=table_of(reader),
                model=reader,
                count=n * len(authors),
                needs=tuple(authors),
                authors=tuple(authors),
                framing=self.framing,
            )
            for reader, authors in read.items()
        }
        cells = [Cell(reader, author, self.framing) for reader, authors in read.items() for author in authors]
        return Plan({}, cells, measured=measured)

    def analyse(self, data: Data, ledger: Ledger) -> None:
        """Slopes, the gap and its parts, and their null."""
        setup = analysis.Setup(self.framing, self.lags, self.saturation, self.against, self.shuffles)
        groups = {stage: members for stage, members in data.study.groups_named(self.stages).items() if len(members) > 1}
        analysis.analyse(ledger, data, groups, setup)

    def page(self, findings: Findings) -> Page:
        """What the report shows of the reaction."""
        return page.page(findings, self.title, self.asks)
