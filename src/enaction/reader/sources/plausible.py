"""Whether a folder's configuration can be that of its weights, looked at before torch is imported.

A configuration is data of others: one that announces 200,000 layers beside the weights of two makes transformers build
for minutes, and one that is nested without end exhausts the stack.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from enaction.errors import ModelError

_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
# Every layer has tensors of its own, unless layers share them: this often.
_MOST_SHARING = 100
_LONGEST_HEADER = 100_000_000  # bytes, the format's own limit


def require_plausible(folder: Path, name: str) -> None:
    """Fail if a folder's config.json cannot be read, or announces layers that its weights cannot have.

    Args:
        folder: with a config.json.
        name: of the model, for the message.

    Raises:
        ModelError: it is so.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8-sig"))
    except RecursionError:
        raise ModelError(f"{name}: config.json is nested too deeply: {_REMEDY}") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{name}: config.json cannot be read ({error}): {_REMEDY}") from None
    if not isinstance(config, dict):
        raise ModelError(f"{name}: config.json holds no settings of a model: {_REMEDY}")
    layers, tensors = _layers(config), _tensors(folder)
    if tensors and layers > _MOST_SHARING * tensors:
        raise ModelError(
            f"{name}: config.json announces {layers:,} layers, and the weights have {tensors:,} tensors: they do "
            f"not belong together; {_REMEDY}"
        )


_REMEDY = "give a folder that save_pretrained wrote"


def _layers(config: dict[str, Any]) -> int:
    """How many layers are announced, in the configuration or that of its text part."""
    parts = [config, *(part for part in config.values() if isinstance(part, dict))]
    return max((part[key] for part in parts for key in _LAYERS if isinstance(part.get(key), int)), default=0)


def _tensors(folder: Path) -> int:
    """How many tensors the safetensors files of a folder have; 0 where that cannot be told."""
    total = 0
    for path in folder.glob("*.safetensors"):
        try:
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                total += len(json.loads(file.read(length))) if length <= _LONGEST_HEADER else 0
        except (OSError, ValueError, struct.error, RecursionError):
            return 0  # loading says what is wrong
    return total
