"""Figures for papers and the report: findings in, matplotlib `Figure`s out; `save` writes SVG and PNG.

Each function draws what the findings have and returns None where they have nothing for it. No global state: figures are
made without pyplot, settings hold only while one is drawn, and the same findings give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory

from enaction.files import write_atomically
from enaction.findings import Finding, select
from enaction.report.arrange import (
    IDENTITY_BAND,
    IDENTITY_LIMIT,
    WORLD,
    Grid,
    Triple,
    alarmed,
    base_triples,
    curve,
    framing_label,
    framings,
    grid,
    main_framing,
    main_stage,
    members,
    names_within,
    number,
    short_names,
    stage_label,
    stages,
    triples,
    value,
)

# PAPER.md E1: mean over the five readers of the paper's printed table, log units.
PAPER_RECOGNITION = 0.48

SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.edgecolor": "#444444",
    "axes.labelcolor": "#222222",
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelcolor": "#222222",
    "ytick.labelcolor": "#222222",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.constrained_layout.w_pad": 0.05,
    "figure.constrained_layout.h_pad": 0.05,
    "svg.hashsalt": "enaction",
    "svg.fonttype": "path",
}

# Okabe and Ito's colours, told apart with any colour vision; each framing has a marker of its own as well.
_BLUE, _ORANGE, _GREEN, _RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#777777"
FRAMING_STYLE = {"assistant": (_BLUE, "o"), "user": (_RED, "s"), "none": (_GREEN, "^")}
# In the critic's picture an open ring lies around a full point where surprisal equals entropy.
_FULL, _OPEN = 4.2, 7.2
_PER_READER = {"alpha": 0.4, "markersize": 3.4, "linestyle": "none", "markeredgewidth": 0}

_CELL_INCHES = 0.62
_MAP = "Blues_r"


def draw(findings: Sequence[Finding], *, reference: float | None = None) -> dict[str, Figure]:
    """Every figure that these findings have something for, by the name of its file.

    Args:
        findings: of one run.
        reference: recognition, log units, drawn into the split as a dashed line: PAPER_RECOGNITION beside the paper.
    """
    drawn = {
        "identity": identity(findings),
        "matrix": matrix(findings),
        "arc": arc(findings),
        "split": split(findings, reference=reference),
        "critic": critic(findings),
        "hero": hero(findings),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def save(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Write STEM.svg and STEM.png (200 dots an inch), the same bytes for the same figure; returns both paths."""
    paths = stem.with_name(f"{stem.name}.svg"), stem.with_name(f"{stem.name}.png")
    with matplotlib.rc_context(SETTINGS):
        for path, file_format in zip(paths, ("svg", "png"), strict=True):
            metadata = {"Date": None, "Creator": None} if file_format == "svg" else {"Software": None}
            with write_atomically(path) as temporary:
                figure.savefig(temporary, format=file_format, dpi=200, metadata=metadata)
    return paths


