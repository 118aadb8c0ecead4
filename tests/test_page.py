"""Pages as data: statements are selected by quantity and place, and renderers show what the data say."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import is_color_like
from rich.console import Console

from enaction.chart import PALETTE, Axis, Chart, Heat, Key, Panel, Points, Rule, keys, points_of, stage_colours
from enaction.experiments import EXPERIMENTS
from enaction.findings import Finding, Findings
from enaction.page import Cell, Grid, Page, Section, Statement, merged
from enaction.paper.questions import QUESTIONS, answered
from enaction.report.drawing import draw, save
from enaction.report.narrow import narrow
from enaction.report.terminal import show, tables
from enaction.shown import sentence, stated, verdict_of, verdict_words, with_pvalue


def a_finding(
    estimate: float | None, low: float | None = None, high: float | None = None, null: float = 0.0
) -> Finding:
    return Finding("x", "interaction", {"reader": "a"}, estimate, low, high, 9, "", "", null=null)


def test_a_page_that_names_a_chart_it_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="arc"):
        Page("Matrix", "Is it?", sections=[Section(charts=["arc"])])


def test_statements_are_selected_by_quantity_and_place() -> None:
    at_rl = Statement("grows.", ("interaction",), {"stage": "rl", "framing": "user"}, subject="RL models")
    at_sft = Statement("shrinks.", ("interaction", "ease"), {"stage": "sft", "framing": "user"})
    page = Page("Matrix", "Is it?", [at_rl, at_sft])
    assert page.select("interaction", stage="rl") == [at_rl]
    assert page.select("ease", "entropy") == [at_sft]
    assert page.select(framing="user") == [at_rl, at_sft]
    assert page.select("entropy") == []
    assert page.sentences == ["RL models: grows.", "shrinks."]


def test_a_question_is_answered_whatever_the_words_of_its_statements() -> None:
    at = {"stage": "rl", "framing": "assistant"}
    recognition = Statement("anything at all.", ("interaction",), at)
    elsewhere = Statement("anything at all.", ("interaction",), at | {"framing": "user"})
    change = Statement("anything at all.", ("interaction_change",), at | {"from_stage": "sft"})
    page = Page("Matrix", "Is it?", [recognition, elsewhere, change], main=at)

    def said(page: Page) -> dict[str, list[Statement]]:
        return {a.question.text: a.statements for a in answered({"matrix": page})}

    tells, brings, part = QUESTIONS[0].text, QUESTIONS[1].text, QUESTIONS[4].text
    assert said(page)[tells] == [recognition]
    assert said(page)[brings] == [recognition, change]
    assert said(page)[part] == [recognition, elsewhere]
    # Without a change nothing says which stage brings it; one framing alone says nothing of framings.
    assert said(replace(page, statements=[recognition]))[brings] == []
    assert said(replace(page, statements=[recognition]))[part] == []
    # What a run has not measured is not what no experiment of this version measures.
    standing = {a.question.text: a.standing for a in answered({})}
    audit = "Can anybody use this to detect prefills, edited transcripts, swapped models, stale rollouts?"
    assert standing[tells] == "not measured"
    assert standing[audit] == "no experiment"
    assert set(standing.values()) == {"not measured", "no experiment"}


def test_every_experiment_that_answers_a_question_exists() -> None:
    assert {name for question in QUESTIONS for name in question.experiments} <= set(EXPERIMENTS)


@pytest.mark.parametrize(
    ("low", "high", "verdict", "words"),
    [
        (-0.2, -0.1, "effect", "below"),
        (0.1, 0.2, "effect", "above"),
        (-0.1, 0.1, "no effect", "no effect"),
        (None, None, "", "no interval, so no verdict"),
    ],
)
def test_verdict_and_words_follow_the_interval(low: float, high: float, verdict: str, words: str) -> None:
    f = a_finding(0.0, low, high)
    assert verdict_of(f) == verdict
    assert verdict_words(f, below="below", above="above") == words


def test_without_a_null_there_is_no_verdict() -> None:
    # As in a findings.json of a version that wrote no nulls: a ratio is then not judged against 0.
    f = replace(a_finding(1.0, 0.9, 1.1), null=None)
    assert verdict_of(f) == ""
    assert verdict_words(f, below="below", above="above") == "no null, so no verdict"


def test_a_pvalue_is_printed_beside_its_number() -> None:
    assert with_pvalue(replace(a_finding(0.5, 0.25, 0.75), p=0.002)) == "0.500 [0.250, 0.750], p = 0.0020"
    assert with_pvalue(None) == "not measured"


def _printed(grid: Grid) -> list[str]:
    console = Console(width=200, file=io.StringIO(), record=True)
    for table in tables(grid, 60):
        console.print(table)
    return console.export_text().splitlines()


def test_a_sentence_that_lacks_one_of_its_numbers_is_not_written() -> None:
    effect, none = a_finding(0.5, 0.4, 0.6), replace(a_finding(0.0, -0.1, 0.1), quantity="ease", where={"reader": "b"})
    (made,) = sentence("RL", "{1}, not {0}.", {"stage": "rl"}, effect, none, none)
    assert made.sentence == "RL: 0.000 [-0.100, 0.100], not 0.500 [0.400, 0.600]."
    assert (made.about, made.where, made.verdict) == (("interaction", "ease"), {"stage": "rl"}, "effect")
    assert sentence("RL", "{} {}", {}, effect, None) == []
    missing = replace(none, estimate=None, low=None, high=None)
    findings = Findings([effect, missing])
    assert stated(findings, "RL", "{}", "interaction", reader="a") == sentence("RL", "{}", {"reader": "a"}, effect)
    assert stated(findings, "RL", "{}", "ease", reader="b") == []
    assert findings.measured == [effect]
    assert findings.at(reader="b") == [missing]


def test_a_wide_table_is_printed_in_blocks_that_keep_every_number_and_the_names() -> None:
    header = ["reader", *(f"column {i}" for i in range(9))]
    rows = [[f"reader-{r}", *(f"{r}.{c}0 [{r}.{c}1, {r}.{c}2]" for c in range(9))] for r in range(3)]
    lines = _printed(Grid("Wide", header, rows))
    assert max(map(len, lines)) <= 60
    for row in rows:
        of_row = [line for line in lines if row[0] in line]
        assert len(of_row) > 1
        assert all(any(cell in line for line in of_row) for cell in row[1:])


def test_a_name_that_belongs_to_several_rows_is_printed_once() -> None:
    rows = [[Cell(stage, "name"), Cell(reader, "name"), "1"] for stage in ("SFT", "RL") for reader in ("a", "b")]
    text = "\n".join(_printed(Grid("By stage", ["stage", "reader", "n"], rows)))
    assert (text.count("SFT"), text.count("RL")) == (1, 1)


def _shown(pages: dict[str, Page], **options: Any) -> str:
    console = Console(width=100, file=io.StringIO(), record=True)
    show(pages, console, **options)
    return console.export_text()


def test_the_terminal_shows_a_headline_and_on_demand_brief_tables_and_every_statement() -> None:
    grids = [Grid("Short", ["a", "b"], [["x", "1"]], brief=True), Grid("Long", ["a", "b"], [["y", "2"]])]
    said = [Statement("[bold] is text.", subject="It"), Statement("is the headline.", headline=True, subject="This")]
    page = Page("Title", "Asks?", said, [Section(grids=grids)])
    first, full = _shown({"x": page}), _shown({"x": page}, full=True)
    assert first.splitlines() == ["Title. This: is the headline."]
    assert full.startswith(first)
    assert "Title: Asks?" in full
    assert "It: [bold] is text." in full
    assert "Short" in full
    assert "Long" not in full


def test_statements_of_a_series_are_one_sentence() -> None:
    at = [{"stage": stage, "framing": "user"} for stage in ("sft", "dpo", "rl")]
    of_series = [
        Statement(f"in full {x}.", ("ratio",), where, "effect", f"At {x}", series="By stage", short=f"{x} is {x}")
        for x, where in enumerate(at)
    ]
    other = Statement("something else.", ("ease",))
    one, rest, *none = merged([of_series[0], other, *of_series[1:]])
    assert none == []
    assert one.sentence == "By stage: 0 is 0; 1 is 1; 2 is 2."
    assert (one.about, one.where, one.verdict) == (("ratio",), {"framing": "user"}, "effect")
    assert rest is other
    assert merged(of_series[:1]) == of_series[:1]
    assert merged([of_series[0], replace(of_series[1], verdict="no effect")])[0].verdict == ""


def test_the_headline_of_a_page_is_an_alarm_then_what_is_marked_then_what_has_a_verdict() -> None:
    plain, judged = Statement("plain."), Statement("judged.", verdict="effect")
    marked, alarm = Statement("marked.", headline=True), Statement("alarm.", verdict="alarm")
    assert Page("T", "?").headline is None
    assert Page("T", "?", [plain]).headline is plain
    assert Page("T", "?", [plain, judged]).headline is judged
    assert Page("T", "?", [plain, judged, marked, replace(judged, headline=True)]).headline is marked
    assert Page("T", "?", [plain, marked, alarm]).headline is alarm


def test_on_narrow_screens_panels_are_one_below_the_other_and_lose_nothing() -> None:
    stacked = narrow(CHART)
    assert stacked is not None
    assert [len(row) for row in stacked.panels] == [1, 1, 1]
    assert stacked.width < CHART.width
    assert [row[0].marks for row in stacked.panels] == [panel.marks for row in CHART.panels for panel in row]
    assert draw(stacked).axes
    assert narrow(stacked) is None


CHART = Chart(
    "Everything that a chart can have.",
    [
        [
            Panel([points_of([0, 1, 2], [a_finding(1, 0, 2), None, a_finding(3)], line="dashed", label="series")]),
            Panel([Heat(["r"], ["a", "world"], [[0.5, None]], [[0.6, None]], 0, 1, [(0, 0)], [1])], Axis("author")),
        ],
        [Panel([Points([1, 2], [1, 4], areas=[9, 16]), Rule("y", 2)], Axis(scale="log2"), Axis(low=5, high=0))],
    ],
    6,
    4,
    title="Title",
    legend=[Key("patch", "orange", "patch"), Key("line", line="solid")],
    colour_bar="entropy, nats",
)


def test_a_chart_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    first, second = (save(CHART, tmp_path / name, ("svg", "png")) for name in ("a", "b"))
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_what_is_drawn_is_where_the_data_say() -> None:
    figure = draw(CHART)
    points, heat, areas, empty, *_ = figure.axes
    drawn = next(line for line in points.lines if line.get_marker() == "o")
    np.testing.assert_array_equal(np.asarray(drawn.get_ydata()), [1, np.nan, 3])
    bars = [np.asarray(line.get_ydata()).tolist() for line in points.lines if line.get_marker() != "o"]
    assert [0.0, 2.0] in bars
    assert [label.get_text() for label in heat.get_xticklabels()] == ["a", "world"]
    assert {text.get_text() for text in heat.texts} == {"0.50", "0.60", "–"}
    assert areas.get_ylim() == (5, 0)
    assert areas.get_xscale() == "log"
    assert not empty.axison


def test_legend_entries_are_the_labelled_marks_once() -> None:
    marks = [Points([0], [0], "red", label="x"), Points([1], [1], "red", label="x"), Points([1], [1]), Rule("x", 0)]
    assert keys(marks) == [Key("x", "red")]


def test_the_last_stage_is_blue_and_no_two_of_a_few_are_alike() -> None:
    colours = stage_colours(["base", "sft", "dpo", "rl"])
    assert colours["rl"] == "blue"
    assert len(set(colours.values())) == 4
    assert all(is_color_like(PALETTE[colour]) for colour in colours.values())


def test_one_finding_is_the_only_one_that_fits_and_not_the_first_of_several() -> None:
    findings = Findings(replace(a_finding(x), where={"stage": stage}) for x, stage in ((0.1, "base"), (0.9, "rl")))
    found = findings.one("interaction", stage="rl")
    assert found is not None
    assert found.estimate == 0.9
    assert findings.one("interaction", stage="dpo") is None
    with pytest.raises(LookupError, match=r"2 findings of interaction fit.*base.*rl"):
        findings.one("interaction")


def test_names_with_braces_are_printed_as_they_are() -> None:
    finding = a_finding(-0.5, -0.6, -0.4)
    (said,) = sentence("models", "from rl{kl=0} to {0}: {}, not {1}", {}, finding)
    assert said.text == "from rl{kl=0} to -0.500 [-0.600, -0.400]: -0.500 [-0.600, -0.400], not {1}"
