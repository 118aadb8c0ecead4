"""Answers: what a passage says after its stem, with the characters at which each token ends."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from enaction.experiments.commitment.labels import NONE
from enaction.experiments.pieces import decoded, own_body, own_ends
from enaction.passages import Passage, Prompt, Sampling
from enaction.study.desk import Desk

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Answer:
    """An answer in the tokens of a reader.

    Attributes:
        prompt_id: what is answered.
        text: without the stem.
        ids: its tokens, without stem and end-of-turn token.
        ends: the number of characters of the text up to and including each token.
    """

    prompt_id: str
    text: str
    ids: Ids
    ends: Sequence[int]

    def tokens_before(self, start: int) -> int:
        """How many whole tokens lie before a character."""
        return bisect_right(self.ends, start)

    def tokens_through(self, end: int) -> int | None:
        """How many tokens it takes to have all characters before this one; None where the text has fewer."""
        n = bisect_left(self.ends, end) + 1
        return n if n <= len(self.ends) else None


def stem_length(passage: Passage) -> int:
    """Tokens of the stem that a sampled passage begins with."""
    return int(passage.marks.get("stem", 0))


def answer_text(passage: Passage) -> str:
    """The text of a passage after its stem."""
    return passage.response[int(passage.marks.get("stem_end", 0)) :]


def own_answer(tokenizer: PreTrainedTokenizerBase, passage: Passage) -> Answer:
    """The answer of a passage in its own ids."""
    body, stem = own_body(passage), stem_length(passage)
    skipped = len(decoded(tokenizer, body[:stem])) if stem else 0
    ends = [end - skipped for end in own_ends(tokenizer, body)[stem:]]
    return Answer(passage.prompt_id, answer_text(passage), body[stem:], ends)


def read_answer(tokenizer: PreTrainedTokenizerBase, passage: Passage) -> Answer:
    """The answer of another author's passage, tokenised by itself."""
    text = answer_text(passage)
    tokenised = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ends = [end for _, end in tokenised["offset_mapping"]]
    return Answer(passage.prompt_id, text, tuple(tokenised["input_ids"]), ends)


def commonest(labels: Sequence[str]) -> tuple[str, float]:
    """The commonest label and its share of all; `none` only where there is nothing else; the first of equals."""
    counted = [label for label in labels if label != NONE] or list(labels)
    label = max(dict.fromkeys(counted), key=counted.count)
    return label, counted.count(label) / len(labels)


def turned(items: Sequence[Any], key: str) -> list[Any]:
    """The items from another one on, by the sum of the key's characters, so that prompts do not all take the first."""
    at = sum(map(ord, key)) % len(items) if items else 0
    return [*items[at:], *items[:at]]


def sample_after(
    desk: Desk,
    author: str,
    prompts: Mapping[str, Prompt],
    begun: Mapping[str, Ids],
    marks: Mapping[str, dict[str, Any]],
    sampling: Sampling,
    counted: Mapping[str, str] | None = None,
) -> list[Passage]:
    """What the model samples after beginnings; several of one prompt have keys of their own.

    Args:
        author: name in the passages.
        prompts: key -> the prompt that the beginning answers.
        begun: key -> ids of the beginning.
        marks: key -> marks of its passages.
        sampling: of the continuations.
        counted: key -> id of the prompt that its passages are counted with; the one that they answer by default.
    """
    if not begun:
        return []
    framing = desk.run.sampled_in(desk.reader.name)
    asked = [replace(prompts[key], id=key) for key in begun]
    passages = desk.sample(asked, author, framing=framing, sampling=sampling, beginnings=begun)
    counted = counted or {key: prompt.id for key, prompt in prompts.items()}
    return [replace(p, prompt_id=counted[p.prompt_id], marks=marks[p.prompt_id]) for p in passages]
