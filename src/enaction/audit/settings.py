"""What a turn is said to have been sampled from, and how sure a report has to be."""

from __future__ import annotations

import math
from dataclasses import dataclass

from enaction.errors import UserError
from enaction.words import Framing

# A nucleus that is computed in half precision takes in or leaves out tokens near its edge: .031 of probability at most
# was seen in bf16, where log-probabilities were off by .01 to .05 nats.
_EDGE = 0.8
# Every sampler may draw this part of its tokens from the distribution before truncation. Without it a single token at
# the edge would be infinite evidence.
STRAY = 1e-3
STRAY_EXACT = 1e-6


@dataclass(frozen=True)
class Settings:
    """The null of an audit: the sampler's settings, and how far a sampler may be from the reader.

    Attributes:
        temperature, top_p, top_k: how the turns are said to have been sampled.
        noise: budget for the difference between the sampler's and the reader's log-probabilities, nats a token; 0 for
            text that this very reader sampled. See `stats.evidence.bets`.
        alpha: probability at most of a false alarm, by turn.
        framing: how the turns are put before the reader; by default as in `tokens.default_framing`.

    Raises:
        UserError: a value out of range, or temperature 0, which draws nothing.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    noise: float = 0.05
    alpha: float = 0.05
    framing: Framing | None = None

    def __post_init__(self) -> None:
        if self.temperature == 0 or self.top_k == 1:
            raise UserError(
                "greedy text is not sampled, and no test of chance applies to it: sample the same prompts greedily "
                "with this model (enaction sample --temperature 0) and compare the texts"
            )
        if not 0 < self.temperature <= 100:
            raise UserError(f"temperature {self.temperature} is not possible: it has to be above 0 and at most 100")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p {self.top_p} is not possible: it is a probability above 0 and at most 1")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"top_k {self.top_k} is not possible: it is a number of tokens, None to keep all")
        if not 0 <= self.noise <= 1:
            raise UserError(f"noise {self.noise} is not possible: it is a budget in nats a token, 0 to 1")
        if not 0 < self.alpha < 1:
            raise UserError(f"alpha {self.alpha} is not possible: it is a probability between 0 and 1")

    @property
    def log_threshold(self) -> float:
        """The evidence that a report needs, nats."""
        return -math.log(self.alpha)

    @property
    def is_truncated(self) -> bool:
        """Whether the sampler left tokens out."""
        return self.top_p < 1 or self.top_k is not None

    @property
    def stray(self) -> float:
        """Part of tokens that may come from the distribution before truncation."""
        return STRAY if self.noise else STRAY_EXACT

    def nucleus(self, direction: int) -> tuple[int | None, float]:
        """top_k and top_p of the widest (1) or narrowest (-1) truncation that the noise allows."""
        edge = _EDGE * self.noise
        top_p = self.top_p
        if top_p < 1:
            top_p = min(top_p + edge, (1 + top_p) / 2) if direction > 0 else max(top_p - edge, top_p / 2)
        top_k = self.top_k
        if top_k is not None and self.noise:
            room = math.ceil(2 * self.noise * top_k)
            top_k = max(1, top_k + direction * room)
        return top_k, top_p
