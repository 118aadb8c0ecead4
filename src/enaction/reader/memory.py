"""Out of memory: halve the batch and go on.

How much a batch takes depends on the model, its attention kernels and what else runs on the machine, so it is not
computed beforehand. A batch that does not fit is cut in two, and later ones are made no larger than its halves. Scores
and samples do not depend on their batch, so this changes nothing but the time.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch

from enaction.errors import ModelError

T = TypeVar("T")

# What libraries say where they raise a plain RuntimeError: torch's allocators for the CPU, cuBLAS, Apple's Metal.
_SAID = ("not enough memory", "can't allocate memory", "cannot allocate memory", "out of memory", "alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whatever device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _SAID)


def halving(
    batches: Iterable[list[int]],
    do: Callable[[list[int]], T],
    *,
    size: Callable[[list[int]], int],
    too_large: Callable[[int], str],
) -> Iterator[tuple[list[int], T]]:
    """Do every batch; one that memory has no room for in two halves, and so on down to single items.

    Args:
        batches: indices of items, in the order in which they are done.
        do: runs a batch; it must be possible to run it again.
        size: what a batch takes, in any unit; less for a part of it.
        too_large: what to say of a single item that does not fit, with its remedy.

    Yields:
        each batch as it was done, with what came of it.

    Raises:
        ModelError: a single item does not fit.
    """
    limit = math.inf
    for whole in batches:
        waiting = [whole]
        while waiting:
            batch = waiting.pop()
            halves = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
            if len(batch) == 1 or size(batch) <= limit:
                outcome = _tried(do, batch)
                if not isinstance(outcome, _NoRoom):
                    yield batch, outcome
                    continue
                if len(batch) == 1:
                    raise ModelError(f"{too_large(batch[0])} ({outcome.said})")
                limit = max(map(size, halves))
                _release()
            waiting += halves[::-1]


@dataclass(frozen=True)
class _NoRoom:
    said: str


def _tried(do: Callable[[list[int]], T], batch: list[int]) -> T | _NoRoom:
    """What came of a batch. The error itself is let go here, because its traceback holds the tensors of the run."""
    try:
        return do(batch)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return _NoRoom((str(error).strip() or type(error).__name__).splitlines()[0])


def _release() -> None:
    """Give back what a failed run left behind."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
