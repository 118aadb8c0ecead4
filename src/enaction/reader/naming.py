"""What dtypes and devices are called, without torch: canonical names, and the short ones that people write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

AUTO = "auto"
# A rule of accelerate, or names of modules with a device each.
DeviceMap = str | Mapping[str, str | int]
Quantization = Literal["4bit", "8bit"]
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
# Rules by which accelerate spreads a model over the devices that are here.
DEVICE_RULES = ("auto", "balanced", "balanced_low_0", "sequential")
DEVICE_MAP_HELP = "Spread the model over devices: auto, balanced, sequential, or JSON from modules to devices."
QUANTIZATION_HELP = "4bit or 8bit: quantise the weights on loading, by bitsandbytes."
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


def known_device_map(given: DeviceMap | None) -> DeviceMap | None:
    """The same, if it is a rule, or a mapping from modules to devices.

    Raises:
        ValueError: it is neither.
    """
    rules = f"use {', '.join(DEVICE_RULES)}, or a mapping from modules to devices, as in {{'': cuda:0}}"
    if isinstance(given, str) and given not in DEVICE_RULES:
        raise ValueError(f"there is no device_map '{given}': {rules}")
    if isinstance(given, Mapping):
        if not given:
            raise ValueError(f"an empty device_map places nothing: {rules}")
        for place in given.values():
            if not isinstance(place, int) and place != "disk":
                known_device(place)
    return given


def canonical_dtype(name: str) -> str:
    """The name of a dtype as torch has it, or `auto`; an unknown name as it is."""
    return DTYPE_ALIASES.get(name, name)
