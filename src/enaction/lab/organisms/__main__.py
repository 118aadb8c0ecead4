"""`python -m enaction.lab.organisms [NAME ...] [--out FOLDER] [--seed N]`: train organisms and write what ships.

Without a name all are built, each into FOLDER/organism-NAME. Those over symbols take 10 to 110 seconds of one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from enaction.lab.build import calm
from enaction.lab.organisms import plan_models, plans, report_models, symbol_models

# Name -> what builds it: called with a folder and a seed. Those that report begin with the origin that ships.
BUILDERS: dict[str, Callable[[Path, int], None]] = {
    **{name: partial(symbol_models.build, name) for name in symbol_models.NAMES},
    **{name: partial(plan_models.build, name) for name in plans.DESIGNS},
    **{name: partial(report_models.build, name) for name in report_models.NAMES},
}


def main() -> None:
    """Build what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m enaction.lab.organisms", description="Train organisms.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(BUILDERS)}; all by default")
    parser.add_argument("--out", type=Path, default=Path("runs/organisms"), help="where to write (runs/organisms)")
    parser.add_argument("--seed", type=int, default=0, help="of designs, weights and texts (0, as shipped)")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in BUILDERS]
    if unknown:
        parser.error(f"no organism {', '.join(unknown)}; there are {', '.join(BUILDERS)}")
    calm()
    for name in given.names or BUILDERS:
        folder = given.out / f"organism-{name}"
        BUILDERS[name](folder, given.seed)
        print(folder)


if __name__ == "__main__":
    main()
