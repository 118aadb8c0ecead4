"""`enaction report`: rebuild figures and report of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from enaction.cli import stopping
from enaction.cli.options import AsJson
from enaction.cli.run import Full, show


def command(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    png: Annotated[bool, typer.Option("--png", help="Write the figures as PNG too, beside SVG.")] = False,
    as_json: AsJson = False,
    full: Full = False,
) -> None:
    """Analyse the token tables of a run again and rebuild findings.json, figures and report.html.

    Example: `enaction report runs/demo --png`
    """
    from enaction.running import analyse_again

    stopping.explain(f"{run} keeps its passages and token tables; the same command makes the report anew")
    show(analyse_again(run, png=png), as_json=as_json, full=full)
