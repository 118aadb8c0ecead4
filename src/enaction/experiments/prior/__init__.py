"""E4: is the effect stronger when a model reads its own prior outputs? Both readings of that sentence, labelled.

Question: (a) `position`: does the gap between own and foreign text grow along one response? (b) `earlier`: does an
earlier turn by the reader itself, instead of one by another model, change how it reads a turn that stays the same?
Procedure: (a) cells of the matrix, in bins of positions and in first-k beginnings, where every author's text of the
prompt has all of these positions. (b) conversations of two rounds: a first question, an earlier answer by each author
of the stage, a second question, and a measured answer, byte-identical whoever wrote the earlier one. The measured
answers are the study's own, sampled without the first round, so that no arm is the one that they were sampled in.
Nulls: the base stage; authors shuffled within prompts; and the continuity of a foreign author, because two own answers
are also two answers of one author.
Source: From Simulation to Enaction (arXiv 2605.25459), of which only the sentence is known.

Question 1 of prompt i of n (of the chosen prompts, in their order) is the question of prompt (i + n // 2) mod n; an
author's response number k to it is the earlier answer before measured response number k.

Axes: R reader, E author of the earlier turn, A author of the measured turn, P prompt, S bin of positions, M passage.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from enaction import stats
from enaction.experiments.cells import INTERVAL, POOLED, Data, NoSettings, Part, appended_mean, estimated, thinned
from enaction.experiments.old_planning import Derived
from enaction.findings import Finding, permutation_note
from enaction.passages import Message, Passage, Prompt
from enaction.study.config import Study
from enaction.study.planning import Plan, Text
from enaction.study.store import Cell, Run

NAME = "prior"
MIN_PROMPTS = 5  # a bin of positions that fewer prompts reach is left out

_MATCHED = (
    "only prompts at which every author's text reaches the end of the span for every reader; mean over prompts of the "
    "mean over a response's tokens there"
)


class Settings(NoSettings):
    """Settings of this experiment.

    Attributes:
        stages: the study's stages that take part; all by default.
        edges: edges of the bins of positions, in the reader's tokens; also the lengths of the first-k beginnings.
        n_prompts: conversations of two rounds: how many of the study's prompts, spread evenly; null for all.
        match_length: cut the earlier answers to one number of words, the least of all authors' at that prompt.
    """

    stages: list[str] | None = None
    edges: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=2)] = (1, 2, 4, 8, 16, 32, 64, 128)
    n_prompts: Annotated[int, Field(ge=2)] | None = 24
    match_length: bool = True


def stages(study: Study, settings: Settings) -> dict[str, list[str]]:
    """The stages that take part, with their models."""
    return study.groups_named(settings.stages)


def after(author: str, earlier: str, stage: str, settings: Settings) -> str:
    """Name of an author's answers behind an earlier answer by another (or the same) of a stage."""
    return f"{author}.after-{earlier}" + (f".cut-{stage}" if settings.match_length else "")


def pairs(prompts: Sequence[Prompt]) -> dict[str, Prompt]:
    """Prompt id -> the prompt of its first round."""
    shift = len(prompts) // 2
    return {prompt.id: prompts[(i + shift) % len(prompts)] for i, prompt in enumerate(prompts)}


def plan(study: Study, settings: Settings) -> Plan:
    """The matrix's cells, and every measured author behind every earlier author of its stage, read by the stage."""
    prompts = thinned(study.load_prompts(), settings.n_prompts)
    count = len(prompts) * study.sampling.per_prompt
    texts: dict[str, Text] = {}
    cells: list[Cell] = []
    for stage, members in stages(study, settings).items():
        cells += [Cell(r, a, "assistant") for r in members for a in members]
        for author, earlier in itertools.product(members, members):
            name = after(author, earlier, stage, settings)
            texts[name] = Derived(
                name,
                count,
                lambda run, n=name, a=author, e=earlier, m=members: behind(run, n, a, e, m, prompts, settings),
                needs=tuple(members),
            )
            cells += [Cell(reader, name, "assistant") for reader in members]
    return Plan(texts, cells, frozenset(cell for cell in cells if cell.author in texts))


