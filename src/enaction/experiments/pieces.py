"""Pieces of responses as token ids: prefixes that end between two words, and text that continues where they end.

The ids of a prefix never change. Text that is put after it is tokenised in one go with the text before it, and its
tokens are found by character offsets, so that a piece gets the ids that it has in that position.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from enaction.errors import FramingError
from enaction.framing import beginning_ids
from enaction.passages import Passage, Prompt
from enaction.study.desk import Desk
from enaction.words import Framing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A prefix is longer by at most this many tokens where it then ends between two words.
REACH = 8


@dataclass(frozen=True)
class Prefix:
    """The beginning of a response, cut after a token.

    Attributes:
        ids: its tokens.
        text: the text of these tokens.
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
    """The number of characters of the text up to and including each token."""
    return [len(decoded(tokenizer, ids[: i + 1])) for i in range(len(ids))]


def prefix_of_own(tokenizer: PreTrainedTokenizerBase, passage: Passage, at: int) -> Prefix | None:
    """The first `at` of a passage's own ids, or a few more to end between two words; None if it is shorter."""
    ids = own_body(passage)
    ends = own_ends(tokenizer, ids[: at + REACH])
    return _cut(ids, decoded(tokenizer, ids), ends, at)


def prefix_of_text(tokenizer: PreTrainedTokenizerBase, text: str, at: int) -> Prefix | None:
    """As `prefix_of_own`, of a text that is tokenised."""
    tokenised = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, ends = tuple(tokenised["input_ids"]), [end for _, end in tokenised["offset_mapping"]]
    return _cut(ids, text, ends[: at + REACH], at) if len(ids) > at else None


def ids_after(tokenizer: PreTrainedTokenizerBase, before: str, piece: str) -> tuple[int, ...] | None:
    """Ids of a piece of text after a text that has its ids already.

    Returns:
        None if the piece's first token also covers the end of the text before, so that whole tokens cannot join them.
    """
    tokenised = tokenizer(before + piece, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    spans = list(tokenised["offset_mapping"])
    first = next((i for i, (_, end) in enumerate(spans) if end > len(before)), len(spans))
    if first < len(spans) and spans[first][0] < len(before):
        return None
    return tuple(tokenised["input_ids"][first:])


def ids_at_start(desk: Desk, prompt: Prompt, text: str, framing: Framing) -> tuple[int, ...] | None:
    """Ids of a text that a response to a prompt begins with; None where it cannot begin with whole tokens."""
    try:
        return beginning_ids(desk.reader.tokenizer, prompt, text, framing, separator=desk.study.separator)
    except FramingError:
        return None


def passage_of(desk: Desk, prompt: Prompt, ids: tuple[int, ...], **fields: Any) -> Passage:
    """A response that is given as ids of the reader at the desk, cut off at their end.

    Args:
        fields: the passage's id and author, and what it has beside them.
    """
    return Passage(
        prompt_id=prompt.id,
        prompt=prompt.messages,
        response=decoded(desk.reader.tokenizer, ids),
        token_ids=ids,
        tokenizer=desk.reader.fingerprint,
        ended=False,
        **fields,
    )


def by_prompt(passages: Iterable[Passage]) -> dict[str, list[Passage]]:
    """Prompt id -> its passages."""
    of_prompt: dict[str, list[Passage]] = {}
    for passage in passages:
        of_prompt.setdefault(passage.prompt_id, []).append(passage)
    return of_prompt


def first_of_each(passages: Iterable[Passage]) -> dict[str, Passage]:
    """Prompt id -> its first passage."""
    return {prompt: first for prompt, (first, *_) in by_prompt(passages).items()}


def _cut(ids: tuple[int, ...], text: str, ends: Sequence[int], at: int) -> Prefix | None:
    """The prefix up to the first cut from `at` on that white space follows, else to `at`; None if no text is left."""
    if len(ends) < at or ends[at - 1] >= len(text.rstrip()):
        return None
    cuts = (i for i, end in enumerate(ends[at - 1 :], start=at) if end < len(text) and text[end].isspace())
    cut = next(cuts, at)
    end = ends[cut - 1]
    return Prefix(ids[:cut], text[:end], text[end:]) if text[end:].strip() else None
