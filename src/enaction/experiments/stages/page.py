"""The page of the stages: every measure from point to point of training, and where recognition appears."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from enaction.chart import Axis, Chart, Mark, Panel, Points, Rule, framing_look, keys, points_of, single_readers
from enaction.findings import Finding, Findings
from enaction.page import Grid, Page, Section, Statement
from enaction.shown import judged, number, stated, value, with_interval
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
    branches = []
    for f in findings.select("branch_change_recognition", framing=framing):
        way = f"from {stage_label(f.where['from_point'])} to {stage_label(f.where['branch'])}"
        text = f"{way} recognition changes by {{}} log units."
        branches += stated(findings, f"Branch, {framing_label(framing)}", text, f.quantity, **f.where)
    return [_appearance(findings, framing), _largest_step(findings, framing), *branches, _reversal(findings, framing)]


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


def _largest_step(findings: Findings, framing: str) -> Statement:
    largest = max(findings.select("change_recognition", framing=framing, family=MEAN), key=value)
    whole = findings.one("whole_change_recognition", framing=framing, family=MEAN)
    shares = findings.select("share_of_last", framing=framing)
    each = ", ".join(f"{stage_label(f.where['point'])} {number(f.estimate, 2)}" for f in shares)
    grows = largest.low is not None and largest.low > 0
    text = (
        f"from {stage_label(largest.where['from_point'])} to {stage_label(largest.where['point'])} recognition changes "
        f"by {with_interval(largest)} log units{'' if grows else ' (no effect)'}, over all points by "
        f"{with_interval(whole)}; share of the last point's: {each}."
    )
    about = ("change_recognition", "whole_change_recognition", "share_of_last")
    verdict = "effect" if grows else "no effect"
    return Statement(text, about, largest.where, verdict, f"Largest step, {framing_label(framing)}")


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
    points, branches = _points(findings), _branches(findings)
    at = {place: x + shift for x, place in enumerate([*points, *branches])}
    colour, marker = framing_look(framing)
    looks: dict[str, dict[str, Any]] = {measure: {"line": "solid", "label": framing_label(framing)}}
    if measure == "own_entropy":
        looks["other_entropy"] = {"line": "dashed", "face": "open"}

    def means(of: str, places: Sequence[str], **look: Any) -> Points:
        return points_of([at[p] for p in places], [_mean(findings, of, framing, p) for p in places], **look)

    marks: list[Mark] = [
        means(of, places, colour=colour, marker=marker, size=4.2, **look)
        for of, look in looks.items()
        for places in (points, *([branch] for branch in branches))
    ]
    if measure != "own_entropy":
        each = [findings.select(f"point_{measure}", framing=framing, point=point) for point in points]
        marks.append(single_readers([at[p] for p in points], each, colour=colour, marker=marker))
    if measure == "interaction":
        marks.append(means("interaction_of_bases", points, colour="grey", marker="cross", size=4, low=(), high=()))
    return marks
