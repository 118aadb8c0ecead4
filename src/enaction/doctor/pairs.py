"""Sampler and trainer beside each other, without a model.

Axes: N tokens. In nats.
"""

from __future__ import annotations

import math

import numpy as np

from enaction.doctor.divergence import Divergence
from enaction.doctor.faults import Fault
from enaction.doctor.naming import LEAST_TOKENS, Named, limit_of


def gap(named: Named, apart: Divergence, d_N: np.ndarray, top_p: float, noise: float) -> Fault | None:
    """A gap between the columns that no algebra explains, and what it looks like.

    Args:
        named: what explains one column by the other.
        apart: how far they are apart.
        d_N: the sampler's numbers less the trainer's.
        top_p: of the sampler.
        noise: budget, nats a token.
    """
    limit = limit_of(noise)
    if named.outcome == "fault":
        return None
    if top_p < 1 and _looks_cut(d_N, top_p, noise):
        return Fault(
            "truncation not accounted for",
            "trainer",
            f"the sampler's numbers lie above the trainer's, by at most log 1/{top_p:g}, "
            f"as the kept probability of this top-p makes them: the mean ratio p/q is {apart.mean_ratio:.3f}",
            "renormalise over the kept tokens (vLLM can return them), or sample with top-p 1",
            f"{apart.n_tokens} tokens",
        )
    crossed = [name for name, e in (("q/p", apart.matches), ("p/q", apart.reported)) if e.crossed]
    if named.outcome == "other" or crossed:
        whose = ""
        if apart.reported.crossed and not apart.matches.crossed:
            whose = ", and the tokens were drawn from the trainer's distribution rather than the sampler's"
        log10 = max(apart.matches.log10_max, apart.reported.log10_max)
        evidence = f"log10 e = {log10:.1f}" if crossed else f"{named.best.rms:.2f} nats, and noise makes {limit:.2f}"
        return Fault(
            "gap beyond noise",
            "both",
            f"sampler and trainer differ by more than a noise of {noise:g} makes ({evidence}){whose}; two "
            "columns alone do not tell why",
            "give --model: temperature, truncation, template and weights are told apart by its readings",
            f"{apart.n_tokens} tokens",
        )
    return None


def _looks_cut(d_N: np.ndarray, top_p: float, noise: float) -> bool:
    """Whether log q - log p lies between 0 and the log of what truncation keeps at least, and above 0 on average."""
    if len(d_N) < LEAST_TOKENS:
        return False
    # Each of the two columns has the noise.
    room = 3 * math.sqrt(2) * noise
    inside = float(((d_N > -room) & (d_N < -math.log(top_p) + room)).mean())
    above = float(d_N.mean()) > max(0.5 * noise, 4 * noise / math.sqrt(len(d_N)))
    return inside > 0.99 and above
