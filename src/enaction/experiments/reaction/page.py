"""The page of the reaction: what the gap goes with, slopes beside their null, and a sentence for each stage."""

from __future__ import annotations

from collections.abc import Sequence

from enaction.chart import Axis, Chart, Colour, Mark, Panel, Rule, keys, points_of, single_readers
from enaction.findings import Finding, Findings
from enaction.page import Grid, Page, Section, Statement
from enaction.shown import contains, left_out, number, table, value, with_interval
from enaction.words import MEAN, in_training_order, models_of, stage_label

_SERIES: dict[str, tuple[str, Colour]] = {
    "surprisal": ("last surprisal", "red"),
    "log_odds": ("log-odds of authorship", "blue"),
    "author": ("whose text, all else equal", "ink"),
    "before": ("what was known before", "silver"),
    "token": ("which token", "orange"),
}
_COLUMNS = {
    "gap": "gap, nats",
    "share_surprisal": "share: surprisal",
    "share_log_odds": "share: log-odds",
    "share_author": "share: whose text",
    "share_authorship": "share: both of these",
    "share_before": "share: known before",
    "share_token": "share: which token",
    "slope_surprisal": "slope on surprisal",
    "slope_log_odds": "slope on log-odds",
    "slope_change_surprisal": "slope on surprisal, minus base",
    "slope_change_log_odds": "slope on log-odds, minus base",
    "unique_surprisal": "variance: surprisal alone",
    "unique_log_odds": "variance: log-odds alone",
    "overlap": "overlap of log-odds",
}
_NULLS = {
    "null_slope_surprisal": "slope on surprisal, shuffled",
    "null_slope_log_odds": "slope on log-odds, shuffled",
    "null_part_surprisal": "part of surprisal, shuffled, nats",
    "null_part_log_odds": "part of log-odds, shuffled, nats",
}
# Below this, own and foreign text have next to no log-odds in common, and what goes with them is the author's effect.
_LITTLE = 0.1


def page(findings: Findings, title: str, question: str) -> Page:
    """What the report shows of the reaction."""
    stages = in_training_order(findings.at(reader=MEAN).values("stage", "gap"))
    statements = [statement for stage in stages for statement in _verdict(findings.at(stage=stage, reader=MEAN), stage)]
    statements += left_out(findings, "Left out", "left_out")
    if not stages:
        return Page(title, question, statements)
    readers = sorted(findings.values("reader", "gap"), key=lambda name: name == MEAN)

    def order(stage: str, reader: str) -> tuple[int, int]:
        return stages.index(stage), readers.index(reader)

    grids = [
        table(findings, name, {"stage": "stage", "reader": "reader"}, columns, order=order)
        for name, columns in (("The gap and what it goes with", _COLUMNS), ("The null", _NULLS))
    ]
    text = (
        "Shares of the gap are of one regression and add up to 1. They say what goes with the entropy when the rest is "
        "held equal, and not what moves it: nothing was changed in a model."
    )
    sections = [Section(text=text, charts=["reaction"], grids=_with_room(grids))]
    return Page(title, question, statements, sections, {"reaction": _chart(findings, stages)})


def _with_room(grids: Sequence[Grid]) -> list[Grid]:
    return [grid for grid in grids if grid.rows]


