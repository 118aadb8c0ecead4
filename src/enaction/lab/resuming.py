"""The state of a killed run of reinforcement: weights, optimiser and log, so that it goes on bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from enaction.files import write_atomically

_STATE = "state.pt"


def store(
    folder: Path, weights: Sequence[nn.Parameter], optimiser: torch.optim.Optimizer, log: list[dict[str, Any]]
) -> None:
    """Write the state of a run into its folder, which is made; it is whole or the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    with write_atomically(folder / _STATE) as temporary:
        torch.save(
            {"weights": [w.detach() for w in weights], "optimiser": optimiser.state_dict(), "log": log}, temporary
        )


def restore(folder: Path, weights: Sequence[nn.Parameter], optimiser: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Set weights and optimiser to the state of a killed run, and return its log; empty if no run was killed."""
    if not (folder / _STATE).exists():
        return []
    state = torch.load(folder / _STATE, weights_only=True)
    with torch.no_grad():
        for weight, stored in zip(weights, state["weights"], strict=True):
            weight.copy_(stored)
    optimiser.load_state_dict(state["optimiser"])
    return state["log"]
