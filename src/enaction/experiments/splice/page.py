"""The page of the splices: how entropy reacts to something foreign in own text, and how much of it is the seam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from enaction.chart import Axis, Chart, Colour, Key, Panel, Points, Rule, points_of
from enaction.findings import Finding, Findings
from enaction.page import Cell, Grid, Page, Section, Statement
from enaction.shown import number, verdict_of, verdict_words, with_interval
from enaction.words import MEAN, in_training_order, models_of, stage_label

# Of each length of the piece, from the shortest on.
_COLOURS: tuple[Colour, ...] = ("sky", "blue", "red", "green", "pink")
# Pattern -> what it is, short, and the pattern with a piece of the same author's other answer.
_HOSTS = {
    "ofo": ("own text, a foreign piece, own text", "own, foreign, own", "ooo"),
    "fof": ("foreign text, an own piece, foreign text", "foreign, own, foreign", "fff"),
}
_COLUMNS = {
    "reaction": "reaction, tokens",
    "recovery": "recovery, tokens",
    "recovery_within_tolerance": "recovery within tolerance, tokens",
    "excess_first": "excess at offset 1, nats",
    "excess_during": "sum inside the piece, nats",
    "excess_after": "sum after the piece, nats",
    "piece_surprisal": "surprisal of the piece, nats a token",
}


def page(findings: Findings, title: str, question: str) -> Page:
    """What the report shows of the splices."""
    means = Findings(f for f in findings if f.where.get("reader") == MEAN)
    charts = {"splice": chart} if (chart := _aligned(means)) else {}
    grids = [_grid(means, pattern) for pattern in _HOSTS] if means else []
    statements = [s for stage in in_training_order(means.values("stage")) for s in _statements(means, stage)]
    left_out = {note: f.where for f in findings.select("left_out") for note in f.notes}
    for note, where in left_out.items():
        statements.append(Statement(f"{note}.", ("left_out",), where, "left out", subject="Left out"))
    return Page(title, question, statements, [Section(charts=[*charts], grids=grids)], charts)


def _aligned(means: Findings) -> Chart | None:
    """Excess entropy around the splice: stages as columns, hosts as rows, a line for each length of the piece."""
    curves = means.select("excess_entropy")
    stages = in_training_order(curves.values("stage"))
    if not stages:
        return None
    colours = dict(zip(sorted(curves.values("k")), _COLOURS, strict=False))
    panels = []
    for pattern, (_, short, control) in _HOSTS.items():
        row = []
        for stage in stages:
            marks = [
                _line(curves.select("excess_entropy", stage=stage, k=k, pattern=of), colour, is_control=of == control)
                for k, colour in colours.items()
                for of in (control, pattern)
            ]
            x = Axis("tokens from the splice" if pattern == [*_HOSTS][-1] else "")
            y = Axis(f"{short}\nexcess entropy, nats" if stage == stages[0] else "")
            row.append(Panel([*marks, Rule("y", 0), Rule("x", 0, line="dotted")], x, y, stage_label(stage)))
        panels.append(row)
    caption = (
        "Excess of mean entropy over the unspliced text, aligned on the splice (offset 0: first token of the piece), "
        "95 % intervals; dashed: the same splice with a piece of the same author's other answer. Means over readers."
    )
    legend = [Key(f"k = {k}", colour, "none", "solid") for k, colour in colours.items()]
    legend.append(Key("same author's piece", "grey", "none", "dashed", width=1.0))
    return Chart(
        caption, panels, width=1.3 + 2.3 * len(stages), height=4.6, legend=legend, share_x="all", share_y="row"
    )


def _line(points: Findings, colour: Colour, *, is_control: bool) -> Points:
    ordered = sorted(points, key=lambda f: f.where["offset"])
    look: dict[str, Any] = {"line": "dashed", "width": 1.0, "low": (), "high": ()} if is_control else {"line": "solid"}
    return points_of(
        [f.where["offset"] for f in ordered], ordered, colour=colour, marker="none", interval="band", **look
    )


def _statements(means: Findings, stage: str) -> list[Statement]:
    """What the longest piece does at one stage: its size beside the seam's, and how soon."""
    k = max(means.values("k"))
    statements = []
    for pattern, (title, _, control) in _HOSTS.items():
        place = {"stage": stage, "k": k, "pattern": pattern}
        more, after = (means.one(q, **place) for q in ("foreignness_after", "excess_after"))
        seam = means.one("excess_after", **place | {"pattern": control})
        if more is None or after is None or seam is None:
            continue
        verdict = verdict_words(more, below="beyond the seam", above="beyond the seam", none="no more than the seam")
        statements.append(
            Statement(
                f"after the piece the entropy, summed over the window, differs by {with_interval(after)} nats from "
                f"that of the unspliced text; with a piece of the same author's other answer it differs by "
                f"{with_interval(seam)}. The difference is {with_interval(more)} ({verdict}). "
                + _timing(means.one("reaction", **place), means.one("recovery", **place)),
                ("foreignness_after", "excess_after", "reaction", "recovery"),
                place,
                verdict_of(more),
                subject=f"{models_of(stage)} ({title}, k = {k})",
            )
        )
    return statements


def _timing(reaction: Finding | None, recovery: Finding | None) -> str:
    if reaction is None:
        return "No reaction leaves the band around zero."
    back = f"it is back after {number(recovery.estimate, 0)}" if recovery else "it is not back within the window"
    return f"The first offset outside the band is {number(reaction.estimate, 0)}; {back}."


def _grid(means: Findings, pattern: str) -> Grid:
    title, _, control = _HOSTS[pattern]
    table = means.pivot([*_COLUMNS], rows=("stage", "k", "pattern"))
    rows = [
        [f"{stage_label(stage)}, k = {k}", Cell(whose, "name"), *_cells(table.get((stage, k, name), {}))]
        for stage in in_training_order(means.values("stage"))
        for k in sorted(means.values("k"))
        for name, whose in ((pattern, "other author's"), (control, "same author's"))
    ]
    header = ["stage, length", "piece", *_COLUMNS.values()]
    return Grid(f"Splices: {title}; means over readers", header, rows, about=[*_COLUMNS])


def _cells(row: dict[str, Finding]) -> Sequence[str]:
    return [with_interval(row.get(q), 0 if name.endswith("tokens") else 2) for q, name in _COLUMNS.items()]
