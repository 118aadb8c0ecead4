"""What texts are like whoever reads them: whether they are good enough to be read at all, and how far two lie apart.

Entropy collapses on degenerate text, which an instrument for recognition would report as recognition; so the quality
gate comes before every table. Both need the world's grammar, and so the world's prompts.

Axes: 2 texts, M passage, K option of a choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from enaction.passages import Passage
from enaction.world.stories import TASTES, grade

_SHUFFLES = 50
# Where each choice's options begin in a row of counts.
_FIRST = dict(zip(TASTES, np.cumsum([0, *TASTES.values()]), strict=False))
_OPTIONS = sum(TASTES.values())


def quality(passages: Sequence[Passage], in_world: bool) -> dict[str, float]:
    """Means over the passages, each between 0 and 1: `ended`, and for stories of the world what its grammar checks."""
    measured = {"ended": float(np.mean([p.ended is True for p in passages]))}
    if in_world:
        grades = [grade(p.response) for p in passages]
        measured["well_formed"] = float(np.mean([g.well_formed for g in grades]))
        measured["complete"] = float(np.mean([g.complete for g in grades]))
    return measured


def fails(measured: Mapping[str, float], gate: Mapping[str, float]) -> list[str]:
    """What a text lacks, as words; nothing if it passes."""
    low = {name: value for name, value in measured.items() if value < gate.get(name, 0.0)}
    return [f"{name.replace('_', ' ')} {value:.2f} (gate {gate[name]:g})" for name, value in low.items()]


def commonest_arc(passages: Sequence[Passage]) -> tuple[str, float] | None:
    """The commonest arc of some stories with its share of them; None if none has one."""
    arcs = Counter(arc for p in passages if (arc := grade(p.response).arc))
    if not arcs:
        return None
    name, count = arcs.most_common(1)[0]
    return name, count / len(passages)


def distance(passages: Sequence[Passage], others: Sequence[Passage], rng: np.random.Generator) -> tuple[float, float]:
    """Total variation between the wordings of two texts, and what it would be if one writer had written both.

    A wording is an option of a choice: a synonym, opener, stop, or sentence pattern (with its arc). The distance is
    half the sum of the differences of their shares among all wordings, between 0 and 1. The second number is its mean
    after passages were swapped at random between the texts. Both are NaN without a wording in one of the texts.

    Args:
        passages, others: of two authors, in the same order of prompts.
    """
    count_2MK = np.array([[_counts(p) for p in text] for text in (passages, others)])
    swapped = []
    for _ in range(_SHUFFLES):
        swap_M1 = rng.random((count_2MK.shape[1], 1)) < 0.5
        swapped.append(_variation(np.where(swap_M1, count_2MK[::-1], count_2MK)))
    return _variation(count_2MK), float(np.mean(swapped))


def _counts(passage: Passage) -> np.ndarray:
    """[K] how often a story takes each option of each choice."""
    count_K = np.zeros(_OPTIONS)
    for choice, option in grade(passage.response).choices:
        count_K[_FIRST[choice] + option] += 1
    return count_K


def _variation(count_2MK: np.ndarray) -> float:
    count_2K = count_2MK.sum(1)
    if not count_2K.sum(1).all():
        return float("nan")
    share_2K = count_2K / count_2K.sum(1, keepdims=True)
    return float(np.abs(share_2K[0] - share_2K[1]).sum() / 2)
