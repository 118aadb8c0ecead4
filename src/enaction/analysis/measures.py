"""Measures of a reader x author table: each is one row here, and every experiment that needs it loops over the rows.

A measure says what it is called, its unit, its null, what it means and how it follows from the table of cell means, so
that no experiment words or computes it a second time. Adding one takes a function (in `stats`) and a row; `add_measure`
writes it for the readers of a table, `difference` makes the change between two tables of it.

Axes: R reader, A author; `...` are resamples or further cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from enaction import stats
from enaction.analysis.ledger import (
    INTERVAL,
    LOGS_PER_BYTE,
    PER_BYTE,
    PER_TOKEN,
    POOLED,
    POOLED_LOGS,
    T_INTERVAL,
    Ledger,
    Permuted,
    along,
    with_mean,
)
from enaction.findings import Finding
from enaction.words import MEAN


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
        short: its name following a prefix (`point_ratio`); empty for `name`.
        interval: the kind that its findings have.
        least: models that a table must have for each reader to have a number of its own; with fewer there is one for
            all of them, the mean.
        scale: what turns estimate and bounds into the measure's unit, rising; None for none.
    """

    name: str
    unit: str
    null: float | None
    text: str
    of: Callable[[np.ndarray], np.ndarray]
    field: str = "entropy"
    pooling: str = f"entropy: {POOLED}"
    has_mean: bool = True
    short: str = ""
    interval: str = INTERVAL
    least: int = 2
    scale: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def stem(self) -> str:
        """What a prefix is put before."""
        return self.short or self.name


def own(mean_RA: np.ndarray) -> np.ndarray:
    """[..., R] each reader's cell of its own text."""
    return np.diagonal(mean_RA, axis1=-2, axis2=-1)


def others(mean_RA: np.ndarray) -> np.ndarray:
    """[..., R] each reader's mean over the cells of the other authors."""
    return (mean_RA.sum(axis=-1) - own(mean_RA)) / (mean_RA.shape[-1] - 1)


def lowest_margin(mean_RA: np.ndarray) -> np.ndarray:
    """[..., R] the least cell of another author minus the cell of each reader's own text."""
    is_own_RA = np.eye(mean_RA.shape[-1], dtype=bool)
    return np.where(is_own_RA, np.inf, mean_RA).min(axis=-1) - own(mean_RA)


def mean_interaction_of_means(mean_RA: np.ndarray) -> np.ndarray:
    """Mean over readers of the interaction of tables [..., R, A] of arithmetic means."""
    return INTERACTION_OF_MEANS.of(mean_RA).mean(axis=-1)


def rows_of(measure: Measure, readers: Sequence[str]) -> list[str]:
    """Whose numbers a table of these readers has: each reader's and their mean's, or the mean's alone."""
    return [*readers, MEAN] if len(readers) >= measure.least else [MEAN]


def of_rows(measure: Measure, n_readers: int, statistic: stats.Statistic | None = None) -> stats.Statistic:
    """A statistic of each reader, the measure's own by default, with the mean: [..., number of `rows_of`]."""
    every = with_mean(statistic or measure.of)
    return every if n_readers >= measure.least else lambda matrix: every(matrix)[..., -1:]


def in_place_of(statistic: stats.Statistic, reader: int) -> stats.Statistic:
    """A statistic of tables, as one of a single reader's row [..., 1, A] in place of one of the table's."""

    def of_row(mean_1A: np.ndarray) -> np.ndarray:
        n_authors = mean_1A.shape[-1]
        return statistic(np.broadcast_to(mean_1A, (*mean_1A.shape[:-2], n_authors, n_authors)))[..., reader]

    return of_row


def difference(statistic: stats.Statistic, minuend: int, subtrahend: int) -> stats.Statistic:
    """A statistic of tables, as its difference between two of the tables [..., K, R, A]."""
    return lambda mean_KRA: statistic(mean_KRA[..., minuend, :, :]) - statistic(mean_KRA[..., subtrahend, :, :])


def add_measure(
    ledger: Ledger,
    measure: Measure,
    table: stats.Resampled,
    readers: Sequence[str],
    *,
    n: int | None = None,
    test: Permuted | None = None,
    notes: Sequence[str] = (),
) -> list[Finding]:
    """Write a measure of a table: each reader's and their mean, or the mean alone (`Measure.least`).

    Args:
        ledger: at the place of the table.
        measure: what is computed.
        table: cell means of `measure.field`, as `Data.matrix` gives them.
        readers: of the table, and its authors.
        n: units; by default the prompts that every cell has.
        test: p-values, the mean's last.
        notes: of these findings alone.
    """
    rows, statistic = rows_of(measure, readers), of_rows(measure, len(readers))
    estimate = table.jackknife(statistic) if measure.interval == T_INTERVAL else table.estimate(statistic)
    if measure.scale is not None:
        estimate = stats.Estimate(*map(measure.scale, (estimate.value, estimate.low, estimate.high)))
    if test is not None and len(rows) == 1:
        test = replace(test, pvalue=test.pvalue[-1:])
    return ledger.add(
        measure.name,
        measure.unit,
        measure.text,
        estimate,
        axes=[along("reader", rows)],
        pooling=measure.pooling,
        null=measure.null,
        n=table.n_prompts if n is None else n,
        test=test,
        interval=measure.interval,
        notes=[*notes, *([JOINT] if len(rows) == 1 else [])],
    )