def behind(
    run: Run,
    name: str,
    author: str,
    earlier: str,
    members: Sequence[str],
    prompts: Sequence[Prompt],
    settings: Settings,
) -> list[Passage]:
    """An author's passages behind a first round that `earlier` answered.

    A first round that one of the members answered with no word at all is left out for all of them.
    """
    first_of = pairs(prompts)
    answers = {m: {(p.prompt_id, _number(p)): p.response for p in run.passages(m)} for m in members}
    found = []
    for passage in run.passages(author):
        first = first_of.get(passage.prompt_id)
        if first is None:
            continue
        key = (first.id, _number(passage))
        words = [len(answers[m][key].split()) for m in members]
        if min(words) == 0:
            continue
        whole = answers[earlier][key]
        answer = " ".join(whole.split()[: min(words)]) if settings.match_length else whole
        turn = Message(role="assistant", content=answer)
        later = passage.prompt if passage.prompt[0]["role"] != "system" else passage.prompt[1:]
        sampling = passage.sampling | {
            "earlier_author": earlier,
            "earlier_prompt": first.id,
            "earlier_words": len(answer.split()),
            "earlier_words_whole": len(whole.split()),
        }
        found.append(replace(passage, author=name, prompt=(*first.messages, turn, *later), sampling=sampling))
    return found


def _number(passage: Passage) -> str:
    return passage.id.rpartition("/")[2]


def analyse(data: Data, settings: Settings) -> list[Finding]:
    """All findings of this experiment."""
    part = Part.of(data, thinned(data.study.load_prompts(), settings.n_prompts))
    findings = []
    for stage, members in stages(data.study, settings).items():
        findings += _positions(data, stage, members, settings)
        findings += _earlier(data, part, stage, members, settings)
    return findings


# ---- (a) position inside one response ----


def _positions(data: Data, stage: str, members: list[str], settings: Settings) -> list[Finding]:
    edges = [0, *sorted(set(settings.edges))]
    bins, beginnings = list(itertools.pairwise(edges)), [(0, k) for k in edges[2:]]
    bounds = bins + beginnings
    entropy_RASP = np.array([[data.spans(r, a, "assistant", bounds) for a in members] for r in members])
    entropy_SRAP = np.moveaxis(entropy_RASP, 2, 0)
    is_there_SP = np.asarray(np.isfinite(entropy_SRAP).all(axis=(1, 2)))
    entropy_SRAP = np.where(is_there_SP[:, None, None, :], entropy_SRAP, np.nan)
    n_S = is_there_SP.sum(axis=1)
    everything = Part(np.ones(data.n_prompts, dtype=bool), data.weights)
    findings = []
    for s in np.flatnonzero(n_S >= MIN_PROMPTS).tolist():
        span = {"span": "bin" if s < len(bins) else "first", "from": bounds[s][0], "to": bounds[s][1]}
        where = {"reading": "position", "stage": stage, **span}
        findings += _at_position(data, everything, members, entropy_SRAP[s], int(n_S[s]), where)
    return [*findings, *_trend(data, everything, stage, members, entropy_SRAP[: len(bins)], bins)]


def _at_position(
    data: Data, part: Part, members: list[str], entropy_RAP: np.ndarray, n: int, where: dict[str, Any]
) -> list[Finding]:
    test = part.test(
        entropy_RAP,
        1,
        lambda m: appended_mean(stats.interaction(m)),
        np.random.default_rng([data.study.seed, 31]),
        "less",
    )
    findings = []
    for quantity, unit, definition, statistic in (
        ("gap_at_position", "nats", "entropy on own text minus mean over the others'", _gap),
        ("interaction_at_position", "log units", "diagonal residual of log entropy after reader and author effects",
         stats.interaction),
    ):  # fmt: skip
        found = part.estimate(entropy_RAP, lambda m, s=statistic: appended_mean(s(m)))
        for i, reader in enumerate([*members, "mean"]):
            findings.append(
                estimated(
                    NAME,
                    quantity,
                    {"reader": reader, **where},
                    found[i],
                    n,
                    unit,
                    f"{definition}; {_MATCHED}; {INTERVAL}",
                )
            )
            if quantity == "interaction_at_position":
                note = permutation_note(test.pvalue[i], "authors shuffled within each prompt, one-sided")
                findings[-1].notes.append(note)
    return findings


