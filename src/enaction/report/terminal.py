"""Pages in the terminal: each with its brief tables and its statements, within the width that a console has.

Names are shortened where room is scarce, numbers never: a table that is still too wide is printed in blocks of columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from enaction.page import Cell, Grid, Page, Statement
from enaction.shown import NONE, short_names

# With fewer columns a terminal wraps lines, which is better than losing digits.
_WIDTH = 100
_NAME_LIMITS = (28, 22, 18, 14)
_STYLES = {"own": "bold", "strong": "bold", "bad": "bold red", "mean": "italic"}


def show(pages: Mapping[str, Page], console: Console | None = None, *, cautions: Sequence[Statement] = ()) -> None:
    """Print cautions, then pages, in order."""
    console = console or Console(highlight=False, width=max(_WIDTH, Console().width))
    for caution in cautions:
        console.print(f"Caution: {caution.sentence}", markup=False, style="bold red")
    for page in pages.values():
        console.print(f"\n{page.title}: {page.question}\n", markup=False, style="bold")
        for grid in page.grids:
            for table in tables(grid) if grid.brief else []:
                console.print(table)
                console.print()
        for statement in page.statements:
            style = "bold red" if statement.verdict == "alarm" else None
            console.print(f"- {statement.sentence}", markup=False, style=style)


def tables(grid: Grid, width: int = _WIDTH) -> list[Table]:
    """A table of text as rich tables that fit: one if it does, else blocks of columns, each with the names."""
    if not grid.rows:
        return []
    first = grid.cells[0]
    n_left = next((i for i, cell in enumerate(first) if not _is_name(cell)), len(first))
    columns = list(range(n_left, len(first)))
    for limit in _NAME_LIMITS:
        if _width(table := _table(grid, n_left, columns, limit)) <= width:
            return [table]
    limit, blocks = _NAME_LIMITS[-1], [columns[:1]]
    for column in columns[1:]:
        if _width(_table(grid, n_left, [*blocks[-1], column], limit)) <= width:
            blocks[-1].append(column)
        else:
            blocks.append([column])
    printed = [_table(grid, n_left, block, limit, is_rest=i > 0) for i, block in enumerate(blocks)]
    return [table for table in printed if table.row_count]


def _table(grid: Grid, n_left: int, columns: Sequence[int], limit: int, *, is_rest: bool = False) -> Table:
    """The names on the left and some columns; of the rest of a table only rows that have something there."""
    header, cells = grid.header_cells, grid.cells
    named = [cell.text for row in [header, *cells] for cell in row if _is_name(cell)]
    short = short_names(list(dict.fromkeys(named)), limit)

    def text(cell: Cell) -> Text:
        return Text(short[cell.text] if _is_name(cell) else cell.text, _STYLES.get(cell.look, ""))

    table = Table(
        title=Text(f"{grid.title}{', continued' * is_rest}"), title_justify="left", title_style="bold",
        box=SIMPLE_HEAD, collapse_padding=True,
    )  # fmt: skip
    for i in [*range(n_left), *columns]:
        table.add_column(text(header[i]), justify="left" if i < n_left else "right", no_wrap=True)
    rows = [row for row in cells if not is_rest or any(row[i].text != NONE for i in columns)]
    groups = [row[0] for row in rows]
    has_groups = n_left > 1 and len(set(groups)) < len(groups)
    for i, row in enumerate(rows):
        # A name that belongs to several rows is printed once.
        n_known = next((j for j in range(n_left - 1) if i == 0 or row[j] != rows[i - 1][j]), max(n_left - 1, 0))
        if has_groups and i and not n_known:
            table.add_section()
        table.add_row(*[""] * n_known, *map(text, row[n_known:n_left]), *(text(row[j]) for j in columns))
    return table


def _is_name(cell: Cell) -> bool:
    return cell.look in ("name", "mean")


def _width(table: Table) -> int:
    console = Console(width=10_000)
    return Measurement.get(console, console.options, table).maximum
