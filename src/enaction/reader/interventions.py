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
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from enaction.errors import ModelError, UserError
from enaction.framing import Framed
from enaction.reader.batching import batches, pace_of
from enaction.reader.blocks import blocks
from enaction.reader.measuring import cut, measure, nothing_measured
from enaction.reader.projections import Projection, projections
from enaction.reader.reader import Reader
from enaction.reader.statistics import TokenStats, Wanted

Part = Literal["residual", "key", "value"]
# For each passage the positions in its ids; None for all that are fed.
Where = Sequence[Sequence[int] | np.ndarray] | None
# States that are kept for the next pass may take this much.
KEPT_BYTES = 2**30


class Spot(NamedTuple):
    """Where in a model: the residual stream after a block, or the keys or values of a block.

    Attributes:
        layer: of the residual stream, 0 is the input of the first block and L the output of block L; of keys and
            values, block L, from 1.
        part: `residual`, `key` or `value`.
    """

    layer: int
    part: Part = "residual"


@dataclass(frozen=True, eq=False)
class Capture:
    """What is to be kept of a pass, as the rest of the model sees it: after the edits.

    Attributes:
        spot: where in the model.
        where: at which positions of each passage.
    """

    spot: Spot
    where: Where = None


@dataclass(frozen=True, eq=False)
class Edit:
    """A change at a spot.

    Attributes:
        spot: where in the model.
        where: at which positions of each passage.
        value: [C], or for each passage [its positions, C]. With a basis in its coordinates, [r] or [positions, r].
        kind: `add` gives h + strength * value; `set` gives h + strength * (value - h), with a basis only within it.
        basis: [C, r], orthonormal columns; None for the whole space.
        strength: 0 changes nothing.
    """

    spot: Spot
    where: Where
    value: np.ndarray | Sequence[np.ndarray]
    kind: Literal["add", "set"] = "add"
    basis: np.ndarray | None = None
    strength: float = 1.0


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
        start = self._lowest([item.spot for item in (*edits, *captures)])
        may_skip = bool(self._states) and start >= self._start
        scores = [nothing_measured(self.reader.vocabulary_size, wanted)] * len(self.framed)
        kept: dict[Capture, list[np.ndarray]] = {
            capture: [np.zeros((0, 0), np.float32)] * len(self.framed) for capture in captures
        }
        with self.reader.reading(), ExitStack() as stack:
            hooks = stack.enter_context(_hooked(self.reader, self._stack, [e.spot for e in (*edits, *captures)]))
            below = stack.enter_context(_below(self._stack, self._start)) if may_skip else None
            keeping = None if may_skip else stack.enter_context(_keeping(self._stack, start))
            done = 0
            for number, batch in enumerate(self._batches):
                if below is not None:
                    below.state = self._states[number]
                hooks.states = [_Placed.edit(edit, self.framed, batch, self.reader) for edit in edits]
                hooks.states += [_Placed.capture(capture, self.framed, batch, self.reader) for capture in captures]
                for index, stats in zip(batch, self._read(batch, wanted), strict=True):
                    scores[index] = stats
                for placed in hooks.states:
                    if placed.taken is not None and isinstance(placed.of, Capture):
                        parts = np.split(placed.taken, np.cumsum(placed.lengths)[:-1])
                        for index, part in zip(batch, parts, strict=True):
                            kept[placed.of][index] = part
                if keeping is not None and keeping.state is not None:
                    self._keep(number, start, keeping.state)
                done += len(batch)
                if progress is not None:
                    progress(done, len(self.framed))
        if len(self._states) < len(self._batches):
            self._states.clear()
        return Treatment(scores, kept)

    def _lowest(self, spots: Sequence[Spot]) -> int:
        """The residual layer from which a pass has to run: states at it do not depend on the edits."""
        for spot in spots:
            first, last = (0 if spot.part == "residual" else 1), len(self._stack)
            if not first <= spot.layer <= last:
                raise UserError(f"{self.reader.name} has no {spot.part} at layer {spot.layer}: {first} to {last}")
        return min((s.layer if s.part == "residual" else s.layer - 1 for s in spots), default=0)

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
    with _hooked(reader, stack, [edit.spot for edit in edits]) as hooks:
        hooks.states = [_Placed.onward(edit, reader) for edit in edits]

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


