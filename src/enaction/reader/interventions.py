"""Interventions: capture and change what a model holds at named layers and positions while it reads.

Residual streams, keys and values are captured or changed by hooks at the blocks of the model itself. A change is an
`Edit`: it adds a vector, or sets the state (or its coordinates in a subspace) to a value, at positions that are named
for each passage. With it come adding a direction, moving to a centroid, clamping, projecting out, ablating, and
patching keys and values from another run. An edit of strength 0 changes no bit.

Layers below the lowest spot of a pass give what they gave before, so they are not run again: the states of the pass
before are handed on (`Treated`).

Positions are those of the token that is fed: the state at position t is the one that predicts token t + 1. Keys and
values are those of the projections, before rotation, so that a direction means the same at every position; overwriting
them at the same positions is overwriting the cache. In sliding-window attention a position is seen as long as the
window holds it, as in any other pass; `overwrite_cache` refuses positions that are gone.

Axes: `B` batch, `T` time, `N` positions that are edited or captured, `C` channels of the spot, `r` of a subspace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from enaction.errors import ModelError, UserError
from enaction.framing import Framed
from enaction.reader.batching import batches, pace_of
from enaction.reader.blocks import blocks
from enaction.reader.hooking import Capture, Edit, Placed, Spot, below_not_run, hooked, keeping
from enaction.reader.measuring import cut, measure, nothing_measured
from enaction.reader.reader import Reader
from enaction.reader.statistics import TokenStats, Wanted

__all__ = ["Capture", "Edit", "Spot", "Treated", "Treatment", "intervening", "layers", "overwrite_cache"]

# States that are kept for the next pass may take this much.
KEPT_BYTES = 2**30


@dataclass(frozen=True)
class Treatment:
    """What a pass gave.

    Attributes:
        scores: of each passage, in the order given.
        captured: for each capture, of each passage float32 [its positions, C].
    """

    scores: list[TokenStats]
    captured: Mapping[Capture, list[np.ndarray]]


def layers(reader: Reader) -> int:
    """Number of blocks.

    Raises:
        ModelError: the model has no stack of blocks.
    """
    return len(_stack(reader))


class Treated:
    """Passages that one reader reads many times, each time under other interventions.

    Attributes:
        reader: who reads.
        framed: what is read.
    """

    def __init__(self, reader: Reader, framed: Sequence[Framed], *, token_budget: int | None = None) -> None:
        """Plan the batches.

        Args:
            reader: who reads.
            framed: passages as `enaction.framing.frame` returns them.
            token_budget: tokens in a batch, padding included; by default what suits the device.

        Raises:
            FramingError: a passage is longer than the model's context, or holds ids that it does not have.
            ModelError: the model rotates long texts otherwise, or has no stack of blocks.
        """
        for passage in framed:
            reader.check_fits(passage)
        if reader.rotary_switches and max((f.stop for f in framed), default=0) > min(reader.rotary_switches):
            raise ModelError(
                f"{reader.name} rotates texts of more than {min(reader.rotary_switches)} tokens otherwise: "
                "interventions take shorter ones"
            )
        self.reader, self.framed = reader, tuple(framed)
        self._stack = _stack(reader)
        pace = pace_of(reader.device.type)
        fed = [i for i, f in enumerate(framed) if f.stop > 1]
        self._batches = list(batches(framed, fed, token_budget or pace.token_budget, 0, pace.batch_cost))
        # Clean states at one layer, a tensor [B, T, D] a batch, from which the next pass can start.
        self._start, self._states = 0, dict[int, Tensor]()

    def read(
        self,
        edits: Sequence[Edit] = (),
        captures: Sequence[Capture] = (),
        *,
        wanted: Wanted | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Treatment:
        """Read all passages under these edits.

        Args:
            edits: made in their order where several are at one spot.
            captures: what is kept.
            wanted: statistics beyond surprisal, entropy, varentropy and rank.
            progress: called after each batch with the number of passages done and their total.

        Raises:
            UserError: a spot that the model does not have, a position that is not fed, or a value of another shape.
            ModelError: keys and values of this architecture are not known.
        """
        start = _lowest(self.reader, self._stack, [item.spot for item in (*edits, *captures)])
        may_skip = bool(self._states) and start >= self._start
        scores = [nothing_measured(self.reader.vocabulary_size, wanted)] * len(self.framed)
        kept: dict[Capture, list[np.ndarray]] = {
            capture: [np.zeros((0, 0), np.float32)] * len(self.framed) for capture in captures
        }
        with self.reader.reading(), ExitStack() as stack:
            hooks = stack.enter_context(hooked(self.reader, self._stack, [e.spot for e in (*edits, *captures)]))
            below = stack.enter_context(below_not_run(self._stack, self._start)) if may_skip else None
            kept_states = None if may_skip else stack.enter_context(keeping(self._stack, start))
            done = 0
            for number, batch in enumerate(self._batches):
                if below is not None:
                    below.state = self._states[number]
                hooks.states = [Placed.edit(edit, self.framed, batch, self.reader) for edit in edits]
                hooks.states += [Placed.capture(capture, self.framed, batch, self.reader) for capture in captures]
                for index, stats in zip(batch, self._read(batch, wanted), strict=True):
                    scores[index] = stats
                for placed in hooks.states:
                    if placed.taken is not None and isinstance(placed.of, Capture):
                        parts = np.split(placed.taken, np.cumsum(placed.lengths)[:-1])
                        for index, part in zip(batch, parts, strict=True):
                            kept[placed.of][index] = part
                if kept_states is not None and kept_states.state is not None:
                    self._keep(number, start, kept_states.state)
                done += len(batch)
                if progress is not None:
                    progress(done, len(self.framed))
        if len(self._states) < len(self._batches):
            self._states.clear()
        return Treatment(scores, kept)

    def _keep(self, number: int, start: int, state: Tensor) -> None:
        size = sum(kept.nbytes for kept in self._states.values()) if number else 0
        if number == 0:
            self._start, self._states = start, {}
        if start > 0 and size + state.nbytes <= KEPT_BYTES and len(self._states) == number:
            self._states[number] = state

    def _read(self, batch: list[int], wanted: Wanted | None) -> list[TokenStats]:
        framed = [self.framed[i] for i in batch]
        longest = max(f.stop for f in framed) - 1
        ids_BT = torch.zeros((len(batch), longest), dtype=torch.long)
        mask_BT = torch.zeros((len(batch), longest), dtype=torch.long)
        for row, f in enumerate(framed):
            ids_BT[row, : f.stop - 1] = torch.tensor(f.ids[: f.stop - 1])
            mask_BT[row, : f.stop - 1] = 1
        device = self.reader.device
        mask = None if bool(mask_BT.all()) else mask_BT.to(device)
        forward = self.reader.forward
        output = forward.run(input_ids=ids_BT.to(device), attention_mask=mask, use_cache=False)
        given = output.logits if forward.head is None else output.last_hidden_state
        index_N = torch.cat([torch.arange(f.start - 1, f.stop - 1) + row * longest for row, f in enumerate(framed)]).to(
            given.device
        )
        targets = torch.tensor([i for f in framed for i in f.ids[f.start : f.stop]], dtype=torch.long)
        columns = measure(
            self.reader.head,
            given.flatten(0, 1),
            index_N,
            targets.to(given.device),
            self.reader.vocabulary_size,
            wanted,
        )
        return cut(columns, [f.stop - f.start for f in framed])


@contextmanager
def intervening(reader: Reader, edits: Sequence[Edit]) -> Iterator[Callable[[int], None]]:
    """Make edits in forwards of one passage, whatever runs them: rows of a batch are copies of it, without padding.

    Args:
        reader: whose model runs.
        edits: `where` has one passage; None is every position, those that are still to come too, with one `value`.

    Yields:
        A function that is told, before each forward, how many positions lie in the cache already.

    Raises:
        UserError: as `Treated.read`.
    """
    stack = _stack(reader)
    _lowest(reader, stack, [edit.spot for edit in edits])
    with hooked(reader, stack, [edit.spot for edit in edits]) as hooks:
        hooks.states = [Placed.onward(edit, reader) for edit in edits]

        def at(past: int) -> None:
            for placed in hooks.states:
                placed.past = past

        yield at


def overwrite_cache(cache: Any, donor: Any, positions: Sequence[int], *, layers: Sequence[int] | None = None) -> None:
    """Overwrite keys and values of a cache, after rotation, with those of another run, at the same positions.

    Args:
        cache: of transformers, with layers that hold `keys` and `values` [B, heads, T, channels]; changed in place.
        donor: a cache of the same model.
        positions: in the text, from 0.
        layers: blocks, from 1; all by default.

    Raises:
        UserError: a window has dropped a position, or a cache does not reach it.
    """
    for number, (into, source) in enumerate(zip(cache.layers, donor.layers, strict=True), start=1):
        if layers is not None and number not in layers:
            continue
        here, there = _held(into, positions, number), _held(source, positions, number)
        with torch.inference_mode():
            into.keys[:, :, here] = source.keys[:, :, there].to(into.keys.dtype)
            into.values[:, :, here] = source.values[:, :, there].to(into.values.dtype)


def _held(layer: Any, positions: Sequence[int], number: int) -> Tensor:
    """Where positions of the text lie in a layer of a cache, which in a window holds only the last."""
    held, seen = layer.keys.shape[-2], int(layer.get_seq_length())
    index = torch.tensor([p - (seen - held) for p in positions], dtype=torch.long, device=layer.keys.device)
    if len(index) and not 0 <= int(index.min()) <= int(index.max()) < held:
        raise UserError(
            f"layer {number} holds positions {seen - held} to {seen - 1} (a sliding window drops older ones), and "
            f"{min(positions)} to {max(positions)} are asked for: patch while they are read, or at later positions"
        )
    return index


def _stack(reader: Reader) -> nn.ModuleList:
    found = blocks(reader.model if reader.head is None else reader.head.body)
    if found is None:
        raise ModelError(f"{reader.name} ({type(reader.model).__name__}) has no stack of blocks to intervene in")
    return found.modules


def _lowest(reader: Reader, stack: nn.ModuleList, spots: Sequence[Spot]) -> int:
    """The residual layer from which a pass has to run: states at it do not depend on what is done at these spots.

    Raises:
        UserError: a spot that the model does not have.
    """
    for spot in spots:
        first, last = (0 if spot.part == "residual" else 1), len(stack)
        if not first <= spot.layer <= last:
            raise UserError(f"{reader.name} has no {spot.part} at layer {spot.layer}: {first} to {last}")
    return min((s.layer if s.part == "residual" else s.layer - 1 for s in spots), default=0)
