"""`enaction run`: carry out a study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enaction.cli import stopping
from enaction.cli.options import AsJson
from enaction.cli.showing import phases, print_json, results

if TYPE_CHECKING:
    from enaction.running import FinishedRun

NPrompts = Annotated[
    int | None,
    typer.Option(min=2, help="Take N of the study's prompts, spread evenly, instead of its n_prompts."),
]
Out = Annotated[Path | None, typer.Option(help="Run folder; runs/NAME by default. If it exists, the run resumes.")]
Workers = Annotated[
    int, typer.Option(min=1, help="Processes that share the cores; more than one pays for small models only.")
]
Full = Annotated[bool, typer.Option("--full", help="Print the tables and sentences of every experiment too.")]


def command(
    study: Annotated[Path, typer.Argument(help="Study file (YAML).")],
    out: Out = None,
    n_prompts: NPrompts = None,
    workers: Workers = 1,
    as_json: AsJson = False,
    full: Full = False,
) -> None:
    """Sample, read, analyse and report a study; resumes by itself.

    Example: `enaction run studies/real.yaml --out runs/real`
    """
    carry_out(study, out, n_prompts=n_prompts, workers=workers, as_json=as_json, full=full)


def carry_out(
    study: Path, out: Path | None, *, n_prompts: int | None = None, workers: int, as_json: bool, full: bool
) -> None:
    """Carry out a study file and print what it found."""
    from enaction.running import load_study, run

    chosen = load_study(study)
    if n_prompts is not None:
        chosen = chosen.model_copy(update={"n_prompts": n_prompts})
    folder = out or Path("runs") / chosen.name
    stopping.explain(f"what is finished is kept in {folder}, and the same command resumes it")
    with phases() as progress:
        finished = run(chosen, folder, workers=workers, progress=progress)
    show(finished, as_json=as_json, full=full)


def show(finished: FinishedRun, *, as_json: bool = False, full: bool = False) -> None:
    """Print what a run found, the answer first, and where the report is."""
    said = {"answer": finished.answer(), "claims": finished.claims(), "cautions": finished.cautions()}
    if as_json:
        from enaction.report.data import as_data

        print_json(as_data(finished.folder, finished.study.name, finished.findings, **said))
        return
    from enaction.report.terminal import WIDTH
    from enaction.report.terminal import show as show_pages

    console = results(highlight=False)
    console.width = max(WIDTH, console.width)
    show_pages(finished.pages(), console, **said, full=full)
    console.print(f"Report: {finished.folder / 'report.html'}", markup=False, soft_wrap=True)
