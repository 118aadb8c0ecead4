"""Accuracy, confidence and errors of every arm, and own first sentences against matched foreign ones.

Axes: P question, W weighting (one row of ones, then the resamples).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from enaction import stats
from enaction.analysis.data import Data
from enaction.analysis.ledger import STREAMS, Ledger, Permuted
from enaction.experiments.calibration.arms import Arm, Sums, arms_of
from enaction.experiments.calibration.questions import Question
from enaction.experiments.calibration.texts import ANSWER, ARMS, Names
from enaction.stats.calibration import BINS, calibrated_errors
from enaction.stats.pooling import ratio
from enaction.words import MEAN

KINDS = ("right", "wrong")
_DRAWS = 400  # of the null of the calibration error
_DECIDED = "over all that settle for an option, each counting once"
_CALIBRATION_ERROR = f"expected calibration error in {BINS} bins of equal width"
# Quantity -> its unit, and what it is, where `{what}` names the passages of an arm.
_MEASURES = {
    "accuracy": ("share", "share of right ones among {what}"),
    "confidence": ("probability", "mean probability of the option settled for, at the word that settles it, in {what}"),
    "overconfidence": ("probability", "confidence minus accuracy in {what}"),
    "calibration_error": ("probability", f"{_CALIBRATION_ERROR}, {{what}}; above 0 by chance alone"),
    "settled_share": ("share", "share of {what} that settle for an option"),
    "decision_entropy": ("nats", "mean entropy of the prediction of the word that settles it, {what}"),
    "stays": ("share", "share of {what} that stay with the option of their start"),
    "returns": ("share", "share of {what} that take the right option"),
    "entropy": ("nats", "mean entropy after the start in {what}"),
    "start_surprisal": ("nats", "surprisal of the first sentences"),
}
_POOLED = {
    "settled_share": "over all, each counting once",
    "entropy": "mean over continuations of the mean over their tokens",
    "start_surprisal": "mean over questions",
}
_OF_ARM = ("accuracy", "confidence", "overconfidence", "calibration_error", "settled_share", "decision_entropy")
_OF_PAIR = ("accuracy", "confidence", "overconfidence", "entropy", "start_surprisal")
_OF_WRONG = ("stays", "returns")


def _numbers(sums: Sums) -> dict[str, np.ndarray]:
    """Every quantity of sums over questions."""
    accuracy, confidence = sums.bins.accuracy, sums.bins.mean_confidence
    return {
        "accuracy": accuracy,
        "confidence": confidence,
        "overconfidence": confidence - accuracy,
        "calibration_error": sums.bins.error,
        "settled_share": ratio(sums.decided, sums.passages),
        "decision_entropy": ratio(sums.decision_entropy, sums.decided),
        "stays": ratio(sums.stays, sums.decided),
        "returns": accuracy,
        "entropy": ratio(sums.entropy, sums.measured),
        "start_surprisal": ratio(sums.cost, sums.started),
    }


@dataclass(frozen=True)
class Read:
    """One reader.

    Attributes:
        reader: the model.
        arms: by name.
        numbers: quantities in every weighting [W]: of each arm; `matched ARM`, on the questions where own and foreign
            starts match and both settle for an option; `swapped ARM`, where row by row they are swapped in some of
            these questions.
        n: questions with a decision, by the same names.
    """

    reader: str
    arms: Mapping[str, Arm]
    numbers: Mapping[str, Mapping[str, np.ndarray]]
    n: Mapping[str, int]

    @classmethod
    def of(cls, reader: str, arms: Mapping[str, Arm], weight_WP: np.ndarray, is_swapped_WP: np.ndarray) -> Read:
        """The reader with all of its numbers."""
        sums = {name: arm.sums.weighted(weight_WP) for name, arm in arms.items()}
        n = {name: int(arm.is_decided.sum()) for name, arm in arms.items()}
        for kind in KINDS:
            pair = [arms[f"{author}-{kind}"] for author in ("own", "foreign")]
            both_P = np.all([arm.matched & arm.is_decided for arm in pair], axis=0)
            sides = [~is_swapped_WP & both_P, is_swapped_WP & both_P]
            stacked = pair[0].sums.beside(pair[1].sums)
            for author, arm, order in zip(("own", "foreign"), pair, (sides, sides[::-1]), strict=True):
                sums[f"matched {author}-{kind}"] = arm.sums.weighted(weight_WP * both_P)
                sums[f"swapped {author}-{kind}"] = stacked.weighted(np.concatenate(order, axis=1).astype(float))
                n[f"matched {author}-{kind}"] = int(both_P.sum())
        return cls(reader, arms, {name: _numbers(of) for name, of in sums.items()}, n)


def analyse(ledger: Ledger, data: Data, questions: Sequence[Question], readers: Sequence[Names]) -> None:
    """Write all findings, stage by stage; data: over the questions as prompts."""
    weight_WP = np.concatenate([np.ones((1, data.n_prompts)), data.weights])
    swaps_WP = ledger.rng(STREAMS["calibration", "differences"]).random((data.study.resamples, data.n_prompts)) < 0.5
    is_swapped_WP = np.concatenate([np.zeros((1, data.n_prompts), bool), swaps_WP])
    for stage in dict.fromkeys(names.stage for names in readers):
        members = [names for names in readers if names.stage == stage]
        read = [Read.of(n.reader, arms_of(data, questions, n), weight_WP, is_swapped_WP) for n in members]
        for reader, several in [*((r.reader, [r]) for r in read), (MEAN, read)]:
            _write(ledger.at(stage=stage, reader=reader), several)
        _reliability(ledger.at(stage=stage), read)


def _write(ledger: Ledger, several: Sequence[Read]) -> None:
    """Every number of a reader, or of the mean over several."""
    for arm in ARMS:
        what = "answers" if arm == ANSWER else f"continuations of {arm} first sentences"
        for of in (*_OF_ARM, *(_OF_WRONG if arm.endswith("wrong") else ())):
            _add(ledger.at(arm=arm), several, of, of, _MEASURES[of][1].format(what=what), [arm])
        _null_error(ledger.at(arm=arm), several, arm)
    for kind in KINDS:
        text = f"own minus other families' {kind} first sentences, pairs of one question matched on surprisal"
        arms = (f"matched own-{kind}", f"matched foreign-{kind}")
        for of in (*_OF_PAIR, *(_OF_WRONG if kind == "wrong" else ())):
            test = None if of == "start_surprisal" else _swap_test(several, of, kind)
            name = of.replace("_", " ")
            _add(ledger.at(start=kind), several, of, f"{of}_difference", f"{name}: {text}", arms, test)
    for author in ("own", "foreign"):
        text = f"accuracy after a right first sentence minus accuracy after a wrong one, {author} starts"
        arms = (f"{author}-right", f"{author}-wrong")
        _add(ledger.at(start=author), several, "accuracy", "compounding", text, arms)


def _add(
    ledger: Ledger,
    several: Sequence[Read],
    of: str,
    quantity: str,
    text: str,
    arms: Sequence[str],
    test: Permuted | None = None,
) -> None:
    """A number of an arm, or its difference between two: the mean over the readers that have it."""
    value_W = {r.reader: r.numbers[arms[0]][of] - sum(r.numbers[arm][of] for arm in arms[1:]) for r in several}
    known = [r for r in several if np.isfinite(value_W[r.reader][0])]
    notes, unit = [f"{r.reader} has no question for it" for r in several if r not in known], _MEASURES[of][0]
    if not known:
        ledger.leave_out(quantity, unit, notes, text=text)
        return
    mean_W = np.mean([value_W[r.reader] for r in known], axis=0)
    estimate = stats.Estimate(mean_W[0], *stats.percentile_interval(mean_W[1:]))
    n, pooling = min(r.n[arm] for r in known for arm in arms), _POOLED.get(of, _DECIDED)
    null = 0.0 if len(arms) > 1 or of == "overconfidence" else None
    ledger.add(quantity, unit, text, estimate, pooling=pooling, null=null, n=n, test=test, notes=notes)


def _null_error(ledger: Ledger, several: Sequence[Read], arm: str) -> None:
    """The calibration error that chance alone gives."""
    known = [r for r in several if len(r.arms[arm].confidence)]
    rng = ledger.rng(STREAMS["calibration", "null error"])
    drawn = [calibrated_errors(r.arms[arm].confidence, rng, _DRAWS) for r in known]
    mean = np.mean(drawn, axis=0) if drawn else None
    low, high = (None, None) if mean is None else map(float, stats.percentile_interval(mean))
    text = "calibration error of a perfectly calibrated model with these confidences: mean and central 95 % of"
    value, n = None if mean is None else float(mean.mean()), min((r.n[arm] for r in known), default=0)
    ledger.fact("calibration_error_null", "probability", f"{text} {_DRAWS} draws", value, n, low=low, high=high)


def _swap_test(several: Sequence[Read], of: str, kind: str) -> Permuted | None:
    """Two-sided test of the mean difference over readers."""
    known = [r.numbers for r in several if r.n[f"matched own-{kind}"]]
    if not known:
        return None
    pairs = [(numbers[f"swapped own-{kind}"][of], numbers[f"swapped foreign-{kind}"][of]) for numbers in known]
    difference_W = np.mean([own_W - foreign_W for own_W, foreign_W in pairs], axis=0)
    extreme = np.abs(difference_W[1:]) >= abs(difference_W[0]) - 1e-12
    pvalue = float((1 + extreme.sum()) / (1 + len(extreme)))
    return Permuted(pvalue, "own and foreign swapped within questions, two-sided")


def _reliability(ledger: Ledger, several: Sequence[Read]) -> None:
    """Accuracy and mean confidence of each bin, answers of all readers of a stage together."""
    for arm in ARMS:
        sums = [r.arms[arm].sums for r in several]
        count, confidence, right = (
            np.sum([of.sum(axis=0) for of in each], axis=0)
            for each in zip(*((s.decisions, s.confidence, s.right) for s in sums), strict=True)
        )
        for k in np.flatnonzero(count):
            at = ledger.at(arm=arm, bin=f"{k / BINS:g}-{(k + 1) / BINS:g}")
            for quantity, value, meaning in (
                ("reliability", right, "share of right ones"),
                ("reliability_confidence", confidence, "mean confidence"),
            ):
                text = f"{meaning} in a bin of confidence, all readers of the stage together; n counts answers"
                at.fact(quantity, "probability", text, float(value[k] / count[k]), int(count[k]))
