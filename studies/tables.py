"""Print what a finished run shows as Markdown: the tables of docs, each with the dated command that made it.

    python studies/tables.py runs/behaviour framings                            # every table of an experiment's page
    python studies/tables.py runs/behaviour framings "Means over readers" --rows RL --columns framing "interaction"
    python studies/tables.py runs/behaviour controls "Does recognition" --sentences # what the page says in words, too
    python studies/tables.py runs/behaviour framings --findings interaction_difference --where stage=rl reader=mean

The numbers are those of the report: nothing is computed here. A run is opened, not made; `enaction run
studies/behaviour.yaml` makes one.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from enaction.findings import Findings
from enaction.page import Cell, Grid, Page
from enaction.running import open_run
from enaction.shown import judged, pvalue


def markdown(grid: Grid, *, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> str:
    """A table; what the report marks as an effect is bold.

    Args:
        grid: of a page.
        rows: keep only rows with one of these texts as a whole cell, e.g. a stage; empty: all.
        columns: keep only columns with one of these names, or whose name begins with one of these texts that is no
            whole name, in the grid's order; empty: all.

    Raises:
        ValueError: one of `rows` or `columns` selects nothing.
    """
    header = [cell.text for cell in grid.header_cells]
    for prefix in columns:
        _require(any(name.startswith(prefix) for name in header), f"column that begins with {prefix!r}", header, grid)
    texts = [[cell.text for cell in row] for row in grid.cells]
    for text in rows:
        _require(
            any(text in row for row in texts), f"row with a cell {text!r}", sorted({row[0] for row in texts}), grid
        )
    prefixes = tuple(text for text in columns if text not in header)
    kept = [i for i, name in enumerate(header) if not columns or name in columns or name.startswith(prefixes)]
    lines = [[header[i] for i in kept], ["---"] * len(kept)]
    lines += [
        [_text(row[i]) for i in kept]
        for row in grid.cells
        if not rows or not {cell.text for cell in row}.isdisjoint(rows)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables(page: Page, titles: Sequence[str] = (), *, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> str:
    """The tables of a page whose titles begin with one of these texts (empty: all), each under its title.

    Raises:
        ValueError: a title, row or column selects nothing.
    """
    for prefix in titles:
        found = any(grid.title.startswith(prefix) for grid in page.grids)
        _require(found, f"table whose title begins with {prefix!r}", [grid.title for grid in page.grids], page)
    kept = [grid for grid in page.grids if not titles or grid.title.startswith(tuple(titles))]
    return "\n\n".join(f"{grid.title}:\n\n{markdown(grid, rows=rows, columns=columns)}" for grid in kept)


def findings_table(findings: Findings, quantities: Sequence[str], where: Mapping[str, str]) -> Grid:
    """Findings that no table of a page has: a row each, with its place, interval and permutation p.

    Args:
        findings: of one experiment.
        quantities: their names.
        where: what the place has to have; values are compared as text.

    Raises:
        ValueError: there is no such finding.
    """
    kept = [
        finding
        for quantity in quantities
        for finding in findings.select(quantity).measured
        if all(str(finding.where.get(key)) == text for key, text in where.items())
    ]
    if not kept:
        raise ValueError(f"no finding {' or '.join(quantities)} at {dict(where)}; see 'Every finding' of the report")
    keys = [key for key in dict.fromkeys(key for f in kept for key in f.where) if key not in where]
    rows = [[f.quantity, *(f.where.get(key, "") for key in keys), f.unit, judged(f), pvalue(f)] for f in kept]
    return Grid("Findings", ["quantity", *keys, "unit", "estimate", "p"], [[_cell(x) for x in row] for row in rows])


def _cell(given: object) -> Cell:
    return given if isinstance(given, Cell) else Cell(str(given))


def _text(cell: Cell) -> str:
    return f"**{cell.text}**" if cell.look == "strong" else cell.text


def _require(found: bool, what: str, there: Sequence[str], of: Grid | Page) -> None:
    if not found:
        raise ValueError(f"{of.title!r} has no {what}; it has: {'; '.join(there)}")


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("run", type=Path, help="folder of a run")
    made.add_argument("experiment", help="whose page")
    made.add_argument("titles", nargs="*", help="beginnings of the titles of tables (all)")
    made.add_argument("--rows", nargs="+", default=[], help="only rows with one of these texts as a whole cell (all)")
    made.add_argument("--columns", nargs="+", default=[], help="only columns with these names or beginnings (all)")
    made.add_argument("--sentences", action="store_true", help="also what the page says in words")
    made.add_argument("--findings", nargs="+", default=[], metavar="QUANTITY", help="these instead of tables")
    made.add_argument("--where", nargs="+", default=[], type=_pair, metavar="KEY=VALUE", help="at this place only")
    return made


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is no KEY=VALUE")
    return key, value


def main() -> None:
    """Print the tables and the command."""
    given = parser().parse_intermixed_args()
    run = open_run(given.run)
    pages = run.pages()
    if given.experiment not in pages:
        sys.exit(f"{given.run} has no page {given.experiment!r}; it has: {', '.join(pages)}")
    page = pages[given.experiment]
    if given.sentences:
        print("\n".join(f"- {sentence}" for sentence in page.sentences), end="\n\n")
    try:
        if given.findings:
            found = findings_table(run.findings.of(given.experiment), given.findings, dict(given.where))
            text = markdown(found, rows=given.rows, columns=given.columns)
        else:
            text = tables(page, given.titles, rows=given.rows, columns=given.columns)
    except ValueError as wrong:
        sys.exit(str(wrong))
    print(text, end="\n\n")
    print(f"`python studies/tables.py {shlex.join(sys.argv[1:])}`, {time.strftime('%Y-%m-%d')}.")


if __name__ == "__main__":
    main()
