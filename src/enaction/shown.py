"""How numbers, verdicts and names are printed, so that sentences, tables and charts agree."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from enaction.findings import Finding, Findings
from enaction.page import Cell, Grid, Statement, Verdict
from enaction.reader.sources import short_name
from enaction.words import MEAN, WORLD, framing_label, stage_label

NO_EFFECT = "no effect"
NO_VERDICT = "no interval, so no verdict"
NO_NULL = "no null, so no verdict"
NONE = "–"
_LABELS = {"stage": stage_label, "point": stage_label, "framing": framing_label}
# Some sums are zero by construction and are computed as 1e-17.
_ROUNDING = 1e-9


def value(finding: Finding) -> float:
    """The estimate as a number; NaN if it is missing."""
    return math.nan if finding.estimate is None else finding.estimate


def mean_value(findings: Sequence[Finding]) -> float | None:
    """The mean of estimates, for display only: no interval belongs to it; None without findings."""
    return sum(map(value, findings)) / len(findings) if findings else None


def number(value: float | None, digits: int = 3) -> str:
    """A number as text; a dash for none, and never a negative zero."""
    if value is None or not math.isfinite(value):
        return NONE
    if abs(value) >= 1000:
        digits = 0
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def with_interval(finding: Finding | None, digits: int = 3) -> str:
    """Estimate and 95 % interval: `0.012 [-0.003, 0.027]`; the estimate alone without one, a dash without an estimate.

    Digits are added where rounding would make a bound that excludes the null look as if it touched it.
    """
    if finding is None or finding.estimate is None or finding.low is None or finding.high is None:
        return number(finding.estimate if finding else None, digits)
    null, bounds = finding.null, (finding.low, finding.high)
    if null is not None:
        tried = (d for d in range(digits, 7) if not any(_rounds_onto(bound, null, d) for bound in bounds))
        digits = next(tried, digits)
    return f"{number(finding.estimate, digits)} [{number(finding.low, digits)}, {number(finding.high, digits)}]"


def with_pvalue(finding: Finding | None, digits: int = 3) -> str:
    """Estimate, interval and the permutation p-value, if there is one; `not measured` for no finding."""
    if finding is None:
        return "not measured"
    p = pvalue(finding)
    return with_interval(finding, digits) + (f", p = {p}" if p else "")


def pvalue(finding: Finding | None) -> str:
    """The permutation p-value as text; empty where nothing was permuted."""
    return "" if finding is None or finding.p is None else f"{finding.p:.4f}"


def judged(finding: Finding | None) -> Cell:
    """A table's cell of a finding, strong where the interval excludes the null."""
    return Cell(with_interval(finding), "strong" if finding and verdict_of(finding) == "effect" else "")


def contains(finding: Finding, null: float) -> bool | None:
    """Whether the interval contains the null, up to rounding errors; None if the finding has no interval."""
    if finding.low is None or finding.high is None:
        return None
    return finding.low - _ROUNDING <= null <= finding.high + _ROUNDING


def verdict_of(finding: Finding) -> Verdict:
    """Whether the interval excludes the null; "" for a finding without an interval or a null."""
    inside = None if finding.null is None else contains(finding, finding.null)
    return "" if inside is None else "no effect" if inside else "effect"


def verdict_words(finding: Finding, *, below: str, above: str, none: str = NO_EFFECT) -> str:
    """The words for an interval below or above the null, those for one that contains it, and for none of either."""
    if finding.null is None:
        return NO_NULL
    match contains(finding, finding.null):
        case None:
            return NO_VERDICT
        case True:
            return none
        case False:
            return below if (finding.high or 0.0) < finding.null else above


def stated(findings: Findings, subject: str, text: str, *quantities: str, **where: Any) -> list[Statement]:
    """A sentence about quantities at one place, with the verdict on the first; no sentence where a number is missing.

    Args:
        text: with one `{}` for each quantity, which its estimate, interval and p-value fill.
    """
    return sentence(subject, text, where, *(findings.one(quantity, **where) for quantity in quantities))


def sentence(subject: str, text: str, where: Mapping[str, Any], *about: Finding | None) -> list[Statement]:
    """As `stated`, about findings of several places.

    Args:
        text: with a `{}` for each finding, or their numbers.
        where: the place of the statement.
        about: None for a missing one.
    """
    present = [f for f in about if f is not None]
    if len(present) < len(about):
        return []
    quantities = tuple(dict.fromkeys(f.quantity for f in present))
    return [Statement(_filled(text, present), quantities, where, verdict_of(present[0]), subject)]


