"""E5: every measure of the matrix along training, from point to point, and when recognition appears.

Question: is recognition there after pretraining; if not, which stage brings it, in which framing, and is its order
reversed anywhere on the way?
Procedure: the points are the study's matrices in their order, each a stage or a checkpoint inside one, with one model
of each family; self is what the models of the point themselves sampled. Every model of a point reads every text of the
point. The null is the first point, and the families' bases reading the same texts.
Source: arXiv 2605.25459, its training stages of OLMo-3.

All cells are resampled together over prompts. Axes: S point, R reader, A author, P prompt; `M` measure.
"""

from __future__ import annotations

import numpy as np

from enaction import stats
from enaction.errors import StudyError
from enaction.experiments.cells import INTERVAL, POOLED, Data, NoSettings, estimated
from enaction.findings import Finding
from enaction.study.config import Study
from enaction.study.planning import Plan, framing_for
from enaction.study.store import Cell
from enaction.words import Framing

NAME = "stages"
MEAN = "mean"
# An interaction nearer to 0 than this changes no entropy by more than 2 %: a trace, not an appearance.
TRACE = 0.02
MEASURES = {
    "own_entropy": ("nats", "entropy on the reader's own text"),
    "other_entropy": ("nats", "mean entropy on the other authors' text"),
    "ratio": ("ratio", "mean entropy on the other authors' text divided by entropy on the reader's own"),
    "log_ratio": ("log units", "log of the geometric-mean other/self ratio = recognition + ease"),
    "recognition": ("log units", "part of log_ratio that reader and author effects do not explain"),
    "ease": ("log units", "part of log_ratio from text: the others' mean author effect minus the own text's"),
    "interaction": ("log units", "diagonal residual of log entropy; below 0: recognition"),
}


class Settings(NoSettings):
    """Which matrices are points of the curve.

    Attributes:
        points: names of the study's matrices in the order of training, checkpoints inside a stage among them; all of
            them in the order of the study by default.
        branches: matrix -> the point that it branches off (another run of a stage, say); its models' families may have
            other names, but count for those of the point in alphabetical order.
    """

    points: tuple[str, ...] | None = None
    branches: dict[str, str] = {}  # noqa: RUF012  # pydantic copies it


def points_of(study: Study, settings: Settings) -> dict[str, list[str]]:
    """Point -> its models, family by family in the same order.

    Raises:
        StudyError: a point is no matrix, there is only one, or two points have not the same families.
    """
    groups = study.groups()
    names = list(groups) if settings.points is None else list(settings.points)
    unknown = [name for name in names if name not in groups]
    if unknown:
        raise StudyError(f"stages: points: no matrix {', '.join(unknown)}; there is {', '.join(groups) or 'none'}")
    points = {name: sorted(groups[name], key=lambda m: study.models[m].family) for name in names}
    families = {name: [study.models[m].family for m in members] for name, members in points.items()}
    if settings.points is None:
        # Other groups (near-clones, say) are no points of the curve that the last matrix is on.
        points = {name: points[name] for name in names if families[name] == families[names[-1]]}
    if len(points) < 2 or len({tuple(families[name]) for name in points}) > 1:
        raise StudyError(
            "stages: a curve needs two or more matrices with one model of each family, the same families in all: name "
            "them under `matrices`, and in order under `points`"
        )
    return points


def branches_of(study: Study, settings: Settings) -> dict[str, list[str]]:
    """Branch -> its models, in alphabetical order of their families.

    Raises:
        StudyError: a branch is no matrix, or has not as many models as the point that it branches off, or that is none.
    """
    points, groups = points_of(study, settings), study.groups_named(list(settings.branches))
    for name, origin in settings.branches.items():
        if origin not in points or len(groups[name]) != len(points[origin]):
            raise StudyError(
                f"stages: branches: {name} needs to name a point with as many models as it has; there is "
                f"{', '.join(points)}"
            )
    return {name: sorted(members, key=lambda m: study.models[m].family) for name, members in groups.items()}


