"""Several ways to do one job, timed side by side, and the table of it.

Process CPU time on one thread, because other jobs on a machine change wall-clock time at will; the ways take turns, so
that what slows one round slows all; the first round is not counted. A speed is the ratio of medians against a baseline,
its range the slowest and the fastest round against the baseline's median.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "tokenizers", "enaction", "minicons", "lm-eval", "trl")


@dataclass(frozen=True)
class Row:
    """One way: median CPU seconds, and its speed against the baseline (2 = twice as fast)."""

    name: str
    seconds: float
    speed: float
    slowest: float
    fastest: float
    rounds: int


@dataclass(frozen=True)
class Table:
    """One job: its rows, the baseline first, and a line of what was given up or left out."""

    title: str
    note: str
    rows: list[Row]

    def markdown(self) -> str:
        lines = [
            f"### {self.title}",
            "",
            self.note,
            "",
            "| way | CPU s | speed | slowest-fastest |",
            "|---|---|---|---|",
        ]
        for row in self.rows:
            lines.append(f"| {row.name} | {row.seconds:.2f} | {row.speed:.2f} | {row.slowest:.2f}-{row.fastest:.2f} |")
        return "\n".join(lines) + "\n"


def installed(module: str) -> bool:
    """Whether a peer is there; says so in a line if not."""
    if importlib.util.find_spec(module) is not None:
        return True
    print(f"{module} is not installed and left out: pip install 'enaction[bench]'")
    return False


def race(title: str, note: str, ways: Mapping[str, Callable[[], object]], rounds: int) -> Table:
    """Time each way `rounds` times, by turns, after one round to warm up; the first way is the baseline."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            begin = time.process_time()
            way()
            if number:
                seconds[name].append(time.process_time() - begin)
    base = statistics.median(next(iter(seconds.values())))
    rows = [
        Row(name, statistics.median(s), base / statistics.median(s), base / max(s), base / min(s), rounds)
        for name, s in seconds.items()
    ]
    table = Table(title, note, rows)
    print(table.markdown(), flush=True)
    return table


def publish(name: str, about: str, tables: list[Table]) -> None:
    """Write benchmarks/results/NAME.md and NAME.json, with machine, versions and date."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    basis = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **versions,
    }
    RESULTS.mkdir(exist_ok=True)
    facts = ", ".join(f"{key} {value}" for key, value in basis.items())
    body = "\n".join(table.markdown() for table in tables)
    (RESULTS / f"{name}.md").write_text(f"# {name}\n\n{about}\n\n{facts}.\n\n{body}")
    data = {"basis": basis, "tables": [asdict(table) for table in tables]}
    (RESULTS / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
