"""Authorship: whose text a reader can tell from its own by surprisal less entropy (`ownness`).

Entropy, the other quantity of the matrix, tells how familiar a reader is with a distribution of text, whoever wrote
it. Ownness tells text drawn from the reader from what only looks like it: its interval contains 0 on own text 19 times
in 20, and lies above 0 on text that is less likely under the reader than its own text would be.
"""

from __future__ import annotations

from collections.abc import Sequence

from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.analysis.ownness import OWNNESS, is_drawn, ownness
from enaction.experiments.matrix.lookup import main_place, readings
from enaction.findings import Finding, Findings
from enaction.page import Statement
from enaction.shown import number, value, verdict_of, with_interval
from enaction.words import WORLD, Framing, framing_label, models_of

TOLD_APART = "told_apart_share"
_TEXT = (
    "share of the other authors of the table, and the world's text if it was read, whose ownness under this reader has "
    "its 95 % interval above 0: text told from the reader's own; n counts them"
)
_NOT_DRAWN = "own text was not drawn as it is read here, so that its ownness need not be 0 either"
# With more readers than this a sentence gives their range in place of each with its interval.
_NAMED_READERS = 4


def add_authorship(data: Data, ledger: Ledger, members: list[str], framing: Framing) -> None:
    """Of each reader of a table: the share of the other authors whose text it tells from its own.

    Args:
        data: of a finished run.
        ledger: at the place of the table.
        members, framing: of the table.
    """
    authors = [*members, *([WORLD] if data.study.world_text else [])]
    for reader in members:
        cells = [data.key(reader, author, framing) for author in authors if author != reader]
        told = [bool(ownness(data, cell).low > 0) for cell in cells]
        if told:
            notes = [] if is_drawn(data, data.key(reader, reader, framing)) else [_NOT_DRAWN]
            ledger.fact(TOLD_APART, "share", _TEXT, sum(told) / len(told), len(told), notes=notes, reader=reader)


def authorship(findings: Findings) -> list[Statement]:
    """Ownness of the last stage's models: 0 on own text, and on whose text above 0."""
    at = main_place(findings)
    told = findings.select(TOLD_APART, **at)
    read = readings(findings, **at)
    own, others = (
        [cell[OWNNESS] for reading in read for kind in kinds for cell in reading.texts.get(kind, ()) if OWNNESS in cell]
        for kinds in (("own",), ("others", WORLD))
    )
    if not told or not own or not others:
        return []
    n_inside = sum(verdict_of(f) == "no effect" for f in own)
    n_apart, n_cells = round(sum(value(f) * f.n for f in told)), sum(f.n for f in told)
    inside = (
        "0 lies inside every interval" if n_inside == len(own) else f"0 lies inside {n_inside} of {len(own)} intervals"
    )
    text = (
        f"surprisal less entropy (0: drawn from the reader) is {_listed(own)} on own text, {inside}; on others' text "
        f"{_range(others)} nats, above 0 in {counted(n_apart, n_cells)} cells: {_conclusion(n_apart, n_cells)}."
    )
    is_clear = n_inside == len(own) and n_apart == n_cells
    subject = f"{models_of(at['stage'])}, {framing_label(at['framing'])}, authorship"
    return [Statement(text, (OWNNESS, TOLD_APART), at, "effect" if is_clear else "", subject, headline=True)]


def counted(n: int, n_all: int) -> str:
    """`all 6`, `2 of 6` or `none of 6`."""
    return f"all {n}" if n == n_all else f"{n or 'none'} of {n_all}"


def _listed(own: Sequence[Finding]) -> str:
    if len(own) > _NAMED_READERS:
        return f"{_range(own)} nats"
    return ", ".join(f"{f.where['reader']} {with_interval(f)}" for f in own)


def _range(cells: Sequence[Finding]) -> str:
    low, high = (number(bound(map(value, cells))) for bound in (min, max))
    return low if low == high else f"{low} to {high}"


def _conclusion(n: int, n_all: int) -> str:
    if n == n_all:
        return "all of it is told from the readers' own"
    return "some of it is told from the readers' own" if n else "none of it is told from the readers' own"
