"""The terms that every room shares: stages, framings, reserved names, and how each of them is printed.

The ground of the house: it imports nothing of `enaction`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

Framing = Literal["assistant", "user", "none"]
FRAMINGS: tuple[Framing, ...] = get_args(Framing)

STAGES = ("base", "sft", "dpo", "rl")
# The stage of models whose study names none, and the matrix of a study that has one.
UNNAMED_STAGES = ("model", "")
# Author of text that the embedded world itself writes; no model may be called so.
WORLD = "world"
# The reader (or family) of a finding that averages over all readers of a table.
MEAN = "mean"
# An interaction nearer to 0 than this, log units, changes no entropy by more than 2 %: a trace, not an effect.
TRACE = 0.02

_CHECKPOINT = re.compile(f"({'|'.join(STAGES)})(\\d+)")
_STAGE_LABELS = {"base": "base", "sft": "SFT", "dpo": "DPO", "rl": "RL"} | dict.fromkeys(UNNAMED_STAGES, "all models")
_FRAMING_LABELS = {"assistant": "assistant turn", "user": "user turn", "none": "no template", "": "one framing"}


def checkpoint(stage: str) -> tuple[str, int] | None:
    """Stage and step of a checkpoint inside a known stage (`rl20`); None for any other name."""
    match = _CHECKPOINT.fullmatch(stage)
    return (match[1], int(match[2])) if match else None


def known_stage(stage: str) -> str:
    """The known stage that a name is a checkpoint (`rl20`) or another run (`rl-paid`) of; any other name itself."""
    of = (checkpoint(stage) or (stage, 0))[0].partition("-")[0]
    return of if of in STAGES else stage


def ordered(names: Iterable[str], first: Sequence[str]) -> list[str]:
    """Each name once: those of `first` in that order, then the rest in input order."""
    seen = list(dict.fromkeys(names))
    return [name for name in dict.fromkeys(first) if name in seen] + [name for name in seen if name not in first]


def in_training_order(stages: Iterable[str]) -> list[str]:
    """Each stage once: the known ones in order, each after its checkpoints (`rl20`), then the rest in input order."""
    names = list(dict.fromkeys(stages))
    checkpoints = sorted((at for at in map(checkpoint, names) if at), key=lambda at: at[1])
    known = [[f"{of}{step}" for of, step in checkpoints if of == stage] + [stage] for stage in STAGES]
    return ordered(names, [stage for group in known for stage in group])


def last_stage(stages: Sequence[str]) -> str | None:
    """The end of training among stages in order: `rl` if it is among them (kin may follow it), else the last."""
    return STAGES[-1] if STAGES[-1] in stages else [None, *stages][-1]


def stage_label(stage: str) -> str:
    """A stage as it is printed: `RL`, `RL 20` for its checkpoint after 20 steps, `RL-b` for another run (`rl-b`)."""
    of, step = checkpoint(stage) or (stage, "")
    known, dash, run = of.partition("-")
    return f"{_STAGE_LABELS.get(known, known)}{dash}{run} {step}".rstrip()


def models_of(stage: str | None) -> str:
    """The models of a stage as the subject of a sentence or title: `RL models`, `RL models after 20 steps`."""
    if stage is None or stage in UNNAMED_STAGES:
        return "All models"
    of, step = checkpoint(stage) or (stage, "")
    label = stage_label(of)
    return f"{label[0].upper()}{label[1:]} models" + (f" after {step} steps" if step else "")


def framing_label(framing: str) -> str:
    """A framing as it is printed: `no template`."""
    return _FRAMING_LABELS.get(framing, framing)


def printable(text: str) -> str:
    """Text on one line: line breaks, tabs, marks of direction and whatever else is not printable as its code."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
