"""The page of the personas: is the default Assistant special?"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from enaction.chart import SERIES, Axis, Chart, Face, Points, curve_of, keys, points_of, stage_panels
from enaction.experiments.persona.texts import NOBODY
from enaction.findings import Findings
from enaction.page import Grid, Page, Section, Statement
from enaction.shown import left_out, stated, table, verdict_words, with_pvalue
from enaction.words import MEAN, in_training_order, models_of

# Quantity -> its column.
_COLUMNS = {
    "persona_entropy": "under its own",
    "persona_entropy_unasked": "without one",
    "persona_entropy_other": "under another",
    "default_minus_persona": "default minus persona",
    "persona_surprisal": "surprisal, under its own",
    "persona_surprisal_unasked": "surprisal, without one",
    "persona_interaction": "interaction",
}
# Quantity -> how far beside its tick, and which face.
_READ: dict[str, tuple[float, Face]] = {"persona_entropy": (-0.12, "full"), "persona_entropy_unasked": (0.12, "open")}


def page(title: str, question: str, findings: Findings) -> Page:
    """What the report shows of the personas."""
    stages = in_training_order(findings.values("stage"))
    entropies, curves = findings.select("persona_entropy").measured, findings.select("running_surprise", reader=MEAN)
    measured = in_training_order(entropies.values("stage"))
    charts = {"persona": _entropies(findings, measured)} if measured else {}
    if curves:
        charts["persona-surprise"] = _surprises(curves)
    return Page(
        title,
        question,
        [s for stage in stages[::-1] for s in _statements(findings, stage)],
        [Section(charts=list(charts), grids=[_grid(findings, stage) for stage in measured[::-1]])],
        charts,
    )


def _personas(findings: Findings) -> list[str]:
    return findings.select("persona_entropy").measured.values("persona")


def _statements(findings: Findings, stage: str) -> list[Statement]:
    who, at = models_of(stage), {"stage": stage, "reader": MEAN}
    statements = left_out(findings, who, "persona_entropy", stage=stage)
    if margin := findings.one("default_margin", **at):
        words = verdict_words(
            margin,
            above="the default Assistant has the lowest entropy",
            below="some persona has lower entropy than the default Assistant",
            none="the default Assistant cannot be distinguished from the lowest persona",
        )
        text = (
            f"{words}: the lowest persona's entropy on its own text minus the default's is {{}} nats (p: labels "
            "shuffled)."
        )
        statements += stated(findings, who, text, "default_margin", **at)
    text = (
        "the interaction of the persona requested with the persona of the text is {} log units (below 0: the text's "
        "own persona lowers entropy beyond what either does alone; p: personas shuffled)."
    )
    statements += stated(findings, who, text, "persona_interaction", persona=MEAN, **at)
    for contrast, meaning in (("none", "without a persona"), ("other", "under another")):
        text = (
            f"read under its own persona instead of {meaning}, the same text's entropy changes by {{}} and its "
            "surprisal by {} nats."
        )
        quantities = (f"entropy_own_minus_{contrast}", f"surprisal_own_minus_{contrast}")
        statements += stated(findings, who, text, *quantities, persona=MEAN, **at)
    text = "default text read without a persona minus under one: {} nats of entropy."
    statements += stated(findings, who, text, "vanilla_entropy_none_minus_persona", **at)
    across = [findings.one("interaction", persona=p, **at) for p in _personas(findings)]
    if each := "; ".join(f"{f.where['persona']} {with_pvalue(f)}" for f in across if f):
        text = f"reader x author interaction among texts of one persona ({NOBODY}: the default): {each}."
        statements.append(Statement(text, ("interaction",), at, subject=who))
    return statements


def _grid(findings: Findings, stage: str) -> Grid:
    each = Findings(f for f in findings.measured if f.where.get("persona") != MEAN)
    title = f"{models_of(stage)}: entropy, nats, of own text of each persona as it is read"
    rows = {"reader": "reader", "persona": "persona of the text"}
    return table(each, title, rows, _COLUMNS, order=lambda reader, _: reader != MEAN, stage=stage)


def _entropies(findings: Findings, stages: Sequence[str]) -> Chart:
    """Entropy by persona, a panel for each stage: read under the own persona and without one."""
    personas = _personas(findings)

    def read(stage: str, quantity: str, shift: float, face: Face) -> Points:
        means = [findings.one(quantity, stage=stage, persona=persona, reader=MEAN) for persona in personas]
        return points_of([x + shift for x in range(len(personas))], means, face=face)

    marks = {stage: [read(stage, quantity, *look) for quantity, look in _READ.items()] for stage in stages}
    panels = stage_panels(marks, Axis(ticks=range(len(personas)), names=personas, slant=35), "entropy, nats")
    caption = (
        "Entropy of each persona's own text, read under that persona (full) and without one (open); the default "
        "Assistant first; means over readers with 95 % intervals."
    )
    return Chart(caption, [panels], width=1.0 + 3.1 * len(stages), height=3.0, share_y="all")


def _surprises(curves: Findings) -> Chart:
    """Running mean of surprise, a panel for each stage, a colour for each persona."""
    colours = dict(zip(curves.values("persona"), itertools.cycle(SERIES)))

    def curve(stage: str, persona: str, requested: str, **look: Any) -> Points:
        of = curves.select("running_surprise", stage=stage, persona=persona, asked=requested)
        return curve_of(of, lambda f: f.where["tokens"], colour=colours[persona], **look)

    marks = {
        stage: [
            curve(stage, persona, requested, **look)
            for persona in colours
            for requested, look in ((persona, {"label": persona}), (NOBODY, {"line": "dashed", "width": 1.2}))
        ]
        for stage in in_training_order(curves.values("stage"))
    }
    panels = stage_panels(marks, Axis("first tokens", scale="log2"), "mean surprisal, nats")
    legend = keys(panels[0].marks)
    caption = (
        "Running mean of surprise over a response's first tokens: text of a persona read under it (full line) and "
        "without one (dashed); means over readers with 95 % intervals."
    )
    width, columns = 1.0 + 3.1 * len(panels), min(6, len(legend))
    return Chart(caption, [panels], width, height=3.2, legend=legend, legend_columns=columns, share_y="all")
