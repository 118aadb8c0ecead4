"""The output head on CUDA by one Triton kernel: from hidden states to sums over the vocabulary, no logits in memory.

What is computed, its order and how parts are merged is defined in `streaming`, and the torch path of that module is the
oracle. `kernel_triton` holds the code that Triton compiles; this file decides whether it is used, cuts the work and
launches it.

Tested in Triton's interpreter and on an H100 (tests/test_cuda.py), timed there (benchmarks/results/kernel.md), and
compiled for compute capabilities 8.0 to 10.0 with a check of its registers; on other devices it has not been run. So
before its first use on a device it has to agree with the torch path there, on a small random head (`is_proved`); if it
does not, a warning says so and the torch path is used. Tiles are fixed and not tuned while a program runs: which one
won could change the last bits of a score from run to run. `python -m benchmarks.kernel --tune` times all of `TILINGS`.

A tile of 128 x 256 x 64 shared by two groups of four warps is what hand-written Hopper kernels use, among them Liger's
for SM90 (linkedin/Liger-Kernel, pull request 1334). Matrices are read by tensor descriptors (TMA) there, which leaves
the registers to the tile.

Axes: `N` predictions, `V` vocabulary, `D` hidden, `T` ranges of the vocabulary, `K` sums. In nats.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import functools
import math
import warnings
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from triton.tools.tensor_descriptor import TensorDescriptor

from enaction.reader.head import Head, HeadLogits
from enaction.reader.kernel_triton import partials_kernel, target_kernel
from enaction.reader.statistics import Wanted
from enaction.reader.streaming import Met, Plan, merge_tiles, stream, to_columns

DTYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16, torch.float32: tl.float32}
# Rows whose observed tokens' logits are taken together; the smallest that Hopper's own matrix instruction works on.
DIAGONAL_ROWS = 64
# How far a proof may be off, in nats: two paths add in different order, so some half-precision logits round
# differently.
PROOF_TOLERANCE = {torch.float32: 1e-4}
HALF_PROOF_TOLERANCE = 2e-2


class Tiling(NamedTuple):
    """How the work is cut.

    Attributes:
        rows, columns, depth: of a tile of logits, and of the hidden dimension that is multiplied at a time.
        warps, stages: of a program, and of its loads.
        resident: programs that fit a multiprocessor together, for the length of the ranges.
    """

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    resident: int


# By dtype and generation, the default first, then what else the benchmark tries. With the largest tile, a soft cap or
# the sums of a tempered distribution would spill registers. Timed on an H100 (triton 3.6) are those of "half, Hopper":
# the first two are alike, 1.43 times the bare product over the benchmark's four shapes, the third 1.57; tiles of 256 x
# 128, and twice the depth, were slower too.
TILINGS: dict[str, tuple[Tiling, ...]] = {
    "half, Hopper": (
        Tiling(128, 256, 64, 8, 3, 1),
        Tiling(128, 256, 64, 8, 4, 1),
        Tiling(128, 128, 64, 4, 3, 2),
        Tiling(128, 128, 64, 8, 4, 1),
        Tiling(64, 256, 64, 4, 3, 1),
    ),
    "half, Hopper, much beside": (Tiling(128, 128, 64, 8, 4, 1), Tiling(64, 256, 64, 8, 3, 1)),
    # Fits the 99 KiB of shared memory that the smallest of these (8.6, 8.9) have.
    "half": (Tiling(128, 64, 64, 8, 3, 1), Tiling(64, 64, 64, 4, 3, 2), Tiling(64, 128, 64, 8, 3, 1)),
    "float32": (Tiling(64, 64, 32, 4, 3, 2), Tiling(128, 64, 32, 8, 3, 1)),
}


def why_not(head: Head, hidden: Tensor, wanted: Wanted | None) -> str | None:
    """Why the kernel cannot take a case, None if it can. Hidden states and weights may be on any device.

    Args:
        head: the output head, of any kind.
        hidden: [..., D].
        wanted: statistics beyond the four.
    """
    if not head.is_tiled:
        return "the output matrix is not a plain linear layer"
    weight_VD = _linear(head).weight
    if wanted is not None and wanted.is_truncated:
        return "truncated sampling needs the order of whole rows"
    if wanted is not None and wanted.likeliest:
        return "likeliest tokens are not listed by the kernel"
    if weight_VD.dtype not in DTYPES:
        return f"weights are {weight_VD.dtype}"
    if hidden.device != weight_VD.device or not weight_VD.is_contiguous() or weight_VD.data_ptr() % 16:
        return "hidden states and weights are on different devices, or the weights are not stored row by row"
    if hidden.device.type == "cuda":
        if torch.version.cuda is None or torch.cuda.get_device_capability(hidden.device) < (8, 0):
            return "it is written for NVIDIA devices of compute capability 8.0 and up"
    elif not is_interpreted():
        return f"hidden states are on {hidden.device.type}"
    return None


def takes(head: Head, hidden: Tensor, wanted: Wanted | None) -> bool:
    """Whether the kernel is used: it can take the case, and has proved itself on this device."""
    if why_not(head, hidden, wanted) is not None:
        return False
    linear, width, wanted = _linear(head), hidden.shape[-1], wanted or Wanted()
    # A width of each kind: a multiple of the step of the product, rows that descriptors can read, and any other.
    alike = 128 if width % 64 == 0 else 72 if width % 8 == 0 else 50
    dtype, has_bias, has_softcap = linear.weight.dtype, linear.bias is not None, head.softcap is not None
    betas, is_tempered = tuple(wanted.betas), wanted.temperature != 1
    return is_proved(hidden.device, dtype, alike, has_bias, has_softcap, betas, is_tempered)


@functools.cache
def is_proved(
    device: torch.device,
    dtype: torch.dtype,
    width: int,
    has_bias: bool,
    has_softcap: bool,
    betas: tuple[float, ...],
    is_tempered: bool,
) -> bool:
    """Whether the kernel compiles, runs and agrees with the torch path on a small random head; warns once if not."""
    generator = torch.Generator().manual_seed(0)
    # Neither is a multiple of a tile's size.
    rows, vocabulary = 150, 600
    wanted = Wanted(betas=betas, temperature=0.7 if is_tempered else 1.0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    matrix = nn.Linear(width, vocabulary, bias=has_bias, device="meta")
    matrix.weight = nn.Parameter(random(vocabulary, width), requires_grad=False)
    if has_bias:
        matrix.bias = nn.Parameter(random(vocabulary), requires_grad=False)
    head = Head(nn.Identity(), matrix, 1.5, 8.0 if has_softcap else None)
    hidden_ND = random(rows, width) / 4
    targets_N = torch.randint(vocabulary, (rows,), generator=generator).to(device)
    try:
        # Few programs at a time: each has several tiles to go through.
        got = statistics_of(head, hidden_ND, targets_N, vocabulary, wanted, programs=4)
        own = stream(lambda block: HeadLogits(head, hidden_ND[block]), targets_N, vocabulary, wanted, rows=rows)
        off = {name: float((got[name].double() - own[name].double()).abs().mean()) for name in own}
    except torch.OutOfMemoryError:
        raise  # says nothing about the kernel; the caller tries again with less
    except Exception as e:  # whatever a compiler, a driver or a device may set off
        # If the device itself has failed, the torch path will say so better than we can.
        warnings.warn(f"statistics are computed by torch, because the kernel failed on {device}: {e!r}", stacklevel=2)
        return False
    # If a half-precision logit rounds differently, so do its ties.
    rank_off, nats_off = off.pop("rank"), max(off.values())
    if not (nats_off <= PROOF_TOLERANCE.get(dtype, HALF_PROOF_TOLERANCE) and rank_off <= 1):
        warnings.warn(
            f"statistics are computed by torch, because the kernel is off by {nats_off:.1e} nats and {rank_off:.1g} "
            f"ranks on {device} in {dtype}",
            stacklevel=2,
        )
        return False
    return True


def is_interpreted() -> bool:
    """Whether Triton interprets its kernels on the CPU (TRITON_INTERPRET=1 as they were defined), for tests."""
    return not isinstance(partials_kernel, triton.JITFunction)


def statistics_of(
    head: Head,
    hidden_ND: Tensor,
    targets_N: Tensor,
    vocabulary: int,
    wanted: Wanted | None = None,
    tiling: Tiling | None = None,
    programs: int | None = None,
) -> dict[str, Tensor]:
    """What `streaming.stream` gives, by the kernel; NaN or +inf among the logits of a row makes its statistics NaN.

    Args:
        head: a head that `why_not` has no objection to.
        hidden_ND: hidden states, one row or more, on the device of the weights; multiplied in the weights' dtype.
        targets_N: int64 [N], the tokens that came.
        vocabulary: number of rows of the matrix that count, from the first.
        wanted: what is computed beyond the four.
        tiling: how the work is cut, by default the first of `tilings_for` it; results depend on it by rounding only.
        programs: how many run at a time, by default as many as the device holds; this too changes rounding only.
    """
    plan = Plan(wanted or Wanted(), hidden_ND.device)
    hidden_ND = hidden_ND.to(_linear(head).weight.dtype).contiguous()
    tiling = tiling or tilings_for(head, wanted)[0]
    programs = programs or tiling.resident * _multiprocessors(hidden_ND.device)
    with torch.cuda.device_of(hidden_ND):
        target_N, maxima_TN, sums_TNK = _partials(head, hidden_ND, targets_N, vocabulary, plan, tiling, programs)
        none_listed = target_N.new_empty((len(target_N), 0)), targets_N.new_empty((len(target_N), 0))
        met = Met(target_N, *merge_tiles(maxima_TN, sums_TNK, plan), *none_listed)
        return to_columns(met, plan, has_extras=wanted is not None)


def tilings_for(head: Head, wanted: Wanted | None) -> tuple[Tiling, ...]:
    """The tilings for a case, the default first."""
    weight_VD = _linear(head).weight
    if weight_VD.dtype == torch.float32:
        return TILINGS["float32"]
    is_hopper = weight_VD.is_cuda and torch.cuda.get_device_capability(weight_VD.device)[0] == 9
    if not (is_hopper and _has_descriptors(weight_VD)):
        return TILINGS["half"]
    has_much = head.softcap is not None or (wanted is not None and wanted.temperature != 1)
    return TILINGS["half, Hopper, much beside" if has_much else "half, Hopper"]


@functools.cache
def tiles_of_a_range(row_blocks: int, tiles: int, programs: int) -> int:
    """How many tiles of the vocabulary, of `tiles`, a program takes its rows through.

    As few ranges as keep the device busy to the end: programs run in waves of `programs`, and a wave lasts as long as a
    range, with half a tile's time to begin and to end.
    """

    def duration(ranges: int) -> float:
        return math.ceil(row_blocks * ranges / programs) * (math.ceil(tiles / ranges) + 0.5)

    return math.ceil(tiles / min(range(1, min(tiles, 2 * programs) + 1), key=duration))


def _partials(
    head: Head, hidden_ND: Tensor, targets_N: Tensor, vocabulary: int, plan: Plan, tiling: Tiling, programs: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the observed tokens [N], and of each range of the vocabulary the maxima [T, N] and sums [T, N, K]."""
    matrix = _linear(head)
    weight_VD, (rows, hidden) = matrix.weight[:vocabulary], hidden_ND.shape
    row_blocks, tiles = math.ceil(rows / tiling.rows), math.ceil(vocabulary / tiling.columns)
    each = tiles_of_a_range(row_blocks, tiles, programs)
    ranges = math.ceil(tiles / each)
    target_N = hidden_ND.new_empty(rows, dtype=torch.float32)
    maxima_TN = hidden_ND.new_empty((ranges, rows), dtype=torch.float32)
    sums_TKN = hidden_ND.new_empty((ranges, len(plan.exponent_K), rows), dtype=torch.float32)
    # A head without a bias passes its weights, which are not read as one.
    given = (weight_VD if matrix.bias is None else matrix.bias.contiguous(), targets_N.contiguous(), target_N)
    sizes: tuple[Any, ...] = (rows, hidden, weight_VD.stride(0), head.scale, head.softcap or 0.0)
    options: dict[str, Any] = {
        "HAS_BIAS": matrix.bias is not None,
        "HAS_SOFTCAP": head.softcap is not None,
        "IS_EVEN": hidden % tiling.depth == 0,
        "IS_INTERPRETED": is_interpreted(),
        "DTYPE": DTYPES[weight_VD.dtype],
        "DEPTH": tiling.depth,
        "num_stages": tiling.stages,
    }
    launch: Any = target_kernel
    launch[(math.ceil(rows / DIAGONAL_ROWS),)](
        hidden_ND, weight_VD, *given, *sizes, ROWS=DIAGONAL_ROWS, num_warps=4, **options
    )
    has_descriptors = _has_descriptors(weight_VD)
    if has_descriptors:
        hidden_given: Any = TensorDescriptor.from_tensor(hidden_ND, [tiling.rows, tiling.depth])
        weight_given: Any = TensorDescriptor.from_tensor(weight_VD, [tiling.columns, tiling.depth])
    else:
        hidden_given, weight_given = hidden_ND, weight_VD
    # Programs that run together take all rows through the same range, so that its weights are read from memory once.
    launch = partials_kernel
    launch[(row_blocks, ranges)](
        hidden_given,
        weight_given,
        *given,
        maxima_TN,
        sums_TKN,
        *sizes,
        vocabulary,
        each,
        plan.units.get(4, 0.0),
        UNIT=plan.units[1],
        IS_TEMPERED=plan.is_tempered,
        BETAS=plan.wanted.betas,
        QUARTERS=tuple(round(4 * beta) if beta in plan.quarters else 0 for beta in plan.wanted.betas),
        HAS_QUARTERS=bool(plan.quarters),
        HAS_DESCRIPTORS=has_descriptors,
        ROWS=tiling.rows,
        COLUMNS=tiling.columns,
        num_warps=tiling.warps,
        **options,
    )
    return target_N, maxima_TN, sums_TKN.transpose(1, 2)


def _linear(head: Head) -> nn.Linear:
    assert isinstance(head.matrix, nn.Linear)  # the head is tiled
    return head.matrix


def _has_descriptors(weight_VD: Tensor) -> bool:
    """Whether matrices of such rows are read by tensor descriptors: from Hopper on, rows of whole 16 bytes."""
    if weight_VD.dtype == torch.float32 or weight_VD.shape[1] % 8:
        return False  # float32 products do not run on tensor cores, which descriptors are made to feed
    return is_interpreted() or torch.cuda.get_device_capability(weight_VD.device) >= (9, 0)


def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1  # the interpreter
    return torch.cuda.get_device_properties(device).multi_processor_count
