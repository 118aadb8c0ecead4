"""The distribution that a truncated sampler draws from: tempered, cut to `top_k`, cut to `top_p`, renormalised.

Which tokens are kept depends on the order of a whole row, so rows are taken whole here, a few at a time. The order of
the steps is that of transformers and vLLM: temperature, then top_k, then top_p of what top_k left.

Tokens whose logit equals that of the last one kept are kept too. A sampler may break such ties either way, and a token
that it may have drawn must not be called impossible.

Axes: `N` predictions, `V` vocabulary, `K` the most probable tokens. In nats.
"""

from __future__ import annotations

import torch
from torch import Tensor

from enaction.reader.statistics import Wanted
from enaction.reader.streaming import WholeLogits, block_rows, stream, wide_dtype

# Most nuclei are smaller; where one is not, the search continues with eight times as many tokens.
FIRST_GUESS = 64
# Tokens looked at together, over rows: some 30 bytes each.
LOOKED_AT = 131_072
# Samplers sum probabilities in float32 and may keep a token that exact arithmetic just leaves out.
SLACK = 1e-6


def truncated(logits_NV: Tensor, targets_N: Tensor, wanted: Wanted) -> dict[str, Tensor]:
    """The `sampled_` statistics of `TokenStats` and the masses that are kept, float32 [N, ...].

    Args:
        logits_NV: float32 [N, V]; used as scratch space.
        targets_N: int64 [N], the tokens that came.
        wanted: temperature, top_k and top_p.
    """
    scaled_NV = logits_NV.sub_(logits_NV.amax(1, keepdim=True)).div_(wanted.temperature)
    log_all_N = torch.logsumexp(scaled_NV, 1)
    columns = {"tempered_surprisal": log_all_N - scaled_NV.gather(1, targets_N[:, None]).squeeze(1)}
    if wanted.has_inner:
        columns["inner_mass"] = _mass(_cut(scaled_NV.clone(), wanted.inner_top_k, wanted.inner_top_p), log_all_N)
    _cut(scaled_NV, wanted.top_k, wanted.top_p)
    columns["kept_mass"] = _mass(scaled_NV, log_all_N)
    rows = block_rows(len(targets_N), 1, scaled_NV.shape[1])
    of_kept = stream(
        lambda block: WholeLogits(scaled_NV[block]),
        targets_N,
        scaled_NV.shape[1],
        Wanted(betas=wanted.betas),
        rows=rows,
    )
    names = ["surprisal", "entropy", "varentropy", "top_probability", *(["power_sums"] if wanted.betas else [])]
    columns |= {f"sampled_{name}": of_kept[name] for name in names}
    return columns


def _cut(logits_NV: Tensor, top_k: int | None, top_p: float) -> Tensor:
    """The same tensor with -inf beyond the first `top_k` tokens and beyond the nucleus of what these leave."""
    if top_k is not None:
        least_NK = logits_NV.topk(min(top_k, logits_NV.shape[1]), 1).values
        logits_NV.masked_fill_(logits_NV < least_NK[:, -1:], float("-inf"))
    if top_p < 1:
        logits_NV.masked_fill_(logits_NV < _nucleus_edge(logits_NV, top_p), float("-inf"))
    return logits_NV


def _mass(logits_NV: Tensor, log_all_N: Tensor) -> Tensor:
    """Probability [N] of the tokens that are not ruled out."""
    return (torch.logsumexp(logits_NV, 1) - log_all_N).exp().clamp_(max=1)


def _nucleus_edge(logits_NV: Tensor, top_p: float) -> Tensor:
    """Smallest logit [N, 1] of each row's nucleus: a token is in while those before it hold less than `top_p`."""
    vocabulary = logits_NV.shape[1]
    log_z_N1 = torch.logsumexp(logits_NV, 1, keepdim=True)
    edge_N1 = torch.empty_like(log_z_N1)
    # Rows whose nucleus is not found yet, and how many tokens are looked at.
    open_M, count = torch.arange(len(logits_NV), device=logits_NV.device), min(FIRST_GUESS, vocabulary)
    while len(open_M):
        wider = []
        for rows_M in open_M.split(max(1, LOOKED_AT // count)):
            ordered_MK = logits_NV[rows_M].topk(count, 1).values
            p_MK = (ordered_MK - log_z_N1[rows_M]).to(wide_dtype(logits_NV.device)).exp_()
            inside_M1 = (p_MK.cumsum(1) - p_MK < top_p + SLACK).sum(1, keepdim=True)
            edge_N1[rows_M] = ordered_MK.gather(1, (inside_M1 - 1).clamp_(min=0))  # none is inside if logits are NaN
            wider.append(rows_M[(inside_M1.squeeze(1) == count) & (count < vocabulary)])
        open_M, count = torch.cat(wider), min(8 * count, vocabulary)
    return edge_N1
