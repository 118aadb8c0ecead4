"""`enaction report`: rebuild figures and report of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    png: Annotated[bool, typer.Option("--png", help="Write the figures as PNG too, beside SVG.")] = False,
) -> None:
    """Analyse the token tables of a run again and rebuild findings.json, figures and report.html.

    Example: `enaction report runs/demo --png`
    """
    from enaction.running import analyse_again

    typer.echo(analyse_again(run, png=png).folder / "report.html")
