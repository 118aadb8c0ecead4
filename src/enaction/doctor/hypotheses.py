"""Hypotheses: what each fault predicts for the number that a column has at each token.

With a model the predictions are its readings of the same tokens in other contexts, at other temperatures or cut
otherwise. From any prediction others follow by algebra alone: moved by one, rows dealt otherwise, sums, signs. Without
a model the algebra starts at the other column.

Axes: N tokens of the batch, R rollouts. In nats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from enaction.doctor.batch import Batch

# A residual beyond this counts as this, nats: one token that a mixture of experts routes otherwise is no fault.
LARGEST = 1.0
# Nats that a fault has to gain on `sound` at least, and two faults at once on one of them.
LEAST_GAIN = 6.0
# More rollouts than this are not matched with one another: the table of their distances grows with the square.
MOST_ROWS = 600
# More tokens than this share of a rollout are not needed to match it.
_MATCHED_TOKENS = 200


@dataclass(frozen=True)
class Hypothesis:
    """What a fault predicts.

    Attributes:
        name: of the fault, a few words; `sound` for none.
        predicted: float64 [N], the number at each token; NaN where it says nothing, -inf where the token could not
            have come.
        says: what is so if it holds, a clause.
        remedy: what to do about it.
        cost: log of the number of ways in which it was chosen among its like, nats.
        detail: of it, for programs.
    """

    name: str
    predicted: np.ndarray
    says: str
    remedy: str = ""
    cost: float = 0.0
    detail: dict[str, float | str | int] = field(default_factory=dict)


def moved(batch: Batch, values_N: np.ndarray, by: int) -> np.ndarray:
    """Each token gets the number of the token `by` places after it in its rollout; NaN where there is none."""
    made_N = np.full(len(values_N), np.nan)
    for rows in batch.slices:
        row = values_N[rows]
        if by > 0:
            made_N[rows.start : rows.stop - by] = row[by:]
        else:
            made_N[rows.start - by : rows.stop] = row[:by]
    return made_N


def shifts(batch: Batch, base_N: np.ndarray, what: str) -> Iterator[Hypothesis]:
    """The numbers of the next token, or of the one before."""
    for by, side in ((1, "next"), (-1, "previous")):
        yield Hypothesis(
            "shift by one",
            moved(batch, base_N, by),
            f"each token has {what} of the {side} token",
            "align logits and labels: logits at position t-1 predict token t (`logits[:, :-1]` with `labels[:, 1:]`)",
            detail={"by": by},
        )


def reordered(batch: Batch, base_N: np.ndarray, column_N: np.ndarray, what: str) -> Hypothesis | None:
    """The numbers of other rollouts: each rollout gets the one whose prediction is nearest to what it has.

    None where there is one rollout, where there are too many, or where all of them are nearest to themselves.
    """
    n_rows = len(batch.rollouts)
    if not 2 <= n_rows <= MOST_ROWS:
        return None
    longest = min(int(batch.lengths.max()), _MATCHED_TOKENS)
    given_RT, base_RT = (_padded(batch, values_N, longest) for values_N in (column_N, base_N))
    cost_RR = np.full((n_rows, n_rows), np.inf)
    for row in range(n_rows):
        away_RT = np.minimum(np.abs(given_RT[row] - base_RT), LARGEST) ** 2
        count_R = (~np.isnan(away_RT)).sum(1)
        # A rollout that shares only a few tokens with this one would match by chance.
        usable_R = count_R >= max(2, 0.5 * (~np.isnan(given_RT[row])).sum())
        cost_RR[row, usable_R] = np.nansum(away_RT[usable_R], 1) / count_R[usable_R]
    source_R = _matched(cost_RR)
    n_moved = int((source_R != np.arange(n_rows)).sum())
    if n_moved < 2:
        return None
    predicted_N = np.full(len(batch), np.nan)
    for row, source in enumerate(source_R.tolist()):
        here, there = batch.slices[row], batch.slices[source]
        n = min(here.stop - here.start, there.stop - there.start)
        predicted_N[here.start : here.start + n] = base_N[there.start : there.start + n]
    return Hypothesis(
        "rows re-ordered",
        predicted_N,
        f"{n_moved} of {n_rows} rollouts have {what} of another rollout",
        "undo the sorting of the micro-batches before the numbers are put together (dynamic batches)",
        cost=math.lgamma(n_rows + 1),
        detail={"moved": n_moved},
    )


def _padded(batch: Batch, values_N: np.ndarray, longest: int) -> np.ndarray:
    """Numbers of trained tokens as a table [R, longest], NaN elsewhere."""
    table_RT = np.full((len(batch.rollouts), longest), np.nan)
    shown_N = np.where(batch.is_trained & np.isfinite(values_N), values_N, np.nan)
    for row, rows in enumerate(batch.slices):
        values = shown_N[rows][:longest]
        table_RT[row, : len(values)] = values
    return table_RT


def _matched(cost_RR: np.ndarray) -> np.ndarray:
    """A row for each row, no row twice, by the smallest costs first; a row without any keeps itself."""
    n_rows = len(cost_RR)
    source_R = np.full(n_rows, -1)
    is_taken_R = np.zeros(n_rows, bool)
    # Of equal costs the row itself, so that rollouts that are alike do not count as moved.
    cost_RR = cost_RR + 1e-9 * (1 - np.eye(n_rows))
    for flat in np.argsort(cost_RR, axis=None):
        row, source = divmod(int(flat), n_rows)
        if not np.isfinite(cost_RR[row, source]):
            break
        if source_R[row] < 0 and not is_taken_R[source]:
            source_R[row], is_taken_R[source] = source, True
    return np.where(source_R < 0, np.arange(n_rows), source_R)


def other_units(base_N: np.ndarray) -> Iterator[Hypothesis]:
    """Numbers of another kind made from log-probabilities."""
    natural = "log natural, or multiply by "
    kinds = [
        ("sign turned", -base_N, "the numbers are minus log-probabilities", "turn their sign"),
        ("probability, not logarithm", np.exp(base_N), "the numbers are probabilities", "take their logarithm"),
        ("logarithm of base 2", base_N / math.log(2), "the logarithms are of base 2", natural + "0.693"),
        ("logarithm of base 10", base_N / math.log(10), "the logarithms are of base 10", natural + "2.303"),
    ]
    for name, predicted_N, says, remedy in kinds:
        yield Hypothesis(name, predicted_N, says, remedy)


def summed(batch: Batch, base_N: np.ndarray) -> Hypothesis:
    """Running sums over each rollout's trained tokens (`cumulative_logprob`)."""
    predicted_N = np.full(len(base_N), np.nan)
    for rows in batch.slices:
        predicted_N[rows] = np.cumsum(np.where(batch.is_trained[rows], base_N[rows], 0.0))
    return Hypothesis(
        "running sum",
        predicted_N,
        "each number is the sum over the rollout up to its token",
        "log each token's own log-probability, not `cumulative_logprob`",
    )


