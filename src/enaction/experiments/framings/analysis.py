"""E2: is it chat formatting or authorship? The same texts in every role, with the question and without it.

Question: is own text read with least entropy in every framing, and does the reader x author interaction depend on the
role that byte-identical text stands in?
Procedure: the cells that the matrix reads (assistant turn, user turn, no template), read again with the question
dropped: `assistant` as a turn behind nothing, `user` as a turn that holds the response alone, `none` behind BOS alone.
Every reader of a stage reads every author of it; so does each reader's base. Nulls: the base stage, roles swapped
within prompts, authors shuffled within prompts.
Source: From Simulation to Enaction (arXiv 2605.25459), its comparison of roles and formats.

A model's own text has recorded ids, which are read in every framing; foreign text is tokenised anew with what stands
before it, so that its first token can differ from framing to framing: `first_token_differs` counts that.

Axes: C condition (framing and question), R reader, A author, P prompt, M passage.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from enaction import stats
from enaction.experiments.cells import INTERVAL, POOLED, Data, NoSettings, Part, estimated, with_mean
from enaction.experiments.old_planning import Derived
from enaction.findings import Finding, permutation_note
from enaction.passages import Passage
from enaction.study.config import Study
from enaction.study.planning import Plan, Text, framing_for
from enaction.study.store import Cell, Run
from enaction.tokens import table_notes
from enaction.words import FRAMINGS, Framing

NAME = "framings"
Question = Literal["kept", "dropped"]

_RATIO = "entropy on the other authors' text divided by entropy on own text, mean over the others"
_SWAP = "framings swapped within prompts, all readers and authors together"


class Settings(NoSettings):
    """Settings of this experiment.

    Attributes:
        framings: how texts are put.
        question: `kept` before the response, `dropped`, or both.
        stages: the study's stages that take part; all by default.
    """

    framings: Annotated[tuple[Framing, ...], Field(min_length=1)] = FRAMINGS
    question: Annotated[tuple[Question, ...], Field(min_length=1)] = ("kept", "dropped")
    stages: list[str] | None = None


class Condition(NamedTuple):
    """One way to put a text."""

    framing: Framing
    question: Question


def conditions(settings: Settings) -> list[Condition]:
    """Every framing with the question kept, then with it dropped."""
    return [Condition(f, q) for q in dict.fromkeys(settings.question) for f in dict.fromkeys(settings.framings)]


def named(author: str, question: Question) -> str:
    """The text of an author with or without its question."""
    return author if question == "kept" else f"{author}.alone"


def plan(study: Study, settings: Settings) -> Plan:
    """Every text of a stage read in every condition by the models of the stage and by their bases."""
    texts: dict[str, Text] = {}
    cells: list[Cell] = []
    count = len(study.load_prompts()) * study.sampling.per_prompt
    for members in study.groups_named(settings.stages).values():
        if "dropped" in settings.question:
            for author in members:
                name = named(author, "dropped")
                texts[name] = Derived(name, count, lambda run, a=author: alone(run, a), needs=(author,))
        for reader, condition, author in itertools.product(
            [*members, *_bases(study, members)], conditions(settings), members
        ):
            cells.append(Cell(reader, named(author, condition.question), condition.framing))
    return Plan(texts, cells, frozenset(cell for cell in cells if cell.author in texts))


def alone(run: Run, author: str) -> list[Passage]:
    """An author's passages without the conversation before them."""
    name = named(author, "dropped")
    return [replace(passage, prompt=(), author=name) for passage in run.passages(author)]


def analyse(data: Data, settings: Settings) -> list[Finding]:
    """All findings of this experiment."""
    findings = []
    for stage, members in data.study.groups_named(settings.stages).items():
        tables: dict[Condition, np.ndarray] = {}
        for condition in conditions(settings):
            notes = _unread(data, [*members, *_bases(data.study, members)], members, condition)
            findings += _entropies(data, stage, members, condition, notes)
            readable = [m for m in members if m not in notes]
            if len(readable) == len(members):
                tables[condition] = _table(data, members, members, condition, "entropy")
                findings += _recognition(data, stage, members, condition, tables[condition])
        for pair in _pairs(list(tables)):
            findings += _differences(data, stage, members, pair, tables)
        findings += _first_tokens(data, stage, members, settings)
    return findings


