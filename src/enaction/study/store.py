"""The run folder: where everything of a run lies, and what is already there.

Every file is written under another name and renamed, so that what is there is whole; a finished cell is a file and is
never computed again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import yaml

from enaction.errors import PassageError, StudyError
from enaction.files import sweep, write_atomically
from enaction.framing import read_template
from enaction.passages import Passage, Prompt, first_sampling, read_passages, write_passages
from enaction.reader.sources import find
from enaction.study.config import Study, parse_study
from enaction.tokens import SCHEMA, read_token_table, table_notes, write_token_table
from enaction.words import Framing

# The first line of the study.yaml of a run: by it a run's folder is told from one that holds a study file.
_MADE = "# The study of a run, resolved; written by enaction.\n"
_MARK = b"enaction.cell"
_NO_TEXT = ""
_READ_AGAIN = "`enaction run` with the same study and --out reads it again"
# What a token table is checked for, and what is wrong if it differs.
_PARTS = {
    "cell": "it is another cell's",
    "rows": "rows are missing",
    "notes": "its notes are others",
    "text": "the passages that it was read from are others",
}
# Files of cells that were looked through and found whole, as they were then.
_SOUND: set[tuple[Path, tuple[int, int], tuple[int, int]]] = set()

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

    def open(self, study: Study, *, needs_models: bool = False) -> None:
        """Begin or resume a run of this study; a study that has gained experiments since resumes in the same folder.

        A run that has no finished text yet is begun anew.

        Args:
            study: of the run.
            needs_models: begin only where the models are, so that a mistake in the study file leaves nothing behind.

        Raises:
            StudyError: the folder holds a run of another study, no run, a study.yaml that is none, or cannot be
                written.
            ModelError: a model, or FramingError: a chat template of a run that begins is not there.
        """
        path = self.folder / "study.yaml"
        resolved = _MADE + yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        try:
            there = path.read_text(encoding="utf-8") if path.exists() else None
            goes_on = self._goes_on_with(study, there)
            if needs_models and not goes_on:
                _require_models(study)
            for folder in (self.folder, *(self.folder / name for name in ("passages", "tokens", "figures"))):
                sweep(folder)
            if there != resolved:
                with write_atomically(path) as temporary:
                    temporary.write_text(resolved, encoding="utf-8")
        except OSError as error:
            raise StudyError(
                f"{self.folder}: cannot write there ({error.strerror}): give --out another folder"
            ) from None

    def _goes_on_with(self, study: Study, there: str | None) -> bool:
        """Whether the folder holds the beginning of a run of this study; False where a run can begin.

        Args:
            study: of the run.
            there: what the folder's study.yaml holds, None if it has none.

        Raises:
            StudyError: the folder holds something else.
        """
        if there is None:
            strangers = [p.name for p in self.folder.iterdir() if p.name[0] != "."] if self.folder.exists() else []
            if strangers:
                raise StudyError(
                    f"{self.folder} holds {sorted(strangers)[0]} and no study.yaml of a run: give --out a new folder "
                    "(or, if it is a run that lost its study.yaml, put that back)"
                )
            return False
        old, has_text = parse_study(self.folder / "study.yaml"), any((self.folder / "passages").glob("*.parquet"))
        if not (has_text or _is_made(there)):
            raise StudyError(
                f"{self.folder} holds a study.yaml that no run wrote, and a run would replace it: give --out a new "
                "folder"
            )
        if _goes_on(old, study):
            return True
        if has_text:
            raise StudyError(
                f"{self.folder} holds a run of another study (or of this one before it was changed): give --out "
                "another folder, or remove this one"
            )
        return False

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
        """An author's passages.

        Raises:
            PassageError: there are none, or the file is damaged or another author's.
        """
        path = self._passages(author)
        with _naming_damage(path):
            passages = read_passages(path)
            others = {passage.author for passage in passages} - {author}
            if others:
                raise PassageError(f"it holds text of '{min(others)}'")
        return passages

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
        """The framing that a model sampled its own text in.

        Raises:
            PassageError: the file of its text is damaged.
        """
        with _naming_damage(self._passages(model)):
            return first_sampling(self._passages(model))["framing"]

    def has_tokens(self, cell: Cell) -> bool:
        """Whether a cell is finished: its file is whole and is this cell's, of the text that the run has.

        A file that rotted, was cut or was put in another's place does not count, so that the cell is read again.
        """
        path = self._tokens(cell)
        if not path.exists():
            return False
        state = path, _stamp(path), _stamp(self._passages(cell.author))
        if state not in _SOUND:
            try:
                self.tokens(cell)
            except StudyError:
                return False
            _SOUND.add(state)
        return True

    def write_tokens(self, cell: Cell, table: pa.Table) -> None:
        """Store a cell's token table, with what `tokens` checks; this finishes it."""
        metadata = dict(table.schema.metadata or {})
        mark = {"cell": list(cell), "text": self._digest(cell.author), **_sums(table)}
        marked = table.replace_schema_metadata({**metadata, _MARK: json.dumps(mark).encode()})
        write_token_table(marked, self._tokens(cell))

    def tokens(self, cell: Cell) -> pa.Table:
        """A cell's token table.

        Raises:
            StudyError: there is none, or the file is damaged, another cell's, or of a text that has changed since.
        """
        path = self._tokens(cell)
        try:
            table = read_token_table(path)
        except (ArithmeticError, LookupError, TypeError, ValueError, pa.ArrowException) as error:
            if not path.exists():
                raise
            raise StudyError(f"{path} is damaged ({_reason(error, path)}): {_READ_AGAIN}") from error
        if not table.schema.equals(SCHEMA):
            raise StudyError(f"{path} is no token table of this version: {_READ_AGAIN}")
        # Tables of older versions have no mark: their columns say what they are.
        for name, expected in zip(("reader", "author", "framing"), cell, strict=True):
            found = {value for chunk in table[name].chunks for value in chunk.dictionary.to_pylist()}
            if found - {expected}:
                raise StudyError(f"{path} is of the {name} '{min(found - {expected})}': {_READ_AGAIN}")
        try:
            mark = json.loads((table.schema.metadata or {}).get(_MARK, b"null"))
        except ValueError:
            mark = {}
        if mark is not None:
            here = {"cell": list(cell), "text": self._digest(cell.author), **_sums(table)}
            if here["text"] == _NO_TEXT:  # it will be written again: the same, or the cell is read again
                del here["text"]
            if not isinstance(mark, dict):
                mark = {}
            wrong = [_PARTS[key] for key, value in here.items() if mark.get(key) != value]
            if wrong:
                raise StudyError(f"{path} has changed since it was written ({wrong[0]}): {_READ_AGAIN}")
        return table

    def notes(self, cell: Cell) -> dict[str, Any]:
        """How a cell was read."""
        return table_notes(self.tokens(cell))

    def _digest(self, author: str) -> str:
        """SHA-256 of the file of an author's passages."""
        path = self._passages(author)
        return _digest_of(path, _stamp(path)) if path.is_file() else _NO_TEXT

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
            temporary.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")

    def manifest(self) -> dict[str, Any]:
        """What the run was made with; empty if it was cut short before that was written.

        Raises:
            StudyError: the file is damaged.
        """
        path = self.folder / "manifest.json"
        try:
            manifest = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        except (ValueError, RecursionError) as error:
            raise StudyError(f"{path}: not JSON ({error}); remove it, and the same run writes it anew") from None
        if not isinstance(manifest, dict) or not isinstance(manifest.get("readers", {}), dict):
            raise StudyError(f"{path}: not a manifest; remove it, and the same run writes it anew")
        return manifest

    def _passages(self, author: str) -> Path:
        return self.folder / "passages" / f"{author}.parquet"

    def _tokens(self, cell: Cell) -> Path:
        return self.folder / "tokens" / f"{cell.reader}--{cell.author}--{cell.framing}.parquet"


