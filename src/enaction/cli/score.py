"""`enaction score`: read passages with a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from enaction.cli.options import Limit, Model, PromptColumn, ReaderOptions, with_reader_options
from enaction.cli.showing import counting, literal
from enaction.words import Framing


@with_reader_options
def command(
    passages: Annotated[str, typer.Argument(help="Passages: .jsonl, .json, .parquet, .csv, .txt; `-` is stdin.")],
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
    limit: Limit = None,
    window: Annotated[
        int | None,
        typer.Option(min=2, help="Read longer passages in sliding windows of N tokens, half a window apart."),
    ] = None,
    *,
    reading: ReaderOptions,
) -> None:
    """Surprisal, entropy, varentropy and rank of every response token; prints a summary by author.

    Whole conversations (`messages`, or `conversations` as ShareGPT has it) are read at every turn of the assistant.
    Example: `enaction score ash.jsonl --model zoo:birch-rl -o tokens.parquet`
    """
    import numpy as np

    from enaction.files import require_place
    from enaction.passages import read_passages
    from enaction.tokens import default_framing, score_passages, table_notes, write_token_table

    require_place(out, (".parquet", ".csv"))
    read = read_passages(passages, author=author, prompt_column=prompt_column, response_column=response_column)[:limit]
    reader = reading.load(model)
    framing = framing or default_framing(reader, read)
    with counting(f"reading with {reader.name}", len(read)) as bar:
        tokens = score_passages(
            reader,
            read,
            framing,
            window=window,
            progress=lambda done, _: bar.update(bar.task_ids[0], completed=done),
        )
    write_token_table(tokens, out)
    summary = Table(
        title=literal(f"{reader.name} reads, framing {framing}: means over tokens without end-of-turn"),
        title_justify="left",
    )
    for heading in ("author", "passages", "tokens", "entropy (nats)", "surprisal (nats)"):
        summary.add_column(heading, justify="left" if heading == "author" else "right")
    author_N = np.array(tokens["author"].to_pylist())
    is_text_N = ~tokens["is_end"].to_numpy()
    for author in dict.fromkeys(p.author for p in read):
        mask = (author_N == author) & is_text_N
        n_passages = sum(p.author == author for p in read)
        means = [tokens[c].to_numpy()[mask] for c in ("entropy", "surprisal")]
        shown = [f"{m.mean():.3f}" if mask.any() else "nothing to read" for m in means]
        summary.add_row(literal(author), str(n_passages), str(int(mask.sum())), *shown)
    console = Console(stderr=True, soft_wrap=True)
    console.print(summary)
    for line in _told(table_notes(tokens), window):
        console.print(literal(line))
    console.print(literal(f"token table: {out}"))


def _told(notes: dict[str, Any], window: int | None) -> list[str]:
    """What a person should know about how the table was read, a line each; nothing about what is as it should be."""
    counted = {
        "passages_in_windows": f"are longer than {window} tokens and were read in windows",
        "passages_across_switch": "cross the length at which the model turns positions otherwise; their tokens were "
        "read as the model would write them",
        "passages_without_rows": "have no token to measure",
        "passages_by_text": "have token_ids of another tokenizer; their text was read",
        "passages_with_halves": "hold half of a character (\\ufffd), which nobody wrote so",
        "passages_with_special": "hold special tokens among their words, read as such",
    }
    lines = [f"{notes[name]} passages {words}" for name, words in counted.items() if notes[name]]
    return [*lines, *(f"warning: {warning}" for warning in notes["warnings"])]
