"""From the null of a turn to what is said about it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from enaction.audit.reading import Read
from enaction.audit.settings import Settings
from enaction.stats.evidence import bets_on, change_path, fewest_foreign, passage_path, smallest_temperatures
from enaction.stats.evidence.bets import Bets

# An alarm for a change within a turn comes on average once in so many own tokens at most.
RUN_LENGTH = 10_000
# What a mixture pays for the one bet that would have seen a temperature, nats: three parts, five families, nine
# temperatures, and .6 of the weight of one on all tokens.
_PRICE = math.log(3 * 5 * 9 / 0.6)

Verdict = Literal["foreign", "no evidence", "nothing to read"]


@dataclass(frozen=True)
class Turn:
    """What is said about one turn.

    Attributes:
        author, id: of its passage.
        n_tokens: measured tokens.
        verdict: `foreign` if the evidence ever reached 1/alpha: not each token was sampled as stated. `no evidence`
            otherwise, which proves nothing: `could_see` says what would have been seen.
        log_e: log of the e-value after the last token, nats; an e-value for e-BH.
        greatest: the largest that it was after any token.
        crossing: number of tokens after which it first reached 1/alpha, None if it did not.
        at_least: so many tokens at the beginning, at least, were not sampled as stated; 0 if not foreign.
        change: number of tokens after which the text is said to have ceased to be the model's, by a procedure that
            says so once in RUN_LENGTH own tokens on average at most; None if it does not.
        outside: tokens that the stated truncation leaves out, whatever of the noise.
        information: summed varentropy, nats^2.
        could_see: the greatest temperature below the stated one, and the smallest above, that a text with so much
            information would have shown, about; None if none would.
        surprisal, entropy, log_rank: means over tokens, nats; of the model as stated, log_rank at temperature 1. The
            surprisal is inf where a token is `outside`.
        curvature: (H - s) summed, over the root of summed varentropy (Fast-DetectGPT); its level is not known.
        versus: mean log-probability under each other reader that read the turn less that as stated, nats a token.
        binoculars: Binoculars' ratio, NaN without an observer; its level is not known.
        path_N: log e after each token, nats.
    """

    author: str
    id: str
    n_tokens: int
    verdict: Verdict
    log_e: float
    greatest: float
    crossing: int | None
    at_least: int
    change: int | None
    outside: int
    information: float
    could_see: tuple[float, float] | None
    surprisal: float
    entropy: float
    log_rank: float
    curvature: float
    versus: dict[str, float]
    binoculars: float
    path_N: np.ndarray  # noqa: N815  # carries its axis, by the house convention


def judge(author: str, name: str, read: Read, settings: Settings) -> tuple[Turn, Bets]:
    """What is said about one turn, and the bets on it, with which a stream goes on.

    Args:
        author, name: of its passage.
        read: as `read_turns` gives it.
        settings: of the sampler, with the noise and the level.
    """
    null = read.null
    bets = bets_on(null, settings.noise)
    if not len(null):
        nothing = Turn(
            author=author,
            id=name,
            n_tokens=0,
            verdict="nothing to read",
            log_e=0.0,
            greatest=0.0,
            crossing=None,
            at_least=0,
            change=None,
            outside=0,
            information=0.0,
            could_see=None,
            surprisal=math.nan,
            entropy=math.nan,
            log_rank=math.nan,
            curvature=math.nan,
            versus={},
            binoculars=math.nan,
            path_N=np.zeros(0),
        )
        return nothing, bets
    path_N = passage_path(bets)
    over = np.nonzero(path_N >= settings.log_threshold)[0]
    is_foreign = len(over) > 0
    changed = np.nonzero(change_path(bets) >= math.log(RUN_LENGTH))[0]
    information = float(null.varentropy_N.sum())
    inside_N = np.isfinite(null.surprisal_N)
    off_N = (null.entropy_N - null.surprisal_N)[inside_N]
    turn = Turn(
        author=author,
        id=name,
        n_tokens=len(null),
        verdict="foreign" if is_foreign else "no evidence",
        log_e=float(path_N[-1]),
        greatest=max(0.0, float(path_N.max())),
        crossing=int(over[0]) + 1 if is_foreign else None,
        at_least=fewest_foreign(bets, settings.log_threshold) if is_foreign else 0,
        change=int(changed[0]) + 1 if len(changed) else None,
        outside=int((~inside_N).sum()),
        information=information,
        could_see=could_see(information, len(null), settings),
        surprisal=float(null.surprisal_N.mean()),
        entropy=float(null.entropy_N.mean()),
        log_rank=float(read.log_rank_N.mean()),
        curvature=float(off_N.sum() / math.sqrt(information)) if information > 0 else math.nan,
        versus=read.versus,
        binoculars=read.binoculars,
        path_N=path_N,
    )
    return turn, bets


def could_see(information: float, n_tokens: int, settings: Settings) -> tuple[float, float] | None:
    """The temperatures nearest to the stated one, relative to it, that text with so much information would show, about.

    What a bet on a temperature is charged for the noise is taken to be the same at each token, which is the most that
    it can be.

    Args:
        information: summed varentropy, nats^2.
        n_tokens: its tokens.
        settings: with the noise and the level.
    """
    if information <= 0:
        return None
    charged = settings.noise * math.sqrt(n_tokens * information)
    log_needed = settings.log_threshold + _PRICE
    off = (charged + math.sqrt(charged**2 + 2 * information * log_needed)) / information
    return smallest_temperatures(information, information * off**2 / 2)
