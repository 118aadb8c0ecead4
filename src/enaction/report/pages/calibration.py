"""The page of the calibration: how sure models are behind their own errors, and how often they come back from them."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from enaction.findings import Finding, permutation_pvalue, select
from enaction.report.arrange import contains, in_training_order, stage_label, with_interval
from enaction.report.figures import SETTINGS
from enaction.report.pages import Grid, Page

_MEAN = "mean"
_ARMS = {
    "answer": ("whole answers", "#777777"),
    "own-right": ("own right start", "#0072B2"),
    "own-wrong": ("own wrong start", "#D55E00"),
    "foreign-right": ("foreign right start", "#56B4E9"),
    "foreign-wrong": ("foreign wrong start", "#E69F00"),
}


def page(findings: Sequence[Finding]) -> Page:
    """What the report says of calibration."""
    title, question = (
        "Calibration",
        "Does a model trust its own partial answers more than it should, errors most of all?",
    )
    left_out = select(findings, "left_out")
    if left_out:
        return Page(title, question, [note for f in left_out for note in f.notes])
    means = select(findings, "confidence", reader=_MEAN)
    stages = in_training_order(str(f.where["stage"]) for f in means)
    figure = reliability_diagram(findings, stages)
    caption = (
        "Share of right answers against confidence, by bins of confidence, all readers of a stage; the area of a point "
        "is the number of answers; on the diagonal confidence is earned."
    )
    return Page(
        title,
        question,
        [
            *[s for stage in reversed(stages) for s in _errors(findings, stage)],
            *[s for stage in reversed(stages) for s in _compounding(findings, stage)],
            *[s for stage in reversed(stages) for s in _error(findings, stage)],
        ],
        [_arms(findings, stages), _differences(findings, stages)],
        {"calibration": (figure, caption)} if figure is not None else {},
    )


def reliability_diagram(findings: Sequence[Finding], stages: Sequence[str]) -> Figure | None:
    """Accuracy against confidence in bins, a panel a stage, a colour an arm."""
    points = select(findings, "reliability")
    if not points or not stages:
        return None
    largest = max(f.n for f in points)
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(max(5.2, 0.9 + 2.3 * len(stages)), 3.4), layout="constrained")
        axes = figure.subplots(1, len(stages), sharex=True, sharey=True, squeeze=False)[0]
        for ax, stage in zip(axes, stages, strict=True):
            ax.plot([0, 1], [0, 1], color="#777777", linewidth=0.8)
            for arm, (_, colour) in _ARMS.items():
                here = [f for f in select(points, "reliability", stage=stage, arm=arm) if f.estimate is not None]
                for f in here:
                    at = _one(findings, "reliability_confidence", stage=stage, arm=arm, bin=f.where["bin"])
                    if at is not None and at.estimate is not None:
                        ax.scatter(
                            at.estimate, f.estimate, s=8 + 90 * f.n / largest, color=colour, alpha=0.75, linewidths=0
                        )
            ax.set_title(stage_label(stage))
            ax.set_xlabel("confidence")
        axes[0].set_ylabel("share right")
        handles = [
            Line2D([], [], linestyle="none", marker="o", color=colour, label=label) for label, colour in _ARMS.values()
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=3, handlelength=1.0, columnspacing=1.4)
    return figure


def _errors(findings: Sequence[Finding], stage: str) -> list[str]:
    place = {"stage": stage, "reader": _MEAN, "arm": "own-wrong"}
    found = [_one(findings, q, **place) for q in ("confidence", "accuracy", "overconfidence")]
    if any(f is None or f.estimate is None for f in found):
        return [f"{stage_label(stage)}: no own error was sampled that could be gone on with."]
    confidence, accuracy, over = (with_interval(f, 2) for f in found if f is not None)
    told = (
        f"{stage_label(stage)}: behind an own wrong first sentence the models go on with confidence {confidence} and "
        f"are right in {accuracy}: {over} more sure than right."
    )
    more = _one(findings, "overconfidence_difference", stage=stage, reader=_MEAN, start="wrong")
    if more is None or more.estimate is None:
        return [f"{told} No other family's error of like cost to compare with."]
    verdict = "no difference" if contains(more, 0.0) else "a difference"
    return [
        f"{told} Own less other families' errors, matched on surprisal: {with_interval(more, 2)} ({verdict}{_p(more)})."
    ]


def _compounding(findings: Sequence[Finding], stage: str) -> list[str]:
    stays = _one(findings, "stays", stage=stage, reader=_MEAN, arm="own-wrong")
    back = _one(findings, "returns", stage=stage, reader=_MEAN, arm="own-wrong")
    more = _one(findings, "stays_difference", stage=stage, reader=_MEAN, start="wrong")
    if stays is None or back is None or stays.estimate is None:
        return []
    told = (
        f"{stage_label(stage)}: {with_interval(stays, 2)} of the continuations stay with an own error, "
        f"{with_interval(back, 2)} return to the truth"
    )
    if more is None or more.estimate is None:
        return [f"{told}."]
    verdict = "no difference" if contains(more, 0.0) else "a difference"
    return [f"{told}; staying, own less foreign errors: {with_interval(more, 2)} ({verdict}{_p(more)})."]


def _error(findings: Sequence[Finding], stage: str) -> list[str]:
    error = _one(findings, "calibration_error", stage=stage, reader=_MEAN, arm="answer")
    null = _one(findings, "calibration_error_null", stage=stage, reader=_MEAN, arm="answer")
    if error is None or null is None or error.estimate is None:
        return []
    return [
        f"{stage_label(stage)}: expected calibration error of whole answers {with_interval(error, 3)}; a perfectly "
        f"calibrated model with these confidences would have {with_interval(null, 3)}."
    ]


def _p(finding: Finding) -> str:
    p = permutation_pvalue(finding)
    return f", permutation p = {p}" if p else ""


def _arms(findings: Sequence[Finding], stages: Sequence[str]) -> Grid:
    quantities = (
        "accuracy", "confidence", "overconfidence", "calibration_error", "calibration_error_null", "stays",
        "decision_entropy", "settled_share",
    )  # fmt: skip
    rows = [
        [
            f"{stage_label(stage)}, {label}",
            *(_shown(_one(findings, q, stage=stage, reader=_MEAN, arm=arm)) for q in quantities),
        ]
        for stage in stages
        for arm, (label, _) in _ARMS.items()
    ]
    header = ["stage, start", *(q.replace("_", " ") for q in quantities)]
    return Grid("Answers and continuations, means over readers", header, rows)


def _differences(findings: Sequence[Finding], stages: Sequence[str]) -> Grid:
    quantities = [
        f"{q}_difference"
        for q in ("confidence", "accuracy", "overconfidence", "stays", "returns", "entropy", "start_surprisal")
    ]
    rows = [
        [
            f"{stage_label(stage)}, {start} start",
            *(_shown(_one(findings, q, stage=stage, reader=_MEAN, start=start)) for q in quantities),
        ]
        for stage in stages
        for start in ("right", "wrong")
    ]
    header = ["stage, start", *(q.removesuffix("_difference").replace("_", " ") for q in quantities)]
    return Grid("Own less other families' first sentences, matched on surprisal, means over readers", header, rows)


def _shown(finding: Finding | None) -> str:
    return with_interval(finding, 2) if finding is not None and finding.estimate is not None else "–"


def _one(findings: Sequence[Finding], quantity: str, **where: object) -> Finding | None:
    return next(iter(select(findings, quantity, **where)), None)
