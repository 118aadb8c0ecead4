"""A plan: the texts to be written and the cells to be read, as the experiments of a study declare them.

A plan is data. It pickles, has a digest and is handed to an engine, which knows no experiment. Texts are named by their
author: a model's own text has the model's name, and what an experiment derives from it or samples beside it has a
longer one (`ash-rl.T0.5`) that names every setting that changes the text.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from enaction.errors import StudyError
from enaction.passages import Passage, Prompt, Sampling
from enaction.study.config import Study
from enaction.study.desk import Desk
from enaction.study.names import require_distinct
from enaction.study.store import Cell, Run
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


@dataclass(frozen=True)
class Plan:
    """Texts by name, and the cells that are asked for; a cell's framing is what is asked for, see `framing_for`.

    A cell that is also among the `optional` is left out, with the reason in its table, where the reader's template or
    context does not take it (a system turn, say); any other such cell stops the run.

    Attributes:
        prompts: the study's prompts, read once.
    """

    texts: dict[str, Text]
    cells: list[Cell]
    optional: frozenset[Cell] = frozenset()
    prompts: tuple[Prompt, ...] = ()

    def read_by(self, study: Study, run: Run, reader: str) -> list[Cell]:
        """The cells of a reader, in a fixed order and without repetition, in the framings that it can be read in."""
        own = own_framing(study, run, reader)
        asked = (cell for cell in self.cells if cell.reader == reader)
        return list(dict.fromkeys(cell._replace(framing=framing_for(own, cell.framing)) for cell in asked))

    def optional_for(self, study: Study, run: Run, reader: str) -> set[Cell]:
        """The optional cells of a reader, in the framings that it can be read in."""
        own = own_framing(study, run, reader)
        return {c._replace(framing=framing_for(own, c.framing)) for c in self.optional if c.reader == reader}

    def unwritten(self, run: Run) -> list[Text]:
        """The texts that the run does not have."""
        return [text for text in self.texts.values() if not run.has_passages(text.name)]

    def unread(self, study: Study, run: Run, reader: str) -> list[Cell]:
        """The cells of a reader that the run does not have."""
        return [cell for cell in self.read_by(study, run, reader) if not run.has_tokens(cell)]

    def passages_left(self, study: Study, run: Run) -> tuple[int, int]:
        """How many passages are still to be written, and how many readings of a passage are still to be done.

        Before sampling it is not known which models have a template, so all framings count then.
        """
        to_read = [cell for reader in study.models for cell in self.unread(study, run, reader)]
        return sum(text.count for text in self.unwritten(run)), sum(self.texts[cell.author].count for cell in to_read)

    def digest(self) -> str:
        """SHA-256 of everything that the plan holds: the same plan has the same digest on every machine."""
        return digest([self.texts, self.cells, sorted(self.optional), self.prompts])


def merged(plans: Iterable[Plan], prompts: tuple[Prompt, ...] = ()) -> Plan:
    """One plan of several; a text that several need is written once, a cell read once.

    Raises:
        StudyError: a cell reads a text that no plan writes, or two texts would share a file.
    """
    texts: dict[str, Text] = {}
    cells: dict[Cell, None] = {}
    required: set[Cell] = set()
    for plan in plans:
        for name, text in plan.texts.items():
            if texts.setdefault(name, text) != text:
                raise StudyError(
                    f"two different texts would be called '{name}': rename the model whose name begins or ends so"
                )
        cells |= dict.fromkeys(plan.cells)
        required |= set(plan.cells) - plan.optional
    try:
        require_distinct(texts, "a text")
    except ValueError as error:
        raise StudyError(f"{error}: rename a model") from None
    missing = sorted({cell.author for cell in cells} - set(texts))
    if missing:
        raise StudyError(f"the plan reads texts that nobody writes: {', '.join(missing)}")
    return Plan(texts, list(cells), frozenset(cells) - required, prompts)


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
