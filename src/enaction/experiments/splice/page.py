"""The page of the splices: how entropy reacts to something foreign in own text, and how much of it is the seam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from enaction.chart import Axis, Chart, Colour, Key, Panel, Rule, curve_of
from enaction.findings import Finding, Findings
from enaction.page import Grid, Page, Section, Statement
from enaction.shown import number, table, verdict_of, verdict_words, with_interval
from enaction.words import MEAN, in_training_order, models_of, stage_label

# Of each length of the piece, from the shortest on.
_COLOURS: tuple[Colour, ...] = ("sky", "blue", "red", "green", "pink")
# Pattern -> what it is, short, and the pattern with a piece of the same author's other answer.
_HOSTS = {
    "ofo": ("own text, a foreign piece, own text", "own, foreign, own", "ooo"),
    "fof": ("foreign text, an own piece, foreign text", "foreign, own, foreign", "fff"),
}
# The splice with a piece of the same author's other answer, beside the one with a foreign piece.
_CONTROL: dict[str, Any] = {"line": "dashed", "width": 1.0, "low": (), "high": ()}
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
    means = findings.at(reader=MEAN)
    stages = in_training_order(means.values("stage"))
    charts = {"splice": _aligned(means, stages)} if stages else {}
    grids = [_grid(means, stages, pattern) for pattern in _HOSTS] if stages else []
    statements = [s for stage in stages for pattern in _HOSTS for s in _statements(means, stage, pattern)]
    left_out = {note: f.where for f in findings.select("left_out") for note in f.notes}
    for note, where in left_out.items():
        statements.append(Statement(f"{note}.", ("left_out",), where, "left out", subject="Left out"))
    return Page(title, question, statements, [Section(charts=[*charts], grids=grids)], charts)


def _aligned(means: Findings, stages: Sequence[str]) -> Chart:
    """Excess entropy around the splice: stages as columns, hosts as rows, a line for each length of the piece."""
    colours = dict(zip(sorted(means.values("k")), _COLOURS, strict=False))
    panels = []
    for pattern, (_, short, control) in _HOSTS.items():
        row = []
        for stage in stages:
            marks = [
                curve_of(
                    means.select("excess_entropy", stage=stage, k=k, pattern=of),
                    lambda f: f.where["offset"],
                    colour=colour,
                    marker="none",
                    **look,
                )
                for k, colour in colours.items()
                for of, look in ((control, _CONTROL), (pattern, {}))
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


def _statements(means: Findings, stage: str, pattern: str) -> list[Statement]:
    """What the longest piece does at one stage: its size beside the seam's, and how soon."""
    title, _, control = _HOSTS[pattern]
    k = max(means.values("k"))
    place = {"stage": stage, "k": k, "pattern": pattern}
    about = ("foreignness_after", "excess_after", "reaction", "recovery")
    more, after, reaction, recovery = (means.one(quantity, **place) for quantity in about)
    seam = means.one("excess_after", **place | {"pattern": control})
    if more is None or after is None or seam is None:
        return []
    verdict = verdict_words(more, below="beyond the seam", above="beyond the seam", none="no more than the seam")
    text = (
        f"after the piece the entropy, summed over the window, differs by {with_interval(after)} nats from that of the "
        f"unspliced text; with a piece of the same author's other answer it differs by {with_interval(seam)}. The "
        f"difference is {with_interval(more)} ({verdict}). {_timing(reaction, recovery)}"
    )
    return [Statement(text, about, place, verdict_of(more), f"{models_of(stage)} ({title}, k = {k})")]


def _timing(reaction: Finding | None, recovery: Finding | None) -> str:
    if reaction is None:
        return "No reaction leaves the band around zero."
    back = f"it is back after {number(recovery.estimate, 0)}" if recovery else "it is not back within the window"
    return f"The first offset outside the band is {number(reaction.estimate, 0)}; {back}."


def _grid(means: Findings, stages: Sequence[str], pattern: str) -> Grid:
    title, _, control = _HOSTS[pattern]
    whose = {pattern: "other author's", control: "same author's"}
    return table(
        Findings(f for f in means if f.where["pattern"] in whose),
        f"Splices: {title}; means over readers",
        {"stage": "stage", "k": "length", "pattern": "piece"},
        _COLUMNS,
        order=lambda stage, k, of: (stages.index(stage), k, of == control),
        show=lambda f: with_interval(f, 0 if f and f.unit == "tokens" else 2),
        labels={"k": lambda k: f"k = {k}", "pattern": lambda of: whose[of]},
    )
