"""Splices: own text, k foreign tokens, own text again, and the reverse: recognition in real time.

Question: when something foreign stands in a model's own text, after how many tokens does its entropy react, how
strongly, and after how many tokens of its own is it as before?
Procedure: a prefix of the reader's own text, k tokens of another author's answer to the same prompt, and what the
reader samples after the two (`ofo`). The reverse has a foreign prefix, k tokens that the reader samples after it, and
the foreign author's own words going on (`fof`). Beside each stands the same splice with a piece of the same author's
other answer (`ooo`, `fff`), for a seam alone surprises, and the unspliced text.

Every curve is a paired difference: H at a position of the spliced text minus H at the same position of the unspliced
text whose prefix it has; where the host's own words go on behind the piece, minus H of the same words without it. A
row's H belongs to the distribution that predicted its token, so at offset 0, the first token of the piece, the
difference is 0 by construction; the piece can act from offset 1 on.

Axes: P prompt, T offset from the splice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field, field_validator

from enaction import stats
from enaction.experiments.cells import INTERVAL, Data, NoSettings, estimated, passage_codes
from enaction.experiments.old_planning import Sampled, sampled
from enaction.experiments.pieces import first_of_each
from enaction.experiments.splicing import Splice, splice_all
from enaction.findings import Finding
from enaction.stats import Curve
from enaction.study.config import Study
from enaction.study.planning import Plan, Text
from enaction.study.store import Cell

NAME = "splice"

# Prefix, piece and rest, each own or foreign; the piece of ooo and fff is from the same author's other answer.
PATTERNS = ("ofo", "ooo", "fof", "fff")
UNSPLICED = "none"  # no splice at all: the reader's other answer against its first, at the same positions
MEAN = "mean"
LEAD = 2  # offsets before the splice that a curve shows


class Settings(NoSettings):
    """What is spliced where.

    Attributes:
        lengths: tokens in a piece.
        at: tokens in a prefix; up to 8 more, so that it ends between two words.
        after: tokens behind the piece, which are also the window in which recovery is looked for.
        tolerance: nats; an excess of at most so much counts as none.
        stages: the study's stages that take part; all by default.
    """

    lengths: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 4, 16)
    at: Annotated[int, Field(ge=1)] = 16
    after: Annotated[int, Field(ge=3)] = 20
    tolerance: Annotated[float, Field(gt=0)] = 0.1
    stages: list[str] | None = None

    @field_validator("lengths")
    @classmethod
    def _each_once(cls, lengths: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(lengths)))


class Pair(NamedTuple):
    """A reader and who is foreign to it."""

    stage: str
    reader: str
    foreign: str


def pairs(study: Study, settings: Settings) -> list[Pair]:
    """Every reader of a group with the next model of the group; a model of several groups is paired in its first."""
    found: dict[str, Pair] = {}
    for stage, members in study.groups_named(settings.stages).items():
        for reader, foreign in zip(members, members[1:] + members[:1], strict=True):
            found.setdefault(reader, Pair(stage, reader, foreign))
    return list(found.values())


def again(model: str) -> str:
    """The text of a model's second answers."""
    return f"{model}.again"


def text_name(settings: Settings, pair: Pair, pattern: str, k: int) -> str:
    """The text of one splice of a reader."""
    lengths = f"at{settings.at}.of{max(settings.lengths)}.after{settings.after}"
    return f"{pair.reader}.{pattern}{k}.{lengths}.{pair.foreign}"


def plan(study: Study, settings: Settings) -> Plan:
    """A second answer of every model, every splice of every reader, and the unspliced texts."""
    texts: dict[str, Text] = {}
    cells: list[Cell] = []
    second = study.sampling.model_copy(update={"per_prompt": 1})
    for pair in pairs(study, settings):
        read = [pair.reader, pair.foreign, again(pair.reader)]
        for model in (pair.reader, pair.foreign):
            texts[again(model)] = sampled(study, again(model), model, second)
        for pattern in PATTERNS:
            for k in settings.lengths:
                text = _text(study, settings, pair, pattern, k)
                texts[text.name] = text
                read.append(text.name)
        cells += [Cell(pair.reader, author, "assistant") for author in read]
    return Plan(texts, cells)


def _text(study: Study, settings: Settings, pair: Pair, pattern: str, k: int) -> Text:
    host = _host(pair, pattern)
    piece_by = {"ofo": pair.foreign, "fof": None}.get(pattern, again(host))
    splice = Splice(
        name=text_name(settings, pair, pattern, k),
        host=host,
        piece_by=piece_by,
        at=settings.at,
        piece=k,
        longest=max(settings.lengths),
        after=settings.after,
    )
    needs = tuple(dict.fromkeys(name for name in (pair.reader, host, piece_by) if name is not None))
    write = partial(splice_all, study, splice)
    return Sampled(splice.name, pair.reader, len(study.load_prompts()), write, needs)


def _host(pair: Pair, pattern: str) -> str:
    return pair.foreign if pattern.startswith("f") else pair.reader


