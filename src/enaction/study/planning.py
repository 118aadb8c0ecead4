"""A plan: the texts to be written and the cells to be read, as the experiments of a study declare them.

A plan is data. It pickles, has a digest and is handed to an engine, which knows no experiment. Texts are named by their
author: a model's own text has the model's name, and what an experiment derives from it or samples beside it has a
longer one (`ash-rl.T0.5`) that names every setting that changes the text.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from enaction.errors import StudyError
from enaction.passages import Passage, Prompt, Sampling
from enaction.study import recipes
from enaction.study.config import Study
from enaction.study.desk import Desk
from enaction.study.names import require_distinct
from enaction.study.recipes import Recipe
from enaction.study.store import Cell, Run
from enaction.study.tables import has_table
from enaction.words import Framing


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text to be written: what it is called, who writes it, and what has to be written before.

    Attributes:
        name: the author's name in tables and files.
        model: which model of the study writes it; None for a text that is made without a model.
        count: how many passages (for the progress bar).
        needs: texts that have to be finished before.
    """

    name: str
    model: str | None
    count: int
    needs: tuple[str, ...] = ()

    def write(self, desk: Desk) -> list[Passage]:
        """The passages."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Sampled(Text):
    """A model's responses to the study's prompts.

    Attributes:
        sampling: the settings.
    """

    sampling: Sampling

    def write(self, desk: Desk) -> list[Passage]:
        """The passages."""
        framing = desk.study.models[desk.reader.name].framing
        return desk.sample(desk.prompts, self.name, framing=framing, sampling=self.sampling)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A table that a loaded model fills in from finished texts: what a token table cannot hold.

    Attributes:
        name: of the table.
        model: which model of the study is at the desk.
        count: how many passages (for the progress bar).
        needs: texts that have to be finished before.
    """

    name: str
    model: str
    count: int
    needs: tuple[str, ...] = ()

    def measure(self, desk: Desk) -> pa.Table:
        """The table."""
        raise NotImplementedError


@dataclass(frozen=True)
class Plan:
    """Texts by name, and the cells that are asked for; a cell's framing is what is asked for, see `framing_for`.

    A cell that is also among the `optional` is left out, with the reason in its table, where the reader's template or
    context does not take it (a system turn, say); any other such cell stops the run.

    Attributes:
        prompts: the study's prompts, read once.
        measured: tables by name that loaded models fill in from finished texts.
    """

    texts: dict[str, Text]
    cells: list[Cell]
    optional: frozenset[Cell] = frozenset()
    prompts: tuple[Prompt, ...] = ()
    measured: dict[str, Measured] = field(default_factory=dict)

    def read_by(self, study: Study, run: Run, reader: str) -> list[Cell]:
        """The cells of a reader, in a fixed order and without repetition, in the framings that it can be read in."""
        own = own_framing(study, run, reader)
        asked = (cell for cell in self.cells if cell.reader == reader)
        return list(dict.fromkeys(cell._replace(framing=framing_for(own, cell.framing)) for cell in asked))

    def optional_for(self, study: Study, run: Run, reader: str) -> set[Cell]:
        """The optional cells of a reader, in the framings that it can be read in."""
        own = own_framing(study, run, reader)
        return {c._replace(framing=framing_for(own, c.framing)) for c in self.optional if c.reader == reader}

    def recipe(self, study: Study, run: Run, text: Text | Measured, *, looks: bool = True) -> Recipe:
        """What a text or a measured table follows from, as its needs are now.

        Args:
            study, run: of the plan.
            text: one of its texts or tables.
            looks: look at the files of its model; without it they count as unchanged.
        """
        return {
            "text": self._digests[isinstance(text, Measured), text.name],
            **recipes.shared(study),
            "prompts": self._digest_of_prompts,
            "model": text.model or "",
            "writer": recipes.writer(study.models[text.model], looks=looks) if text.model else {},
            "needs": {need: run.content(need) for need in text.needs},
        }

    def unwritten(self, study: Study, run: Run, *, looks: bool = True) -> list[Text]:
        """The texts that the run does not have, or has from another recipe; with one, all that need it.

        Args:
            study, run: of the plan.
            looks: as in `recipe`.
        """
        missing = {
            text.name
            for text in self.texts.values()
            if not run.has_text(text.name, self.recipe(study, run, text, looks=looks))
        }
        while True:
            more = {text.name for text in self.texts.values() if missing.intersection(text.needs)} - missing
            if not more:
                return [text for text in self.texts.values() if text.name in missing]
            missing |= more

    def unread(self, study: Study, run: Run, reader: str, *, looks: bool = True) -> list[Cell]:
        """The cells of a reader that the run does not have, of the texts as they are now.

        Args:
            study, run: of the plan.
            reader: a model.
            looks: as in `recipe`.
        """
        recipe = recipes.reader(study, reader, looks=looks)
        return [cell for cell in self.read_by(study, run, reader) if not run.has_tokens(cell, recipe)]

    def unmeasured(self, study: Study, run: Run, *, looks: bool = True) -> list[Measured]:
        """The tables that the run does not have, or has from another recipe; with missing texts, all that need them.

        Args:
            study, run: of the plan.
            looks: as in `recipe`.
        """
        missing = {text.name for text in self.unwritten(study, run, looks=looks)}
        return [
            table
            for table in self.measured.values()
            if missing.intersection(table.needs)
            or not has_table(run.folder, table.name, self.recipe(study, run, table, looks=looks))
        ]

    def passages_left(self, study: Study, run: Run, *, looks: bool = True) -> tuple[int, int]:
        """How many passages are still to be written, and how many readings of a passage are still to be done.

        At most: of a text or cell that is made anew, what is still valid is kept. Before sampling it is not known which
        models have a template, so all framings count then.

        Args:
            study, run: of the plan.
            looks: as in `recipe`.
        """
        to_write = {text.name: text.count for text in self.unwritten(study, run, looks=looks)}
        to_read = 0
        for reader in study.models:
            unread = set(self.unread(study, run, reader, looks=looks))
            cells = self.read_by(study, run, reader)
            to_read += sum(self.texts[c.author].count for c in cells if c in unread or c.author in to_write)
        to_read += sum(table.count for table in self.unmeasured(study, run, looks=looks))
        return sum(to_write.values()), to_read

    @functools.cached_property
    def _digests(self) -> dict[tuple[bool, str], str]:
        """Whether it is a table, and its name -> content address of its own settings, without how many passages."""
        return {
            (isinstance(of, Measured), of.name): digest(_without_speed(replace(of, count=0)))
            for of in (*self.texts.values(), *self.measured.values())
        }

    @functools.cached_property
    def _digest_of_prompts(self) -> str:
        return recipes.of_prompts(self.prompts)

    def digest(self) -> str:
        """SHA-256 of everything that the plan holds: the same plan has the same digest on every machine."""
        parts = [self.texts, self.cells, sorted(self.optional), self.prompts]
        return digest([*parts, self.measured] if self.measured else parts)


