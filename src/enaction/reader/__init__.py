"""One causal language model: load it, locate its body and head, and read passages with it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enaction.reader.reader import Progress, Reader
    from enaction.reader.statistics import TokenStats, Wanted
    from enaction.reader.streaming import token_statistics

_HOMES = {
    "Progress": "reader",
    "Reader": "reader",
    "TokenStats": "statistics",
    "Wanted": "statistics",
    "token_statistics": "streaming",
}

__all__ = ["Progress", "Reader", "TokenStats", "Wanted", "token_statistics"]


def __getattr__(name: str) -> Any:
    # Imported on first use: `reader.sources` is below, and has to answer without torch.
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
