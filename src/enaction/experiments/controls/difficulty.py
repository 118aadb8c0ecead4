"""Texts of one length and of equal difficulty: the arms of `controls` that choose tokens and passages.

Axes: R reader, A author, P prompt, M passage, N token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from enaction import stats
from enaction.experiments.cells import INTERVAL, estimated, passage_codes
from enaction.experiments.controls.arms import MEAN, NAME, Lab, left_out
from enaction.findings import Finding


def of_one_length(lab: Lab) -> np.ndarray:
    """[R, A, P] entropy over the first k tokens of each text, k the reader's shortest text of the prompt."""
    data, table = lab.data, []
    for reader in lab.members:
        read = [_tokens(lab, reader, a) for a in lab.members]
        shortest_P = np.full(data.n_prompts, np.iinfo(np.int64).max)
        for passage_N, _, _, prompt_M in read:
            np.minimum.at(shortest_P, prompt_M, np.bincount(passage_N, minlength=len(prompt_M)))
        row = []
        for passage_N, position_N, entropy_N, prompt_M in read:
            within_N = position_N < shortest_P[prompt_M[passage_N]]
            sums = stats.passage_sums(passage_N, entropy_N, len(prompt_M), within_N)
            row.append(stats.prompt_means(sums.means, prompt_M, data.n_prompts))
        table.append(row)
    # A prompt with an empty text has nothing to compare.
    entropy_RAP = np.array(table)
    return np.where(np.isnan(entropy_RAP).any(axis=(0, 1)), np.nan, entropy_RAP)


