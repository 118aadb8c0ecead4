"""Answers to questions, and what is made of them: the texts that the calibration experiment has written and read.

Each reader has three texts: its own answers; continuations of first sentences, its own and foreign ones, right and
wrong; and decisions. A decision is a position at which an answer or a continuation settles for an option. It is read
with every word of that option in turn, so that the probability of the option is known and not only that of the word
that was sampled.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from enaction.experiments.calibration.questions import Question, claimed, first_sentence, followed
from enaction.experiments.pieces import by_prompt, decoded, ids_after, ids_at_start, own_body, own_ends, passage_of
from enaction.framing import frame
from enaction.passages import Passage, Sampling
from enaction.study.desk import Desk
from enaction.study.planning import Text
from enaction.words import Framing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANSWER = "answer"
STARTS = ("own-right", "own-wrong", "foreign-right", "foreign-wrong")
ARMS = (ANSWER, *STARTS)


@dataclass(frozen=True)
class Names:
    """A reader with the names of its texts.

    Attributes:
        stage: of the reader.
        reader: the model.
        answers: model -> the text of its answers: the reader's own, then those of models of other families.
        continued, decisions: the reader's other texts.
    """

    stage: str
    reader: str
    answers: Mapping[str, str]
    continued: str
    decisions: str


@dataclass(frozen=True, kw_only=True)
class Answers(Text):
    """The reader's answers to every question.

    Attributes:
        questions: to be answered.
        sampling: the settings.
    """

    questions: tuple[Question, ...]
    sampling: Sampling

    def write(self, desk: Desk) -> list[Passage]:
        """The passages."""
        prompts = [question.as_prompt() for question in self.questions]
        framing = desk.run.sampled_in(desk.reader.name)
        return desk.sample(prompts, self.name, framing=framing, sampling=self.sampling)


@dataclass(frozen=True, kw_only=True)
class Continued(Text):
    """What the reader says after a first sentence, for each arm that a question has a first sentence for.

    Of a question's own and foreign sentences, the pair with the most similar surprisal is taken; where only own ones
    exist, the first sampled. `marks` has the `arm`, the option `started` with, the `cost` of the start (its surprisal,
    nats), its author `start_by`, and whether it is `matched`.

    Attributes:
        questions: to be continued.
        answers: model and the text of its answers; the reader's own among them.
        sampling: of the continuations.
    """

    questions: tuple[Question, ...]
    answers: tuple[tuple[str, str], ...]
    sampling: Sampling

    def write(self, desk: Desk) -> list[Passage]:
        """The passages."""
        starter = _Starter(desk, desk.run.sampled_in(desk.reader.name))
        by_model = {model: by_prompt(desk.passages(text)) for model, text in self.answers}
        prompts, begun, marks = [], {}, {}
        for question in self.questions:
            starts = starter.scored(question, [*starter.starts(question, by_model)])
            for arm, start, is_matched in _arms(question, desk.reader.name, starts):
                prompt = replace(question.as_prompt(), id=f"{question.id}/{arm}")
                prompts.append(prompt)
                begun[prompt.id] = start.ids
                marks[prompt.id] = {
                    "arm": arm,
                    "started": start.option,
                    "cost": start.surprisal,
                    "start_by": start.author,
                    "matched": is_matched,
                }
        if not prompts:
            return []
        passages = desk.sample(prompts, self.name, framing=starter.framing, sampling=self.sampling, beginnings=begun)
        return [replace(p, prompt_id=p.prompt_id.rpartition("/")[0], marks=marks[p.prompt_id]) for p in passages]


@dataclass(frozen=True, kw_only=True)
class Decisions(Text):
    """Each position where an answer or a continuation settles for an option, with every word of that option in turn.

    Equal ones are written once: `marks` has their number as `count`, the `part` (the answer, or the arm), the `option`
    settled for, the token `at` which it is settled, the option `started` with, and the `group` of the words that belong
    together.

    Attributes:
        needs: the reader's answers and its continuations.
        questions: that are answered.
    """

    questions: tuple[Question, ...]

    def write(self, desk: Desk) -> list[Passage]:
        """The passages."""
        question_of = {question.id: question for question in self.questions}
        passages = [passage for text in self.needs for passage in desk.passages(text)]
        points = (_decision_point(desk.reader.tokenizer, question_of[p.prompt_id], p) for p in passages)
        written = []
        for group, (decision, count) in enumerate(Counter(filter(None, points)).items()):
            written += decision.passages(desk, question_of[decision.question], self.name, group, count)
        desk.progress(len(written), len(written))
        return written


@dataclass(frozen=True)
class _DecisionPoint:
    """Where a passage settles for an option: the ids before the word that does, and the white space before it."""

    question: str
    arm: str
    started: str | None
    framing: Framing
    ids: tuple[int, ...]
    blank: str
    option: str

    def passages(self, desk: Desk, question: Question, author: str, group: int, count: int) -> Iterator[Passage]:
        """A passage for each word of the option that can follow in whole tokens."""
        tokenizer, option = desk.reader.tokenizer, question.options[self.option]
        marks = {"part": self.arm, "option": self.option, "at": len(self.ids), "group": group, "count": count}
        fields = {"author": author, "sampling": {"framing": self.framing}, "marks": marks | {"started": self.started}}
        for i, word in enumerate(option.says if self.arm == ANSWER else option.follows):
            after = ids_after(tokenizer, decoded(tokenizer, self.ids), self.blank + word)
            if after is not None:
                yield passage_of(desk, question.as_prompt(), self.ids + after, id=f"{group}/{i}", **fields)


def _decision_point(tokenizer: PreTrainedTokenizerBase, question: Question, passage: Passage) -> _DecisionPoint | None:
    """The first claim of an answer, or the first word after a start that goes with an option; None without one."""
    ids = own_body(passage)
    text = decoded(tokenizer, ids)
    arm, started = passage.marks.get("arm", ANSWER), passage.marks.get("started")
    begun = len(decoded(tokenizer, ids[: passage.sampling["begun_with"]])) if arm != ANSWER else 0
    settled = (claimed if arm == ANSWER else followed)(question, text[begun:])
    if settled is None:
        return None
    start = begun + settled.start
    at = next(i for i, end in enumerate(own_ends(tokenizer, ids)) if end > start)
    blank = text[len(decoded(tokenizer, ids[:at])) : start]
    return _DecisionPoint(question.id, arm, started, passage.sampling["framing"], ids[:at], blank, settled.option)


@dataclass(frozen=True)
class Start:
    """A first sentence that claims an option.

    Attributes:
        ids: in the reader's tokens; its own where it wrote the sentence.
        option: the option claimed.
        author: who wrote it.
        surprisal: its total surprisal to the reader, nats.
    """

    ids: tuple[int, ...]
    option: str
    author: str
    surprisal: float = 0.0


@dataclass(frozen=True)
class _Starter:
    """First sentences in the tokens of the reader at the desk."""

    desk: Desk
    framing: Framing

    def starts(self, question: Question, by_model: Mapping[str, Mapping[str, list[Passage]]]) -> Iterator[Start]:
        """Every different first sentence that claims an option, model by model in the order sampled."""
        for model, passages in by_model.items():
            seen: set[str] = set()
            for passage in passages.get(question.id, []):
                sentence = first_sentence(passage.response)
                settled = claimed(question, sentence)
                if settled is None or sentence in seen:
                    continue
                seen.add(sentence)
                ids = self._ids(passage, question, sentence, is_own=model == self.desk.reader.name)
                if ids is not None:
                    yield Start(ids, settled.option, model)

    def scored(self, question: Question, starts: Sequence[Start]) -> list[Start]:
        """The starts with their surprisal to the reader."""
        reader = self.desk.reader
        begun = [passage_of(self.desk, question.as_prompt(), s.ids, id="", author=s.author) for s in starts]
        framed = [frame(reader.tokenizer, p, self.framing, separator=self.desk.study.separator) for p in begun]
        scores = reader.score(framed) if framed else []
        return [replace(s, surprisal=float(score.surprisal.sum())) for s, score in zip(starts, scores, strict=True)]

    def _ids(self, passage: Passage, question: Question, sentence: str, *, is_own: bool) -> tuple[int, ...] | None:
        """Ids of the first sentence of a passage."""
        if not is_own:
            return ids_at_start(self.desk, question.as_prompt(), sentence, self.framing)
        ids = own_body(passage)
        ends = own_ends(self.desk.reader.tokenizer, ids)
        return ids[: 1 + next(i for i, end in enumerate(ends) if end >= len(sentence))]


def _arms(question: Question, reader: str, starts: Sequence[Start]) -> Iterator[tuple[str, Start, bool]]:
    """(arm, start, whether it has a partner of similar surprisal) of a question."""
    for kind in ("right", "wrong"):
        fitting = [s for s in starts if (s.option == question.right) == (kind == "right")]
        own = [s for s in fitting if s.author == reader]
        foreign = [s for s in fitting if s.author != reader]
        if own and foreign:
            pair = min(itertools.product(own, foreign), key=lambda p: abs(p[0].surprisal - p[1].surprisal))
            yield f"own-{kind}", pair[0], True
            yield f"foreign-{kind}", pair[1], True
        elif own:
            yield f"own-{kind}", own[0], False
