"""The charts of the matrix: cells by stage, the arc of training, the README's picture, and those with a row a reader.

Each function shows what the findings have and returns None where they have nothing for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from enaction.chart import Axis, Chart, Heat, Key, Mark, Panel, Points, Rule, curve_of, framing_look, readers_and_mean
from enaction.experiments.matrix.lookup import Cells, Table, arranged, cells_of, framings, main_place, members, stages
from enaction.experiments.matrix.row_charts import critic, identity, split
from enaction.findings import Findings
from enaction.shown import names_within, value
from enaction.words import MEAN, WORLD, framing_label, models_of, stage_label

# Quantity of the arc -> its null, its axis, the title of its panel.
_ARC = {
    "other_self_ratio": (1.0, "other/self entropy ratio", "Raw ratio (1: no effect)"),
    "interaction": (0.0, "interaction, log units", "Interaction (0: no effect)"),
}

# Ownness nearer to 0 than this, nats, is pale whatever else a table holds.
_PALE_OWNNESS = 0.1


def charts(findings: Findings, *, reference: float | None = None) -> dict[str, Chart]:
    """Every chart that these findings have something for, by the name of its file.

    Args:
        findings: of one run.
        reference: recognition, log units, drawn into the split as a dashed line: PAPER_RECOGNITION beside the paper.
    """
    findings = arranged(findings)
    made = {
        "identity": identity(findings),
        "matrix": matrix(findings),
        "ownness": ownness(findings),
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
    tables = _tables(findings, main_place(findings)["framing"])
    return _panels(
        tables,
        _entropies(list(tables.values())),
        "Entropy of each reader (row) on each author's text (column), surprisal below it; own text outlined.",
        f"Familiarity: entropy (small: surprisal), nats a token, {framing_label(main_place(findings)['framing'])}",
        "entropy, nats",
    )


def ownness(findings: Findings) -> Chart | None:
    """Surprisal less entropy of every reader on every author's text, as in `matrix`; pale is 0, text of its own."""
    framing = main_place(findings)["framing"]
    tables = {stage: cells for stage, cells in _tables(findings, framing).items() if cells.known_ownness}
    return _panels(
        tables,
        _ownnesses(list(tables.values())),
        "Surprisal less entropy of each reader (row) on each author's text (column): 0 on text drawn from the reader.",
        f"Authorship: surprisal less entropy (0: drawn from the reader), nats a token, {framing_label(framing)}",
        "surprisal less entropy, nats",
    )


def arc(findings: Findings) -> Chart | None:
    """Other/self ratio and interaction along the stages, a line a framing: means over readers, 95 % intervals.

    Faint points are single readers; the thin line is the null. What follows the end of training (kin, other runs) is
    not joined to it.
    """
    quantities = [q for q in _ARC if findings.select(q)]
    if not quantities:
        return None
    legend = [*_framing_keys(framings(findings, *quantities)), Key("single readers", "pale", size=3.4)]
    caption = "Mean over readers by stage with 95 % intervals, a colour a framing; faint points are single readers."
    panels = [_arc_panel([findings], q) for q in quantities]
    return Chart(caption, [panels], 3.6 * len(panels), 3.1, legend=legend)


