"""Charts as plain data: panels of marks in data coordinates, without a line of drawing.

An experiment says what lies where and in which role; `report.drawing` makes a still picture of it, and an interactive
one can be made of the same object. Colours are names of one palette.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from enaction.findings import Finding
from enaction.words import MEAN, stage_label

Marker = Literal["none", "circle", "square", "triangle", "diamond", "cross", "thick cross", "bar", "patch"]
Line = Literal["none", "solid", "dashed", "dotted"]
Colour = Literal["blue", "red", "green", "orange", "sky", "pink", "silver", "grey", "pale", "ink", "black"]
Face = Literal["full", "open", "white"]
Share = Literal["none", "all", "row", "col"]
Numbers = Sequence[float | None]

# Okabe and Ito's colours, distinguishable with any colour vision, and greys.
PALETTE: dict[Colour, str] = {
    "blue": "#0072B2",
    "red": "#D55E00",
    "green": "#009E73",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "pink": "#CC79A7",
    "silver": "#999999",
    "grey": "#777777",
    "pale": "#c9c9c9",
    "ink": "#444444",
    "black": "#111111",
}
# Colours of series that have no role of their own, e.g. stages from the first to the last.
SERIES: tuple[Colour, ...] = ("silver", "sky", "orange", "red", "blue", "green", "pink")
_FRAMING_LOOKS: dict[str, tuple[Colour, Marker]] = {
    "assistant": ("blue", "circle"),
    "user": ("red", "square"),
    "none": ("green", "triangle"),
}


def framing_look(framing: str) -> tuple[Colour, Marker]:
    """Colour and marker of a framing in every chart."""
    return _FRAMING_LOOKS.get(framing, ("grey", "diamond"))


def stage_colours(stages: Sequence[str]) -> dict[str, Colour]:
    """The colour of each stage where stages are series: the last one blue, those before it paler ones in order."""
    colours: dict[str, Colour] = {stage: SERIES[i % len(SERIES)] for i, stage in enumerate(stages)}
    colours.update({stage: "blue" for stage in stages[-1:]})
    return colours


@dataclass(frozen=True)
class Points:
    """Points with intervals, joined by a line or not; None in `x` or `y` leaves a gap.

    Attributes:
        x, y: places.
        colour: of points, line and intervals.
        low, high: ends of the intervals, empty where there are none; None for a point without one.
        along: the axis along which the intervals lie.
        interval: a bar through each point, or a band along the line.
        marker: `none` for a line alone.
        size: of the marker, in printer's points.
        areas: of the markers one by one, in square points; then `size` does not count.
        face: whether markers are full, open, or white within.
        line: how the points are joined.
        width: of that line, in printer's points.
        faint: small and pale, e.g. single readers around their mean.
        label: name of the series.
        names: of the points, for a picture that shows them.
    """

    x: Numbers
    y: Numbers
    colour: Colour = "blue"
    low: Numbers = ()
    high: Numbers = ()
    along: Literal["x", "y"] = "y"
    interval: Literal["bar", "band"] = "bar"
    marker: Marker = "circle"
    size: float = 5.0
    areas: Sequence[float] = ()
    face: Face = "full"
    line: Line = "none"
    width: float = 1.6
    faint: bool = False
    label: str = ""
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Bars:
    """Horizontal bars at heights `y`, each from its start over its length."""

    y: Sequence[float]
    start: Sequence[float]
    length: Sequence[float]
    colour: Colour
    thickness: float = 0.72
    label: str = ""


@dataclass(frozen=True)
class Rule:
    """A line across the panel at one value of an axis: upright on `x`, level on `y`."""

    axis: Literal["x", "y"]
    at: float
    colour: Colour = "grey"
    line: Line = "solid"
    width: float = 0.8


@dataclass(frozen=True)
class Label:
    """Text at height `y`: beyond the panel's right edge, or inside on its left edge, above `y`."""

    text: str
    y: float
    edge: Literal["left", "right"] = "right"
    colour: Colour = "black"
    size: float = 9.0
    bold: bool = False


@dataclass(frozen=True)
class Heat:
    """A matrix of cells, each coloured by its value; the panel's axes take their ticks from it.

    Attributes:
        rows, columns: names, the first row on top.
        values: by row, then column; None for a cell without a number.
        small: second numbers, printed small below the first.
        low, high: ends of the colour scale, from dark to light.
        outlined: cells (row, column) with a frame.
        apart: columns with a gap before them.
        colours: `dark to light`, or `around 0`: pale at 0, one colour below it and another above it.
    """

    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Numbers]
    small: Sequence[Numbers]
    low: float
    high: float
    outlined: Sequence[tuple[int, int]] = ()
    apart: Sequence[int] = ()
    colours: Literal["dark to light", "around 0"] = "dark to light"


Mark = Points | Bars | Rule | Label | Heat


@dataclass(frozen=True)
class Axis:
    """One axis of a panel.

    Attributes:
        label: quantity and unit.
        ticks, names: where ticks are and what they are called; without `ticks` the renderer chooses.
        low, high: ends; None is chosen by the renderer. A low end above the high one turns the axis round.
        scale: linear, or logarithmic with base 2.
        slant: degrees by which names are turned.
        most_ticks: at most this many where the renderer chooses; 0 without a limit.
        bare: without a line and tick marks, for the names of rows.
    """

    label: str = ""
    ticks: Sequence[float] = ()
    names: Sequence[str] = ()
    low: float | None = None
    high: float | None = None
    scale: Literal["linear", "log2"] = "linear"
    slant: int = 0
    most_ticks: int = 0
    bare: bool = False


