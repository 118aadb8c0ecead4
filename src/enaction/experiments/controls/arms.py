"""What the arms of `controls` have in common: how recognition is measured where the texts form a table, and where not.

In a table the mean recognition over readers depends only on who reads own texts: each text is somebody's own, and what
its writer and the others make of it is compared. So it cannot say what foreign text is like. Where an arm changes the
foreign text, own and other text are compared within a reader, and the family's base, which wrote neither, says what the
two texts are worth to anybody (`stats.double_difference`).

Axes: R reader, A author, P prompt, C cell; 2 own text and the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from enaction import stats
from enaction.analysis.data import Data, Tokens
from enaction.analysis.ledger import POOLED_LOGS, STREAMS, T_INTERVAL, Ledger, Permuted, along
from enaction.analysis.measures import RECOGNITION
from enaction.findings import Finding
from enaction.words import MEAN, Framing


@dataclass(frozen=True)
class Trial:
    """The matrix that is tested, in one framing, with the ledger of its findings."""

    data: Data
    ledger: Ledger
    members: Sequence[str]
    framing: Framing

    def log_entropy(self, reader: str, author: str) -> np.ndarray:
        """[P]"""
        return self.data.cell(reader, author, self.framing).log_entropy

    def table(self, ending: str = "") -> np.ndarray:
        """[R, A, P] log entropy of the texts of all members whose names have this ending."""
        return self.data.table(self.members, [f"{a}{ending}" for a in self.members], self.framing, "log_entropy")

    @property
    def matrix(self) -> stats.Resampled:
        """[R, A] log entropy of the texts of all members, as the matrix has it."""
        return self.data.matrix(self.members, self.members, self.framing, "log_entropy")

    def tokens(self, reader: str, author: str) -> Tokens:
        """Of a cell, without end-of-turn tokens."""
        return self.data.tokens(self.data.key(reader, author, self.framing)).text()

    def strangers(self, reader: str) -> list[str]:
        """The other models of the matrix."""
        return [a for a in self.members if a != reader]

    def arm(self, arm: str, setting: str = "") -> Ledger:
        """The ledger of an arm."""
        ledger = self.ledger.at(arm=arm)
        return ledger.at(setting=setting) if setting else ledger

    def leave_out(self, arm: str, why: str, setting: str = "") -> None:
        """Write that this study cannot have an arm, and why."""
        self.arm(arm, setting).leave_out("arm_recognition", RECOGNITION.unit, why, reader=MEAN)

    def rng(self, arm: str, setting: str) -> np.random.Generator:
        """Random numbers of an arm's permutation test."""
        return self.ledger.rng((*STREAMS["controls", "arms"], *(arm + setting).encode()))


def table_arm(trial: Trial, arm: str, setting: str, log_RAP: np.ndarray, pooling: str = POOLED_LOGS) -> None:
    """An arm that is a whole table: recognition as in the matrix, and its share of the matrix's.

    Args:
        log_RAP: log entropy.
        pooling: how tokens became the means of the arm's table.
    """

    def statistic(mean_2RA: np.ndarray) -> np.ndarray:
        recognition_2R = RECOGNITION.of(mean_2RA)
        return _with_share(recognition_2R[..., 0, :], recognition_2R[..., 1, :].mean(axis=-1))

    estimate = stats.Resampled.stack([trial.data.resampled(log_RAP), trial.matrix]).jackknife(statistic)
    test = stats.exchangeability_test(log_RAP, trial.rng(arm, setting), trial.data.study.resamples)
    n = int(np.isfinite(log_RAP).all(axis=(0, 1)).sum())
    text = f"{RECOGNITION.text}, in the table of this arm's texts"
    n_readers = len(trial.members)
    if n_readers < RECOGNITION.least:  # one number for all of them
        readers, estimate = [], estimate[n_readers:]
    else:
        readers = trial.members
    write_arm(trial.arm(arm, setting), readers, estimate, n, text, test.mean_pvalue, pooling)