def analyse(data: Data, settings: Settings) -> list[Finding]:
    """All findings of this experiment, from the token tables of a finished run."""
    by_stage: dict[str, list[Pair]] = {}
    for pair in pairs(data.study, settings):
        by_stage.setdefault(pair.stage, []).append(pair)
    findings = []
    for stage, members in by_stage.items():
        for k in settings.lengths:
            read = {pair.reader: _excesses(data, settings, pair, k) for pair in members}
            left_out = [f"{reader} has too few prompts with long enough texts" for reader, e in read.items() if not e]
            there = {reader: e for reader, e in read.items() if e}
            if not there:
                findings.append(_left_out(stage, k, left_out))
                continue
            there[MEAN] = _mean([*there.values()])
            for reader, excesses in there.items():
                place = {"stage": stage, "reader": reader, "k": k}
                made = [*_numbers(excesses, settings, k, place), *_differences(excesses, k, place)]
                for finding in made:
                    finding.notes.extend(left_out if reader == MEAN else [])
                findings += made
            findings += _curves(there[MEAN], {"stage": stage, "reader": MEAN, "k": k})
    return findings


def _left_out(stage: str, k: int, notes: list[str]) -> Finding:
    definition = (
        "a splice needs two or more prompts whose texts are longer than prefix and piece; lower `at` or `lengths`"
    )
    return Finding(NAME, "left_out", {"stage": stage, "k": k}, None, None, None, 0, "none", definition, notes)


@dataclass(frozen=True)
class Excess:
    """A splice less the unspliced text with the same prefix.

    Attributes:
        entropy, surprisal: curves over offsets from the splice, nats.
        piece: mean surprisal of the piece's tokens, nats a token, as a curve of one point.
        n: prompts.
    """

    entropy: Curve
    surprisal: Curve
    piece: Curve
    n: int


