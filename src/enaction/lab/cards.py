"""What the cards of all embedded models share: their heading, means as text, and the table of the training log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from enaction import zoo


def heading(name: str) -> dict[str, str]:
    """The `name`, `note` and `kind` of a model, for the card's template; the note begins with a capital letter."""
    note = zoo.note(name)
    return {"name": name, "note": note[0].upper() + note[1:], "kind": zoo.kind(name)}


def means(values: Mapping[str, Sequence[float] | float]) -> str:
    """The mean of each row of numbers, after its name."""
    return ", ".join(f"{name} {np.mean(numbers):.2f}" for name, numbers in values.items())


def log_table(names: Sequence[str], groups: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    """A Markdown table of the training log: the last step of each group of entries, and its means.

    Args:
        names: columns; those that the log does not have are skipped.
        groups: entries of the log that share a row.
    """
    columns = [name for name in names if name in groups[0][0]]
    rows = [
        f"| {group[-1]['step']} | "
        + " | ".join(f"{np.mean([entry[name] for entry in group]):.3f}" for name in columns)
        + " |"
        for group in groups
    ]
    return "\n".join([f"| step | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|", *rows])