def contrast_arm(trial: Trial, arm: str, setting: str, pairs: Mapping[str, tuple[str, Sequence[str]]]) -> None:
    """An arm that is no table: each reader's own text against others, less what readers of neither make of the two.

    Args:
        pairs: reader -> its own text, and the texts that it is compared with.
    """
    blocks = {r: block for r, (own, others) in pairs.items() if (block := _blocks(trial, r, own, others))}
    if not blocks:
        why = "nobody wrote neither text: it needs three models in the matrix, or the family's base"
        return trial.leave_out(arm, why, setting)
    readers = list(blocks)
    parts = [*blocks.values(), *(_blocks(trial, r, r, trial.strangers(r)) for r in readers)]
    cells = [block for part in parts for block in part]
    ends = np.cumsum([2 * len(block) for block in cells])[:-1]

    def statistic(mean_C: np.ndarray) -> np.ndarray:
        split = [block_C.reshape(len(mean_C), -1, 2) for block_C in np.split(mean_C, ends, axis=-1)]
        difference = map(stats.double_difference, split)
        # Without a stranger there is no reference.
        recognition = [
            np.mean([next(difference) for _ in part], axis=0) if part else np.full(len(mean_C), np.nan)
            for part in parts
        ]
        of_arm, without = recognition[: len(readers)], recognition[len(readers) :]
        return _with_share(np.stack(of_arm, axis=-1), np.mean(without, axis=0))

    value_CP = np.concatenate([block.reshape(-1, block.shape[-1]) for block in cells])
    estimate = trial.data.resampled(value_CP).jackknife(statistic)
    compared = [block for part in blocks.values() for block in part]
    pvalue = stats.swap_pvalue(compared, trial.rng(arm, setting), trial.data.study.resamples)
    n = min(int(np.isfinite(block).all(axis=(0, 1)).sum()) for block in compared)
    text = (
        "log(entropy on the other text / on the own), mean over the other texts, minus the same of readers that wrote "
        "neither (the family's base; without one the other models of the matrix)"
    )
    mean = write_arm(trial.arm(arm, setting), readers, estimate, n, text, pvalue)
    if len(readers) == len(trial.members) and any(trial.data.study.base_of(r) is None for r in readers):
        mean.notes.append(
            "without bases the mean over readers is the same whatever the other text: look at the single readers"
        )


def _blocks(trial: Trial, reader: str, own: str, others: Sequence[str]) -> list[np.ndarray]:
    """[R, 2, P] for each other text: the reader first, then who wrote neither; none where there is nobody."""
    blocks, base = [], trial.data.study.base_of(reader)
    for other in others:
        authors = (reader, other.removesuffix(".moved"))
        neither = [m for m in trial.members if m not in authors] if base is None else [base]
        if neither:
            texts = (own, other)
            blocks.append(np.array([[trial.log_entropy(r, text) for text in texts] for r in [reader, *neither]]))
    return blocks


def _with_share(recognition_R: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Append the mean over readers, and its share of the reference."""
    mean = recognition_R.mean(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = mean / reference
    return np.concatenate([recognition_R, np.stack([mean, share], axis=-1)], axis=-1)


def write_arm(
    ledger: Ledger,
    readers: Sequence[str],
    estimate: stats.Estimate,
    n: int,
    text: str,
    pvalue: float,
    pooling: str = POOLED_LOGS,
) -> Finding:
    """Write recognition of each reader, then their mean with its p-value, which is returned, then its share.

    Args:
        ledger: of the arm.
        readers: that have a number of their own.
        estimate: [R + 2] recognition of each reader, their mean, its share.
        n: prompts.
        text: how recognition is measured.
        pvalue: of the mean.
        pooling: how tokens became means.
    """
    unit, null = RECOGNITION.unit, RECOGNITION.null
    each, axes = estimate[:-2], [along("reader", readers)]
    common: dict[str, Any] = {"pooling": pooling, "n": n, "interval": T_INTERVAL}
    ledger.add("arm_recognition", unit, text, each, axes=axes, null=null, **common)
    test = Permuted(pvalue, "own and other texts exchanged within prompts, one-sided")
    (mean,) = ledger.add("arm_recognition", unit, text, estimate[-2], null=null, test=test, reader=MEAN, **common)
    share = (
        "mean recognition of this arm divided by that of the same readers without it (own against the other authors' "
        "text at the study's settings, all tokens), resampled together"
    )
    ledger.add("arm_share", "ratio", share, estimate[-1], reader=MEAN, **common)
    return mean
