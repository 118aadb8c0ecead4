"""Statistics of rows of logits, streamed over tiles of the vocabulary.

A whole row of logits is never needed: every statistic here is a maximum, a count, or a sum over the vocabulary of
powers of p, of p log p and of p log^2 p. So a block of rows meets the vocabulary tile by tile, each tile small enough
for the cache; what is left of a tile is its maximum and its sums relative to it, and those of all tiles are merged.
Inside a tile the arithmetic is float32, between tiles float64.

Relative to the maximum, the mean of log p is at most log V away from zero, whatever the logits. So the variance may be
taken as mean of squares less square of mean: no digits are lost that matter.

Pure functions of arrays. Axes: `N` predictions, `V` vocabulary or a tile of it, `K` sums, `L` listed tokens. In nats.
"""

# ruff: noqa: N815  # fields carry their axes, by the house convention
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from enaction.reader.statistics import Wanted

# Elements of a tile, 2 MiB of float32: worked over some twenty times, it has to stay near the processor.
TILE = 524_288
# Fewer rows read the output matrix more often, more make the tile too narrow (one core of a Zen 4, torch 2.13).
MOST_ROWS = 512
# A vocabulary up to here is one tile wide.
WIDEST = 2048
# Tiles whose sums are held before they are merged; what is merged costs a tile's worth of small operations.
HELD = 16

LOG2E = math.log2(math.e)
LOWEST = torch.finfo(torch.float32).min
# Exponents whose powers of p come as products of powers of p^(1/4); any other takes an exponential of its own.
QUARTERS = frozenset({0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0})
# Logits further below the maximum of their tile, in nats, are taken for this far below: exp(-55) is 1e-24. So there are
# no slow denormals among products of powers up to exp(1.5 z), and no 0 * inf.
FLOOR = -55.0


class Logits(Protocol):
    """Some rows of logits, to be had in tiles of the vocabulary."""

    def tile(self, start: int, stop: int, out_NV: Tensor) -> Tensor:
        """Float32 logits [N, stop - start] of tokens `start` to `stop`, the caller's own; `out_NV` may hold them."""
        ...

    def of(self, tokens_N: Tensor) -> Tensor:
        """Float32 logit of one token in each row, [N]."""
        ...


@dataclass(frozen=True)
class WholeLogits:
    """Rows of logits that are in memory, of any dtype; they are not changed."""

    logits_NV: Tensor

    def tile(self, start: int, stop: int, out_NV: Tensor) -> Tensor:
        return out_NV.copy_(self.logits_NV[:, start:stop])

    def of(self, tokens_N: Tensor) -> Tensor:
        return self.logits_NV.gather(1, tokens_N[:, None]).squeeze(1).float()


