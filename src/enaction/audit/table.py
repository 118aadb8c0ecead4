"""What was said of turns as a table, a row a turn, and the sums that go with it."""

from __future__ import annotations

import heapq
import itertools
import json
import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from enaction.files import write_atomically

if TYPE_CHECKING:
    from enaction.audit.judging import Turn

Row = dict[str, Any]
LN10 = math.log(10)

# Evidence in powers of ten, everything else in nats; docs/audit.md has the columns.
SCHEMA = pa.schema(
    [
        ("turn", pa.int64()),  # number in the file, from 1
        ("author", pa.string()),
        ("id", pa.string()),
        ("tokens", pa.int32()),
        ("verdict", pa.string()),
        ("log10_e", pa.float64()),
        ("log10_e_greatest", pa.float64()),
        ("crossing", pa.int32()),
        ("at_least", pa.int32()),
        ("change", pa.int32()),
        ("outside", pa.int32()),
        ("information", pa.float64()),
        ("seen_below", pa.float64()),
        ("seen_above", pa.float64()),
        ("surprisal", pa.float64()),
        ("entropy", pa.float64()),
        ("log_rank", pa.float64()),
        ("curvature", pa.float64()),
        ("binoculars", pa.float64()),  # NaN if not asked for
        ("versus", pa.string()),  # JSON
    ]
)
# Whether the turn is among those that are reported (e-BH), which is known when all are.
REPORTED = pa.field("reported", pa.bool_())
ENDINGS = (".parquet", ".csv", ".jsonl")
_BATCH = 4096


def row_of(number: int, turn: Turn) -> Row:
    """A turn as a row.

    Args:
        number: of the turn in the file, from 1.
        turn: what is said of it.
    """
    below, above = turn.could_see or (None, None)
    return {
        "turn": number,
        "author": turn.author,
        "id": turn.id,
        "tokens": turn.n_tokens,
        "verdict": turn.verdict,
        "log10_e": turn.log_e / LN10,
        "log10_e_greatest": turn.greatest / LN10,
        "crossing": turn.crossing,
        "at_least": turn.at_least,
        "change": turn.change,
        "outside": turn.outside,
        "information": turn.information,
        "seen_below": below,
        "seen_above": above,
        "surprisal": turn.surprisal,
        "entropy": turn.entropy,
        "log_rank": turn.log_rank,
        "curvature": turn.curvature,
        "binoculars": turn.binoculars,
        "versus": json.dumps(turn.versus),
    }


@dataclass
class Tally:
    """Sums over rows, with the worst of them; of each row besides, eight bytes.

    Attributes:
        keep: how many of the worst rows are kept.
        log_e: of every turn, nats.
    """

    keep: int
    n_turns: int = 0
    n_tokens: int = 0
    n_foreign: int = 0
    n_empty: int = 0
    information: float = 0.0
    log_e: array[float] = field(default_factory=lambda: array("d"))
    _worst: list[tuple[float, int, Row]] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Count a row."""
        self.n_turns += 1
        self.n_tokens += row["tokens"]
        self.n_foreign += row["verdict"] == "foreign"
        self.n_empty += row["tokens"] == 0
        self.information += row["information"]
        self.log_e.append(row["log10_e"] * LN10)
        entry = (row["log10_e_greatest"], -row["turn"], row)
        if len(self._worst) < self.keep:
            heapq.heappush(self._worst, entry)
        else:
            heapq.heappushpop(self._worst, entry)

    @property
    def worst(self) -> list[Row]:
        """Rows with the greatest evidence, the greatest first."""
        return [row for *_, row in sorted(self._worst, key=lambda entry: entry[:2], reverse=True)]


def write_rows(path: Path, rows: Iterable[Row], reported: Sequence[bool]) -> None:
    """Write a table of turns as Parquet, CSV or JSON lines, by the ending, in memory that does not grow with it.

    Args:
        path: of the file, which appears whole or not at all.
        rows: as `row_of` makes them.
        reported: of each row.

    Raises:
        UserError: the file cannot be written.
    """
    schema = SCHEMA.append(REPORTED)
    marked = ({**row, REPORTED.name: bool(is_reported)} for row, is_reported in zip(rows, reported, strict=True))
    with write_atomically(path) as temporary:
        if path.suffix == ".jsonl":
            with temporary.open("w", encoding="utf-8") as handle:
                handle.writelines(json.dumps(_finite(row), ensure_ascii=False) + "\n" for row in marked)
            return
        kind = pq.ParquetWriter if path.suffix == ".parquet" else pc.CSVWriter
        with kind(temporary, schema) as writer:
            while batch := list(itertools.islice(marked, _BATCH)):
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))


def _finite(row: Row) -> Row:
    """A row without infinities and NaN, which JSON does not have."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
