"""What a study needs: the texts to be written and the cells to be read, as its experiments declare them.

A plan is a pure function of the study and cheap to make, so every process makes its own and nothing but names is sent
around. Texts are named by their author: a model's own text has the model's name, and what an experiment derives from it
or samples beside it has a longer one (`ash-rl.T0.5`), with every setting that changes the text in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from enaction.errors import StudyError
from enaction.passages import Passage, Prompt
from enaction.reader import Progress, Reader
from enaction.sampling import sample
from enaction.study.config import Sampling, Study
from enaction.study.store import Cell, Run
from enaction.words import Framing


@dataclass(frozen=True)
class Sampled:
    """A text that a model samples.

    Attributes:
        name: the author's name in tables and files.
        model: which model of the study samples.
        count: how many passages (for the progress bar).
        write: makes them, given the run, the model as a reader and whom to tell of progress.
        needs: texts that have to be there before.
    """

    name: str
    model: str
    count: int
    write: Callable[[Run, Reader, Progress], list[Passage]]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Derived:
    """A text that is made without a model; attributes as in `Sampled`."""

    name: str
    count: int
    write: Callable[[Run], list[Passage]]
    needs: tuple[str, ...] = ()


Text = Sampled | Derived


@dataclass(frozen=True)
class Plan:
    """Texts by name, and the cells that are asked for; a cell's framing is what is asked for, see `framing_for`.

    A cell that is also among the `optional` is left out, with the reason in its table, where the reader's template or
    context does not take it (a system turn, say); any other such cell stops the run.
    """

    texts: dict[str, Text]
    cells: list[Cell]
    optional: frozenset[Cell] = frozenset()

    def read_by(self, study: Study, run: Run, reader: str) -> list[Cell]:
        """The cells of a reader, in a fixed order and without repetition, in the framings that it can be read in."""
        own = own_framing(study, run, reader)
        asked = (cell for cell in self.cells if cell.reader == reader)
        return list(dict.fromkeys(cell._replace(framing=framing_for(own, cell.framing)) for cell in asked))

    def optional_for(self, study: Study, run: Run, reader: str) -> set[Cell]:
        """The optional cells of a reader, in the framings that it can be read in."""
        own = own_framing(study, run, reader)
        return {c._replace(framing=framing_for(own, c.framing)) for c in self.optional if c.reader == reader}


def merged(plans: Iterable[Plan]) -> Plan:
    """One plan of several; a text that several need is written once, a cell read once."""
    texts: dict[str, Text] = {}
    cells: dict[Cell, None] = {}
    required: set[Cell] = set()
    for plan in plans:
        texts = {**plan.texts, **texts}
        cells |= dict.fromkeys(plan.cells)
        required |= set(plan.cells) - plan.optional
    missing = sorted({cell.author for cell in cells} - set(texts))
    if missing:
        raise StudyError(f"the plan reads texts that nobody writes: {', '.join(missing)}")
    return Plan(texts, list(cells), frozenset(cells) - required)


def own_text(study: Study, model: str) -> Sampled:
    """A model's own text: its responses to the study's prompts with the study's settings."""
    return sampled(study, model, model, study.sampling)


def sampled(study: Study, name: str, model: str, settings: Sampling) -> Sampled:
    """A model's responses to the study's prompts, with other settings of sampling."""
    prompts = study.load_prompts()

    def write(_: Run, reader: Reader, progress: Progress) -> list[Passage]:
        framing = study.models[model].framing
        return sample_for(study, reader, prompts, name, progress, framing=framing, settings=settings)

    return Sampled(name, model, len(prompts) * settings.per_prompt, write)


def sample_for(
    study: Study,
    reader: Reader,
    prompts: Sequence[Prompt],
    author: str,
    progress: Progress,
    *,
    framing: Framing | None,
    settings: Sampling | None = None,
    beginnings: Mapping[str, Sequence[int]] | None = None,
) -> list[Passage]:
    """`sampling.sample` with a study's separator, seed and, unless others are given, settings of sampling."""
    settings = settings or study.sampling
    return sample(
        reader,
        prompts,
        n=settings.per_prompt,
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_new_tokens=settings.max_new_tokens,
        framing=framing,
        separator=study.separator,
        seed=study.seed,
        batch_size=settings.batch_size,
        author=author,
        beginnings=beginnings,
        progress=progress,
    )


def own_framing(study: Study, run: Run, model: str) -> Framing | None:
    """The framing that a model sampled in, None before it has: `none` means that it has no template."""
    fixed = study.models[model].framing
    if fixed is not None or not run.has_passages(model):
        return fixed
    return run.passages(model)[0].sampling["framing"]


def framing_for(own: Framing | None, framing: Framing) -> Framing:
    """The framing that a model of that `own_framing` reads in when `framing` is asked for: `none` has no template."""
    return "none" if own == "none" else framing
