"""`enaction score`: read passages with a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from enaction.cli.options import Model, ReaderOptions, with_reader_options
from enaction.cli.showing import counting


@with_reader_options
def command(
    passages: Annotated[str, typer.Argument(help="JSONL file of passages, or `-` for stdin.")],
    model: Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="Parquet file for the token table.")],
    framing: Annotated[
        Literal["assistant", "user", "none"], typer.Option(help="assistant, user or none.")
    ] = "assistant",
    window: Annotated[
        int | None,
        typer.Option(min=2, help="Read longer passages in sliding windows of N tokens, half a window apart."),
    ] = None,
    *,
    reading: ReaderOptions,
) -> None:
    """Surprisal, entropy, varentropy and rank of every response token; prints a summary by author.

    Example: `enaction score ash.jsonl --model zoo:birch-rl -o tokens.parquet`
    """
    import numpy as np

    from enaction.passages import read_passages
    from enaction.tokens import score_passages, table_notes, write_token_table

    read = read_passages(passages)
    reader = reading.load(model)
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
        title=f"{reader.name} reads, framing {framing}: means over tokens without end-of-turn", title_justify="left"
    )
    for heading in ("author", "passages", "tokens", "entropy (nats)", "surprisal (nats)"):
        summary.add_column(heading, justify="left" if heading == "author" else "right")
    author_N = np.array(tokens["author"].to_pylist())
    is_text_N = ~tokens["is_end"].to_numpy()
    for author in dict.fromkeys(p.author for p in read):
        mask = (author_N == author) & is_text_N
        n_passages = sum(p.author == author for p in read)
        means = [tokens[c].to_numpy()[mask].mean() if mask.any() else float("nan") for c in ("entropy", "surprisal")]
        summary.add_row(author, str(n_passages), str(int(mask.sum())), *(f"{m:.3f}" for m in means))
    console = Console(stderr=True)
    console.print(summary)
    in_windows = table_notes(tokens)["passages_in_windows"]
    if in_windows:
        console.print(f"{in_windows} passages are longer than {window} tokens and were read in windows")
    console.print(f"token table: {out}", soft_wrap=True)
