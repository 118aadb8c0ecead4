"""Texts of one length and of equal difficulty: the arms of `controls` that choose tokens and passages.

Axes: R reader, A author, P prompt, M passage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from enaction import stats
from enaction.analysis.data import complete
from enaction.experiments.controls.arms import Trial
from enaction.words import MEAN

FIRST_TOKENS = (
    "log entropy: mean over prompts of the mean over a prompt's passages of the log of the mean entropy of a passage's "
    f"first k tokens, at least {stats.ENTROPY_FLOOR:g} nats, k the length of the reader's shortest text of the prompt, "
    "without the end-of-turn token"
)
# Arm -> the ranks of difficulty that it compares.
_HALVES = {"equal difficulty": (0.0, 1.0), "easy half": (0.0, 0.5), "difficult half": (0.5, 1.0)}


def of_one_length(trial: Trial) -> np.ndarray:
    """[R, A, P] log entropy over the first k tokens of each text, k the reader's shortest text of the prompt."""
    data, table = trial.data, []
    for reader in trial.members:
        cells = [(trial.tokens(reader, a), data.prompt_codes(a)) for a in trial.members]
        shortest_P = np.full(data.n_prompts, np.iinfo(np.int64).max)
        for tokens, prompt_M in cells:
            np.minimum.at(shortest_P, prompt_M, np.bincount(tokens.passage, minlength=len(prompt_M)))
        row = []
        for tokens, prompt_M in cells:
            is_within = tokens.position < shortest_P[prompt_M[tokens.passage]]
            sums = stats.passage_sums(tokens.passage, tokens.entropy, len(prompt_M), is_within)
            row.append(stats.prompt_means(stats.floored_log(sums.means), prompt_M, data.n_prompts))
        table.append(row)
    # A prompt with an empty text has nothing to compare.
    return complete(np.array(table))


def difficulty(trial: Trial, bins: int, judge: str | None = None) -> None:
    """Own against other passages that the family's own base finds equally difficult; without a base, the judge."""
    judges = {r: trial.data.study.base_of(r) or judge for r in trial.members}
    items = {r: _items(trial, r, by) for r, by in judges.items() if by is not None and by != r}
    if not items:
        return trial.leave_out("equal difficulty", "the study has no base of these families and names no judge")
    note = f"{judge} judges its own text too: whatever it gains there makes that text look easier than it is"
    noted = replace(trial, ledger=trial.ledger.at(notes=[note] if judge in trial.members else []))
    for arm, (low, high) in _HALVES.items():
        _matched_arm(noted, arm, {r: item.within(low, high) for r, item in items.items()}, bins)
    if len(trial.members) > 2:
        # One impostor each: with every stranger in turn the differences of two would cancel.
        next_of = dict(zip(trial.members, [*trial.members[1:], trial.members[0]], strict=True))
        impostors = {r: item.claimed_by(next_of[r]) for r, item in items.items()}
        _matched_arm(trial, "equal difficulty, another author for own", impostors, bins, of_readers=False)


class _Items(NamedTuple):
    """Passages as one reader meets them, [M]: rank of difficulty (0 to 1), log entropy, author, own, prompt."""

    rank: np.ndarray
    log_entropy: np.ndarray
    author: np.ndarray
    is_own: np.ndarray
    prompt: np.ndarray

    def within(self, low: float, high: float) -> _Items:
        """Those of this difficulty, ranks stretched to 0 to 1."""
        kept = self._take((self.rank >= low) & (self.rank < high))
        return kept._replace(rank=(kept.rank - low) / (high - low))

    def claimed_by(self, author: str) -> _Items:
        """The strangers' passages alone, one stranger's taken for own."""
        return self._replace(is_own=self.author == author)._take(~self.is_own)

    def _take(self, keep: np.ndarray) -> _Items:
        return _Items(*(column[keep] for column in self))


def _items(trial: Trial, reader: str, judge: str) -> _Items:
    """The passages of all authors in which both the reader and the judge measured a token."""
    each = [[_passage_entropy(trial, r, a) for r in (judge, reader)] for a in trial.members]
    entropy_2M = np.concatenate(each, axis=-1)
    prompts = [trial.data.prompt_codes(a) for a in trial.members]
    is_measured = np.isfinite(entropy_2M).all(axis=0)
    author = np.repeat(trial.members, [len(prompt_M) for prompt_M in prompts])[is_measured]
    judged, own = entropy_2M[:, is_measured]
    rank = judged.argsort(kind="stable").argsort() / len(judged)
    return _Items(rank, np.log(own), author, author == reader, np.concatenate(prompts)[is_measured])


def _passage_entropy(trial: Trial, reader: str, author: str) -> np.ndarray:
    """[M] mean entropy of each passage's tokens; NaN for an empty one."""
    tokens = trial.tokens(reader, author)
    return stats.passage_sums(tokens.passage, tokens.entropy, len(trial.data.passages(author))).means


def _matched_arm(trial: Trial, arm: str, items: Mapping[str, _Items], bins: int, *, of_readers: bool = True) -> None:
    """Recognition among passages of equal difficulty, each reader's and all readers' together.

    Bins of difficulty lie within a reader: rank and number of the reader are one number, cut into equal parts.
    """
    text = (
        "minus (own minus other log entropy of a passage) among passages that the family's base (without one the "
        "judge) reads with equal mean entropy: quantile bins of the reader's passages, Mantel-Haenszel weights; the "
        "mean pools the readers' bins"
    )
    pooling = "entropy: mean over a passage's tokens, without the end-of-turn token"
    ledger, n = trial.arm(arm), trial.data.n_prompts
    groups = {r: [item] for r, item in items.items()} if of_readers else {}
    for reader, group in {**groups, MEAN: list(items.values())}.items():
        apart = (item._replace(rank=i + item.rank) for i, item in enumerate(group))
        rank, log_entropy, _, is_own, prompt = map(np.concatenate, zip(*apart, strict=True))
        if is_own.all() or not is_own.any():
            continue
        n_bins = bins * len(group)
        try:
            gap = stats.matched_gap(rank, log_entropy, is_own, prompt, trial.data.weights, n_bins=n_bins)
        except stats.NoOverlapError:
            if reader == MEAN:
                trial.leave_out(arm, "no own and other passages of equal difficulty")
            continue
        recognition = stats.Estimate(-gap.gap.value, -gap.gap.high, -gap.gap.low)
        ledger.add("arm_recognition", "log units", text, recognition, pooling=pooling, null=0.0, n=n, reader=reader)
        if reader != MEAN:
            continue
        if of_readers:
            share = "the same divided by the plain difference of the same passages without matching, resampled together"
            ledger.add("arm_share", "ratio", share, gap.share, pooling=pooling, n=n, reader=MEAN)
        is_alone = (gap.own_count == 0) | (gap.other_count == 0)
        off = (gap.own_count + gap.other_count)[is_alone].sum() / len(is_own)
        share = "passages in bins of difficulty that hold only own or only other text: no comparison is made there"
        ledger.fact("off_support", "share", share, float(off), len(is_own), reader=MEAN)