@dataclass(frozen=True)
class Key:
    """An entry of a legend; marker `patch` is a filled box."""

    label: str
    colour: Colour = "blue"
    marker: Marker = "circle"
    line: Line = "none"
    size: float = 5.0
    face: Face = "full"
    width: float = 1.6


@dataclass(frozen=True)
class Panel:
    """One pair of axes with its marks, later ones in front; a legend here lies inside."""

    marks: Sequence[Mark]
    x: Axis = field(default_factory=Axis)
    y: Axis = field(default_factory=Axis)
    title: str = ""
    legend: Sequence[Key] = ()
    legend_columns: int = 1


@dataclass(frozen=True)
class Chart:
    """Panels in rows, with a caption.

    Attributes:
        caption: what is seen, in words that do without the picture.
        panels: rows of panels; a short last row leaves its end empty.
        width, height: of the still picture, inches.
        title: a line above everything.
        legend: entries above the panels.
        legend_columns: entries side by side; 0 for all.
        share_x, share_y: which panels have one range.
        widths: relative widths of the columns.
        colour_bar: name of the values of a `Heat`, beside a bar of its colours; "" for no bar.
    """

    caption: str
    panels: Sequence[Sequence[Panel]]
    width: float
    height: float
    title: str = ""
    legend: Sequence[Key] = ()
    legend_columns: int = 0
    share_x: Share = "none"
    share_y: Share = "none"
    widths: Sequence[float] = ()
    colour_bar: str = ""


def points_of(
    at: Sequence[float], findings: Sequence[Finding | None], *, along: Literal["x", "y"] = "y", **look: Any
) -> Points:
    """The estimates of findings with their intervals.

    Args:
        at: position of each on the other axis.
        findings: None, or without an estimate, leaves a gap.
        along: the axis of the estimates.
        look: further fields of `Points`.
    """
    estimates = [f and f.estimate for f in findings]
    low, high = [f and f.low for f in findings], [f and f.high for f in findings]
    x, y = (at, estimates) if along == "y" else (estimates, at)
    names = [str(f.where.get("reader", "")) if f else "" for f in findings]
    return Points(**{"x": x, "y": y, "low": low, "high": high, "along": along, "names": names} | look)


def single_readers(at: Sequence[float], findings: Sequence[Sequence[Finding]], **look: Any) -> Points:
    """Estimates of single readers as faint points without intervals, to lie around their mean.

    Args:
        at: position of each place on the other axis.
        findings: of each place; those of a mean over readers are left out.
        look: further arguments of `points_of`.
    """
    single = [(x, f) for x, of in zip(at, findings, strict=True) for f in of if not _is_mean(f)]
    return points_of([x for x, _ in single], [f for _, f in single], **{"faint": True, "low": (), "high": ()} | look)


def readers_and_mean(
    at: Sequence[float], findings: Sequence[Sequence[Finding]], *, label: str = "", **look: Any
) -> list[Points]:
    """Single readers as faint points, and in front of them the mean over readers with its interval.

    Args:
        at, findings, look: as in `single_readers`; a place without a mean leaves a gap.
        label: name of the series.
    """
    means = [next(filter(_is_mean, of), None) for of in findings]
    return [single_readers(at, findings, **look), points_of(at, means, label=label, **look)]


def _is_mean(finding: Finding) -> bool:
    return MEAN in (finding.where.get("reader"), finding.where.get("family"))


def curve_of(findings: Iterable[Finding], place: Callable[[Finding], float], **look: Any) -> Points:
    """The estimates of findings in order of their place, joined by a line, with their intervals as a band.

    Args:
        place: of a finding, on the axis across its estimate.
        look: further fields of `Points`.
    """
    ordered = sorted(findings, key=place)
    look = {"interval": "band", "line": "solid", "size": 3.0} | look
    return points_of([place(f) for f in ordered], ordered, **look)


def stage_panels(marks: Mapping[str, Sequence[Mark]], x: Axis, y: str, legend: Sequence[Key] = ()) -> list[Panel]:
    """Panels side by side, one for each stage.

    Args:
        marks: of each stage.
        x: of all panels.
        y, legend: name of the other axis and entries of a legend, at the first panel alone.
    """
    return [
        Panel(of, x, Axis("" if i else y), stage_label(stage), () if i else legend)
        for i, (stage, of) in enumerate(marks.items())
    ]


def keys(marks: Sequence[Mark]) -> list[Key]:
    """Legend entries of the labelled marks, each label once."""
    key_of: dict[str, Key] = {}
    for mark in marks:
        if isinstance(mark, Points) and mark.label:
            key = Key(mark.label, mark.colour, mark.marker, mark.line, mark.size, mark.face, mark.width)
            key_of.setdefault(mark.label, key)
        elif isinstance(mark, Bars) and mark.label:
            key_of.setdefault(mark.label, Key(mark.label, mark.colour, "patch"))
    return list(key_of.values())
