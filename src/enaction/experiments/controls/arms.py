"""What the arms of `controls` have in common: how recognition is measured where the texts form a table, and where not.

In a table the mean recognition over readers depends only on who reads own texts: each text is somebody's own, and what
its writer and the others make of it is compared. So it cannot say what foreign text is like. Where an arm changes the
foreign text, own and other text are compared within a reader, and the family's base, which wrote neither, says what the
two texts are worth to anybody (`stats.double_difference`).

Axes: R reader, A author, P prompt, C cell; 2 own text and the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from enaction import stats
from enaction.experiments.cells import INTERVAL, POOLED, Data, estimated
from enaction.findings import Finding, permutation_note
from enaction.words import Framing

NAME = "controls"
MEAN = "mean"


@dataclass(frozen=True)
class Lab:
    """What all arms need: the data, and the matrix that is tested."""

    data: Data
    stage: str
    members: list[str]
    framing: Framing

    def entropy(self, reader: str, author: str) -> np.ndarray:
        """[P]"""
        return self.data.cell(reader, author, self.framing).entropy

    def table(self, ending: str = "") -> np.ndarray:
        """[R, A, P] of the texts of all members whose names have this ending."""
        return np.array([[self.entropy(r, f"{a}{ending}") for a in self.members] for r in self.members])

    def where(self, arm: str, setting: str = "", **more: Any) -> dict[str, Any]:
        """The place of a finding."""
        named = {"setting": setting} if setting else {}
        return {"arm": arm, **named, **more, "stage": self.stage, "framing": self.framing}

    def rng(self, arm: str) -> np.random.Generator:
        """Random numbers of a permutation test."""
        return np.random.default_rng([self.data.study.seed, 5, *arm.encode()])


def table_arm(lab: Lab, arm: str, setting: str, entropy_RAP: np.ndarray) -> list[Finding]:
    """An arm that is a whole table: recognition as in the matrix, and its share of the matrix's."""
    entropy_2RAP = np.array([entropy_RAP, lab.table()])

    def statistic(mean_2RA: np.ndarray) -> np.ndarray:
        recognition_2R = stats.log_ratio_split(mean_2RA).recognition
        return _with_share(recognition_2R[..., 0, :], recognition_2R[..., 1, :].mean(axis=-1))

    found = lab.data.estimate(entropy_2RAP, statistic)
    test = stats.permutation_pvalue(entropy_RAP, lab.rng(arm + setting), lab.data.study.resamples)
    n = int(np.isfinite(entropy_RAP).all(axis=(0, 1)).sum())
    definition = (
        f"recognition, -N/(N-1) times the interaction, in the table of this arm's texts; entropy: {POOLED}; {INTERVAL}"
    )
    return arm_findings(lab, arm, setting, lab.members, found, n, definition, test.mean_pvalue)


def contrast_arm(lab: Lab, arm: str, setting: str, pairs: dict[str, tuple[str, list[str]]]) -> list[Finding]:
    """An arm that is no table: each reader's own text against others, less what readers of neither make of the two.

    Args:
        pairs: reader -> its own text, and the texts that it is held against.
    """
    blocks = {r: _blocks(lab, r, own, others) for r, (own, others) in pairs.items()}
    blocks = {r: found for r, found in blocks.items() if found}
    if not blocks:
        why = "nobody wrote neither text: it needs three models in the matrix, or the family's base"
        return [left_out(lab, arm, why, setting)]
    readers = list(blocks)
    reference = {r: _blocks(lab, r, r, strangers(lab, r)) for r in readers}
    parts = [*blocks.values(), *reference.values()]
    values = np.concatenate([e.reshape(-1, e.shape[-1]) for part in parts for e in part])

    def statistic(mean_C: np.ndarray) -> np.ndarray:
        recognition, at = [], 0
        for part in parts:
            found = []
            for block in part:
                size = 2 * len(block)
                found.append(stats.double_difference(mean_C[:, at : at + size].reshape(-1, len(block), 2)))
                at += size
            # Without a stranger there is no reference.
            recognition.append(np.mean(found, axis=0) if found else np.full(len(mean_C), np.nan))
        here, without = recognition[: len(readers)], recognition[len(readers) :]
        return _with_share(np.stack(here, axis=-1), np.mean(without, axis=0))

    found = lab.data.estimate(values, statistic)
    flat = [block for part in blocks.values() for block in part]
    pvalue = stats.swap_pvalue(flat, lab.rng(arm + setting), lab.data.study.resamples)
    n = min(int(np.isfinite(block).all(axis=(0, 1)).sum()) for block in flat)
    definition = (
        "log(entropy on the other text / on the own), mean over the other texts, minus the same of readers that wrote "
        f"neither (the family's base; without one the other models of the matrix); entropy: {POOLED}; {INTERVAL}"
    )
    findings = arm_findings(lab, arm, setting, readers, found, n, definition, pvalue)
    if len(readers) == len(lab.members) and any(lab.data.study.base_of(r) is None for r in readers):
        findings[len(readers)].notes.append(
            "without bases the mean over readers is the same whatever the other text: look at the single readers"
        )
    return findings


def strangers(lab: Lab, reader: str) -> list[str]:
    """The other models of the matrix."""
    return [a for a in lab.members if a != reader]


def _blocks(lab: Lab, reader: str, own: str, others: list[str]) -> list[np.ndarray]:
    """[R, 2, P] for each other text: the reader first, then who wrote neither; none where there is nobody."""
    blocks, base = [], lab.data.study.base_of(reader)
    for other in others:
        neither = (
            [m for m in lab.members if m not in (reader, other.removesuffix(".moved"))] if base is None else [base]
        )
        if neither:
            blocks.append(np.array([[lab.entropy(r, own), lab.entropy(r, other)] for r in [reader, *neither]]))
    return blocks


def _with_share(recognition_R: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Append the mean over readers, and its share of the reference."""
    mean = recognition_R.mean(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = mean / reference
    return np.concatenate([recognition_R, np.stack([mean, share], axis=-1)], axis=-1)


def arm_findings(
    lab: Lab, arm: str, setting: str, readers: list[str], found: stats.Estimate, n: int, definition: str, pvalue: float
) -> list[Finding]:
    """Recognition of each reader, then their mean with its p-value, then its share."""
    findings = [
        estimated(NAME, "arm_recognition", lab.where(arm, setting, reader=r), found[i], n, "log units", definition)
        for i, r in enumerate([*readers, MEAN])
    ]
    findings[-1].notes.append(permutation_note(pvalue, "own and other texts exchanged within prompts, one-sided"))
    share = (
        "mean recognition of this arm divided by that of the same readers without it (own against the other authors' "
        f"text at the study's settings), resampled together; {INTERVAL}"
    )
    place = lab.where(arm, setting, reader=MEAN)
    return [*findings, estimated(NAME, "arm_share", place, found[len(readers) + 1], n, "ratio", share)]


def left_out(lab: Lab, arm: str, why: str, setting: str = "") -> Finding:
    """An arm that this study cannot have, and why."""
    place = lab.where(arm, setting, reader=MEAN)
    return Finding(NAME, "arm_recognition", place, None, None, None, 0, "log units", f"left out: {why}", [why])
