"""Hooks at the blocks of a model: they change states at named positions, keep them, and hand on what was kept.

What is changed is said by `Edit` and `Capture`; the passes themselves are in `interventions`.

Axes: `B` batch, `T` time, `N` positions that are edited or captured, `C` channels of the spot, `r` of a subspace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from enaction.errors import UserError
from enaction.framing import Framed
from enaction.reader.projections import Projection, projections
from enaction.reader.reader import Reader

Part = Literal["residual", "key", "value"]
# For each passage the positions in its ids; None for all that are fed.
Where = Sequence[Sequence[int] | np.ndarray] | None


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


@dataclass
class Placed:
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
    def _at(cls, of: Edit | Capture, framed: Sequence[Framed], batch: Sequence[int], device: torch.device) -> Placed:
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
    def capture(cls, capture: Capture, framed: Sequence[Framed], batch: Sequence[int], reader: Reader) -> Placed:
        return cls._at(capture, framed, batch, reader.device)

    @classmethod
    def edit(cls, edit: Edit, framed: Sequence[Framed], batch: Sequence[int], reader: Reader) -> Placed:
        placed = cls._at(edit, framed, batch, reader.device)
        if isinstance(edit.value, np.ndarray):
            if edit.value.ndim != 1:
                raise UserError(
                    f"an edit at {edit.spot} has one value of shape {edit.value.shape}: give one vector for all "
                    "positions, or a list with an array for each passage"
                )
            value = edit.value
        else:
            value = np.concatenate([np.asarray(edit.value[i]) for i in batch])
            if len(value) != len(placed.rows):
                raise UserError(f"an edit at {edit.spot} has {len(value)} values for {len(placed.rows)} positions")
        return placed._with(edit, value, reader.device)

    @classmethod
    def onward(cls, edit: Edit, reader: Reader) -> Placed:
        value = edit.value if isinstance(edit.value, np.ndarray) else np.asarray(edit.value[0])
        at = torch.from_numpy(np.asarray(edit.where[0] if edit.where is not None else [], dtype=np.int64))
        placed = cls(edit, torch.zeros_like(at), at.to(reader.device), [len(at)], copies=True)
        placed.everywhere = edit.where is None
        return placed._with(edit, value, reader.device)

    def _with(self, edit: Edit, value: np.ndarray, device: torch.device) -> Placed:
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
class Hooks:
    """What the hooks of a pass do in the batch at hand."""

    states: list[Placed] = field(default_factory=list)

    def apply(self, spot: Spot, state: Tensor) -> Tensor:
        """Edits first, then captures, each in its order."""
        for kind in (Edit, Capture):
            for placed in self.states:
                if placed.of.spot == spot and isinstance(placed.of, kind):
                    state = placed.on(state)
        return state


@contextmanager
def hooked(reader: Reader, stack: nn.ModuleList, spots: Sequence[Spot]) -> Iterator[Hooks]:
    """Hooks at these spots while the block runs."""
    hooks, handles = Hooks(), []
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


def _projection_hook(projection: Projection, spot: Spot, hooks: Hooks) -> Any:
    def hook(module: nn.Module, given: tuple, output: Tensor) -> Tensor | None:
        old = projection.of(output)
        new = hooks.apply(spot, old)
        return None if new is old else projection.put(output, new)

    return projection.module.register_forward_hook(hook)


def _input_hook(block: nn.Module, spot: Spot, hooks: Hooks) -> Any:
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
class Kept:
    """A state that goes from one forward to another."""

    state: Tensor | None = None


@contextmanager
def keeping(stack: nn.ModuleList, layer: int) -> Iterator[Kept]:
    """Keep the state at a residual layer as it is before any edit there; None where blocks return more than it."""
    kept = Kept()
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
def below_not_run(stack: nn.ModuleList, layer: int) -> Iterator[Kept]:
    """Blocks up to a layer do not run: the first hands on what it is given, the last a state that was kept."""
    given = Kept()

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
