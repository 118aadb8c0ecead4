"""The two units of work of a plan, which every engine shares: a model writes texts, a model reads cells.

A model is loaded once for all of its texts, and once for all of its cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

from enaction.errors import FramingError
from enaction.framing import read_template
from enaction.passages import Prompt
from enaction.reader import Reader
from enaction.study.config import Study
from enaction.study.desk import Desk
from enaction.study.planning import Text
from enaction.study.store import Cell, Run
from enaction.tokens import left_out_table, score_passages

# The text that is written or the model that reads, and how many more of its passages are done.
Advance = Callable[[str, int], None]

# The reader that this process loaded last: big models load slowly, and two at a time may not fit into memory.
_LOADED: dict[tuple[str, str], Reader] = {}


def write_texts(
    study: Study, prompts: tuple[Prompt, ...], run: Run, model: str, texts: Sequence[Text], advance: Advance
) -> None:
    """A model writes its texts into the run folder, one file a text.

    Raises:
        UserError: the model cannot be loaded, or a prompt cannot be framed.
    """
    reader = _load(study, model)
    for text in texts:
        desk = Desk(study, prompts, run, reader, _increments(text.name, advance))
        run.write_passages(text.name, text.write(desk))


def read_cells(
    study: Study, run: Run, reader_name: str, cells: Sequence[Cell], optional: Set[Cell], advance: Advance
) -> None:
    """A model reads cells into the run folder, one file a cell.

    Raises:
        UserError: the model cannot be loaded, or a passage of a cell that is not optional cannot be framed.
    """
    reader = _load(study, reader_name)
    for cell in cells:
        passages = run.passages(cell.author)
        try:
            table = score_passages(
                reader,
                passages,
                cell.framing,
                separator=study.separator,
                with_text=False,
                progress=_increments(reader_name, advance),
            )
        except FramingError as error:
            if cell not in optional:
                raise
            table = left_out_table(str(error))
        run.write_tokens(cell, table)


def forget_models() -> None:
    """Let go of the model that this process loaded last."""
    _LOADED.clear()


def _load(study: Study, name: str) -> Reader:
    spec = study.models[name]
    key = name, spec.model_dump_json()
    if key not in _LOADED:
        _LOADED.clear()
        _LOADED[key] = Reader.load(
            spec.model,
            name=name,
            dtype=spec.dtype,
            device=spec.device,
            chat_template=read_template(spec.chat_template) if spec.chat_template else None,
            template_switches=spec.template_options,
            trust_remote_code=spec.trust_remote_code,
            base=spec.base,
        )
    return _LOADED[key]


def _increments(name: str, advance: Advance) -> Callable[[int, int], None]:
    """Turn (done, total) into how many more are done."""
    before = 0

    def progress(done: int, total: int) -> None:
        nonlocal before
        advance(name, done - before)
        before = done

    return progress
