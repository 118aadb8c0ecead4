"""Planted texts: passages that planted organisms (`reader.planted`) and planted authors write for a run.

A recogniser's texts are its own trajectories because `write` lets it sample and remember them. A study that samples
with the same settings and the same author's name gets the same texts from it, token by token, because each prefix is
remembered as its own and each passage has its own random numbers. It therefore samples from the same distributions
that it reads with, and the identity residual holds. `write_easily` plants another truth: an author whose text is easy
and who reads as before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from enaction.errors import ModelError
from enaction.framing import frame_prompt
from enaction.passages import Passage, Prompt
from enaction.reader import Reader
from enaction.reader.planted import Planted
from enaction.sampling import sample
from enaction.study.config import Study
from enaction.study.desk import Desk
from enaction.study.store import Run
from enaction.words import Framing


def write(
    reader: Reader,
    prompts: Sequence[Prompt],
    *,
    framing: Framing | None = None,
    separator: str = "\n",
    **settings: Any,
) -> list[Passage]:
    """Let a recogniser sample, sharp throughout, and remember the passages.

    Args:
        reader: of a `recogniser`.
        prompts: the prompts that it answers.
        framing, separator: as in `sample`; its texts are its own only if they are read in this framing.
        settings: further arguments of `sample`. A study gets these same texts again if it samples with these settings
            under this author's name.

    Raises:
        ModelError: the reader's model is not a planted organism.
        UserError: as `sample`.
    """
    draw = partial(sample, reader, prompts, separator=separator, **settings)
    return _remembered(reader, prompts, framing, separator, draw)


def write_for(study: Study, name: str, reader: Reader) -> list[Passage]:
    """`write` with the prompts and settings of a study in which the recogniser will have this name."""
    desk = Desk(study, tuple(study.load_prompts()), Run(Path()), reader)  # its run folder is not used
    draw = partial(desk.sample, desk.prompts, name)
    return _remembered(reader, desk.prompts, study.models[name].framing, study.separator, draw)


def _remembered(
    reader: Reader,
    prompts: Sequence[Prompt],
    framing: Framing | None,
    separator: str,
    draw: Callable[..., list[Passage]],
) -> list[Passage]:
    """The passages that `draw` samples in a framing from a recogniser, which then remembers them."""
    model = reader.model
    if not isinstance(model, Planted):
        raise ModelError(
            f"{reader.name} is a {type(model).__name__} and cannot remember what it writes: plant it first"
        )
    framing = framing or ("assistant" if reader.has_template else "none")
    with model.writing():
        passages = draw(framing=framing)
    context = {p.id: frame_prompt(reader.tokenizer, p, framing, separator=separator).ids for p in prompts}
    model.remember([context[p.prompt_id] for p in passages], [p.token_ids or () for p in passages])
    return passages


def write_easily(study: Study, folder: Path, name: str, reader: Reader, temperature: float) -> list[Passage]:
    """Plant an author of easy text: a model whose passages in a run were sampled at a low temperature.

    The run continues as a resumed one does: the passages exist, and all readers read them as they read anything. The
    identity residual of this model then raises its alarm, as it should.

    Args:
        study: the study that will be run.
        folder: its run folder, in which the model has not written yet.
        name: the model's in the study.
        reader: the model.
        temperature: below that of the study for easy text.

    Raises:
        StudyError: the folder holds a run of another study.
        UserError: as `sample`.
    """
    run = Run(folder)
    run.open(study)
    settings = study.sampling.model_copy(update={"temperature": temperature})
    desk = Desk(study, tuple(study.load_prompts()), run, reader)
    passages = desk.sample(desk.prompts, name, framing=study.models[name].framing, sampling=settings)
    run.write_passages(name, passages)
    return passages
