"""The token table: one row per prediction, the contract between readers and statistics.

A row describes ONE prediction: surprisal, entropy, varentropy and rank all belong to the distribution that predicted
the token of the row. One table holds one cell (a reader, an author, a framing) or several.

The table's schema metadata records how it was read (`table_notes`): which path the logits took, in which dtype, how
many passages were read by their own ids, how far their re-tokenised text would have drifted from these, and how many
were longer than the requested window.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from enaction.errors import FramingError, ModelError, StudyError, UserError
from enaction.files import write_atomically
from enaction.framing import Decode, Framed, frame, retokenisation_drift, special_ids, template_date, token_texts
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
# Differences of sums come out this far below 0.
_ROUNDING = -0.01
# Notes that count something of a table; the others say how all of it was read.
_COUNTED = ("passages", "tokens_", "first_tokens_")
# A column that tables may have beside those of SCHEMA: what each token adds to the text, nothing for the end of a turn.
TEXT = "text"


def score_passages(
    reader: Reader,
    passages: Sequence[Passage],
    framing: Framing | None = None,
    *,
    separator: str = "\n",
    window: int | None = None,
    token_budget: int | None = None,
    known: Mapping[str, tuple[np.ndarray, TokenStats]] | None = None,
    with_text: bool = True,
    progress: Progress | None = None,
) -> pa.Table:
    """Read passages in one framing; the token table, in the order of the passages.

    Its column `text` holds what each token adds to the response, so that the texts of a passage together are the
    response (without outer white space that a template strips, and without a first token that nothing predicts). A
    token that ends inside a character has an empty text, and the one that completes the character has the whole of it;
    the end of a turn has an empty text.

    Args:
        reader: who reads.
        passages: what is read, of one author or several.
        framing: how it is framed; `default_framing` by default, and the table says which.
        separator: between question and response in `user` and `none`.
        window: read longer passages in windows of this many tokens (`Reader.score`); the notes say how many.
        token_budget: tokens in a batch, by default what suits the device.
        known: passage id -> token ids and their statistics by an earlier reading, which is taken where the ids are the
            same now; see `known_rows`.
        with_text: decode the tokens. Runs do without, since it can be done later (`with_text`).
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
    kept = [_known((known or {}).get(p.id), f) for p, f in zip(passages, framed, strict=True)]
    unread = [f for f, stats in zip(framed, kept, strict=True) if stats is None]
    n_kept = len(framed) - len(unread)

    def advance(done: int, total: int) -> None:
        if progress is not None:
            progress(n_kept + done, n_kept + total)

    if n_kept:
        advance(0, len(unread))
    fresh = iter(reader.score(unread, window=window, token_budget=token_budget, progress=advance) if unread else ())
    scores = [next(fresh) if stats is None else stats for stats in kept]
    _refuse_nan(reader, passages, scores)
    table = token_table(reader.name, framing, zip(passages, framed, scores, strict=True))
    read = list(zip(passages, framed, strict=True))
    if with_text:
        decode = _decoder(reader)
        table = _and_text(table, (text for p, f in read for text in _texts(reader, decode, p, f)))
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
        "passages_without_prompt": sum(not p.prompt for p in passages),
        "passages_with_halves": sum("\ufffd" in p.response for p in passages),
        "passages_spelt_otherwise": sum(f.is_own and not _spells(reader, p) for p, f in read),
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


def _known(known: tuple[np.ndarray, TokenStats] | None, framed: Framed) -> TokenStats | None:
    """Statistics of an earlier reading, if it was of these very tokens."""
    if known is None or not np.array_equal(known[0], framed.ids[framed.start : framed.stop]):
        return None
    return known[1]


def known_rows(table: pa.Table) -> dict[str, tuple[np.ndarray, TokenStats]]:
    """Passage id -> token ids and statistics of a token table of one author, for `score_passages`."""
    from enaction.reader import TokenStats  # torch, which reading a table does without

    names = table["passage_id"].combine_chunks()
    code_N = names.indices.to_numpy() if len(names) else np.empty(0, np.int64)
    columns = [table[name].to_numpy() for name in ("token_id", "surprisal", "entropy", "varentropy", "rank")]
    order_N = np.argsort(code_N, kind="stable")
    ends = np.searchsorted(code_N[order_N], np.arange(len(names.dictionary)), side="right")
    of_passage = {}
    for name, rows in zip(names.dictionary.to_pylist(), np.split(order_N, ends[:-1]), strict=True):
        ids, *statistics = (column[rows] for column in columns)
        of_passage[name] = ids, TokenStats(*statistics)
    return of_passage


def with_text(table: pa.Table, reader: Reader) -> pa.Table:
    """A token table of this reader with what each token adds to the text, as `score_passages` gives it.

    Of a table of a run, say, which holds token ids alone. The texts of a passage are what its ids decode to: of a text
    with characters that the tokenizer does not know or changes, that is another than the text itself.

    Args:
        table: whole passages, as they were read.
        reader: whose tokens they are.
    """
    columns = (
        table[name].to_pylist() for name in ("author", "framing", "passage_id", "position", "token_id", "is_end")
    )
    rows = list(zip(*columns, strict=True))
    passages: list[list[tuple]] = []
    for row in rows:
        is_next = bool(passages) and row[:3] == passages[-1][-1][:3] and row[3] > passages[-1][-1][3]
        if not is_next:
            passages.append([])
        passages[-1].append(row)
    decode, texts = _decoder(reader), []
    for passage in passages:
        n_end = int(passage[-1][-1])
        texts += [*token_texts(decode, [row[4] for row in passage[: len(passage) - n_end]]), *[""] * n_end]
    return _and_text(table, texts)


