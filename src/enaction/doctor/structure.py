"""Faults that show in the numbers, ids and masks themselves, before anything is compared with a prediction.

Axes: N tokens of the batch. In nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from enaction.doctor.batch import Batch

# A log-probability above this is none: rounding of bfloat16 stays below, nats.
_ABOVE_ZERO = 0.01
# Tokens that a value has to be repeated at to be a placeholder, and how far the reference has to be from it there.
_LEAST_PLACEHOLDERS = 3
_AWAY = 0.25
# The same id so often at the end of a rollout is padding.
_PADDED = 4
# Of tokens, above which a column with one value holds no measurement.
_CONSTANT = 0.5


@dataclass(frozen=True)
class Flaw:
    """Something that is wrong with what the file holds.

    Attributes:
        name: of the fault.
        column: sampler, trainer, entropy, mask or ids.
        says: what is so, a sentence without its full stop.
        remedy: what to do about it.
        count: tokens concerned.
        of: tokens that could have been.
        at: bool [N], the tokens concerned, which nothing else counts.
    """

    name: str
    column: str
    says: str
    remedy: str
    count: int
    of: int
    at: np.ndarray


def flaws(batch: Batch, reference_N: np.ndarray | None = None, fillers: frozenset[int] = frozenset()) -> list[Flaw]:
    """What is wrong with masks, ids and columns.

    Args:
        batch: the rollouts.
        reference_N: a model's log-probabilities, against which placeholders are told from measurements; without one,
            each column is held against the other.
        fillers: tokens that rows are filled up with, as the tokenizer says; without any they are guessed.
    """
    found = _mask_flaws(batch)
    found += _padding(batch, fillers)
    for column, other in (("sampler", "trainer"), ("trainer", "sampler")):
        if batch.has(column):
            against_N = batch.column(other) if reference_N is None else reference_N
            found += _column_flaws(batch, column, batch.column(column), against_N)
    if batch.has("entropy"):
        found += _column_flaws(batch, "entropy", batch.entropy, None)
    return found


def _mask_flaws(batch: Batch) -> list[Flaw]:
    """Masks that are inverted or moved, told from where the sampler has numbers."""
    sampler_N, trained_N = batch.sampler, batch.is_trained
    # A sampler has no number, or 0.0 in its place, at tokens that it did not draw.
    drawn_N = np.isfinite(sampler_N) & (sampler_N != 0)
    if not batch.has_masked or not drawn_N.any() or drawn_N.all():
        return []
    agree = float((drawn_N == trained_N).mean())
    nothing_N = np.zeros(len(batch), bool)
    if agree < 0.05:
        return [
            Flaw(
                "mask inverted",
                "mask",
                "the mask trains the tokens that the sampler did not draw and leaves out those that it drew",
                "turn the mask round: 1 where the policy wrote the token",
                int(trained_N.sum()),
                len(batch),
                trained_N & ~drawn_N,
            )
        ]
    for by in (1, -1):
        moved_N = nothing_N.copy()
        for rows in batch.slices:
            row = trained_N[rows]
            moved_N[rows] = np.concatenate([row[by:], row[-1:]]) if by > 0 else np.concatenate([row[:1], row[:by]])
        better = float((drawn_N == moved_N).mean())
        if better > 0.98 and (1 - better) < 0.25 * (1 - agree):
            return [
                Flaw(
                    "mask shifted by one",
                    "mask",
                    f"the mask lies one token {'late' if by > 0 else 'early'}: it fits where the sampler has numbers "
                    "once it is moved",
                    "shift the mask with the labels",
                    int((drawn_N != trained_N).sum()),
                    len(batch),
                    trained_N & ~drawn_N,
                )
            ]
    return []


def _padding(batch: Batch, fillers: frozenset[int]) -> list[Flaw]:
    """Trained tokens after the end of an answer: one of the fillers again and again, or without knowing these, one id
    at the ends of most rollouts of a table whose rows have one length."""
    at_N = np.zeros(len(batch), bool)
    runs: list[tuple[int, slice]] = []
    for rows in batch.slices:
        ids = batch.token[rows]
        differs = np.flatnonzero(ids != ids[-1])
        start = int(differs[-1]) + 1 if len(differs) else 0
        # The first of them may be the token that ended the answer.
        runs.append((int(ids[-1]), slice(rows.start + start + 1, rows.stop)))
    if fillers:
        padded = [run for token, run in runs if token in fillers]
    else:
        long = [(token, run) for token, run in runs if token >= 0 and run.stop - run.start >= _PADDED - 1]
        token = max({t for t, _ in long}, key=[t for t, _ in long].count, default=-1)
        padded = [run for t, run in long if t == token]
        is_table = len(np.unique(batch.lengths)) == 1
        if len(padded) < 2 or 2 * len(padded) < len(runs) or not is_table:
            padded = []
    for run in padded:
        at_N[run] |= batch.is_trained[run]
    count = int(at_N.sum())
    if not count:
        return []
    ids = ", ".join(str(i) for i in np.unique(batch.token[at_N])[:3])
    return [
        Flaw(
            "padding counted",
            "mask",
            f"{count} trained tokens fill rollouts up (id {ids})",
            "mask what follows the token that ended the answer",
            count,
            int(batch.is_trained.sum()),
            at_N,
        )
    ]


def _column_flaws(batch: Batch, column: str, given_N: np.ndarray, against_N: np.ndarray | None) -> list[Flaw]:
    trained_N = batch.is_trained
    n = int(trained_N.sum())
    what = "entropies" if column == "entropy" else f"{column} log-probabilities"
    found: list[Flaw] = []

    def add(name: str, at_N: np.ndarray, says: str, remedy: str) -> None:
        found.append(Flaw(name, column, says, remedy, int(at_N.sum()), n, at_N))

    has_row_N = _in_rows_with_numbers(batch, given_N)
    missing_N = trained_N & np.isnan(given_N) & has_row_N
    if missing_N.any():
        add(
            "numbers missing",
            missing_N,
            f"{int(missing_N.sum())} of {n} trained tokens have no {what[:-1] if column != 'entropy' else 'entropy'} "
            "(NaN or null)",
            "mask the tokens that the policy did not write, or keep their numbers",
        )
    infinite_N = trained_N & np.isinf(given_N)
    if infinite_N.any():
        add(
            "infinite",
            infinite_N,
            f"{int(infinite_N.sum())} of the {what} are infinite",
            "a token of probability 0 was trained on: ids of another tokenizer, or a truncation that left it out",
        )
    finite_N = trained_N & np.isfinite(given_N)
    values = given_N[finite_N]
    if not len(values):
        return found
    common, count = _most_common(values)
    if count > _CONSTANT * len(values) and len(values) >= 8 and not _is_certain(common, against_N, finite_N):
        at_N = finite_N & (given_N == common)
        add("constant", at_N, f"{count} of {len(values)} {what} are {common:g}", "log the measured numbers")
        return found
    if column != "entropy":
        at_N = _placeholders(given_N, finite_N, common, against_N, batch.row)
        if at_N is not None:
            value = float(given_N[at_N][0])
            add(
                "placeholders counted",
                at_N,
                f"{int(at_N.sum())} trained tokens have a {what[:-3] + 'y'} of exactly {value:g} that is no "
                "measurement: tokens that the policy did not write (observations, padding) are trained on",
                "mask these tokens: 0 in the loss mask wherever the sampler has no number",
            )
    elif values.mean() < -_ABOVE_ZERO:
        at_N = finite_N & (given_N < -_ABOVE_ZERO)
        add("negative entropy", at_N, f"{int(at_N.sum())} of the entropies are below 0", "turn their sign")
    return found


def _in_rows_with_numbers(batch: Batch, given_N: np.ndarray) -> np.ndarray:
    """bool [N]: whether the token's rollout has a number at any trained token."""
    has_R = np.bincount(batch.row, batch.is_trained & ~np.isnan(given_N), minlength=len(batch.rollouts)) > 0
    return has_R[batch.row]


