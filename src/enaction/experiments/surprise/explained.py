"""How much of the gap between foreign and own text a trace explains: seen by matching, and by intervention.

Axes: P prompt, U cell and author.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from enaction.analysis.ledger import Ledger
from enaction.experiments.surprise.rows import by_prompt

# Share of the foreign tokens that has to be in cells which own tokens are in too.
LEAST_OVERLAP = 0.5
# Share of the foreign and of the own tokens that a counterfactual has to set: those that cannot be, because no token of
# their key has the level, are the surprising ones among expected ones, which the gap may be made of.
LEAST_SET = 0.8
# What the sham has to keep of the gap for a share of it to mean something, at the lower end of its interval.
LEAST_KEPT = 0.25


def explained(ledger: Ledger, rows: Mapping[str, np.ndarray] | None, observed: Mapping[str, np.ndarray]) -> None:
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
    entropy, n = by_prompt(
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
    sums = by_prompt(ledger, rows["prompt"], both, rows["entropy"].astype(float), rows["n"].astype(float))
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
    sums = by_prompt(ledger, rows["prompt"], own, *(rows[c].astype(float) for c in columns))
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
