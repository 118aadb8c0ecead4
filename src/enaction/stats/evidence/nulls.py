"""The null: what a sampler at stated settings draws from, and what is known of it at each token."""

# ruff: noqa: N815  # fields carry their axes, by the house convention
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

# Exponents at which log sums of p^beta are known. Those of the bets are exact; between two the sum is
# bounded by the chord, since its logarithm is convex in beta, which is enough for the spread of a bet.
BETAS = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 3.0)


@dataclass(frozen=True)
class Null:
    """The distribution p of each token of one turn, and the token that came; in nats, float64.

    Where samplers may differ a little in which tokens they keep (`slack_N`), p stands for all of them: `log_bound_N` is
    at least the log-probability that any of them gives.

    Attributes:
        surprisal_N: of the token under p; inf where truncation leaves it out.
        entropy_N, varentropy_N: of p.
        log_sums_NB: log of the sum of p^beta over the vocabulary, at BETAS.
        log_top_N: log-probability of the most probable token.
        is_top_N: whether it is the one that came; of tied ones a single one counts.
        log_bound_N: greatest log-probability of the token among the samplers that the null allows.
        log_full_N: log-probability before truncation; None if the null has none.
        kept: by a name such as `top-p .9`: log of the mass that this truncation would keep [N], NaN where it is not
            known, and whether the token is kept [N].
        log_unigram_N: log-probability of the token by its frequency in the text before it.
        log_token_N: greatest log-probability of the token itself, where p is not of tokens but of cells (a server's
            likeliest tokens, and all others together); None where it is `log_bound_N`.
        tokens: number of tokens, where p is of cells.
        others: by name: log-probability of the token under another distribution that is fixed before the token.
        common: by some of these names: log of what the other distribution gives to the token's cell over what p gives
            [N], and its standard deviation under p [N]; see `cells`.
        vocabulary: number of tokens, or of cells.
    """

    surprisal_N: np.ndarray
    entropy_N: np.ndarray
    varentropy_N: np.ndarray
    log_sums_NB: np.ndarray
    log_top_N: np.ndarray
    is_top_N: np.ndarray
    log_bound_N: np.ndarray
    log_unigram_N: np.ndarray
    vocabulary: int
    log_full_N: np.ndarray | None = None
    log_token_N: np.ndarray | None = None
    tokens: int | None = None
    kept: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    others: Mapping[str, np.ndarray] = field(default_factory=dict)
    common: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.surprisal_N)

    @property
    def log_of_token_N(self) -> np.ndarray:  # noqa: N802  # carries its axis, by the house convention
        """Greatest log-probability of the token that came [N]."""
        return self.log_bound_N if self.log_token_N is None else self.log_token_N

    @property
    def log_uniform(self) -> float:
        """Log-probability of any one token if all are alike."""
        return -math.log(self.tokens or self.vocabulary)

    def log_sum(self, beta: float) -> np.ndarray:
        """Log of the sum of p^beta [N], or a bound above it.

        Raises:
            ValueError: beyond the exponents that are known.
        """
        if beta == 0:
            return np.full(len(self), math.log(self.vocabulary))
        if beta in BETAS:
            return self.log_sums_NB[:, BETAS.index(beta)]
        if not BETAS[0] <= beta <= BETAS[-1]:
            raise ValueError(f"sums of p^{beta} are not known: exponents from {BETAS[0]} to {BETAS[-1]} are")
        above = next(i for i, known in enumerate(BETAS) if known > beta)
        share = (beta - BETAS[above - 1]) / (BETAS[above] - BETAS[above - 1])
        return (1 - share) * self.log_sums_NB[:, above - 1] + share * self.log_sums_NB[:, above]


def smallest_temperatures(varentropy_sum: float, log_threshold: float) -> tuple[float, float] | None:
    """The temperatures, relative to the stated one, nearest to 1 that a text with so much information would show.

    At temperature 1/beta the evidence of a text grows by half (beta - 1)^2 times its summed varentropy, to second
    order (the summed varentropy is the Fisher information about beta). Returned are the greatest temperature below 1
    and the smallest above 1 at which that reaches the threshold; None where no temperature below or above would.

    Args:
        varentropy_sum: over the tokens of the text, nats^2.
        log_threshold: the evidence that is needed, nats; what a mixture pays for its many bets included.
    """
    if varentropy_sum <= 0:
        return None
    off = math.sqrt(2 * log_threshold / varentropy_sum)
    return (1 / (1 + off), 1 / (1 - off)) if off < 1 else None
