"""The cells that two readers have in common: tokens that both of them list, and all others together.

On them both a bet on the other reader and its variance are exact. The price: the tokens of the rest are not told apart.
"""

# ruff: noqa: N815  # fields carry their axes, by the house convention
from __future__ import annotations

from typing import NamedTuple

import numpy as np

# What a reader's float32 can tell of the mass that a list leaves.
_LEAST = 1e-6


class Listed(NamedTuple):
    """The likeliest tokens of a reader before each token of a text.

    Attributes:
        ids_NL: their ids; below 0 where there is none.
        log_NL: their log-probabilities, nats.
    """

    ids_NL: np.ndarray
    log_NL: np.ndarray


def common_cells(ours: Listed, theirs: Listed, token_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What another reader's distribution q says of the cell of each token.

    Args:
        ours, theirs: what p and q list.
        token_N: ids of the tokens that came.

    Returns:
        log q/p of the token's cell [N], nats, and the standard deviation of q/p over cells under p [N].
    """
    same_NLM = (ours.ids_NL[:, :, None] == theirs.ids_NL[:, None, :]) & (ours.ids_NL[:, :, None] >= 0)
    both_NL = same_NLM.any(2)
    p_NL = np.where(both_NL, np.exp(ours.log_NL), 0)
    q_NL = np.where(both_NL, np.take_along_axis(np.exp(theirs.log_NL), same_NLM.argmax(2), axis=1), 0)
    # The rest of p is rounded up, and q to a sum of 1: neither lets a bet gain under p.
    p_rest_N = np.maximum(1 - p_NL.sum(1), _LEAST)
    q_rest_N = np.maximum(1 - q_NL.sum(1), 0)
    total_N = q_NL.sum(1) + q_rest_N
    ratio_NL = np.where(both_NL, q_NL / np.where(p_NL > 0, p_NL, 1), 0) / total_N[:, None]
    ratio_rest_N = q_rest_N / p_rest_N / total_N
    second_N = (p_NL * ratio_NL**2).sum(1) + p_rest_N * ratio_rest_N**2
    hit_NL = both_NL & (ours.ids_NL == token_N[:, None])
    came_N = np.where(hit_NL.any(1), (ratio_NL * hit_NL).sum(1), ratio_rest_N)
    with np.errstate(divide="ignore"):
        return np.log(came_N), np.sqrt(np.maximum(second_N - 1, 0))