@dataclass
class _Placed:
    """An edit or a capture, made ready for one batch: rows and columns of its positions, and values beside them."""

    of: Edit | Capture
    rows: Tensor
    columns: Tensor
    lengths: list[int]
    value: Tensor | None = None
    basis: Tensor | None = None
    taken: np.ndarray | None = None
    # In `intervening`: positions in the cache, and whether all rows are copies of one passage.
    past: int = 0
    everywhere: bool = False
    copies: bool = False

    @classmethod
    def _at(cls, of: Edit | Capture, framed: Sequence[Framed], batch: Sequence[int], device: torch.device) -> _Placed:
        positions = []
        for i in batch:
            fed = framed[i].stop - 1
            at = np.arange(fed) if of.where is None else np.asarray(of.where[i], dtype=np.int64)
            if len(at) and not 0 <= at.min() <= at.max() < fed:
                raise UserError(
                    f"passage '{framed[i].passage_id}' has no position {at.min() if at.min() < 0 else at.max()}: 0 to "
                    f"{fed - 1} are fed"
                )
            positions.append(at)
        lengths = [len(at) for at in positions]
        rows = torch.from_numpy(np.repeat(np.arange(len(batch)), lengths)).to(device)
        columns = torch.from_numpy(np.concatenate([*positions, np.zeros(0, np.int64)])).to(device)
        return cls(of, rows, columns, lengths)

    @classmethod
    def capture(cls, capture: Capture, framed: Sequence[Framed], batch: Sequence[int], reader: Reader) -> _Placed:
        return cls._at(capture, framed, batch, reader.device)

    @classmethod
    def edit(cls, edit: Edit, framed: Sequence[Framed], batch: Sequence[int], reader: Reader) -> _Placed:
        placed = cls._at(edit, framed, batch, reader.device)
        if isinstance(edit.value, np.ndarray):
            value = edit.value
        else:
            value = np.concatenate([np.asarray(edit.value[i]) for i in batch])
            if len(value) != len(placed.rows):
                raise UserError(f"an edit at {edit.spot} has {len(value)} values for {len(placed.rows)} positions")
        return placed._with(edit, value, reader.device)

    @classmethod
    def onward(cls, edit: Edit, reader: Reader) -> _Placed:
        value = edit.value if isinstance(edit.value, np.ndarray) else np.asarray(edit.value[0])
        at = torch.from_numpy(np.asarray(edit.where[0] if edit.where is not None else [], dtype=np.int64))
        placed = cls(edit, torch.zeros_like(at), at.to(reader.device), [len(at)], copies=True)
        placed.everywhere = edit.where is None
        return placed._with(edit, value, reader.device)

    def _with(self, edit: Edit, value: np.ndarray, device: torch.device) -> _Placed:
        self.value = torch.from_numpy(np.array(value, np.float32)).to(device)
        if edit.basis is not None:
            self.basis = torch.from_numpy(np.array(edit.basis, np.float32)).to(device)
        return self

    def on(self, state_BTC: Tensor) -> Tensor:
        """The state after the edit; the same tensor from a capture, or where no position is in this forward."""
        value = self.value
        if self.copies:
            B, T = state_BTC.shape[:2]
            columns = torch.arange(T, device=state_BTC.device) if self.everywhere else self.columns - self.past
            inside = (columns >= 0) & (columns < T)
            columns = columns[inside]
            rows = torch.arange(B, device=state_BTC.device).repeat_interleave(len(columns))
            if value is not None and value.dim() == 2:
                value = value[inside].repeat(B, 1)
            columns = columns.repeat(B)
        else:
            rows, columns = self.rows.to(state_BTC.device), self.columns.to(state_BTC.device)
        if isinstance(self.of, Capture):
            self.taken = state_BTC[rows, columns].float().cpu().numpy()
            return state_BTC
        if not len(rows):
            return state_BTC
        assert value is not None
        _check_shape(self.of, value, self.basis, state_BTC.shape[-1])
        old_NC = state_BTC[rows, columns].float()
        value, basis = value.to(old_NC.device), None if self.basis is None else self.basis.to(old_NC.device)
        if self.of.kind == "set":
            value = value - (old_NC if basis is None else old_NC @ basis)
        change = value if basis is None else value @ basis.T
        changed = state_BTC.clone()
        changed[rows, columns] = (old_NC + self.of.strength * change).to(state_BTC.dtype)
        return changed


