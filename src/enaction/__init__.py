"""enaction: does a language model recognise its own words, and what does it do about it?

`Reader.load(name)` reads passages with a model, `sample` writes them, `score_passages` gives the token table; studies,
statistics and experiments live in the rooms of the same names.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enaction.framing import frame
    from enaction.passages import Passage, Prompt, read_passages, read_prompts, write_passages
    from enaction.reader import Reader
    from enaction.sampling import sample
    from enaction.tokens import score_passages

__version__ = "0.1.0"

_HOMES = {
    "Passage": "passages",
    "Prompt": "passages",
    "Reader": "reader",
    "frame": "framing",
    "read_passages": "passages",
    "read_prompts": "passages",
    "sample": "sampling",
    "score_passages": "tokens",
    "write_passages": "passages",
}

__all__ = [
    "Passage",
    "Prompt",
    "Reader",
    "frame",
    "read_passages",
    "read_prompts",
    "sample",
    "score_passages",
    "write_passages",
]


def __getattr__(name: str) -> Any:
    # Imported on first use: torch and transformers take seconds, and the command line must answer at once.
    if name not in _HOMES:
        raise AttributeError(f"module 'enaction' has no attribute '{name}'")
    return getattr(import_module(f"enaction.{_HOMES[name]}"), name)
