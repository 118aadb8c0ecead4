"""Calibration: how sure a model is of what follows its own and foreign partial answers, right and wrong ones.

Question: does a model trust what it said itself more than it should, most of all its own errors, and does one error
bring the next?
Procedure: on questions with checkable answers every model samples answers; first sentences, its own and other
families', right and wrong, matched on what they cost the reader, are gone on with by sampling. Confidence is the
probability of the option that the text settles for, at the place where it does, summed over the words of that option.

The questions are those of the embedded world, or a file's; with neither the experiment is left out and says so.

Axes: P question, W weighting (one row of ones, then the resamples), N decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from enaction import stats
from enaction.experiments.answers import ANSWER, ARMS, write_answers, write_continued, write_decisions
from enaction.experiments.base import StudyFile
from enaction.experiments.cells import INTERVAL, Data, NoSettings, estimated, passage_codes
from enaction.experiments.old_planning import Sampled
from enaction.experiments.questions import Question, read_questions, thinned, world_questions
from enaction.findings import Finding, permutation_note
from enaction.stats.calibration import BINS, Reliability, calibrated_errors, reliability
from enaction.stats.pooling import ratio
from enaction.study.config import Study
from enaction.study.planning import Plan, Text
from enaction.study.store import Cell

NAME = "calibration"
MEAN = "mean"
PARTS = (ANSWER, *ARMS)


class Settings(NoSettings):
    """Which questions, and how much of each.

    Attributes:
        questions: a JSONL file of questions (see `experiments.questions.Question`), relative to where the study is run;
            by default those of the embedded world, where the study has its prompts.
        n_questions: at most so many, spread evenly.
        answers: sampled to each question by each model.
        continuations: sampled behind each start.
        max_new_tokens: of an answer and of a continuation.
        stages: the study's stages that take part; all by default.
    """

    questions: StudyFile | None = None
    n_questions: Annotated[int, Field(ge=2)] = 48
    answers: Annotated[int, Field(ge=1)] = 16
    continuations: Annotated[int, Field(ge=1)] = 4
    max_new_tokens: Annotated[int, Field(ge=1)] = 40
    stages: list[str] | None = None


def questions_of(study: Study, settings: Settings) -> list[Question]:
    """The questions; none where the study's prompts are not the world's and no file is given."""
    if settings.questions is not None:
        return thinned(read_questions(settings.questions), settings.n_questions)
    return thinned(world_questions(), settings.n_questions) if study.prompts == "zoo" else []


def answers_of(settings: Settings, model: str) -> str:
    """The text of a model's answers."""
    return f"{model}.answers{settings.answers}.of{settings.n_questions}.to{settings.max_new_tokens}"


def continued_of(settings: Settings, model: str) -> str:
    """The text of a model's continuations."""
    return f"{answers_of(settings, model)}.continued{settings.continuations}"


def decisions_of(settings: Settings, model: str) -> str:
    """The text of a model's decisions."""
    return f"{continued_of(settings, model)}.decisions"


def plan(study: Study, settings: Settings) -> Plan:
    """Answers of every model that has a stage in common with another family, their continuations and decisions."""
    questions = questions_of(study, settings)
    texts: dict[str, Text] = {}
    cells: list[Cell] = []
    for _, reader, others in _readers(study, settings) if questions else []:
        names = {model: answers_of(settings, model) for model in (reader, *others)}
        continued, decisions = continued_of(settings, reader), decisions_of(settings, reader)
        n = len(questions)
        texts[names[reader]] = Sampled(
            names[reader],
            reader,
            n * settings.answers,
            partial(write_answers, study, questions, names[reader], settings.answers, settings.max_new_tokens),
            (reader,),
        )
        texts[continued] = Sampled(
            continued,
            reader,
            n * len(ARMS) * settings.continuations,
            partial(
                write_continued, study, questions, continued, names, settings.continuations, settings.max_new_tokens
            ),
            (reader, *names.values()),
        )
        texts[decisions] = Sampled(
            decisions,
            reader,
            n * len(PARTS),
            partial(write_decisions, questions, decisions, names[reader], continued),
            (names[reader], continued),
        )
        cells += [Cell(reader, author, "assistant") for author in (continued, decisions)]
    return Plan(texts, cells)


