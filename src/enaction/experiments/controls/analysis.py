"""The arms of `controls`, one after another: recognition with interval and null, and its share of that without the arm.

Axes: R reader, P prompt; 3 texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from enaction.analysis.ledger import POOLED, POOLED_LOGS, T_INTERVAL
from enaction.experiments.controls.arms import Trial, contrast_arm, table_arm
from enaction.experiments.controls.difficulty import FIRST_TOKENS, difficulty, of_one_length
from enaction.experiments.controls.imitation.analysis import imitations
from enaction.experiments.controls.texts import HUMAN, MEMORISED
from enaction.words import WORLD


def analyse(
    trial: Trial, endings: Sequence[str], kin: Mapping[str, Sequence[str]], bins: int, judge: str | None
) -> None:
    """Write the findings of all arms.

    Args:
        trial: the matrix that is tested.
        endings: of the names of texts at other settings of sampling.
        kin, bins, judge: as in the settings.
    """
    table_arm(trial, "reference", "", trial.table())
    _sampling(trial, endings)
    _kin(trial, kin)
    imitations(trial)
    _nobody(trial)
    _topic(trial)
    _words(trial)
    table_arm(trial, "length", "", of_one_length(trial), FIRST_TOKENS)
    difficulty(trial, bins, judge)
    _distances(trial, kin)


def _sampling(trial: Trial, endings: Sequence[str]) -> None:
    for ending in endings:
        table_arm(trial, "sampling, all authors", ending[1:], trial.table(ending))
        pairs = {r: (f"{r}{ending}", trial.strangers(r)) for r in trial.members}
        contrast_arm(trial, "sampling, own text only", ending[1:], pairs)


def _kin(trial: Trial, kin: Mapping[str, Sequence[str]]) -> None:
    """The reader's own second sample is kin at distance 0: the null of this arm."""
    contrast_arm(trial, "itself again", "", {r: (r, [f"{r}.again"]) for r in trial.members})
    clones = [(r, clone) for r in trial.members for clone in kin.get(r, [])]
    for reader, clone in clones:
        contrast_arm(trial, "kin", clone, {reader: (reader, [clone])})
    if not clones:
        trial.leave_out("kin", "the study names no near-clones (setting kin)")


def _nobody(trial: Trial) -> None:
    """Text that no model wrote: of the world or of people, and by heart."""
    foreign = _foreign(trial)
    for text in foreign:
        arm, setting = ("memorised", "") if text == MEMORISED else ("people or the world", text)
        contrast_arm(trial, arm, setting, {r: (r, [text]) for r in trial.members})
    if MEMORISED in foreign:
        _familiar(trial)
    else:
        why = "no text is known to be known by heart (setting memorised, or a zoo that repeats some)"
        trial.leave_out("memorised", why)
    if not {WORLD, HUMAN} & set(foreign):
        trial.leave_out("people or the world", "no such text (world_text, or the setting human)")


def _topic(trial: Trial) -> None:
    table_arm(trial, "off topic, all authors", "", trial.table(".moved"))
    foreign = {r: (r, [f"{a}.moved" for a in trial.strangers(r)]) for r in trial.members}
    contrast_arm(trial, "off topic, foreign text only", "", foreign)
    own = {r: (f"{r}.moved", trial.strangers(r)) for r in trial.members}
    contrast_arm(trial, "off topic, own text only", "", own)


def _words(trial: Trial) -> None:
    if f"{trial.members[0]}.plain" in trial.data.plan.texts:
        table_arm(trial, "one word for synonyms", "", trial.table(".plain"))
    else:
        trial.leave_out("one word for synonyms", "no sets of synonyms are known for these prompts (setting synonyms)")
    table_arm(trial, "shuffled words", "", trial.table(".shuffled"))


def _familiar(trial: Trial) -> None:
    """How far familiar text goes from strangers' text towards own text in the readers' entropy."""

    def texts_of(reader: str) -> list[np.ndarray]:
        strangers = [trial.log_entropy(reader, author) for author in trial.strangers(reader)]
        return [trial.log_entropy(reader, MEMORISED), trial.log_entropy(reader, reader), np.mean(strangers, axis=0)]

    def share(log_R3: np.ndarray) -> np.ndarray:
        gained, whole = log_R3[..., 2] - log_R3[..., 0], log_R3[..., 2] - log_R3[..., 1]
        return gained.sum(axis=-1) / whole.sum(axis=-1)

    text = (
        "log entropy on the strangers' text minus that on memorised text, divided by the same for own text, summed "
        "over readers; 1: foreign text known by heart is read with as little entropy as own"
    )
    log_R3P = np.array([texts_of(reader) for reader in trial.members])
    arm, n = trial.arm("memorised"), trial.data.n_prompts
    arm.add("familiar_share", "ratio", text, log_R3P, share, pooling=POOLED_LOGS, interval=T_INTERVAL, n=n)


def _distances(trial: Trial, kin: Mapping[str, Sequence[str]]) -> None:
    """How far a text is from the reader's own in the reader's eyes, and what it costs the reader."""
    foreign, pooling = _foreign(trial), f"surprisal: {POOLED}"
    beyond = "surprisal of the text minus that of the reader's own"
    for reader in trial.members:
        own = trial.data.cell(reader, reader, trial.framing)
        for text in [reader, f"{reader}.again", *kin.get(reader, []), *trial.strangers(reader), *foreign]:
            cell, ledger = trial.data.cell(reader, text, trial.framing), trial.ledger.at(reader=reader, text=text)
            means = ledger.resampled(np.array([cell.surprisal, own.surprisal, cell.entropy]))
            ledger.add(
                "surprisal_distance", "nats", beyond, means, lambda m: m[..., 0] - m[..., 1], pooling=pooling, null=0.0
            )
            ledger.add("text_entropy", "nats", "entropy", means, lambda m: m[..., 2], pooling=POOLED)


def _foreign(trial: Trial) -> list[str]:
    """The texts that no model of the study wrote."""
    return [text for text in (WORLD, HUMAN, MEMORISED) if text in {*trial.data.plan.texts} - {*trial.data.study.models}]
