"""The token table: one row per prediction, the contract between readers and statistics.

A row describes ONE prediction: surprisal, entropy, varentropy and rank all belong to the distribution that predicted
the token of the row. One table holds one cell (a reader, an author, a framing) or several.

The table's schema metadata records how it was read (`table_notes`): which path the logits took, in which dtype, how
many passages were read by their own ids, how far their re-tokenised text would have drifted from these, and how many
were longer than the requested window.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from enaction.errors import FramingError, ModelError, StudyError, UserError
from enaction.files import write_atomically
from enaction.framing import Framed, frame, retokenisation_drift, special_ids, template_date
from enaction.passages import Passage
from enaction.reader.rotary import on_each_side
from enaction.reader.warnings import warnings_of
from enaction.reader.windows import stride
from enaction.words import Framing

if TYPE_CHECKING:
    from enaction.reader import Progress, Reader, TokenStats

_NAME = pa.dictionary(pa.int32(), pa.string())

SCHEMA = pa.schema(
    [
        ("reader", _NAME),
        ("author", _NAME),
        ("framing", _NAME),
        ("passage_id", _NAME),
        ("prompt_id", _NAME),
        ("position", pa.int32()),  # 0-based in the response
        ("token_id", pa.int32()),
        ("surprisal", pa.float32()),  # nats
        ("entropy", pa.float32()),  # nats
        ("varentropy", pa.float32()),  # nats^2
        ("rank", pa.int32()),  # 0: the token that came was the most probable one
        ("is_first", pa.bool_()),  # predicted from the prompt alone
        ("is_end", pa.bool_()),  # the end-of-turn token
    ]
)

_NOTES = b"enaction"


def score_passages(
    reader: Reader,
    passages: Sequence[Passage],
    framing: Framing | None = None,
    *,
    separator: str = "\n",
    window: int | None = None,
    token_budget: int | None = None,
    progress: Progress | None = None,
) -> pa.Table:
    """Read passages in one framing; the token table, in the order of the passages.

    Args:
        reader: who reads.
        passages: what is read, of one author or several.
        framing: how it is framed; `default_framing` by default, and the table says which.
        separator: between question and response in `user` and `none`.
        window: read longer passages in windows of this many tokens (`Reader.score`); the notes say how many.
        token_budget: tokens in a batch, by default what suits the device.
        progress: called after each batch with the number of passages done and their total.

    Raises:
        FramingError: this reader cannot read a passage in this framing, or it is longer than the context.
        ModelError: the reader's logits are NaN or infinite, or a passage does not fit into memory.
        UserError: a window that is too long or too short.
    """
    framing = framing or default_framing(reader, passages)
    framed, drift = [], []
    for passage in passages:
        framed.append(frame(reader.tokenizer, passage, framing, separator=separator))
        if framed[-1].is_own:
            drift.append(_drift(reader, passage, framing, separator))
    scores = reader.score(framed, window=window, token_budget=token_budget, progress=progress)
    _refuse_nan(reader, passages, scores)
    table = token_table(reader.name, framing, zip(passages, framed, scores, strict=True))
    read = list(zip(passages, framed, strict=True))
    notes = {
        "reader": reader.name,
        "framing": framing,
        "template_date": None if framing == "none" else template_date(reader.tokenizer),
        "dtype": reader.dtype,
        "head_path": reader.head_path,
        "parity_error": reader.parity_error,
        "passages": len(passages),
        "passages_by_own_ids": sum(f.is_own for f in framed),
        "passages_by_text": sum(p.token_ids is not None and not f.is_own for p, f in read),
        "passages_that_would_drift": sum(d > 0 for d in drift),
        "tokens_that_would_drift": sum(drift),
        "passages_with_halves": sum("\ufffd" in p.response for p in passages),
        "passages_with_special": sum(not f.is_own and _holds_special(reader, f) for f in framed),
        "passages_without_rows": sum(f.stop == f.start for f in framed),
        "first_tokens_without_context": sum(f.skipped for f in framed),
        "tokens_ruled_out": sum(int(np.isinf(s.surprisal).sum()) for s in scores),
        "window": window,
        "window_stride": None if window is None else stride(window),
        "rotary_switches": list(reader.rotary_switches),
        "passages_across_switch": sum(len(on_each_side(f, reader.rotary_switches)) > 1 for f in framed),
        "warnings": list(warnings_of(reader, framing)),
        "passages_in_windows": 0 if window is None else sum(f.stop - 1 > window for f in framed),
    }
    return table.replace_schema_metadata({_NOTES: json.dumps(notes).encode()})


def default_framing(reader: Reader, passages: Sequence[Passage]) -> Framing:
    """`assistant` where the reader has a chat template and a passage has a prompt, else `none`."""
    return "assistant" if reader.has_template and any(p.prompt for p in passages) else "none"


def _drift(reader: Reader, passage: Passage, framing: Framing, separator: str) -> int:
    """Tokens that would drift; 0 where the template does not show the text, so that there is nothing to compare."""
    try:
        return retokenisation_drift(reader.tokenizer, passage, framing, separator=separator) or 0
    except FramingError:
        return 0


def _holds_special(reader: Reader, framed: Framed) -> bool:
    """Whether a text that others wrote spells a special token: it is read as that token and not as its letters."""
    found = special_ids(reader.tokenizer).intersection(framed.ids[framed.start : framed.stop - framed.has_end])
    return any(token != reader.tokenizer.unk_token_id for token in found)


def _refuse_nan(reader: Reader, passages: Sequence[Passage], scores: Sequence[TokenStats]) -> None:
    """One NaN would spread to every mean, and leaving it out would select the passages that the model can read."""
    broken = [p.id for p, s in zip(passages, scores, strict=True) if np.isnan(s.surprisal + s.entropy).any()]
    if broken:
        raise ModelError(
            f"logits of {reader.name} ({reader.dtype}) are NaN or infinite in {len(broken)} of {len(passages)} "
            f"passages, the first of them '{broken[0]}': load it as float32 or bfloat16; if it is that, its weights "
            "are damaged"
        )


def token_table(reader: str, framing: Framing, read: Iterable[tuple[Passage, Framed, TokenStats]]) -> pa.Table:
    """Build the table from passages, how each was framed, and the reader's statistics.

    Args:
        reader: name of the reader.
        framing: of all of them.
        read: each passage with its ids and the statistics of its measured tokens.
    """
    read = list(read)
    counts = np.array([len(stats) for _, _, stats in read], dtype=np.int64)
    passages, framed, scores = zip(*read, strict=True) if read else ((), (), ())

    def named(names: Iterable[str]) -> pa.Array:
        return pa.array(
            [name for name, count in zip(names, counts, strict=True) for _ in range(count)], _NAME.value_type
        )

    position = _joined((np.arange(f.skipped, f.skipped + n) for f, n in zip(framed, counts, strict=True)), np.int32)
    is_last = _joined((np.arange(n) == n - 1 for n in counts), np.bool_)
    has_end = np.repeat(np.array([f.has_end for f in framed], dtype=np.bool_), counts)
    columns = {
        "reader": pa.array([reader] * int(counts.sum()), pa.string()),
        "author": named(p.author for p in passages),
        "framing": pa.array([framing] * int(counts.sum()), pa.string()),
        "passage_id": named(p.id for p in passages),
        "prompt_id": named(p.prompt_id for p in passages),
        "position": position,
        "token_id": _joined((np.array(f.ids[f.start : f.stop]) for f in framed), np.int32),
        "surprisal": _joined((s.surprisal for s in scores), np.float32),
        "entropy": _joined((s.entropy for s in scores), np.float32),
        "varentropy": _joined((s.varentropy for s in scores), np.float32),
        "rank": _joined((s.rank for s in scores), np.int32),
        "is_first": position == 0,
        "is_end": is_last & has_end,
    }
    arrays = [pa.array(columns[field.name]).cast(field.type) for field in SCHEMA]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def table_notes(table: pa.Table) -> dict[str, Any]:
    """How a table was read; empty for one that was put together from others."""
    return json.loads((table.schema.metadata or {}).get(_NOTES, b"{}"))


def left_out_table(reason: str) -> pa.Table:
    """The table of a cell that could not be read: no rows, and why in its notes as `left_out`."""
    return SCHEMA.empty_table().replace_schema_metadata({_NOTES: json.dumps({"left_out": reason}).encode()})


def write_token_table(table: pa.Table, path: Path) -> None:
    """Write Parquet, or CSV (without the notes) where the name ends in `.csv`, whole or not at all.

    Raises:
        UserError: it cannot be written there.
    """
    try:
        with write_atomically(path) as temporary:
            if path.suffix == ".csv":
                names = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
                plain = table.replace_schema_metadata(None)
                for name in names:
                    plain = plain.set_column(plain.column_names.index(name), name, plain[name].cast(pa.string()))
                pc.write_csv(plain, temporary)
            else:
                pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
    except OSError as err:
        raise UserError(f"cannot write {path} ({err.strerror or err}): give another place") from err


def read_token_table(path: Path) -> pa.Table:
    """Read Parquet as `write_token_table` wrote it.

    Raises:
        StudyError: no such file, not Parquet, or not a token table.
    """
    try:
        # One small file: a pool of threads and a data set of files cost more than reading it.
        table = pq.ParquetFile(path, page_checksum_verification=True).read(use_threads=False)
    except FileNotFoundError as err:
        raise StudyError(f"there is no token table {path}: check the path, or score the passages first") from err
    except (pa.ArrowInvalid, OSError) as err:
        raise StudyError(f"{path} is not a readable Parquet file: remove it and score the passages again") from err
    missing = [name for name in SCHEMA.names if name not in table.column_names]
    if missing:
        raise StudyError(f"{path} is not a token table: it is missing the columns {', '.join(missing)}")
    return table.select(SCHEMA.names)


def _joined(parts: Iterable[np.ndarray], dtype: type[np.generic]) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *(part.astype(dtype) for part in parts)])
