"""Checkpoints whose weights are quantised: which packages their methods need, looked up and not imported.

Transformers loads them by the `quantization_config` of their `config.json`; what it says of a missing package or device
takes a page, and comes after the imports that take seconds.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from enaction.errors import ModelError
from enaction.reader.naming import Quantization

# `quant_method` -> import names of packages, each with what pip installs where that is another name. Methods that need
# nothing but accelerate are expanded where no kernel takes them.
PACKAGES: dict[str, dict[str, str]] = {
    "bitsandbytes": {"accelerate": "", "bitsandbytes": ""},
    "gptq": {"optimum": "", "gptqmodel": ""},
    "awq": {"accelerate": "", "gptqmodel": ""},
    "compressed-tensors": {"compressed_tensors": "compressed-tensors"},
    "torchao": {"torchao": ""},
    "fp8": {"accelerate": ""},
    "mxfp8": {"accelerate": ""},
    "fbgemm_fp8": {"accelerate": "", "fbgemm_gpu": "fbgemm-gpu"},
    "mxfp4": {"accelerate": ""},
    "nvfp4": {"kernels": ""},
    "quanto": {"accelerate": "", "optimum.quanto": "optimum-quanto"},
    "hqq": {"hqq": ""},
    "aqlm": {"accelerate": "", "aqlm": "'aqlm[gpu,cpu]'"},
    "eetq": {"accelerate": "", "kernels": ""},
    "higgs": {"accelerate": "", "flute": "flute-kernel", "fast_hadamard_transform": ""},
    "vptq": {"accelerate": "", "vptq": ""},
    "spqr": {"accelerate": "", "spqr_quant": "'spqr_quant[gpu]'"},
    "quark": {"quark": "amd-quark"},
    "auto-round": {"auto_round": "auto-round"},
    "bitnet": {"accelerate": ""},
    "fp_quant": {"fp_quant": ""},
    "sinq": {"sinq": ""},
}


def method_of(settings: Mapping[str, Any] | None) -> str | None:
    """How a checkpoint is quantised, by what its `config.json` says; None if it is not."""
    given = (settings or {}).get("quantization_config")
    if not isinstance(given, Mapping):
        return None
    if given.get("load_in_4bit") or given.get("load_in_8bit"):
        return "bitsandbytes"
    return str(given.get("quant_method"))


def require_packages(name: str, method: str) -> None:
    """Fail if a package that a method needs is not installed.

    Raises:
        ModelError: with the line that installs it.
    """
    missing = {module: pip or module for module, pip in PACKAGES.get(method, {}).items() if not _is_installed(module)}
    if missing:
        raise ModelError(
            f"{name} is quantised ({method}), which needs {' and '.join(missing)}, not installed: pip install "
            f"{' '.join(missing.values())} (or give a checkpoint that is not quantised)"
        )


def require_quantization(name: str, wanted: Quantization, settings: Mapping[str, Any] | None) -> None:
    """Fail if a model cannot be quantised on loading.

    Raises:
        ModelError: it is quantised already, or bitsandbytes is not installed.
    """
    method = method_of(settings)
    if method is not None:
        raise ModelError(f"{name} is quantised already ({method}): leave out quantization {wanted}")
    missing = [package for package in PACKAGES["bitsandbytes"] if not _is_installed(package)]
    if missing:
        raise ModelError(
            f"quantization {wanted} needs {' and '.join(missing)}, not installed: pip install 'enaction[quantized]' "
            "(or leave it out, with dtype bf16, say)"
        )


def _is_installed(module: str) -> bool:
    """Whether a package is there; of `a.b`, `a` is imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False
