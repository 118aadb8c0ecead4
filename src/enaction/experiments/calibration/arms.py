"""The answers and continuations of one reader, summed per question.

Axes: P question, W weighting (one row of ones, then the resamples), K bin of confidence, D decision, M passage.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from enaction import stats
from enaction.analysis.data import Data
from enaction.experiments.calibration.questions import Question
from enaction.experiments.calibration.texts import ANSWER, ARMS, Names
from enaction.passages import Passage
from enaction.stats.calibration import Reliability, reliability


class Sums(NamedTuple):
    """Sums over the passages of one arm: of each question [P], or over the questions in each weighting [W].

    Attributes:
        decisions, confidence, right: [..., K] number of decisions, their confidences, how many are right.
        passages: settled or not.
        stays: decisions for the option of the start.
        decision_entropy: entropy at the decision, nats.
        entropy, measured: mean entropy after the start, nats, and number of passages with one.
        cost, started: surprisal of the start, nats, and number of questions with one.
    """

    decisions: np.ndarray
    confidence: np.ndarray
    right: np.ndarray
    passages: np.ndarray
    stays: np.ndarray
    decision_entropy: np.ndarray
    entropy: np.ndarray
    measured: np.ndarray
    cost: np.ndarray
    started: np.ndarray

    @property
    def bins(self) -> Reliability:
        """The decisions by their confidence."""
        return Reliability(self.decisions, self.confidence, self.right)

    @property
    def decided(self) -> np.ndarray:
        """Number of decisions."""
        return self.decisions.sum(axis=-1)

    def weighted(self, weight_WP: np.ndarray) -> Sums:
        """[W] the sums over questions, of sums [P], each question with its weight."""
        return Sums(*(weight_WP @ value_P for value_P in self))

    def beside(self, other: Sums) -> Sums:
        """[2 P] these questions, then those of another arm."""
        return Sums(*map(np.concatenate, zip(self, other, strict=True)))


@dataclass(frozen=True)
class Arm:
    """The answers, or the continuations of one kind of first sentence, of one reader.

    Attributes:
        sums: of each question.
        confidence: [D] of every decision, equal ones repeated.
        matched: [P] whether the start has a partner of similar surprisal.
    """

    sums: Sums
    confidence: np.ndarray
    matched: np.ndarray

    @property
    def is_decided(self) -> np.ndarray:
        """[P] whether the question has a decision."""
        return self.sums.decided > 0


class _ScoredDecision(NamedTuple):
    """A passage that settles for an option, the probability of that option, and the entropy where it does, nats."""

    passage: Passage
    confidence: float
    entropy: float


def arms_of(data: Data, questions: Sequence[Question], names: Names) -> dict[str, Arm]:
    """Every arm of a reader; data: over the questions as prompts."""
    right = {question.id: question.right for question in questions}
    decisions, continued = _decisions(data, names), data.passages(names.continued)
    members = {arm: [] for arm in ARMS}
    members[ANSWER] = [(passage, np.nan) for passage in data.passages(names.answers[names.reader])]
    for passage, entropy in zip(continued, _entropy_after_start(data, names, continued), strict=True):
        members[passage.marks["arm"]].append((passage, entropy))
    of_arm = {arm: [d for d in decisions if d.passage.marks["part"] == arm] for arm in ARMS}
    return {arm: _arm(data, right, members[arm], of_arm[arm]) for arm in ARMS}


def _decisions(data: Data, names: Names) -> list[_ScoredDecision]:
    passages = data.passages(names.decisions)
    tokens = data.tokens(data.key(names.reader, names.decisions, "assistant"))
    at_N = np.array([p.marks["at"] for p in passages], dtype=np.int64)[tokens.passage]
    surprisal_M = np.bincount(tokens.passage, tokens.surprisal * (tokens.position >= at_N), minlength=len(passages))
    is_first_N = tokens.position == at_N
    entropy_M = np.zeros(len(passages))
    entropy_M[tokens.passage[is_first_N]] = tokens.entropy[is_first_N]
    words: dict[int, list[int]] = {}
    for m, passage in enumerate(passages):
        words.setdefault(passage.marks["group"], []).append(m)
    # The probability of an option: of all of its words; rounding may lift a certain one above 1.
    return [
        _ScoredDecision(passages[of[0]], min(1.0, float(np.exp(-surprisal_M[of]).sum())), entropy_M[of[0]])
        for of in words.values()
    ]


def _entropy_after_start(data: Data, names: Names, continued: Sequence[Passage]) -> np.ndarray:
    """[M] mean entropy of each continuation after its start, nats; NaN without a token."""
    tokens = data.tokens(data.key(names.reader, names.continued, "assistant"))
    begun_M = np.array([p.sampling["begun_with"] for p in continued], dtype=np.int64)
    counted_N = (tokens.position >= begun_M[tokens.passage]) & ~tokens.is_end
    return stats.passage_sums(tokens.passage, tokens.entropy, len(continued), counted_N).means


def _arm(
    data: Data, right: dict[str, str], members: Sequence[tuple[Passage, float]], decisions: Sequence[_ScoredDecision]
) -> Arm:
    """One arm; members: its passages with their entropy after the start."""

    def codes(passages: Iterable[Passage]) -> np.ndarray:
        return np.array([data.prompt_code[p.prompt_id] for p in passages], dtype=np.int64)

    def per_question(code: np.ndarray, value: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(code, value, minlength=data.n_prompts).astype(float)

    cost, matched = np.full(data.n_prompts, np.nan), np.zeros(data.n_prompts, bool)
    for passage, _ in members:
        at = data.prompt_code[passage.prompt_id]
        cost[at], matched[at] = passage.marks.get("cost", np.nan), passage.marks.get("matched", False)
    entropy_M = np.array([entropy for _, entropy in members])
    code_M, has_M = codes(p for p, _ in members), np.isfinite(entropy_M)
    first, code = [d.passage for d in decisions], codes(d.passage for d in decisions)
    count = np.array([p.marks["count"] for p in first], dtype=np.int64)
    stays = np.array([p.marks["option"] == p.marks.get("started") for p in first], dtype=bool)
    is_right = np.array([p.marks["option"] == right[p.prompt_id] for p in first], dtype=bool)
    confidence, entropy = (np.array([d[i] for d in decisions], dtype=float) for i in (1, 2))
    bins = reliability(confidence, is_right, code, data.n_prompts, count_N=count)
    sums = Sums(
        bins.count,
        bins.confidence,
        bins.correct,
        passages=per_question(code_M),
        stays=per_question(code, count * stays),
        decision_entropy=per_question(code, count * entropy),
        entropy=per_question(code_M[has_M], entropy_M[has_M]),
        measured=per_question(code_M[has_M]),
        cost=np.nan_to_num(cost),
        started=np.isfinite(cost).astype(float),
    )
    return Arm(sums, np.repeat(confidence, count), matched)
