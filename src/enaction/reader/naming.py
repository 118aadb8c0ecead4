"""What dtypes and devices are called, without torch: canonical names, and the short ones that people write."""

from __future__ import annotations

from typing import Literal

AUTO = "auto"
# `auto` is the dtype that the weights are saved in.
Dtype = Literal["float32", "bfloat16", "float16", "auto"]
DTYPE_ALIASES: dict[str, Dtype] = {
    "fp32": "float32",
    "float": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "half": "float16",
}
# Kinds of devices that torch knows; whether one is here, only torch can tell.
DEVICES = ("cpu", "cuda", "mps", "xpu", "hpu", "npu", "mtia", "xla", "ipu", "meta")
DTYPE_HELP = "float32, bfloat16 (bf16), float16 (fp16), or auto, as the weights are saved; statistics are float32."
DEVICE_HELP = "auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:1, mps."


def known_device(name: str) -> str:
    """The name of a device, if it is one or `auto`.

    Raises:
        ValueError: it is none.
    """
    kind, colon, number = name.partition(":")
    if name != AUTO and (kind not in DEVICES or (colon and not number.isdecimal())):
        raise ValueError(f"there is no device '{name}': use auto, cpu, cuda, cuda:1 or mps")
    return name


def canonical_dtype(name: str) -> str:
    """The name of a dtype as torch has it, or `auto`; an unknown name as it is."""
    return DTYPE_ALIASES.get(name, name)
