"""The page of `stages`: every measure from point to point of training, and where recognition appears."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from enaction.findings import Finding, select
from enaction.report.arrange import FRAMINGS, MEAN, framing_label, number, ordered, stage_label, value, with_interval
from enaction.report.figures import FRAMING_STYLE, GREY, SETTINGS
from enaction.report.pages import Grid, Page

_PANELS = {
    "point_interaction": ("Interaction", 0.0),
    "point_ratio": ("Other/self ratio", 1.0),
    "point_own_entropy": ("Entropy, nats: own (full), others' (open)", None),
}
_COLUMNS = ("own_entropy", "other_entropy", "ratio", "recognition", "interaction")


def page(findings: Sequence[Finding]) -> Page:
    """The page, from this experiment's findings."""
    figure = _curves(findings)
    caption = (
        "Means over readers at each point of training with 95 % intervals; faint points are single readers, grey "
        "crosses the same texts read by the families' bases, thin lines the null. Behind an upright line: branches."
    )
    return Page(
        title="Stages of training",
        question="Is recognition there after pretraining, which point brings it, and is it reversed anywhere?",
        sentences=[
            line
            for framing in _framings(findings)
            for line in [
                _appears(findings, framing),
                _largest_step(findings, framing),
                *_branches(findings, framing),
                _reversal(findings, framing),
            ]
            if line
        ],
        grids=[_grid(findings, framing) for framing in _framings(findings)],
        figures={"stages": (figure, caption)},
    )


def _framings(findings: Sequence[Finding]) -> list[str]:
    return ordered((str(f.where["framing"]) for f in findings), FRAMINGS)


def _points(findings: Sequence[Finding]) -> list[str]:
    return list(dict.fromkeys(str(f.where["point"]) for f in select(findings, "point_interaction")))


def _branch_names(findings: Sequence[Finding]) -> list[str]:
    return list(dict.fromkeys(str(f.where["branch"]) for f in select(findings, "branch_interaction")))


def _mean(findings: Sequence[Finding], quantity: str, framing: str, place: str) -> Finding | None:
    """A quantity at a point or in a branch."""
    found = select(findings, quantity, framing=framing, point=place, family=MEAN) or select(
        findings, quantity.replace("point_", "branch_"), framing=framing, branch=place
    )
    return found[0] if found else None


def _appears(findings: Sequence[Finding], framing: str) -> str:
    (found,) = select(findings, "appears_at", framing=framing)
    points = _points(findings)
    first = _mean(findings, "point_interaction", framing, points[0])
    null = _mean(findings, "point_interaction_of_bases", framing, points[-1])
    beside = f"at {stage_label(points[0])} it is {with_interval(first)}" if first else ""
    if null:
        beside += f"; read by the bases, the texts of {stage_label(points[-1])} give {with_interval(null)}"
    if found.where["point"] is None:
        return f"Appearance, {framing_label(framing)}: no effect of more than 2 % that lasts to the end ({beside})."
    at = _mean(findings, "point_interaction", framing, str(found.where["point"]))
    return (
        f"Appearance, {framing_label(framing)}: recognition of more than 2 % is there from "
        f"{stage_label(str(found.where['point']))} on: interaction {with_interval(at) if at else '–'} log units; "
        f"{beside}."
    )


def _largest_step(findings: Sequence[Finding], framing: str) -> str:
    steps = select(findings, "change_recognition", framing=framing, family=MEAN)
    if not steps:
        return ""
    largest = max(steps, key=value)
    shares = [
        f"{stage_label(str(f.where['point']))} {number(f.estimate, 2)}"
        for f in select(findings, "share_of_last", framing=framing)
    ]
    whole = select(findings, "whole_change_recognition", framing=framing, family=MEAN)
    in_all = f", over all points by {with_interval(whole[0])}" if whole else ""
    sure = largest.low is not None and largest.low > 0
    return (
        f"Largest step, {framing_label(framing)}: from {stage_label(str(largest.where['from_point']))} to "
        f"{stage_label(str(largest.where['point']))} recognition changes by {with_interval(largest)} log units"
        f"{'' if sure else ' (no effect)'}{in_all}; share of the last point's: {', '.join(shares)}."
    )


def _branches(findings: Sequence[Finding], framing: str) -> list[str]:
    return [
        f"Branch, {framing_label(framing)}: from {stage_label(str(f.where['from_point']))} to "
        f"{stage_label(str(f.where['branch']))} recognition changes by {with_interval(f)} log units."
        for f in select(findings, "branch_change_recognition", framing=framing)
    ]


