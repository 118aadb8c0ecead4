"""Turns from files of any kind: passages, whole conversations, logs of Inspect, and rollouts of trainers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from enaction.audit.rolled import turns_of
from enaction.errors import PassageError
from enaction.passages import STDIO, Passage, each_passage
from enaction.passages.inspect_logs import is_inspect_log
from enaction.rollouts import read_rollouts
from enaction.rollouts.streams import streamed


@dataclass(frozen=True)
class Source:
    """Where turns come from.

    Attributes:
        path: of the file or data set; `-` is standard input.
        columns: of rollouts, what a column means.
        options: of `passages.each_passage`, by name.
        limit: the first that many turns alone.
    """

    path: str
    columns: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None

    def is_rollouts(self) -> bool:
        """Whether the rows are rollouts: columns are named, or the first row has ids and no fingerprint of a tokenizer.

        Standard input can be read once, and is passages unless columns are named.
        """
        if self.columns:
            return True
        path = Path(self.path)
        if self.path == STDIO or not path.is_file() or is_inspect_log(path) or path.suffix.lower() == ".txt":
            return False
        try:
            _, row = next(streamed(path))
            first = None if row.get("tokenizer") else next(read_rollouts(path), None)
        except (PassageError, StopIteration):
            return False
        return first is not None and first.token_ids is not None

    def turns(self, tokenizer: str) -> Iterator[Passage]:
        """The turns one by one.

        Args:
            tokenizer: fingerprint of the tokenizer that ids without one are of.

        Raises:
            PassageError: the file is missing, or of no kind that is read, or a row is wrong.
        """
        if not self.is_rollouts():
            return each_passage(self.path, limit=self.limit, **self.options)
        author = "stdin" if self.path == STDIO else Path(self.path).stem
        rollouts = read_rollouts(self.path, columns=self.columns)
        return islice((turn for rollout in rollouts for turn in turns_of(rollout, author, tokenizer)), self.limit)
