"""The findings of the matrix in the order in which people read them: stages, framings, cells, curves.

Statements, tables and charts of the matrix all take them from here, so that they agree on what exists and what comes
first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from enaction.findings import Finding, Findings
from enaction.shown import value
from enaction.stats import IDENTITY_LIMIT
from enaction.words import FRAMINGS, MEAN, WORLD, in_training_order, last_stage, ordered

_OF_TABLES = ("other_self_ratio", "interaction", "recognition")


class Cells(NamedTuple):
    """Reader x author cells of one framing; NaN where a cell was not read. Nats.

    `plain` are the readers that have no template and were read without one whatever the framing.
    """

    readers: list[str]
    authors: list[str]
    entropy_RA: NDArray[np.float64]  # noqa: N815  # axes, by the house convention
    surprisal_RA: NDArray[np.float64]  # noqa: N815
    plain: set[str]


class StagePoint(NamedTuple):
    """One stage of a curve: the mean over its readers (None if the run has none) and each reader's own finding."""

    stage: str
    mean: Finding | None
    readers: list[Finding]

    @property
    def by_reader(self) -> dict[str, Finding]:
        """Each reader's finding, the mean first."""
        return {place(f, "reader"): f for f in ([self.mean] if self.mean else []) + self.readers}

    @property
    def headline(self) -> Finding | None:
        """The finding that speaks for the stage: the mean over readers, or the only reader itself."""
        if self.mean is not None:
            return self.mean
        return self.readers[0] if len(self.readers) == 1 else None


class Triple(NamedTuple):
    """What one reader makes of three kinds of text: its cells on the own author, on the others, and on the world."""

    reader: str
    author: str
    own: Finding
    others: list[Finding]
    world: Finding | None

    @property
    def lines(self) -> list[tuple[str, list[Finding]]]:
        """The kinds of text that were read, each with its cells."""
        lines = [("own", [self.own]), ("others", self.others), (WORLD, [self.world] if self.world else [])]
        return [(name, cells) for name, cells in lines if cells]


def place(finding: Finding, key: str) -> str:
    """A place of a finding as text; `""` where it has none."""
    found = finding.where.get(key)
    return "" if found is None else str(found)


def stages(findings: Findings) -> list[str]:
    """The stages that have a matrix, in the order of training; `""` stands for models without a stage.

    A matrix is known by its ratios and interactions. A run that has neither (one model alone) gives the stages of its
    readers.
    """
    of_matrices = [place(f, "stage") for f in findings if f.quantity in _OF_TABLES]
    return in_training_order(of_matrices or [place(f, "reader_stage") for f in findings.select("entropy")])


def main_stage(findings: Findings) -> str:
    """The stage that charts and headlines take where they show only one: the end of training; `""` where is none."""
    return last_stage(stages(findings)) or ""


def framings(findings: Findings, *quantities: str) -> list[str]:
    """The framings in which these quantities were measured, `assistant` first."""
    measured = [f for f in findings if f.quantity in quantities and f.estimate is not None]
    return ordered((place(f, "framing") for f in measured), FRAMINGS)


def main_framing(findings: Findings) -> str:
    """The framing that charts and headlines take where they show only one: assistant, else the first that was read."""
    measured = framings(findings, "other_self_ratio", "interaction", "entropy")
    return measured[0] if measured else FRAMINGS[0]


def members(findings: Findings, stage: str) -> list[str]:
    """The models of one stage's matrix, in the order of the findings."""
    names = [place(f, "reader") for f in findings if f.quantity in _OF_TABLES and place(f, "stage") == stage]
    if not names:
        names = [place(f, "reader") for f in findings.select("entropy") if place(f, "reader_stage") == stage]
    return [name for name in dict.fromkeys(names) if name != MEAN]


