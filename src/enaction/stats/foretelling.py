"""Does a state foretell a distribution? A probe that is judged on prompts that it was not fitted to.

The state at the end of a prompt is a function of the prompt, so within a prompt it can know nothing but the prompt's
own distribution of labels. That distribution is therefore the target, and the score is its cross-entropy against
leaving the state out: predicting the mean distribution of the other prompts.

The probe is a ridge regression of the shares on the states (in its dual form, as prompts are fewer than channels),
made a distribution by clipping, and mixed with the mean. Penalty and mixture are chosen by leaving out one prompt after
another within the fitted ones; a mixture of nothing is among the choices, so that a state without information costs
little.

Axes: P prompt, K prompt that is fitted, O one that is left out, L label, C channel, S set of distributions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
# Penalties relative to the mean squared norm of a centred state, and shares of the probe in the mixture.
_PENALTIES = (1e-2, 1e-1, 1.0)
_MIXTURES = (0.0, 0.4, 0.7, 0.95)
# No label is predicted with less than this share of a uniform one, so that one miss costs a bounded number of nats.
_FLOOR = 0.02


@dataclass(frozen=True)
class Foretold:
    """What a probe knows of prompts that it was not fitted to; each [P], nats.

    gain: cross-entropy of the mean distribution minus that of the probe's; above 0 where the state says something.
    room: the gain of a probe that predicts each prompt's own distribution, the most that there is.
    hit: whether the probe's likeliest label is the prompt's commonest.
    """

    gain: Floats
    room: Floats
    hit: Floats


def foretold(state_PC: ArrayLike, share_PL: ArrayLike, group_P: Sequence[object] | None = None) -> Foretold:
    """Predict the label distribution of each prompt from its state, fitted to the others.

    Args:
        state_PC: one state a prompt, finite.
        share_PL: its distribution of labels, rows sum to 1.
        group_P: prompts of one group are left out together (wordings of one request, say); each its own by default.

    Raises:
        ValueError: fewer than 3 groups, or shapes that do not fit.
    """
    share_PL = np.asarray(share_PL, dtype=float)
    gain_1P, room_P, hit_1P = _judged(state_PC, share_PL[None], group_P)
    return Foretold(gain_1P[0], room_P[0], hit_1P[0])


def shuffled_gains(
    state_PC: ArrayLike, share_PL: ArrayLike, order_SP: ArrayLike, group_P: Sequence[object] | None = None
) -> Floats:
    """[S] mean gain where the distributions are dealt to the prompts in these orders: the null of `foretold`."""
    share_PL = np.asarray(share_PL, dtype=float)
    return _judged(state_PC, share_PL[np.asarray(order_SP)], group_P)[0].mean(1)


def _judged(state_PC: ArrayLike, share_SPL: Floats, group_P: Sequence[object] | None) -> tuple[Floats, Floats, Floats]:
    """Gain, room and hit, each [S, P], of several sets of distributions for the same states."""
    state_PC = np.asarray(state_PC, dtype=float)
    groups = list(range(len(state_PC))) if group_P is None else list(group_P)
    if state_PC.ndim != 2 or share_SPL.ndim != 3 or not len(state_PC) == share_SPL.shape[1] == len(groups):
        raise ValueError(f"states {state_PC.shape}, shares {share_SPL.shape[1:]} and {len(groups)} groups do not fit")
    if len(set(groups)) < 3:
        raise ValueError(f"{len(set(groups))} groups of prompts; at least 3 are needed to fit and to judge")
    gram_PP = state_PC @ state_PC.T
    gain_SP, room_SP, hit_SP = (np.empty(share_SPL.shape[:2]) for _ in range(3))
    for group in dict.fromkeys(groups):
        out_P = np.array([g == group for g in groups])
        share_SOL, kept_SKL = share_SPL[:, out_P], share_SPL[:, ~out_P]
        log_mean_S1L = np.log(_floored(kept_SKL.mean(1, keepdims=True)))
        predicted_SOL = _predict(gram_PP, kept_SKL, out_P)
        gain_SP[:, out_P] = (share_SOL * (np.log(predicted_SOL) - log_mean_S1L)).sum(-1)
        room_SP[:, out_P] = (share_SOL * (np.log(_floored(share_SOL)) - log_mean_S1L)).sum(-1)
        hit_SP[:, out_P] = predicted_SOL.argmax(-1) == share_SOL.argmax(-1)
    return gain_SP, room_SP, hit_SP


def _predict(gram_PP: Floats, kept_SKL: Floats, out_P: NDArray[np.bool_]) -> Floats:
    """[S, O, L] distributions of the prompts that are left out, by the choices that are best within the others (K)."""
    n = kept_SKL.shape[1]
    mean_S1L = kept_SKL.mean(1, keepdims=True)
    gram_KK, cross_OK = _centred(gram_PP, ~out_P, out_P)
    scale = max(float(np.trace(gram_KK)) / n, 1e-12)
    values, vectors = np.linalg.eigh(gram_KK)
    best_SOL = np.repeat(_floored(mean_S1L), int(out_P.sum()), axis=1)
    least_S = np.full(len(kept_SKL), np.inf)
    without_SKL = (kept_SKL.sum(1, keepdims=True) - kept_SKL) / (n - 1)
    for penalty in _PENALTIES:
        solved_KK = (vectors / (values + penalty * scale * n)) @ vectors.T
        leverage_K = np.diag(gram_KK @ solved_KK) + 1 / n  # the centre is fitted too
        residual_SKL = (np.eye(n) - gram_KK @ solved_KK) @ (kept_SKL - mean_S1L)
        # Leave-one-out predictions in closed form.
        inner_SKL = _shares(kept_SKL - residual_SKL / np.maximum(1 - leverage_K, 1e-6)[:, None], without_SKL)
        outer_SOL = _shares(mean_S1L + cross_OK @ solved_KK @ (kept_SKL - mean_S1L), mean_S1L)
        for mixture in _MIXTURES:
            loss_S = -(kept_SKL * np.log(_mixed(inner_SKL, without_SKL, mixture))).sum(-1).mean(1)
            is_less_S = loss_S < least_S - 1e-12
            best_SOL[is_less_S] = _mixed(outer_SOL, mean_S1L, mixture)[is_less_S]
            least_S = np.where(is_less_S, loss_S, least_S)
    return best_SOL


def _shares(raw_SPL: Floats, mean_SPL: Floats) -> Floats:
    """Predictions as distributions; the mean where nothing is above 0."""
    clipped_SPL = np.clip(raw_SPL, 0.0, None)
    total_SP1 = clipped_SPL.sum(-1, keepdims=True)
    return np.where(total_SP1 > 0, clipped_SPL / np.where(total_SP1 > 0, total_SP1, 1.0), mean_SPL)


def _mixed(share_SPL: Floats, mean_SPL: Floats, mixture: float) -> Floats:
    return _floored(mixture * share_SPL + (1 - mixture) * mean_SPL)


def _floored(share_L: Floats) -> Floats:
    return (1 - _FLOOR) * share_L + _FLOOR / share_L.shape[-1]


def _centred(gram_PP: Floats, kept_P: NDArray[np.bool_], out_P: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Inner products of states minus the mean of the kept ones: [kept, kept] and [out, kept]."""
    kept, cross = gram_PP[np.ix_(kept_P, kept_P)], gram_PP[np.ix_(out_P, kept_P)]
    row, grand = kept.mean(0), kept.mean()
    return kept - row - row[:, None] + grand, cross - cross.mean(1, keepdims=True) - row + grand