@contextlib.contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    """Whatever a damaged file of passages raises, as one line with the file and the remedy.

    Raises:
        PassageError: there is no such file, or it is damaged.
    """
    try:
        yield
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
        pa.ArrowException,
    ) as e:
        if not path.exists():
            raise
        raise PassageError(
            f"{path} is damaged ({_reason(e, path)}): remove it, and `enaction run` with the same study and --out "
            "writes it again"
        ) from e


def _reason(error: Exception, path: Path) -> str:
    """What an error says, on one line and without the file, which the message names already."""
    return " ".join(str(error).removeprefix(f"{path} ").split()) or type(error).__name__


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of a file, which change when it is written; zeros if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=4096)
def _digest_of(path: Path, stamp: tuple[int, int]) -> str:
    """SHA-256 of a file as it was at this stamp."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sums(table: pa.Table) -> dict[str, Any]:
    """What no checksum of a page covers: how many rows there are, and the notes."""
    notes = sorted((key, value) for key, value in (table.schema.metadata or {}).items() if key != _MARK)
    return {"rows": len(table), "notes": hashlib.sha256(repr(notes).encode()).hexdigest()}


def _require_models(study: Study) -> None:
    """Fail if a model or its template is not there, before anything is sampled or written.

    Raises:
        ModelError: no such model.
        FramingError: no such template.
    """
    for spec in study.models.values():
        find(spec.model).require(spec.base)
        if spec.chat_template is not None:
            read_template(spec.chat_template)


def _is_made(text: str) -> bool:
    """Whether a study.yaml was written by a run: by its first line or, of older versions, as only a program writes."""
    if text.startswith(_MADE):
        return True
    given = yaml.safe_load(text)
    has_defaults = isinstance(given, dict) and {"seed", "resamples", "sampling", "framings"} <= given.keys()
    return has_defaults and yaml.safe_dump(given, sort_keys=False, allow_unicode=True) == text


def _goes_on(old: Study, new: Study) -> bool:
    """Whether a run of the old study is the beginning of one of the new: the same, or with more experiments."""
    before, now = old.model_dump(mode="json"), new.model_dump(mode="json")
    for model in (*before["models"].values(), *now["models"].values()):
        del model["device"]  # a run resumes on another machine
    kept = {name: now["experiments"].get(name) for name in before["experiments"]}
    return before == now | {"experiments": kept}
