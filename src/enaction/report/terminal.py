"""A run in the terminal: the answer on one screen, and where it is asked for the pages of all experiments after it.

The first screen has cautions, the verdict, the numbers that it rests on, small tables, the claims and a line for each
further experiment. Names are shortened where room is scarce, numbers never: a table that is still too wide is printed
in blocks of columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from enaction.page import Cell, Grid, Page, Statement, merged
from enaction.paper.claims import Checked
from enaction.paper.verdict import Answer, KeyNumber
from enaction.shown import NONE, short_names

# With fewer columns a terminal wraps lines, which is better than losing digits.
WIDTH = 100
_NAME_LIMITS = (28, 22, 18, 14)
_STYLES = {"own": "bold", "strong": "bold", "bad": "bold red", "mean": "italic"}
# A headline that is longer than this, the title of its page included, is cut after a clause; the report has all of it.
_LONGEST = 2 * WIDTH - 8


def show(
    pages: Mapping[str, Page],
    console: Console | None = None,
    *,
    answer: Answer | None = None,
    claims: Sequence[Checked] = (),
    cautions: Sequence[Statement] = (),
    full: bool = False,
) -> None:
    """Print what a run found, the answer first.

    Args:
        pages: of its experiments, in order.
        console: standard output by default.
        answer: what the run says; without it there are cautions and tables alone.
        claims: the paper's, with what the run says to each.
        cautions: printed above everything else.
        full: the brief tables and all sentences of every page too.
    """
    console = console or Console(highlight=False, width=max(WIDTH, Console().width))
    for caution in cautions:
        console.print(f"Caution: {caution.sentence}", markup=False, style="bold red")
    if answer is not None:
        _answer(console, answer)
    opening = {name: page.opening for name, page in pages.items()}
    for grid in (grid for grids in opening.values() for grid in grids):
        for table in tables(grid, compact=True):
            console.print(table)
            console.print()
    if claims:
        _claims(console, claims)
    _further(console, [page for name, page in pages.items() if not opening[name]], answer)
    if full:
        for page in pages.values():
            _page(console, page)


def _answer(console: Console, answer: Answer) -> None:
    text = Text()
    # Without numbers to sum them up the sentences are those of one experiment after another.
    between = " " if answer.numbers else "\n"
    for i, statement in enumerate(answer.sentences):
        text.append(f"{between * bool(i)}{statement.sentence}", "" if i else "bold")
    console.print(text)
    console.print()
    if answer.numbers:
        console.print(_numbers(answer.numbers))
        console.print()


def _numbers(numbers: Sequence[KeyNumber]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right", style="bold")
    table.add_column(style="dim")
    for key in numbers:
        table.add_row(Text(key.label), Text(key.text), Text(key.reading))
    return table


def _claims(console: Console, claims: Sequence[Checked]) -> None:
    """A line for each claim that the run can test; the number of the others."""
    tested = [item for item in claims if item.standing != "not testable"]
    title = "The paper's claims, in this run (99 % intervals, one error rate for those about behaviour)"
    console.print(title, style="bold")
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for item in tested:
        table.add_row(Text(item.standing), Text(item.claim.text))
    if left := len(claims) - len(tested):
        table.add_row(Text("not testable"), Text(f"{left} of {len(claims)}; the report says what each would take"))
    console.print(table)
    console.print()


def _further(console: Console, pages: Sequence[Page], answer: Answer | None) -> None:
    """The headline of each page that nothing above speaks of."""
    said = [statement.sentence for statement in answer.sentences] if answer else []
    for page in pages:
        headline = page.headline
        if headline is not None and headline.sentence not in said:
            title = f"{page.title}. "
            console.print(Text.assemble((title, "bold"), _cut(headline.sentence, _LONGEST - len(title))))


def _cut(sentence: str, length: int) -> str:
    """The sentence up to the last clause that fits, else up to the last word."""
    if len(sentence) <= length:
        return sentence
    clauses, words = (sentence[:length].rpartition(mark)[0] for mark in ("; ", " "))
    return f"{clauses or words} …"


def _page(console: Console, page: Page) -> None:
    """The brief tables of a page, then its sentences, those of a series as one."""
    console.print(f"\n{page.title}: {page.question}\n", markup=False, style="bold")
    for grid in page.grids:
        for table in tables(grid) if grid.brief else []:
            console.print(table)
            console.print()
    for statement in merged(page.statements):
        style = "bold red" if statement.verdict == "alarm" else None
        console.print(f"- {statement.sentence}", markup=False, style=style)


def tables(grid: Grid, width: int = WIDTH, *, compact: bool = False) -> list[Table]:
    """A table of text as rich tables that fit: one if it does, else blocks of columns, each with the names.

    Args:
        grid: the table.
        width: columns that there are.
        compact: without lines and gaps between rows.
    """
    if not grid.rows:
        return []
    first = grid.cells[0]
    n_left = next((i for i, cell in enumerate(first) if not _is_name(cell)), len(first))
    columns = list(range(n_left, len(first)))
    for limit in _NAME_LIMITS:
        if _width(table := _table(grid, n_left, columns, limit, compact=compact)) <= width:
            return [table]
    limit, blocks = _NAME_LIMITS[-1], [columns[:1]]
    for column in columns[1:]:
        if _width(_table(grid, n_left, [*blocks[-1], column], limit)) <= width:
            blocks[-1].append(column)
        else:
            blocks.append([column])
    printed = [_table(grid, n_left, block, limit, is_rest=i > 0, compact=compact) for i, block in enumerate(blocks)]
    return [table for table in printed if table.row_count]


def _table(
    grid: Grid, n_left: int, columns: Sequence[int], limit: int, *, is_rest: bool = False, compact: bool = False
) -> Table:
    """The names on the left and some columns; of the rest of a table only rows that have something there."""
    header, cells = grid.header_cells, grid.cells
    named = [cell.text for row in [header, *cells] for cell in row if _is_name(cell)]
    short = short_names(list(dict.fromkeys(named)), limit)

    def text(cell: Cell) -> Text:
        return Text(short[cell.text] if _is_name(cell) else cell.text, _STYLES.get(cell.look, ""))

    table = Table(
        title=Text(f"{grid.title}{', continued' * is_rest}"), title_justify="left", title_style="bold",
        box=None if compact else SIMPLE_HEAD, collapse_padding=True, padding=(0, 2, 0, 0) if compact else (0, 1),
    )  # fmt: skip
    for i in [*range(n_left), *columns]:
        table.add_column(text(header[i]), justify="left" if i < n_left else "right", no_wrap=True)
    rows = [row for row in cells if not is_rest or any(row[i].text != NONE for i in columns)]
    groups = [row[0] for row in rows]
    has_groups = n_left > 1 and len(set(groups)) < len(groups)
    for i, row in enumerate(rows):
        # A name that belongs to several rows is printed once.
        n_known = next((j for j in range(n_left - 1) if i == 0 or row[j] != rows[i - 1][j]), max(n_left - 1, 0))
        if has_groups and i and not n_known and not compact:
            table.add_section()
        table.add_row(*[""] * n_known, *map(text, row[n_known:n_left]), *(text(row[j]) for j in columns))
    return table


def _is_name(cell: Cell) -> bool:
    return cell.look in ("name", "mean")


def _width(table: Table) -> int:
    console = Console(width=10_000)
    return Measurement.get(console, console.options, table).maximum