def _trend(
    data: Data,
    part: Part,
    stage: str,
    members: list[str],
    entropy_SRAP: np.ndarray,
    bounds: Sequence[tuple[int, int]],
) -> list[Finding]:
    """Slope of the interaction over the logarithm of the position, on prompts that reach every bin used."""
    is_there_SP = np.asarray(np.isfinite(entropy_SRAP).all(axis=(1, 2)))
    # The first token is predicted from the prompt alone, so there is nothing to recognise.
    enough_S = np.asarray(is_there_SP.sum(axis=1) >= max(MIN_PROMPTS, data.n_prompts / 2))
    used = [s for s in np.flatnonzero(enough_S).tolist() if bounds[s][0] > 0]
    if len(used) < 3:
        return []
    is_in_P = is_there_SP[used].all(axis=0)
    if is_in_P.sum() < MIN_PROMPTS:
        return []
    value_SRAP = np.where(is_in_P, entropy_SRAP[used], np.nan)
    octave_S = np.array([np.log2(np.arange(*bounds[s])).mean() for s in used])
    slope_S = (octave_S - octave_S.mean()) / ((octave_S - octave_S.mean()) ** 2).sum()

    def slope(mean_SRA: np.ndarray) -> np.ndarray:
        return appended_mean(np.einsum("s,...sr->...r", slope_S, stats.interaction(mean_SRA)))

    found = part.estimate(value_SRAP, slope)
    test = part.test(value_SRAP, 0, slope, np.random.default_rng([data.study.seed, 32]), "both")
    where = {"reading": "position", "stage": stage, "from": bounds[used[0]][0], "to": bounds[used[-1]][1]}
    findings = []
    for i, reader in enumerate([*members, "mean"]):
        findings.append(
            estimated(
                NAME, "position_trend", {"reader": reader, **where}, found[i], int(is_in_P.sum()),
                "log units a doubling",
                "least-squares slope of the interaction in bins over log2 of the position, the first token left out; "
                f"below 0: recognition grows; {_MATCHED}, on prompts that reach every bin; {INTERVAL}",
            )
        )  # fmt: skip
        findings[-1].notes.append(permutation_note(test.pvalue[i], "positions shuffled within each prompt, two-sided"))
    return findings


def _gap(mean_RA: np.ndarray) -> np.ndarray:
    own_R = np.diagonal(mean_RA, axis1=-2, axis2=-1)
    return own_R - (mean_RA.sum(axis=-1) - own_R) / (mean_RA.shape[-1] - 1)


# ---- (b) earlier turns, the measured turn fixed ----


