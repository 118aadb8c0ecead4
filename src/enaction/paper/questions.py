"""Questions that people bring to this field, and what one run says about each.

A question is either answered by an experiment or one that an experiment only bears upon; the page says which. Where
the run has nothing the page says which experiments to run, and it lists by themselves the questions that no experiment
of this version measures. Answers are statements of the experiments' pages, selected by quantity and place, never new
claims.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from enaction.page import Page, Statement

Standing = Literal["answers", "bears upon", "not measured", "no experiment"]


@dataclass(frozen=True)
class Evidence:
    """Statements that speak to a question.

    Attributes:
        experiment: whose.
        about: quantities, one of which a statement reports; empty for every statement of the experiment.
        main: keys of a statement's place that have to be those of the page's main place, e.g. its last stage.
        where: further values of its place.
        at_least: with fewer such statements none speaks.
        needs: quantities without any statement about which none speaks.
    """

    experiment: str
    about: tuple[str, ...] = ()
    main: tuple[str, ...] = ()
    where: Mapping[str, Any] = field(default_factory=dict)
    at_least: int = 1
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        text: as a person would ask it.
        measured_by: what of the experiments answers it or bears upon it; for a question without evidence, what would.
        null: what would be seen if the answer were no.
        evidence: the statements that speak to it; empty where no experiment of this version measures it.
        standing: whether such statements answer it or only bear upon it.
        charts: names of the charts to look at.
    """

    text: str
    measured_by: str
    null: str
    evidence: tuple[Evidence, ...] = ()
    standing: Literal["answers", "bears upon"] = "answers"
    charts: tuple[str, ...] = ()

    @property
    def experiments(self) -> list[str]:
        """The experiments whose statements speak to it."""
        return list(dict.fromkeys(evidence.experiment for evidence in self.evidence))


@dataclass(frozen=True)
class Answered:
    """A question with what one run says."""

    question: Question
    standing: Standing
    statements: list[Statement]


def answered(pages: Mapping[str, Page]) -> list[Answered]:
    """Every question with the statements of a run's pages that speak to it, in order."""
    said = [(q, [s for evidence in q.evidence for s in _statements(evidence, pages)]) for q in QUESTIONS]
    return [Answered(q, _standing(q, bool(statements)), statements) for q, statements in said]


def _standing(question: Question, is_measured: bool) -> Standing:
    if is_measured:
        return question.standing
    return "not measured" if question.evidence else "no experiment"


def _statements(evidence: Evidence, pages: Mapping[str, Page]) -> list[Statement]:
    page = pages.get(evidence.experiment)
    if page is None or (evidence.needs and not page.select(*evidence.needs)):
        return []
    at = {key: page.main.get(key) for key in evidence.main} | dict(evidence.where)
    statements = page.select(*evidence.about, **at)
    return statements if len(statements) >= evidence.at_least else []


_RECOGNITION = ("interaction", "other_self_ratio")
_CHANGE = ("interaction_change", "interaction_change_over_stage")
_VARIETY = ("distinct_bigrams",)

