"""One causal language model: load it, locate its body and head, and read passages with it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    # Imported on first use: `reader.sources`, `batching` and `windows` are used without torch.
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
