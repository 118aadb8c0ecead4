"""Findings: every number that a run reports, with its place, interval, null, count and definition.

`Findings` is the sequence that all consumers share: it looks a number up by quantity and place, so that nobody searches
a list or reads a sentence. findings.json is that sequence as a list of objects.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from enaction.errors import StudyError
from enaction.files import write_atomically

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Finding:
    """One number of a run.

    Attributes:
        experiment: which experiment computed it, e.g. `matrix`.
        quantity: what it is, e.g. `interaction`.
        where: what it is about, e.g. reader, author, stage, framing; the authors of a ratio are listed here.
        estimate: the number; None where the data cannot give it (`left_out` or a note says why).
        low, high: 95 % interval, in the unit of the estimate; None where none applies.
        n: how many independent units (prompts, unless the definition says otherwise).
        unit: `nats`, `log units`, `ratio`, `standard deviations`, ...
        definition: one sentence that says exactly what was computed, its pooling and its interval.
        notes: what a reader of the number should know; the permutation test's p-value with what was shuffled.
        null: the value that means no effect; None where no value does.
        p: permutation p-value; None where nothing was permuted.
        left_out: why the number is missing; None where it is not.
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
    null: float | None = None
    p: float | None = None
    left_out: str | None = None

    @property
    def remarks(self) -> list[str]:
        """The notes without the one that repeats the p-value."""
        return [note for note in self.notes if self.p is None or not note.startswith(permutation_note(self.p, "")[:-1])]


class Findings(Sequence[Finding]):
    """The findings of a run, in the order in which they were computed, with look-ups by quantity and place."""

    def __init__(self, findings: Iterable[Finding] = ()) -> None:
        self._all = tuple(findings)

    @overload
    def __getitem__(self, index: int) -> Finding: ...
    @overload
    def __getitem__(self, index: slice) -> Findings: ...
    def __getitem__(self, index: int | slice) -> Finding | Findings:
        return self._all[index] if isinstance(index, int) else Findings(self._all[index])

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._all)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # findings hold dictionaries

    def __repr__(self) -> str:
        return f"Findings({len(self)} numbers of {', '.join(self.experiments) or 'no experiment'})"

    @cached_property
    def experiments(self) -> list[str]:
        """The experiments that have findings, in order of their first one."""
        return list(dict.fromkeys(f.experiment for f in self._all))

    @cached_property
    def measured(self) -> Findings:
        """Those that have a number."""
        return Findings(f for f in self._all if f.estimate is not None)

    def at(self, **where: Any) -> Findings:
        """Those at a place: whose `where` has all the given values, of any quantity."""
        return Findings(f for f in self._all if all(f.where.get(key) == value for key, value in where.items()))

    def of(self, experiment: str) -> Findings:
        """The findings of one experiment."""
        return Findings(f for f in self._all if f.experiment == experiment)

    def select(self, quantity: str, experiment: str | None = None, **where: Any) -> Findings:
        """The findings of a quantity whose `where` has all the given values."""
        return Findings(
            f
            for f in self._by_quantity.get(quantity, ())
            if (experiment is None or f.experiment == experiment)
            and all(f.where.get(key) == value for key, value in where.items())
        )

    def one(self, quantity: str, experiment: str | None = None, **where: Any) -> Finding | None:
        """The one finding of a quantity at a place that has a number; None without one.

        Raises:
            LookupError: several places fit, so that the answer would depend on their order.
        """
        matching = [f for f in self.select(quantity, experiment, **where) if f.estimate is not None]
        if len(matching) > 1:
            places = [f.where for f in matching[:2]]
            raise LookupError(
                f"{len(matching)} findings of {quantity} fit, e.g. at {places[0]} and {places[1]}: say more"
            )
        return matching[0] if matching else None

    def values(self, key: str, *quantities: str) -> list[Any]:
        """The different values of a key of `where`, in input order; of these quantities, or of all."""
        of = [f for f in self._all if key in f.where and (not quantities or f.quantity in quantities)]
        return list(dict.fromkeys(f.where[key] for f in of))

    def pivot(
        self, columns: str | Sequence[str], rows: Sequence[str], **where: Any
    ) -> dict[tuple[Any, ...], dict[str, Finding]]:
        """A table of findings: values of the row's keys -> quantity -> finding.

        Args:
            columns: a quantity, or several.
            rows: keys of `where` whose values name a row.
            where: values that all findings of the table have.
        """
        table: dict[tuple[Any, ...], dict[str, Finding]] = {}
        for quantity in [columns] if isinstance(columns, str) else columns:
            for f in self.select(quantity, **where):
                table.setdefault(tuple(f.where.get(key) for key in rows), {}).setdefault(quantity, f)
        return table

    def to_arrow(self) -> pa.Table:
        """One row a finding; each key of `where` is a column of text, notes are joined by newlines."""
        import pyarrow as pa

        keys = list(dict.fromkeys(key for f in self._all for key in f.where))
        fixed = ("estimate", "low", "high", "n", "unit", "null", "p", "left_out", "definition")
        columns = {name: [getattr(f, name) for f in self._all] for name in ("experiment", "quantity")}
        columns |= {
            f"where_{key}" if key in (*columns, *fixed, "notes") else key: [_text(f.where.get(key)) for f in self._all]
            for key in keys
        }
        columns |= {name: [getattr(f, name) for f in self._all] for name in fixed}
        columns["notes"] = ["\n".join(f.notes) for f in self._all]
        return pa.table(columns)

    def to_pandas(self) -> Any:
        """As `to_arrow`, a pandas data frame.

        Raises:
            ImportError: pandas is not installed.
        """
        return self.to_arrow().to_pandas()

    @cached_property
    def _by_quantity(self) -> dict[str, list[Finding]]:
        index: dict[str, list[Finding]] = {}
        for f in self._all:
            index.setdefault(f.quantity, []).append(f)
        return index


def permutation_note(pvalue: float, how: str) -> str:
    """The note beside a permutation p-value: what was shuffled and which tail counts."""
    return f"permutation p = {pvalue:.4f} ({how})"


def write_findings(path: Path, findings: Iterable[Finding]) -> None:
    """Write findings.json."""
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps([asdict(f) for f in findings], indent=1, allow_nan=False) + "\n")


def read_findings(path: Path) -> Findings:
    """Read findings.json.

    Raises:
        StudyError: the file is missing, of an older version, or not a list of findings.
    """
    try:
        items = json.loads(path.read_text())
        if not isinstance(items, list):
            raise TypeError("it holds no list")
        if items and "estimate" in items[0] and "null" not in items[0]:
            raise StudyError(
                f"{path} was written by an older version, without the null of each number: "
                f"`enaction report {path.parent}` writes it anew"
            )
        return Findings(Finding(**item) for item in items)
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; `enaction run` writes the findings at the end of a run") from None
    except StudyError:
        raise
    except (TypeError, ValueError, KeyError) as error:
        raise StudyError(f"{path}: not a findings file ({error})") from None


def select(findings: Iterable[Finding], quantity: str, **where: Any) -> Findings:
    """The findings of one quantity whose `where` has all the given values."""
    return (findings if isinstance(findings, Findings) else Findings(findings)).select(quantity, **where)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
