"""Recognition in each condition, and how it changes with the role and with the question.

Axes: C condition (framing and question), R reader, A author, P prompt, M passage.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence

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
    of_rows,
    others,
    own,
    rows_of,
)
from enaction.experiments.framings.texts import Condition
from enaction.stats import Resampled, Statistic
from enaction.study.config import Study
from enaction.words import MEAN, Framing

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
    readers, read = [*members, *bases_of(data.study, members)], list[Condition]()
    for condition in conditions:
        here = ledger.at(**condition._asdict())
        can_read = {reader: _add_entropies(data, here, reader, members, condition) for reader in readers}
        if all(can_read[member] for member in members):
            read.append(condition)
            notes = _without_template(data, members, condition.framing)
            _add_recognition(data, here.at(notes=notes), members, condition)
    for first, second in itertools.combinations(read, 2):
        # In the role alone, or in the question alone.
        if (first.framing == second.framing) != (first.question == second.question):
            framings: dict[Framing, None] = {first.framing: None, second.framing: None}
            notes = [note for framing in framings for note in _without_template(data, members, framing)]
            here = ledger.at(notes=notes, **first.minus(second))
            _add_changes(data, here, members, (first, second), framings)
    for reader in members:
        _add_first_tokens(data, ledger.at(reader=reader), reader, members, conditions)


def bases_of(study: Study, members: Sequence[str]) -> list[str]:
    """The bases of some models, those among the models left out."""
    bases = (study.base_of(member) for member in members)
    return list(dict.fromkeys(base for base in bases if base is not None and base not in members))


def _without_template(data: Data, readers: Sequence[str], framing: Framing) -> list[str]:
    plain = data.without_template(readers, framing)
    return [f"{reader} has no chat template and is read without one in every framing" for reader in plain]


def _add_entropies(data: Data, ledger: Ledger, reader: str, members: list[str], condition: Condition) -> bool:
    """What a reader of the stage, or a base, finds in each text; False where it cannot read one."""
    n, texts, framing = data.n_prompts, condition.texts_of(members), condition.framing
    here = ledger.at(reader=reader)
    if why := data.left_out(reader, texts, framing):
        here.leave_out("entropy", "nats", f"{reader} cannot read this: {why}", n=n, text="left out, see note")
        return False
    fields = ("entropy", "surprisal")
    estimate = data.estimate(np.array([data.table([reader], texts, framing, field)[0] for field in fields]))
    for i, field in enumerate(fields):
        here.add(field, "nats", "", estimate[i], axes=[along("author", members)], pooling=f"{field}: {POOLED}", n=n)
    row = data.matrix([reader], texts, framing)
    for at, member in enumerate(members):
        if data.study.base_of(member) == reader:
            for measure in (BASE_READER_RATIO, BASE_READER_MARGIN):
                statistic = in_place_of(measure.of, at)
                here.at(of=member).add(measure.name, measure.unit, measure.text, row, statistic, null=measure.null, n=n)
    return True


def _table(data: Data, members: list[str], condition: Condition, field: str) -> Resampled:
    return data.matrix(members, condition.texts_of(members), condition.framing, field)


def _add_recognition(data: Data, ledger: Ledger, members: list[str], condition: Condition) -> None:
    """Ratio, interaction and whether own is lowest, in one condition."""
    table, logs = (_table(data, members, condition, m.field) for m in (LOWEST_MARGIN, INTERACTION))
    margins, stream = with_mean(LOWEST_MARGIN.of), STREAMS["framings", "lowest margin"]
    tests = {
        INTERACTION: ledger.author_test(logs.value, STREAMS["framings", "interaction"]),
        LOWEST_MARGIN: ledger.label_test(table.value, 1, margins, stream, "greater", _AUTHORS),
    }
    for measure in (OTHER_SELF_RATIO, INTERACTION, LOWEST_MARGIN):
        add_measure(ledger, measure, logs if measure is INTERACTION else table, members, test=tests.get(measure))
    text = "share of the stage's readers that have least entropy on their own text"
    ledger.add("lowest_share", "share", text, table, lambda mean_RA: (LOWEST_MARGIN.of(mean_RA) > 0).mean(axis=-1))


# Of tables of logs.
_own_change = difference(own, 0, 1)
_foreign_change = difference(others, 0, 1)

# Quantity -> what it is, its statistic [..., C, R, A] -> [..., R] of two conditions, and whether it is tested.
_CHANGES: dict[str, tuple[str, Statistic, bool]] = {
    "interaction_difference": (
        "in the first condition minus in the second, the same texts (below 0: more recognition in the first): "
        f"{INTERACTION.text}",
        difference(INTERACTION.of, 0, 1),
        True,
    ),
}
# The same, where only the role differs.
_CHANGES_OF_ROLE: dict[str, tuple[str, Statistic, bool]] = {
    "own_change": ("log entropy on own text in the first condition minus that in the second", _own_change, False),
    "foreign_change": (
        "log entropy on foreign text, first condition minus second, mean over authors",
        _foreign_change,
        False,
    ),
    "own_minus_foreign_change": (
        "own_change minus foreign_change: does the role matter more for own text?",
        lambda log_CRA: _own_change(log_CRA) - _foreign_change(log_CRA),
        True,
    ),
}


def _add_changes(
    data: Data, ledger: Ledger, members: list[str], pair: tuple[Condition, Condition], framings: Collection[Framing]
) -> None:
    """How the interaction, and entropy on own and on foreign text, change from the second condition to the first."""
    logs, is_of_role = _logs_of(data, members, pair), set(framings) == {"assistant", "user"}
    for quantity, (text, of, is_tested) in (_CHANGES | (_CHANGES_OF_ROLE if is_of_role else {})).items():
        rows = rows_of(INTERACTION, members) if quantity in _CHANGES else [*members, MEAN]
        of = of_rows(INTERACTION, len(members), of) if quantity in _CHANGES else with_mean(of)
        stream = STREAMS["framings", "differences"]
        test = ledger.label_test(logs.value, 0, of, stream, "both", _SWAP) if is_tested else None
        ledger.add(
            quantity, INTERACTION.unit, text, logs, of, [along("reader", rows)], pooling=INTERACTION.pooling, null=0.0,
            test=test, interval=INTERACTION.interval,
        )  # fmt: skip


def _logs_of(data: Data, members: list[str], conditions: Sequence[Condition]) -> Resampled:
    """[C, R, A] of several conditions."""
    return Resampled.stack([_table(data, members, condition, INTERACTION.field) for condition in conditions])


def _add_first_tokens(
    data: Data, ledger: Ledger, reader: str, members: list[str], conditions: Sequence[Condition]
) -> None:
    """In how many passages the first token depends on the condition, and own ids are not what their text would give."""
    reference, others = conditions[0], [author for author in members if author != reader]
    for condition in conditions:
        if data.left_out(reader, condition.texts_of(members), condition.framing):
            continue
        here = ledger.at(**condition._asdict())
        notes = _tokens(data, reader, reader, condition).notes
        if n := notes.get("passages_by_own_ids"):
            text = (
                "own passages whose text would not tokenise to the recorded ids in this condition, which are read all "
                "the same; n counts passages"
            )
            here.fact("own_drift_share", "share", text, notes["passages_that_would_drift"] / n, n)
        if condition == reference or not others:
            continue
        first_2M = [np.concatenate([_first_ids(data, reader, a, c) for a in others]) for c in (reference, condition)]
        differs = np.not_equal(*first_2M)[np.min(first_2M, axis=0) >= 0]
        if differs.size:
            text = (
                f"foreign passages whose first token is another than as {reference.framing} with the question "
                f"{reference.question}; own text is read by its recorded ids; n counts passages"
            )
            here.fact("first_token_differs", "share", text, float(differs.mean()), len(differs))


def _first_ids(data: Data, reader: str, author: str, condition: Condition) -> np.ndarray:
    """[M] id of each passage's first token; -1 where nothing predicted it."""
    of, ids_M = _tokens(data, reader, author, condition), np.full(len(data.passages(author)), -1)
    ids_M[of.passage[of.position == 0]] = of.token_id[of.position == 0]
    return ids_M


def _tokens(data: Data, reader: str, author: str, condition: Condition) -> Tokens:
    return data.tokens(data.key(reader, condition.text_of(author), condition.framing))
