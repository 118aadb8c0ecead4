"""`enaction run`: carry out a study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enaction.cli.showing import phases

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
AsJson = Annotated[bool, typer.Option("--json", help="Print the findings as JSON instead of tables.")]
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
    from enaction.running import load_study, run

    chosen = load_study(study)
    if n_prompts is not None:
        chosen = chosen.model_copy(update={"n_prompts": n_prompts})
    with phases() as progress:
        finished = run(chosen, out, workers=workers, progress=progress)
    show(finished, as_json=as_json, full=full)


def show(finished: FinishedRun, *, as_json: bool = False, full: bool = False) -> None:
    """Print what a run found, the answer first, and where the report is."""
    if as_json:
        typer.echo(json.dumps([vars(f) for f in finished.findings], indent=1))
        return
    from enaction.report import show as show_pages

    show_pages(
        finished.pages(), answer=finished.answer(), claims=finished.claims(), cautions=finished.cautions(), full=full
    )
    typer.echo(f"Report: {finished.folder / 'report.html'}")
