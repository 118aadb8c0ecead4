"""Locate the stack of blocks of a model: by structure, not by names."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn


class Blocks(NamedTuple):
    """The blocks of a model, first to last.

    Attributes:
        path: of the list among the model's modules, `model.layers` or so.
        modules: the list itself.
    """

    path: str
    modules: nn.ModuleList


def blocks(model: nn.Module) -> Blocks | None:
    """The list of modules with the most parameters, the outermost and first of equals; None if a model has no list.

    The blocks hold all but the embeddings and the head. The length says less: the experts of one block are a list too,
    and may be more than the blocks.
    """
    lists = [(path, module) for path, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    return Blocks(*max(lists, key=lambda item: sum(p.numel() for p in item[1].parameters()))) if lists else None
