"""enaction: does a language model recognise its own words, and what does it do about it?

`run(study)` carries out a whole study and returns its findings, `open_run(folder)` opens a finished one. One step at a
time: `Reader.load(name)` reads passages with a model, `sample` writes them, `score_passages` returns the token table.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from enaction.lazy import lazily

if TYPE_CHECKING:  # type checkers do not follow `_HOMES`
    from enaction.framing import frame as frame
    from enaction.passages import Passage as Passage
    from enaction.passages import Prompt as Prompt
    from enaction.passages import read_passages as read_passages
    from enaction.passages import read_prompts as read_prompts
    from enaction.passages import write_passages as write_passages
    from enaction.reader import Reader as Reader
    from enaction.running import open_run as open_run
    from enaction.running import run as run
    from enaction.sampling import sample as sample
    from enaction.study.config import Study as Study
    from enaction.tokens import score_passages as score_passages
    from enaction.tokens import with_text as with_text

__version__ = "0.1.0"

# A library prints nothing by itself: who wants to hear of its work adds a handler to the logger `enaction`.
logging.getLogger(__name__).addHandler(logging.NullHandler())

# Public name -> where it is defined.
_HOMES = {
    "Passage": "passages",
    "Prompt": "passages",
    "Reader": "reader",
    "Study": "study.config",
    "frame": "framing",
    "open_run": "running",
    "read_passages": "passages",
    "read_prompts": "passages",
    "run": "running",
    "sample": "sampling",
    "score_passages": "tokens",
    "with_text": "tokens",
    "write_passages": "passages",
}

__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


__getattr__ = lazily(__name__, _HOMES)
