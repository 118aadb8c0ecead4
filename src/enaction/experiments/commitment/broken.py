"""What a broken plan costs: entropy after own and foreign beginnings of the prompt's label and of another one.

Axes: P prompt, M passage, N token, A arm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from enaction import stats
from enaction.analysis.data import Data, complete
from enaction.analysis.ledger import Ledger
from enaction.experiments.commitment.curves import BY_PROMPT
from enaction.experiments.commitment.labels import Labeller, LabelSpec
from enaction.experiments.commitment.prefills import ARMS
from enaction.passages import Passage
from enaction.study.store import Cell

# Differences between arms: name -> the arms, and what they say.
CONTRASTS = {
    "violation": ("own-different", "own-same", "own text of another label minus own text of the prompt's label"),
    "violation_minimal": (
        "swapped",
        "own-same",
        "own text whose label's word is replaced by another label's minus the same text",
    ),
    "violation_at_home": (
        "own-different",
        "own-home",
        "own text of another label minus the same text after the prompt that it was written for",
    ),
    "violation_foreign": (
        "foreign-different",
        "foreign-same",
        "foreign text of another label minus foreign text of the prompt's label",
    ),
    "style": ("foreign-same", "own-same", "foreign minus own text, both of the prompt's label"),
}
_INTERACTION = "violation in foreign text minus violation in own text"


def add_violation(
    ledger: Ledger,
    data: Data,
    cell: Cell,
    passages: Sequence[Passage],
    spec: LabelSpec,
    windows: Sequence[tuple[int, int]],
) -> None:
    """Entropy after beginnings that keep and break a plan, own and foreign; data: over the cases of the beginnings."""
    tokens = data.tokens(cell)
    begun_N = np.array([p.sampling["begun_with"] for p in passages])[tokens.passage]
    stem_N = np.array([p.marks.get("stem", 0) for p in passages])[tokens.passage]
    of_label_M = np.array([p.marks["label"] == spec.name for p in passages])
    arm_M = np.array([p.marks["arm"] for p in passages])
    prompt_M = data.prompt_codes(cell.author)

    def means(arm: str, value_N: np.ndarray, use_N: np.ndarray) -> np.ndarray:
        use_M = of_label_M & (arm_M == arm)
        sums = stats.passage_sums(
            tokens.passage, value_N, len(passages), use_N & use_M[tokens.passage] & ~tokens.is_end
        )
        return stats.prompt_means(np.where(use_M, sums.means, np.nan), prompt_M, data.n_prompts)

    in_prefill_N = (tokens.position >= stem_N) & (tokens.position < begun_N)
    planned_M = np.array([p.marks["share"] for p in passages])
    if not of_label_M.any():
        why = f"no prompt has samples with a {spec.name} whose word can be given"
        ledger.leave_out("violation", "nats", why, text="entropy after a broken plan")
        return
    share_P = stats.prompt_means(np.where(of_label_M, planned_M, np.nan), prompt_M, data.n_prompts)
    text = "share of the prompt's commonest label among its samples: what there is to violate"
    ledger.add("planned_share", "share", text, share_P, pooling=BY_PROMPT)
    label = spec.labeller()
    kept_M = np.array([_goes_on_with(p, label) for p in passages])
    for arm in ARMS:
        if not (of_label_M & (arm_M == arm)).any():
            continue
        at = ledger.at(arm=arm)
        cost_P = means(arm, tokens.surprisal, in_prefill_N)
        at.add(
            "prefill_surprisal", "nats", "surprisal of the beginning to the reader", cost_P, pooling="mean over tokens"
        )
        kept_P = stats.prompt_means(np.where(of_label_M & (arm_M == arm), kept_M, np.nan), prompt_M, data.n_prompts)
        if np.isfinite(kept_P).any():
            text = "share of continuations, without their beginning, that have the prompt's label"
            at.add("returns", "share", text, kept_P, pooling=BY_PROMPT)
    for window in windows:
        inside_N = (tokens.position >= begun_N + window[0]) & (tokens.position < begun_N + window[1])
        name = f"{window[0]}-{window[1]}"
        value = {arm: means(arm, tokens.entropy, inside_N) for arm in ARMS}
        at = ledger.at(window=name)
        for arm, value_P in value.items():
            if np.isfinite(value_P).any():
                text = f"entropy of the sampled tokens {name} after the beginning"
                at.add("continuation_entropy", "nats", text, value_P, arm=arm)
        for quantity, (more, less, what) in CONTRASTS.items():
            _difference(at, quantity, what, np.stack([value[more], value[less]]))
        pairs = ("foreign-different", "foreign-same", "own-different", "own-same")
        _difference(at, "violation_by_author", _INTERACTION, np.stack([value[arm] for arm in pairs]))


def _goes_on_with(passage: Passage, label: Labeller) -> float:
    """Whether a continuation, without its beginning, has the prompt's label; NaN where it has none."""
    of = label(passage.response[passage.marks["begun_end"] :])
    return np.nan if of is None else float(of.value == passage.marks["planned"])


def _difference(ledger: Ledger, quantity: str, what: str, value_AP: np.ndarray) -> None:
    """The first minus the second row; of four rows the first difference minus the other."""
    value_AP = complete(value_AP, axes=(0,))
    text = f"entropy after the beginning: {what}"
    if not np.isfinite(value_AP).any():
        ledger.leave_out(quantity, "nats", "no prompt has both beginnings", text=text)
        return
    sign = np.array([1.0, -1.0, -1.0, 1.0])[: len(value_AP)]
    ledger.add(
        quantity,
        "nats",
        text,
        value_AP,
        lambda mean: (mean * sign).sum(-1),
        null=0.0,
        pooling=BY_PROMPT,
    )
