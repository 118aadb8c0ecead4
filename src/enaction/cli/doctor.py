"""`enaction doctor`: are a trainer's log-probabilities right, and which fault explains them if not?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from enaction.cli import completing
from enaction.cli.options import MODEL_HELP, AsJson, ReaderOptions, pairs, with_reader_options
from enaction.cli.showing import print_json, print_page, progress_bar, remark
from enaction.errors import UserError

if TYPE_CHECKING:
    from enaction.doctor import Diagnosis
    from enaction.doctor.settings import Settings
    from enaction.reader import Reader
    from enaction.rollouts import Rollout

# Rollouts that are read where nobody says how many: some hundred thousand tokens.
_LIMIT = 512


@with_reader_options
def command(
    rollouts: Annotated[str, typer.Argument(help="Rollouts: .jsonl, .json, .parquet of a trainer or sampler; `-`.")],
    model: Annotated[
        str | None,
        typer.Option(help=f"The model that sampled. {MODEL_HELP}", autocompletion=completing.models),
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(help="Other weights that may have sampled, as NAME=MODEL; may be repeated."),
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the sampler; by default what the file says.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Of the sampler; by default what the file says.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Of the sampler; by default what the file says.")] = None,
    noise: Annotated[
        float, typer.Option(help="Standard deviation of the log ratio that is no fault, nats a token.")
    ] = 0.05,
    level: Annotated[float, typer.Option(help="Chance of naming a fault where there is none.")] = 0.01,
    column: Annotated[
        list[str] | None,
        typer.Option(help="What a column means, as in trainer_logprobs=my_logps; may be repeated."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Take the first N rows only.")] = _LIMIT,
    html: Annotated[Path | None, typer.Option(help="Write the page as one HTML file too.")] = None,
    fail_on: Annotated[
        Literal["never", "fault"], typer.Option(help="`fault`: exit 1 if a fault is found, for scripts.")
    ] = "never",
    as_json: AsJson = False,
    *,
    reading: ReaderOptions,
) -> None:
    """Say whether the log-probabilities and entropies of rollouts are right, and name the fault if not.

    Compares sampler, trainer and, with --model, what the model says of the same tokens; docs/doctor.md has the faults.
    Example: `enaction doctor rollouts.jsonl --model zoo:ash-rl --temperature 0.6`
    """
    from enaction.doctor.page import as_data, page_of
    from enaction.doctor.settings import Settings
    from enaction.files import require_place

    settings = Settings(noise, level, temperature, top_p, top_k)
    if html is not None:
        require_place(html, (".html",))
    if checkpoint and model is None:
        raise UserError("--checkpoint names other weights than the model's: give --model too")
    others = pairs("--checkpoint", checkpoint or (), "step60=./checkpoint-60")
    batch = _read(rollouts, pairs("--column", column or (), "trainer_logprobs=my_logps"), limit)
    diagnosis = _diagnose(batch, settings, model, others, reading)
    page = page_of(diagnosis)
    if html is not None:
        from enaction.report.sheet import write_sheet

        write_sheet(page, html, about=rollouts)
    if as_json:
        print_json(as_data(diagnosis) | {"files": {"html": None if html is None else str(html)}})
    else:
        print_page(page)
        if html is not None:
            remark(f"page: {html}")
    if fail_on == "fault" and diagnosis.faults:
        raise typer.Exit(1)


def _read(path: str, columns: Mapping[str, str], limit: int) -> list[Rollout]:
    """The first rows of a file, with a word if there may be more."""
    from enaction.rollouts import read_rollouts

    rollouts = list(read_rollouts(path, columns=columns, limit=limit))
    if len(rollouts) >= limit:
        remark(f"the first {limit} rows are looked at (--limit)")
    return rollouts


def _diagnose(
    batch: Sequence[Rollout],
    settings: Settings,
    model: str | None,
    others: Mapping[str, str],
    reading: ReaderOptions,
) -> Diagnosis:
    from enaction.doctor import diagnose

    if model is None:
        return diagnose(batch, settings)
    from enaction.reader.sources import find, require

    for name in others.values():  # a wrong name is reported before anything is read
        require(find(name), base=reading.base)
    reader = reading.load(model)
    checkpoints: dict[str, Callable[[], Reader]] = {
        name: lambda name=name: reading.load(others[name]) for name in others
    }
    with progress_bar() as bar:
        task = bar.add_task("reading", total=None)

        def tell(what: str, done: int, total: int) -> None:
            bar.update(task, description=f"reading: {what}", completed=done, total=total)

        return diagnose(batch, settings, reader=reader, checkpoints=checkpoints, progress=tell)
