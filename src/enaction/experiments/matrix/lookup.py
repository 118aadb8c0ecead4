"""The findings of the matrix in the order in which people read them: stages, framings, cells, readings.

Statements, tables and charts of the matrix all take them from here, so that they agree on what exists and what comes
first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from enaction.analysis.ownness import OWNNESS
from enaction.findings import Finding, Findings
from enaction.shown import verdict_of
from enaction.stats import IDENTITY_LIMIT
from enaction.words import FRAMINGS, MEAN, WORLD, in_training_order, last_stage, ordered

_OF_TABLES = ("other_self_ratio", "interaction", "recognition")

_OF_CELLS = ("entropy", "surprisal", OWNNESS)
# Entropy, surprisal and ownness of one cell, by quantity; findings of earlier versions have no ownness.
Cell = dict[str, Finding]
# By reader and author; None where a cell was not read. Nats.
Table = list[list[float | None]]


class Cells(NamedTuple):
    """Reader x author cells of one framing.

    `told` are the cells (reader, author) whose ownness has an interval without 0. `plain` are the readers that have no
    template and were read without one whatever the framing.
    """

    readers: list[str]
    authors: list[str]
    entropy: Table
    surprisal: Table
    ownness: Table
    told: set[tuple[str, str]]
    plain: set[str]

    @property
    def known(self) -> list[float]:
        """The entropies of all cells that were read."""
        return _known(self.entropy)

    @property
    def known_ownness(self) -> list[float]:
        """The ownness of all cells that have one."""
        return _known(self.ownness)


def _known(table: Table) -> list[float]:
    return [x for row in table for x in row if x is not None]


class Reading(NamedTuple):
    """What a reader makes of an author's text: its cells on that text (`own`), on `others`, and on the world's."""

    reader: str
    author: str
    texts: dict[str, list[Cell]]


def arranged(findings: Findings) -> Findings:
    """Those with a number; of tables by framing, then by stage in the order of training, means over readers first.

    An identity residual without a number stays: it is an alarm.
    """
    stages, framings = in_training_order(findings.values("stage")), ordered(findings.values("framing"), FRAMINGS)

    def rank(finding: Finding) -> tuple[int, ...]:
        at = finding.where
        if "stage" not in at:
            return (-1,)
        return framings.index(at["framing"]), stages.index(at["stage"]), at.get("reader") != MEAN

    kept = (f for f in findings if f.estimate is not None or f.quantity == "identity_residual")
    return Findings(sorted(kept, key=rank))


def stages(findings: Findings) -> list[str]:
    """The stages that have a matrix, in the order of training.

    A matrix is known by its ratios and interactions. A run that has neither (one model alone) gives the stages of its
    readers.
    """
    return in_training_order(findings.values("stage", *_OF_TABLES) or findings.values("reader_stage", "entropy"))


def framings(findings: Findings, *quantities: str) -> list[str]:
    """The framings in which these quantities were measured, `assistant` first."""
    return ordered(findings.values("framing", *quantities), FRAMINGS)


def main_place(findings: Findings) -> dict[str, Any]:
    """Stage and framing of what charts and headlines show where they show only one.

    The stage is the end of training, `""` where is none; the framing is assistant, else the first that was read.
    """
    measured = framings(findings, "other_self_ratio", "interaction", "entropy")
    return {"stage": last_stage(stages(findings)) or "", "framing": [*measured, *FRAMINGS][0]}


def members(findings: Findings, stage: str) -> list[str]:
    """The models of one stage's matrix, in the order of the findings."""
    of_table = [f for quantity in _OF_TABLES for f in findings.select(quantity, stage=stage)]
    names = Findings(of_table or findings.select("entropy", reader_stage=stage)).values("reader")
    return [name for name in names if name != MEAN]


def cells_of(findings: Findings, framing: str, models: Sequence[str] = ()) -> Cells:
    """Cells of one framing: these models as readers and authors, and the world's text where they read it.

    Without `models` it holds all readers and all authors, those that are readers first, the world last.
    """
    read = {
        (reader, author): cell
        for (reader, author), cell in _read(findings, framing).items()
        if not models or (reader in models and author in (*models, WORLD))
    }
    readers = ordered((reader for reader, _ in read), models)
    authors = sorted(ordered((author for _, author in read), readers), key=lambda author: author == WORLD)

    def table(quantity: str) -> Table:
        rows = [[read.get((r, a), {}).get(quantity) for a in authors] for r in readers]
        return [[f and f.estimate for f in row] for row in rows]

    told = {at for at, cell in read.items() if OWNNESS in cell and verdict_of(cell[OWNNESS]) == "effect"}
    plain = {reader for (reader, _), cell in read.items() for f in cell.values() if f.where["framing"] != framing}
    return Cells(readers, authors, table("entropy"), table("surprisal"), table(OWNNESS), told, plain)


def readings(findings: Findings, stage: str, framing: str, *, by_base: bool = False) -> list[Reading]:
    """What each model of a stage makes of its own, the others' and the world's text; or its family's base of the same.

    Kinds of text that were not read are left out.
    """
    models, read = members(findings, stage), _read(findings, framing)
    bases = findings.select("base_reader_ratio", stage=stage, framing=framing)
    pairs = [(f.where["reader"], f.where["of"]) for f in bases] if by_base else [(model, model) for model in models]
    made = []
    for reader, own in pairs:
        authors = {"own": [own], "others": [model for model in models if model != own], WORLD: [WORLD]}
        cells = {kind: [read[reader, a] for a in of if (reader, a) in read] for kind, of in authors.items()}
        if cells["own"]:
            made.append(Reading(reader, own, {kind: of for kind, of in cells.items() if of}))
    return made


def _read(findings: Findings, framing: str) -> dict[tuple[str, str], Cell]:
    """(reader, author) -> entropy, surprisal and ownness of the cells of a framing.

    A reader without a template has cells in `none` only; they count for every framing, as in the ratios.
    """
    cells = findings.pivot(_OF_CELLS, ("reader", "author", "framing"))
    templated = {reader for reader, _, at in cells if at != "none"}
    return {(r, a): cell for (r, a, at), cell in cells.items() if at == (framing if r in templated else "none")}


def singles(findings: Findings, quantity: str, **where: Any) -> list[Finding]:
    """The findings of single readers at a place, without their mean."""
    return [f for f in findings.select(quantity, **where) if f.where["reader"] != MEAN]


def verdict_word(recognised: Finding) -> str:
    """The verdict on one reader, `certified` or why not: the finding's last note begins with it, the reasons follow."""
    return recognised.notes[-1].split(":")[0]


def counted_below(findings: Findings, stage: str, framing: str) -> str:
    """How many readers have an interval of the interaction below 0: `2 of 3`; `""` without readers."""
    readers = singles(findings, "interaction", stage=stage, framing=framing)
    below = sum(f.high is not None and f.high < 0 for f in readers)
    return f"{below} of {len(readers)}" if readers else ""


def counted_certified(findings: Findings, stage: str, framing: str) -> str:
    """How many readers are certified to recognise text like their own: `2 of 3`; `""` without verdicts."""
    verdicts = singles(findings, "recognised", stage=stage, framing=framing)
    return f"{sum(f.estimate == 1 for f in verdicts)} of {len(verdicts)}" if verdicts else ""


def alarmed(residual: Finding) -> bool:
    """Whether an identity residual is outside the limits within which a sound instrument stays."""
    return residual.estimate is None or abs(residual.estimate) > IDENTITY_LIMIT
