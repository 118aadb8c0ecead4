"""The output head on CUDA as one Triton kernel: from hidden states to sums over the vocabulary, no logits in memory.

What is computed, in which order it is kept and how parts are merged is `streaming`'s, and the torch path of that module
is the oracle. A program of the kernel takes a block of rows through a range of the vocabulary: a tile of logits is
multiplied out in registers, its maximum and its sums are taken there, and only these are written, once for each row and
range. Products are accumulated in float32 and then rounded to the dtype of the weights as the matrix product of the
model's own forward rounds them, so that a bfloat16 model has one set of logits whichever path reads it.

Tested in Triton's interpreter, and compiled for compute capabilities 8.0 to 10.0 with an eye on registers; NOT YET RUN
OR TIMED on a GPU. So before its first use on a device it has to agree with the torch path there, on a small random head
(`is_proved`); where it does not, a warning says so and the torch path is taken. Tiles are fixed and not tuned while a
program runs: which one won could change the last bits of a score from run to run. `python -m benchmarks.kernel --tune`
times all of `TILINGS`.

A tile of 128 x 256 x 64 shared by two groups of four warps is what hand-written Hopper kernels settle on, among them
Liger's for SM90 (linkedin/Liger-Kernel, pull request 1334). Matrices are read by tensor descriptors (TMA) there, which
leaves the registers to the tile.

Axes: `N` predictions, `M` rows of a block, `V` vocabulary or a tile of it, `D` hidden, `T` ranges of the vocabulary,
`K` sums. In nats.
"""

# ruff: noqa: RUF005, SIM108  # Triton compiles a part of Python, and none of what these rules ask for
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
from enaction.reader.statistics import Wanted
from enaction.reader.streaming import LOG2E, LOWEST, Met, Plan, merge_tiles, stream, to_columns

DTYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16, torch.float32: tl.float32}
# Rows whose observed tokens' logits are taken together; the smallest that Hopper's own matrix instruction works on.
DIAGONAL_ROWS = 64
# How far a proof may be off, in nats: two paths add in another order, so some half-precision logits round otherwise.
PROOF_TOLERANCE = {torch.float32: 1e-4}
HALF_PROOF_TOLERANCE = 2e-2

_LOWEST = tl.constexpr(LOWEST)
_LOG2E = tl.constexpr(LOG2E)
# So many powers of two below a maximum nothing is left in float32; what that nothing is multiplied with stays finite.
_NOTHING = tl.constexpr(-200.0)
# As in `streaming`: a fall by 1e15 leaves nothing; from a larger one could come infinities, and NaN.
_DEEPEST = tl.constexpr(-1e15)


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


