"""The page of `controls`: one line for each thing that a critic says, and whether recognition survives it."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from enaction.findings import Finding, permutation_pvalue, select
from enaction.report.arrange import MEAN, framing_label, number, stage_label, value, with_interval
from enaction.report.figures import _BLUE, _ORANGE, _RED, GREY, SETTINGS
from enaction.report.pages import Grid, Page

ENOUGH = 0.5
RULE = (
    f"Rule: survives, if the interval lies above 0 and at least {ENOUGH:.0%} of recognition without the arm is left; "
    f"weakened, if it lies above 0 and less is left; gone, if it contains 0; reversed, if it lies below."
)
# Arm -> what a critic says; those that are themselves nulls have a line of another kind below.
CRITIC = {
    "reference": "no change: the matrix itself",
    "sampling, all authors": "it is an effect of the temperature at which texts were written",
    "sampling, own text only": "own text is only the one that was sampled as the reader would",
    "kin": "any text from a nearly identical model would do",
    "people or the world": "models' text is odd; against text that no model wrote nothing is left",
    "memorised": "it is familiarity: what is known by heart is read with as little entropy",
    "equal difficulty": "own text is easier for everybody",
    "easy half": "it is there on easy text only",
    "difficult half": "it is there on difficult text only",
    "length": "texts differ in length, and late tokens are easier",
    "off topic, all authors": "readers recognise that the text answers the prompt",
    "off topic, foreign text only": "foreign text differs in topic",
    "off topic, own text only": "own text is recognised by its topic",
    "one word for synonyms": "it is a taste for certain words",
    "shuffled words": "it needs no trajectory: the words alone would do",
}
NULLS = {
    "itself again": "a reader's own second sample in place of foreign text: nothing may be left",
    "equal difficulty, another author for own": "a stranger taken for the author: nothing may be left",
}


def page(findings: Sequence[Finding]) -> Page:
    """The page, from this experiment's findings."""
    arms = _arms(findings)
    place = arms[0].where if arms else {}
    of = f"{stage_label(str(place.get('stage') or ''))} models, {framing_label(str(place.get('framing') or ''))}"
    figure = _forest(findings, arms)
    distances = _distances(findings)
    return Page(
        title="What a critic demands",
        question="Is it recognition of own text, or temperature, kinship, familiarity, difficulty, topic or words?",
        sentences=[*(_sentence(findings, f) for f in arms), *_familiar(findings)],
        grids=[Grid(f"Does recognition survive? {of}. {RULE}", _HEADER, [_row(findings, f) for f in arms]), *distances],
        figures={
            "controls": (figure, f"Recognition left in each arm with 95 % interval, {of}; mean over readers. {RULE}")
        },
    )


_HEADER = ["arm", "a critic says", "recognition, log units", "share of that without it", "p", "verdict"]


def verdict(arm: Finding, share: Finding | None) -> str:
    """By the rule of the page; for an arm that is a null, whether it is one."""
    if arm.low is None or arm.high is None:
        return "left out"
    if arm.where["arm"] in NULLS:
        return "nothing left, as it must be" if arm.low <= 0 else "something left: take it off the arm"
    if arm.high < 0:
        return "reversed"
    if arm.low <= 0:
        return "gone"
    if arm.where["arm"] == "reference":
        return "there"
    left = share.estimate if share else None
    return "survives" if left is None or left >= ENOUGH else "weakened"


def _arms(findings: Sequence[Finding]) -> list[Finding]:
    return select(findings, "arm_recognition", reader=MEAN)


def _share(findings: Sequence[Finding], arm: Finding) -> Finding | None:
    found = [f for f in select(findings, "arm_share", arm=arm.where["arm"]) if f.where == arm.where]
    return found[0] if found else None


def _label(arm: Finding) -> str:
    setting = arm.where.get("setting")
    return f"{arm.where['arm']}: {setting}" if setting else str(arm.where["arm"])


def _critic(arm: Finding) -> str:
    name = str(arm.where["arm"])
    return CRITIC.get(name) or NULLS.get(name, "")


def _left(findings: Sequence[Finding], arm: Finding) -> str:
    share = _share(findings, arm)
    return with_interval(share, 2) if share and share.estimate is not None and arm.where["arm"] != "reference" else "–"


