"""The page of the stages: every measure from point to point of training, and where recognition appears."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from enaction.chart import Axis, Chart, Mark, Panel, Rule, framing_look, keys, points_of
from enaction.findings import Finding, Findings
from enaction.page import Grid, Page, Section, Statement
from enaction.shown import judged, number, value, verdict_of, with_interval
from enaction.words import FRAMINGS, MEAN, framing_label, ordered, stage_label

# Measure -> title of its panel, its null.
_PANELS = {
    "interaction": ("Interaction", 0.0),
    "ratio": ("Other/self ratio", 1.0),
    "own_entropy": ("Entropy, nats: own (full), others' (open)", None),
}
_COLUMNS = ("own_entropy", "other_entropy", "ratio", "recognition", "interaction", "interaction_of_bases")


def page(title: str, question: str, findings: Findings) -> Page:
    """What the report shows of the stages."""
    framings = ordered(map(str, findings.values("framing")), FRAMINGS)
    return Page(
        title,
        question,
        [s for framing in framings for s in _statements(findings, framing)],
        [Section(charts=["stages"], grids=[_grid(findings, framing) for framing in framings])],
        {"stages": _chart(findings, framings)},
    )


def _points(findings: Findings) -> list[str]:
    return findings.values("point", "point_interaction")


def _branches(findings: Findings) -> list[str]:
    return findings.values("branch", "branch_interaction")


def _mean(findings: Findings, measure: str, framing: str, place: str) -> Finding | None:
    """The mean over readers at a point or in a branch."""
    at = {"framing": framing, "family": MEAN}
    return findings.one(f"point_{measure}", point=place, **at) or findings.one(f"branch_{measure}", branch=place, **at)


def _statements(findings: Findings, framing: str) -> list[Statement]:
    branches = [
        Statement(
            f"from {stage_label(f.where['from_point'])} to {stage_label(f.where['branch'])} recognition changes by "
            f"{with_interval(f)} log units.",
            (f.quantity,),
            f.where,
            verdict_of(f),
            f"Branch, {framing_label(framing)}",
        )
        for f in findings.select("branch_change_recognition", framing=framing)
    ]
    steps = _largest_step(findings, framing)
    return [_appearance(findings, framing), *steps, *branches, _reversal(findings, framing)]


def _appearance(findings: Findings, framing: str) -> Statement:
    points = _points(findings)
    first = findings.select("appears_at", framing=framing)[0].where["point"]
    beside = f"at {stage_label(points[0])} it is {with_interval(_mean(findings, 'interaction', framing, points[0]))}"
    if null := _mean(findings, "interaction_of_bases", framing, points[-1]):
        beside += f"; read by the bases, the texts of {stage_label(points[-1])} give {with_interval(null)}"
    if first is None:
        text = f"no effect of more than 2 % that lasts to the end ({beside})."
    else:
        text = (
            f"recognition of more than 2 % appears at {stage_label(first)} and lasts to the end: interaction "
            f"{with_interval(_mean(findings, 'interaction', framing, first))} log units; {beside}."
        )
    about = ("appears_at", "point_interaction", "point_interaction_of_bases")
    where = {"framing": framing, "point": first}
    return Statement(text, about, where, "effect" if first else "no effect", f"Appearance, {framing_label(framing)}")


def _largest_step(findings: Findings, framing: str) -> list[Statement]:
    steps = findings.select("change_recognition", framing=framing, family=MEAN)
    if not steps:
        return []
    largest = max(steps, key=value)
    shares = [
        f"{stage_label(f.where['point'])} {number(f.estimate, 2)}"
        for f in findings.select("share_of_last", framing=framing)
    ]
    whole = findings.one("whole_change_recognition", framing=framing, family=MEAN)
    grows = largest.low is not None and largest.low > 0
    text = (
        f"from {stage_label(largest.where['from_point'])} to {stage_label(largest.where['point'])} recognition changes "
        f"by {with_interval(largest)} log units{'' if grows else ' (no effect)'}"
        f"{f', over all points by {with_interval(whole)}' if whole else ''}; share of the last point's: "
        f"{', '.join(shares)}."
    )
    about = ("change_recognition", "whole_change_recognition", "share_of_last")
    subject = f"Largest step, {framing_label(framing)}"
    return [Statement(text, about, largest.where, "effect" if grows else "no effect", subject)]


def _reversal(findings: Findings, framing: str) -> Statement:
    """Points where own text has more entropy than others' (ratio), and where that is the reverse of recognition."""
    ratios = [f for f in findings.select("point_ratio", framing=framing) if f.high is not None and f.high < 1]
    inner = [f for f in findings.select("point_interaction", framing=framing) if f.low is not None and f.low > 0]

    def listed(reversed_at: Sequence[Finding]) -> str:
        entries = [f"{f.where['family']} at {stage_label(f.where['point'])} {with_interval(f)}" for f in reversed_at]
        return ", ".join(entries) or "nowhere"

    return Statement(
        f"other/self ratio below 1: {listed(ratios)}; interaction above 0: {listed(inner)}.",
        ("point_ratio", "point_interaction"),
        {"framing": framing},
        "effect" if inner else "no effect",
        f"Reversed order, {framing_label(framing)}",
    )