def hero(*runs: Findings) -> Chart | None:
    """The picture for a README: the last stage's entropy and ownness, and the interaction along the stages.

    Args:
        runs: findings of one run, or of several repeats of it. With several a cell is the mean over the runs that have
            it, and the arc shows each run as a thin line and their mean as a thick one.
    """
    in_order = [arranged(run) for run in runs if stages(run)]
    at = main_place(in_order[0]) if in_order else {}
    tables = [cells_of(run, at["framing"], members(run, at["stage"])) for run in in_order]
    if not tables or not tables[0].known:
        return None
    alike = [t for t in tables if (t.readers, t.authors) == (tables[0].readers, tables[0].authors)]
    fields = ("entropy", "surprisal", "ownness")
    cells = tables[0]._replace(**{field: _means([getattr(t, field) for t in alike]) for field in fields})
    side = _cell_inches(len(cells.authors))
    heat = len(cells.authors) * side
    who = models_of(at["stage"])
    title = f"Familiarity: entropy\n(small: surprisal), nats; {who}"
    panels, widths = [_heat_panel(cells, _entropies([cells]), at["stage"], title)], [max(heat + 1.4, 3.8)]
    if cells.known_ownness:
        title = "Authorship: surprisal less\nentropy, nats (0: own text)"
        panels.append(_heat_panel(cells, _ownnesses([cells]), at["stage"], title, first=False))
        widths.append(max(heat + 0.7, 3.0))
    if shown := framings(in_order[0], "interaction"):
        title = "Familiarity with own text\nalong training (0: none)"
        panels.append(_arc_panel(in_order, "interaction", title, _framing_keys(shown)))
        widths.append(3.4)
    return Chart(
        "Entropy, and surprisal less entropy, of the last stage's models on each other's text; familiarity with own "
        "text along the stages of training.",
        [panels],
        sum(widths) + (0.3 if shown else 0.6),
        max(3.1, len(cells.readers) * side * 0.86 + 1.4),
        widths=widths,
    )


class _Shading(NamedTuple):
    """Which cells of a table are shown, the numbers below them, and what their colours mean."""

    values: Callable[[Cells], Table]
    small: Callable[[Cells], Table]
    low: float
    high: float
    colours: Literal["dark to light", "around 0"]


def _entropies(tables: Sequence[Cells]) -> _Shading:
    """Entropy over surprisal; from half the least: wide enough that models which are all alike look all alike."""
    known = [x for cells in tables for x in cells.known] or [1.0]
    return _Shading(
        lambda cells: cells.entropy, lambda cells: cells.surprisal, min(known) / 2, max(known) or 1.0, "dark to light"
    )


def _ownnesses(tables: Sequence[Cells]) -> _Shading:
    """Ownness alone; 0 in the middle, no cell in the darkest colours, and noise on own text pale."""
    reach = 1.3 * max([_PALE_OWNNESS, *(abs(x) for cells in tables for x in cells.known_ownness)])
    return _Shading(lambda cells: cells.ownness, _nothing, -reach, reach, "around 0")


def _nothing(cells: Cells) -> Table:
    return [[None for _ in row] for row in cells.entropy]


def _panels(tables: dict[str, Cells], shading: _Shading, caption: str, title: str, bar: str) -> Chart | None:
    """A heat map for each table, two in a row where they are small."""
    if not tables:
        return None
    widest = max(len(cells.authors) for cells in tables.values())
    n_columns = min(len(tables), 2 if widest <= 6 else 1)
    n_rows = math.ceil(len(tables) / n_columns)
    panels = [
        _heat_panel(
            cells, shading, stage, stage_label(stage), first=i % n_columns == 0, last=i >= len(tables) - n_columns
        )
        for i, (stage, cells) in enumerate(tables.items())
    ]
    side = _cell_inches(widest)
    width = n_columns * (widest * side + 1.25) + 0.75
    height = n_rows * (max(len(cells.readers) for cells in tables.values()) * side * 0.86 + 1.0)
    note = "; † read without template" if any(cells.plain for cells in tables.values()) else ""
    return Chart(
        caption,
        [panels[i : i + n_columns] for i in range(0, len(panels), n_columns)],
        max(width, 5.4),
        max(height, 3.0),
        title=f"{title}{note}",
        colour_bar=bar,
    )


def _tables(findings: Findings, framing: str) -> dict[str, Cells]:
    """One table for each stage with two readers or more; without such a stage one of everything."""
    models = {stage: members(findings, stage) for stage in stages(findings)}
    groups = {stage: names for stage, names in models.items() if len(names) > 1} or {"": []}
    tables = {stage: cells_of(findings, framing, names) for stage, names in groups.items()}
    return {stage: cells for stage, cells in tables.items() if cells.known}


def _means(tables: Sequence[Table]) -> Table:
    """The mean of each cell over the tables that have it."""
    known = [[[x for x in xs if x is not None] for xs in zip(*rows, strict=True)] for rows in zip(*tables, strict=True)]
    return [[sum(xs) / len(xs) if xs else None for xs in row] for row in known]


