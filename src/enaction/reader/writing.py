"""The next token's logits, step by step: what a sampling loop asks of a model.

Which way is taken, a probe decides (`stepping.prove_route`): from the model's cache, from the leaner arithmetic of
`lean` for small models, or by reading the whole sequence again.

Axes: `B` rows of a batch, `T` time, `V` vocabulary.
"""

from __future__ import annotations

import inspect
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from enaction.reader.forward import Forward
from enaction.reader.lean import LeanSteps, lean_steps
from enaction.reader.precision import is_coarse
from enaction.reader.stepping import CACHES, ROUTES, Replay, Route, prove_route


class Steps:
    """A model driven one token at a time. The caller sees to inference mode and dropout.

    Attributes:
        can_be_lean: whether steps are taken by `lean`, as long as its probe agrees.
    """

    def __init__(self, forward: Forward, vocabulary: int) -> None:
        self._forward = forward
        self._vocabulary = vocabulary
        self._cache_name = CACHES[0]
        head = forward.head
        self.can_be_lean = head is not None and lean_steps(head.body) is not None

    def next_logits(
        self, ids_BT: Tensor, mask_BT: Tensor | None, positions_BT: Tensor | None, cache: Any
    ) -> tuple[Tensor, Any]:
        """As `Reader.next_logits`."""
        step = self._cached if self.route.is_cached else self._replayed
        return step(ids_BT, mask_BT, positions_BT, cache)

    @cached_property
    def route(self) -> Route:
        """The fastest way that a probe proved right, determined at first use."""
        route = self._proved()
        if self.can_be_lean and route != ROUTES[0]:
            self.can_be_lean = False
            route = self._proved()
        return route

    def _proved(self) -> Route:
        forward = self._forward
        ids = max(1, self._vocabulary // 2)
        return prove_route(self._cached, forward.whole, ids, forward.device, is_half=is_coarse(forward.model))

    def _cached(
        self, ids_BT: Tensor, mask_BT: Tensor | None, positions_BT: Tensor | None, cache: Any
    ) -> tuple[Tensor, Any]:
        forward, head = self._forward, self._forward.head
        if cache is None and self.can_be_lean and head is not None:
            cache = lean_steps(head.body)
        if head is not None and isinstance(cache, LeanSteps):
            return head.logits(cache.step(ids_BT, mask_BT, positions_BT)[:, -1]), cache
        given = {"attention_mask": mask_BT, "position_ids": positions_BT, self._cache_name: cache}
        if head is None and "logits_to_keep" in inspect.signature(forward.model.forward).parameters:
            given["logits_to_keep"] = 1
        output = forward.run(input_ids=ids_BT, use_cache=True, **given)
        self._cache_name = next((name for name in CACHES if getattr(output, name, None) is not None), CACHES[0])
        return forward.logits(output, -1), getattr(output, self._cache_name, None)

    def _replayed(
        self, ids_BT: Tensor, mask_BT: Tensor | None, positions_BT: Tensor | None, cache: Replay | None
    ) -> tuple[Tensor, Replay]:
        replay = Replay(ids_BT if cache is None else torch.cat([cache.ids, ids_BT], 1))
        return self._forward.logits(self._forward.run(input_ids=replay.ids, use_cache=False), -1), replay
