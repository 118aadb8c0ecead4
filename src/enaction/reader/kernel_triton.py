"""The kernels of `kernel`, in the part of Python that Triton compiles.

A program takes a block of rows through a range of the vocabulary: it computes a tile of logits in registers, takes the
tile's maximum and sums there, and writes only these, once for each row and range. Products are accumulated in float32
and then rounded to the dtype of the weights, as the matrix product of the model's own forward rounds them, so that a
bfloat16 model has one set of logits whichever path reads it.

Axes: `N` predictions, `M` rows of a block, `V` vocabulary or a tile of it, `D` hidden, `T` ranges of the vocabulary,
`K` sums. In nats.
"""

# ruff: noqa: RUF005, SIM108  # Triton compiles none of what these rules suggest
# pyright: reportMissingImports=false
from __future__ import annotations

import triton
import triton.language as tl

from enaction.reader.streaming import LOG2E, LOWEST

_LOWEST = tl.constexpr(LOWEST)
_LOG2E = tl.constexpr(LOG2E)
# This many powers of two below a maximum nothing is left in float32, and what that nothing is multiplied by is finite.
_NOTHING = tl.constexpr(-200.0)
# As in `streaming`: a fall by 1e15 leaves nothing; a larger one could produce infinities, and NaN.
_DEEPEST = tl.constexpr(-1e15)


@triton.jit
def target_kernel(
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
    """Logits of the observed tokens: the diagonal of a tile, computed as the tiles of `partials_kernel` are.

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
def partials_kernel(
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
        # Ranks are counted against the value in the tile, or else the target might outrank itself.
        logits_MV = tl.where(column_V[None, :] == target_M[:, None], target_logit_M[:, None], logits_MV)
        logits_MV = tl.where(column_V[None, :] < vocabulary, logits_MV, -float("inf"))

        rank_M += tl.sum((logits_MV > target_logit_M[:, None]).to(tl.float32), 1)
        larger_M = tl.maximum(maximum_M, tl.max(logits_MV, 1))
        fall_M = tl.maximum(maximum_M - larger_M, _DEEPEST)
        maximum_M = larger_M
        # A comparison with NaN is false: NaN, and what +inf turns into, stay NaN in every sum.
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
    """Columns `k` to `k + DEPTH` of some rows of a matrix, 0 after its end."""
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
    """From products accumulated in float32 to logits, in the order of `Head`: bias, rounding, scale, soft cap."""
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
    """float32 rounded to `DTYPE`, to nearest, ties to even; the interpreter would truncate to bfloat16 instead."""
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
    """Add a tile's sums of e, e z and e z^2; the maximum rises by `-shift_M`, in units of z."""
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
