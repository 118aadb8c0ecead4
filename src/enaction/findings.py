"""Findings: every number that a run reports, with its place, interval, count and definition."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from enaction.errors import StudyError
from enaction.files import write_atomically


@dataclass(frozen=True)
class Finding:
    """One number of a run.

    Attributes:
        experiment: which experiment computed it, e.g. `matrix`.
        quantity: what it is, e.g. `interaction`.
        where: what it is about, e.g. reader, author, stage, framing; the authors behind a ratio are listed here.
        estimate: the number; None where the data cannot give it (and `definition` or a note says why).
        low, high: 95 % interval, in the unit of the estimate; None where none applies.
        n: how many independent units (prompts, unless the definition says otherwise).
        unit: `nats`, `log units`, `ratio`, `standard deviations`, ...
        definition: one sentence that says exactly what was computed, its pooling and its interval.
    """

    experiment: str
    quantity: str
    where: dict[str, Any]
    estimate: float | None
    low: float | None
    high: float | None
    n: int
    unit: str
    definition: str
    notes: list[str] = field(default_factory=list)


_PERMUTATION = "permutation p = "


def permutation_note(pvalue: float, how: str) -> str:
    """The note that carries a permutation p-value, with what was shuffled and which tail counts."""
    return f"{_PERMUTATION}{pvalue:.4f} ({how})"


def is_permutation_note(note: str) -> bool:
    """Whether a note is one of `permutation_note`."""
    return note.startswith(_PERMUTATION)


def permutation_pvalue(finding: Finding) -> str:
    """The permutation p-value in a finding's notes, as text; empty where there is none."""
    found = next(filter(is_permutation_note, finding.notes), "")
    return found.removeprefix(_PERMUTATION).partition(" ")[0]


def write_findings(path: Path, findings: Iterable[Finding]) -> None:
    """Write findings.json."""
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps([asdict(f) for f in findings], indent=1, allow_nan=False) + "\n")


def read_findings(path: Path) -> list[Finding]:
    """Read findings.json.

    Raises:
        StudyError: the file is missing or not a list of findings.
    """
    try:
        return [Finding(**item) for item in json.loads(path.read_text())]
    except FileNotFoundError:
        raise StudyError(f"{path}: no findings there; `enaction run` writes them at the end of a run") from None
    except (TypeError, ValueError) as error:
        raise StudyError(f"{path}: not a findings file ({error})") from None


def select(findings: Iterable[Finding], quantity: str, **where: Any) -> list[Finding]:
    """The findings of one quantity whose `where` has all the given values."""
    return [f for f in findings if f.quantity == quantity and all(f.where.get(k) == v for k, v in where.items())]
