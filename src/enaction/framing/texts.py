"""The text of each token of a response, so that the texts together are the response.

A token alone does not decode to what it adds: some lose the space before them, some hold half of a character. So each
gets what the text grows by when it comes. A token that ends inside a character adds nothing; the one that completes the
character has the whole of it. Characters that are never completed belong to the last token.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

_HALF = "\ufffd"
# No character has more bytes than this, so that a longer wait for its end would be for nothing.
_LONGEST_CHARACTER = 4

Decode = Callable[[list[int]], str]


def token_texts(
    decode: Decode, ids: Sequence[int], response: str | None = None, ends: Sequence[int] | None = None
) -> list[str]:
    """What each token adds to the text.

    Args:
        decode: the tokenizer's, special tokens kept.
        ids: of the response's tokens, without the end of a turn.
        response: the text that they come from. Where their own text differs from it by no more than outer white space,
            the texts are pieces of the response. None: the texts are pieces of what the ids decode to.
        ends: of each token, the number of the response's characters up to and including it, as `Framed` has them; for
            a tokenizer that changes letters, so that its ids do not decode to the response.
    """
    whole = decode(list(ids))
    lengths = _lengths(decode, ids, whole)
    if response is None or response == whole:
        return _pieces(whole, lengths)
    if response.strip() == whole.strip():
        moved = _indent(response) - _indent(whole)
        return _pieces(response, [max(length + moved, 0) for length in lengths])
    return _pieces(whole, lengths) if ends is None else _pieces(response, _completed(ends))


def _completed(ends: Sequence[int]) -> list[int]:
    """Characters up to and including each token, where a character belongs to the last of its tokens."""
    lengths, length = [], 0
    for end, following in itertools.zip_longest(ends, ends[1:]):
        length = end if following is None or following > end else length
        lengths.append(length)
    return lengths


def _lengths(decode: Decode, ids: Sequence[int], whole: str) -> list[int]:
    """Characters up to and including each token, by decoding a few tokens at a time."""
    lengths: list[int] = []
    begin = done = length = 0  # ids[begin:done] are the last whole characters before what comes
    before = ""
    for stop in range(1, len(ids) + 1):
        text = decode(list(ids[begin:stop]))
        if text.endswith(_HALF) and stop - done < _LONGEST_CHARACTER:
            lengths.append(length)
            continue
        length += len(text) - len(before)
        lengths.append(length)
        begin, done = done, stop
        before = decode(list(ids[begin:done]))
    is_cut = whole.endswith(_HALF) and length < len(whole)
    if lengths != sorted(lengths) or not (length == len(whole) or is_cut):  # the text of a few tokens depends on more
        so_far = (len(decode(list(ids[:stop])).rstrip(_HALF)) for stop in range(1, len(ids) + 1))
        lengths = [min(n, len(whole)) for n in itertools.accumulate(so_far, max)]
    return [*lengths[:-1], len(whole)] if lengths else []


def _pieces(text: str, ends: Sequence[int]) -> list[str]:
    return [text[begin:end] for begin, end in itertools.pairwise((0, *ends))]


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip())
