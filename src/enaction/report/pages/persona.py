"""The page of the personas: is the default Assistant special?"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure

from enaction.findings import Finding, select
from enaction.report.arrange import models_of, stage_label, value, with_interval
from enaction.report.figures import SETTINGS
from enaction.report.pages import Grid, Page
from enaction.report.pages.telling import COLOURS, MEAN, line, one, stages_of, told

_NOBODY = "nobody"


def page(findings: Sequence[Finding]) -> Page:
    """What the report says of the personas."""
    stages = stages_of(findings)[::-1]
    figures = {
        "persona": (
            entropies(findings),
            "Entropy of each persona's own text, read under that persona (full) and without one (open); the default "
            "Assistant first; means over readers with 95 % intervals.",
        ),
        "persona-surprise": (
            surprises(findings),
            "Running mean of surprise over a response's first tokens: text of a persona read under it (full line) and "
            "without one (dashed); means over readers with 95 % intervals.",
        ),
    }
    return Page(
        title="Personas",
        question="Is text written under a persona the model's own only while the persona is asked for, and has the "
        "default Assistant the lowest entropy?",
        sentences=[s for stage in stages for s in _sentences(findings, stage)],
        grids=[_grid(findings, stage) for stage in stages if _personas(findings, stage)],
        figures={name: (figure, caption) for name, (figure, caption) in figures.items() if figure is not None},
    )


def _personas(findings: Sequence[Finding], stage: str) -> list[str]:
    found = [f for f in select(findings, "persona_entropy", stage=stage) if f.estimate is not None]
    return list(dict.fromkeys(str(f.where["persona"]) for f in found))


def _sentences(findings: Sequence[Finding], stage: str) -> list[str]:
    who, at = models_of(stage), {"stage": stage, "reader": MEAN}
    left = [f.notes[0] for f in select(findings, "persona_entropy", stage=stage) if f.estimate is None and f.notes]
    sentences = [f"{who}: {note}." for note in left]
    margin = one(findings, "default_margin", **at)
    if margin is not None and margin.low is not None and margin.high is not None:
        verdict = (
            "the default Assistant has the lowest entropy" if margin.low > 0
            else "some persona has lower entropy than the default Assistant" if margin.high < 0
            else "the default Assistant cannot be told from the lowest persona"
        )  # fmt: skip
        sentences.append(
            f"{who}: {verdict}: the lowest persona's entropy on its own text minus the default's is {told(margin)} "
            "nats (p: labels shuffled)."
        )
    inter = one(findings, "persona_interaction", persona="mean", **at)
    if inter is not None:
        sentences.append(
            f"{who}: the interaction of the persona asked for with the persona of the text is {told(inter)} log units "
            "(below 0: the text's own persona lowers entropy beyond what either does alone; p: personas shuffled)."
        )
    for contrast, meaning in (("none", "without a persona"), ("other", "under another")):
        entropy, surprisal = (
            one(findings, f"{q}_own_minus_{contrast}", persona="mean", **at) for q in ("entropy", "surprisal")
        )
        if entropy is not None and surprisal is not None:
            sentences.append(
                f"{who}: read under its own persona instead of {meaning}, the same text's entropy changes by "
                f"{with_interval(entropy)} and its surprisal by {with_interval(surprisal)} nats."
            )
    vanilla = one(findings, "vanilla_entropy_none_minus_persona", **at)
    if vanilla is not None:
        sentences.append(
            f"{who}: default text read without a persona minus under one: {with_interval(vanilla)} nats of entropy."
        )
    across = [one(findings, "interaction", persona=p, **at) for p in _personas(findings, stage)]
    if there := [f for f in across if f is not None]:
        each = "; ".join(f"{f.where['persona']} {told(f)}" for f in there)
        sentences.append(
            f"{who}: reader x author interaction among texts of one persona ({_NOBODY}: the default): {each}."
        )
    return sentences


def _grid(findings: Sequence[Finding], stage: str) -> Grid:
    quantities = {
        "persona_entropy": "under its own",
        "persona_entropy_unasked": "without one",
        "persona_entropy_other": "under another",
        "default_minus_persona": "default minus persona",
        "persona_surprisal": "surprisal, under its own",
        "persona_surprisal_unasked": "surprisal, without one",
        "persona_interaction": "interaction",
    }
    rows = []
    there = [f for f in findings if f.where.get("stage") == stage]
    readers = list(dict.fromkeys(str(f.where["reader"]) for f in select(there, "persona_interaction")))
    for reader in sorted(readers, key=lambda r: r != MEAN):
        for persona in _personas(findings, stage):
            cells = [one(there, q, reader=reader, persona=persona) for q in quantities]
            rows.append([reader, persona, *("–" if f is None else with_interval(f) for f in cells)])
    title = f"{models_of(stage)}: entropy, nats, of own text of each persona as it is read"
    return Grid(title, ["reader", "persona of the text", *quantities.values()], rows)


@matplotlib.rc_context(SETTINGS)
def entropies(findings: Sequence[Finding]) -> Figure | None:
    """Entropy by persona, a panel a stage: read under the own persona and without one."""
    stages = [s for s in stages_of(findings) if _personas(findings, s)]
    if not stages:
        return None
    figure = Figure(figsize=(1.0 + 3.1 * len(stages), 3.0), layout="constrained")
    for ax, stage in zip(figure.subplots(1, len(stages), sharey=True, squeeze=False)[0], stages, strict=True):
        personas = _personas(findings, stage)
        for x, persona in enumerate(personas):
            for quantity, shift, face in (
                ("persona_entropy", -0.12, "full"),
                ("persona_entropy_unasked", 0.12, "none"),
            ):
                found = one(findings, quantity, stage=stage, persona=persona, reader=MEAN)
                if found is None:
                    continue
                if found.low is not None and found.high is not None:
                    ax.plot([x + shift] * 2, [found.low, found.high], color=COLOURS[-3], linewidth=1.4)
                ax.plot(x + shift, value(found), "o", color=COLOURS[-3], fillstyle=face, markersize=5)  # pyright: ignore[reportArgumentType]
        ax.set_xticks(range(len(personas)), personas, rotation=35, ha="right")
        ax.set_title(stage_label(stage))
    figure.axes[0].set_ylabel("entropy, nats")
    return figure


@matplotlib.rc_context(SETTINGS)
def surprises(findings: Sequence[Finding]) -> Figure | None:
    """Running mean of surprise, a panel a stage, a colour a persona."""
    curves = select(findings, "running_surprise", reader=MEAN)
    stages = stages_of(curves)
    if not stages:
        return None
    figure = Figure(figsize=(1.0 + 3.1 * len(stages), 3.2), layout="constrained")
    axes = figure.subplots(1, len(stages), sharey=True, squeeze=False)[0]
    for ax, stage in zip(axes, stages, strict=True):
        personas = list(dict.fromkeys(str(f.where["persona"]) for f in curves))
        for i, persona in enumerate(personas):
            for asked in (persona, _NOBODY):
                points = [
                    f for f in select(curves, "running_surprise", stage=stage, persona=persona, asked=asked)
                    if f.estimate is not None
                ]  # fmt: skip
                lengths = [f.where["tokens"] for f in points]
                label = persona if asked == persona else ""
                line(ax, lengths, points, COLOURS[i % len(COLOURS)], label=label, dashed=asked == _NOBODY)
        ax.set_xscale("log", base=2)
        ax.set_title(stage_label(stage))
        ax.set_xlabel("first tokens")
    axes[0].set_ylabel("mean surprisal, nats")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=min(6, len(labels)))
    return figure
