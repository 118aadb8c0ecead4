"""Find and load a causal LM and its tokenizer by name, with errors that a person can act on."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from enaction.errors import ModelError
from enaction.reader import adapters
from enaction.reader.quiet import quiet

ZOO = "zoo:"
HUB_TIMEOUT = 10.0  # seconds
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
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load model and tokenizer; the arguments are those of `Reader.load`.

    Raises:
        ModelError: nothing there, nothing that transformers can load, a missing package, an unknown dtype, or a device
            that is not there or too small.
    """
    dtype = _floating(dtype)
    _try_device(device)
    where, options = _resolve(name_or_path, revision)
    base_file = _base_file(name_or_path, Path(where), base)
    options["trust_remote_code"] = trust_remote_code
    weights = {} if "gguf_file" in options else {"use_safetensors": use_safetensors}
    try:
        with quiet():
            if base_file is not None:
                model, tokenizer = adapters.load_adapted(Path(where), base_file, dtype)
                model.config.name_or_path = name_or_path
                return _placed(model, name_or_path, device), tokenizer
            tokenizer = AutoTokenizer.from_pretrained(where, **options)
            model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(where, dtype=dtype, **weights, **options)
    except ModelError:
        raise
    except ImportError as err:
        raise ModelError(f"{name_or_path} needs a package that is not installed: {_gist(err)}") from err
    except Exception as err:  # whatever a broken or foreign file sets off in the libraries that read it
        raise ModelError(f"cannot load {name_or_path}: {_gist(err)} ({_remedy(where, options)})") from err
    return _placed(model, name_or_path, device), tokenizer


def _placed(model: PreTrainedModel, name: str, device: str) -> PreTrainedModel:
    try:
        nn.Module.to(model, torch.device(device))
    except RuntimeError as err:
        raise ModelError(f"cannot put {name} on {device}: {_gist(err)} (use bfloat16, or cpu)") from err
    return model.eval()


def _base_file(name_or_path: str, folder: Path, given: str | Path | None) -> Path | None:
    """The base file of a model that ships as an adapter; None for any other."""
    if adapters.is_adapted(folder):
        return adapters.find_base(adapters.base_of(folder), given)
    if given is not None:
        raise ModelError(f"{name_or_path} does not ship as an adapter and has no base: leave out base {given}")
    return None


def _floating(dtype: torch.dtype | str) -> torch.dtype:
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if found not in DTYPES:
        names = ", ".join(str(d).removeprefix("torch.") for d in DTYPES)
        raise ModelError(f"weights cannot be read as dtype {dtype}: use one of {names}")
    return found


def _try_device(device: str) -> None:
    """Fail before gigabytes are loaded."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as err:
        raise ModelError(f"there is no device {device} here: {_gist(err)} (use cpu, or what this torch has)") from err


def _resolve(name_or_path: str, revision: str | None) -> tuple[str, dict[str, Any]]:
    """What `from_pretrained` is given: a place, and the options that go with it."""
    if name_or_path.startswith(ZOO):
        # Imported here because the zoo is a room above this one: it builds readers itself.
        from enaction import zoo

        return str(zoo.path(name_or_path.removeprefix(ZOO))), {}
    path = Path(name_or_path).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"there is no file {name_or_path}: check the path of the .gguf file")
        missing = [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]
        if missing:
            raise ModelError(
                f"{name_or_path} is a GGUF file and {' and '.join(missing)} is not installed: "
                "pip install 'enaction[gguf]'"
            )
        return str(path.parent), {"gguf_file": path.name}
    if path.is_dir():
        if not (path / "config.json").is_file() and not adapters.is_adapted(path):
            raise ModelError(
                f"the folder {name_or_path} holds no config.json: give a folder that save_pretrained wrote"
            )
        _know_planted(path)
        return str(path), {}
    if path.exists() or name_or_path.startswith((".", "/", "~")) or name_or_path.count("/") > 1:
        raise ModelError(f"there is no model folder {name_or_path}: check the path")
    name, at, named_revision = name_or_path.partition("@")
    if at and revision is not None and revision != named_revision:
        raise ModelError(f"{name_or_path} names a revision and revision='{revision}' another: give one of them")
    chosen = named_revision if at else revision
    _ask_hub(name, chosen)
    return name, {} if chosen is None else {"revision": chosen}


def _know_planted(folder: Path) -> None:
    """Let transformers know the class of a planted organism; it comes with this package, so no remote code runs."""
    with contextlib.suppress(ValueError, OSError):  # a broken config.json is for transformers to complain of
        config = json.loads((folder / "config.json").read_text())
        if isinstance(config, dict) and config.get("model_type") == "enaction_planted":
            # Imported here because the lab is a room above this one.
            importlib.import_module("enaction.lab.planted")


def _ask_hub(name: str, revision: str | None) -> None:
    """Fail at once where the hub cannot be reached or has no such model; loading would retry for a minute first."""
    try:
        if isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str):
            return
        HfApi().model_info(name, revision=revision, timeout=HUB_TIMEOUT)
    except Exception as err:  # whatever the connection or the hub's client sets off
        raise ModelError(f"cannot find {name} on the hub: {_gist(err)} ({_remedy(name, {})})") from err


def _remedy(where: str, options: dict[str, Any]) -> str:
    if "gguf_file" in options:
        return "the file is damaged, or of a family that transformers cannot convert: give a folder with safetensors"
    if Path(where).is_dir():
        return "the folder needs config.json, tokenizer files and *.safetensors of a causal LM"
    return "check the name, the connection and, for a gated model, your access; or give a local folder or zoo:NAME"


def _gist(err: BaseException) -> str:
    """The first line of an error that may run over a page."""
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(err).__name__