def _check_shape(edit: Edit, value: Tensor, basis: Tensor | None, channels: int) -> None:
    if basis is not None and (basis.dim() != 2 or basis.shape[0] != channels):
        raise UserError(f"a basis of shape {tuple(basis.shape)} at {edit.spot}: it has {channels} channels")
    expected = channels if basis is None else basis.shape[1]
    if value.shape[-1] != expected:
        raise UserError(f"a value of {value.shape[-1]} numbers at {edit.spot}: {expected} are expected")


@dataclass
class _Hooks:
    """What the hooks of a pass do in the batch at hand."""

    states: list[_Placed] = field(default_factory=list)

    def apply(self, spot: Spot, state: Tensor) -> Tensor:
        """Edits first, then captures, each in its order."""
        for kind in (Edit, Capture):
            for placed in self.states:
                if placed.of.spot == spot and isinstance(placed.of, kind):
                    state = placed.on(state)
        return state


@contextmanager
def _hooked(reader: Reader, stack: nn.ModuleList, spots: Sequence[Spot]) -> Iterator[_Hooks]:
    """Hooks at these spots while the block runs."""
    hooks, handles = _Hooks(), []
    projected = projections(reader) if any(spot.part != "residual" for spot in spots) else {}
    try:
        for spot in dict.fromkeys(spots):
            if spot.part != "residual":
                handles.append(_projection_hook(projected[spot], spot, hooks))
            elif spot.layer == 0:
                handles.append(_input_hook(stack[0], spot, hooks))
            else:
                handles.append(_output_hook(stack[spot.layer - 1], lambda h, s=spot: hooks.apply(s, h)))
        yield hooks
    finally:
        for handle in handles:
            handle.remove()


def _projection_hook(projection: Projection, spot: Spot, hooks: _Hooks) -> Any:
    def hook(module: nn.Module, given: tuple, output: Tensor) -> Tensor | None:
        old = projection.of(output)
        new = hooks.apply(spot, old)
        return None if new is old else projection.put(output, new)

    return projection.module.register_forward_hook(hook)


def _input_hook(block: nn.Module, spot: Spot, hooks: _Hooks) -> Any:
    def hook(module: nn.Module, given: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        if given:
            return (hooks.apply(spot, given[0]), *given[1:]), named
        return given, named | {"hidden_states": hooks.apply(spot, named["hidden_states"])}

    return block.register_forward_pre_hook(hook, with_kwargs=True)


def _output_hook(block: nn.Module, change: Callable[[Tensor], Tensor]) -> Any:
    def hook(module: nn.Module, given: tuple, output: Any) -> Any:
        # A block returns a tensor or a tuple that begins with it, by version and architecture.
        if isinstance(output, Tensor):
            return change(output)
        return (change(output[0]), *output[1:])

    return block.register_forward_hook(hook)


@dataclass
class _State:
    """A state that goes from one forward to another."""

    state: Tensor | None = None


@contextmanager
def _keeping(stack: nn.ModuleList, layer: int) -> Iterator[_State]:
    """Keep the state at a residual layer as it is before any edit there; None where blocks return more than it."""
    kept = _State()
    if layer == 0:
        yield kept
        return

    def hook(module: nn.Module, given: tuple, output: Any) -> None:
        kept.state = output if isinstance(output, Tensor) else None

    # Before the hooks of edits, which were registered first.
    handle = stack[layer - 1].register_forward_hook(hook, prepend=True)
    try:
        yield kept
    finally:
        handle.remove()


@contextmanager
def _below(stack: nn.ModuleList, layer: int) -> Iterator[_State]:
    """Blocks up to a layer do not run: the first hands on what it is given, the last a state that was kept."""
    given = _State()

    def hand_on(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        return hidden_states

    def hand_out(*_: Any, **__: Any) -> Tensor:
        assert given.state is not None
        return given.state

    changed = list(stack[:layer])
    try:
        for block in changed:
            block.forward = hand_on
        changed[-1].forward = hand_out
        yield given
    finally:
        for block in changed:
            vars(block).pop("forward", None)


def _stack(reader: Reader) -> nn.ModuleList:
    found = blocks(reader.model if reader.head is None else reader.head.body)
    if found is None:
        raise ModelError(f"{reader.name} ({type(reader.model).__name__}) has no stack of blocks to intervene in")
    return found.modules