@matplotlib.rc_context(SETTINGS)
def matrix(findings: Sequence[Finding]) -> Figure | None:
    """Entropy of every reader on every author's text, one panel a stage, in the main framing.

    Dark is certain. A cell has the entropy and, smaller, the surprisal; the diagonal, own text, has an outline. The
    world's text stands apart on the right. One colour scale for all panels; compare along rows, for readers with
    different tokenizers have different tokens.
    """
    framing = main_framing(findings)
    panels = _panels(findings, framing)
    if not panels:
        return None
    widest = max(len(cells.authors) for _, cells in panels)
    n_columns = min(len(panels), 2 if widest <= 6 else 1)
    n_rows = math.ceil(len(panels) / n_columns)
    side = _cell_inches(widest)
    width = n_columns * (widest * side + 1.25) + 0.75
    height = n_rows * (max(len(cells.readers) for _, cells in panels) * side * 0.86 + 1.0)
    figure = Figure(figsize=(max(width, 5.4), max(height, 3.0)), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    norm = _norm([cells for _, cells in panels])
    for ax, (stage, cells) in zip(axes.flat, panels, strict=False):
        _heat_map(ax, cells, norm, stage)
        ax.set_title(stage_label(stage))
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    for row in axes:
        row[0].set_ylabel("reader")
    for ax in axes.flat[max(0, len(panels) - n_columns) : len(panels)]:
        ax.set_xlabel("author")
    _colour_bar(figure, axes.ravel().tolist(), norm)
    note = "; † read without template" if any(cells.plain for _, cells in panels) else ""
    figure.suptitle(
        f"Entropy (small: surprisal), nats a token, {framing_label(framing)}{note}", x=0.01, ha="left", fontsize=9.0
    )
    return figure


@matplotlib.rc_context(SETTINGS)
def arc(findings: Sequence[Finding]) -> Figure | None:
    """Other/self ratio and interaction along the stages, a line a framing: means over readers, 95 % intervals.

    Faint points are single readers; the thin line is the null. What stands behind the end of training (kin, other runs)
    is not joined to it.
    """
    panels = [q for q in ("other_self_ratio", "interaction") if framings(findings, q)]
    if not panels:
        return None
    figure = Figure(figsize=(3.6 * len(panels), 3.1), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, quantity in zip(axes, panels, strict=True):
        _arc_panel(ax, findings, quantity)
    _framing_legend(figure, framings(findings, *panels))
    return figure


@matplotlib.rc_context(SETTINGS)
def split(findings: Sequence[Finding], *, reference: float | None = None) -> Figure | None:
    """Log other/self ratio of each reader = recognition + ease of its own text, in the main framing.

    Bars to the right of 0 add up, bars to the left take away; the diamond is their sum, with its interval.

    Args:
        findings: of one run.
        reference: mean recognition of another table, e.g. PAPER_RECOGNITION, as a dashed line.
    """
    framing = main_framing(findings)
    rows = _split_rows(findings, framing)
    if not rows:
        return None
    figure = Figure(figsize=(7.0, 0.9 + 0.24 * (len(rows) + len({stage for stage, *_ in rows}))), layout="constrained")
    ax = figure.subplots()
    heights = _grouped([stage for stage, *_ in rows])
    for y, (_, _, log_ratio, recognition, ease) in zip(heights, rows, strict=True):
        first, second = value(recognition), value(ease)
        ax.barh(y, first, 0.72, color=_BLUE)
        # Of one sign they stack; of opposite signs both start at 0 and the sum lies between.
        ax.barh(y, second, 0.72, left=first if first * second > 0 else 0.0, color=_ORANGE)
        _interval_bar(ax, log_ratio, y, marker="D", colour="black", size=4)
    labels = []
    for stage, group in groupby(rows, key=lambda row: row[0]):
        names = names_within([reader for _, reader, *_ in group], stage, 22)
        labels += names.values()
    _rows_axis(ax, heights, labels, [stage for stage, *_ in rows])
    ax.axvline(0, color="#444444", linewidth=0.8)
    handles = [
        Patch(color=_BLUE, label="recognition"),
        Patch(color=_ORANGE, label="ease of own text"),
        Line2D([], [], color="black", marker="D", markersize=4, linewidth=1, label="log ratio, 95 %"),
    ]
    if reference is not None:
        ax.axvline(reference, color="#111111", linestyle=(0, (4, 3)), linewidth=1.2, zorder=5)
        label = f"mean recognition in the paper, {number(reference, 2)}"
        handles.append(Line2D([], [], color="#111111", linestyle=(0, (4, 3)), linewidth=1.2, label=label))
    ax.set_xlabel(f"log other/self ratio, log units ({framing_label(framing)})")
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), handlelength=1.4, columnspacing=1.4)
    return figure


@matplotlib.rc_context(SETTINGS)
def critic(findings: Sequence[Finding]) -> Figure | None:
    """Own, others' and world text read by the last stage, and the same texts read by each family's own base.

    Full points are entropy, open ones surprisal; the bar between them is what the reader did not expect.
    """
    if not stages(findings):
        return None
    stage, framing = main_stage(findings), main_framing(findings)
    last = {q: triples(findings, q, stage, framing) for q in ("entropy", "surprisal")}
    base = {q: base_triples(findings, q, stage, framing) for q in ("entropy", "surprisal")}
    if not last["entropy"]:
        return None
    panels = [(f"Read by the {stage_label(stage)} model itself" if stage else "Read by the model itself", last)]
    if stage != "base" and base["entropy"]:
        panels.append(("Read by its family's own base", base))
    n_lines = max(len(_text_lines(t)) for t in last["entropy"]) + 0.7
    height = 1.15 + 0.22 * n_lines * len(last["entropy"])
    figure = Figure(figsize=(7.2 if len(panels) > 1 else 5.2, height), layout="constrained")
    axes = figure.subplots(1, len(panels), sharex=True, squeeze=False)[0]
    own_authors = [t.author for t in last["entropy"]]
    for ax, (title, cells) in zip(axes, panels, strict=True):
        _dumbbells(ax, own_authors, cells["entropy"], cells["surprisal"], label_lines=ax is axes[0])
        ax.set_title(title)
        ax.set_xlabel("nats a token")
    axes[0].set_xlim(left=0.0)
    axes[0].xaxis.set_major_locator(MaxNLocator(5))
    handles = [
        _point("o", _BLUE, _FULL, "entropy"),
        _point("o", _RED, _OPEN, "surprisal", face="none"),
        *([_point("|", GREY, 6, "single authors")] if any(len(t.others) > 1 for t in last["entropy"]) else []),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=3, handlelength=1.0, columnspacing=1.4)
    return figure