def _bases(study: Study, members: Sequence[str]) -> list[str]:
    bases = (study.base_of(member) for member in members)
    return list(dict.fromkeys(base for base in bases if base is not None and base not in members))


def _unread(data: Data, readers: Sequence[str], authors: Sequence[str], condition: Condition) -> dict[str, str]:
    """Reader -> why it has no number in a condition."""
    found = {}
    for reader in readers:
        reasons = (data.left_out(reader, named(a, condition.question), condition.framing) for a in authors)
        if (reason := next((r for r in reasons if r), None)) is not None:
            found[reader] = reason
    return found


def _table(data: Data, readers: Sequence[str], authors: Sequence[str], condition: Condition, field: str) -> np.ndarray:
    return data.table(readers, [named(a, condition.question) for a in authors], condition.framing, field)


def _where(stage: str, condition: Condition) -> dict[str, Any]:
    return {"stage": stage, "framing": condition.framing, "question": condition.question}


def _plain(data: Data, readers: Sequence[str], framing: Framing) -> list[str]:
    plain = [r for r in readers if framing_for(data.own_framing[r], framing) != framing]
    return [f"{r} has no chat template and is read without one in every framing" for r in plain]


def _entropies(
    data: Data, stage: str, members: list[str], condition: Condition, unread: dict[str, str]
) -> list[Finding]:
    """The table author x framing of each reader of the stage and of each base, and what is left out."""
    findings = []
    bases = {member: data.study.base_of(member) for member in members}
    for reader in [*members, *_bases(data.study, members)]:
        where = {"reader": reader, **_where(stage, condition)}
        if reader in unread:
            note = f"{reader} cannot read this: {unread[reader]}"
            findings.append(
                Finding(NAME, "entropy", where, None, None, None, data.n_prompts, "nats", "left out, see note", [note])
            )
            continue
        value_2AP = np.array([_table(data, [reader], members, condition, f)[0] for f in ("entropy", "surprisal")])
        found = data.estimate(value_2AP)
        for i, quantity in enumerate(("entropy", "surprisal")):
            for a, author in enumerate(members):
                findings.append(
                    estimated(
                        NAME, quantity, {**where, "author": author}, found[i, a], data.n_prompts, "nats",
                        f"{quantity}: {POOLED}; {INTERVAL}",
                    )
                )  # fmt: skip
        for member, base in bases.items():
            own = members.index(member)
            if reader != base:
                continue
            definition = "the family's base on the same texts: its"
            at = {**where, "of": member}
            ratio, margin = (data.estimate(value_2AP[0], lambda m, s=s, o=own: s(m, o)) for s in (_ratio, _margin))
            findings += [
                estimated(
                    NAME, "base_reader_ratio", at, ratio, data.n_prompts, "ratio",
                    f"{definition} entropy on the others' text divided by that on its descendant's; {INTERVAL}",
                ),
                estimated(
                    NAME, "base_reader_margin", at, margin, data.n_prompts, "nats",
                    f"{definition} least entropy on another author's text minus that on its descendant's; {INTERVAL}",
                ),
            ]  # fmt: skip
    return findings


def _ratio(entropy_A: np.ndarray, own: int) -> np.ndarray:
    return np.delete(entropy_A, own, axis=-1).mean(axis=-1) / entropy_A[..., own]


def _margin(entropy_A: np.ndarray, own: int) -> np.ndarray:
    """Least entropy on another author's text minus that on own text; above 0: own is lowest."""
    return np.delete(entropy_A, own, axis=-1).min(axis=-1) - entropy_A[..., own]


