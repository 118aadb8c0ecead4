"""The rows of a regression: one a token that a reader has read, with what is known right after it.

x_t is the newest token. What it cost is s_t, the outcome is H_{t+1}, the entropy of the very next prediction. Beside
them: the surprisals before it, the entropy H_t with which it was predicted, its position, and the log-odds L_t that the
reader and not another model of its group wrote the text up to and including x_t.

Axes: N token of the reader, M passage, O other reader.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from enaction.analysis.data import Data, Tokens
from enaction.experiments.reaction.measured import table_of
from enaction.words import Framing

# A token that a reader rules out costs it this much, nats: as much as to settle who wrote the text.
_MOST = 100.0

Against = Literal["mixture", "mean"]
# Passage -> of each of its tokens, the number of the response's characters up to and including it.
Ends = Sequence[np.ndarray]


@dataclass(frozen=True)
class Rows:
    """Tokens of one reader on the texts of several authors; each [N], nats.

    outcome: H_{t+1}. surprisal: s_t. earlier: [N, lags], s_{t-1} and so on. log_odds: L_t, not saturated. entropy: H_t.
    position: of x_t in the response. token: which token x_t is. author: code, 0 is the reader itself. prompt: code.
    """

    outcome: np.ndarray
    surprisal: np.ndarray
    earlier: np.ndarray
    log_odds: np.ndarray
    entropy: np.ndarray
    position: np.ndarray
    token: np.ndarray
    author: np.ndarray
    prompt: np.ndarray

    def __len__(self) -> int:
        return len(self.outcome)

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        """The rows of several authors."""
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in cls.__dataclass_fields__))

    def saturated(self, limit: float) -> Rows:
        """Surprisals and log-odds beyond a limit, nats, count as the limit."""
        return replace(
            self,
            surprisal=np.minimum(self.surprisal, limit),
            earlier=np.minimum(self.earlier, limit),
            log_odds=np.clip(self.log_odds, -limit, limit),
        )


def rows_of(
    data: Data,
    reader: str,
    author: str,
    others: Sequence[str],
    framing: Framing,
    lags: int,
    against: Against,
    code: int,
) -> Rows:
    """The rows of one author's texts.

    Args:
        data: of the run.
        reader: whose entropy it is.
        author: of the texts.
        others: models that may have written the text instead.
        framing: in which all read it.
        lags: how many surprisals before the newest.
        against: see `log_odds`.
        code: of the author.

    Raises:
        StudyError: the run does not hold its tables.
    """
    cell = data.key(reader, author, framing)
    tokens = data.tokens(cell)
    log_odds_N = log_odds(tokens, _others(data, reader, author, others, framing, tokens), against)
    # Token i is x_t if lags tokens come before it and one after it in its passage; the last of all has none after it.
    at_N = np.arange(lags, max(len(tokens) - 1, lags))
    first_N = tokens.passage[at_N - lags] == tokens.passage[at_N]
    is_row_N = first_N & (tokens.passage[at_N + 1] == tokens.passage[at_N]) & ~tokens.is_end[at_N]
    at_N = at_N[is_row_N]
    surprisal, entropy = tokens.surprisal.astype(np.float64), tokens.entropy.astype(np.float64)
    return Rows(
        outcome=entropy[at_N + 1],
        surprisal=surprisal[at_N],
        earlier=np.stack([surprisal[at_N - k] for k in range(1, lags + 1)], axis=1)
        if lags
        else np.empty((len(at_N), 0)),
        log_odds=log_odds_N[at_N],
        entropy=entropy[at_N],
        position=tokens.position[at_N].astype(np.float64),
        token=tokens.token_id[at_N].astype(np.int64),
        author=np.full(len(at_N), code),
        prompt=data.prompt_codes(author)[tokens.passage[at_N]],
    )


def log_odds(tokens: Tokens, others_ON: np.ndarray, against: Against) -> np.ndarray:
    """[N] log-odds, nats, that the reader wrote a text up to and including each of its tokens.

    Args:
        tokens: of the reader.
        others_ON: what the text up to the end of that token cost each of the others, nats.
        against: `mixture`: the others' likelihoods are averaged, as if each had written it with the same chance;
            `mean`: their log-likelihoods are, so that the log-odds are the mean of those against each.
    """
    own_N = _running(tokens, tokens.surprisal)
    if against == "mean":
        return others_ON.mean(axis=0) - own_N
    lowest_N = others_ON.min(axis=0)
    return lowest_N - np.log(np.exp(lowest_N - others_ON).mean(axis=0)) - own_N


def _others(
    data: Data, reader: str, author: str, others: Sequence[str], framing: Framing, tokens: Tokens
) -> np.ndarray:
    costs = []
    for other in others:
        read = data.tokens(data.key(other, author, framing))
        running_N = _running(read, read.surprisal)
        if np.array_equal(read.token_id, tokens.token_id) and np.array_equal(read.passage, tokens.passage):
            costs.append(running_N)
        else:
            ends = [token_ends(data, name, author) for name in (reader, other)]
            costs.append(at_ends(tokens, ends[0], read, ends[1], running_N))
    return np.array(costs)


def at_ends(tokens: Tokens, ends: Ends, read: Tokens, other_ends: Ends, running_N: np.ndarray) -> np.ndarray:
    """[N] what the text up to the end of each of a reader's tokens cost another reader, whose tokens end elsewhere.

    A token of the other that ends later counts with the share of its characters that are before.

    Args:
        tokens: of the reader.
        ends: by passage.
        read: tokens of the other.
        other_ends: by passage.
        running_N: of the other: what the text up to and including each of its tokens cost it, nats.
    """
    cost_N = np.zeros(len(tokens))
    of_reader, of_other = _rows_by_passage(tokens, len(ends)), _rows_by_passage(read, len(other_ends))
    for own_rows, other_rows, own_end, other_end in zip(of_reader, of_other, ends, other_ends, strict=True):
        # The end of a turn has no characters: at the last of the text it is still to come.
        other_rows = other_rows[~read.is_end[other_rows]]
        known = np.concatenate([[0.0], running_N[other_rows]])
        to = np.concatenate([[0.0], other_end[read.position[other_rows]]])
        cost_N[own_rows] = np.interp(own_end[tokens.position[own_rows]], to, known)
    return cost_N


def token_ends(data: Data, reader: str, author: str) -> Ends:
    """By passage, where the reader's tokens end, in characters of the response.

    Raises:
        StudyError: the run does not hold it.
    """
    table = data.measured(table_of(reader))
    columns = (table[name].to_pylist() for name in ("author", "passage", "ends"))
    ends = {passage: np.array(of, dtype=np.int64) for by, passage, of in zip(*columns, strict=True) if by == author}
    return [ends[passage.id] for passage in data.passages(author)]


def _running(tokens: Tokens, surprisal_N: np.ndarray) -> np.ndarray:
    """[N] sum of surprisals of a passage up to and including each token."""
    surprisal_N = np.minimum(surprisal_N.astype(np.float64), _MOST)
    total_N = np.cumsum(surprisal_N)
    is_first_N = np.r_[True, tokens.passage[1:] != tokens.passage[:-1]] if len(tokens) else np.empty(0, bool)
    before_N = np.where(is_first_N, total_N - surprisal_N, 0.0)
    # Surprisals are not negative, so the sums before passages rise.
    return total_N - np.maximum.accumulate(before_N) if len(tokens) else total_N


def _rows_by_passage(tokens: Tokens, n_passages: int) -> list[np.ndarray]:
    bounds = np.searchsorted(tokens.passage, np.arange(n_passages + 1))
    return [np.arange(a, b) for a, b in itertools.pairwise(bounds)]
