"""From the measured table of a reader to findings: what is decoded, and how reliable directions are.

What steering does is in `steered`.

Axes: P prompt, U predictor, B resample.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from enaction import stats
from enaction.analysis.ledger import Ledger
from enaction.experiments.surprise.rows import by_prompt, part_of
from enaction.experiments.surprise.steered import steered

# Below this a direction is not reproducible.
LEAST_RELIABILITY = 0.5
# Above this a trace is an authorship direction rather than surprise.
AUTHORSHIP = 0.75


def analyse(ledger: Ledger, table: pa.Table, **where: Any) -> None:
    """Write the findings of one reader.

    Args:
        ledger: of the prompts that were measured.
        table: as `measured.Traces.measure` returns it.
        where: reader and stage.
    """
    ledger = ledger.at(**where)
    parts = {kind: part_of(table, kind) for kind in pc.unique(table["part"]).to_pylist()}  # pyright: ignore
    if "authorship" in parts:
        _authorship(ledger, parts["authorship"])
    _decoding(ledger, parts["decoding"])
    _reliability(ledger, parts["reliability"])
    if "steering" in parts:
        steered(ledger, parts["steering"])


def _authorship(ledger: Ledger, rows: Mapping[str, np.ndarray]) -> None:
    """Mean over prompts of how well a trace alone tells foreign tokens from own ones."""
    for trace in dict.fromkeys(rows["trace"].tolist()):
        at = rows["trace"] == trace
        (value_P,) = by_prompt(
            ledger, rows["prompt"][at], np.zeros(int(at.sum()), int), rows["auroc"][at].astype(float)
        )
        (seen_P,) = by_prompt(ledger, rows["prompt"][at], np.zeros(int(at.sum()), int), np.ones(int(at.sum())))
        ledger.add(
            "trace_authorship",
            "AUROC",
            "chance that a foreign token has more of the trace than an own token of the same prompt; near 1 the trace "
            "is an authorship direction",
            np.where(seen_P > 0, value_P, np.nan)[0],
            pooling="mean over prompts",
            null=0.5,
            trace=trace,
        )


def _decoding(ledger: Ledger, rows: Mapping[str, np.ndarray]) -> None:
    """Held-out R^2 of each predictor, and what the best layer has beyond the best predictor without states."""
    names = list(dict.fromkeys(zip(*(rows[c].tolist() for c in ("outcome", "predictor", "layer")), strict=True)))
    code = {name: i for i, name in enumerate(names)}
    unit = np.array([code[n] for n in zip(*(rows[c].tolist() for c in ("outcome", "predictor", "layer")), strict=True)])
    for texts in ("all", "own", "foreign"):
        keep = np.ones(len(unit), bool) if texts == "all" else rows["is_own"].astype(bool) == (texts == "own")
        if not keep.any():
            continue
        sums = by_prompt(
            ledger,
            rows["prompt"][keep],
            unit[keep],
            *(rows[c][keep] for c in ("squared_error", "total", "squared", "n")),
        )
        means = ledger.resampled(np.where(sums[3] > 0, np.array(sums) / np.maximum(sums[3], 1), np.nan), sums[3])
        axis = [
            {"target": target, "predictor": predictor, **({"layer": layer} if layer >= 0 else {})}
            for target, predictor, layer in names
        ]
        ledger.add(
            "decoded",
            "R^2",
            "share of variance that a predictor explains at prompts that it was not fitted to (ridge, 5 folds by "
            "prompt; state: the residual stream at the token; token, pair, position: means by what they are; entropy: "
            "H_t and its logarithm); below 0 worse than the mean",
            means,
            _r2,
            [axis],
            pooling="tokens, text of both sides in one fit",
            null=0.0,
            texts=texts,
        )
        if texts == "all":
            _beyond_baselines(ledger, means, names)


def _r2(means_BSU: np.ndarray) -> np.ndarray:
    error, mean, square, _ = np.moveaxis(means_BSU, -2, 0)
    variance = square - mean**2
    return np.where(variance > 1e-12, 1 - error / np.maximum(variance, 1e-12), np.nan)


def _beyond_baselines(ledger: Ledger, means: stats.Resampled, names: list[tuple[str, str, int]]) -> None:
    full = _r2(means.mean[None])[0]
    for target in dict.fromkeys(name[0] for name in names):
        layers = [i for i, name in enumerate(names) if name[0] == target and name[1] == "state" and name[2] > 0]
        plain = [i for i, name in enumerate(names) if name[0] == target and (name[1] != "state" or name[2] == 0)]
        if not layers or not np.isfinite(full[layers + plain]).all():
            continue
        best, base = max(layers, key=lambda i: full[i]), max(plain, key=lambda i: full[i])
        named = names[base][1] if names[base][1] != "state" else "embedding"
        ledger.add(
            "decoded_beyond",
            "R^2",
            "R^2 of the best layer less that of the best predictor without a model's work (token, pair of tokens, "
            "position, H_t, embedding); both chosen on all prompts",
            means,
            lambda m, b=best, p=base: _r2(m)[..., b] - _r2(m)[..., p],
            [],
            pooling="tokens",
            null=0.0,
            notes=[f"layer {names[best][2]} against {named}"],
            target=target,
        )


def _reliability(ledger: Ledger, rows: Mapping[str, np.ndarray]) -> None:
    for trace, key in dict.fromkeys(zip(rows["trace"].tolist(), rows["key"].tolist(), strict=True)):
        at = (rows["trace"] == trace) & (rows["key"] == key) & (rows["layer"] > 0)
        values = rows["reliability"][at].astype(float)
        ledger.fact(
            "direction_reliability",
            "cosine",
            "|cosine| of the first centroid direction from one half of the prompts and from the other, median over "
            f"layers; two random directions are below {rows['floor'][at][0]:.2f} in 95 %; under {LEAST_RELIABILITY} an "
            "angle between directions means nothing",
            float(np.median(values)) if np.isfinite(values).all() else None,
            ledger.n_prompts,
            low=float(values.min()) if np.isfinite(values).all() else None,
            high=float(values.max()) if np.isfinite(values).all() else None,
            trace=trace,
            key=key,
            notes=["low and high: of the layers"],
        )
