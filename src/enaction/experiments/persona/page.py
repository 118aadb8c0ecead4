"""The page of the personas: is the default Assistant special?"""

from __future__ import annotations

from collections.abc import Sequence

from enaction.chart import SERIES, Axis, Chart, Face, Panel, curve_of, keys, points_of
from enaction.experiments.persona.texts import NOBODY
from enaction.findings import Findings
from enaction.page import Cell, Grid, Page, Section, Statement
from enaction.shown import left_out, stated, verdict_words, with_interval, with_pvalue
from enaction.words import MEAN, in_training_order, models_of, stage_label

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
    with_personas = [stage for stage in stages if _personas(findings, stage)]
    curves = findings.select("running_surprise", reader=MEAN)
    charts = {"persona": _entropies(findings, with_personas)} if with_personas else {}
    if curves:
        charts["persona-surprise"] = _surprises(curves)
    return Page(
        title,
        question,
        [s for stage in stages[::-1] for s in _statements(findings, stage)],
        [Section(charts=list(charts), grids=[_grid(findings, stage) for stage in with_personas[::-1]])],
        charts,
    )


def _personas(findings: Findings, stage: str) -> list[str]:
    measured = Findings(f for f in findings.select("persona_entropy", stage=stage) if f.estimate is not None)
    return measured.values("persona")


def _statements(findings: Findings, stage: str) -> list[Statement]:
    who, at = models_of(stage), {"stage": stage, "reader": MEAN}
    statements = left_out(findings, who, "persona_entropy", stage=stage)
    if margin := findings.one("default_margin", **at):
        words = verdict_words(
            margin,
            above="the default Assistant has the lowest entropy",
            below="some persona has lower entropy than the default Assistant",
            none="the default Assistant cannot be told from the lowest persona",
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
    across = [findings.one("interaction", persona=p, **at) for p in _personas(findings, stage)]
    if each := "; ".join(f"{f.where['persona']} {with_pvalue(f)}" for f in across if f):
        text = f"reader x author interaction among texts of one persona ({NOBODY}: the default): {each}."
        statements.append(Statement(text, ("interaction",), at, subject=who))
    return statements


def _grid(findings: Findings, stage: str) -> Grid:
    table = findings.pivot(tuple(_COLUMNS), ("reader", "persona"), stage=stage)
    readers = sorted(findings.select("persona_interaction", stage=stage).values("reader"), key=lambda r: r != MEAN)
    rows = [
        [reader, Cell(persona, "name"), *(with_interval(table[reader, persona].get(q)) for q in _COLUMNS)]
        for reader in readers
        for persona in _personas(findings, stage)
    ]
    title = f"{models_of(stage)}: entropy, nats, of own text of each persona as it is read"
    return Grid(title, ["reader", Cell("persona of the text", "name"), *_COLUMNS.values()], rows, about=list(_COLUMNS))


def _entropies(findings: Findings, stages: Sequence[str]) -> Chart:
    """Entropy by persona, a panel for each stage: read under the own persona and without one."""
    panels = []
    for stage in stages:
        personas = _personas(findings, stage)
        marks = [
            points_of(
                [x + shift for x in range(len(personas))],
                [findings.one(quantity, stage=stage, persona=p, reader=MEAN) for p in personas],
                face=face,
            )
            for quantity, (shift, face) in _READ.items()
        ]
        x = Axis(ticks=range(len(personas)), names=personas, slant=35)
        panels.append(Panel(marks, x, Axis("" if panels else "entropy, nats"), stage_label(stage)))
    caption = (
        "Entropy of each persona's own text, read under that persona (full) and without one (open); the default "
        "Assistant first; means over readers with 95 % intervals."
    )
    return Chart(caption, [panels], width=1.0 + 3.1 * len(stages), height=3.0, share_y="all")


def _surprises(curves: Findings) -> Chart:
    """Running mean of surprise, a panel for each stage, a colour for each persona."""
    panels = []
    for stage in in_training_order(curves.values("stage")):
        marks = [
            curve_of(
                curves.select("running_surprise", stage=stage, persona=persona, asked=requested),
                lambda f: f.where["tokens"],
                colour=SERIES[i % len(SERIES)],
                **look,
            )
            for i, persona in enumerate(curves.values("persona"))
            for requested, look in ((persona, {"label": persona}), (NOBODY, {"line": "dashed", "width": 1.2}))
        ]
        y = Axis("" if panels else "mean surprisal, nats")
        panels.append(Panel(marks, Axis("first tokens", scale="log2"), y, stage_label(stage)))
    legend = keys(panels[0].marks)
    caption = (
        "Running mean of surprise over a response's first tokens: text of a persona read under it (full line) and "
        "without one (dashed); means over readers with 95 % intervals."
    )
    return Chart(
        caption, [panels], width=1.0 + 3.1 * len(panels), height=3.2,
        legend=legend, legend_columns=min(6, len(legend)), share_y="all",
    )  # fmt: skip
