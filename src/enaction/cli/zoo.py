"""`enaction zoo`: the embedded models."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Column, Table

from enaction.cli import completing, stopping
from enaction.cli.options import AsJson, Base
from enaction.cli.showing import print_json, progress_bar, results
from enaction.cli.talking import with_talking_options
from enaction.errors import UserError

_Device = Literal["cpu", "cuda"]
EmbeddedName = Annotated[str, typer.Argument(help="Name, e.g. ash-rl.", autocompletion=completing.embedded)]

app = typer.Typer(help="The embedded models.", no_args_is_help=True, rich_markup_mode="markdown")


@app.command("list")
@with_talking_options
def list_models(as_json: AsJson = False) -> None:
    """List the embedded models. Example: `enaction zoo list`"""
    from enaction import zoo

    listed = zoo.names(everything=True)
    if as_json:
        facts = [{"name": n, "family": zoo.family(n), "stage": zoo.stage(n), "kind": zoo.kind(n)} for n in listed]
        print_json(facts)
        return
    table = Table(Column("name", no_wrap=True), "family", "stage", "kind", "description", "size")
    for name in listed:
        size = sum(file.stat().st_size for file in zoo.path(name).glob("*.safetensors")) / 1e6
        row = (f"zoo:{name}", zoo.family(name), zoo.stage(name), zoo.kind(name), zoo.note(name))
        table.add_row(*row, f"{size:.1f} MB")
    results().print(table)


@app.command("path")
@with_talking_options
def path(name: EmbeddedName) -> None:
    """Print the folder of an embedded model. Example: `enaction zoo path ash-rl`"""
    from enaction import zoo
    from enaction.reader.sources import embedded_name

    typer.echo(zoo.path(embedded_name(name)))


@app.command("card")
@with_talking_options
def card(name: EmbeddedName) -> None:
    """Print the card of an embedded model. Example: `enaction zoo card ash-rl`"""
    from enaction import zoo
    from enaction.reader.sources import embedded_name

    typer.echo(zoo.card(embedded_name(name)))


@app.command("build")
@with_talking_options
def build(
    out: Annotated[Path, typer.Option(help="Where to build; an interrupted build resumes.")] = Path("runs/zoo"),
    family: Annotated[list[str] | None, typer.Option(help="Only these families; by default all but smollm2.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Steps trained in parallel, one core each.")] = 2,
    all_arms: Annotated[bool, typer.Option(help="Also the arms of RL that do not ship.")] = False,
    device: Annotated[_Device, typer.Option(help="Where to train the families; weights differ in rounding.")] = "cpu",
    base: Base = None,
) -> None:
    """Retrain the embedded models from scratch, with fixed seeds; needs `pip install 'enaction[lab]'`.

    By default an hour on two cores. The finished models, as they would ship, are in OUT/models. A near-clone (ash2)
    needs its family's base, which is trained with it. `--family smollm2` trains the adapters of the real model: two
    core-hours, most of which two processes can share. Example: `enaction zoo build --out runs/zoo --family ash`
    """
    missing = [package for package in ("trl", "peft") if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"training needs {' and '.join(missing)}, not installed: pip install 'enaction[lab]'")
    from enaction.lab import adapting
    from enaction.lab.recipes import RECIPES

    families = family or list(RECIPES)
    unknown = [name for name in families if name not in (*RECIPES, adapting.FAMILY)]
    if unknown:
        raise UserError(f"no family {', '.join(unknown)}; the families are {', '.join(RECIPES)} and {adapting.FAMILY}")
    stopping.explain(f"finished steps are kept in {out}, and the same command resumes from there")
    if adapting.FAMILY in families:
        families.remove(adapting.FAMILY)
        _build_adapters(out, base, jobs)
    if families:
        _build_families(out, families, jobs, all_arms=all_arms, device=device)
    results().print(f"models: {out / 'models'}", markup=False, soft_wrap=True)


def _build_families(out: Path, families: list[str], jobs: int, *, all_arms: bool, device: _Device) -> None:
    from enaction.lab.build import ordered_steps, planned_steps, train
    from enaction.lab.export import export
    from enaction.lab.recipes import RECIPES

    with progress_bar() as bar:
        tasks = {
            (name, step): bar.add_task(f"{name} {step}", total=planned_steps(RECIPES[name], all_arms=all_arms)[step])
            for name, step in ordered_steps(families, all_arms=all_arms)
        }

        def report(name: str, step: str, done: int, _: int) -> None:
            bar.update(tasks[name, step], completed=done)

        train(out, families, jobs, report, all_arms=all_arms, device=device)
        exporting = bar.add_task("cards", total=len(families))
        for name in families:
            export(RECIPES[name], out, out / "models")
            bar.advance(exporting)


def _build_adapters(out: Path, base: Path | None, jobs: int) -> None:
    from enaction.lab.adapter_build import planned_steps, train
    from enaction.lab.adapter_export import export
    from enaction.lab.adapting import smollm2

    plan = smollm2()
    with progress_bar() as bar:
        tasks = {
            step: bar.add_task(f"{plan.family} {step}", total=total) for step, total in planned_steps(plan).items()
        }
        train(plan, out, base, jobs, lambda _, step, done, __: bar.update(tasks[step], completed=done))
        exporting = bar.add_task("cards", total=len(plan.stages()))
        export(plan, out, out / "models", base, progress=lambda: bar.advance(exporting))