def _cell_inches(n_authors: int) -> float:
    return 0.62 if n_authors <= 6 else 0.52


def _heat_panel(
    cells: Cells, shading: _Shading, stage: str, title: str, *, first: bool = True, last: bool = True
) -> Panel:
    """One table; `first` in its row of panels names the readers' axis, `last` in its column the authors'."""
    names = names_within(cells.authors, stage, 14)
    heat = Heat(
        [names[r] + "†" * (r in cells.plain) for r in cells.readers],
        [names[a] for a in cells.authors],
        shading.values(cells),
        shading.small(cells),
        shading.low,
        shading.high,
        outlined=[(r, cells.authors.index(reader)) for r, reader in enumerate(cells.readers) if reader in names],
        apart=[a for a, author in enumerate(cells.authors) if author == WORLD and a > 0],  # the world has no row
        colours=shading.colours,
    )
    is_long = max(len(names[a]) for a in cells.authors) > _cell_inches(len(cells.authors)) / 0.077
    x = Axis("author" if last else "", slant=40 if is_long else 0)
    return Panel([heat], x, Axis("reader" if first else ""), title)


def _arc_panel(runs: Sequence[Findings], quantity: str, title: str = "", legend: Sequence[Key] = ()) -> Panel:
    """A quantity along the stages; of several runs each one's course and the mean of all."""
    names, shown = stages(runs[0]), framings(runs[0], quantity)
    null, label, its_title = _ARC[quantity]
    marks: list[Mark] = [Rule("y", null, width=1.0)]
    end = names.index(main_place(runs[0])["stage"])  # kin and other runs of a stage follow it, apart from the course
    if end < len(names) - 1 and len(runs) == 1:
        marks.append(Rule("x", end + 0.5, width=0.6))
    for i, framing in enumerate(shown):
        at = {stage: x + (i - (len(shown) - 1) / 2) * 0.16 for x, stage in enumerate(names)}
        if len(runs) == 1:
            marks += _course(runs[0], quantity, framing, at, names[: end + 1])
        else:
            marks += _courses(runs, quantity, framing, at)
    x = Axis(
        "stage of training" if len(names) > 1 else "",
        range(len(names)),
        [stage_label(stage) for stage in names],
        -0.5,
        len(names) - 0.5,
        slant=45 if len(names) > 5 else 0,
    )
    return Panel(marks, x, Axis(label), title or its_title, legend)


def _course(
    findings: Findings, quantity: str, framing: str, at: dict[str, float], training: Sequence[str]
) -> list[Points]:
    """Single readers, the means with their intervals, and the line of the means along training."""
    colour, marker = framing_look(framing)
    each = [findings.select(quantity, framing=framing, stage=stage) for stage in at]
    course = [f for f in findings.select(quantity, framing=framing, reader=MEAN) if f.where["stage"] in training]
    return [
        *readers_and_mean(list(at.values()), each, colour=colour, marker=marker, label=framing_label(framing)),
        curve_of(course, lambda f: at[f.where["stage"]], colour=colour, marker="none", low=(), high=()),
    ]


def _courses(runs: Sequence[Findings], quantity: str, framing: str, at: dict[str, float]) -> list[Mark]:
    """Each run's means as a thin line, and the mean of all runs as a thick one."""
    colour, marker = framing_look(framing)
    values: dict[str, list[float]] = {stage: [] for stage in at}
    marks: list[Mark] = []
    for run in runs:
        means = [f for f in run.select(quantity, framing=framing, reader=MEAN) if f.where["stage"] in at]
        look = {"colour": colour, "marker": "none", "width": 0.8, "faint": True, "low": (), "high": ()}
        marks.append(curve_of(means, lambda f: at[f.where["stage"]], **look))
        for f in means:
            values[f.where["stage"]].append(value(f))
    thick = {at[stage]: sum(ys) / len(ys) for stage, ys in values.items() if ys}
    mean = Points([*thick], [*thick.values()], colour, marker=marker, line="solid", label=framing_label(framing))
    return [*marks, mean]


def _framing_keys(names: Sequence[str]) -> list[Key]:
    return [Key(framing_label(name), *framing_look(name), "solid", 5.5) for name in names]
