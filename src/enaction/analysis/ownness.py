"""Ownness: surprisal less entropy, which tells text drawn from a reader from an imitation of it.

Entropy measures familiarity with a distribution of text: whoever writes like the reader gets all of it. At temperature
1 every token drawn from the reader is on average as surprising as the reader expected, so surprisal less entropy is 0
in expectation on its own text, whatever the model, and on nobody else's by construction. Above 0 the text is less
likely under the reader than its own would be; below 0 it is greedier than its own.

The expectation holds for the sum over all tokens that were drawn, the end-of-turn token included; means of passages are
slightly off, because the length of a passage depends on what was drawn. So ownness is the sum divided by the number of
tokens. Its interval treats prompts as units. It is never narrower than the varentropy of the tokens, the variance of
the sum on own text, makes it: after RL most of that variance lies in rare tokens, which a few prompts often miss.

Axes: P prompt.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.findings import Finding
from enaction.stats import Estimate
from enaction.stats.rates import cluster_rate
from enaction.study.store import Cell

OWNNESS = "ownness"
_TEXT = (
    "surprisal less entropy: their difference summed over all tokens of the author's responses, end-of-turn tokens "
    "included, divided by the number of tokens; 0 in expectation on text drawn from this reader in this framing at "
    "temperature 1; above 0: less likely under the reader than its own text would be; below 0: greedier than its own; "
    "95 % t interval of a ratio of sums over prompts, never narrower than the varentropy of the tokens makes it"
)


def ownness(data: Data, cell: Cell, is_in_P: np.ndarray | None = None) -> Estimate:
    """Surprisal less entropy of a reader on an author's text, nats a token, with a 95 % t interval over prompts.

    Args:
        data: of a finished run.
        cell: reader, author and framing.
        is_in_P: [P] which of the run's prompts count; all by default.
    """
    sums = _sums(data, cell, is_in_P)
    return cluster_rate(sums.excess, sums.n_tokens, sums.variance)


def add_ownness(ledger: Ledger, cell: Cell, **where: Any) -> Finding:
    """Write the ownness of a cell; for any text that a reader read, an imitation too.

    Args:
        ledger: at its place, which the reader, the author and the framing of the cell are added to.
        cell: what is written.
        where: further place.
    """
    data = ledger.data
    sums = _sums(data, cell, ledger.prompts.is_in_P if ledger.prompts else None)
    estimate = cluster_rate(sums.excess, sums.n_tokens, sums.variance)
    return ledger.fact(
        OWNNESS,
        "nats",
        _TEXT,
        float(estimate.value),
        int((sums.n_tokens > 0).sum()),
        low=float(estimate.low),
        high=float(estimate.high),
        null=0.0,
        notes=_why_not_zero(data, cell),
        **{**cell._asdict(), **where},
    )


def is_drawn(data: Data, cell: Cell) -> bool:
    """Whether a cell's text was drawn from the reader as it reads it: own text, own framing, temperature 1, no cut."""
    return cell.author == cell.reader and not _why_not_zero(data, cell)


class _Sums(NamedTuple):
    """Sums over a prompt's tokens, each [P]: surprisal less entropy (nats), varentropy (nats^2), number of tokens."""

    excess: np.ndarray
    variance: np.ndarray
    n_tokens: np.ndarray


def _sums(data: Data, cell: Cell, is_in_P: np.ndarray | None) -> _Sums:
    tokens = data.tokens(cell)
    prompt_N = data.prompt_codes(cell.author)[tokens.passage]
    columns = tokens.surprisal.astype(np.float64) - tokens.entropy, tokens.varentropy, np.ones(len(tokens))
    sums = [np.bincount(prompt_N, column_N, data.n_prompts) for column_N in columns]
    return _Sums(*(sum_P if is_in_P is None else sum_P[is_in_P] for sum_P in sums))


def _why_not_zero(data: Data, cell: Cell) -> list[str]:
    """What keeps ownness of own text from being 0 in expectation; nothing to say of other authors."""
    if cell.author != cell.reader:
        return []
    sampling, sampled_in = data.study.sampling, data.own_framing[cell.reader]
    reasons = []
    if sampling.temperature != 1 or sampling.top_p != 1:
        reasons.append(
            f"own text was sampled at temperature {sampling.temperature:g} and top-p {sampling.top_p:g}: at less than "
            "1 it is expected below 0"
        )
    if cell.framing != sampled_in:
        reasons.append(f"own text was sampled in framing {sampled_in}: read in another, it need not be 0")
    return reasons
