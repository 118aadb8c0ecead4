"""Where the tokens of a reader end, so that readers with different tokenizers can be compared at the same character."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from enaction.study.desk import Desk
from enaction.study.planning import Measured, framing_for, own_framing
from enaction.words import Framing


def table_of(reader: str) -> str:
    """Name of a reader's table."""
    return f"{reader}.ends"


@dataclass(frozen=True, kw_only=True)
class Ends(Measured):
    """A row a passage: its `author`, its id as `passage`, and `ends`, as `tokens.token_ends` gives them.

    Attributes:
        authors: whose texts.
        framing: how they are read; a model without a template reads in `none`.
    """

    authors: tuple[str, ...]
    framing: Framing

    def measure(self, desk: Desk) -> pa.Table:
        """The table."""
        from enaction.tokens import token_ends

        framing = framing_for(own_framing(desk.study, desk.run, self.model), self.framing)
        rows = []
        for author in self.authors:
            passages = desk.passages(author)
            ends = token_ends(desk.reader, passages, framing, separator=desk.study.separator)
            rows += [(author, p.id, of.tolist()) for p, of in zip(passages, ends, strict=True)]
            desk.progress(len(rows), self.count)
        columns = zip(*rows, strict=True) if rows else ((), (), ())
        types = (pa.string(), pa.string(), pa.list_(pa.int32()))
        arrays = [pa.array(column, of) for column, of in zip(columns, types, strict=True)]
        return pa.Table.from_arrays(arrays, names=["author", "passage", "ends"])
