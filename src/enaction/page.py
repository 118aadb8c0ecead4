"""What an experiment shows, as plain data: statements, tables and charts on a page.

An experiment makes a `Page` from its findings; the renderers of `report` (terminal, HTML, figures) turn any page into
what a person sees. Nothing here prints or draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from enaction.chart import Chart
from enaction.words import Framing, in_training_order, last_stage

Verdict = Literal["", "effect", "no effect", "alarm", "left out"]
Look = Literal["", "name", "mean", "own", "strong", "bad"]


@dataclass(frozen=True)
class Statement:
    """One sentence about findings; others select it by quantity and place, never by its wording.

    Attributes:
        text: the sentence, without its subject.
        about: the quantities that it reports.
        where: their place, as in `Finding.where`, e.g. stage and framing.
        verdict: what it concludes; "" where it only describes.
        subject: whom or what it is about, printed before the text: `RL models, assistant turn`.
        headline: whether it belongs to the summary of the whole run.
        outcome: what it concludes by a rule of its page that has more grades than `verdict`, e.g. `weakened`.
        series: statements of one series are alike but for their place; shown together they are one sentence (`merged`),
            whose subject this is.
        short: what remains of the text in that sentence: the place and its number.
    """

    text: str
    about: tuple[str, ...] = ()
    where: Mapping[str, Any] = field(default_factory=dict)
    verdict: Verdict = ""
    subject: str = ""
    headline: bool = False
    outcome: str = ""
    series: str = ""
    short: str = ""

    @property
    def sentence(self) -> str:
        """Subject and text."""
        return f"{self.subject}: {self.text}" if self.subject else self.text

    def speaks_of(self, *quantities: str, **where: Any) -> bool:
        """Whether it reports one of these quantities (any, without one) at a place that has all these values."""
        return (not quantities or not set(quantities).isdisjoint(self.about)) and all(
            self.where.get(key) == value for key, value in where.items()
        )


def merged(statements: Sequence[Statement]) -> list[Statement]:
    """The statements with those of one series as one sentence, at the place of the first; a single one is kept."""
    of_series: dict[str, list[Statement]] = {}
    for statement in statements:
        if statement.series:
            of_series.setdefault(statement.series, []).append(statement)
    made: list[Statement] = []
    for statement in statements:
        members = of_series.get(statement.series, [statement])
        if len(members) == 1:
            made.append(statement)
        elif statement is members[0]:
            made.append(_joined(members))
    return made


def _joined(members: Sequence[Statement]) -> Statement:
    """One statement of a series, at the place that its members share, with their verdict if it is the same."""
    first = members[0]
    about = dict.fromkeys(quantity for member in members for quantity in member.about)
    where = {key: at for key, at in first.where.items() if all(m.where.get(key) == at for m in members)}
    verdict = first.verdict if len({member.verdict for member in members}) == 1 else ""
    text = f"{'; '.join(member.short for member in members)}."
    return Statement(text, tuple(about), where, verdict, first.series, any(member.headline for member in members))


@dataclass(frozen=True)
class Cell:
    """One cell of a table: its text, and the role that says how it looks."""

    text: str
    look: Look = ""


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        title: what it shows, with units.
        header: a name for each column.
        rows: cells; plain text is a cell without a look, in the first column a name.
        about: quantities whose definitions belong to it.
        brief: whether the terminal prints it where everything is asked for.
    """

    title: str
    header: Sequence[Cell | str]
    rows: Sequence[Sequence[Cell | str]]
    about: Sequence[str] = ()
    brief: bool = False

    @property
    def cells(self) -> list[list[Cell]]:
        """The rows, every cell with its look."""
        return [[_cell(cell, "" if column else "name") for column, cell in enumerate(row)] for row in self.rows]

    @property
    def header_cells(self) -> list[Cell]:
        """The header, every cell with its look."""
        return [_cell(cell, "") for cell in self.header]


def _cell(given: Cell | str, look: Look) -> Cell:
    return given if isinstance(given, Cell) else Cell(given, look)


