"""Where in a response the interaction lies, and whether own text has the least entropy of its row and of its column.

Texts differ in length, and late tokens are easier; so the interaction is also taken over the first k tokens of every
text, and over the same span of positions. Over the first token alone it is 0 by construction, for that is predicted
from the prompt whoever wrote it: a check of the alignment. Axes: R reader, A author, K span, P prompt.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from enaction import stats
from enaction.experiments.cells import INTERVAL, POOLED, Data, estimated, with_mean
from enaction.findings import Finding
from enaction.words import Framing

# A span is left out where fewer than this share of the prompts have a text of every author that reaches its end.
MIN_SHARE = 0.5


def along(data: Data, stage: str, members: list[str], framing: Framing, first: list[int]) -> list[Finding]:
    """Mean interaction over the first k tokens of every text, and over the tokens between one k and the next.

    Args:
        data: of a finished run.
        stage, members, framing: the matrix.
        first: the numbers k, rising.
    """
    curves = (
        ("interaction_first_tokens", [(0, k) for k in first], "the first k tokens, k the stop of the span"),
        ("interaction_at_positions", list(pairwise([0, *first])), "the tokens from start to before stop of the span"),
    )
    findings = []
    for quantity, spans, meaning in curves:
        entropy_RAKP = np.array([[data.spans(r, a, framing, spans) for a in members] for r in members])
        entropy_KRAP = complete(entropy_RAKP).transpose(2, 0, 1, 3)
        count_K = np.isfinite(entropy_KRAP[:, 0, 0]).sum(axis=-1)
        usable_K = count_K >= max(2, MIN_SHARE * data.n_prompts)
        if not usable_K.any():
            continue
        found = data.estimate(entropy_KRAP[usable_K], lambda m: stats.interaction(m).mean(axis=-1))
        for i, k in enumerate(np.flatnonzero(usable_K)):
            where = {"reader": "mean", "stage": stage, "framing": framing, "start": spans[k][0], "stop": spans[k][1]}
            definition = (
                f"mean over readers of the interaction of a table of entropy over {meaning} (in the reader's "
                f"tokens), prompts where every author has a text that long for every reader; {INTERVAL}"
            )
            findings.append(estimated("matrix", quantity, where, found[i], int(count_K[k]), "log units", definition))
    return findings


def complete(value_P: np.ndarray) -> np.ndarray:
    """[R, A, ..., P] with NaN for a prompt in every cell where any cell lacks it, so that all cells have one set."""
    return np.where(np.isnan(value_P).any(axis=(0, 1)), np.nan, value_P)


def ranks(data: Data, stage: str, members: list[str], framing: Framing) -> list[Finding]:
    """Is the diagonal the least of its row (a reader's) and of its column (an author's text)?"""
    where = {"stage": stage, "framing": framing}
    tables = (
        (
            "own_rank_among_authors",
            data.estimate(data.table(members, members, framing, "entropy"), with_mean(stats.own_rank)),
            f"rank of the reader's own text among the authors' by the reader's entropy, 1 the least; entropy: {POOLED}",
        ),
        (
            "own_rank_among_readers",
            data.estimate(
                data.table(members, members, framing, "byte_entropy"),
                with_mean(lambda m: stats.own_rank(m.swapaxes(-1, -2))),
                data.table(members, members, framing, "byte_count"),
            ),
            "rank of the reader among all readers of its own text by entropy per byte of text, 1 the least; a "
            "reader that is certain of everything has rank 1 for its own text too",
        ),
    )
    return [
        estimated("matrix", quantity, {"reader": reader, **where}, found[i], data.n_prompts, "rank", definition)
        for quantity, found, text in tables
        for definition in [f"{text}; {INTERVAL}"]
        for i, reader in enumerate([*members, "mean"])
    ]