def _earlier(data: Data, part: Part, stage: str, members: list[str], settings: Settings) -> list[Finding]:
    texts_EA = [[after(a, e, stage, settings) for a in members] for e in members]
    refused = {
        r: reason
        for r in members
        for row in texts_EA
        for text in row
        if (reason := data.left_out(r, text, "assistant")) is not None
    }
    where: dict[str, Any] = {"reading": "earlier", "stage": stage}
    if refused:
        return [
            Finding(
                NAME, "earlier_effect", {"reader": r, **where}, None, None, None, 0, "nats",
                "left out, see note", [f"{r} cannot read two rounds, so the stage is left out: {reason}"],
            )
            for r, reason in refused.items()
        ]  # fmt: skip
    entropy_REAP = np.array(
        [[[data.cell(r, text, "assistant").entropy for text in row] for row in texts_EA] for r in members]
    )
    alone_RAP = data.table(members, members, "assistant", "entropy")
    # Prompts whose first round somebody left empty are missing behind it; they must be missing without it too.
    is_there_P = np.isfinite(entropy_REAP).all(axis=(0, 1, 2)) & np.isfinite(alone_RAP).all(axis=(0, 1))
    entropy_REAP = np.where(is_there_P, entropy_REAP, np.nan)
    # Index 0 of the earlier axis: no earlier round.
    value_REAP = np.concatenate([np.where(is_there_P, alone_RAP, np.nan)[:, None], entropy_REAP], axis=1)
    n = int((is_there_P & part.is_in_P).sum())
    findings = _lengths(data, members, texts_EA, where)
    notes = [
        f"{m} has no chat template: rounds are joined by newlines" for m in members if data.own_framing[m] == "none"
    ]
    names = [*members, "mean"]

    def add(quantity: str, more: dict[str, Any], statistic: Any, unit: str, definition: str, tail: Any = None) -> None:
        def both(m: np.ndarray) -> np.ndarray:
            return appended_mean(statistic(m))

        found = part.estimate(value_REAP, both)
        test = None
        if tail:

            def behind_alone(m: np.ndarray) -> np.ndarray:
                # The author of the earlier turn is shuffled; the column without one, which no such number uses, is not.
                return both(np.concatenate([m[..., :1, :], m], axis=-2))

            rng = np.random.default_rng([data.study.seed, 33])
            test = part.test(entropy_REAP, 1, behind_alone, rng, tail)
        for i, reader in enumerate(names):
            findings.append(
                estimated(
                    NAME, quantity, {"reader": reader, **where, **more}, found[i], n, unit,
                    f"{definition}; entropy of the measured turn: {POOLED}; {INTERVAL}",
                    )
            )  # fmt: skip
            findings[-1].notes.extend(notes)
            if test is not None:
                sided = "two-sided" if tail == "both" else "one-sided"
                how = f"authors of the earlier turn shuffled within each prompt, {sided}"
                findings[-1].notes.append(permutation_note(test.pvalue[i], how))

    for measured, pick in (("own", _own), ("foreign", _foreign)):
        for earlier in ("own", "foreign", "none"):
            add(
                "earlier_entropy", {"earlier": earlier, "measured": measured},
                lambda m, p=pick, e=earlier: p(_arm(m, e)), "nats", "entropy of the measured turn in one arm",
            )  # fmt: skip
        add(
            "earlier_effect", {"measured": measured},
            lambda m, p=pick: p(_arm(m, "own")) - p(_arm(m, "foreign")), "nats",
            "entropy behind an own earlier turn minus behind a foreign one (mean over their authors), the same "
            "measured text", "both",
        )  # fmt: skip
        add(
            "earlier_interaction", {"measured": measured},
            lambda m, p=pick: _earlier_interaction(m, p), "log units",
            "diagonal residual of log entropy over reader x author of the earlier turn; below 0: an own earlier turn "
            "lowers entropy beyond what this author's turns do to every reader", "less",
        )  # fmt: skip
        if measured == "foreign" and len(members) < 3:
            continue
        add(
            "continuity", {"measured": measured},
            lambda m, p=pick: p(_continuity(m)), "log units",
            "log entropy of a measured turn behind an earlier turn of the same author minus behind another author's "
            "(not the reader's), mean over these",
        )  # fmt: skip
    if len(members) > 2:
        add(
            "continuity_difference", {}, lambda m: _own(_continuity(m)) - _foreign(_continuity(m)), "log units",
            "continuity of own text minus continuity of foreign text; below 0: two own turns do more than two turns of "
            "any one author", "both",
        )  # fmt: skip
    if len(members) > 2:
        add(
            "amplification_beyond_continuity", {}, _beyond_continuity, "log units",
            "what an own earlier turn does to own text, less what it does to foreign text and less what two turns of "
            "one foreign author do, all against an earlier turn of neither; above 0: amplified by more than continuity",
            "both",
        )  # fmt: skip
    for earlier in ("own", "foreign", "none"):
        add(
            "gap_behind", {"earlier": earlier}, lambda m, e=earlier: _log_gap(_arm(np.log(m), e)), "log units",
            "log of the other/self ratio of measured turns (geometric over authors) in one arm",
        )  # fmt: skip
    add(
        "amplification", {}, lambda m: _log_gap(_arm(np.log(m), "own")) - _log_gap(_arm(np.log(m), "foreign")),
        "log units",
        "log other/self ratio of measured turns behind an own earlier turn minus behind a foreign one; above 0: the "
        "gap is larger behind own prior outputs, continuity included", "both",
    )  # fmt: skip
    return findings


