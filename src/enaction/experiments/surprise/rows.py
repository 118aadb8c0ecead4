"""Rows of the measured table: how they are collected, and the sums over prompts that every analysis starts from.

Axes: N token, U unit (a predictor, a cell of a sweep, an author), P prompt.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from enaction.analysis.ledger import Ledger


class Rows:
    """Rows of the measured table, column by column."""

    def __init__(self) -> None:
        self.columns: dict[str, list[np.ndarray]] = {}

    def add(self, length: int, /, **columns: Any) -> None:
        """Add rows of this number; a number or name stands in each of them."""
        for name, value in columns.items():
            self.columns.setdefault(name, []).append(np.broadcast_to(np.asarray(value), length))


def by_prompt_sums(prompt_N: np.ndarray, **columns: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of rows, one a prompt: its code, the sum of each column over its tokens, and their number `n`."""
    prompts, back = np.unique(prompt_N, return_inverse=True)
    sums = {name: np.bincount(back, column, len(prompts)) for name, column in columns.items()}
    return {"prompt": prompts, **sums, "n": np.bincount(back, minlength=len(prompts)).astype(float)}


def part_of(table: pa.Table, kind: str) -> dict[str, np.ndarray]:
    """The columns of one kind of rows, without those that this kind does not have."""
    rows = table.filter(pc.equal(table["part"], kind))  # pyright: ignore
    return {
        name: rows[name].to_numpy(zero_copy_only=False)
        for name in rows.column_names
        if rows[name].null_count < max(1, len(rows))
    }


def _codes(ledger: Ledger, prompt: np.ndarray) -> np.ndarray:
    return np.array([ledger.data.prompt_code[name] for name in prompt.tolist()], dtype=np.int64)


def by_prompt(ledger: Ledger, prompt: np.ndarray, unit: np.ndarray, *columns: np.ndarray) -> list[np.ndarray]:
    """Sums [U, P] of each column over the rows of a unit and prompt; `unit` has codes from 0."""
    n, P = int(unit.max()) + 1, len(ledger.data.prompts)
    flat = unit * P + _codes(ledger, prompt)
    return [np.bincount(flat, column, n * P).reshape(n, P) for column in columns]
