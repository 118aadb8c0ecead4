"""The instrument's own alarm: on its own text a reader is on average exactly as surprised as it expected to be.

If token t was drawn at temperature 1 from the full distribution that predicted it, then E[s_t - H_t | past] = 0 and
Var[s_t - H_t | past] = V_t, so the sum of s - H is a martingale with predictable variance sum V, and the standardised
sum is close to a standard normal whatever the model. A value far out means that the text was not sampled from what now
reads it: a wrong template, another tokenisation, temperature, truncation of the distribution, or a corrupt cache.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

IDENTITY_LIMIT = 4.0  # |standardised| beyond this is an alarm: 6e-5 by chance
# Rounding of float32 statistics, nats per token: smaller residuals are taken for zero where there is no variance.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class IdentityResidual:
    """Outcome of the identity check on one cell.

    standardised: sum(s - H) / sqrt(sum V), about N(0, 1) on own text at temperature 1.
    mean, standard_error: of s - H per token, nats.
    n_tokens: how many tokens entered.
    """

    standardised: float
    mean: float
    standard_error: float
    n_tokens: int

    @property
    def is_alarming(self) -> bool:
        return not abs(self.standardised) <= IDENTITY_LIMIT


def identity_residual(surprisal: ArrayLike, entropy: ArrayLike, varentropy: ArrayLike) -> IdentityResidual:
    """Standardised mean of s - H over a reader's own text sampled at temperature 1.

    Give ALL tokens that were drawn, the end-of-turn rows included: leaving those out would select on the outcome of the
    draw, and the expectation would no longer be zero.

    Args:
        surprisal: [N] nats; infinite where the token was impossible, which makes the residual infinite.
        entropy: [N] nats.
        varentropy: [N] nats^2.

    Returns:
        The residual. Without any variance (every distribution uniform or certain) the standardised value is 0 if
        surprisal equals entropy up to rounding, and infinite otherwise.

    Raises:
        ValueError: no tokens, shapes differ, NaN anywhere, or an entropy or varentropy infinite or negative.
    """
    surprisal, entropy, varentropy = (np.asarray(a, dtype=np.float64) for a in (surprisal, entropy, varentropy))
    if surprisal.ndim != 1 or not surprisal.shape == entropy.shape == varentropy.shape:
        raise ValueError(
            f"surprisal {surprisal.shape}, entropy {entropy.shape} and varentropy {varentropy.shape} must be 1-d and "
            "of one length: a row a token"
        )
    if surprisal.size == 0:
        raise ValueError("no tokens: the identity residual needs at least one sampled token")
    if np.isnan(surprisal).any() or not (np.isfinite(entropy).all() and np.isfinite(varentropy).all()):
        raise ValueError("a surprisal is NaN, or an entropy or varentropy is not finite; the scoring went wrong")
    if min(surprisal.min(), entropy.min(), varentropy.min()) < -_ROUNDING:
        raise ValueError("a surprisal, entropy or varentropy is negative; the scoring went wrong")

    n_tokens = surprisal.size
    total = float((surprisal - entropy).sum())
    spread = math.sqrt(max(float(varentropy.sum()), 0.0))
    if spread > 0:
        standardised = total / spread
    else:
        standardised = 0.0 if abs(total) <= _ROUNDING * n_tokens else math.copysign(math.inf, total)
    return IdentityResidual(standardised, total / n_tokens, spread / n_tokens, n_tokens)
