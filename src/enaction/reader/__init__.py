"""One causal language model: load it, locate its body and head, and read passages with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enaction.lazy import lazily

if TYPE_CHECKING:  # type checkers do not follow `_HOMES`
    from enaction.reader.reader import Progress as Progress
    from enaction.reader.reader import Reader as Reader
    from enaction.reader.statistics import TokenStats as TokenStats
    from enaction.reader.statistics import Wanted as Wanted
    from enaction.reader.streaming import token_statistics as token_statistics

# Public name -> where it is defined.
_HOMES = {
    "Progress": "reader",
    "Reader": "reader",
    "TokenStats": "statistics",
    "Wanted": "statistics",
    "token_statistics": "streaming",
}

__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


# `reader.sources` is in this package and has to answer without torch.
__getattr__ = lazily(__name__, _HOMES)
