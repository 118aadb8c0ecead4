"""What a reader makes of texts when nobody intervenes: the tokens that surprise can act on, and the states behind them.

A token x_t counts if it has a predecessor in the response and is not the end of the turn. Its surprisal s_t and the
entropy H_t of the distribution that it was drawn against were there before it; H_{t+1} is the first entropy that it can
act on, computed at its own position.

Axes: N token, M passage, C channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from enaction.framing import Framed
from enaction.reader.interventions import Capture, Spot, Treated


@dataclass(frozen=True)
class Clean:
    """Tokens of several passages, passage after passage, each [N], and the states at them.

    framed, is_own_M, prompt_M: the passages. passage: index of the token's passage. position: of the token in the
    passage's ids. surprisal, entropy, next_entropy: s_t, H_t, H_{t+1}, nats. token, previous: ids. states: residual
    layer -> [N, C].
    """

    framed: tuple[Framed, ...]
    is_own_M: np.ndarray  # noqa: N815  # axes, by the house convention
    prompt_M: np.ndarray  # noqa: N815
    passage: np.ndarray
    position: np.ndarray
    surprisal: np.ndarray
    entropy: np.ndarray
    next_entropy: np.ndarray
    token: np.ndarray
    previous: np.ndarray
    states: dict[int, np.ndarray]

    @property
    def prompt(self) -> np.ndarray:
        """[N] code of the token's prompt."""
        return self.prompt_M[self.passage]

    @property
    def is_own(self) -> np.ndarray:
        """[N] whether the reader wrote the token's passage."""
        return self.is_own_M[self.passage]

    def of(self, keep_M: np.ndarray) -> Clean:
        """Some of the passages."""
        index = np.flatnonzero(keep_M)
        keep = keep_M[self.passage]
        renumbered = np.cumsum(keep_M) - 1
        return replace(
            self,
            framed=tuple(self.framed[i] for i in index),
            is_own_M=self.is_own_M[index],
            prompt_M=self.prompt_M[index],
            passage=renumbered[self.passage[keep]],
            position=self.position[keep],
            surprisal=self.surprisal[keep],
            entropy=self.entropy[keep],
            next_entropy=self.next_entropy[keep],
            token=self.token[keep],
            previous=self.previous[keep],
            states={layer: state[keep] for layer, state in self.states.items()},
        )

    def where(self, keep_N: np.ndarray | None = None) -> list[np.ndarray]:
        """Positions of the tokens of each passage, of all or of some."""
        keep = np.ones(len(self.passage), bool) if keep_N is None else keep_N
        bounds = np.searchsorted(self.passage[keep], np.arange(1, len(self.framed)))
        return np.split(self.position[keep], bounds)

    def running(self, half_life: float) -> np.ndarray:
        """[N] exponential mean of the surprisals of a response up to each token, nats, weights that halve."""
        decay = 0.5 ** (1 / half_life)
        means, total, weight = np.empty(len(self.passage)), 0.0, 0.0
        for i, s in enumerate(self.surprisal):
            if i == 0 or self.passage[i] != self.passage[i - 1]:
                total, weight = 0.0, 0.0
            total, weight = decay * total + s, decay * weight + 1
            means[i] = total / weight
        return means


def clean(treated: Treated, is_own_M: Sequence[bool], prompt_M: Sequence[int], layers: Sequence[int]) -> Clean:
    """Read passages and keep the states at these residual layers.

    Args:
        treated: the passages before the reader.
        is_own_M: whether the reader wrote each.
        prompt_M: code of the prompt of each.
        layers: of the residual stream.
    """
    framed = treated.framed
    where = [np.arange(f.start + 1, max(f.start + 1, f.stop - 1)) for f in framed]
    captures = [Capture(Spot(layer), where) for layer in layers]
    treatment = treated.read(captures=captures)

    def column(of: str, shift: int) -> np.ndarray:
        parts = [
            getattr(score, of)[at - f.start + shift]
            for score, at, f in zip(treatment.scores, where, framed, strict=True)
        ]
        return np.concatenate([*parts, np.zeros(0)]).astype(np.float64)

    ids = [np.asarray(f.ids) for f in framed]
    return Clean(
        framed=framed,
        is_own_M=np.asarray(is_own_M, bool),
        prompt_M=np.asarray(prompt_M),
        passage=np.repeat(np.arange(len(framed)), [len(at) for at in where]),
        position=np.concatenate([*where, np.zeros(0, int)]),
        surprisal=column("surprisal", 0),
        entropy=column("entropy", 0),
        next_entropy=column("entropy", 1),
        token=np.concatenate([i[at] for i, at in zip(ids, where, strict=True)]),
        previous=np.concatenate([i[at - 1] for i, at in zip(ids, where, strict=True)]),
        states={
            layer: np.concatenate([part for part in treatment.captured[c] if len(part)])
            for layer, c in zip(layers, captures, strict=True)
        },
    )