def _readers(study: Study, settings: Settings) -> list[tuple[str, str, tuple[str, ...]]]:
    """(stage, reader, models of other families there); a model of several groups is read in its first."""
    found: dict[str, tuple[str, str, tuple[str, ...]]] = {}
    for stage, members in study.groups_named(settings.stages).items():
        for reader in members:
            family = study.models[reader].family
            others = tuple(m for m in members if study.models[m].family != family)
            if others:
                found.setdefault(reader, (stage, reader, others))
    return list(found.values())


def analyse(data: Data, settings: Settings) -> list[Finding]:
    """All findings of this experiment, from the token tables of a finished run."""
    questions = questions_of(data.study, settings)
    if not questions:
        note = "left out: the prompts are not the embedded world's, or it has no questions; name a file of questions"
        definition = "calibration needs questions whose answers can be checked"
        return [Finding(NAME, "left_out", {}, None, None, None, 0, "none", definition, [note])]
    data = Data.load(data.study, data.run, data.plan, [q.as_prompt() for q in questions])
    by_stage: dict[str, list[Answered]] = {}
    for stage, reader, _ in _readers(data.study, settings):
        by_stage.setdefault(stage, []).append(_answered(data, settings, questions, reader))
    findings = []
    for stage, answered in by_stage.items():
        for a in answered:
            findings += _findings([a], {"stage": stage, "reader": a.reader}, data)
        findings += _findings(answered, {"stage": stage, "reader": MEAN}, data)
        findings += _reliability(answered, stage)
    return findings


@dataclass(frozen=True)
class Part:
    """The answers, or the continuations of one arm, of one reader.

    Attributes:
        sums: [P, K] of the decisions: number, confidence, correct.
        confidence: [N] of every decision, equal ones repeated.
        total: [P] passages, settled or not.
        stays: [P] decisions for the option of the start.
        decision_entropy: [P] sum of the entropy at the decision, nats.
        entropy, tokens: [P] sum over passages of the mean entropy behind the start, and number of passages with one.
        cost: [P] nats that the start costs the reader; NaN without one.
        matched: [P] whether the start has a partner of like cost.
    """

    sums: Reliability
    confidence: np.ndarray
    total: np.ndarray
    stays: np.ndarray
    decision_entropy: np.ndarray
    entropy: np.ndarray
    tokens: np.ndarray
    cost: np.ndarray
    matched: np.ndarray

    @cached_property
    def decided(self) -> np.ndarray:
        """[P] number of decisions."""
        return self.sums.count.sum(axis=1)


@dataclass(frozen=True)
class Answered:
    """Everything that is known of one reader."""

    reader: str
    parts: dict[str, Part]


def _answered(data: Data, settings: Settings, questions: list[Question], reader: str) -> Answered:
    """Pool one reader's texts to questions."""
    right = {q.id: q.right for q in questions}
    decisions = data.passages(decisions_of(settings, reader))
    tokens = data.run.tokens(data.key(reader, decisions_of(settings, reader), "assistant"))
    passage_N, position_N = passage_codes(tokens, decisions), tokens["position"].to_numpy()
    at_M = np.array([p.sampling["at"] for p in decisions], dtype=np.int64)
    is_word_N = position_N >= at_M[passage_N]
    surprisal_M = np.bincount(passage_N, tokens["surprisal"].to_numpy() * is_word_N, minlength=len(decisions))
    first_N = position_N == at_M[passage_N]
    entropy_M = np.zeros(len(decisions))
    entropy_M[passage_N[first_N]] = tokens["entropy"].to_numpy()[first_N]
    groups: dict[int, list[int]] = {}
    for m, p in enumerate(decisions):
        groups.setdefault(p.sampling["group"], []).append(m)
    continued = data.passages(continued_of(settings, reader))
    parts = {}
    for part in PARTS:
        here = [of for of in groups.values() if decisions[of[0]].sampling["part"] == part]
        first = [decisions[of[0]] for of in here]
        code = np.array([data.prompt_code[p.prompt_id] for p in first], dtype=np.int64)
        count = np.array([p.sampling["count"] for p in first], dtype=np.int64)
        # The probability of an option: of all of its words; rounding may lift a certain one above 1.
        confidence = np.array([min(1.0, float(np.exp(-surprisal_M[of]).sum())) for of in here])
        correct = np.array([p.sampling["option"] == right[p.prompt_id] for p in first], dtype=bool)
        stays = np.array([p.sampling["option"] == p.sampling.get("started") for p in first], dtype=bool)

        def per_question(value: np.ndarray, code: np.ndarray = code) -> np.ndarray:
            return np.bincount(code, value, minlength=data.n_prompts)

        passages = data.passages(answers_of(settings, reader)) if part == ANSWER else continued
        passages = [p for p in passages if p.sampling.get("arm", ANSWER) == part]
        entropy, n_tokens = _entropy_behind(data, settings, reader, part)
        cost = np.full(data.n_prompts, np.nan)
        matched, total = np.zeros(data.n_prompts, bool), np.zeros(data.n_prompts)
        for p in passages:
            at = data.prompt_code[p.prompt_id]
            total[at] += 1
            cost[at], matched[at] = p.sampling.get("cost", np.nan), p.sampling.get("matched", False)
        parts[part] = Part(
            sums=reliability(confidence, correct, code, data.n_prompts, count_N=count),
            confidence=np.repeat(confidence, count),
            total=total,
            stays=per_question(count * stays),
            decision_entropy=per_question(count * entropy_M[[of[0] for of in here]]),
            entropy=entropy,
            tokens=n_tokens,
            cost=cost,
            matched=matched,
        )
    return Answered(reader, parts)


