"""The rule by which a claim gets its standing: which of its parts hold, and what follows.

A part is positive (a number has to lie on one side of a bound) or an absence (a number has to lie within a bound on
both sides of 0). The positive parts decide; absences only qualify them. An absence is shown by an interval within the
bound and contradicted by one outside; an interval that holds the bound itself shows neither, so it is not testable.

A list of claims takes many looks at one run. Each claim therefore uses intervals of `LEVEL` in place of 95 %, and parts
of which one would do for "partly" share that level (Bonferroni), so that a run in which nothing is true seldom gets any
claim; `familywise` gives how seldom, as studies/familywise.py measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Literal, NamedTuple

from enaction.findings import Finding
from enaction.shown import with_interval
from enaction.stats.student import t_quantile

Standing = Literal["reproduced", "partly", "not reproduced", "not testable"]
# Of the intervals of a claim, all its parts together.
LEVEL = 0.99


class Part(NamedTuple):
    """One part of a claim.

    Attributes:
        words: what was measured, with its interval.
        holds: whether it is as claimed; None where the interval cannot say, or there is none.
    """

    words: str
    holds: bool | None


class Familywise(NamedTuple):
    """How often a run in which nothing is true gets any claim, as studies/familywise.py measured it.

    Attributes:
        rate: share of null runs with a claim better than "not reproduced", for the worst kind of null.
        low, high: its 95 % interval.
        kind: which kind of null is the worst.
        runs: number of runs of that kind.
        level: of the intervals that the claims used.
        date, command: of the simulation.
    """

    rate: float
    low: float
    high: float
    kind: str
    runs: int
    level: float
    date: str
    command: str


@cache
def familywise() -> Familywise:
    """The stored result of the simulation."""
    return Familywise(**json.loads((resources.files("enaction.paper") / "familywise.json").read_text())["worst"])


def at_level(finding: Finding, level: float = LEVEL) -> Finding:
    """A finding with its 95 % interval widened to another level: each side times the ratio of the quantiles of t.

    A ratio is widened in its logarithm.
    Exact for a t interval over n units; for a percentile interval of a bootstrap it supposes tails like those of t.
    """
    if finding.estimate is None or finding.low is None or finding.high is None:
        return replace(finding, low=None, high=None)
    degrees = max(finding.n - 1, 1)
    factor = t_quantile(degrees, level) / t_quantile(degrees, 0.95)
    is_ratio = finding.unit == "ratio" and min(finding.estimate, finding.low) > 0
    there, back = (math.log, math.exp) if is_ratio else (float, float)
    middle = there(finding.estimate)
    low, high = (back(middle + factor * (there(bound) - middle)) for bound in (finding.low, finding.high))
    return replace(finding, low=low, high=high)


def below(finding: Finding | None, bound: float, words: str, among: int = 1) -> Part | None:
    """A positive part: the whole interval lies below a bound. None without a finding.

    Args:
        finding, bound, words: what is measured.
        among: the number of parts of which one would do for "partly".
    """
    return _part(finding, words, lambda _, high: (high < bound, ""), among)


def above(finding: Finding | None, bound: float, words: str, among: int = 1) -> Part | None:
    """As `below`: the whole interval lies above a bound."""
    return _part(finding, words, lambda low, _: (low > bound, ""), among)


def within(finding: Finding | None, bound: float, words: str) -> Part | None:
    """An absence: the whole interval lies within a bound on both sides of 0; contradicted where it lies outside."""

    def absence(low: float, high: float) -> tuple[bool | None, str]:
        if -bound < low and high < bound:
            return True, ""
        if low > bound or high < -bound:
            return False, f" (outside ±{bound:g}: contradicts an absence)"
        return None, f" (too wide to show an absence within ±{bound:g}, or to contradict one)"

    return _part(finding, words, absence)


def _part(
    finding: Finding | None, words: str, claim: Callable[[float, float], tuple[bool | None, str]], among: int = 1
) -> Part | None:
    if finding is None:
        return None
    wide = at_level(finding, 1 - (1 - LEVEL) / among)
    holds, remark = (None, "") if wide.low is None or wide.high is None else claim(wide.low, wide.high)
    return Part(f"{words} {with_interval(wide)}{remark}", holds)


def judged(
    parts: Sequence[Part | None],
    missing: str,
    *,
    needs: Sequence[Part | None] = (),
    also: Sequence[Part | None] = (),
    absent: Sequence[Part | None] = (),
) -> tuple[Standing, str]:
    """Standing and words of a claim.

    Args:
        parts: positive parts that decide: all hold, some, or none. Empty for a claim that is nothing but an absence.
        missing: what a run that lacks a part does not have.
        needs: positive parts without which the others mean nothing; one that fails is "not reproduced".
        also: positive parts that only qualify; one that does not hold makes "reproduced" "partly".
        absent: absences. Beside positive parts they only qualify; alone, one that is contradicted is "not reproduced",
            and one that the run has no power for makes the claim "not testable".
    """
    everything = [*needs, *parts, *also, *absent]
    measured = [part for part in everything if part is not None]
    if len(measured) < len(everything) or not measured:
        return "not testable", missing
    needed, decided, qualified, absences = (
        [part.holds for part in some if part] for some in (needs, parts, also, absent)
    )
    words = "; ".join(part.words for part in measured)
    if parts:
        return _of_positives(needed, decided, [*qualified, *absences]), words
    return "not reproduced" if False in absences else "not testable" if None in absences else "reproduced", words


def _of_positives(
    needed: Sequence[bool | None], decided: Sequence[bool | None], qualifying: Sequence[bool | None]
) -> Standing:
    if False in needed or (False in decided and True not in decided):
        return "not reproduced"
    if None in needed or True not in decided:
        return "not testable"
    return "reproduced" if all([*decided, *qualifying]) else "partly"