def _lengths(data: Data, members: Sequence[str], texts_EA: list[list[str]], where: dict[str, Any]) -> list[Finding]:
    """Words of the earlier turns, as they stand and as they were written."""
    findings = []
    for e, earlier in enumerate(members):
        passages = data.passages(texts_EA[e][0])
        for quantity, key, definition in (
            ("earlier_words", "earlier_words", "mean number of words of the earlier turn as it is read"),
            (
                "earlier_words_whole",
                "earlier_words_whole",
                "mean number of words of the earlier turn as it was written",
            ),
        ):
            value = float(np.mean([p.sampling[key] for p in passages])) if passages else None
            findings.append(
                Finding(
                    NAME, quantity, {"author": earlier, **where}, value, None, None, len(passages), "words",
                    f"{definition}; n counts conversations",
                )
            )  # fmt: skip
    return findings


def _arm(value_REA: np.ndarray, earlier: str) -> np.ndarray:
    """[..., R, A] of one arm; the earlier axis is nobody, then the members; foreign is the mean over the others."""
    if earlier == "none":
        return value_REA[..., :, 0, :]
    told_REA = value_REA[..., 1:, :]
    own_RA = np.stack([told_REA[..., r, r, :] for r in range(told_REA.shape[-2])], axis=-2)
    return own_RA if earlier == "own" else (told_REA.sum(axis=-2) - own_RA) / (told_REA.shape[-2] - 1)


def _own(value_RA: np.ndarray) -> np.ndarray:
    return np.diagonal(value_RA, axis1=-2, axis2=-1)


def _foreign(value_RA: np.ndarray) -> np.ndarray:
    return (value_RA.sum(axis=-1) - _own(value_RA)) / (value_RA.shape[-1] - 1)


def _log_gap(log_RA: np.ndarray) -> np.ndarray:
    return _foreign(log_RA) - _own(log_RA)


def _earlier_interaction(value_REA: np.ndarray, pick: Any) -> np.ndarray:
    """Diagonal residual over reader x earlier author, of the measured turns that `pick` chooses for each reader."""
    log_RAE = np.log(value_REA[..., 1:, :]).swapaxes(-1, -2)
    log_RE = np.stack([pick(log_RAE[..., e]) for e in range(log_RAE.shape[-1])], axis=-1)
    return stats.interaction(np.exp(log_RE))


def _continuity(value_REA: np.ndarray) -> np.ndarray:
    """[..., R, A] log entropy of a measured text behind its own author minus behind others, not the reader, mean.

    NaN for foreign text where there are but two models.
    """
    log_REA = np.log(value_REA[..., 1:, :])
    n = log_REA.shape[-1]
    other_EA = ~np.eye(n, dtype=bool)
    other_REA = other_EA & other_EA[:, :, None]
    same_RA = np.diagonal(log_REA, axis1=-2, axis2=-1)
    count_RA = other_REA.sum(axis=-2)
    mean_RA = np.where(other_REA, log_REA, 0.0).sum(axis=-2) / np.maximum(count_RA, 1)
    return same_RA - np.where(count_RA > 0, mean_RA, np.nan)


def _beyond_continuity(value_REA: np.ndarray) -> np.ndarray:
    """[..., R] effect of an own earlier turn on own text beyond its effect on foreign text and beyond continuity."""
    log_REA = np.log(value_REA[..., 1:, :])
    n = log_REA.shape[-1]
    own_RA = np.stack([log_REA[..., r, r, :] for r in range(n)], axis=-2)
    continuity_RA = _continuity(value_REA)
    # Behind an author that is neither the reader nor the measured one.
    neither_RA = np.diagonal(log_REA, axis1=-2, axis2=-1) - continuity_RA
    return _foreign(own_RA - neither_RA) + _foreign(continuity_RA) - _own(own_RA - neither_RA)
