"""Surprise: is it represented, and does its trace set the entropy of what comes next?

Question: the paper's causal claim (E6). Is the surprisal of the newest token written in a model's states, and does
moving that trace move the entropy of the next prediction as surprise itself does?
Procedure: each reader reads its own and foreign text. What is decodable is held against what token, pair, position and
H_t foretell without a model. For steering, states are averaged in cells of surprisal and of what was known before the
token (quartiles of H_t, or the token); on other prompts every token's state is set to the centroid of another level
within its key, at all layers, and the entropy that follows is compared with what is natural there. Controls: rotated
centroids, directions of matched variance outside the subspace, shuffled bins, each with several draws.
Source: arXiv 2605.25459 moves to centroids without a key, which finds an effect where there is none by design
(docs/experiments/surprise.md); keys, clamps and controls are this project's.

Axes: see `clean`, `steering` and `analysis`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.experiments.base import Experiment
from enaction.experiments.surprise import analysis, page
from enaction.experiments.surprise.measured import Traces
from enaction.findings import Findings
from enaction.page import Page
from enaction.passages import Prompt, thinned
from enaction.study.config import Study
from enaction.study.planning import Plan


class Surprise(Experiment):
    """How surprise is looked for.

    Attributes:
        n_prompts: at most this many of the study's prompts, spread evenly; half give directions, half are steered.
        passages: of each author to a prompt, at most.
        bins: levels of surprisal.
        ranks: of the clamp; 1 decides, the others show what more directions do.
        draws: of each random control; other stages than the first and the last have at most 3.
        targets: levels that are clamped to, at most.
        profile: layers of the profile by layer, at most.
        keys: what is held fixed: `entropy` (quartiles of H_t) decides; `token` has to agree; `none` is the raw method.
        max_layers: of the residual stream that are clamped, spread evenly; all by default.
        stages: the study's stages that take part; all by default.
    """

    name = "surprise"
    title = "Surprise"
    asks = "Is the surprise of the newest token represented, and does that trace set the entropy of what comes next?"

    n_prompts: Annotated[int, Field(ge=8)] | None = 40
    passages: Annotated[int, Field(ge=1)] = 1
    bins: Annotated[int, Field(ge=3)] = 8
    ranks: Annotated[tuple[Literal[1, 2, 4], ...], Field(min_length=1)] = (1, 2, 4)
    draws: Annotated[int, Field(ge=2)] = 10
    targets: Annotated[int, Field(ge=2)] = 5
    profile: Annotated[int, Field(ge=0)] = 4
    keys: tuple[Literal["none", "entropy", "token"], ...] = ("none", "entropy", "token")
    max_layers: Annotated[int, Field(ge=1)] | None = None
    stages: list[str] | None = None

    def tables(self, study: Study, n_prompts: int) -> list[tuple[str, Traces]]:
        """Each reader's table with its stage; a reader of several groups takes part in its first."""
        groups = study.groups_named(self.stages)
        ends = {stage for i, stage in enumerate(groups) if i in (0, len(groups) - 1)}
        found: dict[str, tuple[str, Traces]] = {}
        for stage, members in groups.items():
            for reader in members:
                family = study.models[reader].family
                authors = tuple(m for m in members if study.models[m].family != family)
                if authors and reader not in found:
                    draws = self.draws if stage in ends else min(3, self.draws)
                    found[reader] = stage, self._table(reader, authors, draws, n_prompts)
        return list(found.values())

    def _table(self, reader: str, authors: tuple[str, ...], draws: int, n_prompts: int) -> Traces:
        n = min(self.n_prompts or n_prompts, n_prompts)
        return Traces(
            name=f"{reader}.surprise",
            model=reader,
            count=n * self.passages * 2 * len(authors),
            needs=(reader, *authors),
            authors=authors,
            n_prompts=self.n_prompts,
            passages=self.passages,
            n_bins=self.bins,
            ranks=tuple(sorted(self.ranks)),
            draws=draws,
            targets=self.targets,
            profile=self.profile,
            keys=self.keys,
            max_layers=self.max_layers,
        )

    def plan(self, study: Study, prompts: Sequence[Prompt]) -> Plan:
        """A table for each reader that has a stage in common with another family."""
        tables = self.tables(study, len(prompts))
        return Plan({}, [], measured={table.name: table for _, table in tables})

    def analyse(self, data: Data, ledger: Ledger) -> None:
        """What is decoded, and what steering does beside its controls."""
        tables = self.tables(data.study, data.n_prompts)
        if not tables:
            ledger.leave_out("left_out", "none", "left out: no stage has models of two families")
        ledger = ledger.at(prompts=data.subset(thinned(data.prompts, self.n_prompts)))
        for stage, table in tables:
            analysis.analyse(ledger, data.measured(table.name), reader=table.model, stage=stage)

    def page(self, findings: Findings) -> Page:
        """What the report shows of surprise."""
        return page.page(findings, self.title, self.asks)
