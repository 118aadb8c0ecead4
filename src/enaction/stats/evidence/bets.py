"""The bets: distributions that a token may have come from instead, each exact from what a reader streams.

Every family of alternatives is here because texts of that kind exist: another temperature, a top token that comes too
often or too seldom (foreign text on a confident model), words of no model at all, truncation, another reader. A bet is
contaminated where it says: with probability 1 - eps the token is the model's after all, so that a few foreign tokens
among many own ones are seen.

Noise: a server's p differs from ours. A budget of c nats stands for all samplers with |log p'/p| <= c and
chi^2(p', p) <= c^2 at each token. A bet gains e^c from them at most, and 1 + c sqrt(v) if its variance under p is v
(Cauchy and Schwarz): it is divided by the smaller of the two, as far as they are known. Only the part that bets pays.
Another reader's variance is known on the cells that both readers list, and with a budget that is what is bet on: where
the two agree, such a bet costs nothing.
"""

# ruff: noqa: N815  # fields carry their axes, by the house convention
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from enaction.stats.evidence.nulls import BETAS, Null

TEMPERED = (0.25, 0.5, 0.75, 0.9, 1.1, 1.25, 1.5, 2.0, 3.0)
_TILTED = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
_TILTS = (-1.0, 1.0)
_OFFSETS = (-3.0, -2.0, -1.0, -0.5, 0.5)
_SLOPES = (0.4, 0.7, 1.0)
_PART = (0.1, 0.3)
_SMALL_PART = (0.003, 0.01, 0.03, 0.1, 0.3)
# What a reader's float32 can tell of the probability that the top token does not come.
_LEAST = 1e-6
# Larger factors are of no use and overflow when they are summed; smaller ones are 0, and differences of -inf are NaN.
_MOST = 600.0


class _Bet(NamedTuple):
    """log q(x)/p(x) [N] and its standard deviation under p [N], None where that is not known."""

    name: str
    log_ratio_N: np.ndarray
    deviation_N: np.ndarray | None


@dataclass(frozen=True)
class Bets:
    """Log factors of all bets on the tokens of one turn.

    Attributes:
        log_factors_NE: of the bets that are held through a passage or a stream.
        log_weights_E: their prior weights, which sum to 1.
        names: of the bets.
        is_other_E: bets on another reader, which have a share of their own in a passage.
        log_arms_NA: of the arms between which a passage may switch; the first never bets.
        log_arm_weights_A: their prior weights.
    """

    log_factors_NE: np.ndarray
    log_weights_E: np.ndarray
    names: tuple[str, ...]
    is_other_E: np.ndarray
    log_arms_NA: np.ndarray
    log_arm_weights_A: np.ndarray

    def __len__(self) -> int:
        return len(self.log_factors_NE)


def bets_on(null: Null, noise: float = 0.0) -> Bets:
    """All bets on the tokens of one turn.

    Bets and weights depend on the null's settings and on the names in `kept` and `others` alone, never on the text.

    Args:
        null: what is known of each token.
        noise: budget c, nats; 0 for the distribution of the null and no other.
    """
    families = [list(family) for family in _families(null, on_cells=noise > 0)]
    columns, weights, names, is_other = [], [], [], []
    log_family = -math.log(len(families))
    for family, (kind, parts) in zip(families, _family_names(null), strict=True):
        for bet in family:
            for part, share in parts:
                columns.append(_factor(bet, part, noise))
                weights.append(log_family + math.log(share) - math.log(len(family)))
                names.append(bet.name if part == 1 else f"{bet.name}, {part:g} of tokens")
                is_other.append(kind == "other")
    arms = [*_tempered(null), *_background(null)]
    arm_weights = [0.5, *[0.5 / len(arms)] * len(arms)]
    return Bets(
        np.stack(columns, 1),
        np.array(weights),
        tuple(names),
        np.array(is_other),
        np.stack([np.zeros(len(null)), *(_factor(arm, 1.0, noise) for arm in arms)], 1),
        np.log(arm_weights),
    )


_Parts = tuple[tuple[float, float], ...]


def _even(*parts: float) -> _Parts:
    return tuple((part, 1 / len(parts)) for part in parts)


def _family_names(null: Null) -> Iterator[tuple[str, _Parts]]:
    """For each family its kind, and the parts of tokens that its bets are made on, with their weights."""
    yield "tempered", ((1.0, 0.6), *((part, 0.2) for part in _PART))
    yield "tilted", _even(1.0, *_PART)
    yield "top", ((1.0, 0.6), *((part, 0.2) for part in _PART))
    yield "background", _even(*_SMALL_PART)
    if null.kept:
        yield "truncated", _even(1.0, *_PART)
    if null.log_full_N is not None:
        yield "full", _even(1.0, *_SMALL_PART)
    for _ in null.others:
        yield "other", ((1.0, 0.5), (0.3, 0.2), (0.1, 0.2), (0.03, 0.1))