def _row(findings: Sequence[Finding], arm: Finding) -> list[str]:
    said = with_interval(arm) if arm.estimate is not None else arm.definition
    p = permutation_pvalue(arm) or "–"
    return [_label(arm), _critic(arm), said, _left(findings, arm), p, verdict(arm, _share(findings, arm))]


def _sentence(findings: Sequence[Finding], arm: Finding) -> str:
    if arm.estimate is None:
        return f"{_label(arm)}: {arm.definition}."
    left = _left(findings, arm)
    beside = "" if left == "–" else f", {left} of what is there without it"
    outcome = verdict(arm, _share(findings, arm))
    if arm.where["arm"] == "shuffled words" and outcome == "weakened":
        outcome = "weakened, as it must be; what is left is in the words"
    for off in select(findings, "off_support", arm=arm.where["arm"]):
        beside += f", {off.estimate or 0:.0%} of passages without a counterpart"
    return f"{_label(arm)}: {outcome}: recognition {with_interval(arm)} log units{beside} ({_critic(arm)})."


def _familiar(findings: Sequence[Finding]) -> list[str]:
    return [
        f"memorised, entropy: text known by heart goes {with_interval(f, 2)} of the way from strangers' to own text, "
        "though nobody here wrote it: low entropy alone says familiar, not own."
        for f in select(findings, "familiar_share")
    ]


def _distances(findings: Sequence[Finding]) -> list[Grid]:
    """Kinship: how far a text is in the reader's own eyes, and what is recognised against it."""
    rows = []
    for f in select(findings, "surprisal_distance"):
        entropy = select(findings, "text_entropy", reader=f.where["reader"], text=f.where["text"])
        against = [
            a
            for a in select(findings, "arm_recognition", reader=f.where["reader"])
            if a.where.get("setting") == f.where["text"]
            or (a.where["arm"] == "itself again" and f.where["text"] == f"{f.where['reader']}.again")
            or (a.where["arm"] == "memorised" and f.where["text"] == "memorised")
        ]
        rows.append(
            [
                str(f.where["reader"]),
                str(f.where["text"]),
                with_interval(f),
                with_interval(entropy[0]) if entropy else "–",
                with_interval(against[0]) if against else "–",
            ]
        )
    title = "How far a text is from the reader's own, in its own eyes, nats"
    header = ["reader", "text", "surprisal beyond own", "entropy", "recognition of own against it"]
    return [Grid(title, header, rows)] if rows else []


@matplotlib.rc_context(SETTINGS)
def _forest(findings: Sequence[Finding], arms: list[Finding]) -> Figure:
    """A line an arm: interval of the mean, faint points of single readers, dashed the reference."""
    shown = [f for f in arms if f.estimate is not None]
    figure = Figure(figsize=(7.4, 1.0 + 0.25 * len(shown)), layout="constrained")
    ax = figure.subplots()
    colours = {"survives": _BLUE, "there": _BLUE, "weakened": _ORANGE, "gone": _RED, "reversed": _RED}
    for y, f in enumerate(shown):
        outcome = verdict(f, _share(findings, f))
        colour = colours.get(outcome, GREY)
        readers = [
            r
            for r in select(findings, "arm_recognition", arm=f.where["arm"], setting=f.where.get("setting"))
            if r.where["reader"] != MEAN
        ]
        ax.plot([value(r) for r in readers], [y] * len(readers), "o", color=colour, alpha=0.35, markersize=3.2)
        if f.low is not None and f.high is not None:
            ax.plot([f.low, f.high], [y, y], color=colour)
        ax.plot(value(f), y, "D", color=colour, markersize=4.5)
        ax.annotate(
            outcome.partition(":")[0],
            (1.01, y),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
            color=colour,
        )
    ax.axvline(0, color="#444444", linewidth=0.8)
    reference = next((f for f in shown if f.where["arm"] == "reference"), None)
    if reference is not None:
        ax.axvline(value(reference), color="#444444", linestyle=(0, (4, 3)), linewidth=0.9)
        ax.set_xlabel(f"recognition left, log units (dashed: the matrix itself, {number(reference.estimate, 2)})")
    ax.set_yticks(np.arange(len(shown)), [_label(f) for f in shown])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    return figure
