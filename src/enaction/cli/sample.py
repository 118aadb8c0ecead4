"""`enaction sample`: passages of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from enaction.cli.options import Limit, Model, PromptColumn, ReaderOptions, WrittenIn, with_reader_options
from enaction.cli.showing import counting


@with_reader_options
def command(
    model: Model,
    prompts: Annotated[str, typer.Option(help="Prompts: .jsonl, .json, .parquet, .csv, .txt; `-` is stdin; or `zoo`.")],
    out: Annotated[str, typer.Option("--out", "-o", help="JSONL (or .parquet) file; `-` is stdout.")] = "-",
    n: Annotated[int, typer.Option("-n", min=1, help="Responses to each prompt.")] = 1,
    temperature: Annotated[float, typer.Option(help="1 is the model's own distribution, 0 is greedy.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Nucleus; 1 keeps the full support.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Cut off here.")] = 256,
    framing: WrittenIn = None,
    seed: Annotated[int, typer.Option(help="Of all random numbers.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Responses sampled together.")] = 64,
    author: Annotated[str | None, typer.Option(help="Author's name in the passages; the model by default.")] = None,
    prompt_column: PromptColumn = None,
    limit: Limit = None,
    *,
    reading: ReaderOptions,
) -> None:
    """Sample passages with their token ids and log-probabilities.

    Of whole conversations, what comes before the last reply is the prompt; of plain text, each line.
    Example: `enaction sample --model zoo:ash-rl --prompts zoo -n 2 -o ash.jsonl`
    """
    from enaction import zoo
    from enaction.files import require_place
    from enaction.passages import read_prompts, write_passages

    if out != "-":
        require_place(Path(out), (".jsonl", ".ndjson", ".parquet"))
    chosen = (zoo.prompts() if prompts == "zoo" else read_prompts(prompts, column=prompt_column))[:limit]
    reader = reading.load(model)
    from enaction.sampling import sample  # imported late: a wrong name is reported without torch

    with counting(f"sampling {reader.name}", len(chosen) * n) as bar:
        passages = sample(
            reader,
            chosen,
            n=n,
            temperature=temperature,
            top_p=top_p,
            max_new_tokens=max_new_tokens,
            framing=framing,
            seed=seed,
            batch_size=batch_size,
            author=author,
            progress=lambda done, _: bar.update(bar.task_ids[0], completed=done),
        )
    write_passages(passages, out if out == "-" else Path(out))
    halves = sum("\ufffd" in passage.response for passage in passages)
    if halves:
        Console(stderr=True).print(
            f"{halves} responses hold half of a character (cut off inside one, say); other readers see \\ufffd there",
            markup=False,
        )
