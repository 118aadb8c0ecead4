"""One token at a time: how a model is driven in a sampling loop, and the probe that proves it.

A cache is where sampling goes wrong without a word: positions that count from somewhere else (RoBERTa), a state that
left padding runs through (Mamba), a cache that is returned and not used, or that loses track when rows leave the
batch. So no model is trusted by its signature. The first time that one is sampled, a short text is fed to it token by
token in each way, the fastest first, and the logits are compared with those of the whole text read at once. What
agrees is used. A model without a usable cache reads its whole sequence again at each step: slow, and exact.

Axes: `B` rows of a batch, `T` time, `V` vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# What transformers calls what a forward returns to go on from: attention, Mamba, RWKV.
CACHES = ("past_key_values", "cache_params", "state")
# Largest deviation from the whole text read at once, relative to the largest logit. Caches change the order of sums,
# and half precision shows it. A wrong cache is off by as much as the logits are large; a single-step formula that is
# not quite that of the whole (Zamba 2 and Nemotron-H in transformers 5.23) by some 1e-4, which is let pass: the
# log-probabilities that are recorded are those drawn from, and reading every text anew for it would cost far more.
TOLERANCE = 1e-3
HALF_TOLERANCE = 5e-2

Step = Callable[[Tensor, Tensor | None, Tensor | None, Any], tuple[Tensor, Any]]


@dataclass(frozen=True)
class Route:
    """How a model can be sampled from.

    Attributes:
        is_cached: it continues from a cache; if not, it reads its whole sequence again for each token.
        is_padded: prompts of unlike length can share a batch, padded on the left.
        drops_rows: finished rows can leave the cache.
    """

    is_cached: bool
    is_padded: bool
    drops_rows: bool


# Fastest first. Reading anew needs no proof: it is what the others are compared with.
ROUTES = (
    Route(is_cached=True, is_padded=True, drops_rows=True),
    Route(is_cached=True, is_padded=False, drops_rows=True),
    Route(is_cached=True, is_padded=True, drops_rows=False),
    Route(is_cached=True, is_padded=False, drops_rows=False),
)
REPLAYED = Route(is_cached=False, is_padded=False, drops_rows=True)


@dataclass
class Replay:
    """Stands in for a cache: the tokens so far [B, T], read from the start at each step."""

    ids: Tensor

    def batch_select_indices(self, index_B: Tensor) -> None:
        """Keep these rows, as the caches of transformers do."""
        self.ids = self.ids[index_B]


def accepted(module: nn.Module, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments that a module's forward declares, or all if it takes any; None is not passed."""
    parameters = inspect.signature(module.forward).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    return {name: value for name, value in given.items() if value is not None and (takes_any or name in parameters)}


def keep_rows(cache: Any, index_B: Tensor) -> None:
    """Keep these rows of a cache. The layers of a model may lie on several devices, and a tensor on any of them takes
    an index on the CPU."""
    cache.batch_select_indices(index_B.cpu())


def can_drop_rows(cache: Any) -> bool:
    """Whether rows can be taken out of a cache (transformers' caches have layers; not each kind can)."""
    return hasattr(cache, "batch_select_indices") and all(
        hasattr(layer, "batch_select_indices") for layer in getattr(cache, "layers", ())
    )


def prove_route(
    step: Step, whole: Callable[[Tensor], Tensor], vocabulary: int, device: torch.device, *, is_half: bool
) -> Route:
    """The fastest route that gives what reading the whole text at once gives.

    Args:
        step: float32 logits [B, V] after the last token, and the cache: new ids, mask, positions, cache.
        whole: float32 logits [T, V] of one text of ids [1, T].
        vocabulary: ids below this are used.
        device: where the model is.
        is_half: the model runs in half precision.
    """
    generator = torch.Generator().manual_seed(1)
    texts = [torch.randint(vocabulary, (length,), generator=generator).to(device) for length in (12, 10, 9)]
    expected = [whole(text[None]) for text in texts]
    for route in ROUTES:
        try:
            error = _worst(step, texts, expected, route, is_half)
        except Exception:  # whatever a model sets off on input that it does not take; the next route asks less of it
            continue
        if error <= (HALF_TOLERANCE if is_half else TOLERANCE):
            return route
    return REPLAYED


def _worst(step: Step, texts: list[Tensor], expected: list[Tensor], route: Route, is_half: bool) -> float:
    """Largest relative deviation over rows and steps, one row leaving on the way if the route allows it.

    In half precision the worst quarter is left out: a router of a mixture of experts may choose otherwise there.
    """
    steps, device = 6, texts[0].device
    prompts = [len(text) - steps if route.is_padded else min(map(len, texts)) - steps for text in texts]
    longest = max(prompts)
    rows = torch.arange(len(texts), device=device)
    mask_BT = torch.tensor([[0] * (longest - n) + [1] * (n + steps) for n in prompts], device=device)
    new_BT = torch.zeros((len(texts), longest), dtype=torch.long, device=device)
    for row, (text, n) in enumerate(zip(texts, prompts, strict=True)):
        new_BT[row, longest - n :] = text[:n]
    positions_BT = (mask_BT[:, :longest].cumsum(1) - 1).clamp(min=0)
    cache, errors = None, []
    for i in range(steps + 1):
        mask, positions = (mask_BT[rows, : longest + i], positions_BT) if route.is_padded else (None, None)
        logits_BV, cache = step(new_BT, mask, positions, cache)
        for logits_V, row in zip(logits_BV, rows.tolist(), strict=True):
            errors.append(deviation(logits_V, expected[row][prompts[row] + i - 1]))
        if route.drops_rows and i == 1:
            if not can_drop_rows(cache):
                return float("inf")
            rows = torch.tensor([0, 2], device=device)
            keep_rows(cache, rows)
        if i < steps:
            new_BT = torch.stack([texts[row][prompts[row] + i] for row in rows.tolist()])[:, None]
            positions_BT = torch.tensor([[prompts[row] + i] for row in rows.tolist()], device=device)
    ordered = sorted(errors)
    return ordered[3 * len(ordered) // 4] if is_half else ordered[-1]


def deviation(logits: Tensor, own: Tensor) -> float:
    """Largest difference of logits from the model's own, relative to the largest of these; inf if one has a NaN or
    an infinity where the other has none."""
    finite, logits = own.isfinite(), logits.to(own.device)
    if logits.shape != own.shape or not torch.equal(finite, logits.isfinite()) or not finite.any():
        return float("inf")
    return float((logits - own)[finite].abs().max() / own[finite].abs().max().clamp_min(1e-6))
