"""A run for programs: what `--json` prints, as plain data.

The keys are a contract: new ones may come, and none is renamed or taken away.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from enaction.findings import Findings
from enaction.page import Statement
from enaction.paper.claims import Checked
from enaction.paper.verdict import Answer


def as_data(
    folder: Path,
    name: str,
    findings: Findings,
    *,
    answer: Answer,
    claims: Sequence[Checked],
    cautions: Sequence[Statement],
) -> dict[str, Any]:
    """The answer first, then cautions, claims, files and every number with its definition.

    Args:
        folder: of the run.
        name: of the study.
        findings: of all its experiments.
        answer, claims, cautions: what follows from them.
    """
    return {
        "study": name,
        "answer": [statement.sentence for statement in answer.sentences],
        "numbers": [
            {"label": key.label, "text": key.text, "reading": key.reading, "finding": vars(key.finding)}
            for key in answer.numbers
        ],
        "cautions": [statement.sentence for statement in cautions],
        "claims": [
            {"claim": item.claim.text, "source": item.claim.paper, "standing": item.standing, "words": item.words}
            for item in claims
        ],
        "files": {
            "folder": str(folder),
            "study": str(folder / "study.yaml"),
            "manifest": str(folder / "manifest.json"),
            "findings": str(folder / "findings.json"),
            "report": str(folder / "report.html"),
            "figures": [str(path) for path in sorted((folder / "figures").glob("*.svg"))],
            "passages": str(folder / "passages"),
            "tokens": str(folder / "tokens"),
            **({"measured": str(folder / "measured")} if (folder / "measured").exists() else {}),
        },
        "findings": [vars(finding) for finding in findings],
    }
