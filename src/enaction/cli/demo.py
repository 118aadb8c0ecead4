"""`enaction demo`: the whole story on the embedded models."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from enaction.cli.options import AsJson
from enaction.cli.run import Full, Out, carry_out


def command(out: Out = None, as_json: AsJson = False, full: Full = False) -> None:
    """Watch a small family of models pass from simulation to enaction, in minutes on a laptop.

    Samples fresh passages from every embedded model, reads them all with all as assistant turn, user turn and without
    template, and prints what that says, with intervals and nulls. Example: `enaction demo --out runs/demo`
    """
    study = Path(str(resources.files("enaction.study") / "shipped" / "demo.yaml"))
    carry_out(study, out, workers=os.cpu_count() or 1, as_json=as_json, full=full)
