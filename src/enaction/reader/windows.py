"""Texts longer than a context: read in sliding windows, where that is asked for.

A window holds `window` input tokens, and the next begins half a window (rounded down) later, counted from the start of
the context. A token is measured in the first window whose inputs reach up to it. So the first `window` predictions have
everything before them for context, as always, and each later one has more than half a window and at most a whole one:
what stands further back, the chat template's opening and a BOS included, is not seen. Windows lie by position alone,
so that a token's context depends neither on the measured span nor on other passages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace

import numpy as np

from enaction.errors import UserError
from enaction.framing import Framed
from enaction.reader.statistics import TokenStats


def stride(window: int) -> int:
    """How many tokens after the one before it a window begins."""
    return window // 2


def check_window(window: int, context_length: int | None, reader: str) -> None:
    """Refuse a window that cannot be used.

    Raises:
        UserError: less than 2 tokens, or more than the model takes.
    """
    if window < 2:
        raise UserError(f"window {window} is not possible: it is a number of tokens, 2 or more")
    if context_length is not None and window > context_length:
        raise UserError(f"window {window} is not possible: {reader} takes {context_length} tokens; give at most these")


def windows(framed: Framed, window: int) -> Iterator[Framed]:
    """The windows of one passage that measure something, each as a passage of its own, in order; at least one."""
    if framed.stop == framed.start:
        yield replace(framed, ids=(), start=0, stop=0)
        return
    if framed.stop - 1 <= window:
        yield framed
        return
    first, begin = 1, 0  # the first token whose prediction this window measures, and where it begins
    while first < framed.stop:
        start, stop = max(first, framed.start), min(begin + window + 1, framed.stop)
        if start < stop:
            yield replace(framed, ids=framed.ids[begin:stop], start=start - begin, stop=stop - begin)
        first, begin = begin + window + 1, begin + stride(window)


def joined(parts: Sequence[TokenStats]) -> TokenStats:
    """The statistics of one passage from those of its windows."""
    if len(parts) == 1:
        return parts[0]
    columns = {field.name: [getattr(part, field.name) for part in parts] for field in fields(TokenStats)}
    return TokenStats(**{name: np.concatenate(arrays) for name, arrays in columns.items() if arrays[0] is not None})
