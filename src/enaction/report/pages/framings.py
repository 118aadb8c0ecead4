"""The page of the framings: is it chat formatting or authorship?"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure

from enaction.findings import Finding, select
from enaction.report.arrange import (
    FRAMINGS,
    framing_label,
    models_of,
    number,
    ordered,
    stage_label,
    value,
    with_interval,
)
from enaction.report.figures import SETTINGS
from enaction.report.pages import Grid, Page
from enaction.report.pages.telling import COLOURS, MEAN, one, stages_of, told

_QUESTIONS = {"kept": "", "dropped": ", no question"}
_AS = {"assistant": "as assistant turn", "user": "as user turn", "none": "without template"}


def page(findings: Sequence[Finding]) -> Page:
    """What the report says of the framings."""
    stages = stages_of(findings)
    shown = list(dict.fromkeys([*stages[-1:], *stages[:1]]))
    figure = interactions(findings)
    caption = (
        "Interaction (below 0: recognition) of the same texts in every role, with the question before them and without "
        "it; means over readers with 95 % intervals, faint points are single readers."
    )
    return Page(
        title="Framings",
        question="Is it chat formatting or authorship: is own text lowest in every role, and does recognition depend "
        "on the role that byte-identical text stands in?",
        sentences=[s for stage in shown for s in _sentences(findings, stage)],
        grids=[*(_entropies(findings, stage) for stage in shown), _summary(findings, stages)],
        figures={"framings": (figure, caption)} if figure is not None else {},
    )


def _conditions(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    there = [f for f in findings if f.quantity in ("entropy", "interaction")]
    framings = ordered((str(f.where["framing"]) for f in there), FRAMINGS)
    questions = ordered((str(f.where["question"]) for f in there), tuple(_QUESTIONS))
    return [(f, q) for q in questions for f in framings]


def _label(condition: tuple[str, str]) -> str:
    return framing_label(condition[0]) + _QUESTIONS[condition[1]]


def _sentences(findings: Sequence[Finding], stage: str) -> list[str]:
    sentences, who = [], models_of(stage)
    conditions = _conditions(findings)
    shares = {c: one(findings, "lowest_share", stage=stage, framing=c[0], question=c[1]) for c in conditions}
    if any(shares.values()):
        each = "; ".join(f"{_label(c)} {number(100 * value(f), 0)} %" for c, f in shares.items() if f is not None)
        margins = [
            one(findings, "lowest_margin", reader=MEAN, stage=stage, framing=f, question=q) for f, q in conditions
        ]
        smallest = min((m for m in margins if m is not None), key=value, default=None)
        sentences.append(
            f"{who}: share of readers with the least entropy on their own text: {each}. The margin to the next author "
            f"is smallest at {told(smallest)} nats (mean over readers; p: authors shuffled)."
        )
    for question in _QUESTIONS:
        for first, second in (("assistant", "user"), ("assistant", "none")):
            where = {"stage": stage, "reader": MEAN, "question": question, "minus_question": question}
            found = one(findings, "interaction_difference", framing=first, minus_framing=second, **where)
            if found is None:
                continue
            sentences.append(
                f"{who}: {_AS[first]}{_QUESTIONS[question]}, the interaction of the same texts differs "
                f"from that {_AS[second]} by {told(found)} log units (below 0: more recognition; p: "
                "framings swapped within prompts)."
            )
    where = {"stage": stage, "reader": MEAN, "framing": "assistant", "minus_framing": "user", "question": "kept"}
    own, foreign = (one(findings, q, minus_question="kept", **where) for q in ("own_change", "foreign_change"))
    if own is not None and foreign is not None:
        sentences.append(
            f"{who}: the assistant turn instead of the user turn changes log entropy by {with_interval(own)} on own "
            f"and by {with_interval(foreign)} on foreign text."
        )
    for framing, question in conditions:
        where = {"stage": stage, "reader": MEAN, "minus_framing": framing, "minus_question": "dropped"}
        found = one(findings, "interaction_difference", framing=framing, question="kept", **where)
        if question == "kept" and found is not None:
            sentences.append(
                f"{who}, {framing_label(framing)}: with the question the interaction differs from that without by "
                f"{told(found)} log units."
            )
    return sentences


def _entropies(findings: Sequence[Finding], stage: str) -> Grid:
    """The paper's table: author by framing, for each reader of the stage and each base."""
    conditions = _conditions(findings)
    there = [f for f in select(findings, "entropy", stage=stage) if f.estimate is not None]
    readers = list(dict.fromkeys(str(f.where["reader"]) for f in there))
    authors = list(dict.fromkeys(str(f.where["author"]) for f in there))
    rows = []
    for reader in readers:
        for author in authors:
            cells = [one(there, "entropy", reader=reader, author=author, framing=f, question=q) for f, q in conditions]
            own = " (own)" if reader == author else ""
            rows.append([reader, f"{author}{own}", *(number(f.estimate) if f else "–" for f in cells)])
    title = f"Entropy, nats, on {stage_label(stage)} texts; the readers of the stage, then their bases"
    return Grid(title, ["reader", "author", *map(_label, conditions)], rows)


def _summary(findings: Sequence[Finding], stages: Sequence[str]) -> Grid:
    rows = []
    for stage in stages:
        for framing, question in _conditions(findings):
            where = {"stage": stage, "framing": framing, "question": question}
            ratio, inter = (one(findings, q, reader=MEAN, **where) for q in ("other_self_ratio", "interaction"))
            bases = [value(f) for f in select(findings, "base_reader_ratio", **where)]
            base = number(sum(bases) / len(bases)) if bases else "–"
            rows.append([stage_label(stage), _label((framing, question)), told(ratio), base, told(inter)])
    header = ["stage", "framing", "other/self ratio", "the same by the bases", "interaction, log units"]
    return Grid("Means over readers", header, rows)


@matplotlib.rc_context(SETTINGS)
def interactions(findings: Sequence[Finding]) -> Figure | None:
    """Interaction in each condition, a colour a stage."""
    conditions = [c for c in _conditions(findings) if select(findings, "interaction", framing=c[0], question=c[1])]
    stages = stages_of(select(findings, "interaction"))
    if not conditions:
        return None
    figure = Figure(figsize=(1.4 + 1.15 * len(conditions), 3.2), layout="constrained")
    ax = figure.subplots()
    for i, stage in enumerate(stages):
        colour = COLOURS[-3] if stage == stages[-1] else COLOURS[i]
        for x, (framing, question) in enumerate(conditions):
            at = x + 0.16 * (i - (len(stages) - 1) / 2)
            found = select(findings, "interaction", stage=stage, framing=framing, question=question)
            for f in found:
                if f.where["reader"] != MEAN:
                    ax.plot(at, value(f), "o", color=colour, alpha=0.35, markersize=3.4, markeredgewidth=0)
                    continue
                if f.low is not None and f.high is not None:
                    ax.plot([at, at], [f.low, f.high], color=colour, linewidth=1.4)
                ax.plot(at, value(f), "o", color=colour, markersize=5, label=stage_label(stage) if x == 0 else "")
    ax.axhline(0, color="#777777", linewidth=0.8, zorder=1)
    ax.set_xticks(
        range(len(conditions)), [_label(c).replace(", ", ",\n").replace(" turn", "\nturn") for c in conditions]
    )
    ax.set_ylabel("interaction, log units")
    ax.legend(loc="best", ncols=len(stages))
    return figure
