"""What can be read out of a reader's states about surprise, beside what needs no states at all.

Axes: N token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from enaction.experiments.clean import Clean
from enaction.experiments.surprise.rows import Rows, by_prompt_sums
from enaction.experiments.surprise.steering import HALF_LIFE
from enaction.stats import bins
from enaction.stats.decoding import foretold_by, means_by_code
from enaction.stats.directions import alignment, alignment_floor, centroids

# What is read out: the surprisal, its logarithm (it is very skewed), what exceeds the expected, and the next entropy.
TARGETS: dict[str, Callable[[Clean], np.ndarray]] = {
    "surprisal": lambda of: of.surprisal,
    "log_surprisal": lambda of: np.log(of.surprisal + bins.FLOOR),
    "excess": lambda of: of.surprisal - of.entropy,
    "next_entropy": lambda of: of.next_entropy,
}
BASELINES = ("token", "pair", "position", "entropy")


def decode(of: Clean, rows: Rows, step: Callable[[], None]) -> None:
    """Held-out predictions of each target by each predictor, as sums of squares over each prompt and author."""
    for target, value in TARGETS.items():
        y = value(of)
        for predictor, layer, predicted in _predictions(of, y, target):
            for own in (True, False):
                at = of.is_own == own
                if not at.any():
                    continue
                sums = by_prompt_sums(
                    of.prompt[at],
                    squared_error=np.square(y[at] - predicted[at]),
                    total=y[at],
                    squared=np.square(y[at]),
                )
                place = {"outcome": target, "predictor": predictor, "layer": layer}
                rows.add(len(sums["prompt"]), **place, is_own=own, **sums)
        step()


def _predictions(of: Clean, y: np.ndarray, target: str) -> Iterator[tuple[str, int, np.ndarray]]:
    prompt, first = of.prompt, np.array([f.start for f in of.framed])
    yield "token", -1, means_by_code(of.token, y, prompt)
    yield "pair", -1, means_by_code(np.stack([of.previous, of.token], 1), y, prompt)
    yield "position", -1, means_by_code(np.minimum(of.position - first[of.passage], 63), y, prompt)
    if target != "excess":
        yield "entropy", -1, foretold_by(np.stack([of.entropy, np.log(of.entropy + bins.FLOOR)], 1), y, prompt)
    for layer, state in of.states.items():
        yield "state", layer, foretold_by(state, y, prompt)


def reliability(of: Clean, n_bins: int, rows: Rows) -> None:
    """|cosine| of a direction from one half of the prompts and from the other, for each trace and layer."""
    half = np.unique(of.prompt, return_inverse=True)[1] % 2 == 0
    traces = {
        "surprise": of.surprisal,
        "running": of.running(HALF_LIFE),
        "entropy": of.next_entropy,
    }
    for trace, value in traces.items():
        edge = bins.edges(value, n_bins)
        bin_N = bins.binned(value, edge)
        for key, key_N in _keys(of).items():
            for layer, state in of.states.items():
                found = []
                for side in (half, ~half):
                    cells = bins.cells(key_N[side], bin_N[side], int(key_N.max()) + 1, len(edge) + 1)
                    if cells.usable.any():
                        found.append(centroids(state[side], key_N[side], bin_N[side], cells).basis)
                value_ = alignment(*found) if len(found) == 2 else np.nan
                floor = alignment_floor(state.shape[1])
                rows.add(1, trace=trace, key=key, layer=layer, reliability=value_, floor=floor)


def _keys(of: Clean) -> dict[str, np.ndarray]:
    return {
        "none": np.zeros(len(of.passage), int),
        "entropy": bins.binned(of.entropy, bins.edges(of.entropy, 4)),
    }
