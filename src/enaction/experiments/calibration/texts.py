"""Answers to questions, taken apart and gone on with: what the calibration experiment has written and read.

Three texts a reader: its own answers; continuations of first sentences, its own and foreign ones, right and wrong; and
decisions, where each place at which an answer or a continuation settles for an option is read with every word of that
option in turn, so that the probability of the option is known and not only that of the word that came.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from enaction.errors import FramingError
from enaction.experiments.old_planning import sample_for
from enaction.experiments.pieces import decoded, ids_after, own_body, own_ends
from enaction.experiments.questions import Question, claimed, first_sentence, followed
from enaction.framing import beginning_ids, frame
from enaction.passages import Passage
from enaction.reader import Progress, Reader
from enaction.study.config import Study
from enaction.study.store import Run
from enaction.words import Framing

ANSWER = "answer"
ARMS = ("own-right", "own-wrong", "foreign-right", "foreign-wrong")


@dataclass(frozen=True)
class Start:
    """A first sentence that claims an option.

    Attributes:
        ids: in the reader's tokens; its own where it wrote it.
        option: the option claimed.
        author: who wrote it.
        surprisal: what it costs the reader, nats in all.
    """

    ids: tuple[int, ...]
    option: str
    author: str
    surprisal: float = 0.0


def framing_of(run: Run, model: str) -> Framing:
    """The framing that a model sampled its own text in."""
    return run.passages(model)[0].sampling["framing"]


def write_answers(
    study: Study,
    questions: Sequence[Question],
    name: str,
    per_question: int,
    max_new_tokens: int,
    run: Run,
    reader: Reader,
    progress: Progress,
) -> list[Passage]:
    """The reader's answers to every question."""
    settings = study.sampling.model_copy(update={"per_prompt": per_question, "max_new_tokens": max_new_tokens})
    prompts, framing = [q.as_prompt() for q in questions], framing_of(run, reader.name)
    return sample_for(study, reader, prompts, name, progress, framing=framing, settings=settings)


def write_continued(
    study: Study,
    questions: Sequence[Question],
    name: str,
    answers: dict[str, str],
    per_start: int,
    max_new_tokens: int,
    run: Run,
    reader: Reader,
    progress: Progress,
) -> list[Passage]:
    """What the reader says after a first sentence, for each arm that a question has a first sentence for.

    Of a question's own and foreign sentences, the pair whose costs to the reader are the most alike is taken; where
    there are only own ones, the first sampled. `sampling` says the `arm`, the option `started` with, the `cost` of the
    start, nats, and whether it is `matched`.

    Args:
        study: settings of sampling.
        questions: to be gone on with.
        name: author in the passages.
        answers: model -> the text of its answers; the reader's own among them.
        per_start: continuations of each start.
        max_new_tokens: of each.
        run: has the answers.
        reader: goes on.
        progress: told of continuations.
    """
    framing = framing_of(run, reader.name)
    by_model = {m: _by_prompt(run.passages(text)) for m, text in answers.items()}
    prompts, begun, marks = [], {}, {}
    for question in questions:
        starts = _costed(study, reader, framing, question, _starts(study, reader, framing, question, by_model))
        for arm, start, is_matched in _arms(question, reader.name, starts):
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
    settings = study.sampling.model_copy(update={"per_prompt": per_start, "max_new_tokens": max_new_tokens})
    passages = sample_for(study, reader, prompts, name, progress, framing=framing, settings=settings, beginnings=begun)
    return [
        replace(p, prompt_id=p.prompt_id.rpartition("/")[0], sampling=p.sampling | marks[p.prompt_id]) for p in passages
    ]


