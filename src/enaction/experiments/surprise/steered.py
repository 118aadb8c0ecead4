"""What steering does: slopes and nats a nat of each sweep, beside its controls, and the verdict.

Prompts are resampled; directions, draws and cells stay as they are. What a random control does differs between its
draws far more than between prompts, so the spread over draws stands beside every effect.

Axes: P prompt, U cell of a sweep (fold, key, target), B resample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from enaction.analysis.ledger import Ledger
from enaction.experiments.surprise.rows import by_prompt
from enaction.findings import Finding

# Below this spread of natural entropy within a key, nats, there is no effect for steering to reproduce; then steering
# has to do less than so many nats a nat for surprise to be without effect.
LEAST_EFFECT, NO_EFFECT = 0.1, 0.1
# From here on the verdict is that surprise moves entropy; chosen on the organisms of the pilot, judged on fresh ones.
LEAST_SLOPE = 0.5
CONTROLS = ("rotated", "matched", "shuffled")

# `levels`: entropy follows the level that is set, but does not rise with surprise; something else differs there.
Answer = Literal["moves", "does not", "levels", "unclear"]
_POOLING = "entropy of the next token: mean over tokens whose key and target have a centroid"


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
        steered, natural, n = by_prompt(
            ledger, rows["prompt"][at], unit, *(rows[c][at].astype(float) for c in ("steered", "natural", "n"))
        )
        first = np.unique(unit, return_index=True)[1]
        group = np.unique(present[:, :2], axis=0, return_inverse=True)[1].reshape(-1)
        level, trace_level = (rows[c][at][first].astype(float) for c in ("level", "trace_level"))
        found[name] = Sweep(steered, natural, n, group, level, trace_level)
    return found


def steered(ledger: Ledger, rows: Mapping[str, np.ndarray]) -> None:
    """What clamps of a trace do to the next entropy, beside their controls, and the verdict; written to the ledger.

    Args:
        ledger: at the place of one reader.
        rows: columns of its table of treated passes, one element a prompt and treatment.
    """
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
