"""Who recognises text like its own: the verdict on each reader of a table, by three witnesses.

`recognition` holds the reader's confidence and the text's ease against its own cell, `recognition_adjusted` how it
responds to difficulty, and `matched_gap` needs no other reader. A reader is certified where the first two lie above 0
and the third does not disagree; where it does, the verdict says so and chooses nobody. A reader that hardly responds to
difficulty is not certified, whatever the tables say.

A table of N readers has N verdicts, so the lower bounds are moved out as far as N one-sided tests at .05 in all ask
for: where nobody recognises anything, at most one table in twenty certifies somebody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from enaction.findings import Finding, Findings
from enaction.shown import with_interval
from enaction.stats.student import t_quantile

# Models that a table must have for each reader to have a verdict of its own.
LEAST_MODELS = 3
# A reader whose slope on difficulty is below this counts as flat.
FLAT = 0.1
# Chance that a table in which nobody recognises anything certifies somebody.
_FALSE = 0.05

Word = Literal["certified", "disagree", "flat", "not certified"]


@dataclass(frozen=True)
class Verdict:
    """The verdict on one reader, and what it rests on."""

    reader: str
    word: Word
    why: str

    @property
    def is_certified(self) -> bool:
        """Whether the reader is certified to recognise text like its own."""
        return self.word == "certified"


def verdicts_of(findings: Findings, **place: Any) -> list[Verdict]:
    """The verdict on each reader of the table at a place; none for a table of two.

    Args:
        findings: with `recognition`, `recognition_adjusted`, `difficulty_slope` and, where there is one, `matched_gap`.
        place: stage and framing of the table.
    """
    readers = [str(f.where["reader"]) for f in findings.select("difficulty_slope", **place)]
    return [_verdict(findings, reader, len(readers), place) for reader in readers]


def _verdict(findings: Findings, reader: str, n_readers: int, place: dict[str, Any]) -> Verdict:
    def one(quantity: str) -> Finding | None:
        return findings.one(quantity, reader=reader, **place)

    slope, gap = one("difficulty_slope"), one("matched_gap")
    witnesses = {"recognition": one("recognition"), "adjusted for difficulty": one("recognition_adjusted")}
    told = [f"{name} {with_interval(f)}" for name, f in witnesses.items()]
    if gap is not None:
        told.append(f"matched gap {with_interval(gap)} nats")
    why = ", ".join(told)
    if slope is not None and slope.estimate is not None and slope.estimate < FLAT:
        return Verdict(reader, "flat", f"it hardly responds to difficulty, slope {with_interval(slope)}; {why}")
    if not all(_is_above(f, n_readers) for f in witnesses.values()):
        return Verdict(reader, "not certified", why)
    if gap is not None and (gap.high is None or gap.high >= 0):
        return Verdict(reader, "disagree", f"the matched gap does not confirm it; {why}")
    return Verdict(reader, "certified", why)


def _is_above(finding: Finding | None, n_readers: int) -> bool:
    """Whether a number is above 0 as one of several, by the lower half of its interval stretched accordingly."""
    if finding is None or finding.estimate is None or finding.low is None:
        return False
    df = max(finding.n - 1, 1)
    stretch = t_quantile(df, 1 - 2 * _FALSE / n_readers) / t_quantile(df)
    return finding.estimate - stretch * (finding.estimate - finding.low) > 0
