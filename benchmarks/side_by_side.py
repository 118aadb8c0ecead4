"""Several ways to do one job, timed side by side, and the table of it.

Process CPU time on one thread, because other jobs on a machine change wall-clock time at will; the ways take turns, so
that what slows one round slows all; the first round is not counted. A speed is the ratio of medians against a baseline,
its range the slowest and the fastest round against the baseline's median. Memory is the peak of the first round beyond
what the process held before it.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import importlib.metadata
import importlib.util
import json
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "tokenizers", "enaction", "minicons", "lm-eval", "trl")


@dataclass(frozen=True)
class Row:
    """One way: median CPU seconds, its speed against the baseline (2 = twice as fast), and its peak of memory beyond
    what was held before, MiB (None where Linux does not tell)."""

    name: str
    seconds: float
    speed: float
    slowest: float
    fastest: float
    rounds: int
    extra_mib: float | None


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
            "| way | CPU s | speed | slowest-fastest | extra MiB |",
            "|---|---|---|---|---|",
        ]
        for row in self.rows:
            extra = "" if row.extra_mib is None else f"{row.extra_mib:.0f}"
            speed = f"{row.speed:.2f} | {row.slowest:.2f}-{row.fastest:.2f}"
            lines.append(f"| {row.name} | {row.seconds:.2f} | {speed} | {extra} |")
        return "\n".join(lines) + "\n"


# By name: what makes tables in so many rounds, and how many.
Jobs = dict[str, tuple[Callable[[int], list[Table]], int]]


def installed(module: str) -> bool:
    """Whether a peer is there; says so in a line if not."""
    if importlib.util.find_spec(module) is not None:
        return True
    print(f"{module} is not installed and left out: pip install 'enaction[bench]'")
    return False


def race(title: str, note: str, ways: Mapping[str, Callable[[], object]], rounds: int) -> Table:
    """Time each way `rounds` times, by turns, after one round to warm up; the first way is the baseline."""
    extra = {name: extra_mib(way) for name, way in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begin = time.process_time()
            way()
            seconds[name].append(time.process_time() - begin)
    base = statistics.median(next(iter(seconds.values())))
    rows = [
        Row(name, statistics.median(s), base / statistics.median(s), base / max(s), base / min(s), rounds, extra[name])
        for name, s in seconds.items()
    ]
    table = Table(title, f"{note} Rounds: {rounds}.", rows)
    print(table.markdown(), flush=True)
    return table


def extra_mib(way: Callable[[], object]) -> float | None:
    """Peak MiB of one run beyond what this process holds before it; None where Linux does not tell."""
    peak = Path("/proc/self/clear_refs")
    if not peak.exists():
        way()
        return None
    ctypes.CDLL(None).malloc_trim(0)  # what is free already would hide what is needed
    peak.write_text("5")  # the peak starts from here
    before = _resident_kib("VmRSS")
    way()
    return (_resident_kib("VmHWM") - before) / 1024


def _resident_kib(field: str) -> int:
    found = re.search(rf"{field}:\s*(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def main(name: str, about: str, jobs: Jobs, description: str | None) -> None:
    """The command line of a benchmark that consists of jobs."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, help="of each way; by default some minutes in all")
    parser.add_argument("--only", nargs="+", choices=jobs, help="these models alone; the tables of others stay")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tables = []
    for key in options.only or jobs:
        job, rounds = jobs[key]
        tables += job(options.rounds or rounds)
    publish(name, about, tables, is_partial=bool(options.only))


def publish(name: str, about: str, tables: Sequence[Table], *, is_partial: bool = False) -> None:
    """Write benchmarks/results/NAME.md and NAME.json, with machine, versions and date.

    If `is_partial`, tables that are there and were measured on the same basis stay where no new one has their title.
    """
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
    document = RESULTS / f"{name}.json"
    if is_partial and document.exists():
        before = json.loads(document.read_text())
        if before["basis"] == basis:
            titles = {table.title for table in tables}
            kept = [Table(t["title"], t["note"], [Row(**row) for row in t["rows"]]) for t in before["tables"]]
            tables = [*(table for table in kept if table.title not in titles), *tables]
    facts = ", ".join(f"{key} {value}" for key, value in basis.items())
    body = "\n".join(table.markdown() for table in tables)
    (RESULTS / f"{name}.md").write_text(f"# {name}\n\n{about}\n\n{facts}.\n\n{body}")
    data = {"basis": basis, "tables": [asdict(table) for table in tables]}
    document.write_text(json.dumps(data, indent=1) + "\n")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
