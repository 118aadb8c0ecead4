"""Where in a response the interaction lies.

Texts differ in length, and late tokens are easier; so the interaction is also taken over the first k tokens of every
text, and over the same span of positions. Over the first token alone it is 0 by construction, since that is predicted
from the prompt whoever wrote it: a check of the alignment. Axes: R reader, A author, K span, P prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.analysis.measures import INTERACTION, mean_interaction_of_means
from enaction.words import MEAN, Framing

# A span is left out where fewer than this share of the prompts have a text of every author that reaches its end.
MIN_SHARE = 0.5


def add_positions(data: Data, ledger: Ledger, members: list[str], framing: Framing, first: Sequence[int]) -> None:
    """Mean interaction over the first k tokens of every text, and over the tokens between one k and the next.

    Args:
        data: of a finished run.
        ledger: at the place of the table.
        members, framing: of the table.
        first: the numbers k, rising.
    """
    curves = (
        ("interaction_first_tokens", [(0, k) for k in first], "the first k tokens, k the stop of the span"),
        ("interaction_at_positions", list(pairwise([0, *first])), "the tokens from start to before stop of the span"),
    )
    all_spans = [span for _, spans, _ in curves for span in spans]
    all_KRAP = data.span_tables(members, framing, all_spans)
    for (quantity, spans, which), entropy_KRAP in zip(curves, np.split(all_KRAP, len(curves)), strict=True):
        count_K = np.isfinite(entropy_KRAP[:, 0, 0]).sum(axis=-1)
        usable = np.flatnonzero(count_K >= max(2, MIN_SHARE * data.n_prompts))
        if not usable.size:
            continue
        estimate = data.estimate(entropy_KRAP[usable], mean_interaction_of_means)
        for i, k in enumerate(usable):
            start, stop = spans[k]
            ledger.add(
                quantity,
                INTERACTION.unit,
                f"mean over readers of the interaction of a table of arithmetic means over {which} (in the reader's "
                "tokens), prompts where every author has a text that long for every reader",
                estimate[i],
                null=0.0,
                n=int(count_K[k]),
                pooling="entropy: mean over prompts of the mean over the span's tokens",
                reader=MEAN,
                start=start,
                stop=stop,
            )
