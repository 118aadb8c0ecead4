"""Load a causal LM and its tokenizer by name, with errors that a person can act on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from enaction.errors import ModelError
from enaction.reader import planted, traced  # noqa: F401  # lets transformers know the classes of organisms
from enaction.reader.naming import AUTO, DTYPE_ALIASES, DeviceMap, Quantization, canonical_dtype
from enaction.reader.quiet import quiet
from enaction.reader.room import free_memory, require_room, swap, weight_bytes
from enaction.reader.sources import Source, find, require
from enaction.reader.sources.quantised import method_of
from enaction.reader.sources.source import Loaded, Loading, first_line

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def load_model(
    name_or_path: str,
    *,
    revision: str | None,
    dtype: torch.dtype | str,
    device: str,
    device_map: DeviceMap | None = None,
    quantization: Quantization | None = None,
    trust_remote_code: bool = False,
    use_safetensors: bool = True,
    base: str | Path | None = None,
) -> Loaded:
    """Load model and tokenizer; the arguments are those of `Reader.load`.

    Raises:
        ModelError: no such model, none that transformers can load, missing weights, a missing package, an unknown
            dtype, or a device that does not exist or is too small.
    """
    if dtype != AUTO:
        dtype = _floating(dtype)
    if device != AUTO and device_map is not None:
        raise ModelError(f"device {device} and a device_map contradict each other: give one of them")
    if device != AUTO:
        _try_device(device)
    source = find(name_or_path, revision)
    require(source, base=base, device_map=device_map, quantization=quantization)
    device = source.device() or best_device() if device == AUTO else device
    if device_map is None and quantization is None and method_of(source.settings()) is not None:
        # Kernels of quantised weights pack them for the device that they are loaded to.
        device_map = {"": device}
    try:
        with quiet():
            if dtype == AUTO:
                dtype = _floating(saved_dtype(source, trust_remote_code))
            loading = Loading(
                dtype=dtype,
                device=device,
                device_map=device_map,
                quantization=quantization,
                trust_remote_code=trust_remote_code,
                use_safetensors=use_safetensors,
                base=base,
            )
            _require_room(source, loading)
            loaded = source.load(loading)
    except ModelError:
        raise
    except ImportError as error:
        raise ModelError(f"{name_or_path} needs a package that is not installed: {first_line(error)}") from error
    except Exception as error:  # whatever a broken or foreign file sets off in the libraries that read it
        remedy = (
            source.remedy
            if device_map is None and quantization is None
            else "check device_map and quantization; parts that share weights need one place"
        )
        raise ModelError(f"cannot load {name_or_path}: {first_line(error)} ({remedy})") from error
    if loading.is_whole:
        try:
            nn.Module.to(loaded.model, torch.device(device))
        except RuntimeError as error:
            raise ModelError(
                f"cannot put {name_or_path} on {device}: {first_line(error)} (use dtype bfloat16, or device cpu)"
            ) from error
    loaded.model.eval()
    return loaded


def _require_room(source: Source, loading: Loading) -> None:
    """Fail if the weights are larger than the memory of the device, before they are read; a map may use the disk."""
    stored = None if source.kind == "zoo" or isinstance(loading.device_map, str) else source.stored()
    if stored is None or (loading.device_map is not None and "" not in loading.device_map):
        return
    needed = weight_bytes(
        stored,
        loading.dtype.itemsize,
        is_quantised=method_of(source.settings()) is not None,
        quantization=loading.quantization,
    )
    # A plain model is loaded by the CPU and then moved.
    devices = {"cpu", loading.device} if loading.is_whole else {loading.device}
    available = {device: free_memory(device) for device in sorted(devices)}
    if (memory := available.get("cpu")) is not None:
        available["cpu"] = memory + swap()
    require_room(source.name, needed, available, str(loading.dtype).removeprefix("torch."))


def best_device() -> str:
    """What `auto` means here: CUDA, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def saved_dtype(source: Source, trust_remote_code: bool) -> torch.dtype:
    """The dtype that a model's configuration says its weights are saved in; float32 where it says none.

    A GGUF file has none: its weights are expanded to float32.
    """
    from transformers import AutoConfig

    if not source.has_config():
        return torch.float32
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if source.revision is not None:
        options["revision"] = source.revision
    config = AutoConfig.from_pretrained(source.location, **options)
    saved = getattr(config.get_text_config(), "dtype", None) or getattr(config, "dtype", None)
    return saved if isinstance(saved, torch.dtype) else getattr(torch, str(saved), torch.float32)


def _floating(dtype: torch.dtype | str) -> torch.dtype:
    chosen = getattr(torch, canonical_dtype(dtype), None) if isinstance(dtype, str) else dtype
    if chosen not in DTYPES:
        names = ", ".join([*(str(d).removeprefix("torch.") for d in DTYPES), *DTYPE_ALIASES, AUTO])
        raise ModelError(f"weights cannot be read as dtype {dtype}: use one of {names}")
    return chosen


def _try_device(device: str) -> None:
    """Fail before gigabytes are loaded."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"there is no device {device} here: {first_line(error)} (use cpu, or what this torch has)"
        ) from error
