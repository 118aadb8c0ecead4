"""(a) Does the gap between own and foreign text grow along one response?

Axes: R reader, A author, P prompt, S span of positions: bins, then beginnings.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from enaction.analysis.data import Data
from enaction.analysis.ledger import STREAMS, Ledger, along, with_mean
from enaction.analysis.measures import INTERACTION_OF_MEANS, Measure, add_measure, of_rows, others, own, rows_of

MIN_PROMPTS = 5  # a span of positions that fewer prompts reach is left out

_MATCHED = (
    "only prompts at which every author's text reaches the end of the span for every reader; mean over prompts of the "
    "mean over a response's tokens there"
)
_GAP = Measure(
    "gap_at_position",
    "nats",
    0.0,
    "entropy on own text minus mean over the others'",
    lambda mean_RA: own(mean_RA) - others(mean_RA),
    pooling=_MATCHED,
)
_INTERACTION = replace(INTERACTION_OF_MEANS, name="interaction_at_position", pooling=_MATCHED)


def analyse(data: Data, ledger: Ledger, members: Sequence[str], edges: Sequence[int]) -> None:
    """Write the findings of one stage.

    Args:
        ledger: of the stage.
        members: the models of the stage.
        edges: of the bins, and the lengths of the beginnings.
    """
    edges = [0, *sorted(set(edges))]
    bins = list(itertools.pairwise(edges))
    spans = [*bins, *((0, length) for length in edges[2:])]
    entropy_SRAP = data.span_tables(members, "assistant", spans)
    has_all_SP = np.isfinite(entropy_SRAP[:, 0, 0])
    how, stream = "authors shuffled within each prompt", STREAMS["prior", "interaction at position"]
    for s in np.flatnonzero(has_all_SP.sum(axis=1) >= MIN_PROMPTS).tolist():
        start, stop = spans[s]
        place: dict[str, Any] = {"span": "bin" if s < len(bins) else "first", "from": start, "to": stop}
        at = ledger.at(**place)
        test = at.label_test(entropy_SRAP[s], 1, with_mean(INTERACTION_OF_MEANS.of), stream, "less", how)
        entropy = at.resampled(entropy_SRAP[s])
        add_measure(at, _GAP, entropy, members)
        add_measure(at, _INTERACTION, entropy, members, test=test)
    _trend(ledger, members, entropy_SRAP[: len(bins)], bins)


def _trend(ledger: Ledger, members: Sequence[str], entropy_SRAP: np.ndarray, bins: Sequence[tuple[int, int]]) -> None:
    """Slope of the interaction over the logarithm of the position, on prompts that reach every bin used."""
    has_all_SP = np.isfinite(entropy_SRAP[:, 0, 0])
    enough = has_all_SP.sum(axis=1) >= max(MIN_PROMPTS, has_all_SP.shape[1] / 2)
    # The first token is predicted from the prompt alone, so its bin has nothing to recognise.
    used = [s for s in np.flatnonzero(enough).tolist() if bins[s][0] > 0]
    is_in_P = has_all_SP[used].all(axis=0)
    if len(used) < 3 or is_in_P.sum() < MIN_PROMPTS:
        return
    value_SRAP = np.where(is_in_P, entropy_SRAP[used], np.nan)
    octave_S = np.array([np.log2(np.arange(*bins[s])).mean() for s in used])
    slope_S = (octave_S - octave_S.mean()) / ((octave_S - octave_S.mean()) ** 2).sum()

    def slope_of(mean_SRA: np.ndarray) -> np.ndarray:
        return np.einsum("s,...sr->...r", slope_S, INTERACTION_OF_MEANS.of(mean_SRA))

    slope = of_rows(INTERACTION_OF_MEANS, len(members), slope_of)
    how = "positions shuffled within each prompt"
    place: dict[str, Any] = {"from": bins[used[0]][0], "to": bins[used[-1]][1]}
    text = (
        "least-squares slope of the interaction in bins over log2 of the position, the first token left out; below 0: "
        "recognition grows; on prompts that reach every bin"
    )
    test = ledger.label_test(value_SRAP, 0, slope, STREAMS["prior", "trend"], "both", how)
    unit, axes = "log units a doubling", [along("reader", rows_of(INTERACTION_OF_MEANS, members))]
    ledger.add("position_trend", unit, text, value_SRAP, slope, axes, pooling=_MATCHED, null=0.0, test=test, **place)
