"""From tables of states to findings: how alike two stages hold the same tokens, layer by layer.

Axes: N token, C channel, B resample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from enaction import stats
from enaction.analysis.ledger import Ledger
from enaction.stats import bins
from enaction.stats.directions import alignment, alignment_floor, centroids
from enaction.stats.similarity import linear_cka, mean_cosine, procrustes

# Below this an angle between directions is mostly noise in the directions, and is refused.
LEAST_RELIABILITY = 0.5
# Resamples of prompts for measures of whole sets of states, which cost more than a mean.
RESAMPLES = 200
_N_BINS = 8
MEASURES: dict[str, tuple[str, Callable[[np.ndarray, np.ndarray], float]]] = {
    "cosine": ("mean cosine of the two states of a token", mean_cosine),
    "centred_cosine": (
        "the same after taking off each model's mean state",
        lambda one, other: mean_cosine(one, other, centred=True),
    ),
    "cka": ("linear centred kernel alignment; 1: equal up to rotation and scale", linear_cka),
    "procrustes": ("share of variance left after turning one set onto the other; 0: equal up to rotation", procrustes),
}
TRACES = ("surprisal", "next_entropy")


class Pair(NamedTuple):
    """Two stages of a family that are compared, and the tables of their states."""

    family: str
    stage: str
    other_stage: str
    one: pa.Table
    other: pa.Table


def analyse(ledger: Ledger, pair: Pair) -> None:
    """Write the findings of one pair."""
    ledger = ledger.at(family=pair.family, stage=pair.stage, other_stage=pair.other_stage)
    one, other = _aligned(pair.one, pair.other)
    if len(one) < 2 * bins.LEAST:
        ledger.leave_out("cosine", "cosine", f"only {len(one)} tokens are the same for both: their tokenizers differ")
        return
    prompt = np.unique(one["prompt"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)[1]
    layers = [name for name in one.column_names if name.startswith("layer ") and name in other.column_names]
    rng = np.random.default_rng([ledger.data.study.seed, 91])
    weights = stats.cluster_weights(int(prompt.max()) + 1, RESAMPLES, rng)
    for name in layers:
        states = _states(one, name), _states(other, name)
        if states[0].shape != states[1].shape:
            continue
        _similarity(ledger.at(layer=int(name.split()[1])), states, prompt, weights, rng)
    _directions(ledger, one, other, prompt, layers)


def _aligned(one: pa.Table, other: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows of tokens that both have, in one order."""
    keys = [list(zip(t["passage"].to_pylist(), t["position"].to_pylist(), strict=True)) for t in (one, other)]
    places = [{key: i for i, key in enumerate(of)} for of in keys]
    shared = [key for key in keys[0] if key in places[1]]
    return one.take([places[0][key] for key in shared]), other.take([places[1][key] for key in shared])


def _states(table: pa.Table, name: str) -> np.ndarray:
    column = table[name].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).astype(np.float64).reshape(len(table), -1)


def _similarity(
    ledger: Ledger, states: tuple[np.ndarray, np.ndarray], prompt: np.ndarray, weights: np.ndarray, rng: Any
) -> None:
    one, other = states
    rows = [np.concatenate([np.repeat(np.flatnonzero(prompt == p), w) for p, w in enumerate(row)]) for row in weights]
    order = rng.permutation(len(one))
    for quantity, (text, measure) in MEASURES.items():
        drawn = np.array([measure(one[r], other[r]) for r in rows])
        low, high = stats.percentile_interval(drawn)
        ledger.fact(
            quantity,
            "cosine" if "cosine" in quantity else "share",
            f"{text}; interval: 95 %, {len(rows)} resamples of prompts",
            measure(one, other),
            int(prompt.max()) + 1,
            low=float(low),
            high=float(high),
            notes=[f"tokens of the second model shuffled: {measure(one, other[order]):.3f}"],
        )


def _directions(ledger: Ledger, one: pa.Table, other: pa.Table, prompt: np.ndarray, layers: list[str]) -> None:
    """|cosine| of centroid directions of the two stages, where each is reproducible from half of the prompts."""
    half = prompt % 2 == 0
    for trace in TRACES:
        for name in layers:
            place = {"trace": "surprise" if trace == "surprisal" else "entropy", "layer": int(name.split()[1])}
            whole: list[np.ndarray] = []
            halves: list[list[np.ndarray]] = []
            for table in (one, other):
                states = _states(table, name)
                found = [_direction(table, states, trace, side) for side in (np.ones_like(half), half, ~half)]
                parts = [part for part in found if part is not None]
                if len(parts) < len(found):
                    break
                whole.append(parts[0])
                halves.append(parts[1:])
            if len(whole) < 2 or whole[0].shape != whole[1].shape:
                ledger.leave_out("direction_cosine", "cosine", "too few tokens in cells for a direction", **place)
                continue
            least, floor = min(alignment(*half) for half in halves), alignment_floor(whole[0].shape[0])
            crossed = [alignment(mine, other) for mine in halves[0] for other in halves[1]]
            ledger.fact(
                "direction_reliability",
                "cosine",
                "|cosine| of a centroid direction from one half of the prompts and the other, the lesser of the two "
                "models",
                least,
                int(prompt.max()) + 1,
                **place,
            )
            if least < LEAST_RELIABILITY:
                why = f"the direction is not reproducible: split-half |cosine| {least:.2f}, {LEAST_RELIABILITY} needed"
                ledger.leave_out("direction_cosine", "cosine", why, **place)
                continue
            ledger.fact(
                "direction_cosine",
                "cosine",
                "|cosine| of the first centroid directions (bins within quartiles of H_t) of two models; low and high: "
                "of the four pairs of a half of the prompts in one model and a half in the other",
                alignment(whole[0], whole[1]),
                int(prompt.max()) + 1,
                low=min(crossed),
                high=max(crossed),
                notes=[f"split-half {least:.2f}; two random directions are below {floor:.2f} in 95 %"],
                **place,
            )


def _direction(table: pa.Table, states: np.ndarray, trace: str, keep: np.ndarray) -> np.ndarray | None:
    value = table[trace].to_numpy()[keep.astype(bool)]
    entropy = table["entropy"].to_numpy()[keep.astype(bool)]
    edge, key_edge = bins.edges(value, _N_BINS), bins.edges(entropy, 4)
    key, bin_ = bins.binned(entropy, key_edge), bins.binned(value, edge)
    cells = bins.cells(key, bin_, len(key_edge) + 1, len(edge) + 1)
    return centroids(states[keep.astype(bool)], key, bin_, cells).basis if cells.usable.any() else None
