"""Organisms over ten symbols: processes whose next entropy is designed, exactly, in float64.

A text is a regime word (`low` or `high`, the prompt) and symbols after it. The next symbol is
`order[previous][rank]`, and the rank is drawn from a geometric distribution over ten ranks with exactly the entropy
that the process is designed to have there. The order differs from symbol to symbol, so that no symbol is surprising by
itself: surprisal has to be computed from the pair. What sets the entropy is what an experiment has to find:

`surprise`: the surprisal of the newest symbol, s_t: H_{t+1} = clip(.4 + .6 s_t, .35, 2).
`mixed`:    the regime, and s_t beside it: clip(h + .5 s_t, .35, 2), h = .25 or 1.
`regime`:   the regime alone, .6 or 1.8. A null: surprisal has no effect on anything.
`delayed`:  the regime alone. A null in which surprisal is used, and so represented: whether s_t > 1.3, which in both
            regimes is whether the likeliest symbol did not come, picks the order of the symbol after the next.
`belief`:   who wrote the text: 1.2 - .5 tanh(L_t / 4), where L_t is the sum over the symbols so far of
            log p(symbol) under this very process minus that under `stranger`. Not the last surprisal: given L_t the
            entropy is a number.
`stranger`: nothing, 1.2 throughout: the foreign author. After half of the symbols its order is that of the others,
            after the other half ranks 0 and 1 change places, as do 2 and 3 and so on; so its text is told from theirs
            over tens of symbols, and a surprising symbol need be no evidence of who wrote it.

All processes of one seed have the same orders. Nothing here needs torch.

Axes: B text, T position (0: the regime word), K symbol or rank, V token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from enaction.errors import ModelError

UNKNOWN = "<|unk|>"
REGIMES = ("low", "high")
SYMBOLS = tuple("abcdefghij")
WORDS = (UNKNOWN, *REGIMES, *SYMBOLS)
_FIRST_REGIME, _FIRST_SYMBOL = 1, 1 + len(REGIMES)
# What the regime word counts as having cost, nats: at this surprisal `surprise` expects as much as it has.
FIRST_SURPRISAL = 1.0
# Above this a surprisal counts as high, nats.
SURPRISING = 1.3
_LOWEST, _HIGHEST = 0.35, 2.0
_SETTLED = np.array([0.6, 1.8])
_STRANGER, _SWING, _SCALE = 1.2, 0.5, 4.0


@dataclass(frozen=True)
class State:
    """What a process knows when it predicts the next symbol; each [B].

    regime: 0 or 1. previous: token id. surprisal: of the newest symbol, nats. surprised: whether that was above
    `SURPRISING`; surprised_before: the same of the symbol before it. log_odds: own minus other, nats.
    other: the state of the other process that reads along.
    """

    regime: np.ndarray
    previous: np.ndarray
    surprisal: np.ndarray
    surprised: np.ndarray
    surprised_before: np.ndarray
    log_odds: np.ndarray
    other: State | None = None


@dataclass(frozen=True)
class Process:
    """A designed process.

    Attributes:
        name: as in `PROCESSES`.
        entropy: of the next symbol, nats, from the state.
        order: [2, V, K] symbol of each rank, by whether the symbol before the newest was surprising, and the newest.
        other: the process whose log-odds against this one the state keeps.
    """

    name: str
    entropy: Callable[[State], np.ndarray]
    order: np.ndarray
    other: Process | None = None

    def begin(self, regime_B: np.ndarray) -> State:
        """The state after the regime word."""
        regime_B = np.asarray(regime_B, dtype=np.int64)
        zero, no = np.zeros(len(regime_B)), np.zeros(len(regime_B), dtype=bool)
        first, other = np.full(len(regime_B), FIRST_SURPRISAL), self.other.begin(regime_B) if self.other else None
        return State(regime_B, _FIRST_REGIME + regime_B, first, no, no, zero, other)

    def predict(self, state: State) -> np.ndarray:
        """[B, K] probability of each next symbol."""
        by_rank_BK = ranked(self.entropy(state))
        order_BK = self.order[state.surprised_before.astype(int), state.previous]
        by_symbol_BK = np.empty_like(by_rank_BK)
        np.put_along_axis(by_symbol_BK, order_BK, by_rank_BK, axis=1)
        return by_symbol_BK

    def follow(self, state: State, symbol_B: np.ndarray) -> State:
        """The state after one more symbol."""
        surprisal_B = -np.log(np.take_along_axis(self.predict(state), symbol_B[:, None], axis=1)[:, 0])
        log_odds_B, other = state.log_odds, None
        if self.other and state.other:
            other = self.other.follow(state.other, symbol_B)
            log_odds_B = log_odds_B - surprisal_B + other.surprisal
        return replace(
            state,
            previous=_FIRST_SYMBOL + symbol_B,
            surprisal=surprisal_B,
            surprised=surprisal_B > SURPRISING,
            surprised_before=state.surprised,
            log_odds=log_odds_B,
            other=other,
        )


@dataclass(frozen=True)
class Truth:
    """What a process has at each position of texts, as a reader of them would measure it; float64.

    probability: [B, T, K] of the symbol after position t. entropy: [B, T] of that distribution, nats. surprisal,
    log_odds: [B, T] of the token at position t and of the text up to it; at 0, the regime word, as the process begins.
    """

    probability: np.ndarray
    entropy: np.ndarray
    surprisal: np.ndarray
    log_odds: np.ndarray


def process(name: str, seed: int = 0) -> Process:
    """A process by name.

    Args:
        name: one of `PROCESSES`.
        seed: of the orders.

    Raises:
        ModelError: there is no such process.
    """
    if name not in PROCESSES:
        raise ModelError(f"there is no process '{name}'; there are {', '.join(PROCESSES)}")
    rng = np.random.default_rng([seed, 0])
    order_VK, delayed_VK = (np.array([rng.permutation(len(SYMBOLS)) for _ in WORDS]) for _ in range(2))
    swapped_K = np.arange(len(SYMBOLS)).reshape(-1, 2)[:, ::-1].ravel()
    is_told_V = np.isin(np.arange(len(WORDS)), _FIRST_SYMBOL + rng.permutation(len(SYMBOLS))[: len(SYMBOLS) // 2])
    foreign_VK = np.where(is_told_V[:, None], order_VK[:, swapped_K], order_VK)
    stranger = Process("stranger", PROCESSES["stranger"], np.stack([foreign_VK, foreign_VK]))
    if name == "stranger":
        return stranger
    order = np.stack([order_VK, delayed_VK if name == "delayed" else order_VK])
    return Process(name, PROCESSES[name], order, stranger if name == "belief" else None)


def _constant(state: State) -> np.ndarray:
    return np.full(len(state.regime), _STRANGER)


# The designed entropy of the next symbol, nats.
PROCESSES: dict[str, Callable[[State], np.ndarray]] = {
    "surprise": lambda state: np.clip(0.4 + 0.6 * state.surprisal, _LOWEST, _HIGHEST),
    "mixed": lambda state: np.clip(np.array([0.25, 1.0])[state.regime] + 0.5 * state.surprisal, _LOWEST, _HIGHEST),
    "regime": lambda state: _SETTLED[state.regime],
    "delayed": lambda state: _SETTLED[state.regime],
    "belief": lambda state: _STRANGER - _SWING * np.tanh(state.log_odds / _SCALE),
    "stranger": _constant,
}


def draw(writer: Process, regime_B: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """[B, 1 + length] token ids of texts that a process writes, the regime word first."""
    state, ids = writer.begin(regime_B), [_FIRST_REGIME + np.asarray(regime_B, dtype=np.int64)]
    for _ in range(length):
        cumulative_BK = writer.predict(state).cumsum(axis=1)
        # Rounding may leave the last sum below 1.
        drawn_B1 = rng.random((len(cumulative_BK), 1)) * cumulative_BK[:, -1:]
        state = writer.follow(state, (cumulative_BK <= drawn_B1).sum(axis=1))
        ids.append(state.previous)
    return np.stack(ids, axis=1)


def read(reader: Process, ids_BT: np.ndarray) -> Truth:
    """What a process has at each position of texts, whoever wrote them; ids: the regime word, then symbols."""
    state = reader.begin(ids_BT[:, 0] - _FIRST_REGIME)
    states = [state]
    for t in range(1, ids_BT.shape[1]):
        state = reader.follow(state, ids_BT[:, t] - _FIRST_SYMBOL)
        states.append(state)
    return Truth(
        probability=np.stack([reader.predict(s) for s in states], axis=1),
        entropy=np.stack([reader.entropy(s) for s in states], axis=1),
        surprisal=np.stack([s.surprisal for s in states], axis=1),
        log_odds=np.stack([s.log_odds for s in states], axis=1),
    )


def ranked(entropy_B: np.ndarray) -> np.ndarray:
    """[B, K] probabilities of ranks 0, 1, ... that fall geometrically and have exactly this entropy, nats.

    Raises:
        ValueError: an entropy that ten ranks cannot have.
    """
    entropy_B = np.asarray(entropy_B, dtype=np.float64)
    if not ((entropy_B > 0.01) & (entropy_B < np.log(len(SYMBOLS)))).all():
        raise ValueError(f"entropies from {entropy_B.min():g} to {entropy_B.max():g}: they must lie in .01 to log 10")
    grid, entropy_of_grid = _slopes()
    slope_B = np.interp(-entropy_B, -entropy_of_grid, grid)
    for _ in range(4):  # Newton, from a value that is already right to some 1e-6
        p_BK = _geometric(slope_B)
        log_BK = np.log(p_BK)
        rank_K = np.arange(len(SYMBOLS))
        spread_B = (p_BK * rank_K**2).sum(axis=-1) - (p_BK * rank_K).sum(axis=-1) ** 2
        slope_B = slope_B + (-(p_BK * log_BK).sum(axis=-1) - entropy_B) / (slope_B * spread_B)
    return _geometric(slope_B)


@cache
def _slopes() -> tuple[np.ndarray, np.ndarray]:
    """Rates of decay, rising, and the entropies that they give, falling."""
    grid = np.geomspace(1e-3, 8.0, 4000)
    p = _geometric(grid)
    return grid, -(p * np.log(p)).sum(axis=-1)


def _geometric(slope_B: np.ndarray) -> np.ndarray:
    weight_BK = np.exp(-slope_B[..., None] * np.arange(len(SYMBOLS)))
    return weight_BK / weight_BK.sum(axis=-1, keepdims=True)