def token_statistics(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Surprisal, entropy, varentropy and rank of each row, float32 [4, N].

    Args:
        logits_NV: float32 [N, V], not changed. Entries may be -inf (a token that the model rules out).
        targets_N: int64 [N], the tokens that came.

    Raises:
        ValueError: not float32.
    """
    if logits_NV.dtype != torch.float32:
        raise ValueError(f"statistics are computed in float32, and the logits are {logits_NV.dtype}: convert them")
    rows = block_rows(len(targets_N), 1, logits_NV.shape[1])
    columns = stream(lambda block: WholeLogits(logits_NV[block]), targets_N, logits_NV.shape[1], rows=rows)
    return torch.stack([column.float() for column in columns.values()])


def block_rows(rows: int, hidden: int, vocabulary: int) -> int:
    """Rows that are best taken at a time, of `rows` in all: blocks of equal size, small where a tile is a whole row."""
    most = TILE // vocabulary if vocabulary <= WIDEST else MOST_ROWS
    most = max(1, min(most, MOST_ROWS, 2 * TILE // hidden))  # their hidden states take memory too
    return math.ceil(rows / math.ceil(rows / most)) if rows else 1


def wide_dtype(device: torch.device) -> torch.dtype:
    """What sums of sums are kept in: float64, which Apple's devices do not have."""
    return torch.float32 if device.type == "mps" else torch.float64


def stream(
    block: Callable[[slice], Logits],
    targets_N: Tensor,
    vocabulary: int,
    wanted: Wanted | None = None,
    *,
    rows: int,
    columns: int | None = None,
) -> dict[str, Tensor]:
    """Statistics of rows of logits by the names of `TokenStats`, [N, ...]; not those of a truncated distribution.

    Three tiles of memory are in use, whatever the vocabulary. NaN or +inf among the logits of a row
    makes its statistics NaN.

    Args:
        block: gives the logits of a slice of the rows.
        targets_N: int64 [N], the tokens that came.
        vocabulary: length of a row.
        wanted: what is computed beyond the four.
        rows: how many rows meet the vocabulary together; `block_rows` says how many are good.
        columns: width of a tile, by default a good one; results depend on it by rounding only.
    """
    plan = Plan(wanted or Wanted(), targets_N.device)
    columns = min(vocabulary, columns or (vocabulary if vocabulary <= WIDEST else TILE // rows))
    edges = [*range(0, vocabulary, columns), vocabulary]
    # Once for all blocks: were it freed and made again, what is kept of one block would come to sit in its place.
    scratch = torch.empty(3 * rows * columns, device=targets_N.device)
    met = []
    for begin in range(0, max(1, len(targets_N)), rows):
        part = slice(begin, begin + rows)
        met.append(_meet(block(part), targets_N[part], edges, scratch, plan))
    return to_columns(Met(*map(torch.cat, zip(*met, strict=True))), plan, has_extras=wanted is not None)


class Plan:
    """Which sums are kept and in which order: the rank, three moments, perhaps three tempered ones, power sums."""

    def __init__(self, wanted: Wanted, device: torch.device) -> None:
        self.wanted = wanted
        self.is_tempered = wanted.temperature != 1 and not wanted.is_truncated
        self.quarters = QUARTERS.intersection(wanted.betas)
        # The moments are sums of e^(beta z), of that times z, and times z^2, where z = logit - maximum. Here stands in
        # which unit z is taken there (so many to a nat: what exp2 is fed), by the place of the first of the three.
        self.units = {1: LOG2E / 4 if self.quarters else LOG2E}
        if self.is_tempered:
            self.units[4] = LOG2E / wanted.temperature
        # Where the maximum is larger by d, such sums are smaller by exp(beta d). The rank is not.
        tempered = [1 / wanted.temperature] * 3 if self.is_tempered else []
        exponents = [0, 1, 1, 1, *tempered, *wanted.betas]
        self.exponent_K = torch.tensor(exponents, dtype=wide_dtype(device), device=device)


class Met(NamedTuple):
    """What is left of rows of logits once they have met the vocabulary.

    Attributes:
        target_N, maximum_N: logit of the token that came, largest logit.
        sums_NK: as `Plan` orders them, relative to the maximum.
        likeliest_NL, ids_NL: largest logits and their tokens, where they are wanted.
    """

    target_N: Tensor
    maximum_N: Tensor
    sums_NK: Tensor
    likeliest_NL: Tensor
    ids_NL: Tensor


def _meet(logits: Logits, targets_N: Tensor, edges: list[int], scratch: Tensor, plan: Plan) -> Met:
    """Take some rows through the tiles of the vocabulary that begin at `edges`, whose last is its end."""
    rows, device = len(targets_N), targets_N.device
    likeliest_NL, ids_NL = torch.empty((rows, 0), device=device), targets_N.new_empty((rows, 0))
    held: list[tuple[Tensor, Tensor]] = []
    target_N = logits.of(targets_N) if len(edges) > 2 else None
    for start, stop in pairwise(edges):
        tile_NV, *spare = scratch[: 3 * rows * (stop - start)].view(3, rows, stop - start)
        logits_NV = logits.tile(start, stop, tile_NV)
        if target_N is None:
            target_N = logits_NV.gather(1, targets_N[:, None]).squeeze(1)
        else:
            # The value that ranks are counted against has to be the one in the tile: computed twice, it could differ
            # in the last bit, and the target outrank itself.
            mine_M = ((targets_N >= start) & (targets_N < stop)).nonzero().squeeze(1)
            logits_NV[mine_M, targets_N[mine_M] - start] = target_N[mine_M]
        if plan.wanted.likeliest:
            top_NL, top_ids_NL = logits_NV.topk(min(plan.wanted.likeliest, stop - start), 1)
            likeliest_NL, best_NL = torch.cat([likeliest_NL, top_NL], 1).topk(min(plan.wanted.likeliest, stop), 1)
            ids_NL = torch.cat([ids_NL, top_ids_NL + start], 1).gather(1, best_NL)
        held.append(_tile_sums(logits_NV, target_N, spare, plan))
        if len(held) == HELD:
            held = [_merged(held, plan)]
    assert target_N is not None  # there is a tile
    return Met(target_N, *_merged(held, plan), likeliest_NL, ids_NL)


def _tile_sums(logits_NV: Tensor, target_N: Tensor, spare: Sequence[Tensor], plan: Plan) -> tuple[Tensor, Tensor]:
    """Maximum [N] and sums [N, K] of a tile, which is used up, with two `spare` ones of its size."""
    one_NV, two_NV = spare
    betas = plan.wanted.betas
    # A float mask and its sum cost a third of a bool mask and its count (torch 2.13, CPU).
    rank_N = torch.gt(logits_NV, target_N[:, None], out=one_NV).sum(1)
    maximum_N = logits_NV.amax(1).clamp_(min=LOWEST)  # finite where all are -inf
    z_NV = logits_NV.sub_(maximum_N[:, None])
    # exp2 costs a third of exp (torch 2.13, CPU).
    power_sums = {
        beta: torch.mul(z_NV, beta * LOG2E, out=one_NV).exp2_().sum(1) for beta in betas if beta not in plan.quarters
    }
    tempered = []
    if plan.is_tempered:
        scaled_NV = torch.mul(z_NV, plan.units[4], out=one_NV).clamp_(min=FLOOR * LOG2E)
        tempered = _moments(scaled_NV, torch.exp2(scaled_NV, out=two_NV))
    z_NV.clamp_(min=FLOOR).mul_(plan.units[1])
    e_NV = torch.exp2(z_NV, out=one_NV)
    if plan.quarters:
        e_NV, sums = _power_sums(e_NV, plan.quarters, two_NV)
        power_sums |= sums
    moments = _moments(z_NV, e_NV)
    return maximum_N, torch.stack([rank_N, *moments, *tempered, *(power_sums[beta] for beta in betas)], 1)


def _power_sums(root_NV: Tensor, betas: frozenset[float], spare_NV: Tensor) -> tuple[Tensor, dict[float, Tensor]]:
    """The fourth power of `root_NV`, and sums over the vocabulary of its powers by four times `betas`, of QUARTERS.

    Products in place are the cheapest there is: memory that is in the cache already. Both arguments are used up.
    """
    square_NV = torch.mul(root_NV, root_NV, out=spare_NV)
    sums = {0.5: square_NV.sum(1)}
    odd_NV = root_NV
    for n in range(3, int(max(4 * beta if 4 * beta % 2 else 2 * beta for beta in betas)) + 1, 2):
        odd_NV.mul_(square_NV)
        if n / 4 in betas:
            sums[n / 4] = odd_NV.sum(1)
        if n / 2 in betas:
            sums[n / 2] = torch.linalg.vector_norm(odd_NV, dim=1).square_()
    fourth_NV = square_NV.mul_(square_NV)
    if 1.0 in betas:
        sums[1.0] = fourth_NV.sum(1)
    if 2.0 in betas:
        sums[2.0] = torch.linalg.vector_norm(fourth_NV, dim=1).square_()
    return fourth_NV, sums


def _moments(z_NV: Tensor, e_NV: Tensor) -> list[Tensor]:
    """Sums over the vocabulary of e, e z and e z^2; `e_NV` is used up."""
    return [e_NV.sum(1), e_NV.mul_(z_NV).sum(1), e_NV.mul_(z_NV).sum(1)]


def _merged(held: list[tuple[Tensor, Tensor]], plan: Plan) -> tuple[Tensor, Tensor]:
    """Maximum and sums of tiles together."""
    if len(held) == 1:
        return held[0][0], held[0][1].to(plan.exponent_K.dtype)
    maxima, sums = zip(*held, strict=True)
    return merge_tiles(torch.stack(maxima), torch.stack([sums_NK.to(plan.exponent_K.dtype) for sums_NK in sums]), plan)


def merge_tiles(maxima_TN: Tensor, sums_TNK: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    """Maximum [N] and sums [N, K] of `T` parts of the vocabulary together."""
    sums_TNK = sums_TNK.to(plan.exponent_K.dtype)
    maximum_N = maxima_TN.amax(0)
    # A fall by 1e15 leaves nothing; from a larger one could come infinities, and NaN.
    fall_TN = (maxima_TN.to(sums_TNK.dtype) - maximum_N).clamp_(min=-1e15)
    for place, unit in plan.units.items():
        sum_TN, first_TN, second_TN = sums_TNK[..., place : place + 3].unbind(-1)
        shift_TN = unit * fall_TN
        second_TN += shift_TN * (2 * first_TN + shift_TN * sum_TN)
        first_TN += shift_TN * sum_TN
    return maximum_N, sums_TNK.mul_((fall_TN[..., None] * plan.exponent_K).exp_()).sum(0)


def to_columns(met: Met, plan: Plan, *, has_extras: bool) -> dict[str, Tensor]:
    """The statistics by their names."""
    wanted = plan.wanted
    # Where every logit is -inf there is no distribution.
    sums_NK = met.sums_NK.masked_fill((met.maximum_N == LOWEST)[:, None], math.nan)
    maximum_N = met.maximum_N.to(sums_NK.dtype)
    log_z_N, *summary = _summary(sums_NK[:, 1:4], maximum_N - met.target_N, 1 / plan.units[1])
    columns = dict(zip(("surprisal", "entropy", "varentropy"), summary, strict=True)) | {"rank": sums_NK[:, 0].int()}
    if has_extras:
        columns["top_probability"] = (-log_z_N).exp().float()
    if wanted.betas:
        log_sums_NK = sums_NK[:, -len(wanted.betas) :].log()
        columns["power_sums"] = (log_sums_NK - log_z_N[:, None] * plan.exponent_K[-len(wanted.betas) :]).float()
    if wanted.likeliest:
        logprob_NL = met.likeliest_NL - (maximum_N + log_z_N)[:, None]
        columns["likeliest_ids"] = met.ids_NL.int()
        columns["likeliest_logprobs"] = logprob_NL.float()
        columns["tail_mass"] = (1 - logprob_NL.exp().sum(1)).clamp_(min=0).float()
    if plan.is_tempered:
        _, *summary = _summary(sums_NK[:, 4:7], (maximum_N - met.target_N) / wanted.temperature, 1 / LOG2E)
        columns |= zip(("sampled_surprisal", "sampled_entropy", "sampled_varentropy"), summary, strict=True)
        columns["kept_mass"] = torch.ones_like(columns["entropy"])
    return columns


def _summary(sums_N3: Tensor, below_N: Tensor, nats: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """log Z relative to the maximum, then float32 surprisal of a token `below_N` under it, entropy and varentropy.

    `sums_N3` are those of e, e z and e z^2 with z in units of so many `nats`.
    """
    sum_N, first_N, second_N = sums_N3.unbind(1)
    log_z_N, mean_N = sum_N.log(), nats * (first_N / sum_N)
    varentropy_N = (nats**2 * (second_N / sum_N) - mean_N.square()).clamp_(min=0)
    return log_z_N, (log_z_N + below_N).float(), (log_z_N - mean_N).clamp_(min=0).float(), varentropy_N.float()