def _tokens(lab: Lab, reader: str, author: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Passage code, position and entropy of each text token, and the prompt code of each passage."""
    data = lab.data
    tokens, passages = data.run.tokens(data.key(reader, author, lab.framing)), data.passages(author)
    tokens = tokens.filter(~tokens["is_end"].to_numpy())
    prompt_M = np.array([data.prompt_code[p.prompt_id] for p in passages])
    passage_N = passage_codes(tokens, passages)
    return passage_N, tokens["position"].to_numpy(), tokens["entropy"].to_numpy(), prompt_M


def difficulty(lab: Lab, bins: int, judge: str | None = None) -> list[Finding]:
    """Own against other passages that the family's own base finds equally difficult; without a base, the judge."""
    judges = {r: lab.data.study.base_of(r) or judge for r in lab.members}
    items = {r: _items(lab, r, by) for r, by in judges.items() if by is not None and by != r}
    if not items:
        return [left_out(lab, "equal difficulty", "the study has no base of these families and names no judge")]
    findings = []
    for arm, low, high in (("equal difficulty", 0.0, 1.0), ("easy half", 0.0, 0.5), ("difficult half", 0.5, 1.0)):
        findings += _matched_arm(lab, arm, {r: item.within(low, high) for r, item in items.items()}, bins)
    if judge in lab.members:
        note = f"{judge} judges its own text too: whatever it gains there makes that text look easier than it is"
        for finding in findings:
            finding.notes.append(note)
    if len(lab.members) > 2:
        # One impostor each: with every stranger in turn the differences of two would cancel.
        next_of = dict(zip(lab.members, [*lab.members[1:], lab.members[0]], strict=True))
        impostors = {r: item.claimed_by(next_of[r]) for r, item in items.items()}
        findings += _matched_arm(lab, "equal difficulty, another author for own", impostors, bins, name_readers=False)
    return findings


@dataclass(frozen=True)
class _Items:
    """Passages as one reader meets them, [M]: rank of difficulty (0 to 1), log entropy, author, own, prompt."""

    rank: np.ndarray
    log_entropy: np.ndarray
    author: np.ndarray
    is_own: np.ndarray
    prompt: np.ndarray

    def take(self, keep: np.ndarray, is_own: np.ndarray | None = None) -> _Items:
        own = self.is_own if is_own is None else is_own
        return _Items(self.rank[keep], self.log_entropy[keep], self.author[keep], own[keep], self.prompt[keep])

    def within(self, low: float, high: float) -> _Items:
        """Those of this difficulty, ranks stretched to 0 to 1."""
        found = self.take((self.rank >= low) & (self.rank < high))
        return _Items((found.rank - low) / (high - low), found.log_entropy, found.author, found.is_own, found.prompt)

    def claimed_by(self, author: str) -> _Items:
        """The strangers' passages alone, one stranger's taken for own."""
        return self.take(~self.is_own, self.author == author)


def _items(lab: Lab, reader: str, judge: str) -> _Items:
    difficulty, log_entropy, author, prompt = [], [], [], []
    for a in lab.members:
        judged_M, own_M = (_passage_entropy(lab, r, a) for r in (judge, reader))
        prompt_M = np.array([lab.data.prompt_code[p.prompt_id] for p in lab.data.passages(a)])
        there_M = np.isfinite(judged_M) & np.isfinite(own_M)
        difficulty.append(judged_M[there_M])
        log_entropy.append(np.log(own_M[there_M]))
        author += [a] * int(there_M.sum())
        prompt.append(prompt_M[there_M])
    judged_entropy = np.concatenate(difficulty)
    rank = judged_entropy.argsort(kind="stable").argsort() / len(judged_entropy)
    names = np.array(author)
    return _Items(rank, np.concatenate(log_entropy), names, names == reader, np.concatenate(prompt))


def _passage_entropy(lab: Lab, reader: str, author: str) -> np.ndarray:
    """[M] mean entropy of each passage's tokens; NaN for an empty one."""
    passage_N, _, entropy_N, prompt_M = _tokens(lab, reader, author)
    return stats.passage_sums(passage_N, entropy_N, len(prompt_M)).means


def _matched_arm(
    lab: Lab, arm: str, items: dict[str, _Items], bins: int, *, name_readers: bool = True
) -> list[Finding]:
    """Recognition among passages of equal difficulty, each reader's and all readers' together.

    Bins of difficulty lie within a reader: rank and number of the reader are one number, cut into equal parts.
    """
    definition = (
        "minus (own minus other log entropy of a passage) among passages that the family's base (without one the "
        "judge) reads with equal mean entropy: quantile bins of the reader's passages, Mantel-Haenszel weights; the "
        "mean pools the readers' bins; "
        f"{INTERVAL}"
    )
    n, findings = lab.data.n_prompts, []
    alone = {r: [item] for r, item in items.items()} if name_readers else {}
    for reader, found in {**alone, MEAN: list(items.values())}.items():
        code = np.concatenate([i + item.rank for i, item in enumerate(found)])
        own = np.concatenate([item.is_own for item in found])
        if own.all() or not own.any():
            continue
        place = lab.where(arm, reader=reader)
        try:
            gap = stats.matched_gap(
                code,
                np.concatenate([item.log_entropy for item in found]),
                own,
                np.concatenate([item.prompt for item in found]),
                lab.data.weights,
                n_bins=bins * len(found),
            )
        except stats.NoOverlapError:
            if reader == MEAN:
                findings.append(left_out(lab, arm, "no own and other passages of equal difficulty"))
            continue
        negated = stats.Estimate(-gap.gap.value, -gap.gap.high, -gap.gap.low)
        findings.append(estimated(NAME, "arm_recognition", place, negated, n, "log units", definition))
        if reader == MEAN and name_readers:
            share = "the same divided by the plain difference of the same passages without matching, resampled together"
            findings.append(estimated(NAME, "arm_share", place, gap.share, n, "ratio", f"{share}; {INTERVAL}"))
        if reader == MEAN:
            alone_bins = (gap.own_count == 0) | (gap.other_count == 0)
            off = (gap.own_count + gap.other_count)[alone_bins].sum() / len(own)
            text = "passages in bins of difficulty that hold only own or only other text: no comparison is made there"
            findings.append(Finding(NAME, "off_support", place, float(off), None, None, len(own), "share", text))
    return findings
