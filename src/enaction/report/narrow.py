"""Charts for narrow screens: panels side by side come one below the other, so that text stays legible."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace

from enaction.chart import Chart, Panel

# Width in inches of the narrowest stacked chart, and characters of a title in an inch.
_LEAST_WIDTH = 3.6
_CHARACTERS = 15


def narrow(chart: Chart) -> Chart | None:
    """The chart with one panel in a row; None where it has no two panels side by side."""
    n_columns = max(map(len, chart.panels), default=0)
    if n_columns < 2:
        return None
    shares = list(chart.widths) or [1.0] * n_columns
    width = max(_LEAST_WIDTH, chart.width * max(shares) / sum(shares))
    panels = [panel for row in chart.panels for panel in _labelled(row)]
    return replace(
        chart,
        panels=[[panel] for panel in panels],
        width=width,
        height=chart.height / len(chart.panels) * len(panels),
        widths=(),
        title=textwrap.fill(chart.title, int(width * _CHARACTERS)),
        legend_columns=min(len(chart.legend), 2),
        share_x="none",
        share_y="none",
    )


def _labelled(row: Sequence[Panel]) -> list[Panel]:
    """The panels of a row, each with the label that the first has for all of them."""
    return [replace(panel, y=replace(panel.y, label=panel.y.label or row[0].y.label)) for panel in row]
