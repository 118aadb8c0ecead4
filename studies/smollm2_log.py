"""Print the training logs of SmolLM2's runs of RL, from their cards, as the table of docs/smollm2.md.

    python studies/smollm2_log.py

A card's log has twelve rows, each the mean over the three to five steps that end at its step; four of them are printed.
"""

from __future__ import annotations

import re
import time

from enaction import zoo

RUNS = "abcd"
# Which rows of a log are printed: a beginning, two in between, the end.
ROWS = (1, 4, 7, 11)


def log_of(card: str) -> tuple[list[str], list[list[str]]]:
    """The columns of a card's training log, and its rows.

    Raises:
        ValueError: the card has no training log.
    """
    found = re.search(r"^\| (step \|.*)\|\n\|[-|]+\|\n((?:\|.*\|\n)+)", card, re.MULTILINE)
    if found is None:
        raise ValueError("this card has no training log: a table whose first column is `step`")
    return _cells(found[1]), [_cells(line.strip("|")) for line in found[2].splitlines()]


def table() -> str:
    """Some rows of each run's log."""
    lines: list[list[str]] = []
    for run in RUNS:
        columns, rows = log_of((zoo.path(f"smollm2-rl-{run}") / "card.md").read_text(encoding="utf-8"))
        lines = lines or [["run", *columns], ["---"] * (len(columns) + 1)]
        lines += [[run, rows[i][0], *(f"{float(cell):.2f}" for cell in rows[i][1:])] for i in ROWS]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


if __name__ == "__main__":
    print(table(), end="\n\n")
    print(f"`python studies/smollm2_log.py`, {time.strftime('%Y-%m-%d')}.")
