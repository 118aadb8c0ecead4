"""What the texts are like, author by author: a recognised text that nobody could read would be worth nothing."""

from __future__ import annotations

import numpy as np

from enaction.experiments.cells import Data
from enaction.findings import Finding
from enaction.study.store import Cell
from enaction.tokens import table_notes
from enaction.words import WORLD


def quality(data: Data) -> list[Finding]:
    """What the texts are like, author by author."""
    findings = []
    for author in [*data.study.models, *([WORLD] if data.study.world_text else [])]:
        passages = data.passages(author)
        texts = [p.response.split() for p in passages]
        n = len(passages)

        def add(quantity: str, value: float, unit: str, definition: str, author: str = author, n: int = n) -> None:
            findings.append(
                Finding(
                    "matrix",
                    quantity,
                    {"author": author},
                    value,
                    None,
                    None,
                    n,
                    unit,
                    f"{definition}; n counts passages",
                )
            )

        add(
            "ended_share",
            float(np.mean([p.ended is True for p in passages])),
            "share",
            "responses that ended by themselves",
        )
        add("mean_words", float(np.mean([len(t) for t in texts])), "words", "mean length of a response")
        add(
            "repeated_trigrams",
            float(np.mean([1 - len(set(g)) / len(g) if (g := _grams(t, 3)) else 0.0 for t in texts])),
            "share",
            "mean share of a response's word trigrams that occurred in it before",
        )
        bigrams = [g for t in texts for g in _grams(t, 2)]
        add(
            "distinct_bigrams",
            len(set(bigrams)) / max(len(bigrams), 1),
            "share",
            "different word bigrams among all of the author's",
        )
        add(
            "distinct_responses",
            len({p.response for p in passages}) / n,
            "share",
            "different responses among all of the author's",
        )
        if author != WORLD:
            cell = Cell(author, author, data.own_framing[author])
            if cell in data.cells:
                noted = table_notes(data.run.tokens(cell))
                add(
                    "drift_share",
                    noted.get("passages_that_would_drift", 0) / n,
                    "share",
                    "responses whose text does not tokenise back to the author's own ids (read by own ids here)",
                )
    return findings


def _grams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[i:] for i in range(n)), strict=False))
