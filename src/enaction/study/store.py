"""The run folder: where everything of a run lies, and what is already there.

Every file is written under another name and renamed, so that what is there is whole; a finished cell is a file and is
computed again only if what it was made from, which the file notes, has changed: see `recipes` and `growth`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from enaction.errors import PassageError, StudyError
from enaction.files import sweep, write_atomically
from enaction.framing import read_template
from enaction.passages import Passage, Prompt, first_sampling, read_passages, write_passages
from enaction.reader.sources import find, require
from enaction.study import growth, recipes
from enaction.study.config import ModelSpec, Study, parse_study, with_absolute_paths
from enaction.study.portable import shown_path, with_absolute_settings, with_relative_paths
from enaction.study.recipes import Recipe, agree, as_read, of_passages
from enaction.tokens import SCHEMA, known_rows, read_token_table, table_notes, write_token_table
from enaction.words import Framing

if TYPE_CHECKING:
    from enaction.reader import TokenStats

# The first line of the study.yaml of a run: by it a run's folder is told from one that holds a study file.
_MADE = "# The study of a run, resolved; written by enaction.\n"
_MARK = b"enaction.cell"
_TEXT = b"enaction.text"
_WEIGHTS = ".weights.json"
_READ_AGAIN = "`enaction run` with the same study and --out reads it again"
_WRITE_ANEW = "`enaction run` with the same study and --out writes it anew"
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

    def require(self, study: Study, prompts: Sequence[Prompt] | None = None, *, needs_models: bool = False) -> None:
        """Fail if the folder cannot hold a run of this study; nothing is written.

        Args:
            study: of the run.
            prompts: its prompts, to be compared with those that the run answered.
            needs_models: begin only where the models are, so that a mistake in the study file leaves nothing behind.

        Raises:
            StudyError: the folder holds a run of another study, no run, or a study.yaml that is none.
            ModelError: a model, or FramingError: a chat template of a run that begins is not there.
        """
        recipes.recall(self.folder / _WEIGHTS)
        old, study = self._begun(), _absolute(study)
        if old is not None:
            self._require_growth(old, study, prompts)
        added = study.models if old is None else {n: s for n, s in study.models.items() if n not in old.models}
        if needs_models:
            _require_models(added.values())

    def open(self, study: Study, prompts: Sequence[Prompt] | None = None, *, needs_models: bool = False) -> None:
        """Begin or resume a run of this study; a study that has grown since resumes in the same folder.

        A run that has no finished text yet is begun anew.

        Args:
            study, prompts, needs_models: as in `require`.

        Raises:
            StudyError: as `require`, or the folder cannot be written.
            ModelError, FramingError: as `require`.
        """
        self.require(study, prompts, needs_models=needs_models)
        path = self.folder / "study.yaml"
        try:
            for name in ("passages", "tokens", "measured"):  # only runs write there, one at a time
                sweep(self.folder / name, 0.0)
            for folder in (self.folder, self.folder / "figures"):
                sweep(folder)
            there = path.read_text(encoding="utf-8") if path.exists() else None
            given = with_relative_paths(_absolute(study), self.folder).model_dump(mode="json")
            resolved = _MADE + yaml.safe_dump(given, sort_keys=False, allow_unicode=True)
            if there != resolved:
                with write_atomically(path) as temporary:
                    temporary.write_text(resolved, encoding="utf-8")
            recipes.note(self.folder / _WEIGHTS)
        except OSError as error:
            raise StudyError(
                f"{self.folder}: cannot write there ({error.strerror}): give --out another folder"
            ) from None

    def _begun(self) -> Study | None:
        """The study of the run that the folder holds the beginning of; None where a run can begin.

        Raises:
            StudyError: the folder holds something else.
        """
        path = self.folder / "study.yaml"
        try:
            there = path.read_text(encoding="utf-8") if path.exists() else None
        except OSError as error:
            raise StudyError(f"{path}: cannot be read ({error.strerror}): give --out another folder") from None
        if there is None:
            if self.folder.exists() and not self.folder.is_dir():
                raise StudyError(f"{self.folder} is a file: give --out a folder")
            strangers = [p.name for p in self.folder.iterdir() if p.name[0] != "."] if self.folder.exists() else []
            if strangers:
                raise StudyError(
                    f"{self.folder} holds {sorted(strangers)[0]} and no study.yaml of a run: give --out a new folder "
                    "(or, if it is a run that lost its study.yaml, put that back)"
                )
            return None
        old, has_text = self.study(), any((self.folder / "passages").glob("*.parquet"))
        if not (has_text or _is_made(there)):
            raise StudyError(
                f"{self.folder} holds a study.yaml that no run wrote, and a run would replace it: give --out a new "
                "folder"
            )
        return old if has_text else None

    def _require_growth(self, old: Study, new: Study, prompts: Sequence[Prompt] | None) -> None:
        """Fail if a run of the old study cannot become one of the new.

        Raises:
            StudyError: it cannot; the message says why.
        """
        texts = [path.stem for path in sorted((self.folder / "passages").glob("*.parquet"))]
        unmarked = [name for name in texts if self.recipe(name) is None]
        found = list(growth.obstacles(old, new))
        if not found and unmarked and not growth.only_experiments_were_added(old, new):
            raise StudyError(
                f"{self.folder} holds a run of another study ({next(growth.differences(old, new))}), and texts such as "
                f"passages/{unmarked[0]}.parquet by an older version, which did not note what they follow from: such a "
                "run gains experiments and nothing else; give --out another folder"
            )
        if not found:
            of_texts = [recipe for name in texts if (recipe := self.recipe(name)) is not None]
            found += growth.changed_models({of["model"]: of["writer"] for of in of_texts if of["model"]}, new)
        if not found and prompts is not None and not unmarked:
            found += growth.changed_prompts(self.prompts(old) or [], new, prompts)
        if found:
            raise StudyError(
                f"{self.folder} holds a run of another study: {found[0]}; put that back, or give --out another folder"
            )

    def study(self) -> Study:
        """The study that this run is of.

        Raises:
            StudyError: the folder is no run folder, or its study.yaml is damaged.
        """
        path = self.folder / "study.yaml"
        if not path.is_file():
            raise StudyError(f"{self.folder} is no run folder: it has no study.yaml; `enaction run` makes one")
        return with_absolute_settings(with_absolute_paths(parse_study(path), self.folder), self.folder)

    def has_passages(self, author: str) -> bool:
        """Whether an author's passages are there."""
        return self._passages(author).exists()

    def has_text(self, author: str, recipe: Recipe) -> bool:
        """Whether an author's passages are there and follow from this recipe, as far as can be told."""
        return self.has_passages(author) and agree(self.recipe(author), recipe)

    def recipe(self, author: str) -> Recipe | None:
        """What an author's passages follow from; None where the file does not say, as those of older versions."""
        return self._noted(author).get("recipe")

    def write_passages(self, author: str, passages: list[Passage], recipe: Recipe | None = None) -> None:
        """Store an author's passages and what they follow from."""
        noted = {"recipe": recipe, "content": of_passages(passages)}
        write_passages(passages, self._passages(author), {_TEXT: json.dumps(noted).encode()})

    def content(self, author: str) -> str:
        """Content address of an author's passages."""
        return self._noted(author).get("content") or self._digest(author)

    def earlier(self, author: str, recipe: Recipe) -> dict[str, Passage]:
        """Passages, by id, of a text that has another recipe now and was written by the same model.

        Those that the model would write again need not be sampled again, see `Desk.sample`.
        """
        old = self.recipe(author)
        parts = ("model", "writer", "separator")
        if old is None or not all(agree(old.get(part), recipe.get(part)) for part in parts):
            return {}
        try:
            return {passage.id: passage for passage in self.passages(author)}
        except PassageError:
            return {}  # it will be written anew

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
            content = self._noted(author).get("content")
            if content is not None and content != of_passages(passages):
                raise PassageError("it has changed since it was written")
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

    def has_tokens(self, cell: Cell, reader: Recipe | None = None) -> bool:
        """Whether a cell is finished: its file is whole and is this cell's, of the text that the run has.

        A file that rotted, was cut or was put in another's place does not count, so that the cell is read again.

        Args:
            cell: whose file it is.
            reader: what the reader's numbers follow from; None for whatever they do.
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
        return agree(_mark(path, _stamp(path)).get("reader"), reader)

    def write_tokens(self, cell: Cell, table: pa.Table, reader: Recipe | None = None) -> None:
        """Store a cell's token table, with what `tokens` checks; this finishes it.

        Args:
            cell: whose table it is.
            table: of all passages of the text that the run has.
            reader: what the reader's numbers follow from.
        """
        metadata = dict(table.schema.metadata or {})
        mark = {"cell": list(cell), "text": self._digest(cell.author), **_sums(table)}
        mark |= {"reader": reader, "passages": self._as_read(cell.author)}
        marked = table.replace_schema_metadata({**metadata, _MARK: json.dumps(mark).encode()})
        write_token_table(marked, self._tokens(cell))

    def tokens(self, cell: Cell) -> pa.Table:
        """A cell's token table.

        Raises:
            StudyError: there is none, or the file is damaged, another cell's, or of a text that has changed since.
        """
        path = self._tokens(cell)
        table, mark = self._table(cell)
        # A text that is gone will be written again, and perhaps be the same.
        if mark is not None and self._passages(cell.author).is_file():
            is_same = mark.get("text") == self._digest(cell.author)
            if not is_same and (mark.get("passages") is None or mark["passages"] != self._as_read(cell.author)):
                raise StudyError(f"{path} has changed since it was written ({_PARTS['text']}): {_READ_AGAIN}")
        return table

    def known_rows(self, cell: Cell, reader: Recipe) -> dict[str, tuple[np.ndarray, TokenStats]]:
        """Passage id -> what this reader found there, of passages that are the same now as when it read them."""
        try:
            table, mark = self._table(cell)
        except StudyError:
            return {}
        if mark is None or mark.get("reader") is None or not agree(mark["reader"], reader):
            return {}
        then = set(mark.get("passages") or ())
        rows = known_rows(table)
        return {p.id: rows[p.id] for p in self.passages(cell.author) if p.id in rows and as_read(p) in then}

    def _table(self, cell: Cell) -> tuple[pa.Table, dict[str, Any] | None]:
        """A cell's table and its mark, whatever text it was read from; no mark in tables of older versions.

        Raises:
            StudyError: there is none, or the file is damaged or another cell's.
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
        if mark is None:
            return table, None
        mark = mark if isinstance(mark, dict) else {}
        here = {"cell": list(cell), **_sums(table)}
        wrong = [_PARTS[key] for key, value in here.items() if mark.get(key) != value]
        if wrong:
            raise StudyError(f"{path} has changed since it was written ({wrong[0]}): {_READ_AGAIN}")
        return table, mark

    def notes(self, cell: Cell) -> dict[str, Any]:
        """How a cell was read."""
        return table_notes(self.tokens(cell))

    def _digest(self, author: str) -> str:
        """SHA-256 of the file of an author's passages; empty if there is none."""
        path = self._passages(author)
        return _digest_of(path, _stamp(path)) if path.is_file() else ""

    def _noted(self, author: str) -> dict[str, Any]:
        """What the file of an author's passages says of itself."""
        path = self._passages(author)
        return _text_notes(path, _stamp(path))

    def _as_read(self, author: str) -> list[str] | None:
        """What readers see of each of an author's passages; None if they are not there or damaged."""
        try:
            return [as_read(passage) for passage in self.passages(author)]
        except PassageError:
            return None

    def write_manifest(self, study: Study, extra: dict[str, Any]) -> None:
        """Store what the run was made with: versions, models and their hashes, machine, and `extra`."""
        manifest = {
            "versions": {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in _PACKAGES},
            "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
            "models": {
                name: {"model": shown_path(s.model, self.folder), "dtype": s.dtype, **find(s.model).identity()}
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
            raise StudyError(f"{path}: not JSON ({error}); {_WRITE_ANEW}") from None
        if not isinstance(manifest, dict) or not isinstance(manifest.get("readers", {}), dict):
            raise StudyError(f"{path}: not a manifest; {_WRITE_ANEW}")
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


@functools.lru_cache(maxsize=4096)
def _text_notes(path: Path, stamp: tuple[int, int]) -> dict[str, Any]:
    """What a file of passages says of itself, as it was at this stamp; nothing if it says nothing or is damaged."""
    return _said(path, _TEXT)


@functools.lru_cache(maxsize=4096)
def _mark(path: Path, stamp: tuple[int, int]) -> dict[str, Any]:
    """The mark of a cell's file, as it was at this stamp."""
    return _said(path, _MARK)


def _said(path: Path, key: bytes) -> dict[str, Any]:
    try:
        said = json.loads((pq.read_schema(path).metadata or {}).get(key, b"null"))
    except (OSError, ValueError, pa.ArrowException):
        return {}
    return said if isinstance(said, dict) else {}


def _sums(table: pa.Table) -> dict[str, Any]:
    """What no checksum of a page covers: how many rows there are, and the notes."""
    notes = sorted((key, value) for key, value in (table.schema.metadata or {}).items() if key != _MARK)
    return {"rows": len(table), "notes": hashlib.sha256(repr(notes).encode()).hexdigest()}


def _absolute(study: Study) -> Study:
    """A study with absolute paths, as study files give; in one that Python made they are relative to where it works."""
    return with_absolute_settings(with_absolute_paths(study, Path.cwd()), Path.cwd())


def _require_models(models: Iterable[ModelSpec]) -> None:
    """Fail if a model or its template is not there, before anything is sampled or written.

    Raises:
        ModelError: no such model.
        FramingError: no such template.
    """
    for spec in models:
        require(find(spec.model), base=spec.base, device_map=spec.device_map, quantization=spec.quantization)
        if spec.chat_template is not None:
            read_template(spec.chat_template)


def _is_made(text: str) -> bool:
    """Whether a study.yaml was written by a run: by its first line or, of older versions, as only a program writes."""
    if text.startswith(_MADE):
        return True
    given = yaml.safe_load(text)
    has_defaults = isinstance(given, dict) and {"seed", "resamples", "sampling", "framings"} <= given.keys()
    return has_defaults and yaml.safe_dump(given, sort_keys=False, allow_unicode=True) == text
