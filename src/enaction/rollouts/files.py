"""Read rollouts from a file of any framework, one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from enaction.errors import PassageError
from enaction.passages.tables import shown
from enaction.rollouts.aliases import meant, require_columns, unfitting
from enaction.rollouts.building import rollout_of
from enaction.rollouts.formats import rows_within, turns_of, with_plain_logprobs
from enaction.rollouts.streams import streamed
from enaction.rollouts.types import Rollout


def read_rollouts(
    path: str | Path, *, columns: Mapping[str, str] | None = None, limit: int | None = None
) -> Iterator[Rollout]:
    """Rollouts of a file, in its order, in memory that does not grow with it.

    JSON lines, JSON arrays, Parquet and whatever else `read_passages` takes; `-` is JSON on standard input. Columns are
    found by the names that TRL, verl, slime, SGLang, vLLM, NeMo-Gym, NeMo-RL, SkyRL, Harbor and tinker give them
    (`aliases`, `formats`; docs/inputs.md has the table). A row of several answers or turns gives a rollout for each,
    of one cluster. Ids are `NUMBER` of the row, `ID#NUMBER` where the row has one, and `/TURN` where it has several.

    Args:
        path: of the file.
        columns: what a column means, by the names of `aliases.NAMED`: `{"token_ids": "my_ids"}`.
        limit: of rows; what comes after them is not read.

    Raises:
        PassageError: the file cannot be read, a row fits nothing, lengths do not fit, or a value cannot be what its
            column means; with the number of the row. Log-probabilities above zero and equal ones are kept.
    """
    columns = dict(columns or {})
    require_columns(columns)
    is_empty = True
    for number, (place, row) in enumerate(streamed(path), start=1):
        is_empty = False
        yield from _rollouts(row, columns, number, f"{place} of {shown(path)}")
        if number == limit:
            return
    if is_empty:
        raise PassageError(f"{shown(path)} holds no rollouts; write one JSON object a line")


def _rollouts(row: dict[str, Any], columns: Mapping[str, str], number: int, where: str) -> list[Rollout]:
    """The rollouts of one row, of one cluster."""
    all_fields = [
        turn
        for part in rows_within(row)
        for whole in turns_of(meant(part, columns, where), where)
        for turn in [with_plain_logprobs(whole, where)]
    ]
    if any(not {"token_ids", "input_ids", "response"} & {k for k, v in f.items() if v is not None} for f in all_fields):
        raise unfitting(row, where)
    made: list[Rollout] = []
    for turn, fields in enumerate(all_fields):
        given = fields.get("id")
        name = str(number) if given is None else f"{given}#{number}"
        fields["id"] = f"{name}/{turn}" if len(all_fields) > 1 else name
        rollout = rollout_of(fields, where)
        if made and fields.get("cluster") is None and _continues(rollout, made[0]):
            rollout = replace(rollout, cluster=made[0].cluster)
        made.append(rollout)
    return made


def _continues(rollout: Rollout, first: Rollout) -> bool:
    """Whether a rollout may be a later turn of the conversation of the first, so that the two depend on each other.

    A row may also be a batch of answers to different prompts.
    """
    if rollout.prompt_ids is None or first.prompt_ids is None:
        return True
    return rollout.prompt_ids[: len(first.prompt_ids)] == first.prompt_ids
