"""Charts as still pictures, with matplotlib: the only file that imports it.

No global state: figures are made without pyplot, settings hold only while one is drawn, and the same chart gives the
same bytes.
"""

from __future__ import annotations

import dataclasses
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from matplotlib.transforms import blended_transform_factory

from enaction.chart import PALETTE, Axis, Bars, Chart, Heat, Key, Label, Numbers, Panel, Points, Rule
from enaction.files import write_atomically
from enaction.shown import number

SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.edgecolor": "#444444",
    "axes.labelcolor": "#222222",
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelcolor": "#222222",
    "ytick.labelcolor": "#222222",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.constrained_layout.w_pad": 0.05,
    "figure.constrained_layout.h_pad": 0.05,
    "svg.hashsalt": "enaction",
    "text.parse_math": False,  # a dollar sign in a name is one
    "svg.fonttype": "path",
}
_METADATA = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}, "pdf": {"CreationDate": None}}
_MARKERS = {
    "none": "", "circle": "o", "square": "s", "triangle": "^", "diamond": "D", "cross": "x", "thick cross": "X",
    "bar": "|",
}  # fmt: skip
_LINES: dict[str, Any] = {"none": "none", "solid": "-", "dashed": (0, (4, 3)), "dotted": ":"}
_FAINT = {"alpha": 0.4, "markersize": 3.4}
_BAR_WIDTH = 1.3
# What no SVG file can hold, what no font has, and marks of direction, which would turn numbers round.
_UNDRAWABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_COLOUR_MAPS = {"dark to light": "Blues_r", "around 0": "PuOr_r"}


@matplotlib.rc_context(SETTINGS)
def draw(chart: Chart) -> Figure:
    """The chart as a matplotlib figure."""
    chart = _drawable(chart)
    figure = Figure(figsize=(chart.width, chart.height), layout="constrained")
    n_columns = max(map(len, chart.panels))
    axes = figure.subplots(
        len(chart.panels), n_columns, squeeze=False, sharex=chart.share_x, sharey=chart.share_y,
        width_ratios=list(chart.widths) or None,
    )  # fmt: skip
    for i, row in enumerate(chart.panels):
        for j in range(n_columns):
            if j < len(row):
                _panel(axes[i, j], row[j])
            else:
                axes[i, j].set_axis_off()
    if chart.colour_bar:
        _colour_bar(figure, axes.ravel().tolist(), chart)
    if chart.title:
        figure.suptitle(chart.title, x=0.01, ha="left", fontsize=9.0)
    if chart.legend:
        n = chart.legend_columns or len(chart.legend)
        handles = [_handle(key) for key in chart.legend]
        length = 1.6 if any(key.line != "none" or key.marker == "patch" for key in chart.legend) else 1.0
        figure.legend(handles=handles, loc="outside upper left", ncols=n, handlelength=length, columnspacing=1.4)
    return figure


def save(chart: Chart, stem: Path, formats: Sequence[str] = ("svg",)) -> list[Path]:
    """Write STEM.svg, or the formats asked for (`png` has 200 dots an inch); the same chart gives the same bytes.

    Returns:
        The paths, in the order of `formats`.
    """
    figure = draw(chart)
    paths = [stem.with_name(f"{stem.name}.{file_format}") for file_format in formats]
    with matplotlib.rc_context(SETTINGS):
        for path, file_format in zip(paths, formats, strict=True):
            with write_atomically(path) as temporary:
                figure.savefig(temporary, format=file_format, dpi=200, metadata=_METADATA.get(file_format, {}))
    return paths


def as_svg(chart: Chart) -> bytes:
    """The chart as an SVG file."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(SETTINGS):
        draw(chart).savefig(buffer, format="svg", metadata=_METADATA["svg"])
    return buffer.getvalue()


def _drawable(part: Any) -> Any:
    """A chart, or a part of one, with what its texts hold and no picture can as question marks."""
    if isinstance(part, str):
        return _UNDRAWABLE.sub("?", part.replace("\t", " "))
    if isinstance(part, list | tuple):
        return type(part)(map(_drawable, part))
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        fields = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
        return dataclasses.replace(part, **{name: _drawable(value) for name, value in fields.items()})
    return part


def _panel(ax: Axes, panel: Panel) -> None:
    for mark in panel.marks:
        match mark:
            case Points():
                _points(ax, mark)
            case Bars():
                ax.barh(mark.y, mark.length, mark.thickness, left=mark.start, color=PALETTE[mark.colour])
            case Rule():
                across = ax.axvline if mark.axis == "x" else ax.axhline
                look: Any = {"color": PALETTE[mark.colour], "linestyle": _LINES[mark.line], "linewidth": mark.width}
                across(mark.at, zorder=1.5, **look)
            case Label():
                _label(ax, mark)
            case Heat():
                _heat(ax, mark, panel.x.slant)
    _axis(ax, "x", panel.x)
    _axis(ax, "y", panel.y)
    if panel.title:
        ax.set_title(panel.title)
    if panel.legend:
        handles = [_handle(key) for key in panel.legend]
        ax.legend(handles=handles, loc="best", ncols=panel.legend_columns, handlelength=1.6)


def _axis(ax: Axes, name: str, given: Axis) -> None:
    axis = ax.xaxis if name == "x" else ax.yaxis
    if given.scale == "log2":
        (ax.set_xscale if name == "x" else ax.set_yscale)("log", base=2)
        if not given.names:
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    if given.ticks:
        axis.set_ticks(given.ticks, given.names or None)
    elif given.most_ticks:
        axis.set_major_locator(MaxNLocator(given.most_ticks))
    if given.slant:
        for label in axis.get_ticklabels():
            label.set(rotation=given.slant, ha="right" if name == "x" else None, rotation_mode="anchor")
    if given.low is not None or given.high is not None:
        ends: Any = (given.low, given.high)
        (ax.set_xlim if name == "x" else ax.set_ylim)(*ends)
    if given.bare:
        ax.tick_params(axis=name, length=0)  # pyright: ignore[reportArgumentType]
        ax.spines["bottom" if name == "x" else "left"].set_visible(False)
    if given.label:
        axis.set_label_text(given.label)


def _points(ax: Axes, points: Points) -> None:
    """Points in front of their line, and that in front of the intervals' band."""
    x, y, low, high = (_floats(numbers) for numbers in (points.x, points.y, points.low, points.high))
    look: Any = {"color": PALETTE[points.colour]}
    if low and points.interval == "band":
        fill = ax.fill_between if points.along == "y" else ax.fill_betweenx
        fill(x if points.along == "y" else y, low, high, alpha=0.18, linewidth=0, **look)
    elif low:
        for at, *ends in zip(x if points.along == "y" else y, low, high, strict=True):
            xs, ys = ([at, at], ends) if points.along == "y" else (ends, [at, at])
            ax.plot(xs, ys, linewidth=_BAR_WIDTH, solid_capstyle="butt", zorder=3, **look)
    if points.line != "none":
        faint = {"alpha": _FAINT["alpha"]} if points.faint else {}
        ax.plot(
            x, y, linestyle=_LINES[points.line], linewidth=points.width, solid_capstyle="butt",
            zorder=1 if points.marker == "none" and points.colour == "pale" else 3, **faint, **look,
        )  # fmt: skip
    if points.areas:
        ax.scatter(x, y, s=points.areas, alpha=0.75, linewidths=0, zorder=4, **look)
    elif points.marker != "none":
        is_stroke = points.marker in ("cross", "bar")
        edge = 1.0 if is_stroke else 0.0 if points.faint else _BAR_WIDTH
        size: Any = _FAINT if points.faint else {"markersize": points.size}
        ax.plot(
            x, y, _MARKERS[points.marker], linestyle="none", markerfacecolor=_face(points), markeredgewidth=edge,
            zorder=2 if points.faint else 4, **look, **size,
        )  # fmt: skip


