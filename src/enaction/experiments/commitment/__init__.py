"""Commitment: is what a response will be about settled before the word that says it?

Question: how varied are the labels (topics, say) of a prompt's answers, when is a label settled, is it foretold by the
state at the end of the prompt, what does it cost the model to have it broken, and can it be moved to another prompt?
Procedure: many samples of each prompt; regenerations from the first k tokens of some of them; a probe of the state
before the answer, judged on prompts that it was not fitted to; continuations of own and foreign beginnings of the
prompt's label and of others; continuations with another prompt's keys and values in place of the prompt's own.
Source: the paper's E7 (topic commitment), with the corrections that docs/mechanism.md gives reasons for.

A label that never differs is settled from the start without a plan; so agreement is reported in excess of chance, and
chance is printed. What kinds of answer there are is said by labels: by the parser of the embedded world, a list of
words, a pattern, the first word, clusters of the reader's states, or a function of yours.

Axes: see `analysis`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.experiments.base import Experiment
from enaction.experiments.commitment import analysis, page
from enaction.experiments.commitment.cases import (
    CATEGORIES,
    QUESTION,
    STEM,
    Case,
    favourite_cases,
    world_cases,
)
from enaction.experiments.commitment.labels import LabelSpec
from enaction.experiments.commitment.measured import Moves, States, Vectors
from enaction.experiments.commitment.prefills import ARMS
from enaction.experiments.commitment.texts import ORIGINALS, Names, Prefilled, Regenerated, Samples
from enaction.findings import Findings
from enaction.page import Page
from enaction.passages import Prompt, Sampling
from enaction.study.config import Study
from enaction.study.planning import Measured, Plan, Text
from enaction.study.store import Cell

_WORLD_LABELS = tuple(LabelSpec(name=name, world=name) for name in ("topic", "arc", "hero"))
_OTHER_LABELS = (LabelSpec(name="word", first_word=True),)


class Commitment(Experiment):
    """What is asked, how often, and what counts as a label.

    Attributes:
        ask: `world`, the requests of the embedded world; `favourites`, a question about each category; `study`, the
            study's own prompts. By default `world` where the study has its prompts, else `favourites`.
        labels: ways to label an answer, see below; by default topic, arc and hero of a story, or the first word.
        samples: of each open prompt.
        max_new_tokens: of a sample and of a regeneration; the study's by default, 8 where a stem is given.
        lengths: tokens k after which a sample is written anew.
        regenerations: of each beginning; two samples a prompt are regenerated.
        named: how many requests that name a topic take part in the broken plans, of the embedded world.
        named_samples: of each of them.
        prefill: tokens of a beginning that keeps or breaks the plan; with a stem it ends with the label's word.
        continuations: of each beginning.
        after: tokens of a continuation, which entropy is averaged over; the first 8 of them too.
        probe: whether the state before the answer is probed.
        move: whether keys and values are moved between prompts.
        categories: for `favourites`; by default forty, of which the first eight are the paper's.
        question: for `favourites`, with `{category}`.
        stem: what every answer begins with, `{category}` for `favourites`; an empty one is none.
        stages: the study's stages that take part; all by default.
    """

    name = "commitment"
    title = "Commitment"
    asks = "Is what a response will be about settled before the word that says it?"

    ask: Literal["world", "favourites", "study"] | None = None
    labels: Annotated[tuple[LabelSpec, ...], Field(min_length=1)] | None = None
    samples: Annotated[int, Field(ge=2)] = 50
    max_new_tokens: Annotated[int, Field(ge=1)] | None = None
    lengths: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 2, 4, 8, 16)
    regenerations: Annotated[int, Field(ge=1)] = 5
    named: Annotated[int, Field(ge=0)] = 24
    named_samples: Annotated[int, Field(ge=2)] = 6
    prefill: Annotated[int, Field(ge=1)] = 12
    continuations: Annotated[int, Field(ge=1)] = 2
    after: Annotated[int, Field(ge=1)] = 32
    probe: bool = True
    move: bool = True
    categories: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    question: str = QUESTION
    stem: str | None = None
    stages: list[str] | None = None

    @field_validator("lengths")
    @classmethod
    def _each_once(cls, lengths: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(lengths)))

    @field_validator("labels")
    @classmethod
    def _names_differ(cls, labels: tuple[LabelSpec, ...] | None) -> tuple[LabelSpec, ...] | None:
        names = [label.name for label in labels or ()]
        if len(set(names)) < len(names):
            raise ValueError("two labels have one name: give each its own")
        return labels

    @property
    def windows(self) -> list[tuple[int, int]]:
        """Tokens after a beginning over which entropy is averaged."""
        return [(0, 8), (0, self.after)] if self.after > 8 else [(0, self.after)]

    def specs(self, study: Study) -> tuple[LabelSpec, ...]:
        """The ways to label an answer."""
        return self.labels or (_WORLD_LABELS if self._asked(study) == "world" else _OTHER_LABELS)

    def cases(self, study: Study, prompts: Sequence[Prompt]) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
        """Open prompts, and prompts that name what they are about."""
        asked = self._asked(study)
        if asked == "world":
            return world_cases(self.named)
        if asked == "favourites":
            stem = STEM if self.stem is None else self.stem
            return favourite_cases(self.categories or CATEGORIES, self.question, stem), ()
        return tuple(Case(prompt, self.stem or "") for prompt in prompts), ()

    def names(self, study: Study) -> list[Names]:
        """Every reader that takes part, with the next model of its group as the foreign author."""
        foreign: dict[str, str] = {}
        for members in study.groups_named(self.stages).values():
            for reader, other in zip(members, members[1:] + members[:1], strict=True):
                foreign.setdefault(reader, other)
        taking_part = [name for name, spec in study.models.items() if not self.stages or spec.stage in self.stages]

        def of(reader: str, what: str) -> str:
            return f"{reader}.{what}"

        return [
            Names(
                study.models[reader].stage,
                reader,
                foreign.get(reader),
                of(reader, "asked"),
                of(reader, "asked-by-name") if self.named and self._asked(study) == "world" else None,
                of(reader, "regenerated"),
                of(reader, "prefilled"),
                of(reader, "states"),
                of(reader, "moves"),
                of(reader, "vectors"),
            )
            for reader in taking_part
        ]

    def plan(self, study: Study, prompts: Sequence[Prompt]) -> Plan:
        """Samples, regenerations, continuations of broken plans, and what is measured of states."""
        cases, specs = self.cases(study, prompts), self.specs(study)
        by_reader = {names.reader: names for names in self.names(study)}
        texts: dict[str, Text] = {}
        measured: dict[str, Measured] = {}
        cells: list[Cell] = []
        for names in by_reader.values():
            texts |= {text.name: text for text in self._sampled(study, names, cases)}
            other = by_reader.get(names.foreign or "")
            if any(spec.clusters is None for spec in specs):
                text = self._prefilled(study, names, other, cases, specs)
                texts[text.name] = text
                cells.append(Cell(names.reader, text.name, "assistant"))
            measured |= {table.name: table for table in self._measured(study, names, cases[0], specs)}
        return Plan(texts, cells, measured=measured)

    def _sampled(self, study: Study, names: Names, cases: tuple[tuple[Case, ...], ...]) -> list[Text]:
        """Samples of open and of named prompts, and regenerations of the first."""
        of: dict[str, Any] = {"model": names.reader}
        opened, named = cases
        length = self._length(study, opened)
        texts: list[Text] = [
            Samples(
                name=names.samples,
                count=len(opened) * self.samples,
                needs=(names.reader,),
                cases=opened,
                sampling=_drawn(study, self.samples, length),
                **of,
            ),
            Regenerated(
                name=names.regenerated,
                count=len(opened) * ORIGINALS * len(self.lengths) * self.regenerations,
                needs=(names.reader, names.samples),
                of=names.samples,
                cases=opened,
                lengths=self.lengths,
                sampling=_drawn(study, self.regenerations, length),
                **of,
            ),
        ]
        if names.named is not None:
            texts.append(
                Samples(
                    name=names.named,
                    count=len(named) * self.named_samples,
                    needs=(names.reader,),
                    cases=named,
                    sampling=_drawn(study, self.named_samples, length),
                    **of,
                )
            )
        return texts

    def _prefilled(
        self,
        study: Study,
        names: Names,
        other: Names | None,
        cases: tuple[tuple[Case, ...], ...],
        specs: Sequence[LabelSpec],
    ) -> Text:
        """Continuations of beginnings that keep and break a plan."""
        opened, named = cases
        own = names.named or names.samples
        foreign = (other.named or other.samples) if other else None
        labels = tuple(spec for spec in specs if spec.clusters is None)
        broken = named or opened
        return Prefilled(
            name=names.prefilled,
            model=names.reader,
            count=len(broken) * len(ARMS) * len(labels) * self.continuations,
            needs=(names.reader, own, *([foreign] if foreign else [])),
            own=own,
            foreign=foreign,
            cases=broken,
            labels=labels,
            at=self.prefill,
            sampling=_drawn(study, self.continuations, self.after),
        )

    def _measured(
        self, study: Study, names: Names, opened: tuple[Case, ...], specs: Sequence[LabelSpec]
    ) -> list[Measured]:
        """Tables of states, of vectors for clusters, and of answers under moved keys and values."""
        of: dict[str, Any] = {"model": names.reader}
        label = next((spec for spec in specs if spec.clusters is None), None)
        needs = (names.reader, names.samples)
        tables: list[Measured] = []
        if self.probe:
            tables.append(States(name=names.states, count=len(opened), needs=needs, of=names.samples, **of))
        # A stem names what is asked, so that a plan is not the prompt's alone.
        if self.move and label is not None and not any(case.stem for case in opened):
            tables.append(
                Moves(
                    name=names.moves,
                    count=len(opened),
                    needs=needs,
                    samples=names.samples,
                    cases=opened,
                    label=label,
                    sampling=_drawn(study, self.regenerations, self._length(study, opened)),
                    **of,
                )
            )
        if any(spec.clusters is not None for spec in specs):
            texts = (names.samples, names.regenerated)
            count = len(opened) * (self.samples + ORIGINALS * len(self.lengths) * self.regenerations)
            tables.append(Vectors(name=names.vectors, count=count, needs=(names.reader, *texts), texts=texts, **of))
        return tables

    def analyse(self, data: Data, ledger: Ledger) -> None:
        """Variety, curves, probe, broken plans and moved plans of every reader."""
        cases = self.cases(data.study, data.prompts)
        analysis.analyse(ledger, data, self.names(data.study), cases, self.specs(data.study), self.windows)

    def page(self, findings: Findings) -> Page:
        """What the report shows of commitment."""
        return page.page(findings, self.title, self.asks)

    def _asked(self, study: Study) -> str:
        return self.ask or ("world" if study.prompts == "zoo" else "favourites")

    def _length(self, study: Study, cases: Sequence[Case]) -> int:
        """Tokens of a sample at most."""
        return self.max_new_tokens or (8 if any(case.stem for case in cases) else study.sampling.max_new_tokens)


def _drawn(study: Study, per_prompt: int, tokens: int) -> Sampling:
    """Sampling at the model's own temperature: what is asked is how its own answers vary."""
    changes = {"per_prompt": per_prompt, "max_new_tokens": tokens, "temperature": 1.0, "top_p": 1.0}
    return study.sampling.model_copy(update=changes)
