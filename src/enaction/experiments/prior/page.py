"""The page of own prior outputs: position inside one response, and earlier turns."""

from __future__ import annotations

from collections.abc import Sequence

from enaction.chart import Axis, Chart, Colour, Panel, Rule, curve_of, keys, points_of, stage_colours
from enaction.experiments.prior.earlier import ARMS, PICKS
from enaction.findings import Finding, Findings
from enaction.page import Cell, Grid, Page, Section, Statement
from enaction.shown import left_out, number, stated, verdict_of, verdict_words, with_interval, with_pvalue
from enaction.words import MEAN, in_training_order, models_of, stage_label

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
    ends = dict.fromkeys([*stages[-1:], *stages[:1]])
    statements = [s for stage in ends for s in [*_along(findings, stage), *_following(findings, stage)]]
    return Page(title, question, statements, [Section(charts=list(charts), grids=grids)], charts)


def _points(findings: Findings, stage: str) -> list[Finding]:
    """Bins after the first token, which is predicted from the prompt alone."""
    bins = findings.select("interaction_at_position", stage=stage, reader=MEAN, span="bin")
    return sorted((f for f in bins if f.where["from"] > 0 and f.estimate is not None), key=lambda f: f.where["from"])


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
    first, last = (f"{_span(f)}: {with_pvalue(f)}" for f in (points[0], points[-1]))
    words = verdict_words(trend, below="recognition grows", above="recognition shrinks", none="no trend")
    text = (
        f"interaction at {first}; at {last}; slope {with_pvalue(trend)} log units a doubling of the position ({words})."
    )
    about = ("position_trend", "interaction_at_position")
    return [Statement(text, about, at, verdict_of(trend), f"{models_of(stage)}, (a) along one response")]


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
    own, foreign = (findings.one("continuity", measured=m, **at) for m in PICKS)
    difference = findings.one("continuity_difference", **at)
    if own and foreign and difference:
        text = (
            f"two turns of one author instead of two change log entropy by {with_interval(own)} if the author is the "
            f"reader and by {with_interval(foreign)} if not; difference {with_pvalue(difference)}."
        )
        about = ("continuity_difference", "continuity")
        statements.append(Statement(text, about, at, verdict_of(difference), subject))
    if amplification := findings.one("amplification", **at):
        beyond = findings.one("amplification_beyond_continuity", **at)
        gaps = {arm: with_pvalue(findings.one("gap_behind", earlier=arm, **at)) for arm in ARMS}
        text = (
            f"log other/self ratio of measured turns by earlier turn: own {gaps['own']}, foreign {gaps['foreign']}, no "
            f"{gaps['none']}; own minus foreign {with_pvalue(amplification)} (above 0: amplified)"
            + (f", beyond continuity {with_pvalue(beyond)}." if beyond else ".")
        )
        about = ("amplification", "amplification_beyond_continuity", "gap_behind")
        statements.append(Statement(text, about, at, verdict_of(amplification), subject))
    return statements


def _arms(findings: Findings, stages: Sequence[str]) -> Grid:
    pairs = [{"measured": m, "earlier": e} for m in PICKS for e in ARMS]
    rows = []
    for stage in stages:
        readers = findings.select("amplification", stage=stage).values("reader")
        for reader in sorted(readers, key=lambda r: r != MEAN):
            at = {"stage": stage, "reader": reader}
            arms = [findings.one("earlier_entropy", **pair, **at) for pair in pairs]
            effects = [findings.one("earlier_effect", measured=m, **at) for m in PICKS]
            tested = [with_pvalue(f) for f in [*effects, findings.one("amplification", **at)]]
            cells = [*(number(f and f.estimate) for f in arms), *tested]
            rows.append([stage_label(stage), Cell(str(reader), "name"), *cells])
    header = [
        "stage", Cell("reader", "name"), *(f"{p['measured']} turn, {p['earlier']} before" for p in pairs),
        "effect on own", "effect on foreign", "amplification, log units",
    ]  # fmt: skip
    about = ["earlier_entropy", "earlier_effect", "amplification"]
    return Grid("Entropy of the measured turn by the author of the earlier one, nats", header, rows, about)


def _spans(findings: Findings, stages: Sequence[str]) -> Grid:
    about = ["gap_at_position", "interaction_at_position"]
    rows = []
    for stage in stages:
        table = findings.pivot(about, ("span", "from", "to"), stage=stage, reader=MEAN)
        for row in table.values():
            interaction = row["interaction_at_position"]
            span = Cell(_span(interaction), "name")
            rows.append([stage_label(stage), span, *(with_pvalue(row.get(q)) for q in about), str(interaction.n)])
    header = [
        "stage", Cell("positions", "name"), "own minus others, nats", "interaction, log units", "prompts",
    ]  # fmt: skip
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
    panels = []
    for stage in stages:
        marks = [
            points_of(
                [x + shift for x in range(len(ARMS))],
                [
                    findings.one("earlier_entropy", stage=stage, reader=MEAN, measured=measured, earlier=arm)
                    for arm in ARMS
                ],
                colour=colour,
                label=f"{measured} turn",
            )
            for measured, (colour, shift) in _TURNS.items()
        ]
        x = Axis("earlier turn", range(len(ARMS)), ARMS, low=-0.5, high=2.5)
        y = Axis("" if panels else "entropy of the measured turn, nats")
        panels.append(Panel(marks, x, y, stage_label(stage), legend=() if panels else keys(marks)))
    caption = (
        "Entropy of the same measured turn following an own earlier turn, a foreign one, and none; means over readers "
        "with 95 % intervals."
    )
    return Chart(caption, [panels], width=0.9 + 2.0 * len(stages), height=3.0, share_y="all")