def _decoder(reader: Reader) -> Decode:
    """The tokenizer's decoding, which knows what it has decoded before: few tokens come alone or in pairs once."""
    known: dict[tuple[int, ...], str] = {}

    def decode(ids: list[int]) -> str:
        text = known.get(key := tuple(ids))
        if text is None:
            decoded = reader.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            text = str(decoded)
            if len(ids) <= 2:
                known[key] = text
        return text

    return decode


def token_ends(
    reader: Reader, passages: Sequence[Passage], framing: Framing, *, separator: str = "\n"
) -> list[np.ndarray]:
    """Of each passage, the characters of the response up to and including each of its tokens, by their position.

    So that the tokens of readers with different tokenizers can be laid side by side. The end of a turn has none.

    Args:
        reader: whose tokens they are.
        passages, framing, separator: as in `score_passages`.

    Raises:
        FramingError: this reader cannot read a passage in this framing.
    """
    decode, ends = _decoder(reader), []
    for passage in passages:
        framed = frame(reader.tokenizer, passage, framing, separator=separator)
        ends.append(np.cumsum([len(text) for text in _all_texts(reader, decode, passage, framed)], dtype=np.int64))
    return ends


def _texts(reader: Reader, decode: Decode, passage: Passage, framed: Framed) -> list[str]:
    """The text of each measured token of a passage."""
    return _all_texts(reader, decode, passage, framed)[framed.skipped :]


def _all_texts(reader: Reader, decode: Decode, passage: Passage, framed: Framed) -> list[str]:
    """The text of each token of a response, a first one that nothing predicts too."""
    n_end = int(framed.has_end)
    ids = framed.ids[framed.start - framed.skipped : framed.stop - n_end]
    return [*token_texts(decode, ids, passage.response, framed.ends), *[""] * n_end]


def _and_text(table: pa.Table, texts: Iterable[str]) -> pa.Table:
    return table.append_column(pa.field(TEXT, _NAME), pa.array(list(texts), pa.string()).dictionary_encode())


class HasTemplate(Protocol):
    """A reader of any kind, here or on a server."""

    @property
    def has_template(self) -> bool:
        """Whether its tokenizer has a chat template."""
        ...


def default_framing(reader: HasTemplate, passages: Sequence[Passage]) -> Framing:
    """`assistant` where the reader has a chat template and a passage has a prompt, else `none`."""
    return "assistant" if reader.has_template and any(p.prompt for p in passages) else "none"


def _drift(reader: Reader, passage: Passage, framing: Framing, separator: str) -> int:
    """Tokens that would drift; 0 where the template does not show the text, so that there is nothing to compare."""
    try:
        return retokenisation_drift(reader.tokenizer, passage, framing, separator=separator) or 0
    except FramingError:
        return 0


def _spells(reader: Reader, passage: Passage) -> bool:
    """Whether a passage's own ids are those of its text, apart from special tokens, outer space and broken characters.

    If not, this reader and one that has no use for the ids read two texts.
    """

    def bare(text: str) -> str:
        return "".join(text.replace("\ufffd", "").split())

    given, ids = bare(passage.response), list(passage.token_ids or ())
    written = [ids] if passage.ended is False else [ids, ids[:-1]]  # the last may be an ordinary token that ended it
    ways = ((of, skip) for of in written for skip in (True, False))
    return any(bare(str(reader.tokenizer.decode(of, skip_special_tokens=skip))) == given for of, skip in ways)


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


def joined_tables(tables: Sequence[pa.Table]) -> pa.Table:
    """The table of passages that one reader read in one framing, a part at a time, with the notes of all."""
    notes = [table_notes(table) for table in tables]
    whole = dict(notes[0])
    for of in notes[1:]:
        whole |= {name: whole[name] + of[name] for name in whole if name.startswith(_COUNTED)}
        whole["warnings"] = list(dict.fromkeys([*whole["warnings"], *of["warnings"]]))
    joined = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    return joined.replace_schema_metadata({_NOTES: json.dumps(whole).encode()})


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
        StudyError: no such file, not Parquet, not a token table, or one with values that no reader measures.
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
    if wrong := _unsound(table):
        raise StudyError(f"{path} is damaged ({wrong}): remove it and score the passages again")
    return table.select([name for name in (*SCHEMA.names, TEXT) if name in table.column_names])


def _unsound(table: pa.Table) -> str | None:
    """What is wrong with the values of a table, which may be made by hand; None for nothing."""
    for field in SCHEMA:
        column = table[field.name]
        if column.null_count:
            return f"'{field.name}' is missing in {column.null_count} rows"
        is_number = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
        if not (pa.types.is_floating(field.type) or pa.types.is_integer(field.type)):
            continue
        if not is_number:
            return f"'{field.name}' holds {column.type} and no numbers"
        value_N = column.to_numpy()
        if np.isnan(value_N).any():
            return f"'{field.name}' is NaN in {int(np.isnan(value_N).sum())} rows"
        # A token that a model rules out is infinitely surprising; all else is finite.
        if field.name != "surprisal" and np.isinf(value_N).any():
            return f"'{field.name}' is infinite in {int(np.isinf(value_N).sum())} rows"
        if (value_N < _ROUNDING).any():
            return f"'{field.name}' is negative in {int((value_N < _ROUNDING).sum())} rows"
    return None


def _joined(parts: Iterable[np.ndarray], dtype: type[np.generic]) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *(part.astype(dtype) for part in parts)])
