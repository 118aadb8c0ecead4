"""Beginnings that keep or break a plan: own or foreign text, of the prompt's label or of another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from enaction.experiments.commitment.answers import (
    Answer,
    Ids,
    answer_text,
    commonest,
    own_answer,
    read_answer,
    stem_length,
    turned,
)
from enaction.experiments.commitment.cases import Case
from enaction.experiments.commitment.labels import NONE, Label, LabelSpec
from enaction.experiments.pieces import REACH, decoded, ids_after, ids_at_start, own_body
from enaction.passages import Passage
from enaction.study.desk import Desk

# Own and foreign text of the prompt's label and of another one; `own-different` after the prompt that it was written
# for, where that is another one; `own-same` with its label's word replaced.
ARMS = ("own-same", "own-different", "own-home", "swapped", "foreign-same", "foreign-different")
# A beginning is longer than asked for where the label's word needs it, at most by this factor.
_STRETCH = 3


class Beginning(NamedTuple):
    """The ids that a response begins with, stem included, the prompt, the arm, and marks of its passages."""

    prompt_id: str
    arm: str
    ids: Ids
    marks: dict[str, Any]


class _Told(NamedTuple):
    """A sample with its label, whose word is known."""

    passage: Passage
    label: Label
    is_own: bool


@dataclass(frozen=True)
class Beginner:
    """Beginnings for one way to label, in the tokens of the reader at the desk.

    Attributes:
        desk, spec, at: as in `texts.Prefilled`.
        own, foreign: prompt -> its samples that have a label.
        counts: prompt -> labels of all its own samples.
    """

    desk: Desk
    spec: LabelSpec
    at: int
    own: Mapping[str, list[_Told]] = field(default_factory=dict)
    foreign: Mapping[str, list[_Told]] = field(default_factory=dict)
    counts: Mapping[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        desk: Desk,
        spec: LabelSpec,
        at: int,
        own: Mapping[str, Sequence[Passage]],
        foreign: Mapping[str, Sequence[Passage]],
    ) -> Beginner:
        """With every sample labelled."""
        label = spec.labeller()
        labels = {prompt: [label(answer_text(p)) for p in passages] for prompt, passages in own.items()}
        told_own = {prompt: _told(passages, labels[prompt], is_own=True) for prompt, passages in own.items()}
        told_foreign = {
            prompt: _told(passages, [label(answer_text(p)) for p in passages], is_own=False)
            for prompt, passages in foreign.items()
        }
        counts = {prompt: [of.value if of else NONE for of in found] for prompt, found in labels.items()}
        return cls(desk, spec, at, told_own, told_foreign, counts)

    def beginnings(self, case: Case) -> Iterator[Beginning]:
        """A beginning for each arm that the prompt has text for; none where its own samples have no label."""
        prompt_id = case.prompt.id
        if not self.own.get(prompt_id):
            return
        planned, share = commonest(self.counts[prompt_id])
        stem = self._stem(prompt_id)

        def marked(arm: str, ids: Ids, given: str, *, after: str = prompt_id) -> Beginning:
            stem = self._stem(after)
            marks = {"arm": arm, "planned": planned, "share": share, "given": given, "prefill": len(ids) - len(stem)}
            return Beginning(after, arm, ids, marks | self._stem_marks(stem))

        for author, samples in (("own", self.own), ("foreign", self.foreign)):
            same, different = self._sources(samples, prompt_id, planned)
            for arm, told in ((f"{author}-same", same), (f"{author}-different", different)):
                made = next(((t, ids) for t in told if (ids := self._begin(case, stem, t)) is not None), None)
                if made is None:
                    continue
                source, ids = made
                yield marked(arm, stem + ids, source.label.value)
                home = source.passage.prompt_id
                if arm == "own-different" and home != prompt_id:
                    yield marked("own-home", self._stem(home) + ids, source.label.value, after=home)
                if arm == "own-same":
                    for other in different:
                        swapped = self._swapped(case, stem, source, len(ids), other)
                        if swapped is not None:
                            yield marked("swapped", swapped, other.label.value)
                            break

    def _sources(
        self, samples: Mapping[str, list[_Told]], prompt_id: str, planned: str
    ) -> tuple[list[_Told], list[_Told]]:
        """Samples of the prompt's label; and of others, for the same request where there are any, else for another."""
        here = samples.get(prompt_id, [])
        different = [t for t in here if t.label.value != planned] or [
            t for prompt, told in samples.items() if prompt != prompt_id for t in told if t.label.value != planned
        ]
        return [t for t in here if t.label.value == planned], turned(different, prompt_id)

    def _begin(self, case: Case, stem: Ids, told: _Told) -> Ids | None:
        """Ids after the stem up to and with the label's word; None where it comes too late or text is missing."""
        tokenizer = self.desk.reader.tokenizer
        answer = (own_answer if told.is_own else read_answer)(tokenizer, told.passage)
        needed = answer.tokens_through(told.label.end)
        if needed is None or needed > _STRETCH * self.at:
            return None
        cut = needed if stem else _whole_words(answer, max(self.at, needed))
        if cut is None:
            return None
        if told.is_own:
            return answer.ids[:cut]
        text = answer.text[: answer.ends[cut - 1]]
        if not stem:
            return ids_at_start(self.desk, case.prompt, text, self.desk.run.sampled_in(self.desk.reader.name))
        return ids_after(tokenizer, decoded(tokenizer, stem), text)

    def _swapped(self, case: Case, stem: Ids, source: _Told, length: int, other: _Told) -> Ids | None:
        """The first tokens of own text, stem included, with the word of another label in place of its own."""
        tokenizer = self.desk.reader.tokenizer
        answer, label = own_answer(tokenizer, source.passage), source.label
        surface = answer_text(other.passage)[other.label.start : other.label.end]
        word = self.spec.word_for(other.label.value, surface, answer.text[label.start : label.end])
        if word is None:
            return None
        kept = answer.tokens_before(label.start)
        begin, end = answer.ends[kept - 1] if kept else 0, answer.ends[length - 1]
        rest = answer.text[begin : label.start] + word + answer.text[label.end : end]
        before = stem + answer.ids[:kept]
        if not before:
            return ids_at_start(self.desk, case.prompt, rest, self.desk.run.sampled_in(self.desk.reader.name))
        after = ids_after(tokenizer, decoded(tokenizer, before), rest)
        return None if after is None else before + after

    def _stem(self, prompt_id: str) -> Ids:
        passage = self.own[prompt_id][0].passage
        return own_body(passage)[: stem_length(passage)]

    def _stem_marks(self, stem: Ids) -> dict[str, int]:
        return {"stem": len(stem), "stem_end": len(decoded(self.desk.reader.tokenizer, stem))} if stem else {}


def _told(passages: Sequence[Passage], labels: Sequence[Label | None], *, is_own: bool) -> list[_Told]:
    """The passages that have a label whose word is known."""
    pairs = zip(passages, labels, strict=True)
    return [_Told(p, label, is_own) for p, label in pairs if label is not None and label.end >= 0]


def _whole_words(answer: Answer, at: int) -> int | None:
    """The first `at` tokens, or a few more to end between two words; None where no text follows."""
    text, ends = answer.text, answer.ends
    if len(ends) <= at or not text[ends[at - 1] :].strip():
        return None
    cuts = (n for n in range(at, min(at + REACH, len(ends)) + 1) if text[ends[n - 1] :][:1].isspace())
    return next(cuts, at)
