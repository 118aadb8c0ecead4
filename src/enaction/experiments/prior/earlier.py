"""(b) Does an own earlier turn, instead of a foreign one, change how a model reads a turn that stays the same?

Axes: R reader, E author of the earlier turn (nobody first, where the values include texts without one), A author of the
measured turn, P prompt.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from enaction import stats
from enaction.analysis.data import Data, complete
from enaction.analysis.ledger import POOLED, STREAMS, Ledger, Permuted, along, with_mean
from enaction.analysis.measures import others, own
from enaction.words import MEAN

ARMS = ("own", "foreign", "none")
# Of a table of measured turns [..., R, A], those of one kind for each reader.
PICKS: dict[str, stats.Statistic] = {"own": own, "foreign": others}
_VALUES = {"measured": PICKS, "earlier": ARMS}


def analyse(data: Data, ledger: Ledger, members: Sequence[str], texts_EA: Sequence[Sequence[str]]) -> None:
    """Write the findings of one stage.

    Args:
        ledger: of the stage, with the prompts that take part.
        members: the models of the stage.
        texts_EA: names of the texts of two rounds, by author of the earlier and of the measured turn.
    """
    texts = [text for row in texts_EA for text in row]
    refused = {r: reason for r in members for text in texts if (reason := data.left_out(r, [text], "assistant"))}
    for reader, reason in refused.items():
        why = f"{reader} cannot read two rounds, so the stage is left out: {reason}"
        ledger.leave_out("earlier_effect", "nats", why, reader=reader)
    if refused:
        return
    _lengths(data, ledger, members, texts_EA)
    bare = [m for m in members if data.own_framing[m] == "none"]
    ledger = ledger.at(notes=[f"{m} has no chat template: rounds are joined by newlines" for m in bare])
    value_REAP = _entropies(data, members, texts_EA)
    entropy = ledger.resampled(value_REAP)
    readers, pooling = along("reader", [*members, MEAN]), f"entropy of the measured turn: {POOLED}"
    for name, (text, of, keys, tail, unit, null) in _NUMBERS.items():
        for values in itertools.product(*(_VALUES[key] for key in keys)):
            place = dict(zip(keys, values, strict=True))
            statistic = with_mean(partial(of, **place))
            estimate = entropy.estimate(statistic)
            if np.isnan(estimate.value).all():
                continue  # of two models, where a third is needed
            test = _shuffled(ledger, value_REAP, statistic, tail) if tail else None
            ledger.at(**place).add(
                name, unit, text, estimate, axes=[readers], pooling=pooling, null=null, n=entropy.n_prompts, test=test
            )


def _lengths(data: Data, ledger: Ledger, members: Sequence[str], texts_EA: Sequence[Sequence[str]]) -> None:
    """Words of the earlier turns, as they are read and as they were written."""
    for earlier, texts in zip(members, texts_EA, strict=True):
        passages = data.passages(texts[0])
        for name, state in (("earlier_words", "is read"), ("earlier_words_whole", "was written")):
            words = float(np.mean([p.marks[name] for p in passages])) if passages else None
            text = f"mean number of words of the earlier turn as it {state}; n counts conversations"
            ledger.fact(name, "words", text, words, len(passages), author=earlier)


def _entropies(data: Data, members: Sequence[str], texts_EA: Sequence[Sequence[str]]) -> np.ndarray:
    """[R, E, A, P] entropy of the measured turns, of prompts that all texts have with and without a first round."""
    alone_RAP = data.table(members, members, "assistant")
    value_REAP = np.stack([alone_RAP, *(data.table(members, texts, "assistant") for texts in texts_EA)], axis=1)
    return complete(value_REAP, (0, 1, 2))


def _shuffled(ledger: Ledger, value_REAP: np.ndarray, statistic: stats.Statistic, tail: stats.Tail) -> Permuted:
    """Shuffle the authors of the earlier turn; texts without one, which no tested number uses, are not shuffled."""

    def with_nobody(mean_REA: np.ndarray) -> np.ndarray:
        return statistic(np.concatenate([mean_REA[..., :1, :], mean_REA], axis=-2))

    how = "authors of the earlier turn shuffled within each prompt"
    return ledger.label_test(value_REAP[:, 1:], 1, with_nobody, STREAMS["prior", "earlier turns"], tail, how)


def _of_arm(arm: str, value_REA: np.ndarray) -> np.ndarray:
    """[..., R, A] of one arm; foreign is the mean over the other models."""
    if arm == "none":
        return value_REA[..., :, 0, :]
    read_REA = value_REA[..., 1:, :]
    own_RA = _own_earlier(read_REA)
    return own_RA if arm == "own" else (read_REA.sum(axis=-2) - own_RA) / (read_REA.shape[-2] - 1)


def _own_earlier(read_REA: np.ndarray) -> np.ndarray:
    """[..., R, A] following an earlier turn of the reader itself."""
    return np.stack([read_REA[..., r, r, :] for r in range(read_REA.shape[-2])], axis=-2)


def _entropy(value_REA: np.ndarray, measured: str, earlier: str) -> np.ndarray:
    return PICKS[measured](_of_arm(earlier, value_REA))


def _log_gap(value_REA: np.ndarray, earlier: str) -> np.ndarray:
    log_RA = _of_arm(earlier, np.log(value_REA))
    return others(log_RA) - own(log_RA)


def _interaction(value_REA: np.ndarray, measured: str) -> np.ndarray:
    """Diagonal residual over reader x earlier author, of the measured turns of one kind for each reader."""
    log_RAE = np.log(value_REA[..., 1:, :]).swapaxes(-1, -2)
    log_RE = np.stack([PICKS[measured](log_RAE[..., e]) for e in range(log_RAE.shape[-1])], axis=-1)
    return stats.diagonal_residual(log_RE)


def _continuity(value_REA: np.ndarray) -> np.ndarray:
    """[..., R, A] log entropy of a measured text following its own author minus following others, not the reader, mean.

    NaN for foreign text with only two models.
    """
    log_REA = np.log(value_REA[..., 1:, :])
    is_other_EA = ~np.eye(log_REA.shape[-1], dtype=bool)
    is_other_REA = is_other_EA & is_other_EA[:, :, None]
    same_RA = np.diagonal(log_REA, axis1=-2, axis2=-1)
    count_RA = is_other_REA.sum(axis=-2)
    mean_RA = np.where(is_other_REA, log_REA, 0.0).sum(axis=-2) / np.maximum(count_RA, 1)
    return same_RA - np.where(count_RA > 0, mean_RA, np.nan)


def _beyond_continuity(value_REA: np.ndarray) -> np.ndarray:
    """[..., R] effect of an own earlier turn on own text beyond its effect on foreign text and beyond continuity."""
    log_REA = np.log(value_REA[..., 1:, :])
    continuity_RA = _continuity(value_REA)
    # Following an author that is neither the reader nor the measured one.
    neither_RA = np.diagonal(log_REA, axis1=-2, axis2=-1) - continuity_RA
    gained_RA = _own_earlier(log_REA) - neither_RA
    return others(gained_RA) + others(continuity_RA) - own(gained_RA)


class _Number(NamedTuple):
    """What findings say of a number and how it is computed.

    of: its statistic of cell means [..., R, E, A] for each reader, at a place with these keys. tail: of its test, where
    it is tested.
    """

    text: str
    of: Callable[..., np.ndarray]
    keys: tuple[str, ...] = ()
    tail: stats.Tail | None = None
    unit: str = "log units"
    null: float | None = 0.0


_NUMBERS = {
    "earlier_entropy": _Number(
        "entropy of the measured turn in one arm", _entropy, ("measured", "earlier"), unit="nats", null=None
    ),
    "earlier_effect": _Number(
        "entropy following an own earlier turn minus following a foreign one (mean over their authors), the same "
        "measured text",
        lambda value_REA, measured: _entropy(value_REA, measured, "own") - _entropy(value_REA, measured, "foreign"),
        ("measured",),
        "both",
        "nats",
    ),
    "earlier_interaction": _Number(
        "diagonal residual of log entropy over reader x author of the earlier turn; below 0: an own earlier turn "
        "lowers entropy beyond what this author's turns do to every reader",
        _interaction,
        ("measured",),
        "less",
    ),
    "continuity": _Number(
        "log entropy of a measured turn following an earlier turn of the same author minus following another author's "
        "(not the reader's), mean over these",
        lambda value_REA, measured: PICKS[measured](_continuity(value_REA)),
        ("measured",),
    ),
    "continuity_difference": _Number(
        "continuity of own text minus continuity of foreign text; below 0: two own turns do more than two turns of any "
        "one author",
        lambda value_REA: own(_continuity(value_REA)) - others(_continuity(value_REA)),
        tail="both",
    ),
    "amplification_beyond_continuity": _Number(
        "what an own earlier turn does to own text, less what it does to foreign text and less what two turns of one "
        "foreign author do, all against an earlier turn of neither; above 0: amplified by more than continuity",
        _beyond_continuity,
        tail="both",
    ),
    "gap_behind": _Number(
        "log of the other/self ratio of measured turns (geometric over authors) in one arm", _log_gap, ("earlier",)
    ),
    "amplification": _Number(
        "log other/self ratio of measured turns following an own earlier turn minus following a foreign one; above 0: "
        "the gap is larger following own prior outputs, continuity included",
        lambda value_REA: _log_gap(value_REA, "own") - _log_gap(value_REA, "foreign"),
        tail="both",
    ),
}
