"""Measures at each point of training, their changes from point to point, and where recognition appears.

All cells are resampled together over prompts. Axes: S point, R reader, A author, P prompt; M measure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from enaction.analysis.data import Data
from enaction.analysis.ledger import T_INTERVAL, Axis, Ledger, along
from enaction.analysis.measures import (
    EASE,
    INTERACTION,
    LOG_RATIO,
    OTHER_ENTROPY,
    OTHER_SELF_RATIO,
    OWN_ENTROPY,
    RECOGNITION,
    Measure,
    of_rows,
    rows_of,
)
from enaction.experiments.stages.points import Branch
from enaction.stats import Estimate, Resampled
from enaction.words import MEAN, TRACE, Framing

MEASURES = (OWN_ENTROPY, OTHER_ENTROPY, OTHER_SELF_RATIO, LOG_RATIO, RECOGNITION, EASE, INTERACTION)
_FIELDS = tuple(dict.fromkeys(measure.field for measure in MEASURES))


def analyse(data: Data, ledger: Ledger, points: Mapping[str, list[str]], branches: Sequence[Branch]) -> None:
    """All findings of the stages, framing by framing.

    Args:
        data, ledger: of a finished run.
        points, branches: see `points`.
    """
    for framing in data.study.framings:
        here = ledger.at(framing=framing)
        tables = {field: _tables(data, points.values(), framing, field) for field in _FIELDS}
        interaction_S = _add_measures(data, here, points, tables, framing)
        n = tables[INTERACTION.field].n_prompts
        _add_bases(data, here, points, framing, n)
        _add_share_of_last(here, list(points), tables[RECOGNITION.field])
        _add_appearance(here, list(points), interaction_S, n)
        for branch in branches:
            both = [points[branch.origin], branch.members]
            pair = {field: _tables(data, both, framing, field) for field in _FIELDS}
            _add_branch(here.at(family=MEAN, branch=branch.name, from_point=branch.origin), pair)


def measured(mean_SRA: np.ndarray, measure: Measure) -> np.ndarray:
    """A measure of tables [..., S, R, A]: [..., S, row], each reader's and their mean, see `rows_of`."""
    return of_rows(measure, mean_SRA.shape[-1])(mean_SRA)


def _tables(data: Data, groups: Iterable[list[str]], framing: Framing, field: str) -> Resampled:
    """[S, R, A] of a field."""
    return Resampled.stack([data.matrix(members, members, framing, field) for members in groups])


def _with_changes(tables: Mapping[str, Resampled], measure: Measure) -> Estimate:
    """[2 S, row] as `measured`; then the changes from each table to the next, and from the first to the last."""

    def statistic(mean_SRA: np.ndarray) -> np.ndarray:
        value_SR = measured(mean_SRA, measure)
        whole = value_SR[..., -1:, :] - value_SR[..., :1, :]
        return np.concatenate([value_SR, np.diff(value_SR, axis=-2), whole], axis=-2)

    table = tables[measure.field]
    return table.jackknife(statistic) if measure.interval == T_INTERVAL else table.estimate(statistic)


def _add_measures(
    data: Data, ledger: Ledger, points: Mapping[str, list[str]], tables: Mapping[str, Resampled], framing: Framing
) -> Estimate:
    """Each measure at each point, its changes from each to the next, and the one from the first to the last.

    Returns:
        The mean interaction at each point, [S].
    """
    names, places = list(points), _places(points)
    families = [data.study.models[m].family for m in points[names[0]]]
    steps = [place | {"from_point": before} for before, place in zip(names, places[1:], strict=False)]
    whole = [places[-1] | {"from_point": names[0]}]
    plain = [data.without_template(members, framing) for members in points.values()]
    notes = [[f"{model} has no chat template and is read without one" for model in models] for models in plain]
    for measure in MEASURES:
        # The eases of the readers' own texts cancel in their mean, which says nothing.
        rows = [row for row in rows_of(measure, families) if row != MEAN or measure.has_mean]
        estimate, n = _with_changes(tables, measure), tables[measure.field].n_prompts
        write, readers, values = partial(_write, measure, n), along("family", rows), estimate[:, : len(rows)]
        for s, place in enumerate(places):
            here = ledger.at(notes=notes[s], **place)
            write(here, f"point_{measure.stem}", measure.text, values[s], [readers], measure.null)
        for kind, what, change, axis in (
            ("change", "at this point minus at the one before", values[len(points) : -1], steps),
            ("whole_change", "at the last point minus at the first", values[-1:], whole),
        ):
            text = f"{what}, same prompts: {measure.text}"
            write(ledger, f"{kind}_{measure.stem}", text, change, [axis, readers], 0.0)
    return _with_changes(tables, INTERACTION)[: len(points), -1]


