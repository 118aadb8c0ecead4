"""`enaction report`: rebuild figures and report of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(run: Annotated[Path, typer.Argument(help="Run folder.")]) -> None:
    """Analyse the token tables of a run again and rebuild findings.json, figures and report.html.

    Example: `enaction report runs/demo`
    """
    from enaction import experiments
    from enaction.findings import write_findings
    from enaction.report import build_report
    from enaction.study.store import Run

    opened = Run(run)
    study = opened.study()
    write_findings(run / "findings.json", experiments.analyse(study, opened))
    typer.echo(build_report(run))