def _grid(findings: Findings, framing: str) -> Grid:
    rows = [
        [stage_label(place), *(judged(_mean(findings, measure, framing, place)) for measure in _COLUMNS)]
        for place in [*_points(findings), *_branches(findings)]
    ]
    names = [measure.replace("_of_bases", ", bases read").replace("_", " ") for measure in _COLUMNS]
    title = f"Means over readers, {framing_label(framing)}; entropies in nats, the last three in log units"
    return Grid(title, ["point", *names], rows, [f"point_{measure}" for measure in _COLUMNS])


def _chart(findings: Findings, framings: Sequence[str]) -> Chart:
    points, branches = _points(findings), _branches(findings)
    names = [stage_label(place) for place in [*points, *branches]]
    x = Axis(ticks=range(len(names)), names=names, slant=30 if len(names) > 5 else 0)
    panels = []
    for measure, (title, null) in _PANELS.items():
        marks: list[Mark] = [] if null is None else [Rule("y", null, "ink")]
        for k, framing in enumerate(framings):
            marks += _marks(findings, measure, framing, 0.08 * (k - (len(framings) - 1) / 2))
        if branches:
            marks.append(Rule("x", len(points) - 0.5, width=0.6))
        panels.append(Panel(marks, x, title=title))
    caption = (
        "Means over readers at each point of training with 95 % intervals; faint points are single readers, grey "
        "crosses the same texts read by the families' bases, thin lines the null. To the right of an upright line: "
        "branches."
    )
    return Chart(caption, [panels], width=10.2, height=3.2, legend=keys(panels[0].marks))


def _marks(findings: Findings, measure: str, framing: str, shift: float) -> list[Mark]:
    """A measure in a framing: the line of the points and each branch, then single readers and the bases."""
    points = list(enumerate(_points(findings)))
    branches = list(enumerate(_branches(findings), len(points)))
    colour, marker = framing_look(framing)
    marks: list[Mark] = []
    for of in ("own_entropy", "other_entropy") if measure == "own_entropy" else (measure,):
        look: dict[str, Any] = {"line": "solid"} if of == measure else {"line": "dashed", "face": "open"}
        for line in (points, *([branch] for branch in branches)):
            x, y = [at + shift for at, _ in line], [_mean(findings, of, framing, place) for _, place in line]
            label = framing_label(framing) if line is points and of == measure else ""
            marks.append(points_of(x, y, colour=colour, marker=marker, size=4.2, label=label, **look))
    if measure == "own_entropy":
        return marks
    for at, point in points:
        readers = findings.select(f"point_{measure}", framing=framing, point=point)
        single = [f for f in readers if f.where["family"] != MEAN]
        x = [at + shift] * len(single)
        marks.append(points_of(x, single, colour=colour, marker=marker, size=3, faint=True, low=(), high=()))
    if measure == "interaction":
        bases = [_mean(findings, "interaction_of_bases", framing, point) for _, point in points]
        x = [at + shift for at, _ in points]
        marks.append(points_of(x, bases, colour="grey", marker="cross", size=4, low=(), high=()))
    return marks
