"""Excess curves of the splices and what follows from them: size, reaction, recovery, foreignness.

Axes: P prompt, T offset from the splice, Q entropy and surprisal, L position in a response.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from enaction import stats
from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger, along
from enaction.experiments.pieces import first_of_each
from enaction.experiments.splice.texts import PATTERNS, Cuts, Pair, again
from enaction.stats import Curve, Estimate
from enaction.words import MEAN

UNSPLICED = "none"  # no splice at all: the reader's other answer minus its first, at the same positions
LEAD = 2  # offsets before the splice that a curve shows

_POOLED = "mean over prompts, of the first response to each, tokens aligned on the splice"
_EXCESS = (
    "excess: H of the spliced text minus H of the unspliced text with the same prefix, at the same position or word"
)
_SUM = f"sum over offsets of the {_EXCESS}"


@dataclass(frozen=True)
class Excess:
    """A splice minus the unspliced text with the same prefix.

    Attributes:
        entropy, surprisal: curves over offsets from the splice, nats.
        piece: mean surprisal of the piece's tokens, nats a token, as a curve of one point.
        n: prompts.
    """

    entropy: Curve
    surprisal: Curve
    piece: Curve
    n: int

    @classmethod
    def mean(cls, several: Sequence[Excess]) -> Excess:
        """The mean over readers; the smallest of their numbers of prompts."""
        names = ("entropy", "surprisal", "piece")
        entropy, surprisal, piece = (stats.mean_curve([getattr(e, name) for e in several]) for name in names)
        return cls(entropy, surprisal, piece, min(e.n for e in several))


class Window(NamedTuple):
    """A piece of k tokens, the tokens after it, and the excess, nats, that counts as none."""

    k: int
    after: int
    tolerance: float

    @property
    def spans(self) -> dict[str, tuple[int, int]]:
        """What is summed: the first offset and the one after the last; at offset 0 the excess is 0 by construction."""
        during = {"during": (1, self.k)} if self.k > 1 else {}
        return {"first": (1, 2), "after": (self.k, self.k + self.after)} | during


def analyse(
    data: Data, ledger: Ledger, pairs: Sequence[Pair], lengths: Sequence[int], cuts: Cuts, tolerance: float
) -> None:
    """Write all findings: of every stage, length of the piece and reader, and of the mean over readers."""
    for stage in dict.fromkeys(pair.stage for pair in pairs):
        for k in lengths:
            read = {pair.reader: _excesses(data, pair, cuts, k) for pair in pairs if pair.stage == stage}
            _write(ledger.at(stage=stage, k=k), read, Window(k, cuts.after, tolerance))


def _write(ledger: Ledger, read: dict[str, dict[str, Excess]], window: Window) -> None:
    """The findings of one stage and length; read: reader -> pattern -> excess."""
    missing = [f"{reader} has too few prompts with long enough texts" for reader, e in read.items() if not e]
    measured = [excesses for excesses in read.values() if excesses]
    if not measured:
        need = "a splice needs at least 2 prompts whose texts are longer than prefix and piece"
        ledger.leave_out("left_out", "none", missing, text=f"{need}; lower `at` or `lengths`")
        return
    means = {pattern: Excess.mean([excesses[pattern] for excesses in measured]) for pattern in measured[0]}
    for reader, excesses in (read | {MEAN: means}).items():
        of_reader = ledger.at(reader=reader, notes=missing if reader == MEAN else ())
        for pattern, excess in excesses.items():
            _sizes(of_reader.at(pattern=pattern), excess, pattern, window)
        if excesses:
            _foreignness(of_reader, excesses, window)
    for pattern in PATTERNS:
        at, mean = ledger.at(reader=MEAN, pattern=pattern), means[pattern]
        for quantity, curve in (("excess_entropy", mean.entropy), ("excess_surprisal", mean.surprisal)):
            reached_T, estimate = np.isfinite(curve.mean), curve.estimate
            shown = Estimate(*(bound[reached_T] for bound in (estimate.value, estimate.low, estimate.high)))
            axis = along("offset", curve.offset[reached_T].tolist())
            at.add(quantity, "nats", _EXCESS, shown, axes=[axis], null=0.0, n=mean.n, pooling=_POOLED)


def _excesses(data: Data, pair: Pair, cuts: Cuts, k: int) -> dict[str, Excess]:
    """Pattern -> its excess; empty where fewer than two prompts have all patterns."""
    offset_T = np.arange(-LEAD, k + cuts.after)
    excesses = {}
    for pattern in (*PATTERNS, UNSPLICED):
        is_spliced = pattern != UNSPLICED
        spliced = cuts.text_name(pair, pattern if is_spliced else "ooo", k)
        start_P = np.full(data.n_prompts, -1)
        for passage in data.passages(spliced):
            start_P[data.prompt_code[passage.prompt_id]] = passage.marks["prefix"]
        author = spliced if is_spliced else again(pair.reader)
        spliced_QTP = _aligned(data, pair.reader, author, start_P, offset_T)
        # Words that continue after the piece are compared with themselves, k positions earlier.
        shift_T = np.where(offset_T >= k, k, 0) if pattern.startswith("f") else 0
        difference_QTP = spliced_QTP - _aligned(data, pair.reader, pair.host(pattern), start_P, offset_T - shift_T)
        n = int(np.isfinite(difference_QTP[0, LEAD]).sum())
        if n < 2:
            return {}
        # An offset that only a few of the prompts reach says nothing of the others.
        least = max(2, n // 2)
        entropy, surprisal = (stats.curve(d_TP, offset_T, data.weights, least=least) for d_TP in difference_QTP)
        piece_TP = spliced_QTP[1, (offset_T >= 0) & (offset_T < k)]
        piece = stats.curve(piece_TP.mean(axis=0, keepdims=True), [0], data.weights)
        excesses[pattern] = Excess(entropy, surprisal, piece, n)
    return excesses


def _aligned(data: Data, reader: str, author: str, start_P: np.ndarray, offset_T: np.ndarray) -> np.ndarray:
    """[Q, T, P] of the first response to each prompt, at offsets from a start; NaN without a token or a start (-1)."""
    tokens, passages = data.tokens(data.key(reader, author, "assistant")), data.passages(author)
    first = {p.id for p in first_of_each(passages).values()}
    used_N = np.array([p.id in first for p in passages], bool)[tokens.passage] & ~tokens.is_end
    prompt_N, position_N = data.prompt_codes(author)[tokens.passage[used_N]], tokens.position[used_N]
    n_positions = int(position_N.max(initial=-1)) + 1
    values_QPL = np.full((2, data.n_prompts, n_positions + 1), np.nan)  # the last one: no token
    values_QPL[:, prompt_N, position_N] = tokens.entropy[used_N], tokens.surprisal[used_N]
    position_TP = start_P + offset_T[:, None]
    has_TP = (start_P >= 0) & (position_TP >= 0) & (position_TP < n_positions)
    return values_QPL[:, np.arange(data.n_prompts), np.where(has_TP, position_TP, n_positions)]


def _sizes(ledger: Ledger, excess: Excess, pattern: str, window: Window) -> None:
    """Size, reaction and recovery of one pattern."""
    texts = {
        "first": f"{_EXCESS}, at offset 1, the first that can react",
        "after": f"{_SUM}; the {window.after} tokens after the piece",
        "during": f"{_SUM}; inside the piece, without its first token",
    }
    for span, ends in window.spans.items():
        total = excess.entropy.total(*ends)
        ledger.add(f"excess_{span}", "nats", texts[span], total, null=0.0, n=excess.n, pooling=_POOLED)
    after = "the host's own words" if pattern.startswith("f") else "sampled by the reader"
    text = f"as excess_after, of surprisal; in {pattern} the tokens after the piece are {after}"
    total = excess.surprisal.total(*window.spans["after"])
    ledger.add("excess_surprisal_after", "nats", text, total, null=0.0, n=excess.n, pooling=_POOLED)
    if pattern != UNSPLICED:
        text = "mean surprisal of the piece's tokens"
        ledger.add("piece_surprisal", "nats a token", text, excess.piece.total(0, 1), n=excess.n, pooling=_POOLED)
        _times(ledger, excess, window)


def _times(ledger: Ledger, excess: Excess, window: Window) -> None:
    reaction = stats.departure(excess.entropy, first=1)
    never = [] if np.isfinite(reaction.value) else ["the excess stays in its band: no reaction to time"]

    def add(quantity: str, value: Estimate, text: str, why: Sequence[str]) -> None:
        ledger.add(quantity, "tokens", text, value, n=excess.n, pooling=_POOLED, notes=why)

    text = (
        "first offset from 1 on whose mean excess entropy leaves a simultaneous 95 % band around zero (max-t over all "
        "offsets up to the end of the window); 1: the earliest possible"
    )
    add("reaction", reaction, text, never)
    back_from = window.k if never else max(window.k, int(reaction.value))
    for quantity, limit, rule in (
        ("recovery", None, "its pointwise 95 % interval holds 0"),
        ("recovery_within_tolerance", window.tolerance, f"it is within {window.tolerance:g} nats of 0"),
    ):
        back = stats.comeback(excess.entropy, first=back_from, tolerance=limit)
        back = [np.nan if never else bound - window.k for bound in (back.value, back.low, back.high)]
        late = [] if np.isfinite(back[0]) else [f"not back within {window.after} tokens"]
        text = f"tokens after the piece until the mean excess entropy is back: {rule}, three tokens in a row, of "
        add(quantity, Estimate(*map(np.asarray, back)), f"{text}{window.after}", never or late)


def _foreignness(ledger: Ledger, excesses: dict[str, Excess], window: Window) -> None:
    """A foreign piece minus a piece of the host's other answer: what is foreignness and not the seam."""
    for pattern, control in (("ofo", "ooo"), ("fof", "fff")):
        more = excesses[pattern].entropy.minus(excesses[control].entropy)
        at, n = ledger.at(pattern=pattern), min(excesses[pattern].n, excesses[control].n)
        for span, ends in window.spans.items():
            text = (
                f"excess_{span} of {pattern} minus that of {control}, whose piece is from the host's other answer to "
                "the same prompt; 0: all of it is the seam"
            )
            total = more.total(*ends)
            at.add(f"foreignness_{span}", "nats", text, total, null=0.0, n=n, pooling=_POOLED)
