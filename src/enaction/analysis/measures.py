"""Measures of a reader x author table: each is one row here, and every experiment that needs it loops over the rows.

A measure says what it is called, its unit, its null, what it means and how it follows from the table of cell means, so
that no experiment words or computes it a second time. Adding one takes a function (in `stats`) and a row.

Axes: R reader, A author; `...` are resamples or further cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from enaction import stats
from enaction.analysis.ledger import PER_BYTE, PER_TOKEN, POOLED


@dataclass(frozen=True)
class Measure:
    """One number of each reader of a table.

    Attributes:
        name: the quantity, as findings call it.
        unit: of the number.
        null: the value that means no effect; None where no value does.
        text: its definition, without pooling and interval.
        of: cell means [..., R, A] -> [..., R].
        field: of `CellMeans`, that the table holds.
        pooling: how tokens became means.
        has_mean: whether the mean over the readers of a table says anything.
    """

    name: str
    unit: str
    null: float | None
    text: str
    of: Callable[[np.ndarray], np.ndarray]
    field: str = "entropy"
    pooling: str = f"entropy: {POOLED}"
    has_mean: bool = True


def own(mean_RA: np.ndarray) -> np.ndarray:
    """[..., R] each reader's cell of its own text."""
    return np.diagonal(mean_RA, axis1=-2, axis2=-1)


def others(mean_RA: np.ndarray) -> np.ndarray:
    """[..., R] each reader's mean over the cells of the other authors."""
    return (mean_RA.sum(axis=-1) - own(mean_RA)) / (mean_RA.shape[-1] - 1)


_RATIO = "mean entropy over the other authors' text divided by entropy on the reader's own"
_DIAGONAL = "diagonal residual of log entropy after reader and author main effects; below 0: recognition"

OTHER_SELF_RATIO = Measure("other_self_ratio", "ratio", 1.0, _RATIO, stats.other_self_ratio)
RATIO_PER_TOKEN = Measure(
    "other_self_ratio_token_weighted", "ratio", 1.0, _RATIO, stats.other_self_ratio, "token_entropy", PER_TOKEN
)
RATIO_PER_BYTE = Measure(
    "other_self_ratio_per_byte", "ratio", 1.0, _RATIO, stats.other_self_ratio, "byte_entropy", PER_BYTE
)
INTERACTION = Measure("interaction", "log units", 0.0, _DIAGONAL, stats.interaction)
LOG_RATIO = Measure(
    "log_ratio",
    "log units",
    0.0,
    "log of the geometric-mean other/self ratio = recognition + ease",
    lambda m: stats.log_ratio_split(m).log_geometric_ratio,
)
RECOGNITION = Measure(
    "recognition",
    "log units",
    0.0,
    "part of log_ratio that reader and author effects do not explain: -N/(N-1) * interaction",
    lambda m: stats.log_ratio_split(m).recognition,
)
EASE = Measure(
    "ease",
    "log units",
    0.0,
    "part of log_ratio from text: mean author effect of the others minus that of the reader's own",
    lambda m: stats.log_ratio_split(m).ease,
    has_mean=False,
)
OWN_ENTROPY = Measure("own_entropy", "nats", None, "entropy on the reader's own text", own)
OTHER_ENTROPY = Measure(
    "other_entropy",
    "nats",
    None,
    "mean entropy on the other authors' text",
    lambda m: stats.other_self_ratio(m) * own(m),
)
