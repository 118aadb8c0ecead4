"""The page of surprise: whether its trace moves entropy, beside its controls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from enaction.chart import Axis, Chart, Colour, Key, Marker, Panel, Points, Rule, points_of, stage_colours
from enaction.experiments.surprise.analysis import AUTHORSHIP
from enaction.experiments.surprise.steered import CONTROLS
from enaction.findings import Finding, Findings
from enaction.page import Cell, Grid, Page, Section, Statement, Verdict
from enaction.shown import left_out, number, short_names, table, value, with_interval
from enaction.words import in_training_order, models_of, stage_label

_VERDICTS: dict[str, Verdict] = {"surprise moves entropy": "effect", "surprise does not move entropy": "no effect"}
_PRIMARY = {"trace": "surprise", "key": "entropy", "rank": 1}
_TRACES = {"surprise": "the last surprisal", "running": "the running mean of surprisal"}
_KEYS = {"none": "raw", "entropy": "within H_t", "token": "within token"}


def page(findings: Findings, title: str, question: str) -> Page:
    """What the report shows of surprise."""
    stages = in_training_order(findings.values("stage"))
    statements = [s for stage in stages for s in _answer(findings.at(stage=stage), stage, stage == stages[-1])]
    statements += _doubts(findings)
    statements += left_out(findings, "Left out", "left_out")
    charts: dict[str, Chart] = {}
    if findings.select("steering_effect"):
        charts["steering"] = _steering(findings)
    if findings.select("decoded", predictor="state").measured:
        charts["decoded"] = _decoded(findings, stages)
    grids = [_verdicts(findings), _slopes(findings), _decoding(findings)]
    grids = [grid for grid in grids if grid.rows]
    return Page(title, question, statements, [Section(charts=[*charts], grids=grids)], charts)


def _answer(findings: Findings, stage: str, is_last: bool) -> list[Statement]:
    """One sentence a stage: what the verdict is of how many readers, with their slopes and nats a nat."""
    verdicts = [*findings.select("surprise_verdict")]
    if not verdicts:
        return []
    by_words: dict[str, list[str]] = {}
    for f in verdicts:
        by_words.setdefault(f.notes[0], []).append(str(f.where["reader"]))
    said = "; ".join(f"{words} ({', '.join(readers)})" for words, readers in by_words.items())
    effects = [findings.one("steering_effect", reader=f.where["reader"], **_PRIMARY) for f in verdicts]
    slopes = ", ".join(number(f.estimate, 2) for f in verdicts)
    each = ", ".join(with_interval(effect, 2) for effect in effects)
    text = (
        f"{said}. Set to another level of surprise within quartiles of H_t, entropy follows what is natural there with "
        f"slopes of {slopes}, and changes by {each} nats for a nat of surprisal."
    )
    verdict = _VERDICTS[next(iter(by_words))] if len(by_words) == 1 and next(iter(by_words)) in _VERDICTS else ""
    about = ("surprise_verdict", "steering_slope", "steering_effect")
    return [Statement(text, about, {"stage": stage}, verdict, models_of(stage), headline=is_last, outcome=said)]


def _doubts(findings: Findings) -> list[Statement]:
    """Traces that tell own from foreign tokens by themselves: steering along them may be steering along authorship."""
    made = []
    for trace in findings.values("trace"):
        told = [f for f in findings.select("trace_authorship", trace=trace).measured if value(f) > AUTHORSHIP]
        if told:
            each = ", ".join(f"{f.where['reader']} {with_interval(f, 2)}" for f in told)
            text = (
                f"{_TRACES[str(trace)]} tells foreign from own tokens by itself (AUROC: {each}), so what follows from "
                "setting it may be authorship."
            )
            made.append(Statement(text, ("trace_authorship",), {"trace": trace}, "", "A doubt"))
    return made


def _steering(findings: Findings) -> Chart:
    """Left the slope where there is a natural effect to reproduce, right nats a nat for all, each beside controls."""
    readers = [str(f.where["reader"]) for f in findings.select("surprise_verdict")]
    names = short_names(readers)
    heights = [float(len(readers) - i) for i in range(len(readers))]

    def series(quantity: str, shift: float, colour: Colour, marker: Marker, faint: bool = False, **at: Any) -> Points:
        found = [findings.one(quantity, reader=reader, **at) for reader in readers]
        return points_of(
            [height + shift for height in heights], found, along="x", colour=colour, marker=marker, faint=faint
        )

    def controls(quantity: str) -> list[Points]:
        return [
            series(quantity, shift, "grey", "bar", True, kind=kind)
            for kind, shift in zip(CONTROLS, (-0.26, -0.33, -0.4), strict=True)
        ]

    at = {"trace": "surprise", "rank": 1}
    slopes = [
        series("steering_slope", 0.22, "silver", "square", key="none", **at),
        series("steering_slope", 0.08, "blue", "circle", key="entropy", **at),
        series("steering_slope", -0.06, "orange", "diamond", key="token", **at),
    ]
    effects = [
        _natural(findings, readers, [height + 0.22 for height in heights]),
        series("steering_effect", 0.08, "blue", "circle", key="entropy", **at),
        series("steering_effect", -0.06, "sky", "triangle", key="entropy", trace="surprise", rank=4),
    ]
    side = Axis(ticks=heights, names=[names[r] for r in readers], bare=True)
    panels = [
        Panel(
            [Rule("x", 0), Rule("x", 1, line="dashed"), *slopes, *controls("control_slope")],
            Axis("slope on what is natural (0 none, 1 full control)"),
            side,
        ),
        Panel([Rule("x", 0), *effects, *controls("control_effect")], Axis("nats of entropy a nat of surprisal"), side),
    ]
    legend = [
        Key("raw, rank 1", "silver", "square"),
        Key("within H_t, rank 1", "blue", "circle"),
        Key("within token, rank 1", "orange", "diamond"),
        Key("within H_t, rank 4", "sky", "triangle"),
        Key("natural, within H_t", "black", "cross"),
        Key("random controls, range over draws", "grey", "bar"),
    ]
    caption = (
        "Clamp of the trace of surprise at all layers, 95 % intervals over prompts. Left: slope, where natural entropy "
        "differs between levels. Raw does not hold fixed what was known before, and is far above 0 on models whose "
        "surprise does nothing by design. Right: nats of entropy a nat of surprisal, for all. Grey: random controls, "
        "mean and range over draws."
    )
    height = 1.7 + 0.45 * len(readers)
    return Chart(caption, [panels], width=8.4, height=height, legend=legend, legend_columns=3, share_y="row")


def _natural(findings: Findings, readers: Sequence[str], heights: Sequence[float]) -> Points:
    """What the model does by itself, which stands in a note of what steering does."""
    found = [findings.one("steering_effect", reader=reader, **_PRIMARY) for reader in readers]
    values = [float(f.notes[0].removeprefix("natural: ")) if f is not None else None for f in found]
    return Points(values, heights, "black", marker="cross")


def _decoded(findings: Findings, stages: list[str]) -> Chart:
    """R^2 of surprisal by layer for each stage, mean over readers, beside the best predictor without states."""
    colours = stage_colours(stages)
    marks: list[Points | Rule] = []
    for stage in stages:
        of = findings.at(stage=stage, target="surprisal", texts="all")
        layers = sorted({f.where["layer"] for f in of.select("decoded", predictor="state")})
        means = [_mean([*of.select("decoded", predictor="state", layer=layer)]) for layer in layers]
        marks.append(Points(layers, means, colours[stage], line="solid", label=stage_label(stage)))
        pair = _mean([*of.select("decoded", predictor="pair")])
        if pair is not None:
            marks.append(Rule("y", pair, colours[stage], "dotted"))
    panel = Panel(marks, Axis("residual layer", most_ticks=6), Axis("R² of surprisal, held-out prompts"))
    caption = (
        "What a linear probe of the residual stream at a token explains of the token's surprisal, means over readers; "
        "dotted: what the pair of tokens explains by itself, without a model."
    )
    legend = [Key(stage_label(stage), colours[stage], "circle", "solid") for stage in stages]
    return Chart(caption, [[panel]], width=5.2, height=3.4, legend=legend)


def _mean(found: list[Finding]) -> float | None:
    known = [value(f) for f in found if f.estimate is not None]
    return sum(known) / len(known) if known else None


def _verdicts(findings: Findings) -> Grid:
    rows = [
        [str(f.where["reader"]), f.notes[0], *(note.partition(": ")[2] for note in f.notes[1:])]
        for f in findings.select("surprise_verdict")
    ]
    return Grid(
        "Does surprise set entropy? Rank-1 clamp, and what each key says",
        ["reader", "answer", "within H_t", "within token"][: max((len(row) for row in rows), default=2)],
        rows,
        ("surprise_verdict",),
    )


def _slopes(findings: Findings) -> Grid:
    return table(
        Findings(f for f in findings if f.quantity in ("steering_slope", "steering_effect", "steering_shift")),
        "Steering: what clamping to another level does",
        {"reader": "reader", "trace": "levels of", "key": "held fixed", "rank": "rank"},
        {
            "steering_slope": "slope (1: natural)",
            "steering_effect": "nats a nat",
            "steering_shift": "mean shift, nats",
        },
        labels={"key": lambda key: _KEYS[key]},
        show=lambda f: Cell(with_interval(f, 2)),
    )


def _decoding(findings: Findings) -> Grid:
    return table(
        Findings(f for f in findings if f.quantity == "decoded_beyond"),
        "Decoded beyond what token, pair, position and H_t say without a model",
        {"reader": "reader", "target": "what"},
        {"decoded_beyond": "R² of the best layer less the best of these"},
        labels={"target": lambda name: name.replace("_", " ")},
        beside={"which": lambda row: "; ".join(row["decoded_beyond"].notes) if "decoded_beyond" in row else ""},
    )