def in_part(batch: Batch, hypotheses: Sequence[Hypothesis], given_N: np.ndarray) -> list[Hypothesis]:
    """Each fault in those rollouts alone in which it fits better than `sound`, the first of the hypotheses.

    The choice costs log 2 a rollout: the chance that chosen gains exceed that by t nats is at most exp(-t), as it is
    for gains that nobody chose.
    """
    sound, *others = hypotheses
    n_rows = len(batch.rollouts)
    made = []
    for h in others:
        if h.name == "rows re-ordered":  # it is about a part already
            continue
        both_N = np.isfinite(given_N) & np.isfinite(h.predicted) & np.isfinite(sound.predicted)
        squares = [np.clip((given_N - of.predicted)[both_N], -LARGEST, LARGEST) ** 2 for of in (sound, h)]
        gain_R = np.bincount(batch.row[both_N], squares[0] - squares[1], minlength=n_rows)
        better_R = gain_R > 0
        n_better = int(better_R.sum())
        if 0 < n_better < n_rows:
            predicted_N = np.where(better_R[batch.row], h.predicted, sound.predicted)
            says = f"{h.says}, in {n_better} of {n_rows} rollouts"
            cost = h.cost + n_rows * math.log(2)
            made.append(Hypothesis(h.name, predicted_N, says, h.remedy, cost, h.detail | {"part": n_better}))
    return made


def of_columns(batch: Batch, base_N: np.ndarray, given_N: np.ndarray) -> list[Hypothesis]:
    """What faults predict for one column (`given_N`) from the other (`base_N`), `sound` first: algebra alone."""
    made = [Hypothesis("sound", base_N, "sampler and trainer have the same numbers")]
    what = "the log-probability"
    made += [*shifts(batch, base_N, what), *other_units(base_N), summed(batch, base_N)]
    order = reordered(batch, base_N, given_N, "the log-probabilities")
    return [*made, order] if order else made