def _margins(entropy_RA: np.ndarray) -> np.ndarray:
    return np.stack([_margin(entropy_RA[..., r, :], r) for r in range(entropy_RA.shape[-1])], axis=-1)


def _lowest(entropy_RA: np.ndarray) -> np.ndarray:
    """Share of readers that have least entropy on their own text."""
    return (_margins(entropy_RA) > 0).mean(axis=-1)


def _recognition(
    data: Data, stage: str, members: list[str], condition: Condition, entropy_RAP: np.ndarray
) -> list[Finding]:
    """Ratio, interaction and whether own is lowest, in one condition."""
    where, names = _where(stage, condition), [*members, "mean"]
    n = int(np.isfinite(entropy_RAP).all(axis=(0, 1)).sum())
    findings = []
    for quantity, unit, definition, statistic in (
        ("other_self_ratio", "ratio", _RATIO, stats.other_self_ratio),
        ("interaction", "log units", "diagonal residual of log entropy after reader and author effects",
         stats.interaction),
        ("lowest_margin", "nats", "least entropy on another author's text minus that on own text; above 0: own is "
         "lowest", _margins),
    ):  # fmt: skip
        found = data.estimate(entropy_RAP, with_mean(statistic))
        findings += [
            estimated(NAME, quantity, {"reader": r, **where}, found[i], n, unit, f"{definition}; {INTERVAL}")
            for i, r in enumerate(names)
        ]
    test = stats.permutation_pvalue(entropy_RAP, np.random.default_rng([data.study.seed, 2]), data.study.resamples)
    rng = np.random.default_rng([data.study.seed, 12])
    margins = _all_prompts(data).test(entropy_RAP, 1, with_mean(_margins), rng, "greater")
    for quantity, pvalues in (
        ("interaction", [*test.pvalue, test.mean_pvalue]),
        ("lowest_margin", margins.pvalue),
    ):
        for finding, p in zip([f for f in findings if f.quantity == quantity], pvalues, strict=True):
            finding.notes.append(permutation_note(p, "authors shuffled within each prompt, one-sided"))
    findings.append(
        estimated(
            NAME, "lowest_share", where, data.estimate(entropy_RAP, _lowest), n, "share",
            f"share of the stage's readers that have least entropy on their own text; {INTERVAL}",
        )
    )  # fmt: skip
    for finding in findings:
        finding.notes.extend(_plain(data, members, condition.framing))
    return findings


def _pairs(there: list[Condition]) -> list[tuple[Condition, Condition]]:
    """Pairs of conditions that differ in the role alone, or in the question alone."""
    return [
        (first, second)
        for first, second in itertools.combinations(there, 2)
        if (first.framing == second.framing) != (first.question == second.question)
    ]


