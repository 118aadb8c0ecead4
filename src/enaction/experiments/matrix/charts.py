"""The charts of the matrix: cells by stage, the arc of training, the README's picture, and those with a row a reader.

Each function shows what the findings have and returns None where they have nothing for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from enaction.chart import (
    Axis,
    Chart,
    Heat,
    Key,
    Mark,
    Panel,
    Points,
    Rule,
    framing_look,
    points_of,
)
from enaction.experiments.matrix.lookup import (
    Cells,
    cells_of,
    curve,
    framings,
    main_framing,
    main_stage,
    members,
    place,
    stages,
)
from enaction.experiments.matrix.row_charts import critic, identity, split
from enaction.findings import Findings
from enaction.shown import names_within, value
from enaction.words import WORLD, framing_label, stage_label

_SINGLE_READERS = Key("single readers", "pale", size=3.4)


def charts(findings: Findings, *, reference: float | None = None) -> dict[str, Chart]:
    """Every chart that these findings have something for, by the name of its file.

    Args:
        findings: of one run.
        reference: recognition, log units, drawn into the split as a dashed line: PAPER_RECOGNITION beside the paper.
    """
    made = {
        "identity": identity(findings),
        "matrix": matrix(findings),
        "arc": arc(findings),
        "split": split(findings, reference=reference),
        "critic": critic(findings),
        "hero": hero(findings),
    }
    return {name: chart for name, chart in made.items() if chart is not None}


def matrix(findings: Findings) -> Chart | None:
    """Entropy of every reader on every author's text, one panel a stage, in the main framing.

    Dark is certain. A cell has the entropy and, smaller, the surprisal; the diagonal, own text, has an outline. The
    world's text is apart on the right. One colour scale for all panels; compare along rows, for readers with different
    tokenizers have different tokens.
    """
    framing = main_framing(findings)
    tables = _tables(findings, framing)
    if not tables:
        return None
    widest = max(len(cells.authors) for _, cells in tables)
    n_columns = min(len(tables), 2 if widest <= 6 else 1)
    n_rows = math.ceil(len(tables) / n_columns)
    ends = _scale([cells for _, cells in tables])
    panels = [
        _heat_panel(cells, ends, stage, stage_label(stage), first=i % n_columns == 0, last=i >= len(tables) - n_columns)
        for i, (stage, cells) in enumerate(tables)
    ]
    side = _cell_inches(widest)
    width = n_columns * (widest * side + 1.25) + 0.75
    height = n_rows * (max(len(cells.readers) for _, cells in tables) * side * 0.86 + 1.0)
    note = "; † read without template" if any(cells.plain for _, cells in tables) else ""
    return Chart(
        "Entropy of each reader (row) on each author's text (column), surprisal below it; own text outlined.",
        [panels[i : i + n_columns] for i in range(0, len(panels), n_columns)],
        max(width, 5.4),
        max(height, 3.0),
        title=f"Entropy (small: surprisal), nats a token, {framing_label(framing)}{note}",
        colour_bar="entropy, nats",
    )


def arc(findings: Findings) -> Chart | None:
    """Other/self ratio and interaction along the stages, a line a framing: means over readers, 95 % intervals.

    Faint points are single readers; the thin line is the null. What follows the end of training (kin, other runs) is
    not joined to it.
    """
    quantities = [q for q in ("other_self_ratio", "interaction") if framings(findings, q)]
    if not quantities:
        return None
    legend = [*_framing_keys(framings(findings, *quantities)), _SINGLE_READERS]
    caption = "Mean over readers by stage with 95 % intervals, a colour a framing; faint points are single readers."
    panels = [_arc_panel([findings], q) for q in quantities]
    return Chart(caption, [panels], 3.6 * len(panels), 3.1, legend=legend)


def hero(*runs: Findings) -> Chart | None:
    """The picture for a README: matrix of the last stage beside the interaction along the stages.

    Args:
        runs: findings of one run, or of several repeats of it. With several a cell is the mean over the runs that have
            it, and the arc shows each run as a thin line and their mean as a thick one.
    """
    runs = tuple(run for run in runs if run and stages(run))
    if not runs:
        return None
    framing, stage = main_framing(runs[0]), main_stage(runs[0])
    tables = [cells_of(run, framing, members(run, stage)) for run in runs]
    alike = [t for t in tables if (t.readers, t.authors) == (tables[0].readers, tables[0].authors)]
    cells = tables[0]._replace(
        entropy_RA=np.mean([t.entropy_RA for t in alike], axis=0),
        surprisal_RA=np.mean([t.surprisal_RA for t in alike], axis=0),
    )
    if not np.isfinite(cells.entropy_RA).any():
        return None
    has_arc = bool(framings(runs[0], "interaction"))
    side = _cell_inches(len(cells.authors))
    left = max(len(cells.authors) * side + 1.4, 3.8)
    label = f"{stage_label(stage)} models" if stage else "All models"
    panels = [_heat_panel(cells, _scale([cells]), stage, f"{label}: entropy (small: surprisal), nats")]
    if has_arc:
        legend = _framing_keys(framings(runs[0], "interaction"))
        panels.append(_arc_panel(runs, "interaction", "Recognition of own text", legend))
    return Chart(
        "Entropy of the last stage's models on each other's text, and recognition along the stages of training.",
        [panels],
        left + (3.7 if has_arc else 0.6),
        max(3.1, len(cells.readers) * side * 0.86 + 1.2),
        widths=[left, 3.4][: len(panels)],
    )


def _tables(findings: Findings, framing: str) -> list[tuple[str, Cells]]:
    """One table for each stage with two readers or more; without such a stage one of everything."""
    tables = [(stage, cells_of(findings, framing, members(findings, stage))) for stage in stages(findings)]
    tables = [(stage, cells) for stage, cells in tables if len(cells.readers) > 1]
    if not tables:
        tables = [("", cells_of(findings, framing))]
    return [(stage, cells) for stage, cells in tables if np.isfinite(cells.entropy_RA).any()]


def _scale(tables: Sequence[Cells]) -> tuple[float, float]:
    """The ends of the colours; from half the least: wide enough that models which are all alike look all alike."""
    values = np.concatenate([cells.entropy_RA.ravel() for cells in tables])
    values = values[np.isfinite(values)]
    return float(values.min()) / 2, float(values.max()) or 1.0


def _cell_inches(n_authors: int) -> float:
    return 0.62 if n_authors <= 6 else 0.52


def _heat_panel(
    cells: Cells, ends: tuple[float, float], stage: str, title: str, *, first: bool = True, last: bool = True
) -> Panel:
    """One table; `first` in its row of panels names the readers' axis, `last` in its column the authors'."""
    names = names_within(cells.authors, stage, 14)
    heat = Heat(
        [names[r] + "†" * (r in cells.plain) for r in cells.readers],
        [names[a] for a in cells.authors],
        _known(cells.entropy_RA),
        _known(cells.surprisal_RA),
        *ends,
        outlined=[(r, cells.authors.index(reader)) for r, reader in enumerate(cells.readers) if reader in names],
        apart=[a for a, author in enumerate(cells.authors) if author == WORLD and a > 0],  # the world has no row
    )
    is_long = max(len(names[a]) for a in cells.authors) > _cell_inches(len(cells.authors)) / 0.077
    x = Axis("author" if last else "", slant=40 if is_long else 0)
    return Panel([heat], x, Axis("reader" if first else ""), title)


def _known(table: np.ndarray) -> list[list[float | None]]:
    return [[float(x) if math.isfinite(x) else None for x in row] for row in table]


def _arc_panel(runs: Sequence[Findings], quantity: str, title: str = "", legend: Sequence[Key] = ()) -> Panel:
    """A quantity along the stages; of several runs each one's course and the mean of all."""
    names, shown = stages(runs[0]), framings(runs[0], quantity)
    at = {stage: x for x, stage in enumerate(names)}
    is_ratio = quantity == "other_self_ratio"
    marks: list[Mark] = [Rule("y", 1.0 if is_ratio else 0.0, "grey", width=1.0)]
    end = at[main_stage(runs[0])]  # kin and other runs of a stage follow it and are no part of the course
    if end < len(at) - 1 and len(runs) == 1:
        marks.append(Rule("x", end + 0.5, "grey", width=0.6))
    for i, framing in enumerate(shown):
        shifted = {stage: x + (i - (len(shown) - 1) / 2) * 0.16 for stage, x in at.items()}
        marks += (
            _course(runs[0], quantity, framing, shifted, names[: end + 1])
            if len(runs) == 1
            else _courses(runs, quantity, framing, shifted)
        )
    return Panel(
        marks,
        Axis(
            "stage of training" if len(names) > 1 else "",
            list(at.values()),
            [stage_label(stage) for stage in names],
            -0.5,
            len(names) - 0.5,
            slant=45 if len(names) > 5 else 0,
        ),
        Axis("other/self entropy ratio" if is_ratio else "interaction, log units"),
        title or ("Raw ratio (1: no effect)" if is_ratio else "Interaction (0: no effect)"),
        legend,
    )


