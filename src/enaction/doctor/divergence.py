"""How far two columns of log-probabilities of the same tokens are apart, and what evidence that is.

q is the sampler's number and p the trainer's (or a model's); the tokens were drawn by the sampler, so that means over
them are means under q. With d = log q - log p:

- KL(q || p) is the mean of d, and, with less variance and never negative, that of exp(-d) - 1 + d (Schulman's k3).
- `matches` is an e-value against "the tokens come from q, and q and p are one up to noise": chi2(q_t || p_t) <= c^2 at
  every token t given what precedes it. Then E_q[q/p] = 1 + chi2 <= 1 + c^2, so that the product of (q/p) / (1 + c^2)
  is a supermartingale under that null, exactly.
- `reported` is an e-value against "the tokens come from the reported q": from a distribution q' with log q = log q' +
  noise, the noise independent of which token comes and E exp(-noise) <= 1 + c^2 (as Gaussian noise of spread c has).
  Then E[p/q] <= 1 + c^2 whatever p is, as long as it sums to one and was fixed before the token. It is what finds
  numbers of another distribution than was drawn from, such as raw ones.

Each is an average over bets of a part of the capital, prod(1 - b + b r / (1 + c^2)), in the order of the file; it may
be looked at any time, and reaches 1/alpha with chance at most alpha. A gap within the budget is never found, by design:
c = .05 costs .0025 nats a token, which is why a temperature of .9 (KL .002) is named by its residual and not by these.

Axes: N tokens, C clusters, B resamples. In nats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from enaction.stats.resampling import Estimate, bootstrap_estimate, cluster_weights

# A token whose ratio lies outside would be clipped by most trainers, or is counted by their metrics.
RATIO_BAND = (0.9, 1.1)
_BETS = (0.03, 0.1, 0.3, 1.0)
_RESAMPLES = 2000
_SEED = 0


@dataclass(frozen=True)
class EValue:
    """Evidence against a null that may be looked at after every token.

    Attributes:
        log10: at the end of the file.
        log10_max: the largest on the way.
        crossed: number of the token, from 1, after which it was first at 1/level; None if it never was.
    """

    log10: float
    log10_max: float
    crossed: int | None


@dataclass(frozen=True)
class Divergence:
    """How far q and p are apart on the tokens that have both.

    Attributes:
        n_tokens, n_clusters: that were compared.
        kl: mean of log q - log p, with a 95 % bootstrap interval by cluster; no interval from one cluster.
        k3: mean of p/q - 1 - log(p/q), likewise.
        sd: standard deviation of log q - log p.
        p95, largest: of its absolute value.
        outside: share of ratios p/q outside `RATIO_BAND`.
        mean_ratio: mean of p/q; 1 if both are one distribution, the kept mass if p knows nothing of q's truncation.
        effective: share of the tokens that is left after weighting with p/q, (sum r)^2 / (n sum r^2).
        matches, reported: the two e-values.
    """

    n_tokens: int
    n_clusters: int
    kl: Estimate
    k3: Estimate
    sd: float
    p95: float
    largest: float
    outside: float
    mean_ratio: float
    effective: float
    matches: EValue
    reported: EValue


def divergence(
    q_N: np.ndarray, p_N: np.ndarray, cluster_N: np.ndarray, noise: float, level: float
) -> Divergence | None:
    """Compare two columns on the tokens that have both; None if none has.

    Args:
        q_N: log-probabilities of the sampler; NaN where they do not count.
        p_N: those of the trainer or a model.
        cluster_N: number of what is resampled together.
        noise: the budget c.
        level: 1/level is what an e-value has to reach.
    """
    both_N = np.isfinite(q_N) & np.isfinite(p_N)
    if not both_N.any():
        return None
    d_N = (q_N - p_N)[both_N]
    ratio_N = np.exp(np.clip(-d_N, -50, 50))
    members, number_N = np.unique(cluster_N[both_N], return_inverse=True)
    weights_BC = cluster_weights(len(members), _RESAMPLES, np.random.default_rng(_SEED))
    low, high = RATIO_BAND
    return Divergence(
        n_tokens=len(d_N),
        n_clusters=len(members),
        kl=_mean(d_N, number_N, weights_BC),
        k3=_mean(ratio_N - 1 + d_N, number_N, weights_BC),
        sd=float(d_N.std()),
        p95=float(np.quantile(np.abs(d_N), 0.95)),
        largest=float(np.abs(d_N).max()),
        outside=float(((ratio_N < low) | (ratio_N > high)).mean()),
        mean_ratio=float(ratio_N.mean()),
        effective=float(ratio_N.sum() ** 2 / (len(ratio_N) * (ratio_N**2).sum())),
        matches=e_value(d_N, noise, level),
        reported=e_value(-d_N, noise, level),
    )


def e_value(log_ratio_N: np.ndarray, noise: float, level: float) -> EValue:
    """Evidence of tokens whose ratio has expectation at most 1 + noise^2 under the null, in their order."""
    log_r_N = log_ratio_N - math.log1p(noise**2)
    paths = [_log_capital(log_r_N, bet) for bet in _BETS]
    log_E_N = np.logaddexp.reduce(paths, axis=0) - math.log(len(_BETS))
    over_N = log_E_N >= -math.log(level)
    crossed = int(over_N.argmax()) + 1 if over_N.any() else None
    return EValue(float(log_E_N[-1]) / math.log(10), float(log_E_N.max()) / math.log(10), crossed)


def _log_capital(log_r_N: np.ndarray, bet: float) -> np.ndarray:
    """Logarithm of prod(1 - bet + bet r) after each token."""
    if bet == 1:
        return np.cumsum(log_r_N)
    return np.cumsum(np.logaddexp(math.log1p(-bet), math.log(bet) + log_r_N))


def _mean(value_N: np.ndarray, number_N: np.ndarray, weights_BC: np.ndarray) -> Estimate:
    """Mean over tokens with its bootstrap interval by cluster, each of which counts by its tokens."""
    count_C = np.bincount(number_N)
    mean_C = np.bincount(number_N, value_N) / count_C
    if len(count_C) < 2:
        mean = np.asarray(value_N.mean())
        return Estimate(mean, np.asarray(np.nan), np.asarray(np.nan))
    return bootstrap_estimate(mean_C, weights_BC, size_P=count_C)
