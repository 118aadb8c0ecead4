"""Leave a model in training as it was: random numbers, buffers, what is trained, and how it runs.

Weights are not in here: reading takes no gradients and writes to none. Dropout is off inside `Reader.reading`, which
sets it back itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Set back, on leaving, all that a reading may change around a model in training.

    Random numbers are those of Python, NumPy and torch, on every device in use. Buffers are set back because a model
    may renew one while it reads (rotary tables that grow with the text), and one made in inference mode cannot be
    trained through; with them go the numbers beside them that say how far they reach. `requires_grad` is set back
    because switching an adapter off and on makes all of it trainable.
    """
    restore_random = _random_state()
    parameters = [(p, p.requires_grad) for p in model.parameters()]
    modules = [(m, dict(m._buffers), _numbers(m)) for m in model.modules() if m._buffers]
    try:
        yield
    finally:
        for parameter, requires_grad in parameters:
            parameter.requires_grad_(requires_grad)
        for module, buffers, numbers in modules:
            module._buffers.update(buffers)
            module.__dict__.update(numbers)
        restore_random()


@contextmanager
def own_forward(model: nn.Module) -> Iterator[None]:
    """Let a model run by its class's own forward.

    A trainer puts one of its own on the object: accelerate one with autocast, in which the weights do not compute as
    what they are, and TRL one with a fused head. A copy would share these, and go on with the weights of the original.
    Where the model is spread over devices, that of accelerate moves the tensors and stays.
    """
    theirs = None if hasattr(model, "_hf_hook") else model.__dict__.pop("forward", None)
    try:
        yield
    finally:
        if theirs is not None:
            model.__dict__["forward"] = theirs


def _numbers(module: nn.Module) -> dict[str, Any]:
    return {k: v for k, v in module.__dict__.items() if type(v) in (int, float)}


def _random_state() -> Callable[[], None]:
    """A function that sets all generators back to where they are now."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)

    return restore
