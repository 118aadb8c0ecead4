"""The page of the reaction: what the gap goes with, slopes beside their null, and a sentence for each stage."""

from __future__ import annotations

from collections.abc import Sequence

from enaction.chart import Axis, Chart, Colour, Mark, Panel, Rule, keys, points_of, single_readers
from enaction.experiments.reaction.analysis import OPPOSITE
from enaction.findings import Findings
from enaction.page import Page, Section, Statement
from enaction.shown import contains, left_out, number, table, value, with_interval
from enaction.words import MEAN, in_training_order, models_of, stage_label

_SERIES: dict[str, tuple[str, Colour]] = {
    "surprisal": ("last surprisal", "red"),
    "authorship": ("authorship", "blue"),
    "before": ("what was known before", "silver"),
    "token": ("which token and prompt", "orange"),
    "log_odds": ("log-odds of authorship", "blue"),
}
_ENTROPY = {"held": "held equal", "free": "free"}
_OUTCOMES = {
    "surprisal": "the gap goes with the last surprisal more than with authorship",
    "authorship": "the gap goes with authorship, or with surprise over more tokens than the last few, more than with "
    "the last surprisal",
    "undecided": "whether the gap goes with surprisal or with authorship is not identified",
}
_SHARES = {
    "gap": "gap, nats",
    "share_surprisal": "last surprisal",
    "share_authorship": "authorship",
    "share_log_odds": "of it log-odds",
    "share_author": "of it whose text",
    "share_before": "known before",
    "share_token": "token and prompt",
    "overlap": "overlap of log-odds",
}
_SLOPES = {
    "slope_surprisal": "on surprisal",
    "slope_log_odds": "on log-odds",
    "slope_change_surprisal": "on surprisal, minus base",
    "slope_change_log_odds": "on log-odds, minus base",
}
_NULLS = {
    "null_slope_surprisal": "slope on surprisal, shuffled",
    "null_slope_log_odds": "slope on log-odds, shuffled",
    "null_part_surprisal": "part of surprisal, shuffled, nats",
    "null_part_log_odds": "part of log-odds, shuffled, nats",
}


def page(findings: Findings, title: str, question: str) -> Page:
    """What the report shows of the reaction."""
    stages = in_training_order(findings.at(reader=MEAN).values("stage", "gap"))
    statements = [statement for stage in stages for statement in _verdict(findings.at(stage=stage, reader=MEAN), stage)]
    statements += left_out(findings, "Left out", "left_out")
    if not stages:
        return Page(title, question, statements)
    readers = sorted(findings.values("reader", "gap"), key=lambda name: name == MEAN)

    def order(stage: str, reader: str, entropy: str) -> tuple[int, int, int]:
        return stages.index(stage), readers.index(reader), list(_ENTROPY).index(entropy)

    rows, labels = {"stage": "stage", "reader": "reader", "entropy": "H_t"}, {"entropy": lambda at: _ENTROPY[at]}
    grids = [
        table(findings, name, rows, columns, order=order, labels=labels)
        for name, columns in (("The gap and what it goes with", _SHARES), ("Slopes", _SLOPES), ("The null", _NULLS))
    ]
    text = (
        "Shares of the gap are of one regression and add up to 1. They say what goes with the entropy when the rest is "
        "held equal, and not what moves it: nothing was changed in a model. H_t is what the model expected before the "
        "newest token. Held equal, it takes along what merely continues, and the reaction to all that came before. So "
        "the regression is run with it and without it, and a verdict has to come out of both."
    )
    sections = [Section(text=text, charts=["reaction"], grids=grids)]
    return Page(title, question, statements, sections, {"reaction": _chart(findings, stages)})