def _reversal(findings: Sequence[Finding], framing: str) -> str:
    """Points where own text has more entropy than others' (ratio), and where that is the reverse of recognition."""
    ratios = [f for f in select(findings, "point_ratio", framing=framing) if f.high is not None and f.high < 1]
    inner = [f for f in select(findings, "point_interaction", framing=framing) if f.low is not None and f.low > 0]

    def listed(found: list[Finding]) -> str:
        places = [f"{f.where['family']} at {stage_label(str(f.where['point']))} {with_interval(f)}" for f in found]
        return ", ".join(places) if places else "nowhere"

    return (
        f"Reversed order, {framing_label(framing)}: other/self ratio below 1: {listed(ratios)}; interaction above 0: "
        f"{listed(inner)}."
    )


def _grid(findings: Sequence[Finding], framing: str) -> Grid:
    rows = []
    for point in [*_points(findings), *_branch_names(findings)]:
        cells = [_mean(findings, f"point_{measure}", framing, point) for measure in _COLUMNS]
        cells.append(_mean(findings, "point_interaction_of_bases", framing, point))
        rows.append([stage_label(point), *(with_interval(f) if f else "–" for f in cells)])
    header = ["point", *(m.replace("_", " ") for m in _COLUMNS), "interaction, bases read"]
    return Grid(
        f"Means over readers, {framing_label(framing)}; entropies in nats, the last three in log units", header, rows
    )


@matplotlib.rc_context(SETTINGS)
def _curves(findings: Sequence[Finding]) -> Figure:
    figure = Figure(figsize=(10.2, 3.2), layout="constrained")
    for ax, (quantity, (title, null)) in zip(figure.subplots(1, len(_PANELS)), _PANELS.items(), strict=True):
        _panel(ax, findings, quantity)
        ax.set_title(title)
        if null is not None:
            ax.axhline(null, color="#444444", linewidth=0.8, zorder=0)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(handles))
    return figure


def _panel(ax: Axes, findings: Sequence[Finding], quantity: str) -> None:
    points, branches, framings = _points(findings), _branch_names(findings), _framings(findings)
    for k, framing in enumerate(framings):
        colour, marker = FRAMING_STYLE.get(framing, (GREY, "o"))
        shift = 0.08 * (k - (len(framings) - 1) / 2)
        x = np.arange(len(points)) + shift
        _line(ax, x, [_mean(findings, quantity, framing, p) for p in points], colour, marker, framing_label(framing))
        if quantity == "point_own_entropy":
            others = [_mean(findings, "point_other_entropy", framing, p) for p in points]
            _line(ax, x, others, colour, marker, None, dashed=True)
        for at, branch in enumerate(branches, len(points)):
            there = np.array([at + shift])
            _line(ax, there, [_mean(findings, quantity, framing, branch)], colour, marker, None)
            if quantity == "point_own_entropy":
                others = [_mean(findings, "point_other_entropy", framing, branch)]
                _line(ax, there, others, colour, marker, None, dashed=True)
        if quantity == "point_own_entropy":
            continue
        for at, point in zip(x, points, strict=True):
            readers = [f for f in select(findings, quantity, framing=framing, point=point) if f.where["family"] != MEAN]
            ax.plot([at] * len(readers), [value(f) for f in readers], marker, color=colour, alpha=0.35, markersize=3)
            base = _mean(findings, "point_interaction_of_bases", framing, point)
            if base and quantity == "point_interaction":
                ax.plot(at, value(base), "x", color=GREY, markersize=4)
    if branches:
        ax.axvline(len(points) - 0.5, color=GREY, linewidth=0.6)
    places = [*points, *branches]
    ax.set_xticks(np.arange(len(places)), [stage_label(p) for p in places], rotation=30 if len(places) > 5 else 0)


def _line(
    ax: Axes,
    x: np.ndarray,
    found: list[Finding | None],
    colour: str,
    marker: str,
    label: str | None,
    *,
    dashed: bool = False,
) -> None:
    middle, low, high = (
        np.array([np.nan if f is None or (v := getattr(f, name)) is None else v for f in found])
        for name in ("estimate", "low", "high")
    )
    ax.errorbar(
        x,
        middle,
        # A percentile interval may lie beside the estimate by a rounding error.
        yerr=np.maximum([middle - low, high - middle], 0),
        color=colour,
        marker=marker,
        markersize=4.2,
        markerfacecolor="white" if dashed else colour,
        linestyle=(0, (4, 3)) if dashed else "-",
        label=label,
        capsize=0,
        elinewidth=1.0,
    )
