"""Pieces of responses as token ids: prefixes that end between two words, and text that goes on where they end.

Ids are the truth for what is there already; what is put behind it as text is tokenised in one go with the text before
it, and its tokens are found by character offsets. So a prefix never changes, and a piece gets the ids that it has in
that place.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from enaction.passages import Passage

# A prefix is longer by up to so many tokens if it then ends between two words.
REACH = 8


@dataclass(frozen=True)
class Prefix:
    """The beginning of a response, cut behind a token.

    Attributes:
        ids: its tokens.
        text: what they say.
        rest: the text that followed in the response, with the white space that it begins with.
    """

    ids: tuple[int, ...]
    text: str
    rest: str


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of ids as passages hold it."""
    text = tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return text


def own_body(passage: Passage) -> tuple[int, ...]:
    """A passage's own ids without its end-of-turn token."""
    ids = passage.token_ids or ()
    return ids[:-1] if passage.ended else ids


def own_ends(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[int]:
    """The number of characters of the text up to and with each token."""
    return [len(decoded(tokenizer, ids[: i + 1])) for i in range(len(ids))]


def prefix_of_own(tokenizer: PreTrainedTokenizerBase, passage: Passage, at: int) -> Prefix | None:
    """The first `at` of a passage's own ids, or a few more to end between two words; None if there are no more."""
    ids = own_body(passage)
    ends = own_ends(tokenizer, ids[: at + REACH])
    text = decoded(tokenizer, ids)
    cut = _between_words(text, ends, at)
    return Prefix(ids[:cut], text[: ends[cut - 1]], text[ends[cut - 1] :]) if cut else None


def prefix_of_text(tokenizer: PreTrainedTokenizerBase, text: str, at: int) -> Prefix | None:
    """As `prefix_of_own`, of a text that is tokenised."""
    ids, ends = _offsets(tokenizer, text)
    cut = _between_words(text, ends[: at + REACH], at) if len(ids) > at else 0
    return Prefix(tuple(ids[:cut]), text[: ends[cut - 1]], text[ends[cut - 1] :]) if cut else None


def ids_behind(tokenizer: PreTrainedTokenizerBase, before: str, piece: str) -> tuple[int, ...] | None:
    """Ids of a piece of text behind a text whose ids are there already.

    Returns:
        None if the piece's first token also covers the end of what is before, so that it cannot be put there whole.
    """
    tokenised = tokenizer(before + piece, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    spans = list(tokenised["offset_mapping"])
    first = next((i for i, (_, end) in enumerate(spans) if end > len(before)), len(spans))
    if first < len(spans) and spans[first][0] < len(before):
        return None
    return tuple(tokenised["input_ids"][first:])


def _between_words(text: str, ends: Sequence[int], at: int) -> int:
    """The first cut from `at` on with white space behind it, else `at`; 0 if no text is left there."""
    if len(ends) < at or ends[at - 1] >= len(text.rstrip()):
        return 0
    cuts = (i for i, end in enumerate(ends[at - 1 :], start=at) if end < len(text) and text[end].isspace())
    cut = next(cuts, at)
    return cut if text[ends[cut - 1] :].strip() else 0


def _offsets(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], list[int]]:
    tokenised = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return list(tokenised["input_ids"]), [end for _, end in tokenised["offset_mapping"]]


def first_of_each(passages: Sequence[Passage]) -> dict[str, Passage]:
    """Prompt id -> its first passage."""
    groups = itertools.groupby(sorted(passages, key=lambda p: p.prompt_id), key=lambda p: p.prompt_id)
    return {prompt_id: next(group) for prompt_id, group in groups}