def _add_branch(ledger: Ledger, tables: Mapping[str, Resampled]) -> None:
    """The measures of a matrix that branches off at a point, and their changes from there, mean over readers."""
    for measure in MEASURES:
        if measure.has_mean:
            estimate, write = _with_changes(tables, measure), partial(_write, measure, tables[measure.field].n_prompts)
            write(ledger, f"branch_{measure.stem}", measure.text, estimate[1, -1], [], measure.null)
            text = f"at this branch minus at the point that it branches off, same prompts: {measure.text}"
            write(ledger, f"branch_change_{measure.stem}", text, estimate[2, -1], [], 0.0)


def _write(
    measure: Measure,
    n: int,
    ledger: Ledger,
    quantity: str,
    text: str,
    value: Estimate,
    axes: Sequence[Axis],
    null: float | None,
) -> None:
    ledger.add(
        quantity, measure.unit, text, value, axes=axes, null=null, n=n, pooling=measure.pooling,
        interval=measure.interval,
    )  # fmt: skip


def _add_bases(data: Data, ledger: Ledger, points: Mapping[str, list[str]], framing: Framing, n: int) -> None:
    """The null: the same texts, read by each family's own base in place of its descendant."""
    quantity, unit = "point_interaction_of_bases", INTERACTION.unit
    text = (
        "mean interaction of a table in which each family's base reads in place of its descendant: what the texts "
        "alone bring"
    )
    for place, members in zip(_places(points), points.values(), strict=True):
        bases = [base for m in members if (base := data.study.base_of(m)) is not None]
        if len(bases) == len(members):
            table = data.matrix(bases, members, framing, INTERACTION.field)
            ledger.at(**place).add(
                quantity, unit, text, table, lambda log_RA: INTERACTION.of(log_RA).mean(axis=-1), null=0.0, n=n,
                pooling=INTERACTION.pooling, interval=INTERACTION.interval, family=MEAN,
            )  # fmt: skip


def _add_share_of_last(ledger: Ledger, names: list[str], stacked: Resampled) -> None:
    """How much of the last point's recognition each point has."""

    def shares(mean_SRA: np.ndarray) -> np.ndarray:
        recognition_S = RECOGNITION.of(mean_SRA).mean(axis=-1)
        return recognition_S[..., :-1] / recognition_S[..., -1:]

    text = "mean recognition at this point divided by that at the last"
    ledger.add(
        "share_of_last", "ratio", text, stacked, shares, [_places(names)[:-1]], pooling=RECOGNITION.pooling, family=MEAN
    )


def _add_appearance(ledger: Ledger, names: list[str], interaction_S: Estimate, n: int) -> None:
    """The first point from which on the mean interaction shows recognition."""
    shows_S = interaction_S.high < -TRACE
    first = next((s for s in range(len(names)) if shows_S[s:].all()), None)
    ledger.fact(
        "appears_at",
        "point",
        f"number of the first point from which on the mean interaction's interval lies below -{TRACE:g} (an effect of "
        "more than 2 %) at all points; none where it does not at the last",
        None if first is None else first + 1.0,
        n,
        point=None if first is None else names[first],
    )


def _places(points: Iterable[str]) -> list[dict[str, Any]]:
    return [{"point": point, "order": s} for s, point in enumerate(points, start=1)]