def plan(study: Study, settings: Settings) -> Plan:
    """The models of a point and their bases read all texts of the point; so in a branch."""
    cells = [
        Cell(reader, author, framing)
        for members in [*points_of(study, settings).values(), *branches_of(study, settings).values()]
        for model in members
        for reader in [model, study.base_of(model)]
        if reader is not None
        for framing in study.framings
        for author in members
    ]
    return Plan({}, cells)


def analyse(data: Data, settings: Settings) -> list[Finding]:
    """Measures at each point, changes from each to the next, where recognition appears."""
    points, branches = points_of(data.study, settings), branches_of(data.study, settings)
    findings = []
    for framing in data.study.framings:
        findings += _in_framing(data, points, framing)
        for name, members in branches.items():
            origin = settings.branches[name]
            findings += _branch(data, name, members, origin, points[origin], framing)
    return findings


def _in_framing(data: Data, points: dict[str, list[str]], framing: Framing) -> list[Finding]:
    entropy_SRAP = np.array([data.table(members, members, framing, "entropy") for members in points.values()])
    found = data.estimate(entropy_SRAP, lambda m: _with_changes(measures(m)))
    names, families = list(points), [data.study.models[m].family for m in next(iter(points.values()))]
    n = int(np.isfinite(entropy_SRAP).all(axis=(0, 1, 2)).sum())
    findings = []
    for s, (point, members) in enumerate(points.items()):
        plain = [m for m in members if framing_for(data.own_framing[m], framing) != framing]
        notes = [f"{m} has no chat template and is read without one" for m in plain]
        for i, (measure, (unit, meaning)) in enumerate(MEASURES.items()):
            # Over the readers of a table the eases of their own texts cancel: their mean says nothing.
            for r, reader in enumerate(families if measure == "ease" else [*families, MEAN]):
                where = {"family": reader, "point": point, "order": s + 1, "framing": framing}
                text = f"{meaning}; entropy: {POOLED}; {INTERVAL}"
                findings.append(estimated(NAME, f"point_{measure}", where, found[i, s, r], n, unit, text))
                findings[-1].notes.extend(notes)
                if s:
                    before = where | {"from_point": names[s - 1]}
                    text = f"at this point minus at the one before, same prompts: {meaning}; {INTERVAL}"
                    change = found[i, len(points) + s - 1, r]
                    findings.append(estimated(NAME, f"change_{measure}", before, change, n, unit, text))
                if point == names[-1]:
                    first = where | {"from_point": names[0]}
                    text = f"at the last point minus at the first, same prompts: {meaning}; {INTERVAL}"
                    findings.append(estimated(NAME, f"whole_change_{measure}", first, found[i, -1, r], n, unit, text))
    findings += _by_bases(data, points, framing, n)
    findings += _share_of_last(data, names, entropy_SRAP, framing, n)
    return [*findings, _appearance(findings, names, framing)]


def _branch(
    data: Data, name: str, members: list[str], origin: str, origin_members: list[str], framing: Framing
) -> list[Finding]:
    """The measures of a matrix that branches off at a point, and their changes from there, mean over readers."""
    entropy_2RAP = np.array([data.table(m, m, framing, "entropy") for m in (origin_members, members)])

    def statistic(mean_2RA: np.ndarray) -> np.ndarray:
        before_M, here_M = np.moveaxis(measures(mean_2RA)[..., -1], -1, 0)
        return np.stack([here_M, here_M - before_M], axis=-1)

    found = data.estimate(entropy_2RAP, statistic)
    n = int(np.isfinite(entropy_2RAP).all(axis=(0, 1, 2)).sum())
    where = {"family": MEAN, "branch": name, "from_point": origin, "framing": framing}
    findings = []
    for i, (measure, (unit, meaning)) in enumerate(MEASURES.items()):
        if measure == "ease":  # its mean over readers is 0
            continue
        text = f"{meaning}; entropy: {POOLED}; {INTERVAL}"
        findings.append(estimated(NAME, f"branch_{measure}", where, found[i, 0], n, unit, text))
        text = f"at this branch minus at the point that it branches off, same prompts: {meaning}; {INTERVAL}"
        findings.append(estimated(NAME, f"branch_change_{measure}", where, found[i, 1], n, unit, text))
    return findings


