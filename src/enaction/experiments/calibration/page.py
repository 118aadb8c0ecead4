"""The page of the calibration: how sure models are after their own errors, and how often they return to the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from enaction.chart import Axis, Chart, Colour, Key, Panel, Points
from enaction.findings import Finding, Findings
from enaction.page import Grid, Page, Section, Statement
from enaction.shown import left_out, pvalue, stated, table, value, verdict_of, verdict_words, with_interval
from enaction.words import MEAN, in_training_order, models_of, stage_label

# Arm -> how it is printed, and its colour.
_LOOKS: dict[str, tuple[str, Colour]] = {
    "answer": ("whole answers", "grey"),
    "own-right": ("own right start", "blue"),
    "own-wrong": ("own wrong start", "red"),
    "foreign-right": ("foreign right start", "sky"),
    "foreign-wrong": ("foreign wrong start", "orange"),
}
_CALIBRATION_ERROR = ("calibration_error", "calibration_error_null")
# Rows of a table -> its title, the quantities that are its columns, and how their names end there.
_TABLES = {
    "arm": (
        "Answers and continuations, means over readers",
        ("accuracy", "confidence", "overconfidence", *_CALIBRATION_ERROR, "stays", "decision_entropy", "settled_share"),
        "",
    ),
    "start": (
        "Own minus other families' first sentences, matched on surprisal, means over readers",
        ("confidence", "accuracy", "overconfidence", "stays", "returns", "entropy", "start_surprisal"),
        "_difference",
    ),
}


def page(findings: Findings, title: str, question: str) -> Page:
    """What the report shows of calibration."""
    means = findings.at(reader=MEAN)
    stages = in_training_order(means.values("stage"))
    statements = left_out(findings, "", "left_out")
    for part in (_errors, _compounding, _calibration_error):
        statements += [s for stage in reversed(stages) for s in part(means, stage)]
    bins = findings.pivot(("reliability_confidence", "reliability"), rows=("stage", "arm", "bin"))
    charts = {"calibration": _diagram(bins, stages)} if bins else {}
    grids = [_grid(means, stages, key) for key in _TABLES] if stages else []
    return Page(title, question, statements, [Section(charts=[*charts], grids=grids)], charts)


def _diagram(bins: Mapping[tuple[str, ...], Mapping[str, Finding]], stages: Sequence[str]) -> Chart:
    """Accuracy against confidence in bins, a panel for each stage, a colour for each arm."""
    largest = max(row["reliability"].n for row in bins.values())
    row = []
    for stage in stages:
        marks = [Points([0, 1], [0, 1], marker="none", line="solid", colour="grey", width=0.8)]
        for arm, (_, colour) in _LOOKS.items():
            of_arm = [bins[key] for key in bins if key[:2] == (stage, arm)]
            x, y = ([value(of[q]) for of in of_arm] for q in ("reliability_confidence", "reliability"))
            areas = [8 + 90 * of["reliability"].n / largest for of in of_arm]
            marks.append(Points(x, y, colour=colour, areas=areas))
        y_axis = Axis("share right" if stage == stages[0] else "")
        row.append(Panel(marks, Axis("confidence"), y_axis, stage_label(stage)))
    return Chart(
        "Share of right answers against confidence, by bins of confidence, all readers of a stage; the area of a point "
        "is the number of answers; on the diagonal confidence is earned.",
        [row],
        width=max(5.2, 0.9 + 2.3 * len(stages)),
        height=3.4,
        legend=[Key(label, colour) for label, colour in _LOOKS.values()],
        legend_columns=3,
        share_x="all",
        share_y="all",
    )


def _errors(means: Findings, stage: str) -> list[Statement]:
    """Confidence and accuracy after an own error, and whether more than after a foreign one."""
    quantities = ("confidence", "accuracy", "overconfidence")
    numbers = [means.one(quantity, stage=stage, arm="own-wrong") for quantity in quantities]
    if None in numbers:
        text = "no own error was sampled that could be continued."
        return [Statement(text, quantities, {"stage": stage}, "left out", subject=models_of(stage))]
    confidence, accuracy, over = (with_interval(f, 2) for f in numbers)
    text = (
        f"after an own wrong first sentence they continue with confidence {confidence} and are right in {accuracy}: "
        f"{over} more sure than right."
    )
    more = means.one("overconfidence_difference", stage=stage, start="wrong")
    compared = (
        f"Own minus other families' errors, matched on surprisal: {_judged(more)}."
        if more
        else "No other family's error of similar surprisal exists to compare with."
    )
    about = (*quantities, "overconfidence_difference")
    verdict = verdict_of(more) if more else ""
    return [Statement(f"{text} {compared}", about, {"stage": stage}, verdict, subject=models_of(stage))]


def _compounding(means: Findings, stage: str) -> list[Statement]:
    stays, back = (means.one(quantity, stage=stage, arm="own-wrong") for quantity in ("stays", "returns"))
    if stays is None or back is None:
        return []
    more = means.one("stays_difference", stage=stage, start="wrong")
    compared = f"; staying, own minus foreign errors: {_judged(more)}" if more else ""
    text = (
        f"{with_interval(stays, 2)} of the continuations stay with an own error, {with_interval(back, 2)} return to "
        f"the truth{compared}."
    )
    about, verdict = ("stays", "returns", "stays_difference"), verdict_of(more) if more else ""
    return [Statement(text, about, {"stage": stage}, verdict, subject=models_of(stage))]


def _calibration_error(means: Findings, stage: str) -> list[Statement]:
    text = (
        "the expected calibration error of whole answers is {}; a perfectly calibrated model with these confidences "
        "would have {}."
    )
    return stated(means, models_of(stage), text, *_CALIBRATION_ERROR, stage=stage, arm="answer")


def _judged(difference: Finding) -> str:
    verdict = verdict_words(difference, below="a difference", above="a difference", none="no difference")
    p = pvalue(difference)
    return f"{with_interval(difference, 2)} ({verdict}{f', permutation p = {p}' if p else ''})"


def _grid(means: Findings, stages: Sequence[str], key: str) -> Grid:
    """Stages and arms or starts as rows, quantities as columns."""
    title, quantities, ending = _TABLES[key]
    return table(
        means,
        title,
        {"stage": "stage", key: "start"},
        {f"{q}{ending}": q.replace("_", " ") for q in quantities},
        order=lambda stage, _: stages.index(stage),
        show=lambda f: with_interval(f, 2),
        labels={"arm": lambda arm: _LOOKS[arm][0], "start": lambda kind: f"{kind} start"},
    )
