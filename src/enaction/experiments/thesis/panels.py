"""Who reads whom: at each point of training and for each seed, one panel of arms, their starts and neutral models.

An *arm* is a way of training, with one model for each seed at each point (per cent of its steps; its first point is its
start). All arms and starts are *kin*: their texts are what is compared, so no cell between two of them may tell what a
reader would find in a text that it has nothing to do with. That is for the *neutral* models to say, families that never
met the arms' data; the cells inside a family of them are kin too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from enaction.errors import StudyError
from enaction.study.config import Study

# Arm -> point of training, per cent -> its model for each seed.
Arms = Mapping[str, Mapping[int, Sequence[str]]]
# Family -> its models.
Families = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Panel:
    """The models that read each other at a point of training, for one seed.

    Attributes:
        seed: its number, from 1.
        point: per cent of the training.
        arms: arm -> its model.
        starts: arm -> the model that it started from.
        neutral: family -> models.
        akin: arm -> neutral families that it shares a start or data with, beside its own kin.
    """

    seed: int
    point: int
    arms: Mapping[str, str]
    starts: Mapping[str, str]
    neutral: Families
    akin: Families

    @property
    def members(self) -> list[str]:
        """Every model once: arms, starts, neutral ones."""
        outside = [model for models in self.neutral.values() for model in models]
        return list(dict.fromkeys([*self.arms.values(), *self.starts.values(), *outside]))

    def kin_pairs(self) -> np.ndarray:
        """[R, A] bool: the cells that may not say what a reader expects of an author; own cells among them."""
        groups = {model: {"arms"} for arms in (self.starts, self.arms) for model in arms.values()}
        for family, models in self.neutral.items():
            for model in models:
                groups.setdefault(model, set()).add(family)
        for arm, families in self.akin.items():
            for model in (self.arms.get(arm), self.starts.get(arm)):
                if model is not None:
                    groups[model] |= set(families)
        return np.array([[bool(groups[r] & groups[a]) for a in self.members] for r in self.members])


def panels(arms: Arms, neutral: Families, akin: Families) -> Iterator[Panel]:
    """Every panel, point by point, seed by seed; an arm that has no model at a point is not in its panels."""
    for point in points_of(arms):
        present = {arm: models for arm, models in arms.items() if point in models}
        for seed in range(seeds_of(arms)):
            starts = {arm: models[min(models)][seed] for arm, models in present.items()}
            of_seed = {arm: models[point][seed] for arm, models in present.items()}
            yield Panel(seed + 1, point, of_seed, starts, neutral, akin)


def points_of(arms: Arms) -> list[int]:
    """The points of training, rising."""
    return sorted({point for models in arms.values() for point in models})


def seeds_of(arms: Arms) -> int:
    """How many seeds each arm has."""
    return max((len(models) for points in arms.values() for models in points.values()), default=0)


def check(study: Study, arms: Arms, neutral: Families, akin: Families, roles: Sequence[str]) -> None:
    """Refuse arms that the study has no models for, or that cannot be compared.

    Args:
        roles: arms that the settings give a part to.

    Raises:
        StudyError: a model or an arm is not known, seeds differ in number, or fewer than two neutral families are left
            to some arm.
    """
    named = [*(m for points in arms.values() for models in points.values() for m in models)]
    named += [m for models in neutral.values() for m in models]
    if unknown := sorted(set(named) - set(study.models)):
        raise StudyError(f"thesis: {', '.join(unknown)} is not among the study's models")
    if missing := [arm for arm in (*roles, *akin) if arm not in arms]:
        raise StudyError(f"thesis: no arm is called {', '.join(missing)}; there is {', '.join(arms) or 'none'}")
    counts = {len(models) for points in arms.values() for models in points.values()}
    if len(counts) > 1:
        raise StudyError("thesis: every arm needs one model for each seed at each of its points")
    if arms and len(neutral) < 2:
        raise StudyError("thesis: two neutral families at least have to say what an unrelated reader finds in a text")
    for arm, families in akin.items():
        if not set(neutral) - set(families):
            raise StudyError(f"thesis: {arm} is akin to every neutral family, so nothing says what is usual for it")
