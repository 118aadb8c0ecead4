"""Recognition in each condition, and how it changes with the role and with the question.

Axes: C condition (framing and question), R reader, A author, P prompt, M passage.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from enaction.analysis.data import Data, Tokens
from enaction.analysis.ledger import POOLED, STREAMS, Ledger, along, with_mean
from enaction.analysis.measures import (
    BASE_READER_MARGIN,
    BASE_READER_RATIO,
    INTERACTION,
    LOWEST_MARGIN,
    OTHER_SELF_RATIO,
    add_measure,
    difference,
    in_place_of,
    own,
)
from enaction.experiments.framings.texts import Condition
from enaction.stats import Resampled
from enaction.study.config import Study
from enaction.words import MEAN

_AUTHORS = "authors shuffled within each prompt"
_SWAP = "framings swapped within prompts, all readers and authors together"


def analyse(data: Data, ledger: Ledger, members: list[str], conditions: Sequence[Condition]) -> None:
    """All findings of a stage.

    Args:
        data: of a finished run.
        ledger: at the place of the stage.
        members: models of the stage.
        conditions: in which they were read.
    """
    tables: dict[Condition, Resampled] = {}
    for condition in conditions:
        here = ledger.at(framing=condition.framing, question=condition.question)
        unread = _unread(data, [*members, *bases_of(data.study, members)], members, condition)
        _add_entropies(data, here, members, condition, unread)
        if unread.keys().isdisjoint(members):
            tables[condition] = data.matrix(members, condition.texts_of(members), condition.framing)
            notes = _without_template(data, members, condition)
            _add_recognition(here.at(notes=notes), members, tables[condition])
    for first, second in _pairs(list(tables)):
        _add_differences(data, ledger, members, first, second, Resampled.stack([tables[first], tables[second]]))
    for reader in members:
        _add_first_tokens(data, ledger.at(reader=reader), reader, members, conditions)


def bases_of(study: Study, members: Sequence[str]) -> list[str]:
    """The bases of some models, those among the models left out."""
    bases = (study.base_of(member) for member in members)
    return list(dict.fromkeys(base for base in bases if base is not None and base not in members))


def _unread(data: Data, readers: Sequence[str], authors: Sequence[str], condition: Condition) -> dict[str, str]:
    """Reader -> why it has no number in a condition."""
    unread = {}
    for reader in readers:
        reasons = (data.left_out(reader, name, condition.framing) for name in condition.texts_of(authors))
        if (reason := next(filter(None, reasons), None)) is not None:
            unread[reader] = reason
    return unread


def _without_template(data: Data, readers: Sequence[str], condition: Condition) -> list[str]:
    plain = data.without_template(readers, condition.framing)
    return [f"{reader} has no chat template and is read without one in every framing" for reader in plain]


def _add_entropies(
    data: Data, ledger: Ledger, members: list[str], condition: Condition, unread: dict[str, str]
) -> None:
    """The table author x framing of each reader of the stage and of each base, and what is left out."""
    n, names = data.n_prompts, condition.texts_of(members)
    for reader in [*members, *bases_of(data.study, members)]:
        here = ledger.at(reader=reader)
        if reader in unread:
            why = f"{reader} cannot read this: {unread[reader]}"
            here.leave_out("entropy", "nats", why, n=n, text="left out, see note")
            continue
        fields = ("entropy", "surprisal")
        value_2AP = np.array([data.table([reader], names, condition.framing, field)[0] for field in fields])
        estimate = data.estimate(value_2AP)
        for i, field in enumerate(fields):
            here.add(field, "nats", "", estimate[i], axes=[along("author", members)], pooling=f"{field}: {POOLED}", n=n)
        for at, member in enumerate(members):
            if data.study.base_of(member) != reader:
                continue
            for measure in (BASE_READER_RATIO, BASE_READER_MARGIN):
                row, statistic = data.matrix([reader], names, condition.framing), in_place_of(measure.of, at)
                here.at(of=member).add(measure.name, measure.unit, measure.text, row, statistic, null=measure.null, n=n)


def _add_recognition(ledger: Ledger, members: list[str], table: Resampled) -> None:
    """Ratio, interaction and whether own is lowest, in one condition."""
    margins, stream = with_mean(LOWEST_MARGIN.of), STREAMS["framings", "lowest margin"]
    tests = {
        INTERACTION: ledger.author_test(table.value, STREAMS["framings", "interaction"]),
        LOWEST_MARGIN: ledger.label_test(table.value, 1, margins, stream, "greater", _AUTHORS),
    }
    for measure in (OTHER_SELF_RATIO, INTERACTION, LOWEST_MARGIN):
        add_measure(ledger, measure, table, members, test=tests.get(measure))
    text = "share of the stage's readers that have least entropy on their own text"
    ledger.add("lowest_share", "share", text, table, lambda mean_RA: (LOWEST_MARGIN.of(mean_RA) > 0).mean(axis=-1))


def _pairs(conditions: Sequence[Condition]) -> list[tuple[Condition, Condition]]:
    """Pairs of conditions that differ in the role alone, or in the question alone."""
    return [
        (first, second)
        for first, second in itertools.combinations(conditions, 2)
        if (first.framing == second.framing) != (first.question == second.question)
    ]


def _own_change(mean_CRA: np.ndarray) -> np.ndarray:
    return difference(lambda mean_RA: np.log(own(mean_RA)), 0, 1)(mean_CRA)


def _foreign_change(mean_CRA: np.ndarray) -> np.ndarray:
    change_RA = difference(np.log, 0, 1)(mean_CRA)
    n_authors = change_RA.shape[-1]
    return np.where(np.eye(n_authors, dtype=bool), 0.0, change_RA).sum(axis=-1) / (n_authors - 1)


@dataclass(frozen=True)
class _Difference:
    """What changes from the second condition to the first, [..., C, R, A] -> [..., R]; whether it is tested."""

    quantity: str
    text: str
    of: Callable[[np.ndarray], np.ndarray]
    is_tested: bool


_INTERACTION_DIFFERENCE = _Difference(
    "interaction_difference",
    "in the first condition minus in the second, the same texts (below 0: more recognition in the first): "
    f"{INTERACTION.text}",
    difference(INTERACTION.of, 0, 1),
    is_tested=True,
)
_ROLE_CHANGES = (
    _Difference(
        "own_change",
        "log entropy on own text in the first condition minus that in the second",
        _own_change,
        is_tested=False,
    ),
    _Difference(
        "foreign_change",
        "log entropy on foreign text, first condition minus second, mean over authors",
        _foreign_change,
        is_tested=False,
    ),
    _Difference(
        "own_minus_foreign_change",
        "own_change minus foreign_change: does the role matter more for own text?",
        lambda mean_CRA: _own_change(mean_CRA) - _foreign_change(mean_CRA),
        is_tested=True,
    ),
)


def _add_differences(
    data: Data, ledger: Ledger, members: list[str], first: Condition, second: Condition, pair: Resampled
) -> None:
    """How the interaction, and entropy on own and on foreign text, change from the second condition to the first."""
    framings = dict.fromkeys([first.framing, second.framing])
    here = ledger.at(
        framing=first.framing,
        question=first.question,
        minus_framing=second.framing,
        minus_question=second.question,
        notes=[note for c in framings for note in _without_template(data, members, first._replace(framing=c))],
    )
    is_role_swap = framings.keys() == {"assistant", "user"}
    for change in (_INTERACTION_DIFFERENCE, *(_ROLE_CHANGES if is_role_swap else ())):
        of, stream = with_mean(change.of), STREAMS["framings", "differences"]
        test = here.label_test(pair.value, 0, of, stream, "both", _SWAP) if change.is_tested else None
        axes = [along("reader", [*members, MEAN])]
        here.add(change.quantity, "log units", change.text, pair, of, axes, null=0.0, test=test)


def _add_first_tokens(
    data: Data, ledger: Ledger, reader: str, members: list[str], conditions: Sequence[Condition]
) -> None:
    """In how many passages the first token depends on the condition, and own ids are not what their text would give."""
    reference = conditions[0]
    others = [author for author in members if author != reader]

    def tokens(author: str, condition: Condition) -> Tokens:
        return data.tokens(data.key(reader, condition.text_of(author), condition.framing))

    def first_ids(author: str, condition: Condition) -> np.ndarray:
        """[M] id of each passage's first token; -1 where nothing predicted it."""
        of, ids_M = tokens(author, condition), np.full(len(data.passages(author)), -1)
        ids_M[of.passage[of.position == 0]] = of.token_id[of.position == 0]
        return ids_M

    for condition in conditions:
        if _unread(data, [reader], members, condition):
            continue
        here = ledger.at(framing=condition.framing, question=condition.question)
        notes = tokens(reader, condition).notes
        if n := notes.get("passages_by_own_ids"):
            here.fact(
                "own_drift_share",
                "share",
                "own passages whose text would not tokenise to the recorded ids in this condition, which are read all "
                "the same; n counts passages",
                notes["passages_that_would_drift"] / n,
                n,
            )
        if condition == reference or not others:
            continue
        first_M, second_M = (np.concatenate([first_ids(a, c) for a in others]) for c in (reference, condition))
        differs = (first_M != second_M)[(first_M >= 0) & (second_M >= 0)]
        if differs.size:
            here.fact(
                "first_token_differs",
                "share",
                f"foreign passages whose first token is another than as {reference.framing} with the question "
                f"{reference.question}; own text is read by its recorded ids; n counts passages",
                float(differs.mean()),
                len(differs),
            )
