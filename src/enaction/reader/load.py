"""Load a causal LM and its tokenizer by name, with errors that a person can act on."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from enaction.errors import ModelError
from enaction.reader import planted  # noqa: F401  # lets transformers know the class of planted organisms
from enaction.reader.quiet import quiet
from enaction.reader.sources import find
from enaction.reader.sources.source import Loaded, first_line

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def load_model(
    name_or_path: str,
    *,
    revision: str | None,
    dtype: torch.dtype | str,
    device: str,
    trust_remote_code: bool,
    use_safetensors: bool,
    base: str | Path | None = None,
) -> Loaded:
    """Load model and tokenizer; the arguments are those of `Reader.load`.

    Raises:
        ModelError: no such model, none that transformers can load, missing weights, a missing package, an unknown
            dtype, or a device that does not exist or is too small.
    """
    dtype = _floating(dtype)
    _try_device(device)
    source = find(name_or_path, revision)
    source.require(base)
    try:
        with quiet():
            loaded = source.load(dtype, trust_remote_code=trust_remote_code, use_safetensors=use_safetensors, base=base)
    except ModelError:
        raise
    except ImportError as error:
        raise ModelError(f"{name_or_path} needs a package that is not installed: {first_line(error)}") from error
    except Exception as error:  # whatever a broken or foreign file sets off in the libraries that read it
        raise ModelError(f"cannot load {name_or_path}: {first_line(error)} ({source.remedy})") from error
    try:
        nn.Module.to(loaded.model, torch.device(device))
    except RuntimeError as error:
        raise ModelError(
            f"cannot put {name_or_path} on {device}: {first_line(error)} (use bfloat16, or cpu)"
        ) from error
    loaded.model.eval()
    return loaded


def _floating(dtype: torch.dtype | str) -> torch.dtype:
    chosen = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if chosen not in DTYPES:
        names = ", ".join(str(d).removeprefix("torch.") for d in DTYPES)
        raise ModelError(f"weights cannot be read as dtype {dtype}: use one of {names}")
    return chosen


def _try_device(device: str) -> None:
    """Fail before gigabytes are loaded."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(
            f"there is no device {device} here: {first_line(error)} (use cpu, or what this torch has)"
        ) from error
