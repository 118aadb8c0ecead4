"""How varied the labels of a prompt's answers are, and after how many of its tokens the label of one is settled.

Axes: P prompt, L label, K number of tokens given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from enaction import stats
from enaction.analysis.data import complete
from enaction.analysis.ledger import Ledger
from enaction.experiments.commitment.answers import answer_text
from enaction.experiments.commitment.labels import NONE, Label
from enaction.experiments.commitment.texts import is_original
from enaction.passages import Passage
from enaction.stats import labels as of_labels

# Above this pooled chance a curve cannot tell a plan from a label that never differs.
PEAKED = 0.8
# Above this chance an excess would be a ratio of two numbers near 0.
LITTLE_LEFT = 0.95
_SHUFFLES, _EXAMPLES = 100, 3
_BY_SAMPLE = "labels of samples at temperature 1; mean over prompts"
BY_PROMPT = "mean over prompts"
COMMONEST = "the commonest: "  # before its name, in a note


@dataclass(frozen=True)
class Labelled:
    """The samples and regenerations of a model with the labels of one kind.

    Attributes:
        values: the labels, `none` last.
        count_PL: how often each prompt's samples have each.
        code: id of a sample -> its label.
        label: id of an original -> its label with the place of its word, None without one.
        regenerated: (original, k) -> labels of its regenerations.
        examples: of samples without a label.
    """

    values: list[str]
    count_PL: np.ndarray  # noqa: N815  # axes, by the house convention
    code: Mapping[str, int]
    label: Mapping[str, Label | None]
    regenerated: Mapping[tuple[str, int], list[int]]
    examples: list[str]

    @classmethod
    def of(
        cls,
        prompt_code: Mapping[str, int],
        samples: Sequence[tuple[Passage, Label | None]],
        regenerated: Sequence[tuple[Passage, Label | None]],
    ) -> Labelled:
        """From passages with their labels."""
        named = {label.value for _, label in (*samples, *regenerated) if label is not None} - {NONE}
        values = [*sorted(named), NONE]
        code_of = {value: i for i, value in enumerate(values)}
        code = {p.id: code_of[label.value if label else NONE] for p, label in samples}
        count_PL = of_labels.label_counts(
            list(code.values()), [prompt_code[p.prompt_id] for p, _ in samples], len(values), len(prompt_code)
        )
        again: dict[tuple[str, int], list[int]] = {}
        for p, label in regenerated:
            again.setdefault((p.marks["original"], p.marks["k"]), []).append(code_of[label.value if label else NONE])
        return cls(
            values,
            count_PL,
            code,
            {p.id: label for p, label in samples if is_original(p)},
            again,
            [answer_text(p).strip() for p, label in samples if label is None][:_EXAMPLES],
        )


def add_variety(ledger: Ledger, labelled: Labelled, rng: np.random.Generator) -> None:
    """Entropy, commonest label, number of labels, and the share of samples without one."""
    count_PL = labelled.count_PL
    shuffled = float(of_labels.shuffled_entropy(count_PL, rng, _SHUFFLES).mean())
    share_PL = of_labels.shares(count_PL)
    entropy = "entropy of the label over samples of a prompt (Miller-Madow); null: labels shuffled over prompts"
    values: list[tuple[str, str, str, np.ndarray, float | None]] = [
        ("label_entropy", "nats", entropy, of_labels.label_entropy(count_PL), shuffled),
        ("top_share", "share", "share of the commonest label of a prompt", share_PL[:, :-1].max(1, initial=0.0), None),
        (
            "unique_labels",
            "labels",
            "number of labels among the samples of a prompt, `none` not counted",
            (count_PL[:, :-1] > 0).sum(1).astype(float),
            None,
        ),
    ]
    for quantity, unit, text, value_P, null in values:
        ledger.add(quantity, unit, text, value_P, pooling=_BY_SAMPLE, null=null)
    most = int(count_PL[:, :-1].sum(0).argmax()) if len(labelled.values) > 1 else -1
    text = "share of the label that is commonest over all prompts"
    said = [f"{COMMONEST}{labelled.values[most]}"]
    ledger.add("commonest_share", "share", text, share_PL[:, most], pooling=_BY_SAMPLE, notes=said)
    notes = [f"without a label: {text[:120]!r}" for text in labelled.examples]
    text = "share of samples without a label; in all other numbers `none` is a label like any other"
    ledger.add("none_share", "share", text, share_PL[:, -1], pooling=_BY_SAMPLE, notes=notes)


def add_curve(ledger: Ledger, labelled: Labelled, originals: Sequence[Passage], prompt_code: Mapping[str, int]) -> None:
    """Agreement of regenerations with their original, as excess over both chances, and before the label's own word."""
    within_P = of_labels.agreement(labelled.count_PL)
    pooled_P = of_labels.pooled_agreement(labelled.count_PL)
    chances = {"within": within_P, "pooled": pooled_P}
    ledger.add(
        "chance_within",
        "share",
        "chance that two samples of a prompt have the same label",
        within_P,
        pooling=BY_PROMPT,
    )
    ledger.add(
        "chance_pooled",
        "share",
        "chance that samples of two prompts agree in the label",
        pooled_P,
        pooling=BY_PROMPT,
    )
    agree_KP = curve(labelled, originals, prompt_code, within_P)
    for k, agree_P in agree_KP.items():
        if np.isfinite(agree_P).any():
            text = f"share of regenerations from the first {k} tokens of a sample that have its label"
            if k == 0:
                text = "share of pairs of samples of a prompt that have the same label"
            ledger.add("agreement", "share", text, agree_P, pooling=BY_PROMPT, k=k)
        for of, chance_P in chances.items():
            _excess(ledger.at(k=k), f"excess_{of}", f"agreement at {k} tokens", agree_P, of, chance_P)
    places = [(p, place) for p in originals if (place := word_place(labelled.label[p.id], p)) is not None]
    if not places:
        why = "where the label's word lies is not known (clusters, or a function without a place, or no label)"
        ledger.leave_out("settled_before_word", "excess", why, text="excess before the label's own word")
        return
    start_P, end_P = (_by_prompt([(p, place[i]) for p, place in places], prompt_code) for i in (0, 1))
    ledger.add("word_start", "tokens", "tokens before the label's own word", start_P, pooling=BY_PROMPT)
    ledger.add("word_end", "tokens", "tokens up to and with the label's own word", end_P, pooling=BY_PROMPT)
    # Only an original with a label has a word: chance is that of such a text as well.
    is_label_L = np.array(labelled.values) != NONE
    within_P = of_labels.agreement(labelled.count_PL, is_label_L)
    before_P = before_word(labelled, places, prompt_code, within_P)
    text = "agreement, with originals that have a label, at the most tokens that end before the label's own word begins"
    ledger.add("agreement_before_word", "share", text, before_P, pooling=BY_PROMPT)
    chances = {"within": within_P, "pooled": of_labels.pooled_agreement(labelled.count_PL, is_label_L)}
    for of, chance_P in chances.items():
        _excess(ledger, f"settled_before_word_{of}", text, before_P, of, chance_P)


