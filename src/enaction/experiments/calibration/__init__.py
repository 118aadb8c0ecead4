"""Calibration: how sure a model is of what follows its own and foreign partial answers, right and wrong ones.

Question: does a model trust what it said itself more than it should, most of all its own errors, and does one error
bring the next?
Procedure: on questions with checkable answers every model samples answers. It then continues first sentences by
sampling: its own and other families', right and wrong, matched on surprisal. Confidence is the probability of the
option that the text settles for, at the position where it does, summed over the words of that option.
Source: the questions are those of the embedded world, or a file's; with neither the experiment is left out and says so.

Axes: see `arms` and `analysis`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.experiments.base import Experiment, StudyFile
from enaction.experiments.calibration import analysis, page
from enaction.experiments.calibration.questions import Question, read_questions, world_questions
from enaction.experiments.calibration.texts import ARMS, STARTS, Answers, Continued, Decisions, Names
from enaction.findings import Findings
from enaction.page import Page
from enaction.passages import Prompt, thinned
from enaction.study.config import Study
from enaction.study.planning import Plan, Text
from enaction.study.store import Cell


class Calibration(Experiment):
    """Which questions, and how much of each.

    Attributes:
        questions: a JSONL file of questions (see `questions.Question`), relative to the study file; by default those of
            the embedded world, where the study has its prompts.
        n_questions: at most this many, spread evenly.
        answers: sampled to each question by each model.
        continuations: sampled after each start.
        max_new_tokens: of an answer and of a continuation.
        stages: the study's stages that take part; all by default.
    """

    name = "calibration"
    title = "Calibration"
    asks = "Does a model trust its own partial answers more than it should, errors most of all?"

    questions: StudyFile | None = None
    n_questions: Annotated[int, Field(ge=2)] = 48
    answers: Annotated[int, Field(ge=1)] = 16
    continuations: Annotated[int, Field(ge=1)] = 4
    max_new_tokens: Annotated[int, Field(ge=1)] = 40
    stages: list[str] | None = None

    def chosen(self, study: Study) -> tuple[Question, ...]:
        """The questions; none where the study's prompts are not the world's and no file is given."""
        if self.questions is not None:
            return tuple(thinned(read_questions(self.questions), self.n_questions))
        return tuple(thinned(world_questions(), self.n_questions)) if study.prompts == "zoo" else ()

    def answers_of(self, model: str) -> str:
        """The text of a model's answers."""
        return f"{model}.answers{self.answers}.of{self.n_questions}.to{self.max_new_tokens}"

    def continued_of(self, model: str) -> str:
        """The text of a model's continuations."""
        return f"{self.answers_of(model)}.continued{self.continuations}"

    def readers(self, study: Study) -> list[Names]:
        """Models that have a stage in common with another family; a model of several groups is read in its first."""
        readers: dict[str, Names] = {}
        for stage, members in study.groups_named(self.stages).items():
            for reader in members:
                family = study.models[reader].family
                others = [m for m in members if study.models[m].family != family]
                answers = {model: self.answers_of(model) for model in (reader, *others)}
                continued = self.continued_of(reader)
                if others:
                    readers.setdefault(reader, Names(stage, reader, answers, continued, f"{continued}.decisions"))
        return list(readers.values())

    def plan(self, study: Study, prompts: Sequence[Prompt]) -> Plan:
        """Answers of every reader, their continuations and decisions."""
        questions = self.chosen(study)
        texts: list[Text] = []
        cells: list[Cell] = []
        sampling = study.sampling.model_copy(update={"per_prompt": self.answers, "max_new_tokens": self.max_new_tokens})
        for names in self.readers(study) if questions else ():
            reader, answers, n = names.reader, names.answers[names.reader], len(questions)
            of_reader: dict[str, Any] = {"model": reader, "questions": questions}
            texts += [
                Answers(name=answers, count=n * self.answers, needs=(reader,), sampling=sampling, **of_reader),
                Continued(
                    name=names.continued,
                    count=n * len(STARTS) * self.continuations,
                    needs=(reader, *names.answers.values()),
                    answers=tuple(names.answers.items()),
                    sampling=sampling.model_copy(update={"per_prompt": self.continuations}),
                    **of_reader,
                ),
                Decisions(name=names.decisions, count=n * len(ARMS), needs=(answers, names.continued), **of_reader),
            ]
            cells += [Cell(reader, author, "assistant") for author in (names.continued, names.decisions)]
        return Plan({text.name: text for text in texts}, cells)

    def analyse(self, data: Data, ledger: Ledger) -> None:
        """Confidence, accuracy and error of every arm, own against foreign starts, and whether errors compound."""
        readers = self.readers(data.study)
        # Of the plan, which has read the file of questions.
        answers = [data.plan.texts.get(names.answers[names.reader]) for names in readers]
        questions = next((text.questions for text in answers if isinstance(text, Answers)), ())
        if not questions:
            why = "the prompts are not the embedded world's, or it has no questions; name a file of questions"
            why = f"left out: {why if readers else 'no stage has models of two families'}"
            text = "calibration needs questions whose answers can be checked"
            ledger.leave_out("left_out", "none", why, text=text)
            return
        of_questions = Data(data.study, data.run, data.plan, [question.as_prompt() for question in questions])
        analysis.analyse(ledger, of_questions, questions, readers)

    def page(self, findings: Findings) -> Page:
        """What the report shows of calibration."""
        return page.page(findings, self.title, self.asks)
