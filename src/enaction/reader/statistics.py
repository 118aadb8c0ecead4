"""What one row of logits says about the token that came: surprisal, entropy, varentropy, rank.

Pure functions of arrays, float32 throughout. Axes: `N` predictions, `V` vocabulary. Everything in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenStats:
    """Statistics of the measured tokens of one passage, in their order; element i describes ONE prediction.

    Attributes:
        surprisal: float32 [N], -log p of the token that came, nats.
        entropy: float32 [N], entropy of the distribution that predicted it, full vocabulary, nats.
        varentropy: float32 [N], variance of -log p under that distribution, nats^2.
        rank: int32 [N], number of vocabulary entries with a strictly larger logit; 0 is the most probable token.
    """

    surprisal: np.ndarray
    entropy: np.ndarray
    varentropy: np.ndarray
    rank: np.ndarray

    def __len__(self) -> int:
        return len(self.surprisal)


def token_statistics(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Surprisal, entropy, varentropy and rank of each row, float32 [4, N].

    `logits_NV` is used as scratch space and holds nothing of use afterwards: hand over a tensor of your own. A second
    one of its size is allocated, no more.

    With z the logits less their row maximum and p their softmax: entropy = log Z - sum p z, varentropy =
    sum p (z - sum p z)^2. The mean is taken out before squaring, so that a confident row, whose varentropy is tiny,
    does not lose it to cancellation. Ranks compare the tile with the value read from the same tile: a target logit that
    is computed apart outranks itself by rounding.

    Args:
        logits_NV: float32 [N, V]. Entries may be -inf (a token that the model rules out).
        targets_N: int64 [N], the tokens that came.

    Raises:
        ValueError: not float32.
    """
    if logits_NV.dtype != torch.float32:
        raise ValueError(f"statistics are computed in float32, and the logits are {logits_NV.dtype}: convert them")
    target_N1 = logits_NV.gather(1, targets_N[:, None])
    scratch_NV = torch.empty_like(logits_NV)
    # A float mask and its sum cost a third of a bool mask and its count (torch 2.13, CPU).
    rank_N = torch.gt(logits_NV, target_N1, out=scratch_NV).sum(1)
    maximum_N1 = logits_NV.amax(1, keepdim=True)
    p_NV = torch.softmax(logits_NV, 1, out=scratch_NV)
    log_z_N = -p_NV.amax(1).log()
    surprisal_N = log_z_N - (target_N1 - maximum_N1).squeeze(1)
    # Where p is 0 the term is 0, and not 0 * inf. exp(-1e4) is 0 in float32, so no other term changes.
    z_NV = logits_NV.sub_(maximum_N1).clamp_(min=-1e4)
    mean_N = torch.linalg.vecdot(p_NV, z_NV)
    entropy_N = (log_z_N - mean_N).clamp_(min=0)
    z_NV.sub_(mean_N[:, None]).square_()
    varentropy_N = torch.linalg.vecdot(p_NV, z_NV)
    return torch.stack([surprisal_N, entropy_N, varentropy_N, rank_N])
