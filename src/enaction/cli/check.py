"""`enaction check`: tests whether a model is read as it predicts, and to within how much."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from enaction.cli.options import AsJson, ModelArgument, ReaderOptions, WrittenIn, with_reader_options
from enaction.cli.showing import counting, literal, print_json, results

if TYPE_CHECKING:
    from enaction.check import CheckReport

MARKS = {True: "[green]pass[/]", False: "[bold red]FAIL[/]", None: "[dim]note[/]"}


@with_reader_options
def command(
    model: ModelArgument,
    framing: WrittenIn = None,
    *,
    reading: ReaderOptions,
    as_json: AsJson = False,
) -> None:
    """Show facts about a model and test it on text that it writes; exit 1 if a test fails.

    Sixteen samples of 48 tokens are written and read back. Tested: the head against the model's own logits, statistics
    against float64, batches, causality, the identity of surprisal and entropy on own text, the cache, the template.
    Example: `enaction check zoo:ash-rl`
    """
    from enaction.reader.sources import find

    reader = reading.load(model)
    from enaction.check import check, everyday_prompts  # imported late: a wrong name is reported without torch

    prompts = everyday_prompts()
    own_prompts = find(model).own_prompts()
    if own_prompts is not None:
        prompts = own_prompts[:: max(1, len(own_prompts) // len(prompts))][: len(prompts)]
    with counting(f"checking {reader.name}", len(prompts)) as bar:
        report = check(
            reader,
            prompts,
            framing=framing,
            progress=lambda done, total: bar.update(bar.task_ids[0], completed=done, total=total),
        )
    if as_json:
        print_json(_as_json(report))
    else:
        _show(report)
    if not report.is_right:
        raise typer.Exit(1)


def _show(report: CheckReport) -> None:
    console = results()
    facts = Table(title=literal(f"{report.model}: facts"), title_justify="left", show_header=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in report.facts.items():
        facts.add_row(name, literal(value))
    tests = Table(title="what was tested", title_justify="left", show_header=False)
    for _ in range(2):
        tests.add_column(no_wrap=True)
    tests.add_column(overflow="fold")
    for test in report.tests:
        tests.add_row(MARKS[test.passed], test.name, literal(test.shown))
    console.print(facts, tests)
    for warning in report.warnings:
        console.print(literal(f"warning: {warning}"), style="yellow")
    failed = [test.name for test in report.tests if test.passed is False]
    if failed:
        console.print(literal(f"{report.model} is not read exactly as it is: {'; '.join(failed)}"))
    else:
        within = "" if report.error is None else f" to within {_rounded_up(report.error)} nats"
        console.print(literal(f"{report.model} is read{within}: nothing failed"))


def _rounded_up(error: float) -> str:
    """One digit, never less than the error."""
    if error <= 0:
        return "0"
    unit = 10.0 ** math.floor(math.log10(error))
    rounded = math.ceil(error / unit - 1e-9) * unit
    return f"{rounded:.0e}" if error < 1e-3 else f"{rounded:.1g}"


def _as_json(report: CheckReport) -> dict[str, object]:
    return {
        "model": report.model,
        "framing": report.framing,
        "is_right": report.is_right,
        "error": report.error,
        "warnings": list(report.warnings),
        "facts": report.facts,
        "tests": [
            {"name": t.name, "passed": t.passed, "shown": t.shown, "value": t.value, "limit": t.limit}
            for t in report.tests
        ],
    }