def merged(plans: Iterable[Plan], prompts: tuple[Prompt, ...] = ()) -> Plan:
    """One plan of several; a text that several need is written once, a cell read once.

    Raises:
        StudyError: a cell reads a text that no plan writes, or two texts would share a file.
    """
    texts: dict[str, Text] = {}
    cells: dict[Cell, None] = {}
    required: set[Cell] = set()
    measured: dict[str, Measured] = {}
    for plan in plans:
        for name, text in plan.texts.items():
            if texts.setdefault(name, text) != text:
                raise StudyError(
                    f"two different texts would be called '{name}': rename the model whose name begins or ends so"
                )
        for name, table in plan.measured.items():
            if measured.setdefault(name, table) != table:
                raise StudyError(f"two different tables would be called '{name}': rename a model")
        cells |= dict.fromkeys(plan.cells)
        required |= set(plan.cells) - plan.optional
    try:
        require_distinct(texts, "a text")
        require_distinct(measured, "a table")
    except ValueError as error:
        raise StudyError(f"{error}: rename a model") from None
    needed = {need for table in measured.values() for need in table.needs}
    missing = sorted(({cell.author for cell in cells} | needed) - set(texts))
    if missing:
        raise StudyError(f"the plan reads texts that nobody writes: {', '.join(missing)}")
    return Plan(texts, list(cells), frozenset(cells) - required, prompts, measured)


def own_text(study: Study, n_prompts: int, model: str) -> Sampled:
    """A model's own text: its responses to the study's prompts with the study's settings."""
    count = n_prompts * study.sampling.per_prompt
    return Sampled(name=model, model=model, count=count, sampling=study.sampling)


def own_framing(study: Study, run: Run, model: str) -> Framing | None:
    """The framing that a model sampled in, None before it has: `none` means that it has no template."""
    fixed = study.models[model].framing
    return fixed if fixed is not None or not run.has_passages(model) else run.sampled_in(model)


def framing_for(own: Framing | None, framing: Framing) -> Framing:
    """The framing that a model of that `own_framing` reads in when `framing` is asked for: `none` has no template."""
    return "none" if own == "none" else framing


def digest(value: Any) -> str:
    """SHA-256 of plain data, dataclasses and settings: a content address."""
    return hashlib.sha256(json.dumps(_plain(value), sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _without_speed(value: Any) -> Any:
    """A value as `_plain` has it, without what changes no response."""
    plain = _plain(value) if not isinstance(value, list | dict) else value
    if isinstance(plain, dict):
        return {key: _without_speed(item) for key, item in plain.items() if key != "batch_size"}
    return [_without_speed(item) for item in plain] if isinstance(plain, list) else plain


def _plain(value: Any) -> Any:
    """A value as JSON can hold it, with the name of each type that JSON does not know."""
    if isinstance(value, BaseModel):
        return [type(value).__name__, value.model_dump(mode="json")]
    if dataclasses.is_dataclass(value):
        fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return [type(value).__name__, fields]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
