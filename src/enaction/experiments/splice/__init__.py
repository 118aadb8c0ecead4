"""Splices: own text, k foreign tokens, own text again, and the reverse: recognition in real time.

Question: when something foreign interrupts a model's own text, after how many tokens does its entropy react, how
strongly, and after how many tokens of its own is it back to normal?
Procedure: a prefix of the reader's own text, k tokens of another author's answer to the same prompt, and what the
reader samples after the two (`ofo`). The reverse has a foreign prefix, k tokens that the reader samples after it, and
then the foreign author's own words again (`fof`). Each is compared with the same splice with a piece of the same
author's other answer (`ooo`, `fff`), since a seam alone surprises, and with the unspliced text.

Every curve is a paired difference: H at a position of the spliced text minus H at the same position of the unspliced
text with the same prefix; where the host's own words continue after the piece, minus H of the same words without it. A
row's H belongs to the distribution that predicted its token, so at offset 0, the first token of the piece, the
difference is 0 by construction; the piece can act from offset 1 on.

Axes: see `analysis`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, field_validator

from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.experiments.base import Experiment
from enaction.experiments.splice import analysis, page
from enaction.experiments.splice.texts import PATTERNS, Cuts, Pair, Spliced, again
from enaction.findings import Findings
from enaction.page import Page
from enaction.passages import Prompt
from enaction.study.config import Study
from enaction.study.planning import Plan, Sampled, Text
from enaction.study.store import Cell


class Splice(Experiment):
    """What is spliced where.

    Attributes:
        lengths: tokens in a piece.
        at: tokens in a prefix; up to 8 more, so that it ends between two words.
        after: tokens after the piece, which are also the window in which recovery is looked for.
        tolerance: nats; an excess of at most this size counts as none.
        stages: the study's stages that take part; all by default.
    """

    name = "splice"
    title = "Splices"
    asks = (
        "When something foreign interrupts a model's own text, how soon and how strongly does its entropy react, and "
        "how soon is it back to normal?"
    )

    lengths: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 4, 16)
    at: Annotated[int, Field(ge=1)] = 16
    after: Annotated[int, Field(ge=3)] = 20
    tolerance: Annotated[float, Field(gt=0)] = 0.1
    stages: list[str] | None = None

    @field_validator("lengths")
    @classmethod
    def _each_once(cls, lengths: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(lengths)))

    @property
    def cuts(self) -> Cuts:
        """How long the parts of a splice are."""
        return Cuts(self.at, max(self.lengths), self.after)

    def pairs(self, study: Study) -> list[Pair]:
        """Every reader of a group with the next model of it; a model of several groups is paired in its first."""
        pairs: dict[str, Pair] = {}
        for stage, members in study.groups_named(self.stages).items():
            for reader, foreign in zip(members, members[1:] + members[:1], strict=True):
                pairs.setdefault(reader, Pair(stage, reader, foreign))
        return list(pairs.values())

    def plan(self, study: Study, prompts: Sequence[Prompt]) -> Plan:
        """A second answer of every model, every splice of every reader, and the unspliced texts."""
        texts: dict[str, Text] = {}
        cells: list[Cell] = []
        second = study.sampling.model_copy(update={"per_prompt": 1})
        for pair in self.pairs(study):
            for model in (pair.reader, pair.foreign):
                texts[again(model)] = Sampled(name=again(model), model=model, count=len(prompts), sampling=second)
            spliced = [
                Spliced.of(pair, pattern, k, self.cuts, len(prompts)) for pattern in PATTERNS for k in self.lengths
            ]
            texts |= {text.name: text for text in spliced}
            read = [pair.reader, pair.foreign, again(pair.reader), *(text.name for text in spliced)]
            cells += [Cell(pair.reader, author, "assistant") for author in read]
        return Plan(texts, cells)

    def analyse(self, data: Data, ledger: Ledger) -> None:
        """Excess over the unspliced text: size, reaction, recovery, and what of it is not the seam."""
        analysis.analyse(data, ledger, self.pairs(data.study), self.lengths, self.cuts, self.tolerance)

    def page(self, findings: Findings) -> Page:
        """What the report shows of the splices."""
        return page.page(findings, self.title, self.asks)