def write_decisions(
    questions: Sequence[Question],
    name: str,
    answers: str,
    continued: str,
    run: Run,
    reader: Reader,
    progress: Progress,
) -> list[Passage]:
    """Each place where an answer or a continuation settles for an option, with every word of that option in turn.

    Equal ones are written once: `sampling` has their number as `count`, the `part` (the answer, or the arm), the
    `option` settled for, the token `at` which it is settled, and the `group` of the words that belong together.
    """
    tokenizer = reader.tokenizer
    question_of = {q.id: q for q in questions}
    found: dict[_Decision, list[Passage]] = {}
    for passage in [*run.passages(answers), *run.passages(continued)]:
        decision = _decision(tokenizer, question_of[passage.prompt_id], passage)
        if decision is not None:
            found.setdefault(decision, []).append(passage)
    written = []
    for group, (decision, passages) in enumerate(found.items()):
        first = passages[0]
        option = question_of[first.prompt_id].options[decision.option]
        marks = {key: first.sampling[key] for key in ("framing", "started") if key in first.sampling} | {
            "part": decision.part,
            "option": decision.option,
            "at": len(decision.ids),
            "group": group,
            "count": len(passages),
        }
        for i, word in enumerate(option.says if decision.part == ANSWER else option.follows):
            behind = ids_after(tokenizer, decoded(tokenizer, decision.ids), decision.blank + word)
            if behind is not None:
                ids = decision.ids + behind
                made = replace(first, id=f"{group}/{i}", author=name, sampling=marks, token_ids=ids, logprobs=None)
                written.append(replace(made, response=decoded(tokenizer, ids), ended=False))
    progress(len(written), len(written))
    return written


@dataclass(frozen=True)
class _Decision:
    """Where a passage settles for an option: the ids before the word that does, and the white space in front of it."""

    question: str
    part: str
    ids: tuple[int, ...]
    blank: str
    option: str


def _decision(tokenizer: PreTrainedTokenizerBase, question: Question, passage: Passage) -> _Decision | None:
    """The first claim of an answer, or the first word behind a start that goes with an option; None without one."""
    ids = own_body(passage)
    text = decoded(tokenizer, ids)
    part = passage.sampling.get("arm", ANSWER)
    told = len(decoded(tokenizer, ids[: passage.sampling["begun_with"]])) if part != ANSWER else 0
    settled = (claimed if part == ANSWER else followed)(question, text[told:])
    if settled is None:
        return None
    place = told + settled.start
    at = next(i for i, end in enumerate(own_ends(tokenizer, ids)) if end > place)
    blank = text[len(decoded(tokenizer, ids[:at])) : place]
    return _Decision(question.id, part, ids[:at], blank, settled.option)


def _by_prompt(passages: Iterable[Passage]) -> dict[str, list[Passage]]:
    found: dict[str, list[Passage]] = {}
    for passage in passages:
        found.setdefault(passage.prompt_id, []).append(passage)
    return found


def _starts(
    study: Study,
    reader: Reader,
    framing: Framing,
    question: Question,
    by_model: dict[str, dict[str, list[Passage]]],
) -> Iterator[Start]:
    """Every different first sentence that claims an option, model by model in the order sampled."""
    for model, passages in by_model.items():
        seen: set[str] = set()
        for passage in passages.get(question.id, []):
            sentence = first_sentence(passage.response)
            settled = claimed(question, sentence)
            if settled is None or sentence in seen:
                continue
            seen.add(sentence)
            if model == reader.name:
                ends = own_ends(reader.tokenizer, own_body(passage))
                ids = own_body(passage)[: 1 + next(i for i, end in enumerate(ends) if end >= len(sentence))]
            else:
                try:
                    ids = beginning_ids(
                        reader.tokenizer, question.as_prompt(), sentence, framing, separator=study.separator
                    )
                except FramingError:
                    continue
            yield Start(ids, settled.option, model)


def _costed(study: Study, reader: Reader, framing: Framing, question: Question, starts: Iterable[Start]) -> list[Start]:
    """The starts with what they cost the reader."""
    starts = list(starts)
    framed = [
        frame(
            reader.tokenizer,
            Passage("", question.id, question.messages, "", "", {}, s.ids, None, reader.fingerprint, False),
            framing,
            separator=study.separator,
        )
        for s in starts
    ]
    scores = reader.score(framed) if framed else []
    return [replace(s, surprisal=float(found.surprisal.sum())) for s, found in zip(starts, scores, strict=True)]


def _arms(question: Question, reader: str, starts: list[Start]) -> Iterator[tuple[str, Start, bool]]:
    """(arm, start, whether it has a partner of like cost) of a question."""
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
