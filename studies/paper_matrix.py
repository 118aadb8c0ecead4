"""Print the table of entropies that the paper prints (arXiv 2605.25459), split as docs/experiments/matrix.md does.

    python studies/paper_matrix.py

The paper gives no interval, so the numbers have none.

Axes: A author, R reader.
"""

from __future__ import annotations

import time

import numpy as np

from enaction.shown import number
from enaction.stats import interaction, log_ratio_split

MODELS = ("Llama", "Qwen", "Gemma", "DeepSeek", "Yi")
# Nats, as printed: rows are authors, columns readers.
PRINTED_AR = np.array(
    [
        [0.204, 0.334, 0.464, 0.605, 0.519],
        [0.548, 0.247, 0.405, 0.538, 0.448],
        [0.660, 0.357, 0.317, 0.746, 0.630],
        [0.494, 0.334, 0.441, 0.494, 0.447],
        [0.691, 0.319, 0.514, 0.661, 0.329],
    ]
)


def table() -> str:
    """A row a reader: its entropies, then the split of the log ratio, log units."""
    split, all_cells = log_ratio_split(PRINTED_AR.T), -5 / 4 * interaction(PRINTED_AR.T)
    numbers = zip(split.log_geometric_ratio, split.recognition, split.ease, all_cells, strict=True)
    header = ["reader \\ author", *MODELS, "log ratio", "= recognition", "+ ease", "by all cells"]
    rows = [
        [name, *(number(x) for x in PRINTED_AR[:, i]), *(number(x) for x in of)]
        for i, (name, of) in enumerate(zip(MODELS, numbers, strict=True))
    ]
    means = (split.log_geometric_ratio.mean(), split.recognition.mean(), split.ease.mean(), all_cells.mean())
    rows.append(["mean", *[""] * len(MODELS), *map(number, means)])
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


if __name__ == "__main__":
    print(table(), end="\n\n")
    print(f"`python studies/paper_matrix.py`, {time.strftime('%Y-%m-%d')}.")