# By dtype and generation, the default first, then what the benchmark tries beside it. A soft cap, or the sums of a
# tempered distribution, would spill registers beside the largest tile.
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
    """Why the kernel cannot take a case, None if it can. Hidden states and weights may lie anywhere.

    Args:
        head: the output head, of any kind.
        hidden: [..., D].
        wanted: what is asked for beyond the four statistics.
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
        return "hidden states and weights lie apart, or the weights not row by row"
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
    # A width of each kind: whole steps of the product, rows that descriptors can read, and any other.
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
    # Neither is a multiple of a tile.
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
        raise  # says nothing of the kernel; the caller tries again with less
    except Exception as e:  # whatever a compiler, a driver or a device may set off
        # Where a device has failed for good, the torch path will say so better than we can.
        warnings.warn(f"statistics are computed by torch, because the kernel failed on {device}: {e!r}", stacklevel=2)
        return False
    # Where a half-precision logit rounds otherwise, so do its ties.
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
    return not isinstance(_partials_kernel, triton.JITFunction)


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
        head: a head that `why_not` has nothing against.
        hidden_ND: hidden states, a row or more, on the device of the weights; multiplied in the weights' dtype.
        targets_N: int64 [N], the tokens that came.
        vocabulary: rows of the matrix that count, from the first.
        wanted: what is computed beyond the four.
        tiling: how the work is cut, by default the first of `tilings_for` it; results depend on it by rounding only.
        programs: how many are to run at a time, by default what the device holds; the same holds for it.
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
    # The bias of a head without one is never read.
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
    target_kernel: Any = _target_kernel
    target_kernel[(math.ceil(rows / DIAGONAL_ROWS),)](
        hidden_ND, weight_VD, *given, *sizes, ROWS=DIAGONAL_ROWS, num_warps=4, **options
    )
    has_descriptors = _has_descriptors(weight_VD)
    if has_descriptors:
        hidden_given: Any = TensorDescriptor.from_tensor(hidden_ND, [tiling.rows, tiling.depth])
        weight_given: Any = TensorDescriptor.from_tensor(weight_VD, [tiling.columns, tiling.depth])
    else:
        hidden_given, weight_given = hidden_ND, weight_VD
    # Programs that run together take all rows through the same range, so that its weights are read from memory once.
    partials_kernel: Any = _partials_kernel
    partials_kernel[(row_blocks, ranges)](
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
        return False  # float32 products do not run on tensor cores, which are what descriptors are there to feed
    return is_interpreted() or torch.cuda.get_device_capability(weight_VD.device) >= (9, 0)


def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1  # the interpreter
    return torch.cuda.get_device_properties(device).multi_processor_count


@triton.jit
def _target_kernel(
    hidden_ND,
    weight_VD,
    bias_V,
    targets_N,
    target_N,
    rows,
    hidden,
    weight_stride,
    scale,
    softcap,
    HAS_BIAS: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    IS_EVEN: tl.constexpr,
    IS_INTERPRETED: tl.constexpr,
    DTYPE: tl.constexpr,
    DEPTH: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Logits of the observed tokens: the diagonal of a tile, multiplied out as the tiles of `_partials_kernel` are.

    Not a sum of products, so that a token whose weights equal the observed one's has the same logit to the last bit.
    """
    row_M = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    target_M = tl.load(targets_N + row_M, mask=row_M < rows, other=0)
    read_M = tl.minimum(row_M, rows - 1).to(tl.int64)
    tile_MM = tl.zeros([ROWS, ROWS], tl.float32)
    for k in range(0, hidden, DEPTH):
        hidden_MD = _read(hidden_ND, read_M, hidden, k, hidden, IS_EVEN, DEPTH)
        weight_MD = _read(weight_VD, target_M.to(tl.int64), weight_stride, k, hidden, IS_EVEN, DEPTH)
        tile_MM = _product(hidden_MD, weight_MD, tile_MM, IS_INTERPRETED)
    tile_MM = _logits(tile_MM, bias_V, target_M, scale, softcap, HAS_BIAS, HAS_SOFTCAP, IS_INTERPRETED, DTYPE)
    is_own_MM = tl.arange(0, ROWS)[:, None] == tl.arange(0, ROWS)[None, :]
    tl.store(target_N + row_M, tl.sum(tl.where(is_own_MM, tile_MM, 0.0), 1), mask=row_M < rows)


