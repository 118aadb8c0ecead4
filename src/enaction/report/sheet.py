"""One page as one HTML file by itself, for what is no run: a file that loads nothing and escapes everything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2

from enaction.files import write_atomically
from enaction.page import Coloured, Page


def write_sheet(page: Page, path: Path, about: str = "", texts: Sequence[Coloured] = ()) -> None:
    """Write a page.

    Args:
        page: its charts are not drawn.
        path: of the HTML file.
        about: what it is of, such as the name of a file, under the title.
        texts: shown below, their tokens coloured.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("enaction.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("sheet.html.j2").render(page=page, about=about, texts=texts)
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
