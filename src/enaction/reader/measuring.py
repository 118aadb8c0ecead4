"""From what a model's forward gives to the statistics of its measured positions, a bounded slice of logits at a time.

Axes: `M` all positions of a batch, `N` measured ones, `D` hidden, `V` vocabulary.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from enaction.reader.head import Head, HeadLogits
from enaction.reader.statistics import TokenStats, Wanted
from enaction.reader.streaming import WholeLogits, block_rows, stream
from enaction.reader.truncated import truncated

# Logits of whole rows that exist at a time, where rows have to be taken whole: 8 MiB of float32.
LOGITS_IN_FLIGHT = 2_097_152


def measure(
    head: Head | None, given: Tensor, index_N: Tensor, targets_N: Tensor, vocabulary: int, wanted: Wanted | None
) -> dict[str, Tensor]:
    """Statistics by the names of `TokenStats`, [N, ...].

    Args:
        head: what turns hidden states into logits; None where they are logits already.
        given: hidden states [M, D], or logits [M, V] of any dtype.
        index_N: which positions are measured, on any device.
        targets_N: int64 [N], the tokens that came, on any device.
        vocabulary: length of a row of logits.
        wanted: what is computed beyond the four.
    """
    if head is not None and given.device != head.device:
        given = given[index_N.to(given.device)].to(head.device)
        index_N = torch.arange(len(given))
    index_N, targets_N = index_N.to(given.device), targets_N.to(given.device)
    is_truncated = wanted is not None and wanted.is_truncated
    if head is not None and len(index_N) and (kernel := _kernel(head, given, wanted)) is not None:
        return kernel.statistics_of(head, given[index_N], targets_N, vocabulary, wanted)
    if head is not None and head.is_tiled and not is_truncated:
        rows = block_rows(len(index_N), given.shape[1], vocabulary)
        return stream(lambda block: HeadLogits(head, given[index_N[block]]), targets_N, vocabulary, wanted, rows=rows)
    most = max(1, LOGITS_IN_FLIGHT // vocabulary)
    parts = []
    for begin in range(0, max(1, len(index_N)), most):
        chunk, targets = given[index_N[begin : begin + most]], targets_N[begin : begin + most]
        logits_NV = chunk if head is None else head.logits(chunk)
        parts.append(_whole(logits_NV, targets, vocabulary, wanted))
        if wanted is not None and wanted.is_truncated:
            parts[-1] |= truncated(logits_NV.float(), targets, wanted)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _kernel(head: Head, given: Tensor, wanted: Wanted | None) -> ModuleType | None:
    """The kernel for CUDA where it can take the case. Triton is imported only where it could be of use."""
    if not given.is_cuda and "TRITON_INTERPRET" not in os.environ:
        return None
    try:
        from enaction.reader import kernel
    except ImportError:  # Triton comes with torch for CUDA on Linux, and with few others
        return None
    return kernel if kernel.takes(head, given, wanted) else None


def _whole(logits_NV: Tensor, targets_N: Tensor, vocabulary: int, wanted: Wanted | None) -> dict[str, Tensor]:
    rows = block_rows(len(targets_N), 1, vocabulary)
    return stream(lambda block: WholeLogits(logits_NV[block]), targets_N, vocabulary, wanted, rows=rows)


def nothing_measured(vocabulary: int, wanted: Wanted | None) -> TokenStats:
    """What is said of a passage without measured tokens: the arrays of any other, and empty."""
    index_0 = torch.empty(0, dtype=torch.long)
    return cut(measure(None, torch.empty((0, vocabulary)), index_0, index_0, vocabulary, wanted), [0])[0]


def cut(columns: dict[str, Tensor], lengths: Sequence[int]) -> list[TokenStats]:
    """The statistics of each of the passages that follow one another in the columns."""
    bounds = np.cumsum(lengths)[:-1]
    parts = {name: np.split(column.cpu().numpy(), bounds) for name, column in columns.items()}
    return [TokenStats(**{name: parts[name][i].copy() for name in parts}) for i in range(len(lengths))]