def _verdict(mean: Findings, stage: str) -> list[Statement]:
    """What the entropy of a stage's models reacts to."""
    where = {"stage": stage}
    gap, difference = mean.one("gap"), mean.one("share_difference")
    surprisal, log_odds = (mean.one(f"slope_{block}") for block in ("surprisal", "log_odds"))
    if gap is None or surprisal is None or log_odds is None:
        return []
    slopes = f"One nat of surprisal goes with {with_interval(surprisal)} nats of entropy{_since(mean, 'surprisal')}"
    about = ("gap", "share_difference", "share_surprisal", "share_authorship", "slope_surprisal", "slope_log_odds")
    if difference is None:
        text = (
            f"foreign minus own text is {with_interval(gap)} nats of H, no gap to explain. {slopes}, one nat of "
            f"log-odds with {with_interval(log_odds)}."
        )
        return [Statement(text, about, where, "no effect", models_of(stage), outcome="no gap")]
    share = {block: with_interval(mean.one(f"share_{block}"), 2) for block in (*_SERIES, "authorship")}
    outcome, words = _outcome(mean, difference)
    overlap = mean.one("overlap")
    if overlap is not None and value(overlap) < _LITTLE:
        split = (
            f"Own and foreign text have {number(overlap.estimate, 2)} of their log-odds in common, too little to say "
            "how much of authorship is the evidence so far"
        )
    else:
        split = (
            f"Of authorship, {share['log_odds']} is the evidence so far and {share['author']} is left when all else is "
            f"equal; one nat of log-odds goes with {with_interval(log_odds)} nats of entropy"
            f"{_since(mean, 'log_odds')}"
        )
    text = (
        f"{words}. Of {with_interval(gap)} nats, a share of {share['surprisal']} goes with the last surprisal and "
        f"{share['authorship']} with authorship. {slopes}. {split}."
    )
    return [Statement(text, about, where, "effect", models_of(stage), outcome=outcome)]


def _since(mean: Findings, block: str) -> str:
    change = mean.one(f"slope_change_{block}")
    return f" ({with_interval(change)} more than at base)" if change else ""


def _outcome(mean: Findings, difference: Finding) -> tuple[str, str]:
    """Which of the two has the larger share of the gap, as a word and as words; observed, not caused."""
    for block, sign, words in (
        ("surprisal", 1, "the gap goes with surprisal more than with authorship"),
        ("authorship", -1, "the gap goes with authorship more than with surprisal"),
    ):
        share = mean.one(f"share_{block}")
        is_sure = share is not None and not any(contains(f, 0.0) for f in (difference, share))
        if share is not None and is_sure and value(share) > 0 and sign * value(difference) > 0:
            return block, words
    return "undecided", "surprisal and authorship are not told apart"


def _chart(findings: Findings, stages: Sequence[str]) -> Chart:
    """Parts of the gap, and slopes, from stage to stage."""
    x = Axis(ticks=range(len(stages)), names=[stage_label(stage) for stage in stages])
    panels = [
        Panel([Rule("y", 0.0), *_marks(findings, stages, "part", [*_SERIES])], x, Axis("nats"), "Parts of the gap"),
        Panel(
            [Rule("y", 0.0), *_marks(findings, stages, "slope", [*_SERIES][:2])], x, Axis("nats per nat"), "Slope of H"
        ),
    ]
    caption = (
        "What the gap in H between foreign and own text goes with, and slopes of H, means over readers with 95 % "
        "intervals; faint: single readers; crosses: shuffled among tokens of equal surprisal, or equal log-odds."
    )
    return Chart(caption, [panels], width=10.2, height=3.4, legend=keys(panels[0].marks))


def _marks(findings: Findings, stages: Sequence[str], quantity: str, blocks: Sequence[str]) -> list[Mark]:
    marks: list[Mark] = []
    for i, block in enumerate(blocks):
        label, colour = _SERIES[block]
        at = [x + 0.12 * (i - (len(blocks) - 1) / 2) for x in range(len(stages))]
        name = f"{quantity}_{block}"
        means = [findings.one(name, stage=stage, reader=MEAN) for stage in stages]
        marks.append(points_of(at, means, colour=colour, label=label))
        each = [findings.select(name, stage=stage) for stage in stages]
        marks.append(single_readers(at, each, colour=colour))
        if block in ("surprisal", "log_odds"):
            null = [findings.one(f"null_{name}", stage=stage, reader=MEAN) for stage in stages]
            marks.append(points_of([x + 0.05 for x in at], null, colour=colour, marker="cross", size=4.0))
    return marks