def _families(null: Null, on_cells: bool) -> Iterator[Iterator[_Bet]]:
    """The bets of each family, in the order of `_family_names`."""
    yield _tempered(null)
    yield _tilted(null)
    yield _top(null)
    yield _background(null)
    if null.kept:
        yield _truncated(null)
    if null.log_full_N is not None:
        yield iter([_Bet("no truncation", null.log_full_N - null.log_bound_N, None)])
    for name, log_other_N in null.others.items():
        if on_cells and name in null.common:
            yield iter([_Bet(name, *null.common[name])])
        else:
            yield iter([_Bet(name, log_other_N - null.log_of_token_N, None)])


def _log_second_moment(null: Null, beta: float) -> np.ndarray | None:
    """Log of the sum over the vocabulary of p^(2 beta - 1) [N], or a bound above it; None if there is none."""
    power = 2 * beta - 1
    if power == 0 or BETAS[0] <= power <= BETAS[-1]:
        return null.log_sum(power)
    if power > BETAS[-1]:
        return null.log_sum(beta) + (beta - 1) * null.log_top_N
    return null.log_sum(BETAS[0]) if power > 0 else None


def _deviation(log_second_N: np.ndarray | None) -> np.ndarray | None:
    return None if log_second_N is None else np.sqrt(np.maximum(np.expm1(np.minimum(log_second_N, _MOST)), 0))


def _tempered(null: Null) -> Iterator[_Bet]:
    """p^beta over its sum."""
    for beta in TEMPERED:
        log_sum_N, log_second_N = null.log_sum(beta), _log_second_moment(null, beta)
        ratio_N = -beta * null.surprisal_N - log_sum_N - null.log_bound_N
        deviation_N = _deviation(None if log_second_N is None else log_second_N - 2 * log_sum_N)
        yield _Bet(f"temperature {1 / beta:.3g} times", ratio_N, deviation_N)


def _tilted(null: Null) -> Iterator[_Bet]:
    """p^beta, with the most probable token e^tilt times as probable, over the sum."""
    for beta in _TILTED:
        for tilt in _TILTS:
            log_norm_N = _added(null.log_sum(beta), math.expm1(tilt), beta * null.log_top_N)
            log_second_N = _log_second_moment(null, beta)
            if log_second_N is not None:
                log_second_N = _added(log_second_N, math.expm1(2 * tilt), (2 * beta - 1) * null.log_top_N)
                log_second_N -= 2 * log_norm_N
            ratio_N = -beta * null.surprisal_N + tilt * null.is_top_N - log_norm_N - null.log_bound_N
            yield _Bet(f"temperature {1 / beta:.3g} times, top {tilt:+g}", ratio_N, _deviation(log_second_N))


def _added(log_sum_N: np.ndarray, factor: float, log_term_N: np.ndarray) -> np.ndarray:
    """log(e^sum + factor e^term), where the term is a part of the sum."""
    return log_sum_N + np.log1p(factor * np.exp(np.minimum(log_term_N - log_sum_N, 0)))


def _top(null: Null) -> Iterator[_Bet]:
    """The most probable token comes with probability sigmoid(a + b logit p); the others share the rest as under p."""
    top_N = np.clip(np.exp(null.log_top_N), _LEAST, 1 - _LEAST)
    logit_N = np.log(top_N) - np.log1p(-top_N)
    ours_N = -null.surprisal_N - null.log_bound_N  # log p over its bound: what the bound costs
    for slope in _SLOPES:
        for offset in _OFFSETS:
            bet_N = 1 / (1 + np.exp(-(offset + slope * logit_N)))
            ratio_N = np.where(null.is_top_N, np.log(bet_N / top_N), np.log((1 - bet_N) / (1 - top_N)))
            variance_N = (bet_N - top_N) ** 2 / (top_N * (1 - top_N))
            yield _Bet(f"top token by {offset:+g} {slope:g} logit", ratio_N + ours_N, np.sqrt(variance_N))


def _background(null: Null) -> Iterator[_Bet]:
    """Words of nobody: any token alike, and by their frequency so far."""
    yield _Bet("any token", null.log_uniform - null.log_of_token_N, None)
    yield _Bet("unigram", null.log_unigram_N - null.log_of_token_N, None)


def _truncated(null: Null) -> Iterator[_Bet]:
    """p of the tokens that a truncation keeps; no bet where it is not known which these are."""
    for name, (log_mass_N, is_kept_N) in null.kept.items():
        is_known_N = np.isfinite(log_mass_N)
        ratio_N = np.where(is_known_N, np.where(is_kept_N, -log_mass_N, -np.inf), 0.0)
        variance_N = np.where(is_known_N, np.expm1(-np.where(is_known_N, log_mass_N, 0.0)), 0.0)
        yield _Bet(name, ratio_N, np.sqrt(np.maximum(variance_N, 0)))


def _factor(bet: _Bet, part: float, noise: float) -> np.ndarray:
    """Log factor [N] of a bet on this part of the tokens, within the noise budget."""
    ratio_N = np.clip(bet.log_ratio_N, -_MOST, _MOST)
    paid_N: np.ndarray | float = 0.0
    if noise:
        if bet.deviation_N is None:
            ratio_N = ratio_N - noise
        else:
            paid_N = np.log1p(part * np.minimum(noise * bet.deviation_N, math.expm1(noise)))
    if part < 1:
        ratio_N = np.logaddexp(math.log1p(-part), math.log(part) + ratio_N)
    return ratio_N - paid_N
