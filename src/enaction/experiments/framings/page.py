"""The page of the framings: is it chat formatting or authorship?"""

from __future__ import annotations

from collections.abc import Sequence

from enaction.chart import Axis, Chart, Mark, Panel, Rule, keys, points_of, stage_colours
from enaction.experiments.framings.texts import Condition, Question
from enaction.findings import Findings
from enaction.page import Cell, Grid, Page, Section, Statement
from enaction.shown import mean_value, number, stated, value, verdict_of, with_pvalue
from enaction.words import FRAMINGS, MEAN, framing_label, in_training_order, models_of, stage_label

_QUESTIONS: dict[Question, str] = {"kept": "", "dropped": ", no question"}
_AS = {"assistant": "as assistant turn", "user": "as user turn", "none": "without template"}


def page(title: str, question: str, findings: Findings) -> Page:
    """What the report shows of the framings."""
    stages = in_training_order(findings.values("stage"))
    shown = list(dict.fromkeys([*stages[-1:], *stages[:1]]))
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
        for second in ("user", "none"):
            statements += stated(
                findings,
                who,
                f"{_AS['assistant']}{without}, the interaction of the same texts differs from that {_AS[second]} by "
                "{} log units (below 0: more recognition; p: framings swapped within prompts).",
                "interaction_difference",
                **mean,
                framing="assistant",
                minus_framing=second,
                question=question,
                minus_question=question,
            )
    statements += stated(
        findings,
        who,
        "the assistant turn instead of the user turn changes log entropy by {} on own and by {} on foreign text.",
        "own_change",
        "foreign_change",
        **mean,
        framing="assistant",
        minus_framing="user",
        question="kept",
        minus_question="kept",
    )
    for framing in dict.fromkeys(condition.framing for condition in _conditions(findings)):
        statements += stated(
            findings,
            f"{who}, {framing_label(framing)}",
            "with the question the interaction differs from that without by {} log units.",
            "interaction_difference",
            **mean,
            framing=framing,
            minus_framing=framing,
            question="kept",
            minus_question="dropped",
        )
    return statements


def _lowest(findings: Findings, stage: str) -> list[Statement]:
    """Which share of the readers have least entropy on their own text, and by how much."""
    shares = {c: findings.one("lowest_share", stage=stage, **c._asdict()) for c in _conditions(findings)}
    each = "; ".join(f"{_label(c)} {number(100 * value(f), 0)} %" for c, f in shares.items() if f is not None)
    margins = [f for f in findings.select("lowest_margin", stage=stage, reader=MEAN) if f.estimate is not None]
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
    table = findings.pivot("entropy", ("framing", "question", "reader"), "author", stage=stage)
    measured = Findings(f for f in findings.select("entropy", stage=stage) if f.estimate is not None)
    rows = []
    for reader in measured.values("reader"):
        for author in measured.values("author"):
            own = reader == author
            cells = [table.get((*condition, reader), {}).get(author) for condition in conditions]
            numbers = [Cell(number(f.estimate if f else None), "own" if own else "") for f in cells]
            rows.append([reader, Cell(f"{author}{' (own)' if own else ''}", "name"), *numbers])
    title = f"Entropy, nats, on {stage_label(stage)} texts; the readers of the stage, then their bases"
    return Grid(title, ["reader", "author", *map(_label, conditions)], rows, ["entropy"])


def _summary(findings: Findings, stages: Sequence[str]) -> Grid:
    rows = []
    for stage in stages:
        for condition in _conditions(findings):
            where = {"stage": stage, **condition._asdict()}
            ratio, inner = (findings.one(q, reader=MEAN, **where) for q in ("other_self_ratio", "interaction"))
            bases = number(mean_value(findings.select("base_reader_ratio", **where)))
            label = Cell(_label(condition), "name")
            rows.append([stage_label(stage), label, with_pvalue(ratio), bases, with_pvalue(inner)])
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
        shift = 0.16 * (i - (len(stages) - 1) / 2)
        for x, condition in enumerate(conditions):
            readers = measured.select("interaction", stage=stage, **condition._asdict())
            single = [f for f in readers if f.where["reader"] != MEAN]
            xs = [x + shift] * len(single)
            marks.append(points_of(xs, single, colour=colours[stage], size=3.4, faint=True, low=(), high=()))
        means = [measured.one("interaction", stage=stage, reader=MEAN, **c._asdict()) for c in conditions]
        xs = [x + shift for x in range(len(conditions))]
        marks.append(points_of(xs, means, colour=colours[stage], label=stage_label(stage)))
    names = [_label(c).replace(", ", ",\n").replace(" turn", "\nturn") for c in conditions]
    panel = Panel(
        marks,
        Axis(ticks=range(len(conditions)), names=names),
        Axis("interaction, log units"),
        legend=keys(marks),
        legend_columns=len(stages),
    )
    caption = (
        "Interaction (below 0: recognition) of the same texts in every role, with the question before them and without "
        "it; means over readers with 95 % intervals, faint points are single readers."
    )
    return Chart(caption, [[panel]], width=1.4 + 1.15 * len(conditions), height=3.2)
