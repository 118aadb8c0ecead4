"""`enaction sample`: passages of a model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enaction.cli import resuming
from enaction.cli.options import (
    AsJson,
    Limit,
    ModelOrEndpoint,
    PromptColumn,
    ReaderOptions,
    Split,
    Tokenizer,
    WrittenIn,
    with_reader_options,
)
from enaction.cli.showing import counting, print_json, remark
from enaction.errors import UserError

if TYPE_CHECKING:
    from enaction.endpoint import EndpointReader
    from enaction.passages import Passage
    from enaction.reader import Reader

# Full batches of responses in a part, which is kept when the command is stopped.
_BATCHES = 4
# Requests to a server at a time.
_MOST_REQUESTS = 32


@with_reader_options
def command(
    model: ModelOrEndpoint,
    prompts: Annotated[
        str, typer.Option(help="Prompts: .jsonl, .json, .parquet, .csv, .txt; a data set; `-`; or `zoo`.")
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="JSONL (or .parquet) file; `-` is stdout.")] = "-",
    n: Annotated[int, typer.Option("-n", min=1, help="Responses to each prompt.")] = 1,
    temperature: Annotated[float, typer.Option(help="1 is the model's own distribution, 0 is greedy.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Nucleus; 1 keeps the full support.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Cut off here.")] = 256,
    framing: WrittenIn = None,
    seed: Annotated[int, typer.Option(help="Of all random numbers.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Responses sampled together.")] = 64,
    tokenizer: Tokenizer = None,
    author: Annotated[str | None, typer.Option(help="Author's name in the passages; the model by default.")] = None,
    prompt_column: PromptColumn = None,
    split: Split = None,
    limit: Limit = None,
    as_json: AsJson = False,
    *,
    reading: ReaderOptions,
) -> None:
    """Sample passages with their token ids and log-probabilities.

    Of whole conversations, what comes before the last reply is the prompt; of plain text, each line. A data set is a
    folder, or an id on the Hugging Face hub (ORG/NAME, ORG/NAME:CONFIG). A server's model is sampled from as
    openai:http://HOST/v1#MODEL, if the server returns token ids (vLLM); docs/endpoints.md.
    Example: `enaction sample --model zoo:ash-rl --prompts zoo -n 2 -o ash.jsonl`
    """
    from enaction import zoo
    from enaction.files import require_place
    from enaction.passages import read_passages, read_prompts, write_passages

    if as_json and out == "-":
        raise UserError("--json prints a summary where the passages would go: give a file with --out")
    if out != "-":
        require_place(Path(out), (".jsonl", ".ndjson", ".parquet"))
    if prompts == "zoo":
        chosen = zoo.prompts()[:limit]
    else:
        chosen = read_prompts(prompts, column=prompt_column, split=split, limit=limit)
    reader, write = _author(model, tokenizer, reading, batch_size)
    given = {
        "n": n,
        "temperature": temperature,
        "top_p": top_p,
        "max_new_tokens": max_new_tokens,
        "framing": framing,
        "seed": seed,
        "author": author,
    }
    # Standard output has no place for parts; elsewhere each is a few full batches.
    most = len(chosen) * n if out == "-" else _BATCHES * batch_size
    groups = resuming.grouped(chosen, lambda _: n, most)
    counts = [n * len(group) for group in groups]
    with counting(f"sampling {reader.name}", sum(counts)) as bar:
        parts = resuming.in_parts(
            Path(out),
            resuming.settings_of(reader, model, reading.base, chosen) | given,
            counts,
            make=lambda number: write(
                groups[number],
                **given,
                progress=lambda done, _: bar.update(bar.task_ids[0], completed=sum(counts[:number]) + done),
            ),
            write=write_passages,
            read=read_passages,
        )
    passages = [passage for part in parts for passage in part]
    if out == "-":
        write_passages(passages, out)
    else:
        resuming.finish(Path(out), lambda path: write_passages(passages, path), has_parts=len(parts) > 1)
    halves = sum("\ufffd" in passage.response for passage in passages)
    cut_off = sum(passage.ended is False for passage in passages)
    if as_json:
        print_json(
            {
                "model": reader.name,
                "prompts": len(chosen),
                "passages": len(passages),
                "passages_cut_off": cut_off,
                "passages_with_halves": halves,
                "cautions": list(reader.doubts),
                "files": {"passages": out},
            }
        )
        return
    if cut_off:
        remark(f"cut off at {max_new_tokens} tokens: {cut_off} of {len(passages)} responses (--max-new-tokens)")
    if halves:
        remark(
            f"{halves} responses hold half of a character (cut off inside one, say); other readers see \\ufffd there"
        )
    if any(p.logprobs is None for p in passages):
        remark("no log-probabilities: the server reports those before temperature and top-p, not those drawn from")
    if out != "-":
        remark(f"passages: {out}")


def _author(
    model: str, tokenizer: str | None, reading: ReaderOptions, batch_size: int
) -> tuple[Reader | EndpointReader, Callable[..., list[Passage]]]:
    """Who writes, and the function that samples from it; an endpoint or a model that is loaded here."""
    from enaction.reader.sources import find

    if find(model).kind == "endpoint":
        author = reading.open(model, tokenizer, concurrency=min(batch_size, _MOST_REQUESTS))
        from enaction.endpoint import sample as write

        return author, partial(write, author)
    if tokenizer is not None:
        raise UserError(f"--tokenizer is for endpoints (openai:...): {model} has its own; leave it out")
    reader = reading.load(model)
    from enaction.sampling import sample  # imported late: a wrong name is reported without torch

    return reader, partial(sample, reader, batch_size=batch_size)
