"""Names and texts that would break a figure, turn the numbers of a report round, or make it huge."""

from __future__ import annotations

import warnings
from pathlib import Path
from xml.etree import ElementTree

import pytest
import tiny
from pydantic import ValidationError

from enaction.chart import Axis, Chart, Heat, Key, Label, Panel, Points
from enaction.experiments.persona import Persona
from enaction.findings import write_findings
from enaction.page import Cell, Grid, Page, Section, Statement
from enaction.passages import Message, Passage
from enaction.report import build_report
from enaction.report.drawing import as_svg, draw
from enaction.report.html import SAMPLE_LENGTH
from enaction.study.store import Run

NAMES = ["cost$}$", "$_$", "x$a^b^c$y", "a\x1b[31m\x07", "n\0ul", "\uffff", "r\u202el", "t\ta\rb", "\ud800", "w" * 300]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_breaks_a_figure(name: str) -> None:
    axis = Axis(f"label {name}", ticks=[0, 1], names=[name, "b"])
    panel = Panel(
        [Points([1, 2], [1, 4], label=name), Heat([name], [name], [[0.5]], [[0.6]], 0, 1, [(0, 0)], [1])], axis
    )
    panels = [[panel, Panel([Label(name, 1.0)], Axis(scale="log2"), title=name)]]
    chart = Chart(name, panels, 6, 3, title=name, legend=[Key(name)], colour_bar=name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # no room for 300 letters
        ElementTree.fromstring(as_svg(chart))
        title = draw(chart).get_suptitle()
    if name.isprintable() and len(name) < 100:
        assert title == name
    assert "\x1b" not in title
    assert "\u202e" not in title


@pytest.mark.parametrize("name", [*NAMES, "nobody", "mean", "a--b", "-a", ""])
def test_a_persona_has_a_name_of_the_pattern(name: str) -> None:
    with pytest.raises(ValidationError, match="cannot name a persona") as caught:
        Persona(personas={name: "You are one.", "other": "You are another."})
    assert "\x1b" not in str(caught.value.errors()[0]["msg"])
    Persona(personas={"a-pirate": "You are one.", "Käpt_n": "You are another."})


def _page(folder: Path, passages: list[Passage], page: Page) -> str:
    run = Run(folder / "run")
    run.write_passages("a", passages)
    write_findings(run.folder / "findings.json", [])
    return build_report(run.folder, {"x": page}).read_text(encoding="utf-8")


def test_long_prompts_are_cut_like_responses(tmp_path: Path) -> None:
    long = (Message(role="system", content="s" * 200_000), Message(role="user", content="u" * 200_000))
    passages = [Passage(f"{i}/0", f"p{i}", long, "r" * 9000, "a", ended=True) for i in range(9)]
    passages[4] = tiny.passage("the end")
    passages[4] = Passage("4/0", "p4", (long[0], Message(role="user", content="why?")), "so", "a", ended=True)
    page = _page(tmp_path, passages, Page("X", "Is it?", sections=[Section(authors={"a": True})]))
    assert len(page.encode()) < 1_000_000
    assert "why?" in page  # the last turn is what is answered
    assert f"{200_000 - SAMPLE_LENGTH + 4} more characters of the prompt in the run folder" in page
    assert f"{400_000 - SAMPLE_LENGTH} more characters of the prompt" in page
    assert "s" * 2000 not in page
    assert "u" * 2000 not in page


@pytest.mark.parametrize("name", ["דגם-rl", "r\u202el"])
def test_a_name_does_not_turn_the_numbers_after_it_round(name: str, tmp_path: Path) -> None:
    said = Statement(
        f"{name} recognises by 0.230 [-0.063, 0.516].", about=("x",), where={}, verdict="effect", subject=name
    )
    grid = Grid(name, ["model", "estimate"], [[Cell(name, "name"), "0.230"]])
    prose = "שלום 1 עולם"
    passage = Passage("0/0", "p", (Message(role="user", content=prose),), prose, "a", ended=True)
    page = Page("X", "Is it?", [said], sections=[Section(grids=[grid], authors={"a": True})])
    text = _page(tmp_path, [passage], page)
    assert f"\u2068{name}\u2069" in text
    assert name not in text.replace(f"\u2068{name}\u2069", "")
    assert prose in text  # and prose stays as it is
