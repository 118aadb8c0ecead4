"""Tables of docs: printed as they are on the page, and every dated command in docs can be given."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from enaction import experiments
from enaction.findings import Finding, Findings
from enaction.page import Cell, Grid, Page, Section
from studies import tables as script

ROOT = Path(__file__).parents[1]
COMMAND = re.compile(r"`python studies/tables\.py (.*?)`, (\d{4}-\d\d-\d\d)", re.DOTALL)

GRID = Grid(
    "Means over readers",
    ["stage", "ratio", "interaction, log units"],
    [["RL", "1.20", Cell("-0.10 [-0.12, -0.08]", "strong")], ["base", "1.00", Cell("0.00 [-0.01, 0.01]")]],
)


def test_a_table_is_printed_with_effects_in_bold() -> None:
    assert script.markdown(GRID).splitlines() == [
        "| stage | ratio | interaction, log units |",
        "| --- | --- | --- |",
        "| RL | 1.20 | **-0.10 [-0.12, -0.08]** |",
        "| base | 1.00 | 0.00 [-0.01, 0.01] |",
    ]


def test_rows_are_chosen_by_a_whole_cell_and_columns_by_the_beginning_of_their_name() -> None:
    chosen = script.markdown(GRID, rows=["base"], columns=["stage", "interaction"])
    assert chosen.splitlines()[2:] == ["| base | 0.00 [-0.01, 0.01] |"]


def test_a_whole_name_of_a_column_does_not_take_longer_names_with_it() -> None:
    grid = Grid("Split", ["ratio", "ratio, bases"], [["1.2", "1.0"]])
    assert script.markdown(grid, columns=["ratio"]).splitlines()[0] == "| ratio |"
    assert script.markdown(grid, columns=["rat"]).splitlines()[0] == "| ratio | ratio, bases |"


@pytest.mark.parametrize("choice", [{"rows": ["R"]}, {"columns": ["entropy"]}, {"titles": ["Means of"]}])
def test_a_choice_that_selects_nothing_is_refused_with_what_there_is(choice: dict[str, list[str]]) -> None:
    page = Page("Matrix", "?", sections=[Section(grids=[GRID])])
    with pytest.raises(ValueError, match="it has: "):
        script.tables(page, **choice)


def test_only_tables_of_the_titles_are_printed() -> None:
    other = Grid("Reader by reader", ["stage"], [["RL"]])
    page = Page("Matrix", "?", sections=[Section(grids=[GRID, other])])
    assert script.tables(page, ["Reader"]) == "Reader by reader:\n\n| stage |\n| --- |\n| RL |"


def test_findings_are_chosen_by_quantity_and_place() -> None:
    made = [
        Finding(
            "matrix", "recognition", {"stage": stage, "reader": "a"}, 0.2, 0.1, 0.3, 40, "nats", "", null=0.0, p=0.01
        )
        for stage in ("rl", "sft")
    ]
    lines = script.markdown(script.findings_table(Findings(made), ["recognition"], {"stage": "rl"})).splitlines()
    assert lines[0] == "| quantity | reader | unit | estimate | p |"
    assert lines[2:] == ["| recognition | a | nats | **0.200 [0.100, 0.300]** | 0.0100 |"]
    with pytest.raises(ValueError, match="no finding recognition"):
        script.findings_table(Findings(made), ["recognition"], {"stage": "dpo"})


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.stem)
def test_the_commands_in_docs_name_experiments_and_can_be_given(path: Path) -> None:
    for arguments, _ in COMMAND.findall(path.read_text(encoding="utf-8")):
        given = script.parser().parse_intermixed_args(shlex.split(arguments))
        assert given.experiment in experiments.EXPERIMENTS