def _entropy_behind(data: Data, settings: Settings, reader: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """[P] sum over the passages of an arm of the mean entropy behind the start, and their number."""
    if part == ANSWER:
        return np.zeros(data.n_prompts), np.zeros(data.n_prompts)
    author = continued_of(settings, reader)
    passages = data.passages(author)
    tokens = data.run.tokens(data.key(reader, author, "assistant"))
    passage_N = passage_codes(tokens, passages)
    begun_M = np.array([p.sampling["begun_with"] for p in passages], dtype=np.int64)
    in_arm_M = np.array([p.sampling["arm"] == part for p in passages], dtype=bool)
    counted_N = (tokens["position"].to_numpy() >= begun_M[passage_N]) & ~tokens["is_end"].to_numpy()
    counted_N &= in_arm_M[passage_N]
    means_M = stats.passage_sums(passage_N, tokens["entropy"].to_numpy(), len(passages), counted_N).means
    code_M = np.array([data.prompt_code[p.prompt_id] for p in passages], dtype=np.int64)
    there_M = np.isfinite(means_M)
    sums = np.bincount(code_M[there_M], means_M[there_M], minlength=data.n_prompts)
    return sums, np.bincount(code_M[there_M], minlength=data.n_prompts).astype(float)


Statistic = Callable[[Answered, np.ndarray], np.ndarray]


def _findings(answered: list[Answered], place: dict[str, Any], data: Data) -> Iterator[Finding]:
    """Every number of a reader, or of the mean over several; readers without data for it are left out and named."""
    weight_WP = np.concatenate([np.ones((1, data.n_prompts)), data.weights])

    def found(
        quantity: str, where: dict[str, Any], unit: str, definition: str, statistic: Statistic, used: Callable
    ) -> Finding:
        values = {a.reader: statistic(a, weight_WP) for a in answered}
        there = {reader: value for reader, value in values.items() if np.isfinite(value[0])}
        notes = [f"{reader} has no question for it" for reader in values if reader not in there]
        value = np.mean([*there.values()], axis=0) if there else np.full(len(weight_WP), np.nan)
        estimate = stats.Estimate(value[0], *stats.percentile_interval(value[1:]))
        n = min((int(used(a)) for a in answered if a.reader in there), default=0)
        made = estimated(NAME, quantity, {**place, **where}, estimate, n, unit, f"{definition}; {INTERVAL}")
        made.notes.extend(notes)
        return made

    for part in PARTS:
        yield from _of_part(part, found)
        yield _null_error(part, answered, place, data)
    for kind in ("right", "wrong"):
        yield from _contrasts(kind, answered, data, found)
    for author in ("own", "foreign"):
        yield found(
            "compounding",
            {"start": author},
            "share",
            f"accuracy behind a right first sentence minus accuracy behind a wrong one, {author} starts",
            lambda a, w, s=author: _accuracy(a.parts[f"{s}-right"], w) - _accuracy(a.parts[f"{s}-wrong"], w),
            lambda a, s=author: min((a.parts[f"{s}-{k}"].decided > 0).sum() for k in ("right", "wrong")),
        )


_DECIDED = "over all that settle for an option, each counting once"


def _of_part(part: str, found: Any) -> Iterator[Finding]:
    """Accuracy, confidence and error of the answers or of one arm."""
    what = "answers" if part == ANSWER else f"continuations of {part} first sentences"
    kinds: list[tuple[str, str, str, Callable[[Part, np.ndarray], np.ndarray]]] = [
        ("accuracy", "share", f"share of right ones among {what}, {_DECIDED}", _accuracy),
        (
            "confidence",
            "probability",
            f"mean probability of the option settled for, at the word that settles it, in {what}, {_DECIDED}",
            _confidence,
        ),
        ("overconfidence", "probability", f"confidence minus accuracy in {what}", _overconfidence),
        (
            "calibration_error",
            "probability",
            f"expected calibration error in {BINS} bins of equal width, {what}, {_DECIDED}; above 0 by chance alone",
            lambda p, w: p.sums.weighted(w).error,
        ),
        ("settled_share", "share", f"share of {what} that settle for an option", _settled_share),
        (
            "decision_entropy",
            "nats",
            f"mean entropy of the prediction of the word that settles it, {what}, {_DECIDED}",
            lambda p, w: ratio(w @ p.decision_entropy, w @ p.decided),
        ),
    ]
    if part.endswith("wrong"):
        kinds += [
            ("stays", "share", f"share of {what} that stay with the option of their start, {_DECIDED}", _stays),
            ("returns", "share", f"share of {what} that take the right option, {_DECIDED}", _accuracy),
        ]
    for quantity, unit, definition, value in kinds:
        yield found(
            quantity,
            {"arm": part},
            unit,
            definition,
            lambda a, w, v=value: v(a.parts[part], w),
            lambda a: (a.parts[part].decided > 0).sum(),
        )


def _null_error(part: str, answered: list[Answered], place: dict[str, Any], data: Data) -> Finding:
    rng = np.random.default_rng([data.study.seed, 31])
    drawn = [calibrated_errors(a.parts[part].confidence, rng, 400) for a in answered if len(a.parts[part].confidence)]
    value = np.mean(drawn, axis=0) if drawn else np.array([np.nan])
    return estimated(
        NAME,
        "calibration_error_null",
        {**place, "arm": part},
        stats.Estimate(value.mean(), *stats.percentile_interval(value)),
        min((int((a.parts[part].decided > 0).sum()) for a in answered if a.parts[part].decided.any()), default=0),
        "probability",
        "calibration error of a perfectly calibrated model with these confidences: mean and central 95 % of 400 draws",
    )


def _contrasts(kind: str, answered: list[Answered], data: Data, found: Any) -> Iterator[Finding]:
    """Own minus foreign start, on the questions that have both, matched on what they cost the reader."""
    where = {"start": kind}
    matched = "own minus other families' " + f"{kind} first sentences, pairs of one question matched on surprisal"
    kinds: dict[str, tuple[str, Callable[[Part, np.ndarray], np.ndarray]]] = {
        "accuracy_difference": ("share", _accuracy),
        "confidence_difference": ("probability", _confidence),
        "overconfidence_difference": ("probability", _overconfidence),
        "entropy_difference": ("nats", lambda p, w: ratio(w @ p.entropy, w @ p.tokens)),
        "start_surprisal_difference": ("nats", lambda p, w: ratio(w @ np.nan_to_num(p.cost), w @ np.isfinite(p.cost))),
    }
    if kind == "wrong":
        kinds |= {"stays_difference": ("share", _stays), "returns_difference": ("share", _accuracy)}
    pairs = {a.reader: _matched(a, kind) for a in answered}
    for quantity, (unit, value) in kinds.items():
        made = found(
            quantity,
            where,
            unit,
            f"{quantity.removesuffix('_difference').replace('_', ' ')}: {matched}",
            lambda a, w, v=value: v(pairs[a.reader][0], w) - v(pairs[a.reader][1], w),
            lambda a: (pairs[a.reader][0].decided > 0).sum(),
        )
        if quantity != "start_surprisal_difference" and made.estimate is not None:
            p = _swapped([pair for pair in pairs.values() if pair[0].decided.any()], value, data)
            made.notes.append(permutation_note(p, "own and foreign swapped within questions, two-sided"))
        yield made


def _matched(answered: Answered, kind: str) -> tuple[Part, Part]:
    """Both arms on the questions where both settle for an option and match."""
    own, foreign = answered.parts[f"own-{kind}"], answered.parts[f"foreign-{kind}"]
    both = own.matched & foreign.matched & (own.decided > 0) & (foreign.decided > 0)
    return _only(own, both), _only(foreign, both)


def _only(part: Part, keep: np.ndarray) -> Part:
    sums = Reliability(*(np.where(keep[:, None], s, 0.0) for s in _fields(part.sums)))
    names = ("stays", "decision_entropy", "entropy", "tokens")
    kept = {name: np.where(keep, getattr(part, name), 0.0) for name in names}
    return replace(part, sums=sums, cost=np.where(keep, part.cost, np.nan), **kept)


def _fields(sums: Reliability) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return sums.count, sums.confidence, sums.correct


def _swapped(pairs: list[tuple[Part, Part]], value: Callable[[Part, np.ndarray], np.ndarray], data: Data) -> float:
    """Two-sided p of the mean difference over readers: own and foreign arm swapped at random within each question."""
    rng = np.random.default_rng([data.study.seed, 32])
    is_swapped_WP = rng.random((data.study.resamples, data.n_prompts)) < 0.5
    is_swapped_WP = np.concatenate([np.zeros((1, data.n_prompts), bool), is_swapped_WP])
    stacked = [_stacked(own, foreign) for own, foreign in pairs]
    first_W2P = np.concatenate([~is_swapped_WP, is_swapped_WP], axis=1).astype(float)
    second_W2P = np.concatenate([is_swapped_WP, ~is_swapped_WP], axis=1).astype(float)
    difference_W = np.mean([value(both, first_W2P) - value(both, second_W2P) for both in stacked], axis=0)
    extreme = np.abs(difference_W[1:]) >= abs(difference_W[0]) - 1e-12
    return float((1 + extreme.sum()) / (1 + len(extreme)))


def _stacked(own: Part, foreign: Part) -> Part:
    """Own arm, then foreign arm, as if each question were two."""
    sums = Reliability(*(np.concatenate(pair) for pair in zip(_fields(own.sums), _fields(foreign.sums), strict=True)))
    names = ("stays", "decision_entropy", "entropy", "tokens", "cost")
    both = {name: np.concatenate([getattr(own, name), getattr(foreign, name)]) for name in names}
    return replace(own, sums=sums, **both)


def _accuracy(part: Part, weight_WP: np.ndarray) -> np.ndarray:
    return part.sums.weighted(weight_WP).accuracy


def _confidence(part: Part, weight_WP: np.ndarray) -> np.ndarray:
    return part.sums.weighted(weight_WP).mean_confidence


def _overconfidence(part: Part, weight_WP: np.ndarray) -> np.ndarray:
    return _confidence(part, weight_WP) - _accuracy(part, weight_WP)


def _stays(part: Part, weight_WP: np.ndarray) -> np.ndarray:
    return ratio(weight_WP @ part.stays, weight_WP @ part.decided)


def _settled_share(part: Part, weight_WP: np.ndarray) -> np.ndarray:
    return ratio(weight_WP @ part.decided, weight_WP @ part.total)


def _reliability(answered: list[Answered], stage: str) -> Iterator[Finding]:
    """Accuracy and mean confidence of each bin, answers of all readers of a stage together."""
    for part in PARTS:
        count, confidence, correct = (
            np.sum([of.sum(axis=0) for of in fields], axis=0)
            for fields in zip(*(_fields(a.parts[part].sums) for a in answered), strict=True)
        )
        for k in np.flatnonzero(count):
            where = {"stage": stage, "arm": part, "bin": f"{k / BINS:g}-{(k + 1) / BINS:g}"}
            for quantity, value, meaning in (
                ("reliability", correct, "share of right ones"),
                ("reliability_confidence", confidence, "mean confidence"),
            ):
                yield Finding(
                    NAME,
                    quantity,
                    where,
                    float(value[k] / count[k]),
                    None,
                    None,
                    int(count[k]),
                    "probability",
                    f"{meaning} in a bin of confidence, all readers of the stage together; n counts answers",
                )
