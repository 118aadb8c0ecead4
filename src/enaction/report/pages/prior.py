"""The page of own prior outputs: position inside one response, and earlier turns."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure

from enaction.findings import Finding, select
from enaction.report.arrange import models_of, number, stage_label, value, with_interval
from enaction.report.figures import SETTINGS
from enaction.report.pages import Grid, Page
from enaction.report.pages.telling import COLOURS, MEAN, line, one, stages_of, told


def page(findings: Sequence[Finding]) -> Page:
    """What the report says of own prior outputs."""
    stages = stages_of(findings)
    shown = list(dict.fromkeys([*stages[-1:], *stages[:1]]))
    figures = {
        "prior-position": (
            positions(findings),
            "Interaction (below 0: recognition) in bins of positions inside one response, where all texts of a prompt "
            "have these positions; means over readers with 95 % intervals.",
        ),
        "prior-earlier": (
            earlier(findings),
            "Entropy of the same measured turn behind an own earlier turn, a foreign one, and none; means over readers "
            "with 95 % intervals.",
        ),
    }
    return Page(
        title="Own prior outputs",
        question="Is the effect amplified when a model reads its own prior outputs: (a) along one response, (b) with "
        "an own earlier turn before a turn that stays the same?",
        sentences=[s for stage in shown for s in [*_along(findings, stage), *_behind(findings, stage)]],
        grids=[_grid(findings, stages), *([_bins(findings, stages)] if select(findings, "gap_at_position") else [])],
        figures={name: (figure, caption) for name, (figure, caption) in figures.items() if figure is not None},
    )


def _along(findings: Sequence[Finding], stage: str) -> list[str]:
    trend = one(findings, "position_trend", stage=stage, reader=MEAN)
    points = _points(findings, stage)
    if trend is None or not points:
        return []
    first, last = (f"tokens {f.where['from']} to {f.where['to'] - 1}: {told(f)}" for f in (points[0], points[-1]))
    verdict = "no trend" if trend.low is None or trend.high is None or trend.low <= 0 <= trend.high else (
        "recognition grows" if trend.high < 0 else "recognition shrinks"
    )  # fmt: skip
    return [
        f"{models_of(stage)}, (a) along one response: interaction at {first}; at {last}; slope {told(trend)} log units "
        f"a doubling of the position ({verdict})."
    ]


def _points(findings: Sequence[Finding], stage: str) -> list[Finding]:
    """Bins behind the first token, which is predicted from the prompt alone."""
    found = select(findings, "interaction_at_position", stage=stage, reader=MEAN, span="bin")
    return sorted((f for f in found if f.where["from"] > 0 and f.estimate is not None), key=lambda f: f.where["from"])


def _behind(findings: Sequence[Finding], stage: str) -> list[str]:
    at = {"stage": stage, "reader": MEAN}
    sentences = [
        f"{models_of(stage)}: {f.notes[0]}."
        for f in select(findings, "earlier_effect", stage=stage)
        if f.estimate is None and f.notes
    ]
    for measured in ("own", "foreign"):
        effect, inter = (one(findings, q, measured=measured, **at) for q in ("earlier_effect", "earlier_interaction"))
        if effect is not None:
            sentences.append(
                f"{models_of(stage)}, (b) earlier turns: behind an own instead of a foreign earlier turn the entropy "
                f"of the same {measured} turn changes by {told(effect)} nats; interaction {told(inter)} log units (p: "
                "authors of the earlier turn shuffled)."
            )
    own, foreign, difference = (
        one(findings, "continuity", measured="own", **at),
        one(findings, "continuity", measured="foreign", **at),
        one(findings, "continuity_difference", **at),
    )
    if own is not None and foreign is not None and difference is not None:
        sentences.append(
            f"{models_of(stage)}, (b): two turns of one author instead of two change log entropy by "
            f"{with_interval(own)} if the author is the reader and by {with_interval(foreign)} if not; "
            f"difference {told(difference)}."
        )
    amplification = one(findings, "amplification", **at)
    if amplification is not None:
        beyond = one(findings, "amplification_beyond_continuity", **at)
        gaps = [one(findings, "gap_behind", earlier=e, **at) for e in ("own", "foreign", "none")]
        each = ", ".join(f"{e} {told(f)}" for e, f in zip(("own", "foreign", "no"), gaps, strict=True))
        sentences.append(
            f"{models_of(stage)}, (b): log other/self ratio of measured turns by earlier turn: {each}; own minus "
            f"foreign {told(amplification)} (above 0: amplified)"
            + (f", beyond continuity {told(beyond)}." if beyond is not None else ".")
        )
    return sentences


def _grid(findings: Sequence[Finding], stages: Sequence[str]) -> Grid:
    rows = []
    for stage in stages:
        readers = list(dict.fromkeys(str(f.where["reader"]) for f in select(findings, "amplification", stage=stage)))
        for reader in sorted(readers, key=lambda r: r != MEAN):
            at = {"stage": stage, "reader": reader}
            arms = [
                one(findings, "earlier_entropy", measured=m, earlier=e, **at)
                for m in ("own", "foreign")
                for e in ("own", "foreign", "none")
            ]
            effects = [one(findings, "earlier_effect", measured=m, **at) for m in ("own", "foreign")]
            amplification = one(findings, "amplification", **at)
            cells = [number(f.estimate) if f else "–" for f in arms] + [told(f) for f in [*effects, amplification]]
            rows.append([stage_label(stage), reader, *cells])
    arms = [f"{m} turn, {e} before" for m in ("own", "foreign") for e in ("own", "foreign", "none")]
    header = ["stage", "reader", *arms, "effect on own", "effect on foreign", "amplification, log units"]
    return Grid("Entropy of the measured turn by the author of the earlier one, nats", header, rows)


def _bins(findings: Sequence[Finding], stages: Sequence[str]) -> Grid:
    rows = []
    for stage in stages:
        for f in select(findings, "interaction_at_position", stage=stage, reader=MEAN):
            where = {k: f.where[k] for k in ("span", "from", "to")}
            gap = one(findings, "gap_at_position", stage=stage, reader=MEAN, **where)
            place = (
                f"tokens {f.where['from']} to {f.where['to'] - 1}"
                if where["span"] == "bin"
                else f"first {f.where['to']}"
            )
            rows.append([stage_label(stage), place, told(gap), told(f), str(f.n)])
    header = ["stage", "positions", "own minus others, nats", "interaction, log units", "prompts"]
    return Grid("Along one response, means over readers", header, rows)


@matplotlib.rc_context(SETTINGS)
def positions(findings: Sequence[Finding]) -> Figure | None:
    """Interaction over the position, a colour a stage."""
    stages = [s for s in stages_of(findings) if len(_points(findings, s)) > 1]
    if not stages:
        return None
    figure = Figure(figsize=(4.6, 3.1), layout="constrained")
    ax = figure.subplots()
    for i, stage in enumerate(stages):
        points = _points(findings, stage)
        middle = [((f.where["from"]) * (f.where["to"] - 1)) ** 0.5 for f in points]
        line(ax, middle, points, COLOURS[-3] if stage == stages[-1] else COLOURS[i], label=stage_label(stage))
    ax.axhline(0, color="#777777", linewidth=0.8, zorder=1)
    ax.set_xscale("log", base=2)
    ax.set_xlabel("position in the response, tokens (0 is the first)")
    ax.set_ylabel("interaction, log units")
    ax.legend()
    return figure


@matplotlib.rc_context(SETTINGS)
def earlier(findings: Sequence[Finding]) -> Figure | None:
    """Entropy of the measured turn in each arm, a panel a stage."""
    stages = stages_of(select(findings, "amplification"))
    if not stages:
        return None
    figure = Figure(figsize=(0.9 + 2.0 * len(stages), 3.0), layout="constrained")
    for ax, stage in zip(figure.subplots(1, len(stages), sharey=True, squeeze=False)[0], stages, strict=True):
        for colour, measured, shift in ((COLOURS[-3], "own", -0.08), (COLOURS[3], "foreign", 0.08)):
            arms = ("own", "foreign", "none")
            found = [
                one(findings, "earlier_entropy", stage=stage, reader=MEAN, measured=measured, earlier=e) for e in arms
            ]
            for x, f in enumerate(found):
                if f is None:
                    continue
                if f.low is not None and f.high is not None:
                    ax.plot([x + shift] * 2, [f.low, f.high], color=colour, linewidth=1.4)
                ax.plot(
                    x + shift, value(f), "o", color=colour, markersize=5, label=f"{measured} turn" if x == 0 else ""
                )
        ax.set_xlim(-0.5, 2.5)
        ax.set_xticks(range(3), ["own", "foreign", "none"])
        ax.set_xlabel("earlier turn")
        ax.set_title(stage_label(stage))
    figure.axes[0].set_ylabel("entropy of the measured turn, nats")
    figure.axes[0].legend()
    return figure
