"""The kernel for CUDA where there is no CUDA: in Triton's interpreter, and compiled for GPUs that are not here."""

# pyright: reportMissingImports=false
from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="Triton is not installed (it comes with torch for CUDA; elsewhere on Linux: pip install triton==3.7.1)",
)


@needs_triton
def test_the_kernel_in_the_interpreter() -> None:
    """kernel_cases.py, in a process where Triton interprets."""
    paths = os.pathsep.join([*sys.path, str(HERE)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "kernel_cases.py")],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        cwd=HERE.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2000:]
    assert re.search(r"\d+ passed", done.stdout)


HALF = {"dtype": torch.bfloat16, "betas": (0.5, 0.75, 1.25, 1.5, 2.0)}
# What is compiled, by what a case uses, and how many bytes of registers may spill.
COMPILED: dict[str, tuple[str, int, dict[str, Any], int]] = {
    "Hopper": ("half, Hopper", 90, {**HALF, "has_descriptors": True}, 0),
    "Hopper, bias": ("half, Hopper", 90, {**HALF, "has_descriptors": True, "has_bias": True}, 0),
    "Hopper, unaligned": ("half", 90, {**HALF, "is_even": False}, 0),
    "Hopper, one row": ("half, Hopper", 90, {**HALF, "has_descriptors": True, "ones": ("rows", "each")}, 0),
    "Hopper, soft cap": ("half, Hopper, much beside", 90, {**HALF, "has_descriptors": True, "has_softcap": True}, 0),
    "Hopper, tempered": ("half, Hopper, much beside", 90, {**HALF, "has_descriptors": True, "is_tempered": True}, 256),
    "Blackwell": ("half", 100, {**HALF, "has_descriptors": True}, 0),
    "Ampere": ("half", 80, HALF, 0),
    "Ada, float32": ("float32", 89, {**HALF, "dtype": torch.float32}, 0),
}


@needs_triton
@pytest.mark.parametrize(
    "name", [name if name == "Hopper" else pytest.param(name, marks=pytest.mark.slow) for name in COMPILED]
)
def test_the_kernel_compiles_for_gpus_that_are_not_here(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton brings NVIDIA's assembler, so registers, shared memory and instructions are known without a GPU."""
    import triton

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    tilings, capability, case, spilled = COMPILED[name]
    compiled = compile_for(tilings, capability, **case)
    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(compiled.asm["cubin"])
    reader = Path(str(triton.__file__)).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    usage = subprocess.run([reader, "-res-usage", cubin], capture_output=True, text=True, check=True).stdout
    stack = re.search(r"STACK:(\d+)", usage)
    assert stack is not None
    assert int(stack[1]) <= spilled, usage
    assert compiled.metadata.shared <= (227 if capability in (90, 100) else 99) * 1024
    if capability == 90:
        assert "wgmma.mma_async" in compiled.asm["ptx"]
        assert ("cp.async.bulk.tensor" in compiled.asm["ptx"]) == bool(case.get("has_descriptors"))


def compile_for(
    tilings: str,
    capability: int,
    *,
    dtype: torch.dtype,
    betas: tuple[float, ...] = (),
    has_bias: bool = False,
    has_softcap: bool = False,
    is_tempered: bool = False,
    is_even: bool = True,
    has_descriptors: bool = False,
    ones: tuple[str, ...] = (),
) -> Any:
    """The kernel as its launch would compile it; whole numbers `ones` are 1, which Triton makes constants."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from enaction.reader import kernel
    from enaction.reader.kernel_triton import partials_kernel
    from enaction.reader.streaming import LOG2E

    tiling = kernel.TILINGS[tilings][0]
    constants: dict[str, Any] = {
        "HAS_BIAS": has_bias,
        "HAS_SOFTCAP": has_softcap,
        "IS_EVEN": is_even,
        "IS_INTERPRETED": False,
        "DTYPE": kernel.DTYPES[dtype],
        "DEPTH": tiling.depth,
        "UNIT": LOG2E / 4,
        "IS_TEMPERED": is_tempered,
        "BETAS": betas,
        "QUARTERS": tuple(round(4 * beta) for beta in betas),
        "HAS_QUARTERS": True,
        "HAS_DESCRIPTORS": has_descriptors,
        "ROWS": tiling.rows,
        "COLUMNS": tiling.columns,
        **dict.fromkeys(ones, 1),
    }
    kind = {torch.bfloat16: "bf16", torch.float32: "fp32"}[dtype]
    types = {name: "i32" for name in ("rows", "hidden", "weight_stride", "vocabulary", "each")}
    types |= {name: "fp32" for name in ("scale", "softcap", "tempered_unit")}
    types |= {"hidden_ND": f"*{kind}", "weight_VD": f"*{kind}", "bias_V": f"*{kind}", "targets_N": "*i64"}
    types |= {name: "*fp32" for name in ("target_N", "maxima_TN", "sums_TKN")}
    if has_descriptors:
        types["hidden_ND"] = f"tensordesc<{kind}[{tiling.rows},{tiling.depth}]>"
        types["weight_VD"] = f"tensordesc<{kind}[{tiling.columns},{tiling.depth}]>"
    types |= dict.fromkeys(constants, "constexpr")
    function: Any = partials_kernel
    names = function.arg_names
    aligned = [name for name in names if types[name][0] == "*"]
    aligned += ["hidden", "weight_stride"] if is_even else []
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    source = ASTSource(
        fn=function, signature={name: types[name] for name in names}, constexprs=constants, attrs=attributes
    )
    options = {"num_warps": tiling.warps, "num_stages": tiling.stages}
    return compile(source, target=GPUTarget("cuda", capability, 32), options=options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to time")
def test_the_benchmark_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import kernel

    monkeypatch.setattr(sys, "argv", ["kernel"])
    with pytest.raises(SystemExit, match="needs a CUDA device"):
        kernel.main()
