"""From the measured tables of a reader to findings: what is decoded, what steering does, what of the gap is explained.

Prompts are resampled; directions, draws and cells stay as they are. What a random control does differs between its
draws far more than between prompts, so the spread over draws stands beside every effect.

Axes: P prompt, J sweep (a direction, a key, a draw), U cell of a sweep (fold, key, target), B resample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from enaction import stats
from enaction.analysis.ledger import Ledger
from enaction.findings import Finding

# Below this spread of natural entropy within a key, nats, there is no effect for steering to reproduce; then steering
# has to do less than so many nats a nat for surprise to be without effect.
LEAST_EFFECT, NO_EFFECT = 0.1, 0.1
# From here on the verdict is that surprise moves entropy; chosen on the organisms of the pilot, judged on fresh ones.
LEAST_SLOPE = 0.5
LEAST_RELIABILITY = 0.5
# Above this a trace is an authorship direction rather than surprise.
AUTHORSHIP = 0.75
LEAST_OVERLAP = 0.5
# Share of the foreign and of the own tokens that a counterfactual has to set: those that cannot be, because no token of
# their key has the level, are the surprising ones among expected ones, which the gap may be made of.
LEAST_SET = 0.8
# What the sham has to keep of the gap for a share of it to mean something, at the lower end of its interval.
LEAST_KEPT = 0.25
CONTROLS = ("rotated", "matched", "shuffled")

# `levels`: entropy follows the level that is set, but does not rise with surprise; something else differs there.
Answer = Literal["moves", "does not", "levels", "unclear"]
_POOLING = "entropy of the next token: mean over tokens whose key and target have a centroid"


def analyse(ledger: Ledger, table: pa.Table, **where: Any) -> None:
    """Write the findings of one reader.

    Args:
        ledger: of the prompts that were measured.
        table: as `measured.Traces.measure` returns it.
        where: reader and stage.
    """
    ledger = ledger.at(**where)
    parts = {kind: _part(table, kind) for kind in pc.unique(table["part"]).to_pylist()}  # pyright: ignore
    authorship = dict(zip(*(parts["authorship"][c].tolist() for c in ("trace", "auroc")), strict=True))
    for trace, value in authorship.items():
        ledger.fact(
            "trace_authorship",
            "AUROC",
            "chance that a foreign token has more of the trace than an own one; near 1 the trace is an authorship "
            "direction and what it explains is no mechanism",
            value,
            ledger.n_prompts,
            null=0.5,
            trace=trace,
        )
    _decoding(ledger, parts["decoding"])
    _reliability(ledger, parts["reliability"])
    if "steering" in parts:
        _steering(ledger, parts["steering"])
    _explained(ledger, parts.get("explaining"), parts["observing"])


def _part(table: pa.Table, kind: str) -> dict[str, np.ndarray]:
    rows = table.filter(pc.equal(table["part"], kind))  # pyright: ignore
    return {
        name: rows[name].to_numpy(zero_copy_only=False)
        for name in rows.column_names
        if rows[name].null_count < max(1, len(rows))
    }


def _codes(ledger: Ledger, prompt: np.ndarray) -> np.ndarray:
    return np.array([ledger.data.prompt_code[name] for name in prompt.tolist()], dtype=np.int64)


def _by_prompt(ledger: Ledger, prompt: np.ndarray, unit: np.ndarray, *columns: np.ndarray) -> list[np.ndarray]:
    """Sums [units, P] of each column."""
    n, P = int(unit.max()) + 1, len(ledger.data.prompts)
    flat = unit * P + _codes(ledger, prompt)
    return [np.bincount(flat, column, n * P).reshape(n, P) for column in columns]


def _decoding(ledger: Ledger, rows: Mapping[str, np.ndarray]) -> None:
    """Held-out R^2 of each predictor, and what the best layer has beyond the best predictor without states."""
    names = list(dict.fromkeys(zip(*(rows[c].tolist() for c in ("outcome", "predictor", "layer")), strict=True)))
    code = {name: i for i, name in enumerate(names)}
    unit = np.array([code[n] for n in zip(*(rows[c].tolist() for c in ("outcome", "predictor", "layer")), strict=True)])
    for texts in ("all", "own", "foreign"):
        keep = np.ones(len(unit), bool) if texts == "all" else rows["is_own"].astype(bool) == (texts == "own")
        if not keep.any():
            continue
        sums = _by_prompt(
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


@dataclass(frozen=True)
class Sweep:
    """One sweep over targets: R [U, P] entropy after steering with its token counts, and what it is compared with.

    group: [U] which fold and key a cell belongs to. level, trace_level: [U] natural entropy and trace of the target in
    the fitted half, nats. natural: [U, P] entropy of the same tokens unsteered.
    """

    steered: np.ndarray
    natural: np.ndarray
    n: np.ndarray
    group: np.ndarray
    level: np.ndarray
    trace_level: np.ndarray

    @property
    def weight(self) -> np.ndarray:
        """[U] tokens."""
        return self.n.sum(axis=1)

    def within(self, value: np.ndarray) -> np.ndarray:
        """[..., U] less the mean of its group, which are cells of the same tokens."""
        centred = np.array(value, dtype=float)
        for group in np.unique(self.group):
            at = self.group == group
            centred[..., at] -= np.average(centred[..., at], axis=-1, weights=self.weight[at])[..., None]
        return centred

    @property
    def spread(self) -> float:
        """Standard deviation of the natural entropy of the targets within a key, nats."""
        return float(np.sqrt(np.average(np.square(self.within(self.level)), weights=self.weight)))

    @property
    def natural_effect(self) -> float:
        """Nats of entropy a nat of trace, from one bin to the next within a key, as the model does by itself."""
        return float(self.slopes(self.level[None], self.trace_level)[0])

    def slopes(self, moved_BU: np.ndarray, against: np.ndarray) -> np.ndarray:
        """[B] slope of the entropy after steering on the natural entropy or on the trace, within keys."""
        x = self.within(against)
        total = float((self.weight * x**2).sum())
        return (
            (self.within(moved_BU) * self.weight * x).sum(axis=-1) / total
            if total > 1e-12
            else np.full(len(moved_BU), np.nan)
        )


def sweeps(ledger: Ledger, rows: Mapping[str, np.ndarray]) -> dict[tuple, Sweep]:
    """Each sweep by (trace, key, rank, kind, draw, layer, sign)."""
    columns = ("trace", "key", "rank", "kind", "draw", "layer", "sign")
    names = list(zip(*(rows[c].tolist() for c in columns), strict=True))
    found: dict[tuple, Sweep] = {}
    for name in dict.fromkeys(names):
        at = np.array([other == name for other in names])
        cell = np.stack([rows[c][at].astype(int) for c in ("fold", "cell", "target")], axis=1)
        present, unit = np.unique(cell, axis=0, return_inverse=True)
        unit = unit.reshape(-1)
        steered, natural, n = _by_prompt(
            ledger, rows["prompt"][at], unit, *(rows[c][at].astype(float) for c in ("steered", "natural", "n"))
        )
        first = np.unique(unit, return_index=True)[1]
        group = np.unique(present[:, :2], axis=0, return_inverse=True)[1].reshape(-1)
        level, trace_level = (rows[c][at][first].astype(float) for c in ("level", "trace_level"))
        found[name] = Sweep(steered, natural, n, group, level, trace_level)
    return found


def _steering(ledger: Ledger, rows: Mapping[str, np.ndarray]) -> None:
    found = sweeps(ledger, rows)
    controls: dict[str, list[Sweep]] = {}
    responses: dict[tuple[str, int], Response] = {}
    for (trace, key, rank, kind, _, layer, _), sweep in found.items():
        if kind in CONTROLS:
            controls.setdefault(kind, []).append(sweep)
        elif kind == "centroid":
            response = _sweep(ledger, sweep, trace=trace, key=key, rank=rank)
            if trace == "surprise":
                responses[key, rank] = response
        elif layer and (minus := found.get((trace, key, rank, kind, 0, layer, -1))) is not None:
            _odd_part(ledger, sweep, minus, layer, trace=trace, key=key)
    slopes = {kind: _control(ledger, kind, drawn) for kind, drawn in controls.items()}
    _verdict(ledger, responses, slopes.get("rotated", []))


def _control(ledger: Ledger, kind: str, drawn: Sequence[Sweep]) -> list[float]:
    """What the draws of a control do, in nats a nat and, where there is a natural effect, as slopes, returned."""
    slopes: list[float] = []
    for quantity, unit in (("control_effect", "nats a nat"), ("control_slope", "slope")):
        if quantity == "control_slope" and min(sweep.spread for sweep in drawn) < LEAST_EFFECT:
            continue
        values = []
        for sweep in drawn:
            against = sweep.level if quantity == "control_slope" else sweep.trace_level
            values.append(float(sweep.slopes((sweep.steered.sum(1) / sweep.weight)[None], against)[0]))
        ledger.fact(
            quantity,
            unit,
            f"{unit} of {kind} controls (rank 1, key entropy), mean over {len(values)} draws, and the least and "
            "greatest of them",
            float(np.mean(values)),
            len(values),
            low=float(min(values)),
            high=float(max(values)),
            null=0.0,
            kind=kind,
            notes=[f"SD over draws {np.std(values, ddof=1):.3f}"] if len(values) > 1 else [],
        )
        slopes = values
    return slopes if min(sweep.spread for sweep in drawn) >= LEAST_EFFECT else []


class Response(NamedTuple):
    """What a sweep found: the slope, None without a natural effect, nats a nat of the trace, and the natural ones."""

    slope: Finding | None
    effect: Finding
    natural: float


def _sweep(ledger: Ledger, sweep: Sweep, **where: Any) -> Response:
    """The slope, nats a nat and the shift of one sweep."""
    with np.errstate(invalid="ignore"):
        value = np.where(sweep.n > 0, sweep.steered / np.maximum(sweep.n, 1), np.nan)
        natural = np.where(sweep.n > 0, sweep.natural / np.maximum(sweep.n, 1), np.nan)
    means = ledger.resampled(value, sweep.n)
    common: dict[str, Any] = {"pooling": _POOLING, **where}
    effect = f"natural: {sweep.natural_effect:.3f}"
    (found,) = ledger.add(
        "steering_effect",
        "nats a nat",
        "change of the entropy of the next token by a nat of the trace that is set, within keys",
        means,
        lambda m: sweep.slopes(m, sweep.trace_level),
        [],
        null=0.0,
        notes=[effect],
        **common,
    )
    ledger.add(
        "steering_shift",
        "nats",
        "mean entropy of the next token under steering less without it, over all targets: distrust large ones",
        ledger.resampled(value - natural, sweep.n),
        lambda m: m.mean(axis=-1),
        [],
        null=0.0,
        **common,
    )
    if sweep.spread < LEAST_EFFECT:
        why = f"no natural effect to reproduce: entropy differs by {sweep.spread:.2f} nats (SD) between targets"
        ledger.leave_out("steering_slope", "slope", why, **where)
        return Response(None, found, sweep.natural_effect)
    (slope,) = ledger.add(
        "steering_slope",
        "slope",
        "slope of the entropy after steering on the natural entropy of the target, within keys: 1 is full control, "
        "0 is none",
        means,
        lambda m: sweep.slopes(m, sweep.level),
        [],
        null=0.0,
        notes=[f"SD of natural entropy between targets {sweep.spread:.2f} nats"],
        **common,
    )
    return Response(slope, found, sweep.natural_effect)


def _odd_part(ledger: Ledger, plus: Sweep, minus: Sweep, layer: int, **where: Any) -> None:
    """What adding a direction and its opposite do differently: any displacement raises entropy, and that drops out."""
    if plus.steered.shape != minus.steered.shape:
        return
    n = plus.n
    value = np.where(n > 0, (plus.steered - minus.steered) / 2 / np.maximum(n, 1), np.nan)
    ledger.add(
        "profile",
        "nats a nat",
        "one layer: half the difference of the entropy after adding the centroids' deviations and after their "
        "opposites, by a nat of the trace, within keys",
        ledger.resampled(value, n),
        lambda m: plus.slopes(m, plus.trace_level),
        [],
        pooling=_POOLING,
        null=0.0,
        layer=layer,
        **where,
    )


def _verdict(ledger: Ledger, responses: Mapping[tuple[str, int], Response], rotated: list[float]) -> None:
    """Whether surprise moves entropy: rank 1 within quartiles of H_t decides, another key has to agree."""
    answers: dict[str, Answer] = {
        key: answer_of(responses[key, 1], rotated if key == "entropy" else [])
        for key in ("entropy", "token")
        if (key, 1) in responses
    }
    known = {answer for answer in answers.values() if answer != "unclear"}
    decided_by: Answer = answers.get("entropy", "unclear")
    words = _WORDS[decided_by] if len(known) < 2 else "not identified: keys disagree"
    decided = responses.get(("entropy", 1))
    slope = decided.slope if decided else None
    ledger.fact(
        "surprise_verdict",
        "slope",
        f"rank-1 clamp at all layers within quartiles of H_t; moves: slope at least {LEAST_SLOPE} and beyond every "
        "rotated draw, entropy rises by the nat, naturally and under the clamp, intervals above 0; does not: slope "
        f"below {LEAST_SLOPE} and around 0, or no natural effect and less than {NO_EFFECT} nats a nat; not identified: "
        "two keys disagree, or a slope without a rise by the nat",
        slope.estimate if slope else None,
        ledger.n_prompts,
        low=slope.low if slope else None,
        high=slope.high if slope else None,
        null=0.0,
        notes=[words, *(f"key {key}: {answer}" for key, answer in answers.items())],
    )


_WORDS: dict[Answer, str] = {
    "moves": "surprise moves entropy",
    "does not": "surprise does not move entropy",
    "levels": "not identified: entropy follows the level that is set, but does not rise with surprise",
    "unclear": "unclear",
}


def answer_of(response: Response, rotated: list[float]) -> Answer:
    """What one key's sweep says.

    Args:
        response: of rank 1.
        rotated: slopes of the rotated draws; none where the key has no controls.
    """
    slope, effect, natural = response
    if effect.low is None or effect.high is None:
        return "unclear"
    if slope is None:
        return "does not" if max(abs(effect.low), abs(effect.high)) < NO_EFFECT else "unclear"
    if slope.estimate is None or slope.low is None or slope.high is None:
        return "unclear"
    if slope.high < LEAST_SLOPE and slope.low <= NO_EFFECT:
        return "does not"
    if slope.estimate < LEAST_SLOPE or slope.low <= 0 or (rotated and slope.estimate <= max(rotated)):
        return "unclear"
    return "moves" if natural > 0 and effect.low > 0 else "levels"


def _explained(ledger: Ledger, rows: Mapping[str, np.ndarray] | None, observed: Mapping[str, np.ndarray]) -> None:
    """How much of the own-foreign gap in the next entropy the trace explains: seen by matching, and by intervention."""
    gap = _gap(ledger, observed)
    if gap is None:
        return
    for trace, key in dict.fromkeys(zip(observed["trace"].tolist(), observed["key"].tolist(), strict=True)):
        at = (observed["trace"] == trace) & (observed["key"] == key)
        _observed(ledger, {name: column[at] for name, column in observed.items()}, trace=trace, key=key)
    if rows is None:
        return
    all_of_them = (observed["trace"] == "surprise") & (observed["key"] == "none")
    tokens = np.bincount(observed["is_own"][all_of_them].astype(int), observed["n"][all_of_them].astype(float), 2)
    columns = ("trace", "key", "rank", "kind", "draw")
    names = list(zip(*(rows[c].tolist() for c in columns), strict=True))
    for name in dict.fromkeys(names):
        at = np.array([other == name for other in names])
        _counterfactual(ledger, {c: v[at] for c, v in rows.items()}, dict(zip(columns, name, strict=True)), tokens)


def _gap(ledger: Ledger, rows: Mapping[str, np.ndarray]) -> float | None:
    """Foreign less own next entropy; None, and said so, where the interval holds 0."""
    first = (rows["trace"] == "surprise") & (rows["key"] == "none")
    own = rows["is_own"][first].astype(bool)
    entropy, n = _by_prompt(
        ledger, rows["prompt"][first], own.astype(int), rows["entropy"][first], rows["n"][first].astype(float)
    )
    value = np.where(n > 0, entropy / np.maximum(n, 1), np.nan)
    if len(value) < 2:
        ledger.leave_out("gap", "nats", "there is no foreign text, or no own text")
        return None
    (finding,) = ledger.add(
        "gap",
        "nats",
        "entropy of the next token in foreign text less in own text",
        ledger.resampled(value, n),
        lambda m: m[..., 0] - m[..., 1],
        [],
        pooling="mean over tokens",
        null=0.0,
    )
    if finding.low is None or finding.high is None or finding.low <= 0 <= finding.high:
        ledger.leave_out("gap_explained", "share", "the own-foreign gap is not distinguishable from 0")
        return None
    return finding.estimate


def _observed(ledger: Ledger, rows: Mapping[str, np.ndarray], **where: Any) -> None:
    """Share of the gap that goes away when foreign and own tokens are compared within cells of key and bin.

    Cells are weighted by their foreign tokens; a cell without tokens of both sides has no part in it.
    """
    cells, unit = np.unique(np.stack([rows["fold"], rows["cell"]], 1).astype(int), axis=0, return_inverse=True)
    both = unit.reshape(-1) * 2 + rows["is_own"].astype(int)
    sums = _by_prompt(ledger, rows["prompt"], both, rows["entropy"].astype(float), rows["n"].astype(float))
    entropy, n = (np.pad(s, ((0, 2 * len(cells) - len(s)), (0, 0))) for s in sums)
    total = n.sum(axis=1).reshape(-1, 2)
    shared = (total >= 5).all(axis=1)
    overlap = float(total[shared, 0].sum() / max(1.0, total[:, 0].sum()))
    if overlap < LEAST_OVERLAP:
        why = f"foreign tokens and own ones share too few cells ({overlap:.0%} of the foreign tokens)"
        ledger.leave_out("gap_explained", "share", why, way="observed", **where)
        return
    keep = np.repeat(shared, 2)
    value, n = entropy[keep], n[keep]
    weight = total[shared, 0] / total[shared, 0].sum()
    means = ledger.resampled(np.where(n > 0, value / np.maximum(n, 1), np.nan), n)
    own_weight = total[shared, 1] / total[shared, 1].sum()

    def explained(m: np.ndarray) -> np.ndarray:
        foreign, own = m[..., 0::2], m[..., 1::2]
        raw = (foreign * weight).sum(-1) - (own * own_weight).sum(-1)
        return 1 - ((foreign - own) * weight).sum(-1) / raw

    ledger.add(
        "gap_explained",
        "share",
        "1 less the gap within cells of key and bin of the trace over the gap; an association, no mechanism",
        means,
        explained,
        [],
        pooling="mean over tokens of shared cells",
        notes=[f"{overlap:.0%} of the foreign tokens are in shared cells"],
        way="observed",
        **where,
    )


def _counterfactual(ledger: Ledger, rows: Mapping[str, np.ndarray], where: dict[str, Any], tokens: np.ndarray) -> None:
    """Share of the gap that goes away when foreign tokens are given the levels of the trace that own text has.

    Args:
        ledger, rows, where: of one sweep.
        tokens: how many there are, foreign and own, whether they can be set or not.
    """
    own = rows["is_own"].astype(int)
    columns = ("natural", "sham", "counterfactual", "n")
    sums = _by_prompt(ledger, rows["prompt"], own, *(rows[c].astype(float) for c in columns))
    n = sums[3]
    share = float((n.sum(axis=1) / tokens[: len(n)]).min())
    if len(n) < 2 or share < LEAST_SET:
        ledger.leave_out(
            "gap_explained",
            "share",
            f"only {share:.0%} of the foreign or own tokens can be set",
            way="counterfactual",
            **where,
        )
        return
    value = np.where(n > 0, np.array(sums[:3]) / np.maximum(n, 1), np.nan)
    means = ledger.resampled(value, np.broadcast_to(n, value.shape))

    def gaps(m: np.ndarray) -> np.ndarray:
        return m[..., 0] - m[..., 1]

    sham = means.estimate(lambda m: gaps(m)[..., 1] / gaps(m)[..., 0])
    if not sham.low > LEAST_KEPT:
        why = f"the sham, which changes no level, keeps {float(sham.value):.2f} of the gap, too little"
        ledger.leave_out("gap_explained", "share", why, way="counterfactual", **where)
        return
    ledger.add(
        "gap_explained",
        "share",
        "1 less the gap with foreign tokens clamped to the levels of the trace that own text has, over the gap with "
        "every token clamped to its own level (sham)",
        means,
        lambda m: 1 - gaps(m)[..., 2] / gaps(m)[..., 1],
        [],
        pooling="mean over tokens",
        null=0.0,
        notes=[f"{share:.0%} of the tokens are set"],
        way="counterfactual",
        **where,
    )
    if where["kind"] == "centroid":
        ledger.add(
            "gap_kept",
            "share",
            "gap under the sham over the gap: far from 1, clamping by itself changes what is to be explained",
            means,
            lambda m: gaps(m)[..., 1] / gaps(m)[..., 0],
            [],
            pooling="mean over tokens",
            null=1.0,
            **where,
        )
