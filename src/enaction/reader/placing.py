"""Where a model lies: on one device, on several, or partly on disk, as accelerate dispatches it.

A dispatched model moves what each block is given to that block's device, and its weights that are kept on disk or in
the CPU's memory to the device that computes, one block at a time. So of all devices, the reader needs two: where ids go
in, and where the output matrix takes hidden states.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def device_of(module: nn.Module) -> torch.device:
    """Where a module takes its input: where its hook moves it to, or where its weights are."""
    for hook in _hooks(module):
        if hook.execution_device is not None:
            return torch.device(hook.execution_device)
    return next((p.device for p in module.parameters()), torch.device("cpu"))


def input_device(model: Any) -> torch.device:
    """Where ids go in: the device of the input embedding.

    Args:
        model: a causal LM of transformers, or what behaves like one.
    """
    if not is_dispatched(model):
        return model.device
    embedding = model.get_input_embeddings()
    return device_of(model if embedding is None else embedding)


def is_dispatched(model: Any) -> bool:
    """Whether hooks of accelerate move what the parts of the model are given, or their weights."""
    return any(_hooks(module) for module in model.modules())


def only_moves(module: nn.Module) -> bool:
    """Whether a module has hooks of accelerate which move its input and leave its weights where they are."""
    hooks = _hooks(module)
    return bool(hooks) and not any(hook.offload for hook in hooks)


def placement(model: Any) -> str:
    """Where the model lies, in words: `cuda:0`, or `cuda:0, cuda:1 and disk`."""
    mapped = getattr(model, "hf_device_map", None)
    if not mapped or not is_dispatched(model):
        return str(input_device(model))
    places = [f"cuda:{place}" if isinstance(place, int) else str(place) for place in mapped.values()]
    *others, last = dict.fromkeys(places)
    return f"{', '.join(others)} and {last}" if others else last


def _hooks(module: nn.Module) -> list[Any]:
    """The hooks of accelerate on a module that align devices; it may have several in a row."""
    hook = getattr(module, "_hf_hook", None)
    return [part for part in getattr(hook, "hooks", [hook]) if hasattr(part, "execution_device")]
