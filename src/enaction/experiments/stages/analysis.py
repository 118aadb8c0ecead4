"""Measures at each point of training, their changes from point to point, and where recognition appears.

All cells are resampled together over prompts. Axes: S point, R reader, A author, P prompt; M measure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger, along, appended_mean
from enaction.analysis.measures import (
    EASE,
    INTERACTION,
    LOG_RATIO,
    OTHER_ENTROPY,
    OTHER_SELF_RATIO,
    OWN_ENTROPY,
    RECOGNITION,
    mean_interaction,
)
from enaction.experiments.stages.points import Branch
from enaction.stats import Estimate, Resampled
from enaction.words import MEAN, TRACE, Framing

MEASURES = (OWN_ENTROPY, OTHER_ENTROPY, OTHER_SELF_RATIO, LOG_RATIO, RECOGNITION, EASE, INTERACTION)


def analyse(data: Data, ledger: Ledger, points: Mapping[str, list[str]], branches: Sequence[Branch]) -> None:
    """All findings of the stages, framing by framing.

    Args:
        data, ledger: of a finished run.
        points, branches: see `points`.
    """
    for framing in data.study.framings:
        here = ledger.at(framing=framing)
        tables = {point: data.matrix(members, members, framing) for point, members in points.items()}
        stacked = Resampled.stack(list(tables.values()))
        interaction_S = _add_measures(data, here, points, stacked, framing)
        _add_bases(data, here, points, framing, stacked.n_prompts)
        _add_share_of_last(here, list(points), stacked)
        _add_appearance(here, list(points), interaction_S, stacked.n_prompts)
        for branch in branches:
            members = branch.members
            pair = Resampled.stack([tables[branch.origin], data.matrix(members, members, framing)])
            _add_branch(here.at(family=MEAN, branch=branch.name, from_point=branch.origin), pair)


def measured(mean_SRA: np.ndarray) -> np.ndarray:
    """[..., M, S, R + 1]: each of `MEASURES` of tables [..., S, R, A], each reader's and their mean."""
    return appended_mean(np.stack([measure.of(mean_SRA) for measure in MEASURES], axis=-3))


def _with_changes(mean_SRA: np.ndarray) -> np.ndarray:
    """As `measured`; following the tables, the changes from each to the next, and from the first to the last."""
    value_MSR = measured(mean_SRA)
    whole = value_MSR[..., -1:, :] - value_MSR[..., :1, :]
    return np.concatenate([value_MSR, np.diff(value_MSR, axis=-2), whole], axis=-2)


def _add_measures(
    data: Data, ledger: Ledger, points: Mapping[str, list[str]], stacked: Resampled, framing: Framing
) -> Estimate:
    """Each measure at each point, its changes from each to the next, and the one from the first to the last.

    Returns:
        The mean interaction at each point, [S].
    """
    estimate, n = stacked.estimate(_with_changes), stacked.n_prompts
    names, places = list(points), _places(points)
    families = [data.study.models[m].family for m in points[names[0]]]
    steps = [place | {"from_point": before} for before, place in zip(names, places[1:], strict=False)]
    whole = [places[-1] | {"from_point": names[0]}]
    plain = [data.without_template(members, framing) for members in points.values()]
    notes = [[f"{model} has no chat template and is read without one" for model in models] for models in plain]
    for i, measure in enumerate(MEASURES):
        # The eases of the readers' own texts cancel in their mean, which says nothing.
        readers = along("family", [*families, MEAN] if measure.has_mean else families)
        values, unit, text = estimate[i, :, : len(readers)], measure.unit, measure.text
        for s, place in enumerate(places):
            here = ledger.at(notes=notes[s], **place)
            here.add(f"point_{measure.stem}", unit, text, values[s], axes=[readers], null=measure.null, n=n)
        for kind, what, change, axis in (
            ("change", "at this point minus at the one before", values[len(points) : -1], steps),
            ("whole_change", "at the last point minus at the first", values[-1:], whole),
        ):
            text, axes = f"{what}, same prompts: {measure.text}", [axis, readers]
            ledger.add(f"{kind}_{measure.stem}", unit, text, change, axes=axes, null=0.0, n=n)
    return estimate[MEASURES.index(INTERACTION), : len(points), -1]


def _add_branch(ledger: Ledger, pair: Resampled) -> None:
    """The measures of a matrix that branches off at a point, and their changes from there, mean over readers."""
    estimate, n = pair.estimate(_with_changes), pair.n_prompts
    for i, measure in enumerate(MEASURES):
        if measure.has_mean:
            name, unit, text = measure.stem, measure.unit, measure.text
            ledger.add(f"branch_{name}", unit, text, estimate[i, 1, -1], null=measure.null, n=n)
            text = f"at this branch minus at the point that it branches off, same prompts: {text}"
            ledger.add(f"branch_change_{name}", unit, text, estimate[i, 2, -1], null=0.0, n=n)


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
            table = data.matrix(bases, members, framing)
            ledger.add(quantity, unit, text, table, mean_interaction, null=0.0, n=n, family=MEAN, **place)


def _add_share_of_last(ledger: Ledger, names: list[str], stacked: Resampled) -> None:
    """How much of the last point's recognition each point has."""

    def shares(mean_SRA: np.ndarray) -> np.ndarray:
        recognition_S = RECOGNITION.of(mean_SRA).mean(axis=-1)
        return recognition_S[..., :-1] / recognition_S[..., -1:]

    text = "mean recognition at this point divided by that at the last"
    ledger.add("share_of_last", "ratio", text, stacked, shares, [_places(names)[:-1]], family=MEAN)


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
