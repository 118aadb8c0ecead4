"""The page of the framings: is it chat formatting or authorship?"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from enaction.chart import Axis, Chart, Mark, Panel, Rule, keys, readers_and_mean, stage_colours
from enaction.experiments.framings.texts import Condition, Question
from enaction.findings import Findings
from enaction.page import Cell, Grid, Page, Section, Statement
from enaction.shown import mean_value, number, stated, value, verdict_of, with_pvalue
from enaction.words import (
    FRAMINGS,
    MEAN,
    Framing,
    framing_label,
    in_training_order,
    last_stage,
    models_of,
    ordered,
    stage_label,
)

_QUESTIONS: dict[Question, str] = {"kept": "", "dropped": ", no question"}
_ROLES: dict[Framing, str] = {"user": "as user turn", "none": "without template"}


def page(title: str, question: str, findings: Findings) -> Page:
    """What the report shows of the framings."""
    stages = in_training_order(findings.values("stage"))
    shown = ordered([stage for stage in (last_stage(stages), *stages[:1]) if stage is not None], ())
    charts = {"framings": _chart(findings)} if findings.select("interaction") else {}
    return Page(
        title,
        question,
        [s for stage in shown for s in _statements(findings, stage)],
        [Section(charts=list(charts), grids=[*(_entropies(findings, s) for s in shown), _summary(findings, stages)])],
        charts,
    )


def _conditions(findings: Findings) -> list[Condition]:
    framings, questions = findings.values("framing"), findings.values("question")
    return [Condition(f, q) for q in _QUESTIONS if q in questions for f in FRAMINGS if f in framings]


def _label(condition: Condition) -> str:
    return framing_label(condition.framing) + _QUESTIONS[condition.question]


def _statements(findings: Findings, stage: str) -> list[Statement]:
    who, mean = models_of(stage), {"stage": stage, "reader": MEAN}
    statements = _lowest(findings, stage)
    for question, without in _QUESTIONS.items():
        for framing, otherwise in _ROLES.items():
            text = (
                f"as assistant turn{without}, the interaction of the same texts differs from that {otherwise} by {{}} "
                "log units (below 0: more recognition; p: framings swapped within prompts)."
            )
            pair = Condition("assistant", question).minus(Condition(framing, question))
            made = stated(findings, who, text, "interaction_difference", **mean, **pair)
            # The question of the page in one number: authorship or role, in the conversation as it was.
            statements += [replace(s, headline=(question, framing) == ("kept", "user")) for s in made]
    text = "the assistant turn instead of the user turn changes log entropy by {} on own and by {} on foreign text."
    pair = Condition("assistant", "kept").minus(Condition("user", "kept"))
    statements += stated(findings, who, text, "own_change", "foreign_change", **mean, **pair)
    text = "with the question the interaction differs from that without by {} log units."
    for framing in FRAMINGS:
        subject = f"{who}, {framing_label(framing)}"
        pair = Condition(framing, "kept").minus(Condition(framing, "dropped"))
        statements += stated(findings, subject, text, "interaction_difference", **mean, **pair)
    return statements


def _lowest(findings: Findings, stage: str) -> list[Statement]:
    """Which share of the readers have least entropy on their own text, and by how much."""
    shares = {c: findings.one("lowest_share", stage=stage, **c._asdict()) for c in _conditions(findings)}
    each = "; ".join(f"{_label(c)} {number(100 * value(f), 0)} %" for c, f in shares.items() if f is not None)
    margins = findings.select("lowest_margin", stage=stage, reader=MEAN).measured
    if not each or not margins:
        return []
    smallest = min(margins, key=value)
    text = (
        f"share of readers with the least entropy on their own text: {each}. The margin to the next author is smallest "
        f"at {with_pvalue(smallest)} nats (mean over readers; p: authors shuffled)."
    )
    about, where = ("lowest_margin", "lowest_share"), {"stage": stage, "reader": MEAN}
    return [Statement(text, about, where, verdict_of(smallest), models_of(stage))]


def _entropies(findings: Findings, stage: str) -> Grid:
    """The paper's table: author by framing, for each reader of the stage and each base."""
    conditions = _conditions(findings)
    measured = findings.select("entropy", stage=stage).measured
    table = measured.pivot("entropy", ("reader", "author", *Condition._fields))
    rows = []
    for reader, author in itertools.product(measured.values("reader"), measured.values("author")):
        mark, look = (" (own)", "own") if reader == author else ("", "")
        row = [table.get((reader, author, *condition), {}).get("entropy") for condition in conditions]
        rows.append([reader, Cell(f"{author}{mark}", "name"), *(Cell(number(f and f.estimate), look) for f in row)])
    title = f"Entropy, nats, on {stage_label(stage)} texts; the readers of the stage, then their bases"
    return Grid(title, ["reader", "author", *map(_label, conditions)], rows, ["entropy"])


def _summary(findings: Findings, stages: Sequence[str]) -> Grid:
    rows = []
    for stage, condition in itertools.product(stages, _conditions(findings)):
        here = findings.at(stage=stage, **condition._asdict())
        ratio, inner = (with_pvalue(here.one(q, reader=MEAN)) for q in ("other_self_ratio", "interaction"))
        bases = number(mean_value(here.select("base_reader_ratio")))
        rows.append([stage_label(stage), Cell(_label(condition), "name"), ratio, bases, inner])
    header = ["stage", "framing", "other/self ratio", "the same by the bases", "interaction, log units"]
    return Grid("Means over readers", header, rows, ["other_self_ratio", "base_reader_ratio", "interaction"])


def _chart(findings: Findings) -> Chart:
    """Interaction in each condition, a colour a stage."""
    measured = findings.select("interaction")
    stages = in_training_order(measured.values("stage"))
    conditions = [c for c in _conditions(findings) if measured.select("interaction", **c._asdict())]
    colours = stage_colours(stages)
    marks: list[Mark] = [Rule("y", 0)]
    for i, stage in enumerate(stages):
        at = [x + 0.16 * (i - (len(stages) - 1) / 2) for x in range(len(conditions))]
        each = [measured.select("interaction", stage=stage, **c._asdict()) for c in conditions]
        marks += readers_and_mean(at, each, colour=colours[stage], label=stage_label(stage))
    names = [_label(c).replace(", ", ",\n").replace(" turn", "\nturn") for c in conditions]
    x, y = Axis(ticks=range(len(conditions)), names=names), Axis("interaction, log units")
    panel = Panel(marks, x, y, legend=keys(marks), legend_columns=len(stages))
    caption = (
        "Interaction (below 0: recognition) of the same texts in every role, with the question before them and without "
        "it; means over readers with 95 % intervals, faint points are single readers."
    )
    return Chart(caption, [[panel]], width=1.4 + 1.15 * len(conditions), height=3.2)
