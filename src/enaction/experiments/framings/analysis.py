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
    own,
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
    readers, tables = [*members, *bases_of(data.study, members)], dict[Condition, Resampled]()
    for condition in conditions:
        here = ledger.at(**condition._asdict())
        can_read = {reader: _add_entropies(data, here, reader, members, condition) for reader in readers}
        if all(can_read[member] for member in members):
            tables[condition] = data.matrix(members, condition.texts_of(members), condition.framing)
            notes = _without_template(data, members, condition.framing)
            _add_recognition(here.at(notes=notes), members, tables[condition])
    for first, second in itertools.combinations(tables, 2):
        # In the role alone, or in the question alone.
        if (first.framing == second.framing) != (first.question == second.question):
            framings: dict[Framing, None] = {first.framing: None, second.framing: None}
            notes = [note for framing in framings for note in _without_template(data, members, framing)]
            here = ledger.at(notes=notes, **first.minus(second))
            _add_changes(here, members, Resampled.stack([tables[first], tables[second]]), framings)
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


_own_change = difference(lambda mean_RA: np.log(own(mean_RA)), 0, 1)


def _foreign_change(mean_CRA: np.ndarray) -> np.ndarray:
    change_RA = difference(np.log, 0, 1)(mean_CRA)
    n_authors = change_RA.shape[-1]
    return np.where(np.eye(n_authors, dtype=bool), 0.0, change_RA).sum(axis=-1) / (n_authors - 1)


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
        lambda mean_CRA: _own_change(mean_CRA) - _foreign_change(mean_CRA),
        True,
    ),
}


def _add_changes(ledger: Ledger, members: list[str], pair: Resampled, framings: Collection[Framing]) -> None:
    """How the interaction, and entropy on own and on foreign text, change from the second condition to the first."""
    is_of_role, axes = set(framings) == {"assistant", "user"}, [along("reader", [*members, MEAN])]
    for quantity, (text, of, is_tested) in (_CHANGES | (_CHANGES_OF_ROLE if is_of_role else {})).items():
        of, stream = with_mean(of), STREAMS["framings", "differences"]
        test = ledger.label_test(pair.value, 0, of, stream, "both", _SWAP) if is_tested else None
        ledger.add(quantity, "log units", text, pair, of, axes, null=0.0, test=test)


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
