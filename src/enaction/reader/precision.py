"""In what numbers a model computes: the dtype of its weights, and how they are quantised."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

# Methods whose weights transformers expands on loading.
_EXPANDED = ("gguf",)


def dtype_of(model: nn.Module) -> torch.dtype:
    """The dtype of the first weights that are numbers of their own, and not codes of a quantised matrix."""
    kinds = [p.dtype for p in model.parameters()]
    return next((kind for kind in kinds if kind.is_floating_point and kind.itemsize > 1), kinds[0])


def quantization_of(model: Any) -> str | None:
    """How the weights are quantised, in words (`bitsandbytes 4-bit`); None if they are plain numbers."""
    settings = getattr(getattr(model, "config", None), "quantization_config", None)
    if settings is None:
        return None
    given = settings if isinstance(settings, dict) else settings.to_dict()
    method = given.get("quant_method")
    method = str(getattr(method, "value", method))
    if method in _EXPANDED or given.get("dequantize"):
        return None
    bits = given.get("bits") or (4 if given.get("load_in_4bit") else 8 if given.get("load_in_8bit") else None)
    return f"{method} {bits}-bit" if bits else method


def is_coarse(model: nn.Module) -> bool:
    """Whether rounding shows: half precision, or quantised weights, whose kernels compute in it or in integers."""
    return dtype_of(model) not in (torch.float32, torch.float64) or quantization_of(model) is not None
