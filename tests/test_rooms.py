"""The rooms of the house: no import runs upward, and no two modules import each other, lazily or not."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import enaction

SOURCE = Path(enaction.__file__).parent
# From the ground up; a room may import itself and those before it. The picture of it is docs/architecture.md.
ROOMS = [
    *("words", "errors", "files", "lazy", "findings", "chart", "page", "passages", "world", "stats", "framing", "zoo"),
    *("reader", "endpoint", "rollouts", "doctor"),
    *("sampling", "continuing", "tokens", "audit", "check", "shown", "study", "analysis", "experiments", "paper"),
    *("report", "running", "lab", "integrations", "cli"),
]


def _imports() -> dict[str, set[str]]:
    """Module -> the modules of this package that it imports anywhere, also in functions and for types alone."""
    paths = {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in SOURCE.rglob("*.py")}
    modules = {
        name.removesuffix(".__init__"): path for name, path in paths.items() if name not in ("__init__", "__main__")
    }
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "enaction":
                of = (node.module or "").removeprefix("enaction").removeprefix(".")
                targets = [f"{of}.{alias.name}".removeprefix(".") for alias in node.names]
                graph[name] |= {target if target in modules else of for target in targets} - {""}
            elif isinstance(node, ast.Import):
                names = [alias.name.removeprefix("enaction.") for alias in node.names]
                graph[name] |= {target for target in names if target in modules}
    return graph


def test_every_room_is_known_and_in_the_picture() -> None:
    assert {name.split(".")[0] for name in _imports()} == set(ROOMS)
    picture = (SOURCE.parents[1] / "docs" / "architecture.md").read_text()
    assert [room for room in ROOMS if f"`{room}`" not in picture and f"`{room}/`" not in picture] == []


def test_no_import_runs_upward() -> None:
    upward = [
        f"{name} imports {target}"
        for name, targets in _imports().items()
        for target in sorted(targets)
        if ROOMS.index(target.split(".")[0]) > ROOMS.index(name.split(".")[0])
    ]
    assert upward == []


def test_no_modules_import_each_other() -> None:
    try:
        tuple(TopologicalSorter(_imports()).static_order())
    except CycleError as error:
        raise AssertionError(f"a circle of imports: {' <- '.join(error.args[1])}") from None