def _most_common(values: np.ndarray) -> tuple[float, int]:
    found, count = np.unique(values, return_counts=True)
    return float(found[count.argmax()]), int(count.max())


def _is_certain(value: float, against_N: np.ndarray | None, finite_N: np.ndarray) -> bool:
    """Whether the value is 0 and the reference says that most tokens were as good as certain."""
    if abs(value) > 1e-3 or against_N is None:
        return False
    reference = against_N[finite_N & np.isfinite(against_N)]
    return len(reference) > 0 and float((reference > -0.01).mean()) > 0.4


def _placeholders(
    given_N: np.ndarray, finite_N: np.ndarray, common: float, against_N: np.ndarray | None, row_N: np.ndarray
) -> np.ndarray | None:
    """bool [N] where one value stands for no number: the reference says something else there, again and again.

    Answers to one prompt that begin alike share the log-probabilities of their first tokens to the last bit, so a value
    other than 0 has to come back within a rollout.
    """
    if against_N is None:
        return None
    known_N = finite_N & np.isfinite(against_N)
    for value in dict.fromkeys([0.0, common]):
        at_N = known_N & (given_N == value)
        wrong_N = at_N & (np.abs(against_N - value) > _AWAY)
        if value and np.bincount(row_N[wrong_N], minlength=1).max() < 2:
            continue
        if wrong_N.sum() >= _LEAST_PLACEHOLDERS and wrong_N.sum() > 0.1 * at_N.sum():
            return at_N if value else wrong_N | (at_N & _beside(wrong_N))
    return None


def _beside(at_N: np.ndarray) -> np.ndarray:
    """bool [N]: tokens next to one of these."""
    return np.concatenate([at_N[1:], [False]]) | np.concatenate([[False], at_N[:-1]])