def _face(of: Points | Key) -> str:
    return {"full": PALETTE[of.colour], "open": "none", "white": "white"}[of.face]


def _floats(numbers: Numbers) -> list[float]:
    return [math.nan if x is None else float(x) for x in numbers]


def _label(ax: Axes, label: Label) -> None:
    at_edge = blended_transform_factory(ax.transAxes, ax.transData)
    look: Any = {"color": PALETTE[label.colour], "fontsize": label.size}
    if label.bold:
        look["fontweight"] = "bold"
    if label.edge == "right":
        ax.text(1.02, label.y, label.text, transform=at_edge, va="center", **look)
    else:
        ax.text(0.0, label.y, label.text, transform=at_edge, va="bottom", **look)


def _handle(key: Key) -> Line2D | Patch:
    colour = PALETTE[key.colour]
    if key.marker == "patch":
        return Patch(color=colour, label=key.label)
    look: Any = {
        "marker": _MARKERS[key.marker], "markersize": key.size, "markerfacecolor": _face(key),
        "linestyle": _LINES[key.line], "linewidth": key.width,
    }  # fmt: skip
    return Line2D([], [], color=colour, label=key.label, **look)


def _heat(ax: Axes, heat: Heat, slant: int) -> None:
    colours, norm = matplotlib.colormaps[_COLOUR_MAPS[heat.colours]], Normalize(heat.low, heat.high)
    left = [float(column + 0.18 * sum(a <= column for a in heat.apart)) for column in range(len(heat.columns))]
    for row, (values, small) in enumerate(zip(heat.values, heat.small, strict=True)):
        for column, (first, second) in enumerate(zip(values, small, strict=True)):
            _cell(ax, left[column], row, first, second, colours, norm)
            if (row, column) in heat.outlined:
                corner = left[column] + 0.03, row + 0.03
                ax.add_patch(Rectangle(corner, 0.94, 0.94, fill=False, edgecolor="black", linewidth=1.8))
    ax.set_xlim(-0.02, left[-1] + 1.02)
    ax.set_ylim(len(heat.rows) + 0.02, -0.02)
    ax.set_xticks(
        [x + 0.5 for x in left], heat.columns, rotation=slant, ha="right" if slant else "center", rotation_mode="anchor"
    )
    ax.set_yticks([row + 0.5 for row in range(len(heat.rows))], heat.rows)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _cell(
    ax: Axes, left: float, row: int, first: float | None, second: float | None, colours: Colormap, norm: Normalize
) -> None:
    colour = (0.93, 0.93, 0.93, 1.0) if first is None else colours(norm(first))
    ax.add_patch(Rectangle((left, row), 1, 1, facecolor=colour, edgecolor="white", linewidth=1.2))
    luminance = 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]
    look: Any = {"ha": "center", "va": "center", "color": "white" if luminance < 0.5 else "#111111"}
    ax.text(left + 0.5, row + (0.5 if second is None else 0.40), number(first, 2), fontsize=9.5, **look)
    if second is not None:
        ax.text(left + 0.5, row + 0.76, number(second, 2), fontsize=7, **look)


def _colour_bar(figure: Figure, axes: list[Axes], chart: Chart) -> None:
    heat = next(mark for row in chart.panels for panel in row for mark in panel.marks if isinstance(mark, Heat))
    scale = ScalarMappable(Normalize(heat.low, heat.high), matplotlib.colormaps[_COLOUR_MAPS[heat.colours]])
    bar = figure.colorbar(scale, ax=axes, fraction=0.04, pad=0.02, aspect=28)
    bar.set_label(chart.colour_bar)
    bar.outline.set_linewidth(0)