@matplotlib.rc_context(SETTINGS)
def identity(findings: Sequence[Finding]) -> Figure | None:
    """Identity residual of each reader on its own text: whiskers of 1.96, alarm lines at +-4, red where it sounds."""
    residuals = [f for f in select(findings, "identity_residual") if f.estimate is not None]
    if not residuals:
        return None
    several = len({f.where.get("framing") for f in residuals}) > 1
    names = short_names(list(dict.fromkeys(str(f.where.get("reader")) for f in residuals)), 24)
    labels = [names[str(f.where.get("reader"))] for f in residuals]
    if several:
        places = [framing_label(str(f.where.get("framing") or "")) for f in residuals]
        labels = [f"{label}, {place}" for label, place in zip(labels, places, strict=True)]
    figure = Figure(figsize=(5.6, 0.95 + 0.23 * len(residuals)), layout="constrained")
    ax = figure.subplots()
    heights = np.arange(len(residuals), dtype=float)
    ax.axvline(0, color="#444444", linewidth=0.8)
    for limit in (-IDENTITY_LIMIT, IDENTITY_LIMIT):
        ax.axvline(limit, color=_RED, linestyle=(0, (4, 3)), linewidth=1.2)
    for y, f in zip(heights, residuals, strict=True):
        whiskers = replace(f, low=value(f) - IDENTITY_BAND, high=value(f) + IDENTITY_BAND)
        marker, colour = ("X", _RED) if alarmed(f) else ("o", _BLUE)
        _interval_bar(ax, whiskers, y, marker=marker, colour=colour, size=5.5)
    reach = max(5.0, *(1.1 * abs(value(f)) + IDENTITY_BAND for f in residuals))
    ax.set_xlim(-reach, reach)
    _rows_axis(ax, heights, labels, [])
    ax.set_xlabel("sum(s − H) / √sum(V), standard deviations")
    handles = [
        Line2D([], [], color=_BLUE, marker="o", markersize=5.5, linewidth=1.3, label=f"residual ±{IDENTITY_BAND}"),
        Line2D([], [], color=_RED, linestyle=(0, (4, 3)), linewidth=1.2, label=f"alarm, ±{IDENTITY_LIMIT:g}"),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=2, handlelength=1.6, columnspacing=1.4)
    return figure


@matplotlib.rc_context(SETTINGS)
def hero(*runs: Sequence[Finding]) -> Figure | None:
    """The picture for a README: matrix of the last stage beside the interaction along the stages.

    Args:
        runs: findings of one run, or of several repeats of it. With several a cell is the mean over the runs that have
            it, and the arc shows each run as a thin line and their mean as a thick one.
    """
    runs = tuple(run for run in runs if run and stages(run))
    if not runs:
        return None
    framing, stage = main_framing(runs[0]), main_stage(runs[0])
    grids = [grid(run, framing, members(run, stage)) for run in runs]
    alike = [g for g in grids if (g.readers, g.authors) == (grids[0].readers, grids[0].authors)]
    cells = grids[0]._replace(
        entropy_RA=np.mean([g.entropy_RA for g in alike], axis=0),
        surprisal_RA=np.mean([g.surprisal_RA for g in alike], axis=0),
    )
    if not np.isfinite(cells.entropy_RA).any():
        return None
    has_arc = bool(framings(runs[0], "interaction"))
    side = _cell_inches(len(cells.authors))
    left = max(len(cells.authors) * side + 1.4, 3.8)
    height = max(3.1, len(cells.readers) * side * 0.86 + 1.2)
    figure = Figure(figsize=(left + (3.7 if has_arc else 0.6), height), layout="constrained")
    axes = figure.subplots(1, 1 + has_arc, squeeze=False, width_ratios=[left, 3.4][: 1 + has_arc])[0]
    norm = _norm([cells])
    _heat_map(axes[0], cells, norm, stage)
    label = f"{stage_label(stage)} models" if stage else "All models"
    axes[0].set_title(f"{label}: entropy (small: surprisal), nats", x=0.0)
    axes[0].set_xlabel("author")
    axes[0].set_ylabel("reader")
    if has_arc:
        if len(runs) == 1:
            _arc_panel(axes[1], runs[0], "interaction")
        else:
            _arc_of_runs(axes[1], runs)
        axes[1].set_title("Recognition of own text")
        handles = _framing_handles(framings(runs[0], "interaction"))
        axes[1].legend(handles=handles, loc="best", handlelength=1.6)
    return figure


