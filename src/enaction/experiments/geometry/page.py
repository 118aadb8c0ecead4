"""The page of geometry: how alike two stages hold the same tokens, by layer."""

from __future__ import annotations

from enaction.chart import Axis, Chart, Key, Panel, Points, Rule, stage_colours
from enaction.findings import Findings
from enaction.page import Cell, Page, Section, Statement
from enaction.shown import left_out, number, table, value, with_interval
from enaction.words import in_training_order, stage_label

_MEASURES = {
    "cosine": "cosine, raw",
    "centred_cosine": "cosine, centred",
    "cka": "CKA",
    "procrustes": "Procrustes distance",
}


def page(findings: Findings, title: str, question: str) -> Page:
    """What the report shows of geometry."""
    stages = in_training_order(findings.values("stage"))
    statements = [s for stage in stages for s in _statements(findings.at(stage=stage), stage)]
    statements += left_out(findings, "Left out", "left_out")
    charts = {"geometry": _chart(findings, stages)} if findings.select("cosine").measured else {}
    grid = table(
        Findings(f for f in findings if f.quantity in _MEASURES),
        "How alike two stages hold the same tokens",
        {"family": "family", "stage": "stage", "other_stage": "against", "layer": "layer"},
        _MEASURES,
        show=lambda f: Cell(with_interval(f, 2)),
        labels={"other_stage": stage_label},
    )
    directions = table(
        Findings(f for f in findings if f.quantity in ("direction_cosine", "direction_reliability")),
        "Directions of surprise and entropy in two stages",
        {"family": "family", "stage": "stage", "trace": "direction of", "layer": "layer"},
        {"direction_cosine": "|cosine|", "direction_reliability": "split half"},
        show=lambda f: Cell(number(f.estimate, 2) if f else ""),
        beside={"": lambda row: row["direction_cosine"].left_out or "" if "direction_cosine" in row else ""},
    )
    grids = [g for g in (grid, directions) if g.rows]
    return Page(title, question, statements, [Section(charts=[*charts], grids=grids)], charts)


def _statements(findings: Findings, stage: str) -> list[Statement]:
    """One sentence a stage: the range of each measure over families and layers, the embeddings left aside."""
    parts, about = [], []
    for quantity, label in _MEASURES.items():
        values = [value(f) for f in findings.select(quantity).measured if f.where["layer"] > 0]
        if values:
            parts.append(f"{label} {number(min(values), 2)} to {number(max(values), 2)}")
            about.append(quantity)
    if not parts:
        return []
    other = next(iter(findings.values("other_stage")), "")
    refused = [f for f in findings.select("direction_cosine") if f.left_out]
    known = [value(f) for f in findings.select("direction_cosine", trace="surprise").measured]
    directions = (
        f"; directions of surprise |cosine| {number(min(known), 2)} to {number(max(known), 2)}" if known else ""
    )
    doubt = f"; {len(refused)} directions are not reproducible and have no angle" if refused else ""
    text = f"over families and layers {', '.join(parts)}{directions}{doubt}."
    return [Statement(text, tuple(about), {"stage": stage}, "", f"{stage_label(stage)} against {stage_label(other)}")]


def _chart(findings: Findings, stages: list[str]) -> Chart:
    colours = stage_colours(stages)
    panels = []
    for quantity, label in _MEASURES.items():
        marks: list[Points | Rule] = []
        for stage in stages:
            of = findings.at(stage=stage)
            for family in dict.fromkeys(of.values("family")):
                found = sorted(of.select(quantity, family=family).measured, key=lambda f: f.where["layer"])
                marks.append(
                    Points(
                        [f.where["layer"] for f in found],
                        [f.estimate for f in found],
                        colours[stage],
                        [f.low for f in found],
                        [f.high for f in found],
                        size=3.5,
                        line="solid",
                        width=1.0,
                    )
                )
        panels.append(Panel(marks, Axis("residual layer"), Axis(label, low=0.0)))
    other = stage_label(next(iter(findings.values("other_stage")), ""))
    caption = (
        f"The same tokens of the same texts, held by a stage and by {other}; a line for each family, 95 % intervals "
        "over prompts. Layer 0 is the embedding."
    )
    legend = [Key(stage_label(stage), colours[stage], "circle", "solid") for stage in stages]
    return Chart(caption, [panels[:2], panels[2:]], width=7.2, height=5.4, legend=legend, share_x="all")
