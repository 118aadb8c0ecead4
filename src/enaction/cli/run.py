"""`enaction run`: carry out a study."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from enaction.cli.showing import progress_bar

if TYPE_CHECKING:
    from enaction.findings import Finding
    from enaction.study.config import Study
    from enaction.study.store import Run

NPrompts = Annotated[
    int | None,
    typer.Option(min=2, help="Take so many of the study's prompts, spread evenly, instead of its n_prompts."),
]
Out = Annotated[Path | None, typer.Option(help="Run folder; runs/NAME by default. If it exists, the run resumes.")]
Workers = Annotated[
    int, typer.Option(min=1, help="Processes that share the cores; more than one pays for small models only.")
]
_COLUMNS = 100
AsJson = Annotated[bool, typer.Option("--json", help="Print the findings as JSON instead of tables.")]


def command(
    study: Annotated[Path, typer.Argument(help="Study file (YAML).")],
    out: Out = None,
    n_prompts: NPrompts = None,
    workers: Workers = 1,
    as_json: AsJson = False,
) -> None:
    """Sample, read, analyse and report a study; resumes by itself.

    Example: `enaction run studies/real.yaml --out runs/real`
    """
    from enaction.study.config import load_study

    chosen = load_study(study)
    if n_prompts is not None:
        chosen = chosen.model_copy(update={"n_prompts": n_prompts})
    run, findings = carry_out(chosen, out, workers)
    show(run, findings, as_json)


def carry_out(study: Study, out: Path | None, workers: int) -> tuple[Run, list[Finding]]:
    """Run a study with progress bars, analyse it, write findings and report."""
    from enaction import experiments
    from enaction.findings import write_findings
    from enaction.report import build_report
    from enaction.study.engine import planned_passages, run_study
    from enaction.study.store import Run

    folder = out or Path("runs") / study.name
    Run(folder).open(study)
    to_sample, to_read = planned_passages(study, Run(folder))
    with progress_bar() as bar:
        tasks = {
            "sampling": bar.add_task("sampling passages", total=to_sample, visible=to_sample > 0),
            "reading": bar.add_task("reading", total=to_read, visible=to_read > 0),
        }
        began_reading = False

        def report(phase: str, model: str, n: int) -> None:
            nonlocal began_reading
            if phase == "reading" and not began_reading:
                # Only now is it known which models have no template and read in one framing.
                began_reading = True
                bar.update(tasks["reading"], total=planned_passages(study, Run(folder))[1])
            bar.advance(tasks[phase], n)

        run = run_study(study, folder, workers=min(workers, os.cpu_count() or 1), report=report)
        for task in bar.tasks:  # texts can come out with fewer passages than planned
            bar.update(task.id, completed=task.total)
        analysing = bar.add_task("analysing", total=2)
        findings = experiments.analyse(study, run)
        bar.advance(analysing)
        write_findings(folder / "findings.json", findings)
        build_report(folder)
        bar.advance(analysing)
    return run, findings


def show(run: Run, findings: list[Finding], as_json: bool) -> None:
    """Print what a run found: tables, one sentence a finding, and where the report is."""
    from enaction.report import arc_table, critic_table, identity_table, matrix_table, sentences, split_table
    from enaction.report.pages import make_pages

    if as_json:
        typer.echo(json.dumps([vars(f) for f in findings], indent=1))
        return
    # The tables need a hundred columns; a narrower terminal wraps lines, which is better than losing digits.
    console = Console(highlight=False, width=max(_COLUMNS, Console().width))
    matrix = [f for f in findings if f.experiment == "matrix"]
    for table in (identity_table, matrix_table, arc_table, split_table, critic_table) if matrix else ():
        console.print(table(matrix))
        console.print()
    for sentence in sentences(matrix):
        console.print(f"- {sentence}", markup=False)
    for page in make_pages(findings).values():
        console.print(f"\n{page.title}: {page.question}", markup=False)
        for sentence in page.sentences:
            console.print(f"- {sentence}", markup=False)
    console.print(f"\nReport: {run.folder / 'report.html'}", markup=False, soft_wrap=True)