def _panels(findings: Sequence[Finding], framing: str) -> list[tuple[str, Grid]]:
    """One grid for each stage with two readers or more; without such a stage one of everything."""
    panels = [(stage, grid(findings, framing, members(findings, stage))) for stage in stages(findings)]
    panels = [(stage, cells) for stage, cells in panels if len(cells.readers) > 1]
    if not panels:
        panels = [("", grid(findings, framing))]
    return [(stage, cells) for stage, cells in panels if np.isfinite(cells.entropy_RA).any()]


def _norm(grids: Sequence[Grid]) -> Normalize:
    values = np.concatenate([g.entropy_RA.ravel() for g in grids])
    values = values[np.isfinite(values)]
    if values.size == 0:
        return Normalize(0.0, 1.0)
    # From half the least: wide enough that models which are all alike look all alike.
    return Normalize(float(values.min()) / 2, float(values.max()) or 1.0)


def _cell_inches(n_authors: int) -> float:
    return _CELL_INCHES if n_authors <= 6 else 0.52


def _heat_map(ax: Axes, cells: Grid, norm: Normalize, stage: str) -> None:
    colours: Colormap = matplotlib.colormaps[_MAP]
    names = names_within(cells.authors, stage, 14)
    # The world's column stands a little apart: it has no row.
    left_A = [a + 0.18 * (author == WORLD and a > 0) for a, author in enumerate(cells.authors)]
    for r, reader in enumerate(cells.readers):
        for a, author in enumerate(cells.authors):
            _cell(ax, left_A[a], r, cells.entropy_RA[r, a], cells.surprisal_RA[r, a], colours, norm)
            if reader == author:
                corner = left_A[a] + 0.03, r + 0.03
                ax.add_patch(Rectangle(corner, 0.94, 0.94, fill=False, edgecolor="black", linewidth=1.8))
    ax.set_xlim(-0.02, left_A[-1] + 1.02)
    ax.set_ylim(len(cells.readers) + 0.02, -0.02)
    long = max(len(names[a]) for a in cells.authors) > _cell_inches(len(cells.authors)) / 0.077
    ax.set_xticks(
        [x + 0.5 for x in left_A],
        [names[a] for a in cells.authors],
        rotation=40 if long else 0,
        ha="right" if long else "center",
        rotation_mode="anchor",
    )
    ax.set_yticks(
        [r + 0.5 for r in range(len(cells.readers))], [names[r] + "†" * (r in cells.plain) for r in cells.readers]
    )
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _cell(
    ax: Axes, left: float, row: int, entropy: float, surprisal: float, colours: Colormap, norm: Normalize
) -> None:
    known = math.isfinite(entropy)
    colour = colours(norm(entropy)) if known else (0.93, 0.93, 0.93, 1.0)
    ax.add_patch(Rectangle((left, row), 1, 1, facecolor=colour, edgecolor="white", linewidth=1.2))
    luminance = 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]
    ink = "white" if luminance < 0.5 else "#111111"
    has_surprisal = math.isfinite(surprisal)
    ax.text(
        left + 0.5, row + (0.40 if has_surprisal else 0.5), number(entropy, 2),
        ha="center", va="center", color=ink, fontsize=9.5,
    )  # fmt: skip
    if has_surprisal:
        ax.text(left + 0.5, row + 0.76, number(surprisal, 2), ha="center", va="center", color=ink, fontsize=7)


def _colour_bar(figure: Figure, axes: list[Axes], norm: Normalize) -> None:
    bar = figure.colorbar(ScalarMappable(norm, matplotlib.colormaps[_MAP]), ax=axes, fraction=0.04, pad=0.02, aspect=28)
    bar.set_label("entropy, nats")
    bar.outline.set_linewidth(0)


