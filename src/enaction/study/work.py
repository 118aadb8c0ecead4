"""The units of work of a plan, which every engine shares: a model writes texts, reads cells, measures tables.

In one process a model is loaded once for its texts (again for those that wait for another's), and once for all of its
cells and tables.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence, Set

from enaction.errors import FramingError
from enaction.framing import read_template
from enaction.passages import Prompt
from enaction.reader import Reader
from enaction.study import recipes
from enaction.study.config import Study
from enaction.study.desk import Desk
from enaction.study.planning import Measured, Text
from enaction.study.recipes import Recipe
from enaction.study.store import Cell, Run
from enaction.study.tables import write_table
from enaction.tokens import left_out_table, score_passages

_LOG = logging.getLogger(__name__)

# The text that is written or the model that reads, and how many more of its passages are done.
Advance = Callable[[str, int], None]

# The reader that this process loaded last: big models load slowly, and two at a time may not fit into memory.
_LOADED: dict[tuple[str, str], Reader] = {}
# Where the models of this run lie, as far as it was said.
_PLACES: set[str] = set()


def write_texts(
    study: Study,
    prompts: tuple[Prompt, ...],
    run: Run,
    model: str,
    texts: Sequence[tuple[Text, Recipe]],
    advance: Advance,
) -> None:
    """A model writes its texts into the run folder, one file a text; of texts that grew, what is still valid is kept.

    Raises:
        UserError: the model cannot be loaded, or a prompt cannot be framed.
    """
    reader = _load(study, model)
    for text, planned in texts:
        recipe = _looked_up(planned, study, model)
        desk = Desk(study, prompts, run, reader, _increments(text.name, advance), run.earlier(text.name, recipe))
        passages = text.write(desk)
        run.write_passages(text.name, passages, recipe)
        _LOG.info("%s wrote %s: %d passages", model, text.name, len(passages))


def read_cells(
    study: Study,
    run: Run,
    reader_name: str,
    cells: Sequence[Cell],
    optional: Set[Cell],
    recipe: Recipe,
    advance: Advance,
) -> None:
    """A model reads cells into the run folder, one file a cell; passages that it has read are not read again.

    Raises:
        UserError: the model cannot be loaded, or a passage of a cell that is not optional cannot be framed.
    """
    reader = _load(study, reader_name)
    recipe = _looked_up(recipe, study, reader_name)
    for cell in cells:
        passages = run.passages(cell.author)
        try:
            table = score_passages(
                reader,
                passages,
                cell.framing,
                separator=study.separator,
                known=run.known_rows(cell, recipe),
                with_text=False,
                progress=_increments(reader_name, advance),
            )
        except FramingError as error:
            if cell not in optional:
                raise
            table = left_out_table(str(error))
        run.write_tokens(cell, table, recipe)
        _LOG.info("%s read %s, framing %s: %d tokens", cell.reader, cell.author, cell.framing, table.num_rows)


def measure_tables(
    study: Study,
    prompts: tuple[Prompt, ...],
    run: Run,
    model: str,
    tables: Sequence[tuple[Measured, Recipe]],
    advance: Advance,
) -> None:
    """A model fills in its measured tables, one file a table.

    Raises:
        UserError: the model cannot be loaded, or a passage cannot be framed.
    """
    reader = _load(study, model)
    for measured, planned in tables:
        share = _shares(measured, advance)
        table = measured.measure(Desk(study, prompts, run, reader, share))
        share(1, 1)  # one that has nothing to measure says nothing
        write_table(run.folder, measured.name, table, _looked_up(planned, study, model))
        _LOG.info("%s measured %s: %d rows", model, measured.name, table.num_rows)


def forget_models() -> None:
    """Let go of the model that this process loaded last."""
    _LOADED.clear()
    _PLACES.clear()


def _looked_up(planned: Recipe, study: Study, model: str) -> Recipe:
    """A recipe with what fixes a model that is loaded: one from the hub was perhaps not there when it was planned."""
    is_known = planned["writer"]["weights"] is not None
    return planned if is_known else planned | {"writer": recipes.writer(study.models[model])}


def _load(study: Study, name: str) -> Reader:
    spec = study.models[name]
    key = name, spec.model_dump_json()
    if key not in _LOADED:
        _LOADED.clear()
        began = time.monotonic()
        _LOADED[key] = Reader.load(
            spec.model,
            name=name,
            dtype=spec.dtype,
            device=spec.device,
            device_map=spec.device_map,
            quantization=spec.quantization,
            chat_template=read_template(spec.chat_template) if spec.chat_template else None,
            template_switches=spec.template_options,
            trust_remote_code=spec.trust_remote_code,
            base=spec.base,
        )
        _say_device(_LOADED[key])
        _LOG.info("%s is loaded from %s in %.1f s", name, spec.model, time.monotonic() - began)
    return _LOADED[key]


def _say_device(reader: Reader) -> None:
    """Log where a model lies, once for all models of a run that lie alike; the command line shows this by itself."""
    if reader.placement not in _PLACES:
        _PLACES.add(reader.placement)
        logging.getLogger("enaction.device").info("%s", reader.placement)


def _shares(measured: Measured, advance: Advance) -> Callable[[int, int], None]:
    """Turn (done, total) of whatever a table counts into how many more of its passages are done."""
    increments = _increments(measured.name, advance)
    return lambda done, total: increments(done * measured.count // max(1, total), measured.count)


def _increments(name: str, advance: Advance) -> Callable[[int, int], None]:
    """Turn (done, total) into how many more are done."""
    before = 0

    def progress(done: int, total: int) -> None:
        nonlocal before
        advance(name, done - before)
        before = done

    return progress
