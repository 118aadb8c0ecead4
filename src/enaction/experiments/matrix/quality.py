"""What the texts are like, author by author: recognising a text that nobody could read would be worth nothing."""

from __future__ import annotations

import numpy as np

from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.passages import Passage
from enaction.study.store import Cell
from enaction.words import WORLD


def add_quality(data: Data, ledger: Ledger) -> None:
    """How each author's responses end, how long they are, how much they repeat, and whether they tokenise back."""
    for author in [*data.study.models, *([WORLD] if data.study.world_text else [])]:
        passages = data.passages(author)
        rows = _rows(passages)
        if author != WORLD and (cell := Cell(author, author, data.own_framing[author])) in data.cells:
            text = "responses whose text does not tokenise back to the author's own ids (read by own ids here)"
            drifting = data.tokens(cell).notes.get("passages_that_would_drift", 0)
            rows.append(("drift_share", "share", text, drifting / len(passages)))
        for quantity, unit, text, value in rows:
            ledger.fact(quantity, unit, f"{text}; n counts passages", value, len(passages), author=author)


def _rows(passages: list[Passage]) -> list[tuple[str, str, str, float]]:
    """Quantity, unit, meaning and value of each number of some texts."""
    words = [p.response.split() for p in passages]
    repeated = [1 - len(set(grams)) / len(grams) if (grams := _grams(w, 3)) else 0.0 for w in words]
    bigrams = [gram for w in words for gram in _grams(w, 2)]
    ended = float(np.mean([p.ended is True for p in passages]))
    different = len({p.response for p in passages}) / len(passages)
    return [
        ("ended_share", "share", "responses that ended by themselves", ended),
        ("mean_words", "words", "mean length of a response", float(np.mean([len(w) for w in words]))),
        (
            "repeated_trigrams",
            "share",
            "mean share of a response's word trigrams that occurred in it before",
            float(np.mean(repeated)),
        ),
        (
            "distinct_bigrams",
            "share",
            "different word bigrams among all of the author's",
            len(set(bigrams)) / max(len(bigrams), 1),
        ),
        ("distinct_responses", "share", "different responses among all of the author's", different),
    ]


def _grams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[i:] for i in range(n)), strict=False))