def cells_of(findings: Findings, framing: str, models: Sequence[str] | None = None) -> Cells:
    """Cells of one framing: these models as readers and authors, and the world's text where they read it.

    Without `models` it holds all readers and all authors, those that are readers first, the world last.
    """
    read = _cells(findings, framing)
    if models is None:
        readers = list(dict.fromkeys(reader for _, reader, _ in read))
        authors = ordered((author for *_, author in read), readers)
    else:
        readers = list(models)
        authors = readers + [WORLD] * any(("entropy", reader, WORLD) in read for reader in readers)
    if WORLD in authors:
        authors = [name for name in authors if name != WORLD] + [WORLD]

    def table(quantity: str) -> NDArray[np.float64]:
        found = [[read.get((quantity, r, a)) for a in authors] for r in readers]
        rows = [[math.nan if f is None else value(f) for f in row] for row in found]
        return np.array(rows, dtype=np.float64).reshape(len(readers), len(authors))

    plain = {reader for (_, reader, _), f in read.items() if place(f, "framing") != framing}
    return Cells(readers, authors, table("entropy"), table("surprisal"), plain)


def curve(findings: Findings, quantity: str, framing: str) -> list[StagePoint]:
    """A quantity along the stages in one framing; stages where it was not measured are left out."""
    measured = [f for f in findings.select(quantity) if place(f, "framing") == framing and f.estimate is not None]
    points = []
    for stage in stages(findings):
        at = [f for f in measured if place(f, "stage") == stage]
        means = [f for f in at if place(f, "reader") == MEAN]
        if at:
            points.append(StagePoint(stage, means[0] if means else None, [f for f in at if place(f, "reader") != MEAN]))
    return points


def point_at(findings: Findings, quantity: str, stage: str, framing: str) -> StagePoint | None:
    """A quantity of one stage; None where it was not measured."""
    return next((point for point in curve(findings, quantity, framing) if point.stage == stage), None)


def triples(findings: Findings, quantity: str, stage: str, framing: str) -> list[Triple]:
    """What each model of a stage makes of its own, the others' and the world's text, in entropy or surprisal."""
    models = members(findings, stage)
    found = [_triple(findings, quantity, framing, reader, reader, models) for reader in models]
    return [t for t in found if t is not None]


def base_triples(findings: Findings, quantity: str, stage: str, framing: str) -> list[Triple]:
    """The same texts as `triples`, read by the base of the family that wrote the own text."""
    models = members(findings, stage)
    found = [
        _triple(findings, quantity, framing, place(f, "reader"), place(f, "of"), models)
        for f in findings.select("base_reader_ratio")
        if place(f, "stage") == stage and place(f, "framing") == framing
    ]
    return [t for t in found if t is not None]


def _triple(
    findings: Findings, quantity: str, framing: str, reader: str, author: str, models: Sequence[str]
) -> Triple | None:
    read = {a: f for (q, r, a), f in _cells(findings, framing).items() if (q, r) == (quantity, reader)}
    if author not in read:
        return None
    others = [read[name] for name in models if name in read and name != author]
    return Triple(reader, author, read[author], others, read.get(WORLD))


def _cells(findings: Findings, framing: str) -> dict[tuple[str, str, str], Finding]:
    """(quantity, reader, author) -> entropy or surprisal of the cells of a framing.

    A reader without a template has cells in `none` only; they stand for every framing, as in the ratios.
    """
    measured = [f for f in findings if f.quantity in ("entropy", "surprisal") and f.estimate is not None]
    templated = {place(f, "reader") for f in measured if place(f, "framing") != "none"}
    return {
        (f.quantity, place(f, "reader"), place(f, "author")): f
        for f in measured
        if place(f, "framing") == (framing if place(f, "reader") in templated else "none")
    }


def cancels(finding: Finding) -> bool:
    """Whether a number is zero by construction: over all readers of a table the eases of their own texts cancel."""
    return finding.quantity == "ease" and place(finding, "reader") == MEAN


def alarmed(finding: Finding) -> bool:
    """Whether an identity residual is outside the limits within which a sound instrument stays."""
    return finding.estimate is None or abs(finding.estimate) > IDENTITY_LIMIT
