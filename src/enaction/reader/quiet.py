"""Loading without the library's own bars and reports: they would run through the tables and bars of the command line.

What transformers reports about missing weights is refused in one line instead (`sources.source`).
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator

from transformers import modeling_gguf_pytorch_utils as gguf_loading
from transformers.utils import logging as transformers_logging


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No loading bars or reports of transformers while the block runs; the user's settings come back."""
    shown, names = transformers_logging.is_progress_bar_enabled(), gguf_loading.__dict__
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    dispatching = logging.getLogger("accelerate")  # says that weights are on disk, as was asked for
    level = dispatching.level
    dispatching.setLevel(logging.ERROR)
    bar = names["tqdm"]
    transformers_logging.disable_progress_bar()
    names["tqdm"] = functools.partial(bar, disable=True)  # the one bar that does not ask for that setting
    try:
        yield
    finally:
        names["tqdm"] = bar
        transformers_logging.set_verbosity(verbosity)
        dispatching.setLevel(level)
        if shown:
            transformers_logging.enable_progress_bar()