@triton.jit
def _partials_kernel(
    hidden_ND,
    weight_VD,
    bias_V,
    targets_N,
    target_N,
    maxima_TN,
    sums_TKN,
    rows,
    hidden,
    weight_stride,
    scale,
    softcap,
    vocabulary,
    each,
    tempered_unit,
    HAS_BIAS: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    IS_EVEN: tl.constexpr,
    IS_INTERPRETED: tl.constexpr,
    DTYPE: tl.constexpr,
    DEPTH: tl.constexpr,
    UNIT: tl.constexpr,
    IS_TEMPERED: tl.constexpr,
    BETAS: tl.constexpr,
    QUARTERS: tl.constexpr,
    HAS_QUARTERS: tl.constexpr,
    HAS_DESCRIPTORS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Maximum and sums of a block of rows over `each` tiles of the vocabulary, in the order and units of `Plan`.

    Matrices come as tensor descriptors or as pointers. `QUARTERS` are four times the betas, 0 for one that takes an
    exponential of its own.
    """
    row_M = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    is_row_M = row_M < rows
    read_M = tl.minimum(row_M, rows - 1).to(tl.int64)
    target_M = tl.load(targets_N + row_M, mask=is_row_M, other=0)
    target_logit_M = tl.load(target_N + row_M, mask=is_row_M, other=0.0)

    maximum_M = tl.full([ROWS], _LOWEST, tl.float32)
    rank_M = tl.zeros([ROWS], tl.float32)
    moments = (rank_M, rank_M, rank_M)
    tempered = (rank_M, rank_M, rank_M)
    powers = ()
    for _ in tl.static_range(len(BETAS)):
        powers = powers + (rank_M,)

    first = tl.program_id(1) * each
    for tile in range(first, tl.minimum(first + each, tl.cdiv(vocabulary, COLUMNS))):
        column_V = tile * COLUMNS + tl.arange(0, COLUMNS)
        read_V = tl.minimum(column_V, vocabulary - 1)
        logits_MV = tl.zeros([ROWS, COLUMNS], tl.float32)
        for k in range(0, hidden, DEPTH):
            if HAS_DESCRIPTORS:
                hidden_MD = hidden_ND.load([tl.program_id(0) * ROWS, k])
                weight_tile_VD = weight_VD.load([tile * COLUMNS, k])
            else:
                hidden_MD = _read(hidden_ND, read_M, hidden, k, hidden, IS_EVEN, DEPTH)
                weight_tile_VD = _read(weight_VD, read_V.to(tl.int64), weight_stride, k, hidden, IS_EVEN, DEPTH)
            logits_MV = _product(hidden_MD, weight_tile_VD, logits_MV, IS_INTERPRETED)
        logits_MV = _logits(logits_MV, bias_V, read_V, scale, softcap, HAS_BIAS, HAS_SOFTCAP, IS_INTERPRETED, DTYPE)
        # The value that ranks are counted against has to be the one in the tile, or the target might outrank itself.
        logits_MV = tl.where(column_V[None, :] == target_M[:, None], target_logit_M[:, None], logits_MV)
        logits_MV = tl.where(column_V[None, :] < vocabulary, logits_MV, -float("inf"))

        rank_M += tl.sum((logits_MV > target_logit_M[:, None]).to(tl.float32), 1)
        larger_M = tl.maximum(maximum_M, tl.max(logits_MV, 1))
        fall_M = tl.maximum(maximum_M - larger_M, _DEEPEST)
        maximum_M = larger_M
        # A comparison with NaN is false: NaN and what comes of +inf stay NaN, in every sum.
        z_MV = logits_MV - maximum_M[:, None]
        root_MV = tl.exp2(z_MV * UNIT)
        if HAS_QUARTERS:
            e_MV = _power(root_MV, 4)
        else:
            e_MV = root_MV
        moments = _moments(moments, e_MV, z_MV * UNIT, fall_M * UNIT, tl.exp2(fall_M * _LOG2E))
        if IS_TEMPERED:
            scaled_MV = z_MV * tempered_unit
            shift_M = fall_M * tempered_unit
            tempered = _moments(tempered, tl.exp2(scaled_MV), scaled_MV, shift_M, tl.exp2(shift_M))
        met = ()
        for i in tl.static_range(len(BETAS)):
            if QUARTERS[i] > 0:
                power_MV = _power(root_MV, QUARTERS[i])
            else:
                power_MV = tl.exp2(z_MV * (BETAS[i] * _LOG2E))
            met = met + (powers[i] * tl.exp2(fall_M * (BETAS[i] * _LOG2E)) + tl.sum(power_MV, 1),)
        powers = met

    tl.store(maxima_TN + tl.program_id(1) * rows + row_M, maximum_M, mask=is_row_M)
    sums = (rank_M,) + moments
    if IS_TEMPERED:
        sums = sums + tempered
    sums = sums + powers
    for i in tl.static_range(len(sums)):
        tl.store(sums_TKN + (tl.program_id(1) * len(sums) + i) * rows + row_M, sums[i], mask=is_row_M)


@triton.jit
def _read(matrix, row_R, stride, k, hidden, IS_EVEN: tl.constexpr, DEPTH: tl.constexpr):
    """Columns `k` to `k + DEPTH` of some rows of a matrix, 0 behind its end."""
    column_D = k + tl.arange(0, DEPTH)
    at_RD = matrix + row_R[:, None] * stride + column_D[None, :]
    if IS_EVEN:
        return tl.load(at_RD)
    else:
        return tl.load(at_RD, mask=column_D[None, :] < hidden, other=0.0)


@triton.jit
def _product(hidden_MD, weight_VD, sum_MV, IS_INTERPRETED: tl.constexpr):
    """Add a product of two tiles, in float32; the interpreter cannot multiply bfloat16 (triton-lang/triton #11584)."""
    if IS_INTERPRETED:
        hidden_MD = hidden_MD.to(tl.float32)
        weight_VD = weight_VD.to(tl.float32)
    return tl.dot(hidden_MD, weight_VD.T, sum_MV, input_precision="ieee")


@triton.jit
def _logits(
    product_MV,
    bias_V,
    column_V,
    scale,
    softcap,
    HAS_BIAS: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    IS_INTERPRETED: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """From products accumulated in float32 to logits, as `Head` goes: bias, rounding, scale, soft cap."""
    if HAS_BIAS:
        product_MV += tl.load(bias_V + column_V).to(tl.float32)[None, :]
    logits_MV = _rounded(product_MV, IS_INTERPRETED, DTYPE) * scale
    if HAS_SOFTCAP:
        # tanh(x) = sign(x) (1 - u) / (1 + u) where u = exp(-2 |x|), which cannot overflow.
        scaled_MV = logits_MV / softcap
        u_MV = tl.exp2(tl.abs(scaled_MV) * (-2 * _LOG2E))
        tanh_MV = (1 - u_MV) / (1 + u_MV)
        logits_MV = tl.where(scaled_MV < 0, -tanh_MV, tanh_MV) * softcap
    return logits_MV


@triton.jit
def _rounded(x, IS_INTERPRETED: tl.constexpr, DTYPE: tl.constexpr):
    """float32 rounded to nearest, ties to even, as `DTYPE` has it; the interpreter cuts bfloat16 off instead."""
    if IS_INTERPRETED and tl.bfloat16 == DTYPE:
        bits = x.to(tl.int32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000
        return tl.where(x == x, bits.to(tl.float32, bitcast=True), x)
    else:
        return x.to(DTYPE).to(tl.float32)


@triton.jit
def _power(root_MV, N: tl.constexpr):
    """The N-th power, 1 to 8, in products that the compiler shares between powers."""
    square_MV = root_MV * root_MV
    fourth_MV = square_MV * square_MV
    if N == 8:
        return fourth_MV * fourth_MV
    elif N == 7:
        return fourth_MV * (square_MV * root_MV)
    elif N == 6:
        return fourth_MV * square_MV
    elif N == 5:
        return fourth_MV * root_MV
    elif N == 4:
        return fourth_MV
    elif N == 3:
        return square_MV * root_MV
    else:
        tl.static_assert(N == 2)
        return square_MV


@triton.jit
def _moments(sums, e_MV, z_MV, shift_M, decay_M):
    """Sums of e, e z and e z^2, to which those of a tile come; the maximum rises by `-shift_M`, in units of z."""
    sum_M, first_M, second_M = sums
    z_MV = tl.where(z_MV < _NOTHING, _NOTHING, z_MV)
    second_M = (second_M + shift_M * (2 * first_M + shift_M * sum_M)) * decay_M
    first_M = (first_M + shift_M * sum_M) * decay_M
    weighed_MV = e_MV * z_MV
    return (
        sum_M * decay_M + tl.sum(e_MV, 1),
        first_M + tl.sum(weighed_MV, 1),
        second_M + tl.sum(weighed_MV * z_MV, 1),
    )
