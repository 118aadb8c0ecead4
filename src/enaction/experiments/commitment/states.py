"""What the last state before an answer foretells, and what becomes of an answer under another prompt's keys and values.

Axes: P prompt, L label.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from enaction import stats
from enaction.analysis.data import complete
from enaction.analysis.ledger import STREAMS, Ledger, Permuted
from enaction.experiments.commitment.curves import BY_PROMPT, Labelled
from enaction.experiments.commitment.labels import NONE, LabelSpec
from enaction.stats import foretelling
from enaction.stats import labels as of_labels

_SHUFFLES = 100


def add_probe(ledger: Ledger, states: pa.Table, labelled: Labelled, prompt_code: Mapping[str, int]) -> None:
    """What the state at the last token before an answer says about the distribution of its labels, layer by layer."""
    share_PL = of_labels.shares(labelled.count_PL)
    by_layer: dict[int, dict[str, np.ndarray]] = {}
    columns = states["layer"].to_pylist(), states["prompt_id"].to_pylist(), rows_of(states["state"])
    for layer, prompt_id, state in zip(*columns, strict=True):
        by_layer.setdefault(layer, {})[prompt_id] = state
    known = [prompt for prompt in prompt_code if all(prompt in of for of in by_layer.values())]
    rows = [prompt_code[prompt] for prompt in known]
    text = (
        "cross-entropy of the prompt's labels under the mean of the other prompts minus that under a ridge probe of "
        "the state at the last token before the answer, fitted to the other prompts"
    )
    if len(known) < 3:
        ledger.leave_out("probe_gain", "nats", f"{len(known)} prompts; a probe needs 3", text=text)
        return
    state = {layer: np.array([of[prompt] for prompt in known]) for layer, of in sorted(by_layer.items())}
    found = {layer: foretelling.foretold(of, share_PL[rows]) for layer, of in state.items()}
    rng = ledger.rng(STREAMS["commitment", "probe"])
    order = np.array([rng.permutation(len(rows)) for _ in range(_SHUFFLES)])
    null = {layer: foretelling.shuffled_gains(of, share_PL[rows], order) for layer, of in state.items()}
    largest = np.max(list(null.values()), axis=0)
    how = "labels dealt to prompts at random; one-sided, of the largest gain over layers"
    for layer, of in found.items():
        gain_P = np.full(len(prompt_code), np.nan)
        gain_P[rows] = of.gain
        p = (1 + int((largest >= of.gain.mean()).sum())) / (1 + _SHUFFLES)
        at = ledger.at(layer=layer, notes=[f"with labels dealt at random {null[layer].mean():.3f} on average"])
        at.add("probe_gain", "nats", text, gain_P, pooling=BY_PROMPT, null=0.0, test=Permuted(p, how))
        hit_P = np.full(len(prompt_code), np.nan)
        hit_P[rows] = of.hit
        at.add("probe_hit", "share", "the probe's likeliest label is the prompt's commonest", hit_P, pooling=BY_PROMPT)
    room_P = np.full(len(prompt_code), np.nan)
    room_P[rows] = next(iter(found.values())).room
    text = "the probe's gain if it predicted each prompt's own distribution, the most that there is"
    ledger.add("probe_room", "nats", text, room_P, pooling=BY_PROMPT)


def add_moves(ledger: Ledger, moves: pa.Table, spec: LabelSpec, prompt_code: Mapping[str, int]) -> None:
    """Continuations after keys and values of another prompt were put in place of the prompt's own."""
    label = spec.labeller()
    rows = moves.to_pylist()
    text = "share of continuations with the donor's label, its keys and values in place of the prompt's own"
    if not rows:
        why = "no three prompts of one length differ in their commonest label"
        ledger.leave_out("moved", "share", why, text=text)
        return
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    got = {arm: {"donor": [], "own": []} for arm in arms}
    for row in rows:
        of = label(row["text"])
        value = of.value if of else NONE
        got[row["arm"]]["donor"].append((row["prompt_id"], float(value == row["donor_label"])))
        got[row["arm"]]["own"].append((row["prompt_id"], float(value == row["own_label"])))

    def shares(values: list[tuple[str, float]]) -> np.ndarray:
        code = np.array([prompt_code[prompt] for prompt, _ in values], dtype=np.int64)
        return stats.prompt_means(np.array([v for _, v in values]), code, len(prompt_code))

    donor = {arm: shares(of["donor"]) for arm, of in got.items()}
    for arm, of in got.items():
        ledger.add("moved_share", "share", f"{text} (arm {arm})", donor[arm], pooling=BY_PROMPT, arm=arm)
        kept = "share of continuations with the prompt's own label"
        ledger.add("kept_share", "share", f"{kept} (arm {arm})", shares(of["own"]), pooling=BY_PROMPT, arm=arm)
    for arm in ("words", "upper", "frame"):
        both_2P = complete(np.stack([donor[arm], donor["unrelated"]]), axes=(0,))
        what = f"{text}: {arm}, minus the share of that label with an unrelated prompt's words"
        if np.isfinite(both_2P).any():
            ledger.add(
                "moved", "share", what, both_2P, lambda m: m[..., 0] - m[..., 1], null=0.0, pooling=BY_PROMPT, arm=arm
            )


def rows_of(column: pa.ChunkedArray) -> np.ndarray:
    """[N, C] a column of lists of equal length."""
    flat = column.combine_chunks().flatten().to_numpy()
    return flat.reshape(len(column), -1) if len(column) else flat.reshape(0, 0)
