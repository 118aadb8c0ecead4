"""How much memory a model takes, and how much there is: from the headers of its files before it is loaded, and from
its sizes when it is.

An estimate, good to some 30 % where it was measured (tests/test_room.py). What the interpreter and the libraries take
by themselves, some 0.5 GiB, is left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enaction.errors import ModelError
from enaction.reader.naming import Quantization

GIB = 2**30
# Bytes of the dtypes that safetensors names.
_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    "F4": 0.5,
}
_FLOATS = ("F64", "F32", "F16", "BF16")
# Bytes of a weight that bitsandbytes quantises, its scales and what stays whole (embedding and head) included, roughly.
_QUANTISED: dict[Quantization, float] = {"4bit": 0.7, "8bit": 1.15}
# Bytes for each logit of a row in a sampling step: float32 logits and log-probabilities, float64 cumulative sums.
_SAMPLED_LOGIT = 24
_TILES = 4 * 3 * 524_288  # of `streaming`: three tiles of float32


def stored_elements(folder: Path) -> dict[str, int] | None:
    """dtype, as safetensors names it -> elements in the files of a folder, by their headers; None without files."""
    found: dict[str, int] = {}
    for path in folder.glob("*.safetensors"):
        try:
            with path.open("rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        except (OSError, ValueError, MemoryError, OverflowError):  # loading says what is wrong with it
            return None
        for name, tensor in header.items():
            if name != "__metadata__":
                found[tensor["dtype"]] = found.get(tensor["dtype"], 0) + math.prod(tensor["shape"])
    return found or None


def weight_bytes(
    stored: Mapping[str, int], itemsize: int, *, is_quantised: bool = False, quantization: Quantization | None = None
) -> float:
    """Bytes of weights in memory.

    Args:
        stored: as `stored_elements`.
        itemsize: bytes of the dtype that they are loaded in.
        is_quantised: the files hold codes, which stay as they are.
        quantization: on loading.
    """
    if quantization is not None:
        return sum(stored.values()) * _QUANTISED[quantization]
    return sum(
        count * (itemsize if kind in _FLOATS and not is_quantised else _BYTES.get(kind, itemsize))
        for kind, count in stored.items()
    )


def require_room(name: str, needed: float, available: Mapping[str, float | None], dtype: str) -> None:
    """Fail if weights are larger than what is free, swap included.

    Args:
        name: of the model.
        needed: bytes of its weights.
        available: device -> free bytes there, None if that is not known. Weights pass through the CPU's memory.
        dtype: that they are loaded in.

    Raises:
        ModelError: one device has less, with the sizes and the remedy.
    """
    for device, free in available.items():
        if free is not None and needed > free:
            smaller = "" if dtype in ("bfloat16", "float16") else f"dtype bf16 ({shown(needed / 2)}), "
            raise ModelError(
                f"{name} needs {shown(needed)} for its weights in {dtype}, and {device} has {shown(free)} free: use "
                f"{smaller}quantization 4bit, device_map auto (several devices, and disk), or a larger machine"
            )


def free_memory(device: str) -> float | None:
    """Free bytes of a device, without swap; None if that cannot be known. Imports torch for devices but the CPU."""
    if device == "cpu":
        known = [n for n in (_available(), _below_limit()) if n is not None]
        return min(known, default=None)
    import torch

    if device.startswith("cuda"):
        return float(torch.cuda.mem_get_info(torch.device(device))[0])
    if device.startswith("mps"):
        return float(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return None


def swap() -> float:
    """Free bytes of swap."""
    return _meminfo().get("SwapFree", 0.0)


@dataclass(frozen=True)
class Sizes:
    """Of a model in memory, by its configuration.

    Attributes:
        weights: bytes.
        itemsize: bytes of a number in its keys and values.
        activation: bytes of a number inside a block: CPUs compute half precision in float32.
        hidden, intermediate, layers, vocabulary: as everywhere.
        queries, keys: width of all heads together.
    """

    weights: int
    itemsize: int
    activation: int
    hidden: int
    intermediate: int
    layers: int
    vocabulary: int
    queries: int
    keys: int

    @classmethod
    def of(cls, model: Any, vocabulary: int, itemsize: int, *, is_on_cpu: bool) -> Sizes | None:
        """The sizes of a loaded model, with numbers of so many bytes; None if its configuration does not name them."""
        config = model.config.get_text_config()
        hidden, layers = getattr(config, "hidden_size", None), getattr(config, "num_hidden_layers", None)
        heads = getattr(config, "num_attention_heads", None)
        if not all(isinstance(n, int) and n > 0 for n in (hidden, layers, heads)):
            return None
        assert hidden is not None
        assert layers is not None
        assert heads is not None
        size = getattr(config, "head_dim", None) or hidden // heads
        keys = getattr(config, "num_key_value_heads", None) or heads
        wide = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * hidden
        experts = (getattr(config, "num_experts_per_tok", None) or 0) * (
            getattr(config, "moe_intermediate_size", None) or wide
        )
        weights = sum(p.numel() * p.element_size() for p in (*model.parameters(), *model.buffers()) if not p.is_meta)
        activation = max(4, itemsize) if is_on_cpu else itemsize
        return cls(
            weights, itemsize, activation, hidden, max(wide, experts), layers, vocabulary, heads * size, keys * size
        )

    def reading(self, tokens: int, longest: int, *, is_streamed: bool = True) -> float:
        """Peak bytes beside the weights for a batch of texts.

        Args:
            tokens: in the batch, padding included.
            longest: tokens of its longest text.
            is_streamed: body and head are run apart; else logits of all positions exist at a time.
        """
        # Of one block: the residual stream in and out, its norm and copies of it; then attention (queries, keys and
        # values, keys and values repeated for each query head, the result), or the states inside the MLP. How many of
        # each was fitted to what was measured with SmolLM2-135M and a model of the zoo, allocator included.
        block = 6 * self.hidden + max(6 * self.queries + 4 * self.keys, 5 * self.intermediate)
        head = _TILES if is_streamed else tokens * self.vocabulary * (self.activation + 4)
        mask = tokens * longest if tokens > longest else 0
        return tokens * self.activation * block + mask + head

    def sampling(self, rows: int, length: int) -> float:
        """Peak bytes beside the weights for `rows` texts written at a time, each of `length` tokens with its prompt."""
        # Beside all keys and values, one layer's are copied as they grow.
        cache = 2 * self.itemsize * self.keys * rows * length * (self.layers + 1)
        return cache + rows * self.vocabulary * _SAMPLED_LOGIT


def shown(size: float) -> str:
    """Bytes in words."""
    return f"{size / GIB:,.1f} GiB" if size >= 0.1 * GIB else f"{size / 2**20:,.1f} MiB"


def _meminfo() -> dict[str, float]:
    """Linux's account of memory, in bytes; empty elsewhere."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return {}
    return {name: 1024.0 * int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}


def _available() -> float | None:
    return _meminfo().get("MemAvailable")


def _below_limit() -> float | None:
    """What the control group of this process leaves, in a container, say."""
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = float(Path("/sys/fs/cgroup/memory.current").read_text())
        stat = Path("/sys/fs/cgroup/memory.stat").read_text().splitlines()
    except OSError:
        return None
    cached = next((float(line.split()[1]) for line in stat if line.startswith("inactive_file ")), 0.0)
    return None if limit == "max" else float(limit) - used + cached