def _verdict(mean: Findings, stage: str) -> list[Statement]:
    """What the entropy of a stage's models goes with."""
    where = {"stage": stage}
    held, free = (mean.at(entropy=entropy) for entropy in _ENTROPY)
    gap, difference = held.one("gap"), held.one("share_difference")
    surprisal, log_odds = (held.one(f"slope_{block}") for block in ("surprisal", "log_odds"))
    if gap is None or surprisal is None or log_odds is None:
        return []
    slopes = (
        f"With H_t held equal, one nat of surprisal goes with {with_interval(surprisal)} nats of entropy"
        f"{_since(held, 'surprisal')}, and one nat of log-odds with {with_interval(log_odds)}{_since(held, 'log_odds')}"
    )
    about = ("gap", "share_difference", "share_surprisal", "share_authorship", "slope_surprisal", "slope_log_odds")
    if difference is None:
        share = held.select("share_surprisal")[0]
        outcome = "opposite gaps" if share.left_out == OPPOSITE else "no gap"
        why = OPPOSITE if outcome == "opposite gaps" else "no gap to explain"
        text = f"foreign minus own text is {with_interval(gap)} nats of H, {why}. {slopes}."
        verdict = "no effect" if outcome == "no gap" else ""
        return [Statement(text, about, where, verdict, models_of(stage), outcome=outcome)]
    outcomes = [_outcome(of) for of in (held, free)]
    outcome = outcomes[0] if outcomes[0] == outcomes[1] else "undecided"
    first, second = (
        " and ".join(
            f"{with_interval(of.one(f'share_{block}'), 2)} {_SERIES[block][0]}" for block in ("surprisal", "authorship")
        )
        for of in (held, free)
    )
    overlap, split = held.one("overlap"), held.one("share_log_odds")
    little = (
        f" Own and foreign text have {number(overlap.estimate, 2)} of their log-odds in common, too little to say how "
        "much of authorship is the evidence so far."
        if overlap and split is None
        else ""
    )
    text = (
        f"{_OUTCOMES[outcome]}. The gap is {with_interval(gap)} nats. Its shares are {first}; with H_t left free, "
        f"{second}. {slopes}.{little}"
    )
    return [Statement(text, about, where, "effect", models_of(stage), outcome=outcome)]


def _outcome(mean: Findings) -> str:
    """Which of the two has the larger share of the gap; neither if the two may be equal, or the share 0."""
    difference = mean.one("share_difference")
    for block, sign in (("surprisal", 1), ("authorship", -1)):
        share = mean.one(f"share_{block}")
        if share is None or difference is None or any(contains(f, 0.0) for f in (difference, share)):
            continue
        if value(share) > 0 and sign * value(difference) > 0:
            return block
    return "undecided"


def _since(mean: Findings, block: str) -> str:
    change = mean.one(f"slope_change_{block}")
    return f" ({with_interval(change)} more than at base)" if change else ""


def _chart(findings: Findings, stages: Sequence[str]) -> Chart:
    """Parts of the gap with H_t held equal and free, and slopes, from stage to stage."""
    x = Axis(ticks=range(len(stages)), names=[stage_label(stage) for stage in stages])
    held, free = (findings.at(entropy=entropy) for entropy in _ENTROPY)
    shown = (
        (held, "part", [*_SERIES][:4], "nats", "Parts of the gap, H_t held equal"),
        (free, "part", [*_SERIES][:4], "", "Parts of the gap, H_t free"),
        (held, "slope", ["surprisal", "log_odds"], "nats per nat", "Slope of H, H_t held equal"),
    )
    panels = [
        Panel([Rule("y", 0.0), *_marks(of, stages, quantity, blocks)], x, Axis(unit), title)
        for of, quantity, blocks, unit, title in shown
    ]
    caption = (
        "What the gap in H between foreign and own text goes with, and slopes of H, means over readers with 95 % "
        "intervals; faint: single readers; crosses: shuffled among tokens of equal surprisal, or equal log-odds."
    )
    return Chart(caption, [panels], width=11.0, height=3.4, legend=keys(panels[0].marks))


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