def _excesses(data: Data, settings: Settings, pair: Pair, k: int) -> dict[str, Excess]:
    """Pattern -> its excess; empty where fewer than two prompts have all patterns."""
    offset_T = np.arange(-LEAD, k + settings.after)
    splices, starts = {}, {}
    for pattern in PATTERNS:
        name = text_name(settings, pair, pattern, k)
        starts[pattern] = {p.prompt_id: p.sampling["prefix"] for p in data.passages(name)}
        splices[pattern] = _aligned(data, pair.reader, name, starts[pattern], offset_T)
    starts[UNSPLICED] = starts["ooo"]
    splices[UNSPLICED] = _aligned(data, pair.reader, again(pair.reader), starts[UNSPLICED], offset_T)
    found = {}
    for pattern, spliced_QTP in splices.items():
        host = pair.reader if pattern == UNSPLICED else _host(pair, pattern)
        # Words that go on behind the piece are compared with themselves, k positions earlier.
        shift = k if pattern.startswith("f") else 0
        plain_QTP = _aligned(data, pair.reader, host, starts[pattern], offset_T)
        plain_QTP[:, offset_T >= k] = _aligned(data, pair.reader, host, starts[pattern], offset_T - shift)[
            :, offset_T >= k
        ]
        difference_QTP = spliced_QTP - plain_QTP
        n_T = np.isfinite(difference_QTP[0]).sum(axis=1)
        n = int(n_T[LEAD])
        if n < 2:
            return {}
        # An offset that hardly a prompt reaches says nothing of the others.
        entropy, surprisal = (
            stats.curve(d_TP, offset_T, data.weights, least=max(2, n // 2)) for d_TP in difference_QTP
        )
        inside = (offset_T >= 0) & (offset_T < k)
        piece = stats.curve(spliced_QTP[1, inside].mean(axis=0, keepdims=True), [0], data.weights)
        found[pattern] = Excess(entropy, surprisal, piece, n)
    return found


def _aligned(data: Data, reader: str, author: str, start_of: dict[str, int], offset_T: np.ndarray) -> np.ndarray:
    """[2, T, P] entropy and surprisal of each prompt's first passage at offsets from the splice; NaN: none there."""
    passages = data.passages(author)
    found_QTP = np.full((2, len(offset_T), data.n_prompts), np.nan)
    first = {p.id for p in first_of_each(passages).values()}
    prompt_M = np.array([data.prompt_code[p.prompt_id] for p in passages], dtype=np.int64)
    start_M = np.array([start_of.get(p.prompt_id, -1) if p.id in first else -1 for p in passages], dtype=np.int64)
    tokens = data.run.tokens(data.key(reader, author, "assistant"))
    passage_N = passage_codes(tokens, passages)
    offset_N = tokens["position"].to_numpy() - start_M[passage_N] - offset_T[0]
    used_N = (start_M[passage_N] >= 0) & (offset_N >= 0) & (offset_N < len(offset_T)) & ~tokens["is_end"].to_numpy()
    for q, column in enumerate(("entropy", "surprisal")):
        found_QTP[q, offset_N[used_N], prompt_M[passage_N[used_N]]] = tokens[column].to_numpy()[used_N]
    return found_QTP


def _mean(several: list[dict[str, Excess]]) -> dict[str, Excess]:
    """The mean over readers; the smallest of their numbers of prompts."""
    found = {}
    for pattern in several[0]:
        excesses = [e[pattern] for e in several]
        found[pattern] = Excess(
            stats.mean_curve([e.entropy for e in excesses]),
            stats.mean_curve([e.surprisal for e in excesses]),
            stats.mean_curve([e.piece for e in excesses]),
            min(e.n for e in excesses),
        )
    return found


_EXCESS = (
    "excess: H of the spliced text minus H of the unspliced text with the same prefix, at the same position or word"
)


def _numbers(excesses: dict[str, Excess], settings: Settings, k: int, place: dict[str, Any]) -> Iterator[Finding]:
    """Size, reaction and recovery of every pattern."""
    after, tolerance = settings.after, settings.tolerance
    for pattern, excess in excesses.items():
        where = {**place, "pattern": pattern}

        def found(quantity: str, value: stats.Estimate, unit: str, definition: str, e: Excess = excess) -> Finding:
            return estimated(NAME, quantity, where, value, e.n, unit, f"{definition}; {INTERVAL}")  # noqa: B023

        h = excess.entropy
        sums = f"sum over offsets of the mean {_EXCESS}, over prompts"
        yield found("excess_first", h.total(1, 2), "nats", f"mean {_EXCESS}, at offset 1, the first that can react")
        yield found(
            "excess_after", h.total(max(k, 1), k + after), "nats", f"{sums}; the {after} tokens behind the piece"
        )
        if k > 1:
            yield found("excess_during", h.total(1, k), "nats", f"{sums}; inside the piece, its first token left out")
        yield found(
            "excess_surprisal_after",
            excess.surprisal.total(k, k + after),
            "nats",
            f"as excess_after, of surprisal; in {pattern} the tokens behind the piece are "
            + ("sampled by the reader" if pattern[0] == "o" else "the host's own words"),
        )
        if pattern == UNSPLICED:
            continue
        piece = excess.piece.total(0, 1)
        yield found("piece_surprisal", piece, "nats a token", "mean surprisal of the piece's tokens, mean over prompts")
        yield from _times(found, h, k, after, tolerance)


def _times(found: Any, excess: Curve, k: int, after: int, tolerance: float) -> Iterator[Finding]:
    reaction = stats.departure(excess, first=1)
    never = [] if np.isfinite(reaction.value) else ["the excess stays in its band: no reaction to time"]
    finding = found(
        "reaction",
        reaction,
        "tokens",
        "first offset from 1 on whose mean excess entropy leaves a simultaneous 95 % band around zero (max-t over all "
        "offsets up to the end of the window); 1: the earliest possible",
    )
    finding.notes.extend(never)
    yield finding
    back_from = k if never else max(k, int(reaction.value))
    for quantity, limit, rule in (
        ("recovery", None, "its pointwise 95 % interval holds 0"),
        ("recovery_within_tolerance", tolerance, f"it is within {tolerance:g} nats of 0"),
    ):
        back = stats.comeback(excess, first=back_from, tolerance=limit)
        back = stats.Estimate(back.value - k, back.low - k, back.high - k)
        if never:
            back = stats.Estimate(*[np.array(np.nan)] * 3)
        finding = found(
            quantity,
            back,
            "tokens",
            f"tokens behind the piece until the mean excess entropy is back: {rule}, three tokens in a row, of {after}",
        )
        finding.notes.extend(never or ([] if np.isfinite(back.value) else [f"not back within {after} tokens"]))
        yield finding


def _differences(excesses: dict[str, Excess], k: int, place: dict[str, Any]) -> Iterator[Finding]:
    """Foreign piece against a piece of the host's other answer: what is foreignness and not the seam."""
    for pattern, control in (("ofo", "ooo"), ("fof", "fff")):
        a, b = excesses[pattern], excesses[control]
        more = a.entropy.minus(b.entropy)
        last = int(more.offset[-1]) + 1
        spans = [("first", 1, 2), ("after", k, last), *([("during", 1, k)] if k > 1 else [])]
        for span, first, stop in spans:
            yield estimated(
                NAME,
                f"foreignness_{span}",
                {**place, "pattern": pattern},
                more.total(first, stop),
                min(a.n, b.n),
                "nats",
                f"excess_{span} of {pattern} minus that of {control}, whose piece is from the host's other answer to "
                f"the same prompt; 0: all of it is the seam; {INTERVAL}",
            )


def _curves(excesses: dict[str, Excess], place: dict[str, Any]) -> Iterator[Finding]:
    """The aligned curves of the mean over readers."""
    for pattern, excess in excesses.items():
        if pattern == UNSPLICED:
            continue
        for quantity, aligned in (("excess_entropy", excess.entropy), ("excess_surprisal", excess.surprisal)):
            estimate = aligned.estimate
            for t, offset in enumerate(aligned.offset.tolist()):
                if np.isfinite(aligned.mean[t]):
                    where = {**place, "pattern": pattern, "offset": offset}
                    yield estimated(NAME, quantity, where, estimate[t], excess.n, "nats", f"{_EXCESS}; {INTERVAL}")