QUESTIONS = (
    Question(
        "While it writes, can a model tell that the trajectory is its own?",
        "matrix",
        "interaction 0, ratio 1",
        (Evidence("matrix", _RECOGNITION, main=("stage", "framing")),),
        charts=("matrix", "arc"),
    ),
    Question(
        "Is that there after pretraining, and if not, which stage of training brings it?",
        "stages of the matrix; stages",
        "no change of the interaction from stage to stage",
        (
            Evidence("matrix", _RECOGNITION, main=("framing",), needs=_CHANGE),
            Evidence("matrix", _CHANGE),
            Evidence("stages"),
        ),
        charts=("arc",),
    ),
    Question(
        "Is low entropy on its own text recognition, or merely the entropy collapse of training?",
        "matrix: interaction against ratio, the family's own base, world text; controls",
        "recognition 0: all of the log ratio is the ease of the text",
        (
            Evidence("matrix", ("recognition", "base_reader_ratio", "entropy", "world_self_ratio")),
            Evidence("controls"),
        ),
        charts=("split", "critic"),
    ),
    Question(
        "Does surprise at the last input drive it, and how much of it?",
        "reaction; surprise; matched gap of the matrix",
        "own minus other 0 among tokens of equal input surprise: the last input explains all of it",
        (Evidence("surprise"), Evidence("reaction"), Evidence("matrix", ("matched_gap",))),
        "bears upon",
        charts=("steering", "reaction"),
    ),
    Question(
        "Does it matter whether the model takes part or looks on: the same words as its own turn, another's, none?",
        "framings of the matrix; framings",
        "the same interaction in all framings",
        (Evidence("matrix", _RECOGNITION, main=("stage",), at_least=2), Evidence("framings")),
        charts=("arc",),
    ),
    Question(
        "Is it stronger after earlier turns of its own, and further into a response?",
        "prior, both readings",
        "the same gap at every position; the same entropy whoever wrote the earlier turns",
        (Evidence("prior"),),
    ),
    Question(
        "Does it hold for another persona, or for the default assistant only?",
        "persona",
        "the same interaction under every persona",
        (Evidence("persona"),),
    ),
    Question(
        "Is one contiguous foreign stretch worse than as many foreign tokens scattered? How fast does a model recover?",
        "splice",
        "no difference between contiguous and scattered",
        (Evidence("splice"),),
    ),
    Question(
        "Has a model decided what to say before it starts, and what happens when the plan is broken?",
        "commitment",
        "settled no sooner than its word; no more entropy after another topic's opening than after its own",
        (Evidence("commitment"),),
        charts=("commitment",),
    ),
    Question(
        "Can it say whether words were put into its mouth, and is that the same mechanism?",
        "verbal, its route through the subspace of surprise and its complement",
        "verdicts at chance; false positives counted",
        (Evidence("verbal", ("report_auroc", "privileged_access", "in_share", "answer_mass")),),
        charts=("verbal",),
    ),
    Question(
        "Can it tell an injected thought from its own words?",
        "verbal, with concepts injected into the prompt",
        "verdicts that do not depend on the injection",
        (Evidence("verbal", ("injection_effect", "injected_claims")),),
    ),
    Question(
        "Is it overconfident on its own words, and do its own errors compound?",
        "calibration; the identity residual of the matrix, in the mean",
        "surprisal equal to entropy on own text",
        (Evidence("matrix", ("identity_residual",)), Evidence("calibration")),
        "bears upon",
        charts=("identity",),
    ),
    Question(
        "Does a larger or longer-trained model plan further ahead?",
        "commitment along checkpoints and sizes",
        "no change with size or training",
        (Evidence("commitment"),),
        "bears upon",
    ),
    Question(
        "Do post-trained models live in another representation than their base?",
        "geometry",
        "similarity at the floor of random directions, or at one",
        (Evidence("geometry"),),
        charts=("geometry",),
    ),
    Question(
        "Can anybody use this to detect prefills, edited transcripts, swapped models, stale rollouts?",
        "audit",
        "detection at the false-positive rate",
    ),
    Question(
        "Does training on one's own outputs narrow what one writes, and does recognition grow with it?",
        "matrix: variety of the texts and recognition along stages",
        "variety the same at every stage",
        (Evidence("matrix", _VARIETY), Evidence("matrix", _CHANGE, needs=_VARIETY)),
        "bears upon",
        charts=("arc",),
    ),
    Question(
        "Could recognition of one's own outputs become awareness of being evaluated or trained?",
        "report under evaluation-like and deployment-like framings",
        "the same verdicts in both",
        standing="bears upon",
    ),
    Question(
        "What would change your mind?",
        "the nulls of the matrix: base models",
        "an effect where there must be none",
        (Evidence("matrix", _RECOGNITION, where={"stage": "base"}),),
        "bears upon",
        charts=("arc",),
    ),
)
