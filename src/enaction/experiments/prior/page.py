"""The page of own prior outputs: position inside one response, and earlier turns."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from enaction.chart import (
    Axis,
    Chart,
    Colour,
    Panel,
    Points,
    Rule,
    curve_of,
    keys,
    points_of,
    stage_colours,
    stage_panels,
)
from enaction.experiments.prior.earlier import ARMS, PICKS
from enaction.findings import Finding, Findings
from enaction.page import Cell, Grid, Page, Section, Statement
from enaction.shown import left_out, number, sentence, stated, verdict_words, with_pvalue
from enaction.words import MEAN, in_training_order, last_stage, models_of, ordered, stage_label

# Which turn is measured -> its colour, and how far beside its tick.
_TURNS: dict[str, tuple[Colour, float]] = {"own": ("blue", -0.08), "foreign": ("red", 0.08)}


def page(title: str, question: str, findings: Findings) -> Page:
    """What the report shows of own prior outputs."""
    stages = in_training_order(findings.values("stage"))
    curves = {stage: points for stage in stages if len(points := _points(findings, stage)) > 1}
    answered = in_training_order(findings.select("amplification").values("stage"))
    charts = {"prior-position": _positions(curves)} if curves else {}
    if answered:
        charts["prior-earlier"] = _earlier(findings, answered)
    grids = [_arms(findings, stages), *([_spans(findings, stages)] if findings.select("gap_at_position") else [])]
    ends = ordered([stage for stage in (last_stage(stages), *stages[:1]) if stage is not None], ())
    statements = [s for stage in ends for s in [*_along(findings, stage), *_following(findings, stage)]]
    return Page(title, question, statements, [Section(charts=list(charts), grids=grids)], charts)


def _points(findings: Findings, stage: str) -> list[Finding]:
    """Bins after the first token, which is predicted from the prompt alone."""
    bins = findings.select("interaction_at_position", stage=stage, reader=MEAN, span="bin")
    return sorted((f for f in bins.measured if f.where["from"] > 0), key=lambda f: f.where["from"])


def _middle(bin_: Finding) -> float:
    return (bin_.where["from"] * (bin_.where["to"] - 1)) ** 0.5


def _span(finding: Finding) -> str:
    start, stop = finding.where["from"], finding.where["to"]
    return f"tokens {start} to {stop - 1}" if finding.where["span"] == "bin" else f"first {stop}"


def _along(findings: Findings, stage: str) -> list[Statement]:
    at = {"stage": stage, "reader": MEAN}
    trend, points = findings.one("position_trend", **at), _points(findings, stage)
    if trend is None or not points:
        return []
    words = verdict_words(trend, below="recognition grows", above="recognition shrinks", none="no trend")
    text = (
        f"interaction at {_span(points[0])}: {{1}}; at {_span(points[-1])}: {{2}}; slope {{0}} log units a doubling of "
        f"the position ({words})."
    )
    return sentence(f"{models_of(stage)}, (a) along one response", text, at, trend, points[0], points[-1])


def _following(findings: Findings, stage: str) -> list[Statement]:
    """Earlier turns, the measured turn fixed."""
    who, at = models_of(stage), {"stage": stage, "reader": MEAN}
    statements = left_out(findings, who, "earlier_effect", stage=stage)
    subject = f"{who}, (b) earlier turns"
    for measured in PICKS:
        text = (
            f"following an own instead of a foreign earlier turn, the entropy of the same {measured} turn changes by "
            "{} nats; interaction {} log units (p: authors of the earlier turn shuffled)."
        )
        statements += stated(findings, subject, text, "earlier_effect", "earlier_interaction", measured=measured, **at)
    difference, beyond = (findings.one(q, **at) for q in ("continuity_difference", "amplification_beyond_continuity"))
    text = (
        "two turns of one author instead of two change log entropy by {1} if the author is the reader and by {2} if "
        "not; difference {0}."
    )
    each = [findings.one("continuity", measured=measured, **at) for measured in PICKS]
    statements += sentence(subject, text, at, difference, *each)
    text = (
        "log other/self ratio of measured turns by earlier turn: own {1}, foreign {2}, no {3}; own minus foreign {0} "
        f"(above 0: amplified){', beyond continuity {4}' if beyond else ''}."
    )
    gaps = [findings.one("gap_behind", earlier=arm, **at) for arm in ARMS]
    about = [findings.one("amplification", **at), *gaps, *([beyond] if beyond else [])]
    return statements + sentence(subject, text, at, *about)


def _arms(findings: Findings, stages: Sequence[str]) -> Grid:
    arms, rows = list(itertools.product(PICKS, ARMS)), []
    for stage in stages:
        readers = findings.select("amplification", stage=stage).values("reader")
        for reader in sorted(readers, key=lambda r: r != MEAN):
            here = findings.at(stage=stage, reader=reader)
            entropies = [here.one("earlier_entropy", measured=m, earlier=e) for m, e in arms]
            tested = [*(here.one("earlier_effect", measured=m) for m in PICKS), here.one("amplification")]
            cells = [*(number(f and f.estimate) for f in entropies), *map(with_pvalue, tested)]
            rows.append([stage_label(stage), Cell(reader, "name"), *cells])
    columns = [*(f"{m} turn, {e} before" for m, e in arms), *(f"effect on {m}" for m in PICKS)]
    header = ["stage", Cell("reader", "name"), *columns, "amplification, log units"]
    about = ["earlier_entropy", "earlier_effect", "amplification"]
    return Grid("Entropy of the measured turn by the author of the earlier one, nats", header, rows, about)


def _spans(findings: Findings, stages: Sequence[str]) -> Grid:
    about, rows = ["gap_at_position", "interaction_at_position"], []
    for stage in stages:
        for row in findings.pivot(about, ("span", "from", "to"), stage=stage, reader=MEAN).values():
            span = row["interaction_at_position"]
            cells = [*(with_pvalue(row.get(q)) for q in about), str(span.n)]
            rows.append([stage_label(stage), Cell(_span(span), "name"), *cells])
    header = ["stage", Cell("positions", "name"), "own minus others, nats", "interaction, log units", "prompts"]
    return Grid("Along one response, means over readers", header, rows, about)


def _positions(curves: dict[str, list[Finding]]) -> Chart:
    """Interaction over the position, a colour for each stage."""
    colours = stage_colours(list(curves))
    lines = [
        curve_of(points, _middle, colour=colours[stage], label=stage_label(stage)) for stage, points in curves.items()
    ]
    x = Axis("position in the response, tokens (0 is the first)", scale="log2")
    panel = Panel([Rule("y", 0), *lines], x, Axis("interaction, log units"), legend=keys(lines))
    caption = (
        "Interaction (below 0: recognition) in bins of positions inside one response, where all texts of a prompt have "
        "these positions; means over readers with 95 % intervals."
    )
    return Chart(caption, [[panel]], width=4.6, height=3.1)


def _earlier(findings: Findings, stages: Sequence[str]) -> Chart:
    """Entropy of the measured turn in each arm, a panel for each stage."""

    def turn(stage: str, measured: str, colour: Colour, shift: float) -> Points:
        here = findings.at(stage=stage, reader=MEAN, measured=measured)
        arms = [here.one("earlier_entropy", earlier=arm) for arm in ARMS]
        return points_of([x + shift for x in range(len(ARMS))], arms, colour=colour, label=f"{measured} turn")

    marks = {stage: [turn(stage, measured, *look) for measured, look in _TURNS.items()] for stage in stages}
    x = Axis("earlier turn", range(len(ARMS)), ARMS, low=-0.5, high=2.5)
    panels = stage_panels(marks, x, "entropy of the measured turn, nats", keys(marks[stages[0]]))
    caption = (
        "Entropy of the same measured turn following an own earlier turn, a foreign one, and none; means over readers "
        "with 95 % intervals."
    )
    return Chart(caption, [panels], width=0.9 + 2.0 * len(stages), height=3.0, share_y="all")
