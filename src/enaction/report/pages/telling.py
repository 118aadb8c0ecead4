"""What the pages of single experiments share: finding one finding, and putting it into words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from enaction.findings import Finding, permutation_pvalue, select
from enaction.report.arrange import in_training_order, value, with_interval

MEAN = "mean"
# Okabe and Ito's colours, from the first stage to the last.
COLOURS = ("#999999", "#56B4E9", "#E69F00", "#D55E00", "#0072B2", "#009E73", "#CC79A7")


def one(findings: Sequence[Finding], quantity: str, **where: Any) -> Finding | None:
    """The finding of a quantity at a place, None where there is none or it has no number."""
    found = [f for f in select(findings, quantity, **where) if f.estimate is not None]
    return found[0] if found else None


def stages_of(findings: Sequence[Finding]) -> list[str]:
    """The stages that the findings speak of, in the order of training."""
    return in_training_order(str(f.where["stage"]) for f in findings if "stage" in f.where)


def told(finding: Finding | None, digits: int = 3) -> str:
    """Estimate with interval, and the permutation p-value where there is one."""
    if finding is None:
        return "not measured"
    p = permutation_pvalue(finding)
    return with_interval(finding, digits) + (f", p = {p}" if p else "")


def line(
    ax: Axes, x: Sequence[float], findings: Sequence[Finding], colour: str, *, label: str = "", dashed: bool = False
) -> None:
    """Estimates over `x`, with their intervals as a band."""
    ax.plot(
        x, [value(f) for f in findings], color=colour, marker="o", markersize=3, label=label,
        linestyle="--" if dashed else "-", linewidth=1.2 if dashed else 1.6,
    )  # fmt: skip
    bounds = [[np.nan if b is None else b for b in (f.low, f.high)] for f in findings]
    ax.fill_between(x, [b[0] for b in bounds], [b[1] for b in bounds], color=colour, alpha=0.18, linewidth=0)