def curve(
    labelled: Labelled, originals: Sequence[Passage], prompt_code: Mapping[str, int], within_P: np.ndarray
) -> dict[int, np.ndarray]:
    """k -> [P] share of regenerations with the label of their original; at 0 pairs of samples."""
    lengths = sorted({k for _, k in labelled.regenerated})
    return {0: within_P} | {
        k: _by_prompt([(p, share) for p in originals if (share := _kept(labelled, p.id, k)) is not None], prompt_code)
        for k in lengths
    }


def before_word(
    labelled: Labelled,
    places: Sequence[tuple[Passage, tuple[int, int]]],
    prompt_code: Mapping[str, int],
    within_P: np.ndarray,
) -> np.ndarray:
    """[P] agreement at the largest k whose tokens end before the label's word begins, 0 included."""
    shares = []
    for passage, (start, _) in places:
        known = [k for (original, k) in labelled.regenerated if original == passage.id and k <= start]
        share = _kept(labelled, passage.id, max(known)) if known else within_P[prompt_code[passage.prompt_id]]
        shares.append((passage, share))
    return _by_prompt(shares, prompt_code)


def word_place(label: Label | None, original: Passage) -> tuple[int, int] | None:
    """Tokens of an answer before its label's word, and up to and with it; None where the word is not known."""
    if label is None or label.end < 0:
        return None
    ends = np.asarray(original.marks["ends"])
    return int((ends <= label.start).sum()), int((ends < label.end).sum()) + 1


def _kept(labelled: Labelled, original: str, k: int) -> float | None:
    codes = labelled.regenerated.get((original, k))
    return None if codes is None else float(np.mean([code == labelled.code[original] for code in codes]))


def _by_prompt(values: Sequence[tuple[Passage, float | None]], prompt_code: Mapping[str, int]) -> np.ndarray:
    """[P] means of values of passages; NaN for a prompt without one."""
    code = np.array([prompt_code[p.prompt_id] for p, _ in values], dtype=np.int64)
    value = np.array([np.nan if v is None else v for _, v in values], dtype=float)
    return stats.prompt_means(value, code, len(prompt_code))


def _excess(ledger: Ledger, quantity: str, what: str, agree_P: np.ndarray, of: str, chance_P: np.ndarray) -> None:
    """(agreement - chance) / (1 - chance) of means over prompts."""
    text = f"{what}, in excess of chance {'in the prompt' if of == 'within' else 'between prompts'}: 0 chance, 1 always"
    both_2P = complete(np.stack([agree_P, chance_P]), axes=(0,))
    if not np.isfinite(both_2P).any():
        ledger.leave_out(quantity, "excess", "no prompt has text for it", text=text)
    elif (chance := np.nanmean(both_2P[1])) > LITTLE_LEFT:
        ledger.leave_out(quantity, "excess", f"chance is {chance:.3f}: too little is left for an excess", text=text)
    else:
        ledger.add(
            quantity,
            "excess",
            text,
            both_2P,
            lambda mean_2: of_labels.excess(mean_2[..., 0], mean_2[..., 1]),
            pooling="ratio of means over prompts",
            null=0.0,
        )
