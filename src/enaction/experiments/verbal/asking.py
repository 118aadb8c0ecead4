"""A transcript and a question after it, as token ids, and what the answer weighs.

The reply keeps its author's own ids; the question's turn is what the chat template puts after it. The answer is read
from the distribution of the first token of the answering turn: the log-odds of two words, and the probability that is
on either (`mass`): log-odds of two words that the model would not say are noise.

Axes: `N` transcripts, `V` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from enaction.errors import StudyError
from enaction.experiments.pieces import ids_after
from enaction.framing import Framed, frame, render
from enaction.framing.ids import encode
from enaction.framing.template import SENTINEL, require_all_shown
from enaction.passages import Message, Passage

if TYPE_CHECKING:
    from enaction.reader import Reader

# Transcripts that are read together: the log-probabilities of the whole vocabulary are held for each.
_AT_ONCE = 128
_FEWEST = 4


@dataclass(frozen=True)
class Asked:
    """A transcript with a question.

    Attributes:
        framed: the ids with a placeholder for the answer at the end, the one token that is measured.
        reply: index of the reply's first token, and of the one after its last.
        passage: the reply and its prompt.
    """

    framed: Framed
    reply: tuple[int, int]
    passage: Passage

    @property
    def positions(self) -> np.ndarray:
        """Where the reply lies in the ids."""
        return np.arange(*self.reply)


class Answers(NamedTuple):
    """The two answers of a question as token ids: each way of writing the word that is one token."""

    yes: tuple[int, ...]
    no: tuple[int, ...]


class Report(NamedTuple):
    """What a reader answers: log-odds of the two words, nats, and the probability on both; each [N]."""

    log_odds: np.ndarray
    mass: np.ndarray


def ask(tokenizer: Any, passage: Passage, question: str, *, cut: int | None = None) -> Asked:
    """Put a question after a transcript.

    Args:
        tokenizer: the asked reader's.
        passage: the prompt and the reply.
        question: the words of the user's second turn.
        cut: tokens of the reply that are shown, without its end; all by default.

    Raises:
        FramingError: the template does not take the turns, or does not show one of them.
    """
    framed = frame(tokenizer, passage, "assistant")
    body = framed.ids[framed.start : framed.stop - framed.has_end][:cut]
    turns = (*passage.prompt, Message(role="assistant", content=SENTINEL), Message(role="user", content=question))
    require_all_shown(tokenizer, turns, generation=True)
    tail = render(tokenizer, turns, add_generation_prompt=True).partition(SENTINEL)[2]
    # As after words: at the beginning of a text some tokenizers put a blank that nobody wrote.
    after = ids_after(tokenizer, SENTINEL, tail) or encode(tokenizer, tail, special=False).ids
    ids = (*framed.ids[: framed.start], *body, *after)
    placed = Framed((*ids, ids[-1]), len(ids), len(ids) + 1, has_end=False, passage_id=passage.id)
    return Asked(placed, (framed.start, framed.start + len(body)), passage)


def under(passage: Passage, prompt: Sequence[Message]) -> Passage:
    """The same reply, by the same ids, as if it had been given to another prompt."""
    return replace(passage, prompt=tuple(prompt))


def with_words(passages: Sequence[Passage]) -> list[Passage]:
    """The passages whose reply has at least a few words: of an empty one nobody can say whose it is."""
    return [p for p in passages if len(p.response.split()) >= _FEWEST]


def answers(tokenizer: Any, yes: str, no: str) -> Answers:
    """The answers as token ids.

    Raises:
        StudyError: a word is no single token.
    """
    ids = []
    for word in (yes, no):
        forms = {form for w in (word, word.capitalize(), word.upper()) for form in (w, f" {w}")}
        single = [found[0] for form in sorted(forms) if len(found := encode(tokenizer, form, special=False).ids) == 1]
        single = sorted({i for i in single if i != tokenizer.unk_token_id})
        if not single:
            raise StudyError(f"the answer '{word}' is no single token of the model: choose another word as `answers`")
        ids.append(tuple(single))
    return Answers(*ids)


def report_of(logprob_NV: np.ndarray, words: Answers) -> Report:
    """Log-odds and answer mass from log-probabilities of the whole vocabulary."""
    yes_N, no_N = (np.logaddexp.reduce(logprob_NV[:, list(ids)], axis=1) for ids in words)
    return Report(yes_N - no_N, np.exp(np.logaddexp(yes_N, no_N)))


class Panel:
    """Transcripts that a reader is asked about again and again, each time under other interventions."""

    def __init__(self, reader: Reader, asked: Sequence[Asked], words: Answers) -> None:
        from enaction.reader.interventions import Treated
        from enaction.reader.statistics import Wanted

        self.reader, self.asked, self.words = reader, tuple(asked), words
        self.treated = Treated(reader, [a.framed for a in asked])
        self._wanted = Wanted(likeliest=reader.vocabulary_size)

    def read(self, edits: Sequence[Any] = (), captures: Sequence[Any] = ()) -> tuple[Report, dict[Any, Any]]:
        """The report on each transcript, and what was captured."""
        given = self.treated.read(edits, captures, wanted=self._wanted)
        logprob_NV = np.full((len(self.asked), self.reader.vocabulary_size), -np.inf)
        for row_V, stats in zip(logprob_NV, given.scores, strict=True):
            assert stats.likeliest_ids is not None
            assert stats.likeliest_logprobs is not None
            row_V[stats.likeliest_ids[0]] = stats.likeliest_logprobs[0]
        return report_of(logprob_NV, self.words), dict(given.captured)


def table_of(rows: Sequence[tuple], schema: pa.Schema) -> pa.Table:
    """Rows, each with a value for every column, as a table."""
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [pa.array(column).cast(field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def reports(reader: Reader, asked: Sequence[Asked], words: Answers) -> Report:
    """The reader's report on each transcript, without interventions."""
    parts = [Panel(reader, asked[i : i + _AT_ONCE], words).read()[0] for i in range(0, len(asked), _AT_ONCE)]
    none = np.zeros(0)
    log_odds_N = np.concatenate([none, *(part.log_odds for part in parts)])
    return Report(log_odds_N, np.concatenate([none, *(part.mass for part in parts)]))