def _differences(
    data: Data, stage: str, members: list[str], pair: tuple[Condition, Condition], tables: dict[Condition, np.ndarray]
) -> list[Finding]:
    """How the interaction, and entropy on own and on foreign text, change from the second condition to the first."""
    first, second = pair
    entropy_CRAP = np.array([tables[first], tables[second]])
    where = {
        "stage": stage,
        "framing": first.framing,
        "question": first.question,
        "minus_framing": second.framing,
        "minus_question": second.question,
    }
    n = int(np.isfinite(entropy_CRAP).all(axis=(0, 1, 2)).sum())
    own_RA = np.eye(len(members), dtype=bool)

    def change(mean_CRA: np.ndarray) -> np.ndarray:
        log_CRA = np.log(mean_CRA)
        return log_CRA[..., 0, :, :] - log_CRA[..., 1, :, :]

    def own(mean_CRA: np.ndarray) -> np.ndarray:
        return np.diagonal(change(mean_CRA), axis1=-2, axis2=-1)

    def foreign(mean_CRA: np.ndarray) -> np.ndarray:
        return np.where(own_RA, 0.0, change(mean_CRA)).sum(axis=-1) / (len(members) - 1)

    is_role_swap = {first.framing, second.framing} == {"assistant", "user"}
    findings = []
    for quantity, definition, statistic in (
        (
            "interaction_difference",
            "interaction in the first condition minus that in the second, the same texts; below 0: more recognition "
            "in the first",
            lambda m: stats.interaction(m[..., 0, :, :]) - stats.interaction(m[..., 1, :, :]),
        ),
        ("own_change", "log entropy on own text in the first condition minus that in the second", own),
        ("foreign_change", "log entropy on foreign text, first condition minus second, mean over authors", foreign),
        (
            "own_minus_foreign_change",
            "own_change minus foreign_change: does the role matter more for own text?",
            lambda m: own(m) - foreign(m),
        ),
    ):
        if quantity != "interaction_difference" and not is_role_swap:
            continue
        found = data.estimate(entropy_CRAP, with_mean(statistic))
        tested = quantity in ("interaction_difference", "own_minus_foreign_change")
        test = (
            _all_prompts(data).test(
                entropy_CRAP, 0, with_mean(statistic), np.random.default_rng([data.study.seed, 13]), "both"
            )
            if tested
            else None
        )
        for i, reader in enumerate([*members, "mean"]):
            findings.append(
                estimated(
                    NAME, quantity, {"reader": reader, **where}, found[i], n, "log units", f"{definition}; {INTERVAL}"
                )
            )
            if test is not None:
                findings[-1].notes.append(permutation_note(test.pvalue[i], f"{_SWAP}, two-sided"))
            findings[-1].notes.extend(
                note for c in dict.fromkeys((first.framing, second.framing)) for note in _plain(data, members, c)
            )
    return findings


def _all_prompts(data: Data) -> Part:
    return Part(np.ones(data.n_prompts, dtype=bool), data.weights)


def _first_tokens(data: Data, stage: str, members: list[str], settings: Settings) -> list[Finding]:
    """In how many passages the first token depends on the condition, and own ids are not what their text would give."""
    reference, *rest = conditions(settings)
    findings = []
    for reader in members:
        for condition in [reference, *rest]:
            if _unread(data, [reader], members, condition):
                continue
            where = {"reader": reader, **_where(stage, condition)}
            own = data.run.tokens(data.key(reader, named(reader, condition.question), condition.framing))
            notes = table_notes(own)
            if notes.get("passages_by_own_ids"):
                findings.append(
                    Finding(
                        NAME, "own_drift_share", where,
                        notes["passages_that_would_drift"] / notes["passages_by_own_ids"], None, None,
                        notes["passages_by_own_ids"], "share",
                        "own passages whose text would not tokenise to the recorded ids in this condition, which are "
                        "read all the same; n counts passages",
                    )
                )  # fmt: skip
            if condition == reference:
                continue
            others = [a for a in members if a != reader]
            pairs = [pair for a in others for pair in _first_pairs(data, reader, a, reference, condition)]
            if not pairs:
                continue
            findings.append(
                Finding(
                    NAME, "first_token_differs", where, float(np.mean([a != b for a, b in pairs])), None, None,
                    len(pairs), "share",
                    f"foreign passages whose first token is another than as {reference.framing} with the question "
                    f"{reference.question}; own text is read by its recorded ids; n counts passages",
                )
            )  # fmt: skip
    return findings


def _first_pairs(data: Data, reader: str, author: str, first: Condition, second: Condition) -> list[tuple[int, int]]:
    """First token ids of each passage in two conditions; a passage whose first token nothing predicts is left out."""
    of = []
    for condition in (first, second):
        tokens = data.run.tokens(data.key(reader, named(author, condition.question), condition.framing))
        tokens = tokens.filter(tokens["is_first"].combine_chunks())
        of.append(dict(zip(tokens["passage_id"].to_pylist(), tokens["token_id"].to_pylist(), strict=True)))
    return [(token, of[1][name]) for name, token in of[0].items() if name in of[1]]
