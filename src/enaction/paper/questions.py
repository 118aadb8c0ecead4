"""Questions that people bring to this field, and what one run says about each.

A question is either answered by an experiment or one that an experiment only bears upon; the page says which, and says
"not measured in this run" where the run has nothing. Answers are sentences of the findings, never new claims.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from enaction.findings import Finding
from enaction.report.arrange import framing_label, main_framing, main_stage, models_of
from enaction.report.pages import Page
from enaction.report.sentences import (
    base_reader_sentences,
    change_sentences,
    diversity_sentences,
    identity_sentences,
    matched_sentences,
    recognition_sentences,
    split_sentences,
    world_sentences,
)

Standing = Literal["answers", "bears upon", "not measured"]
Answer = Callable[[Sequence[Finding]], list[str]]


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        text: as a person would ask it.
        measured_by: experiments that answer it or bear upon it.
        null: what would be seen if the answer were no.
        answer: the sentences of a run that speak to it; empty where the run does not.
        standing: whether such sentences answer it or only bear upon it.
        figures: names of the figures to look at.
        pages: experiments beyond the matrix all of whose sentences speak to it.
    """

    text: str
    measured_by: str
    null: str
    answer: Answer
    standing: Literal["answers", "bears upon"] = "answers"
    figures: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answered:
    """A question with what one run says."""

    question: Question
    standing: Standing
    sentences: list[str]


def answered(findings: Sequence[Finding], pages: Mapping[str, Page]) -> list[Answered]:
    """Every question with this run's sentences, of the matrix and then of the other experiments' pages, in order."""

    def said(question: Question) -> list[str]:
        more = [line for name in question.pages if name in pages for line in pages[name].sentences]
        return [*question.answer(findings), *more]

    return [Answered(q, q.standing if (lines := said(q)) else "not measured", lines) for q in QUESTIONS]


def _nothing(findings: Sequence[Finding]) -> list[str]:
    return []


def _last_stage(findings: Sequence[Finding]) -> list[str]:
    label = f", {framing_label(main_framing(findings))}: "
    return [line for line in _framings_of_last_stage(findings) if label in line]


def _stages(findings: Sequence[Finding]) -> list[str]:
    label = f", {framing_label(main_framing(findings))}: "
    changes = change_sentences(findings)
    return [line for line in recognition_sentences(findings) if changes and label in line] + changes


def _framings(findings: Sequence[Finding]) -> list[str]:
    lines = _framings_of_last_stage(findings)
    return lines if len(lines) > 1 else []


def _framings_of_last_stage(findings: Sequence[Finding]) -> list[str]:
    models = f"{models_of(main_stage(findings))}, "
    return [line for line in recognition_sentences(findings) if line.startswith(models)]


def _collapse(findings: Sequence[Finding]) -> list[str]:
    return [*split_sentences(findings), *base_reader_sentences(findings), *world_sentences(findings)]


def _narrowing(findings: Sequence[Finding]) -> list[str]:
    variety = diversity_sentences(findings)
    return [*variety, *change_sentences(findings)] if variety else []


def _base(findings: Sequence[Finding]) -> list[str]:
    return [line for line in recognition_sentences(findings) if line.startswith("Base models")]


QUESTIONS = (
    Question(
        "While it writes, can a model tell that the trajectory is its own?",
        "matrix, splice, audit",
        "interaction 0, ratio 1",
        _last_stage,
        figures=("matrix", "arc"),
    ),
    Question(
        "Is that there after pretraining, and if not, which stage of training brings it?",
        "stages of the matrix",
        "no change of the interaction from stage to stage",
        _stages,
        figures=("arc",),
        pages=("stages",),
    ),
    Question(
        "Is low entropy on its own text recognition, or merely the entropy collapse of training?",
        "interaction against ratio, the family's own base, world text, planted readers",
        "recognition 0: all of the log ratio is the ease of the text",
        _collapse,
        figures=("split", "critic"),
        pages=("controls",),
    ),
    Question(
        "Does surprise at the last input drive it, and how much of it?",
        "surprise (probe, steering, fraction explained), matched gap",
        "own minus other 0 among tokens of equal input surprise: the last input explains all of it",
        matched_sentences,
        "bears upon",
    ),
    Question(
        "Does it matter whether the model takes part or looks on: the same words as its own turn, another's, none?",
        "framings of the matrix",
        "the same interaction in all framings",
        _framings,
        figures=("arc",),
        pages=("framings",),
    ),
    Question(
        "Is it stronger after earlier turns of its own, and further into a response?",
        "prior, both readings",
        "the same gap at every position; the same entropy whoever wrote the earlier turns",
        _nothing,
        pages=("prior",),
    ),
    Question(
        "Does it hold for another persona, or for the default assistant only?",
        "persona",
        "the same interaction under every persona",
        _nothing,
        pages=("persona",),
    ),
    Question(
        "Is one contiguous foreign stretch worse than as many foreign tokens scattered? How fast does a model recover?",
        "splice",
        "no difference between contiguous and scattered",
        _nothing,
        pages=("splice",),
    ),
    Question(
        "Has a model decided what to say before it starts, and what happens when the plan is broken?",
        "plan",
        "no more entropy after another topic's opening than after its own",
        _nothing,
    ),
    Question(
        "Can it say whether words were put into its mouth, and is that the same mechanism?",
        "report, subspace and complement",
        "verdicts at chance; false positives counted",
        _nothing,
    ),
    Question(
        "Can it tell an injected thought from its own words?",
        "retroactive injection",
        "verdicts that do not depend on the injection",
        _nothing,
    ),
    Question(
        "Is it overconfident on its own words, and do its own errors compound?",
        "calibration; the identity residual in the mean",
        "surprisal equal to entropy on own text",
        identity_sentences,
        "bears upon",
        ("identity",),
        pages=("calibration",),
    ),
    Question(
        "Does a larger or longer-trained model plan further ahead?",
        "plan along checkpoints and sizes",
        "no change with size or training",
        _nothing,
    ),
    Question(
        "Do post-trained models live in another representation than their base?",
        "geometry",
        "similarity at the floor of random directions, or at one",
        _nothing,
    ),
    Question(
        "Can anybody use this to detect prefills, edited transcripts, swapped models, stale rollouts?",
        "audit",
        "detection at the false-positive rate",
        _nothing,
    ),
    Question(
        "Does training on one's own outputs narrow what one writes, and does recognition grow with it?",
        "stages, diversity along checkpoints",
        "variety the same at every stage",
        _narrowing,
        "bears upon",
        ("arc",),
    ),
    Question(
        "Could recognition of one's own outputs become awareness of being evaluated or trained?",
        "report under evaluation-like and deployment-like framings",
        "the same verdicts in both",
        _nothing,
        "bears upon",
    ),
    Question(
        "What would change your mind?",
        "the nulls: base models, shuffled authors, clones, an always-sharp reader",
        "an effect where there must be none",
        _base,
        "bears upon",
        ("arc",),
    ),
)
