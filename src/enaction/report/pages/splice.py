"""The page of the splices: how entropy reacts to something foreign in own text, and what is the seam alone."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from enaction.findings import Finding, select
from enaction.report.arrange import contains, in_training_order, number, stage_label, with_interval
from enaction.report.figures import SETTINGS
from enaction.report.pages import Grid, Page

_MEAN = "mean"
_COLOURS = ("#56B4E9", "#0072B2", "#D55E00", "#009E73", "#CC79A7")
_HOSTS = {
    "ofo": ("own text, a foreign piece, own text", "ooo"),
    "fof": ("foreign text, an own piece, foreign text", "fff"),
}
_SHORT = {"ofo": "own, foreign, own", "fof": "foreign, own, foreign"}


def page(findings: Sequence[Finding]) -> Page:
    """What the report says of the splices."""
    means = [f for f in findings if f.where.get("reader") == _MEAN]
    figure = aligned(findings)
    caption = (
        "Excess of mean entropy over the unspliced text, aligned on the splice (offset 0: first token of the piece), "
        "95 % intervals; dashed: the same splice with a piece of the same author's other answer. Means over readers."
    )
    return Page(
        title="Splices",
        question="When something foreign stands in a model's own text, how soon and how strongly does its entropy "
        "react, and how soon is it as before?",
        sentences=[
            *[s for stage in _stages(means) for s in _sentences(means, stage)],
            *dict.fromkeys(f"Left out: {note}." for f in select(findings, "left_out") for note in f.notes),
        ],
        grids=[_grid(means, pattern) for pattern in _HOSTS] if means else [],
        figures={"splice": (figure, caption)} if figure is not None else {},
    )


def aligned(findings: Sequence[Finding]) -> Figure | None:
    """Excess entropy around the splice: stages as columns, hosts as rows, a line a length of the piece."""
    points = select(findings, "excess_entropy", reader=_MEAN)
    stages = _stages(points)
    if not stages:
        return None
    lengths = _lengths(points)
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(1.3 + 2.3 * len(stages), 4.6), layout="constrained")
        axes = figure.subplots(len(_HOSTS), len(stages), sharex=True, sharey="row", squeeze=False)
        for row, (pattern, (_, control)) in zip(axes, _HOSTS.items(), strict=True):
            for ax, stage in zip(row, stages, strict=True):
                for colour, k in zip(_COLOURS, lengths, strict=False):
                    _line(ax, select(points, "excess_entropy", stage=stage, k=k, pattern=control), colour, dashed=True)
                    _line(ax, select(points, "excess_entropy", stage=stage, k=k, pattern=pattern), colour, dashed=False)
                ax.axhline(0, color="#777777", linewidth=0.8, zorder=1)
                ax.axvline(0, color="#777777", linewidth=0.8, linestyle=":", zorder=1)
                ax.set_title(stage_label(stage))
            row[0].set_ylabel(f"{_SHORT[pattern]}\nexcess entropy, nats")
        for ax in axes[-1]:
            ax.set_xlabel("tokens from the splice")
        handles = [Line2D([], [], color=c, label=f"k = {k}") for c, k in zip(_COLOURS, lengths, strict=False)]
        handles.append(Line2D([], [], color="#777777", linestyle="--", linewidth=1.0, label="same author's piece"))
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), handlelength=1.6)
    return figure


def _line(ax: Axes, points: Sequence[Finding], colour: str, *, dashed: bool) -> None:
    points = sorted(points, key=lambda f: f.where["offset"])
    x = [f.where["offset"] for f in points]
    ax.plot(
        x,
        [np.nan if f.estimate is None else f.estimate for f in points],
        color=colour,
        linestyle="--" if dashed else "-",
        linewidth=1.0 if dashed else 1.6,
    )
    if not dashed:
        low = [np.nan if f.low is None else f.low for f in points]
        high = [np.nan if f.high is None else f.high for f in points]
        ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def _sentences(means: Sequence[Finding], stage: str) -> list[str]:
    """What the longest piece does at one stage: its size beside the seam's, and how soon."""
    k = _lengths(means)[-1]
    place = {"stage": stage, "k": k}
    told = []
    for pattern, (title, control) in _HOSTS.items():
        more = _one(means, "foreignness_after", pattern=pattern, **place)
        after = _one(means, "excess_after", pattern=pattern, **place)
        seam = _one(means, "excess_after", pattern=control, **place)
        if more is None or after is None or seam is None:
            continue
        verdict = "no more than the seam" if contains(more, 0.0) else "beyond the seam"
        told.append(
            f"{stage_label(stage)}, {title}, k = {k}: behind the piece the entropy, summed over the window, differs by "
            f"{with_interval(after)} nats from that of the unspliced text; with a piece of the same author's other "
            f"answer by {with_interval(seam)}; difference {with_interval(more)} ({verdict}). "
            + _timing(means, pattern, place)
        )
    return told


def _timing(means: Sequence[Finding], pattern: str, place: dict) -> str:
    reaction = _one(means, "reaction", pattern=pattern, **place)
    recovery = _one(means, "recovery", pattern=pattern, **place)
    if reaction is None or reaction.estimate is None:
        return "No reaction leaves the band around zero."
    back = (
        f"it is back after {number(recovery.estimate, 0)}"
        if recovery is not None and recovery.estimate is not None
        else "it is not back within the window"
    )
    return f"The first offset outside the band is {number(reaction.estimate, 0)}; {back}."


def _grid(means: Sequence[Finding], pattern: str) -> Grid:
    quantities = {
        "reaction": "reaction, tokens",
        "recovery": "recovery, tokens",
        "recovery_within_tolerance": "recovery within tolerance",
        "excess_first": "excess at offset 1, nats",
        "excess_during": "sum inside the piece, nats",
        "excess_after": "sum behind the piece, nats",
        "piece_surprisal": "surprisal of the piece, nats a token",
    }
    title, control = _HOSTS[pattern]
    rows = []
    for stage in _stages(means):
        for k in _lengths(means):
            for name in (pattern, control):
                found = [_one(means, q, stage=stage, k=k, pattern=name) for q in quantities]
                shown = [_shown(f) for f in found]
                whose = "other author's" if name[1] != name[0] else "same author's"
                rows.append([f"{stage_label(stage)}, k = {k}", whose, *shown])
    return Grid(f"Splices: {title}; means over readers", ["stage, length", "piece", *quantities.values()], rows)


def _shown(finding: Finding | None) -> str:
    if finding is None or finding.estimate is None:
        return "–"
    return with_interval(finding, 0 if finding.unit == "tokens" else 2)


def _one(findings: Sequence[Finding], quantity: str, **where: object) -> Finding | None:
    return next(iter(select(findings, quantity, **where)), None)


def _stages(findings: Sequence[Finding]) -> list[str]:
    return in_training_order(str(f.where.get("stage")) for f in findings)


def _lengths(findings: Sequence[Finding]) -> list[int]:
    return sorted({f.where["k"] for f in findings})
