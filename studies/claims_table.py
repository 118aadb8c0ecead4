"""Print what finished runs say to the paper's claims, and how often null runs get one, as the tables of
docs/claims.md and docs/mechanism.md.

    python studies/claims_table.py runs/behaviour runs/real runs/real-personas

Each run is opened, not made: `enaction run studies/behaviour.yaml` makes one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from enaction.paper.claims import CLAIMS
from enaction.running import open_run


def table_of_runs(folders: Sequence[Path]) -> str:
    """A row a claim, a column a run."""
    runs = [open_run(folder) for folder in folders]
    said = [{item.claim.text: f"**{item.standing}**: {item.words}" for item in run.claims()} for run in runs]
    texts = dict.fromkeys(text for of_run in said for text in of_run)
    rows = [
        ["claim", *(f"{run.study.name}, {_prompts(run.study.n_prompts)}" for run in runs)],
        ["---"] * (len(runs) + 1),
        *([text, *(of_run.get(text, "") for of_run in said)] for text in texts),
    ]
    return _markdown(rows)


def table_of_nulls() -> str:
    """A row a claim, a column a kind of null; the last row is any of them."""
    kinds = json.loads((resources.files("enaction.paper") / "familywise.json").read_text())["kinds"]
    rows = [
        ["at least partly", *(kind["kind"] for kind in kinds)],
        ["---"] * (len(kinds) + 1),
        *([c.text, *(_share(kind["claims"][c.text], c.is_absence) for kind in kinds)] for c in CLAIMS),
        ["**any that is no absence**", *(f"**{k['rate']:.3f}** [{k['low']:.3f}, {k['high']:.3f}]" for k in kinds)],
    ]
    return _markdown(rows)


def _share(share: float, is_absence: bool) -> str:
    return f"{share:.3f} (true of clones)" if is_absence else f"{share:.3f}"


def _prompts(n: int | None) -> str:
    return "all prompts" if n is None else f"{n} prompts"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    print(table_of_nulls(), end="\n\n")
    if sys.argv[1:]:
        print(table_of_runs([Path(name) for name in sys.argv[1:]]), end="\n\n")
    print(f"`{' '.join(['python studies/claims_table.py', *sys.argv[1:]])}`, {time.strftime('%Y-%m-%d')}.")
