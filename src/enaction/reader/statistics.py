"""What is asked of a reader, and what it answers: statistics of the token that came, under the distribution before it.

The four of every token table are always there: surprisal, entropy, varentropy, rank. A `Wanted` asks for more. How
they are computed is in `streaming` and `truncated`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from enaction.errors import UserError


@dataclass(frozen=True)
class Wanted:
    """Statistics beyond the four that are always there. What is not asked for costs nothing.

    Attributes:
        betas: exponents of `power_sums`, above 0. Multiples of 1/4 from 1/2 up share one exponential and are cheap.
        likeliest: how many most probable tokens are listed.
        temperature, top_k, top_p: how the author sampled; any but the defaults asks for the `sampled_` statistics.
            top_p goes by the tempered distribution that top_k left, as in transformers and vLLM.
        inner_top_k, inner_top_p: a narrower truncation at the same temperature, of which the kept mass is wanted.

    Raises:
        UserError: a value out of range.
    """

    betas: tuple[float, ...] = ()
    likeliest: int = 0
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    inner_top_k: int | None = None
    inner_top_p: float = 1.0

    def __post_init__(self) -> None:
        if not all(0 < beta < math.inf for beta in self.betas):
            raise UserError(f"betas {self.betas} are not possible: each is an exponent above 0")
        if self.likeliest < 0:
            raise UserError(f"likeliest {self.likeliest} is not possible: it is a number of tokens, 0 for none")
        if not 0 < self.temperature < math.inf:
            raise UserError(f"temperature {self.temperature} is not possible: it has to be above 0")
        for top_k in (self.top_k, self.inner_top_k):
            if top_k is not None and top_k < 1:
                raise UserError(f"top_k {top_k} is not possible: it is a number of tokens, None to keep all")
        for top_p in (self.top_p, self.inner_top_p):
            if not 0 < top_p <= 1:
                raise UserError(f"top_p {top_p} is not possible: it is a probability above 0 and at most 1")

    @property
    def is_truncated(self) -> bool:
        """Whether the author's sampling left tokens out, so that the statistics need the order of whole rows."""
        return self.top_k is not None or self.top_p < 1

    @property
    def has_inner(self) -> bool:
        """Whether the kept mass of a narrower truncation is wanted."""
        return self.inner_top_k is not None or self.inner_top_p < 1


@dataclass(frozen=True)
class TokenStats:
    """Statistics of the measured tokens of one passage, in their order; element i describes ONE prediction.

    The first four are always there, `top_probability` with any `Wanted`, and the rest where it asks for them.

    Attributes:
        surprisal: float32 [N], -log p of the token that came, nats.
        entropy: float32 [N], entropy of the distribution that predicted it, full vocabulary, nats.
        varentropy: float32 [N], variance of -log p under that distribution, nats^2.
        rank: int32 [N], number of vocabulary entries with a strictly larger logit; 0 is the most probable token.
        top_probability: float32 [N], of the most probable token.
        power_sums: float32 [N, betas], log of the sum of p^beta over the vocabulary; p^beta divided by that sum is the
            distribution at temperature 1/beta.
        likeliest_ids: int32 [N, likeliest], the most probable tokens, most probable first, ties in no order; fewer
            where the vocabulary is smaller.
        likeliest_logprobs: float32 [N, likeliest], their log p.
        tail_mass: float32 [N], probability of all other tokens, to about 1e-7.
        sampled_surprisal: float32 [N], surprisal of the token under the tempered, truncated and renormalised
            distribution that was drawn from; inf where truncation leaves the token out.
        sampled_entropy, sampled_varentropy: float32 [N], of that distribution.
        kept_mass: float32 [N], probability that truncation keeps of the tempered distribution; 1 without truncation.
        inner_mass: float32 [N], the same of the narrower truncation; where it is wanted.
        tempered_surprisal: float32 [N], surprisal of the token under the tempered distribution before truncation; only
            with truncation, as are the next.
        sampled_top_probability: float32 [N], of the most probable token, in the distribution that was drawn from.
        sampled_power_sums: float32 [N, betas], `power_sums` of that distribution.
    """

    surprisal: np.ndarray
    entropy: np.ndarray
    varentropy: np.ndarray
    rank: np.ndarray
    top_probability: np.ndarray | None = None
    power_sums: np.ndarray | None = None
    likeliest_ids: np.ndarray | None = None
    likeliest_logprobs: np.ndarray | None = None
    tail_mass: np.ndarray | None = None
    sampled_surprisal: np.ndarray | None = None
    sampled_entropy: np.ndarray | None = None
    sampled_varentropy: np.ndarray | None = None
    kept_mass: np.ndarray | None = None
    inner_mass: np.ndarray | None = None
    tempered_surprisal: np.ndarray | None = None
    sampled_top_probability: np.ndarray | None = None
    sampled_power_sums: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.surprisal)
