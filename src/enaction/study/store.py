"""The run folder: where everything of a run lies, and what is already there.

Every file is written under another name and renamed, so that what is there is whole; a finished cell is a file and is
never computed again.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import yaml

from enaction.errors import StudyError
from enaction.files import write_atomically
from enaction.passages import Passage, Prompt, first_sampling, read_passages, write_passages
from enaction.reader.sources import find
from enaction.study.config import Study, parse_study
from enaction.tokens import read_token_table, write_token_table
from enaction.words import Framing

_PACKAGES = ("enaction", "torch", "transformers", "tokenizers", "numpy", "pyarrow")


class Cell(NamedTuple):
    """The independent unit of work: one reader, one author, one framing."""

    reader: str
    author: str
    framing: Framing


@dataclass(frozen=True)
class Run:
    """A run folder."""

    folder: Path

    def open(self, study: Study) -> None:
        """Begin or resume a run of this study; a study that has gained experiments since resumes in the same folder.

        Raises:
            StudyError: the folder holds a run of another study, or a study.yaml that is none, or cannot be written.
        """
        path = self.folder / "study.yaml"
        resolved = yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        try:
            if path.exists() and not _goes_on(parse_study(path), study):
                raise StudyError(
                    f"{self.folder} holds a run of another study (or of this one before it was changed): give --out "
                    "another folder, or remove this one"
                )
            with write_atomically(path) as temporary:
                temporary.write_text(resolved)
        except OSError as error:
            raise StudyError(
                f"{self.folder}: cannot write there ({error.strerror}): give --out another folder"
            ) from None

    def study(self) -> Study:
        """The study that this run is of.

        Raises:
            StudyError: the folder is no run folder, or its study.yaml is damaged.
        """
        path = self.folder / "study.yaml"
        if not path.is_file():
            raise StudyError(f"{self.folder} is no run folder: it has no study.yaml; `enaction run` makes one")
        return parse_study(path)

    def has_passages(self, author: str) -> bool:
        """Whether an author's passages are there."""
        return self._passages(author).exists()

    def write_passages(self, author: str, passages: list[Passage]) -> None:
        """Store an author's passages."""
        write_passages(passages, self._passages(author))

    def passages(self, author: str) -> list[Passage]:
        """An author's passages."""
        return read_passages(self._passages(author))

    def prompts(self, study: Study) -> list[Prompt] | None:
        """The prompts that the study's first model answered, in their order; None before it has.

        They stand in the run, so that it can be analysed after the prompts have changed or are gone.
        """
        author = next(iter(study.models))
        if not self.has_passages(author):
            return None
        answered = {passage.prompt_id: passage.prompt for passage in self.passages(author)}
        return [Prompt(name, messages) for name, messages in answered.items()]

    def sampled_in(self, model: str) -> Framing:
        """The framing that a model sampled its own text in."""
        return first_sampling(self._passages(model))["framing"]

    def has_tokens(self, cell: Cell) -> bool:
        """Whether a cell is finished."""
        return self._tokens(cell).exists()

    def write_tokens(self, cell: Cell, table: pa.Table) -> None:
        """Store a cell's token table; this finishes it."""
        write_token_table(table, self._tokens(cell))

    def tokens(self, cell: Cell) -> pa.Table:
        """A cell's token table."""
        return read_token_table(self._tokens(cell))

    def write_manifest(self, study: Study, extra: dict[str, Any]) -> None:
        """Store what the run was made with: versions, models and their hashes, machine, and `extra`."""
        manifest = {
            "versions": {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in _PACKAGES},
            "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
            "models": {
                name: {"model": s.model, "dtype": s.dtype, **find(s.model).identity()}
                for name, s in study.models.items()
            },
            "seed": study.seed,
        } | extra
        with write_atomically(self.folder / "manifest.json") as temporary:
            temporary.write_text(json.dumps(manifest, indent=1) + "\n")

    def manifest(self) -> dict[str, Any]:
        """What the run was made with; empty if it was cut short before that was written.

        Raises:
            StudyError: the file is damaged.
        """
        path = self.folder / "manifest.json"
        try:
            return json.loads(path.read_text()) if path.exists() else {}
        except ValueError as error:
            raise StudyError(f"{path}: not JSON ({error}); remove it, and the same run writes it anew") from None

    def _passages(self, author: str) -> Path:
        return self.folder / "passages" / f"{author}.parquet"

    def _tokens(self, cell: Cell) -> Path:
        return self.folder / "tokens" / f"{cell.reader}--{cell.author}--{cell.framing}.parquet"


def _goes_on(old: Study, new: Study) -> bool:
    """Whether a run of the old study is the beginning of one of the new: the same, or with more experiments."""
    before, now = old.model_dump(mode="json"), new.model_dump(mode="json")
    for model in (*before["models"].values(), *now["models"].values()):
        del model["device"]  # a run resumes on another machine
    kept = {name: now["experiments"].get(name) for name in before["experiments"]}
    return before == now | {"experiments": kept}