def _filled(text: str, findings: Sequence[Finding]) -> str:
    """The text with numbers in place of `{}` and `{0}`; other braces belong to names, and remain."""
    numbers = [with_pvalue(f) for f in findings]
    positions = iter(range(len(numbers)))

    def number_of(match: re.Match[str]) -> str:
        at = int(match[1]) if match[1] else next(positions, len(numbers))
        return numbers[at] if at < len(numbers) else match[0]

    return re.sub(r"\{(\d*)\}", number_of, text)


def left_out(findings: Findings, subject: str, quantity: str, **where: Any) -> list[Statement]:
    """Why numbers of a quantity are missing, a sentence for each."""
    missing = [f for f in findings.select(quantity, **where) if f.left_out]
    return [Statement(f"{f.left_out}.", (quantity,), f.where, "left out", subject) for f in missing]


def table(
    findings: Findings,
    title: str,
    rows: Mapping[str, str],
    columns: Mapping[str, str],
    *,
    order: Callable[..., Any] | None = None,
    show: Callable[[Finding | None], Cell | str] = with_interval,
    labels: Mapping[str, Callable[[Any], str]] | None = None,
    beside: Mapping[str, Callable[[Mapping[str, Finding]], Cell | str]] | None = None,
    brief: bool = False,
    **where: Any,
) -> Grid:
    """A table whose rows are places and whose columns are quantities.

    Args:
        findings: of one experiment.
        title: of the table.
        rows: keys of `where` that name a row -> their headings; stages and framings get their labels.
        columns: quantities -> their headings.
        order: values of the keys -> what rows are sorted by; input order by default.
        show: a number as a cell, e.g. `judged`.
        labels: keys -> how their values are printed, beside the labels of stages and framings.
        beside: headings of further columns -> what a row has there, from its findings by quantity.
        brief: as in `Grid`.
        where: values that all findings of the table have.
    """
    places = findings.pivot(tuple(columns), tuple(rows), **where)
    keys = list(places) if order is None else sorted(places, key=lambda key: order(*key))
    labels = {**_LABELS, **(labels or {})}
    label_of = [labels.get(key, str) for key in rows]
    beside = beside or {}
    body = [
        [
            *map(_name, label_of, key),
            *(show(places[key].get(q)) for q in columns),
            *(made(places[key]) for made in beside.values()),
        ]
        for key in keys
    ]
    header = [*(Cell(heading, "name") for heading in rows.values()), *columns.values(), *beside]
    return Grid(title, header, body, tuple(columns), brief)


def _name(label: Callable[[Any], str], at: Any) -> Cell:
    return Cell(label(at) if at is not None else "", "mean" if at == MEAN else "name")


def short_names(names: Sequence[str], limit: int = 18) -> dict[str, str]:
    """Names for places where room is scarce: without hub owner or `zoo:`, the middle left out; never two alike."""
    cut = {name: short_name(name) for name in names}
    if len(set(cut.values())) < len(cut):
        cut = {name: name for name in names}
    short = {name: _middle_out(text, limit) for name, text in cut.items()}
    if len(set(short.values())) < len(short):
        short = {name: _middle_out(f"{i}·{text}", limit) for i, (name, text) in enumerate(cut.items(), start=1)}
    return short


def names_within(names: Sequence[str], stage: str, limit: int = 18) -> dict[str, str]:
    """Short names under a heading that has the stage already: `ash-rl` is `ash` where all end in the stage."""
    ending = f"-{stage}"
    models = [name for name in names if name != WORLD]
    if not stage or not all(name.endswith(ending) and name != ending for name in models):
        return short_names(names, limit)
    short = short_names([name.removesuffix(ending) for name in models], limit)
    return {name: name if name == WORLD else short[name.removesuffix(ending)] for name in names}


def _middle_out(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    head = (limit - 1) // 2
    return f"{text[:head]}…{text[-(limit - 1 - head) :]}"


def _rounds_onto(value: float, null: float, digits: int) -> bool:
    return abs(value - null) > _ROUNDING and round(value, digits) == null