def _arc_panel(ax: Axes, findings: Sequence[Finding], quantity: str) -> None:
    there = framings(findings, quantity)
    at = _stage_axis(ax, stages(findings), quantity)
    end = at[main_stage(findings)]  # kin and other runs of a stage stand behind it and are no part of the course
    if end < len(at) - 1:
        ax.axvline(end + 0.5, color=GREY, linewidth=0.6)
    for i, framing in enumerate(there):
        points = curve(findings, quantity, framing)
        colour, marker = _style(framing)
        offset = _dodge(i, len(there))
        for point in points:
            faint = [value(f) for f in point.readers]
            ax.plot([at[point.stage] + offset] * len(faint), faint, marker=marker, color=colour, **_PER_READER)
        means = [(at[p.stage] + offset, p.mean) for p in points if p.mean is not None]
        course = [(x, f) for x, f in means if x < end + 0.5]
        ax.plot([x for x, _ in course], [value(f) for _, f in course], color=colour, zorder=3)
        for x, f in means:
            _interval_bar(ax, f, x, marker=marker, colour=colour, size=5, axis="y")


def _arc_of_runs(ax: Axes, runs: Sequence[Sequence[Finding]], quantity: str = "interaction") -> None:
    there = framings(runs[0], quantity)
    names = stages(runs[0])
    at = _stage_axis(ax, names, quantity)
    for i, framing in enumerate(there):
        colour, marker = _style(framing)
        offset = _dodge(i, len(there))
        values: dict[str, list[float]] = {stage: [] for stage in names}
        for run in runs:
            means = [(p.stage, value(p.mean)) for p in curve(run, quantity, framing) if p.mean and p.stage in at]
            ax.plot([at[s] + offset for s, _ in means], [y for _, y in means], color=colour, linewidth=0.8, alpha=0.45)
            for stage, y in means:
                values[stage].append(y)
        seen = [stage for stage in names if values[stage]]
        thick = [float(np.mean(values[stage])) for stage in seen]
        ax.plot([at[s] + offset for s in seen], thick, color=colour, marker=marker, markersize=5, zorder=3)


def _stage_axis(ax: Axes, names: Sequence[str], quantity: str) -> dict[str, int]:
    """Stages along x, the null as a line, the quantity's name and unit on y; returns where each stage stands."""
    at = {stage: x for x, stage in enumerate(names)}
    ax.set_xticks(list(at.values()), [stage_label(stage) for stage in names], rotation=45 if len(names) > 5 else 0)
    ax.set_xlim(-0.5, len(names) - 0.5)
    ax.axhline(1.0 if quantity == "other_self_ratio" else 0.0, color=GREY, linewidth=1.0, zorder=1)
    ax.set_ylabel("other/self entropy ratio" if quantity == "other_self_ratio" else "interaction, log units")
    ax.set_title("Raw ratio (1: no effect)" if quantity == "other_self_ratio" else "Interaction (0: no effect)")
    if len(names) > 1:
        ax.set_xlabel("stage of training")
    return at


def _dodge(i: int, n: int) -> float:
    return (i - (n - 1) / 2) * 0.16


def _style(framing: str) -> tuple[str, str]:
    return FRAMING_STYLE.get(framing, (GREY, "D"))


def _point(marker: str, colour: str, size: float, label: str, *, face: str | None = None) -> Line2D:
    look: Any = {"marker": marker, "color": colour, "markersize": size, "markerfacecolor": face or colour}
    return Line2D([], [], linestyle="none", label=label, **look)


def _framing_handles(names: Sequence[str]) -> list[Line2D]:
    handles = []
    for framing in names:
        colour, marker = _style(framing)
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=5.5, label=framing_label(framing)))
    return handles


def _framing_legend(figure: Figure, names: Sequence[str]) -> None:
    faint = _point("o", "#c4c4c4", 3.4, "single readers")
    handles = [*_framing_handles(names), faint]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), handlelength=1.6, columnspacing=1.4)


def _split_rows(findings: Sequence[Finding], framing: str) -> list[tuple[str, str, Finding, Finding, Finding]]:
    parts = [
        {(p.stage, str(f.where.get("reader"))): f for p in curve(findings, q, framing) for f in p.readers}
        for q in ("log_ratio", "recognition", "ease")
    ]
    return [(*key, parts[0][key], parts[1][key], parts[2][key]) for key in parts[0] if all(key in p for p in parts)]