def _course(
    findings: Findings, quantity: str, framing: str, at: dict[str, float], training: Sequence[str]
) -> list[Points]:
    """Single readers, the line of the means along training, and the means with their intervals."""
    colour, marker = framing_look(framing)
    points = curve(findings, quantity, framing)
    readers = [(at[p.stage], f) for p in points for f in p.readers]
    means = [(p.stage, p.mean) for p in points if p.mean is not None]
    course = [(stage, f) for stage, f in means if stage in training]

    return [
        Points(
            [x for x, _ in readers], [value(f) for _, f in readers], colour, marker=marker, faint=True,
            names=[place(f, "reader") for _, f in readers],
        ),
        Points([at[s] for s, _ in course], [value(f) for _, f in course], colour, marker="none", line="solid"),
        points_of(
[at[s] for s, _ in means], [f for _, f in means], colour=colour, marker=marker, label=framing_label(framing),
),
    ]  # fmt: skip


def _courses(runs: Sequence[Findings], quantity: str, framing: str, at: dict[str, float]) -> list[Mark]:
    """Each run's means as a thin line, and the mean of all runs as a thick one."""
    colour, marker = framing_look(framing)
    values: dict[str, list[float]] = {stage: [] for stage in at}
    marks: list[Mark] = []
    for run in runs:
        means = {p.stage: value(p.mean) for p in curve(run, quantity, framing) if p.mean and p.stage in at}
        xs = [at[stage] for stage in means]
        marks.append(Points(xs, list(means.values()), colour, marker="none", line="solid", width=0.8, faint=True))
        for stage, y in means.items():
            values[stage].append(y)
    thick = {stage: sum(ys) / len(ys) for stage, ys in values.items() if ys}
    xs = [at[stage] for stage in thick]
    return [*marks, Points(xs, list(thick.values()), colour, marker=marker, line="solid", label=framing_label(framing))]


def _framing_keys(names: Sequence[str]) -> list[Key]:
    return [
        Key(framing_label(framing), colour, marker, "solid", 5.5)
        for framing, (colour, marker) in ((name, framing_look(name)) for name in names)
    ]