@dataclass(frozen=True)
class Piece:
    """A token of a text, and what it did to a number that grows token by token.

    Attributes:
        text: of the token; what is not printable in it is shown as its code.
        change: what it added to the number.
        level: the change as a shade, from -4 to 4.
        about: what is said of it when it is chosen.
    """

    text: str
    change: float
    level: int
    about: str


@dataclass(frozen=True)
class Coloured:
    """A text whose tokens are coloured by what they did to a number.

    Attributes:
        title: whose text it is.
        before: role and text of what came before it.
        pieces: its tokens.
        note: what else is to be said, e.g. that it is cut.
    """

    title: str
    before: Sequence[tuple[str, str]]
    pieces: Sequence[Piece]
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: what it asks or shows; "" where the page has one part only.
        text: how to read it.
        notice: a conclusion that is shown in a box, e.g. an alarm.
        charts: names of charts of the page.
        grids: tables.
        folded: whether it is closed until somebody opens it.
        authors: those of whose passages the report shows a few, and whether they are open at once.
    """

    title: str = ""
    text: str = ""
    notice: Statement | None = None
    charts: Sequence[str] = ()
    grids: Sequence[Grid] = ()
    folded: bool = False
    authors: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """A text of which the report shows a passage, token by token, as several readers read it.

    Attributes:
        author: of the text, as its passages are called in the run folder.
        readers: models of the study, the one that it is compared with first.
        framing: in which all of them read it.
        remark: whose text it is, for the heading.
    """

    author: str
    readers: tuple[str, ...]
    framing: Framing
    remark: str


@dataclass(frozen=True)
class Page:
    """An experiment in the report.

    Attributes:
        title: a few words.
        question: what it asks, one sentence.
        statements: what came out, the number with interval and null in each, plain words, null results as such.
        sections: tables and charts, in order.
        charts: by a file name without ending; those that no section names are saved, but not shown.
        remark: how to read its headlines.
        opening: small tables for the first screen of a terminal; what they show is in the sections too.
        readings: texts of which the report shows a passage, token by token.
        hero: name of the chart for the first screen of the report; "" for none.
        main: the place that is shown where only one is, e.g. the last stage and the main framing.
    """

    title: str
    question: str
    statements: Sequence[Statement] = ()
    sections: Sequence[Section] = ()
    charts: Mapping[str, Chart] = field(default_factory=dict)
    main: Mapping[str, Any] = field(default_factory=dict)
    remark: str = ""
    opening: Sequence[Grid] = ()
    hero: str = ""
    readings: Sequence[Reading] = ()

    def __post_init__(self) -> None:
        named = [name for section in self.sections for name in section.charts]
        unknown = [name for name in (*named, self.hero) if name and name not in self.charts]
        if unknown:
            raise ValueError(f"page {self.title!r}: its sections name charts that it has not: {', '.join(unknown)}")

    @property
    def sentences(self) -> list[str]:
        """The statements as sentences."""
        return [statement.sentence for statement in self.statements]

    @property
    def headline(self) -> Statement | None:
        """What is said of the page where there is room for one sentence.

        An alarm, else a headline, else the first with a verdict, of the end of training if there is one.
        """
        last = last_stage(in_training_order(str(s.where["stage"]) for s in self.statements if "stage" in s.where))

        def rank(statement: Statement) -> tuple[bool, ...]:
            is_judged = statement.verdict not in ("", "left out")
            rest = (False, False) if statement.headline else (not is_judged, statement.where.get("stage") != last)
            return statement.verdict != "alarm", not statement.headline, *rest

        return min(self.statements, key=rank, default=None)

    @property
    def grids(self) -> list[Grid]:
        """The tables of all sections."""
        return [grid for section in self.sections for grid in section.grids]

    def select(self, *quantities: str, **where: Any) -> list[Statement]:
        """The statements about one of these quantities at a place."""
        return [statement for statement in self.statements if statement.speaks_of(*quantities, **where)]