def measures(mean_SRA: np.ndarray) -> np.ndarray:
    """[..., M, S, R + 1]: each of `MEASURES` of tables [..., S, R, A], each reader's and their mean."""
    own = np.diagonal(mean_SRA, axis1=-2, axis2=-1)
    split = stats.log_ratio_split(mean_SRA)
    ratio = stats.other_self_ratio(mean_SRA)
    of_readers = [
        own, ratio * own, ratio, split.log_geometric_ratio, split.recognition, split.ease, stats.interaction(mean_SRA),
    ]  # fmt: skip
    found = np.stack(of_readers, axis=-3)
    return np.concatenate([found, found.mean(axis=-1, keepdims=True)], axis=-1)


def _with_changes(value_MSR: np.ndarray) -> np.ndarray:
    """Append along S the changes from each point to the next, and the one from the first to the last."""
    whole = value_MSR[..., -1:, :] - value_MSR[..., :1, :]
    return np.concatenate([value_MSR, np.diff(value_MSR, axis=-2), whole], axis=-2)


def _by_bases(data: Data, points: dict[str, list[str]], framing: Framing, n: int) -> list[Finding]:
    """The null: the same texts, read by each family's own base in place of its descendant."""
    findings = []
    for s, (point, members) in enumerate(points.items()):
        bases = [data.study.base_of(m) for m in members]
        readers = [base for base in bases if base is not None]
        if len(readers) < len(members):
            continue
        found = data.estimate(
            data.table(readers, members, framing, "entropy"), lambda m: stats.interaction(m).mean(axis=-1)
        )
        where = {"family": MEAN, "point": point, "order": s + 1, "framing": framing}
        text = (
            "mean interaction of a table in which each family's base reads in place of its descendant: what the texts "
            f"alone bring; entropy: {POOLED}; {INTERVAL}"
        )
        findings.append(estimated(NAME, "point_interaction_of_bases", where, found, n, "log units", text))
    return findings


def _share_of_last(data: Data, names: list[str], entropy_SRAP: np.ndarray, framing: Framing, n: int) -> list[Finding]:
    """How much of the last point's recognition is there at each point."""

    def statistic(mean_SRA: np.ndarray) -> np.ndarray:
        recognition_S = stats.log_ratio_split(mean_SRA).recognition.mean(axis=-1)
        return recognition_S / recognition_S[..., -1:]

    found = data.estimate(entropy_SRAP, statistic)
    text = f"mean recognition at this point divided by that at the last; {INTERVAL}"
    return [
        estimated(
            NAME,
            "share_of_last",
            {"family": MEAN, "point": name, "order": s + 1, "framing": framing},
            found[s],
            n,
            "ratio",
            text,
        )
        for s, name in enumerate(names[:-1])
    ]


def _appearance(findings: list[Finding], names: list[str], framing: Framing) -> Finding:
    """The first point from which on recognition is there."""
    mean = {f.where["point"]: f for f in findings if f.quantity == "point_interaction" and f.where["family"] == MEAN}
    there = [(f := mean[name]).high is not None and f.high < -TRACE for name in names]
    first = next((s for s in range(len(names)) if all(there[s:])), None)
    text = (
        f"number of the first point from which on the mean interaction's interval lies below -{TRACE:g} (an effect of "
        "more than 2 %) at all points; none where it does not at the last"
    )
    where = {"framing": framing, "point": None if first is None else names[first]}
    estimate = None if first is None else float(first + 1)
    return Finding(NAME, "appears_at", where, estimate, None, None, mean[names[-1]].n, "point", text)