_RATIO = "mean entropy on the other authors' text divided by entropy on the reader's own"
_DIAGONAL = (
    "diagonal residual of log entropy after reader and author main effects; below 0: recognition somewhere in the table"
)
JOINT = "one number for both readers: in a table of two nobody can say which of them recognises"

OWN_ENTROPY = Measure("own_entropy", "nats", None, "entropy on the reader's own text", own)
OTHER_ENTROPY = Measure(
    "other_entropy",
    "nats",
    None,
    "mean entropy on the other authors' text",
    lambda m: stats.other_self_ratio(m) * own(m),
)
OTHER_SELF_RATIO = Measure("other_self_ratio", "ratio", 1.0, _RATIO, stats.other_self_ratio, short="ratio")
RATIO_PER_TOKEN = Measure(
    "other_self_ratio_token_weighted", "ratio", 1.0, _RATIO, stats.other_self_ratio, "token_entropy", PER_TOKEN
)
RATIO_PER_BYTE = Measure(
    "other_self_ratio_per_byte", "ratio", 1.0, _RATIO, stats.other_self_ratio, "byte_entropy", PER_BYTE
)
# Of tables of logs: what claims rest on.
INTERACTION = Measure(
    "interaction", "log units", 0.0, _DIAGONAL, stats.diagonal_residual, "log_entropy", POOLED_LOGS,
    interval=T_INTERVAL, least=3,
)  # fmt: skip
INTERACTION_PER_BYTE = replace(
    INTERACTION, name="interaction_per_byte", field="log_byte_entropy", pooling=LOGS_PER_BYTE
)
LOG_RATIO = Measure(
    "log_ratio", "log units", 0.0, "log of the geometric other/self ratio = recognition + ease",
    lambda m: stats.log_ratio_split(np.exp(m)).log_geometric_ratio, "log_entropy", POOLED_LOGS, interval=T_INTERVAL,
)  # fmt: skip
GEOMETRIC_RATIO = replace(
    LOG_RATIO, name="geometric_ratio", unit="ratio", null=1.0, text=f"{_RATIO}, all means geometric", scale=np.exp
)
RECOGNITION = Measure(
    "recognition", "log units", 0.0,
    "log entropy on own text as predicted from reader and author effects of the foreign cells alone, minus as found; "
    "above 0: recognition; the mean over readers is -N/(N-1) times that of the interaction",
    lambda m: stats.log_ratio_split(np.exp(m)).recognition, "log_entropy", POOLED_LOGS, interval=T_INTERVAL, least=3,
)  # fmt: skip
EASE = Measure(
    "ease", "log units", 0.0,
    "part of log_ratio from text: mean author effect of the others, fitted to the foreign cells, minus that of the "
    "reader's own",
    lambda m: stats.log_ratio_split(np.exp(m)).ease, "log_entropy", POOLED_LOGS, has_mean=False, interval=T_INTERVAL,
    least=3,
)  # fmt: skip

# Of tables of arithmetic means, kept beside them.
INTERACTION_OF_MEANS = Measure(
    "interaction_of_means", "log units", 0.0, f"{_DIAGONAL}; arithmetic cell means", stats.interaction, least=3
)
INTERACTION_TOKEN_WEIGHTED = replace(
    INTERACTION_OF_MEANS, name="interaction_token_weighted", text=_DIAGONAL, field="token_entropy", pooling=PER_TOKEN
)
# Of a table whose per-prompt means are clipped.
INTERACTION_CLIPPED = replace(
    INTERACTION_OF_MEANS,
    name="interaction_clipped",
    text=f"{_DIAGONAL}; each cell's prompts clipped at its 95th percentile, so that no few items carry it",
)
LOWEST_MARGIN = Measure(
    "lowest_margin",
    "nats",
    0.0,
    "least entropy on another author's text minus that on the reader's own; above 0: own is lowest",
    lowest_margin,
)
OWN_RANK_AMONG_AUTHORS = Measure(
    "own_rank_among_authors",
    "rank",
    None,
    "rank of the reader's own text among the authors' by the reader's entropy, 1 the least",
    stats.own_rank,
)
OWN_RANK_AMONG_READERS = Measure(
    "own_rank_among_readers",
    "rank",
    None,
    "rank of the reader among all readers of its own text by entropy per byte of text, 1 the least; a reader that is "
    "certain of everything has rank 1 for its own text too",
    lambda m: stats.own_rank(m.swapaxes(-1, -2)),
    "byte_entropy",
    PER_BYTE,
)

# Of a table that the family's base reads in place of its descendant, see `in_place_of`.
_BASE = "the same texts read by the family's own base"
BASE_READER_RATIO = Measure(
    "base_reader_ratio",
    "ratio",
    1.0,
    f"{_BASE}: its entropy on the other authors' text divided by that on its descendant's; about 1: the descendant's "
    "text is no easier to predict",
    stats.other_self_ratio,
)
BASE_READER_MARGIN = Measure(
    "base_reader_margin",
    "nats",
    0.0,
    f"{_BASE}: its least entropy on another author's text minus that on its descendant's",
    lowest_margin,
)
