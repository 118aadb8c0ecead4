"""The charts of the matrix that have a row a reader: identity residuals, the split of the log ratio, the critic's."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from enaction.chart import Axis, Bars, Chart, Colour, Face, Key, Label, Mark, Panel, Points, Rule, keys, points_of
from enaction.experiments.matrix.lookup import Reading, alarmed, main_place, readings
from enaction.findings import Finding, Findings
from enaction.shown import mean_value, names_within, number, short_names, value
from enaction.stats import IDENTITY_LIMIT
from enaction.words import MEAN, framing_label, stage_label

# PAPER.md E1: mean over the five readers of the paper's printed table, log units.
PAPER_RECOGNITION = 0.48
IDENTITY_BAND = 1.96
# An open ring lies around a full point where surprisal equals entropy.
_FULL, _OPEN = 4.2, 7.2


def identity(findings: Findings) -> Chart | None:
    """Identity residual of each reader on its own text: bars of 1.96, alarm lines at +-4, red where it sounds."""
    residuals = Findings(f for f in findings.select("identity_residual") if f.estimate is not None)
    if not residuals:
        return None
    names = short_names(residuals.values("reader"), 24)
    several = len(residuals.values("framing")) > 1
    labels = [names[f.where["reader"]] + f", {framing_label(f.where['framing'])}" * several for f in residuals]
    marks: list[Mark] = [Rule("x", 0, "ink")]
    marks += [Rule("x", limit, "red", "dashed", 1.2) for limit in (-IDENTITY_LIMIT, IDENTITY_LIMIT)]
    for y, f in enumerate(residuals):
        look: dict[str, Any] = {"colour": "red", "marker": "thick cross"} if alarmed(f) else {}
        marks.append(points_of([y], [f], along="x", size=5.5, **look))
    reach = max(5.0, *(1.1 * abs(value(f)) + IDENTITY_BAND for f in residuals))
    x = Axis("sum(s − H) / √sum(V), standard deviations", low=-reach, high=reach)
    legend = [
        Key(f"residual ±{IDENTITY_BAND}", "blue", line="solid", size=5.5, width=1.3),
        Key(f"alarm, ±{IDENTITY_LIMIT:g}", "red", "none", "dashed", width=1.2),
    ]
    caption = "Identity residual of each reader on its own text; outside the dashed lines something is wrong."
    panel = Panel(marks, x, _rows(range(len(residuals)), labels))
    return Chart(caption, [[panel]], 5.6, 0.95 + 0.23 * len(residuals), legend=legend)


def split(findings: Findings, *, reference: float | None = None) -> Chart | None:
    """Log other/self ratio of each reader = recognition + ease of its own text, in the main framing.

    Bars to the right of 0 add up, bars to the left take away; the diamond is their sum, with its interval.

    Args:
        findings: of one run.
        reference: mean recognition of another table, e.g. PAPER_RECOGNITION, as a dashed line.
    """
    framing = main_place(findings)["framing"]
    parts = findings.pivot(("log_ratio", "recognition", "ease"), ("stage", "reader"), framing=framing)
    rows = {key: part for key, part in parts.items() if key[1] != MEAN and len(part) == 3}
    if not rows:
        return None
    of = [stage for stage, _ in rows]
    heights = _grouped(of)
    recognition, ease = ([value(part[q]) for part in rows.values()] for q in ("recognition", "ease"))
    # Of one sign they stack; of opposite signs both start at 0 and the sum lies between.
    starts = [first if first * second > 0 else 0.0 for first, second in zip(recognition, ease, strict=True)]
    sums = [part["log_ratio"] for part in rows.values()]
    marks: list[Mark] = [
        Bars(heights, [0.0] * len(rows), recognition, "blue", label="recognition"),
        Bars(heights, starts, ease, "orange", label="ease of own text"),
        points_of(heights, sums, along="x", colour="black", marker="diamond", size=4.0),
        Rule("x", 0, "ink"),
        *_group_labels(heights, of),
    ]
    legend = [*keys(marks), Key("log ratio, 95 %", "black", "diamond", "solid", 4, width=1)]
    if reference is not None:
        marks.append(Rule("x", reference, "black", "dashed", 1.2))
        label = f"mean recognition in the paper, {number(reference, 2)}"
        legend.append(Key(label, "black", "none", "dashed", width=1.2))
    labels = [
        name
        for stage, group in groupby(rows, key=lambda key: key[0])
        for name in names_within([reader for _, reader in group], stage, 22).values()
    ]
    x = Axis(f"log other/self ratio, log units ({framing_label(framing)})")
    caption = "Log other/self ratio taken apart: recognition, and the ease of the own text for all readers alike."
    height = 0.9 + 0.24 * (len(rows) + len(set(of)))
    return Chart(caption, [[Panel(marks, x, _rows(heights, labels))]], 7.0, height, legend=legend)


def critic(findings: Findings) -> Chart | None:
    """Own, others' and world text read by the last stage, and the same texts read by each family's own base.

    Full points are entropy, open ones surprisal; the bar between them is what the reader did not expect.
    """
    at = main_place(findings)
    stage, last, base = at["stage"], readings(findings, **at), readings(findings, **at, by_base=True)
    if not last:
        return None
    tables = [(f"Read by the {f'{stage_label(stage)} ' * bool(stage)}model itself", last)]
    if stage != "base" and base:
        tables.append(("Read by its family's own base", base))
    own_authors = [of.author for of in last]
    panels = [_dumbbells(own_authors, of, title=title, name_lines=i == 0) for i, (title, of) in enumerate(tables)]
    n_lines = max(len(of.texts) for of in last) + 0.7
    legend = [Key("entropy", "blue", size=_FULL), Key("surprisal", "red", size=_OPEN, face="open")]
    if any(len(of.texts.get("others", ())) > 1 for of in last):
        legend.append(Key("single authors", "grey", "bar", size=6))
    return Chart(
        "Own, others' and world text read by the last stage and by each family's base: entropy and surprisal.",
        [panels],
        7.2 if len(panels) > 1 else 5.2,
        1.15 + 0.22 * n_lines * len(last),
        legend=legend,
        share_x="all",
    )


def _grouped(groups: Sequence[str]) -> list[float]:
    """Heights of rows with a gap before each new group."""
    heights, y = [], -1.0
    for i, group in enumerate(groups):
        y += 1.0 if i == 0 or groups[i - 1] == group else 1.6
        heights.append(y)
    return heights


def _rows(heights: Sequence[float], labels: Sequence[str]) -> Axis:
    """Rows named on the left, the first on top."""
    return Axis(ticks=heights, names=labels, low=heights[-1] + 0.7, high=heights[0] - 0.7, bare=True)


def _group_labels(heights: Sequence[float], groups: Sequence[str]) -> list[Label]:
    """Names of the groups of rows at the right edge."""
    of = {group: [y for y, g in zip(heights, groups, strict=True) if g == group] for group in groups}
    return [Label(stage_label(group), sum(ys) / len(ys), bold=True) for group, ys in of.items()]


def _dumbbells(own_authors: Sequence[str], readings: list[Reading], *, title: str, name_lines: bool) -> Panel:
    """A block of lines for each own author: own, others, world; entropy full, surprisal open."""
    reading_of = {reading.author: reading for reading in readings}
    names = short_names(list(dict.fromkeys([*own_authors, *(reading.reader for reading in readings)])), 20)
    y, ticks, marks = 0.0, {}, []
    for author in own_authors:
        reading = reading_of.get(author)
        if reading is None:
            y += 3.7
            continue
        marks.append(Label(names[reading.reader], y - 0.05, "left", size=8.5, bold=True))
        y += 0.45
        for kind, cells in reading.texts.items():
            marks += _dumbbell(y, *([cell[q] for cell in cells if q in cell] for q in ("entropy", "surprisal")))
            ticks[y] = kind if name_lines else ""
            y += 1.0
        y += 0.7
    rows = Axis(ticks=list(ticks), names=list(ticks.values()), low=y - 0.7, high=-0.75, bare=True)
    return Panel(marks, Axis("nats a token", low=0.0, most_ticks=5), rows, title)


def _dumbbell(y: float, entropy: list[Finding], surprisal: list[Finding]) -> list[Mark]:
    means = [mean_value(cells) for cells in (entropy, surprisal)]
    marks: list[Mark] = []
    if None not in means:
        marks.append(Points(means, [y, y], "pale", marker="none", line="solid", width=3.0))
    looks: tuple[tuple[Colour, Face, float], ...] = ("blue", "full", _FULL), ("red", "open", _OPEN)
    for mean, cells, (colour, face, size) in zip(means, (entropy, surprisal), looks, strict=True):
        if len(cells) == 1:
            marks.append(points_of([y], cells, along="x", colour=colour, face=face, size=size))
        elif cells:
            authors = [f.where["author"] for f in cells]
            marks.append(
                Points([value(f) for f in cells], [y] * len(cells), "grey", marker="bar", size=6, names=authors)
            )
            marks.append(Points([mean], [y], colour, face=face, size=size))
    return marks
