"""`enaction score`: read passages with a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from enaction.cli import resuming
from enaction.cli.options import AsJson, Limit, Model, PromptColumn, ReaderOptions, Split, with_reader_options
from enaction.cli.showing import counting, literal, messages, print_json, remark
from enaction.words import Framing

if TYPE_CHECKING:
    import pyarrow as pa

    from enaction.passages import Passage
    from enaction.reader import Reader

_AVERAGED = ("entropy", "surprisal")


@with_reader_options
def command(
    passages: Annotated[
        str, typer.Argument(help="Passages: .jsonl, .json, .parquet, .csv, .txt, .eval (Inspect); a data set; `-`.")
    ],
    model: Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="Parquet (or .csv) file for the token table.")],
    framing: Annotated[
        Framing | None,
        typer.Option(help="assistant, user or none; by default assistant if there are a chat template and prompts."),
    ] = None,
    author: Annotated[
        str | None, typer.Option(help="Author of passages that name none; the file's name by default.")
    ] = None,
    prompt_column: PromptColumn = None,
    response_column: Annotated[str | None, typer.Option(help="Column or key of the responses.")] = None,
    split: Split = None,
    limit: Limit = None,
    window: Annotated[
        int | None,
        typer.Option(min=2, help="Read longer passages in sliding windows of N tokens, half a window apart."),
    ] = None,
    as_json: AsJson = False,
    *,
    reading: ReaderOptions,
) -> None:
    """Surprisal, entropy, varentropy and rank of every response token; prints a summary by author.

    Whole conversations (`messages`, or `conversations` as ShareGPT has it) are read at every turn of the assistant.
    A data set is a folder, or an id on the Hugging Face hub (ORG/NAME, ORG/NAME:CONFIG).
    Example: `enaction score ash.jsonl --model zoo:birch-rl -o tokens.parquet`
    """
    from enaction.files import require_place
    from enaction.passages import read_passages
    from enaction.tokens import default_framing, table_notes, write_token_table

    require_place(out, (".parquet", ".csv"))
    read = read_passages(
        passages,
        author=author,
        prompt_column=prompt_column,
        response_column=response_column,
        split=split,
        limit=limit,
    )
    reader = reading.load(model)
    framing = framing or default_framing(reader, read)
    tokens, n_parts = _read(reader, read, framing, window, out, model, reading.base)
    resuming.finish(out, lambda path: write_token_table(tokens, path), has_parts=n_parts > 1)
    means, notes = _means(tokens, read), table_notes(tokens)
    if as_json:
        print_json(
            {
                "model": reader.name,
                "framing": framing,
                "authors": means,
                "cautions": _told(notes, window),
                "definitions": _DEFINITIONS,
                "files": {"tokens": str(out)},
            }
        )
        return
    summary = Table(
        title=literal(f"{reader.name} reads, framing {framing}: means over tokens without end-of-turn"),
        title_justify="left",
    )
    for heading in ("author", "passages", "tokens", "entropy (nats)", "surprisal (nats)"):
        summary.add_column(heading, justify="left" if heading == "author" else "right")
    for row in means:
        shown = ["nothing to read" if row[c] is None else f"{row[c]:.3f}" for c in ("entropy", "surprisal")]
        summary.add_row(literal(row["author"]), str(row["passages"]), str(row["tokens"]), *shown)
    messages(soft_wrap=True).print(summary)
    for line in _told(notes, window):
        remark(line)
    remark(f"token table: {out}")


def _read(
    reader: Reader,
    passages: Sequence[Passage],
    framing: Framing,
    window: int | None,
    out: Path,
    model: str,
    base: Path | None,
) -> tuple[pa.Table, int]:
    """The token table, read in parts that are kept until it is whole, and how many these were."""
    from enaction.framing import frame
    from enaction.tokens import joined_tables, read_token_table, score_passages, write_token_table

    groups = resuming.grouped(passages, _length, resuming.tokens_of_part(reader))
    if len(groups) > 1:  # what cannot be read is found before anything is
        for passage in passages:
            framed = frame(reader.tokenizer, passage, framing)
            if window is None:
                reader.check_fits(framed)
    counts = [len(group) for group in groups]
    with counting(f"reading with {reader.name}", len(passages)) as bar:
        tables = resuming.in_parts(
            out,
            resuming.settings_of(reader, model, base, passages) | {"framing": framing, "window": window},
            counts,
            make=lambda number: score_passages(
                reader,
                groups[number],
                framing,
                window=window,
                progress=lambda done, _: bar.update(bar.task_ids[0], completed=sum(counts[:number]) + done),
            ),
            write=write_token_table,
            read=read_token_table,
        )
    return joined_tables(tables), len(tables)


def _length(passage: Passage) -> int:
    """About how many tokens a passage has with its prompt."""
    return 1 + (len(passage.response) + sum(len(message["content"]) for message in passage.prompt)) // 4


_DEFINITIONS = {
    "entropy": "mean over tokens without end-of-turn of the entropy of the distribution that predicted the token, nats",
    "surprisal": "mean over tokens without end-of-turn of minus the log-probability of the token, nats",
    "passages": "passages of the author that were given",
    "tokens": "their tokens without end-of-turn",
}


def _means(tokens: pa.Table, passages: Sequence[Passage]) -> list[dict[str, Any]]:
    """The summary, a row an author in input order; None as the mean of nothing."""
    import numpy as np

    author_N = np.array(tokens["author"].to_pylist())
    is_text_N = ~tokens["is_end"].to_numpy()
    rows = []
    for author in dict.fromkeys(p.author for p in passages):
        mask_N = (author_N == author) & is_text_N
        means = {c: float(tokens[c].to_numpy()[mask_N].mean()) if mask_N.any() else None for c in _AVERAGED}
        count = sum(p.author == author for p in passages)
        rows.append({"author": author, "passages": count, "tokens": int(mask_N.sum()), **means})
    return rows


def _told(notes: dict[str, Any], window: int | None) -> list[str]:
    """What a person should know about how the table was read, a line each; nothing about what is as it should be."""
    counted = {
        "passages_in_windows": f"are longer than {window} tokens and were read in windows",
        "passages_across_switch": "cross the length at which the model turns positions otherwise; their tokens were "
        "read as the model would write them",
        "passages_without_prompt": "have no prompt; their text alone was read",
        "passages_without_rows": "have no token to measure",
        "passages_by_text": "have token_ids of another tokenizer; their text was read",
        "passages_spelt_otherwise": "have token_ids that spell another text than their response; the ids were read",
        "passages_with_halves": "hold half of a character (\\ufffd), which nobody wrote so",
        "passages_with_special": "hold special tokens among their words, read as such",
    }
    lines = [f"{notes[name]} passages {words}" for name, words in counted.items() if notes[name]]
    return [*lines, *(f"warning: {warning}" for warning in notes["warnings"])]
