"""Which matrices of a study are points of the curve of training, and which branch off it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from enaction.errors import StudyError
from enaction.study.config import Study


@dataclass(frozen=True)
class Branch:
    """A matrix that branches off a point: its name, its models in alphabetical order of their families, the point."""

    name: str
    members: list[str]
    origin: str


def points_of(study: Study, chosen: Sequence[str] | None) -> dict[str, list[str]]:
    """Point -> its models, family by family in the same order.

    Args:
        study: whose matrices they are.
        chosen: names of matrices; by default all that have the families of the last one.

    Raises:
        StudyError: a point is not a matrix, there is only one, or two points have different families.
    """
    groups = study.groups()
    names = list(groups) if chosen is None else list(chosen)
    unknown = [name for name in names if name not in groups]
    if unknown:
        known = ", ".join(groups) or "none"
        raise StudyError(f"stages: points: no matrix {', '.join(unknown)}; the study has {known}")
    points = {name: _by_family(study, groups[name]) for name in names}
    families = {name: [study.models[m].family for m in members] for name, members in points.items()}
    if chosen is None:
        # Other groups (near-clones, say) are not points of the curve that the last matrix is on.
        points = {name: points[name] for name in names if families[name] == families[names[-1]]}
    if len(points) < 2 or len({tuple(families[name]) for name in points}) > 1:
        raise StudyError(
            "stages: a curve needs two or more matrices with one model of each family, the same families in all: name "
            "them under `matrices`, and in order under `points`"
        )
    return points


def branches_of(study: Study, origins: Mapping[str, str], points: Mapping[str, list[str]]) -> list[Branch]:
    """The branches of a study.

    Args:
        study: whose matrices they are.
        origins: name of a matrix -> the point that it branches off.
        points: from `points_of`.

    Raises:
        StudyError: a branch is not a matrix, or has more or fewer models than the point that it branches off, or that
            is not a point.
    """
    groups = study.groups_named(list(origins))
    for name, origin in origins.items():
        if origin not in points or len(groups[name]) != len(points[origin]):
            raise StudyError(
                f"stages: branches: {name} needs to name a point with as many models as it has; the points are "
                f"{', '.join(points)}"
            )
    return [Branch(name, _by_family(study, groups[name]), origin) for name, origin in origins.items()]


def _by_family(study: Study, members: Sequence[str]) -> list[str]:
    return sorted(members, key=lambda m: study.models[m].family)