def _grouped(groups: Sequence[str]) -> np.ndarray:
    """Heights of rows with a gap before each new group."""
    heights, y = [], -1.0
    for i, group in enumerate(groups):
        y += 1.0 if i == 0 or groups[i - 1] == group else 1.6
        heights.append(y)
    return np.array(heights)


def _rows_axis(ax: Axes, heights: np.ndarray, labels: Sequence[str], groups: Sequence[str]) -> None:
    """Rows named on the left, the first on top; their groups named at the right edge."""
    ax.set_yticks(heights, labels)
    ax.set_ylim(heights[-1] + 0.7, heights[0] - 0.7)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    at_edge = blended_transform_factory(ax.transAxes, ax.transData)
    for group in dict.fromkeys(groups):
        own = [y for y, g in zip(heights, groups, strict=True) if g == group]
        ax.text(1.02, sum(own) / len(own), stage_label(group), transform=at_edge, va="center", fontweight="bold")


def _interval_bar(
    ax: Axes,
    finding: Finding,
    at: float,
    *,
    marker: str,
    colour: str,
    size: float,
    axis: Literal["x", "y"] = "x",
    face: str | None = None,
) -> None:
    """A point with its 95 % interval, along x at height `at` or along y at place `at`."""
    if finding.estimate is None:
        return
    if finding.low is not None and finding.high is not None:
        ends, place = [finding.low, finding.high], [at, at]
        xs, ys = (ends, place) if axis == "x" else (place, ends)
        ax.plot(xs, ys, color=colour, linewidth=1.3, solid_capstyle="butt", zorder=3)
    x, y = (finding.estimate, at) if axis == "x" else (at, finding.estimate)
    ax.plot(x, y, marker, color=colour, markersize=size, markerfacecolor=face or colour, markeredgewidth=1.3, zorder=4)


def _text_lines(triple: Triple) -> list[tuple[str, list[Finding]]]:
    lines = [("own", [triple.own]), ("others", triple.others), (WORLD, [triple.world] if triple.world else [])]
    return [(name, cells) for name, cells in lines if cells]


def _dumbbells(
    ax: Axes, own_authors: Sequence[str], entropy: list[Triple], surprisal: list[Triple], *, label_lines: bool
) -> None:
    """A block of lines for each own author: own, others, world; entropy full, surprisal open."""
    entropy_of, surprisal_of = ({t.author: t for t in found} for found in (entropy, surprisal))
    names = short_names(list(dict.fromkeys([*own_authors, *(t.reader for t in entropy)])), 20)
    y, ticks, labels = 0.0, [], []
    for author in own_authors:
        found = entropy_of.get(author)
        if found is None:
            y += 3.7
            continue
        beside = dict(_text_lines(surprisal_of[author])) if author in surprisal_of else {}
        ax.text(
            0.0, y - 0.05, names[found.reader], transform=blended_transform_factory(ax.transAxes, ax.transData),
            va="bottom", fontsize=8.5, fontweight="bold", color="#222222",
        )  # fmt: skip
        y += 0.45
        for name, cells in _text_lines(found):
            _dumbbell(ax, y, cells, beside.get(name, []))
            ticks.append(y)
            labels.append(name)
            y += 1.0
        y += 0.7
    ax.set_yticks(ticks, labels if label_lines else [""] * len(ticks))
    ax.set_ylim(y - 0.7, -0.75)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _dumbbell(ax: Axes, y: float, entropy: list[Finding], surprisal: list[Finding]) -> None:
    means = [_mean_of(cells) for cells in (entropy, surprisal)]
    if math.isfinite(means[0]) and math.isfinite(means[1]):
        ax.plot(means, [y, y], color="#c9c9c9", linewidth=3.0, solid_capstyle="butt", zorder=1)
    looks = (_BLUE, _BLUE, _FULL), (_RED, "none", _OPEN)
    for mean, cells, (colour, face, size) in zip(means, (entropy, surprisal), looks, strict=True):
        if len(cells) == 1:
            _interval_bar(ax, cells[0], y, marker="o", colour=colour, size=size, face=face)
            continue
        ax.plot([value(f) for f in cells], [y] * len(cells), "|", color=GREY, markersize=6, zorder=2)
        ax.plot(mean, y, "o", color=colour, markersize=size, markerfacecolor=face, markeredgewidth=1.3, zorder=4)


def _mean_of(cells: list[Finding]) -> float:
    return sum(map(value, cells)) / len(cells) if cells else math.nan
