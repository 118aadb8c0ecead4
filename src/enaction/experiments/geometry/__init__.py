"""Geometry: do two stages of one family hold the same tokens alike?

Question: the paper reports cosine about 0 between base and post-trained model at every layer, and CKA of .2 to .5 (E9),
without saying of what. Which comparison gives that, if any?
Procedure: every stage of a family reads the same texts, those of its last stage, in one framing. States of the same
tokens are compared raw, centred, up to rotation (CKA, Procrustes), each beside shuffled tokens; directions of surprise
and entropy are compared beside their own split-half reliability and a floor of random directions, and refused where
they are not reproducible.
Source: arXiv 2605.25459 for the question; CKA: arXiv 1905.00414.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.experiments.base import Experiment
from enaction.experiments.geometry import analysis, page
from enaction.experiments.geometry.analysis import Pair
from enaction.experiments.geometry.states import States
from enaction.findings import Findings
from enaction.page import Page
from enaction.passages import Prompt
from enaction.study.config import Study
from enaction.study.planning import Plan
from enaction.words import Framing, in_training_order


class Geometry(Experiment):
    """What is compared.

    Attributes:
        framing: in which every stage reads; `none` is the one that a base model has too.
        n_prompts: at most, spread evenly.
        n_tokens: whose states are kept, at most.
        max_layers: at most, spread evenly from the first to the last.
        stages: the study's stages that take part; all by default.
    """

    name = "geometry"
    title = "Geometry"
    asks = "Do the stages of one family hold the same tokens alike?"

    framing: Framing = "none"
    n_prompts: Annotated[int, Field(ge=4)] | None = 40
    n_tokens: Annotated[int, Field(ge=100)] = 2000
    max_layers: Annotated[int, Field(ge=2)] = 6
    stages: list[str] | None = None

    def families(self, study: Study) -> dict[str, dict[str, str]]:
        """Family -> stage -> model, stages in the order of training; families of one stage have nothing to compare.

        A model that is in several groups is of its own stage, so that it is never compared with itself.
        """
        members = [model for group in study.groups_named(self.stages).values() for model in group]
        by_stage: dict[str, list[str]] = {}
        for model in dict.fromkeys(members):
            by_stage.setdefault(study.models[model].stage, []).append(model)
        found: dict[str, dict[str, str]] = {}
        for stage in in_training_order([*by_stage]):
            for model in by_stage[stage]:
                found.setdefault(study.models[model].family, {}).setdefault(stage, model)
        return {family: stages for family, stages in found.items() if len(stages) > 1}

    def plan(self, study: Study, prompts: Sequence[Prompt]) -> Plan:
        """A table of states for each model of a family with several stages."""
        tables = {}
        for stages in self.families(study).values():
            author = [*stages.values()][-1]
            for model in stages.values():
                tables[_table_of(model)] = States(
                    name=_table_of(model),
                    model=model,
                    count=min(self.n_prompts or len(prompts), len(prompts)),
                    needs=(model, author),
                    authors=(author,),
                    framing=self.framing,
                    n_prompts=self.n_prompts,
                    n_tokens=self.n_tokens,
                    max_layers=self.max_layers,
                )
        return Plan({}, [], measured=tables)

    def analyse(self, data: Data, ledger: Ledger) -> None:
        """The first stage of each family against each later one."""
        families = self.families(data.study)
        if not families:
            ledger.leave_out("left_out", "none", "left out: no family has models of two stages")
        for family, stages in families.items():
            first = next(iter(stages))
            tables = {stage: data.measured(_table_of(model)) for stage, model in stages.items()}
            for stage in [*stages][1:]:
                analysis.analyse(ledger, Pair(family, stage, first, tables[stage], tables[first]))

    def page(self, findings: Findings) -> Page:
        """What the report shows of geometry."""
        return page.page(findings, self.title, self.asks)


def _table_of(model: str) -> str:
    return f"{model}.geometry"
