"""The report agrees with the findings, escapes what models wrote, and loads nothing from anywhere."""

from __future__ import annotations

import io
import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure
from rich.console import Console

from enaction.chart import Axis, Chart, Heat, Panel, points_of
from enaction.errors import StudyError
from enaction.experiments.matrix import Matrix, grids
from enaction.experiments.matrix.charts import charts, hero
from enaction.experiments.matrix.lookup import readings, stages
from enaction.experiments.matrix.row_charts import PAPER_RECOGNITION
from enaction.findings import Finding, Findings, read_findings, select, write_findings
from enaction.page import Grid, Page, Section, Statement
from enaction.paper import claims, questions, verdict
from enaction.passages import Message, Passage, write_passages
from enaction.report import build_report
from enaction.report.drawing import draw, save
from enaction.report.terminal import show, tables
from enaction.shown import NONE, contains, number, short_names, with_interval
from enaction.stats import interaction, log_ratio_split, other_self_ratio

STAGES = ("base", "sft", "dpo", "rl")
FRAMINGS = ("assistant", "user", "none")
FAMILIES = ("ash", "birch", "cedar")
ATTACK = "<script>alert('own words')</script><img src=x onerror=alert(1)>"
# Planted: how much lower log entropy is on own text, by stage and framing.
OWN = {"base": (0.002, 0.0, 0.003), "sft": (0.06, 0.03, 0.03), "dpo": (0.12, 0.07, 0.08), "rl": (0.75, 0.5, 0.45)}
SHARPNESS = {"base": 1.05, "sft": 0.95, "dpo": 0.85, "rl": 0.6}
# Quantities that the experiment writes with a null.
NULLS = {
    "ownness": 0.0,
    "other_self_ratio": 1.0,
    "base_reader_ratio": 1.0,
    "world_self_ratio": 1.0,
    "interaction": 0.0,
    "interaction_change": 0.0,
    "log_ratio": 0.0,
    "recognition": 0.0,
    "ease": 0.0,
    "matched_gap": 0.0,
    "identity_residual": 0.0,
}


def finding(quantity: str, where: dict[str, Any], estimate: float | None, half: float | None, **more: Any) -> Finding:
    low, high = (None, None) if half is None or estimate is None else (estimate - half, estimate + half)
    unit = "ratio" if "ratio" in quantity and quantity != "log_ratio" else "nats"
    details = {"n": 60, "unit": unit, "definition": f"How {quantity} is computed; interval over prompts."}
    details |= {"null": NULLS.get(quantity)} | more
    return Finding("matrix", quantity, where, estimate, low, high, **details)


def entropies(names: list[str], stage: str, framing: int, seed: int = 1) -> np.ndarray:
    """[R, A]: sharpness of the stage, reader and author effects, and the planted effect on the diagonal."""
    rng = np.random.default_rng([seed, STAGES.index(stage)])
    n = len(names)
    log_RA = np.log(SHARPNESS[stage]) + rng.normal(0, 0.05, (n, 1)) + rng.normal(0, 0.08, (1, n))
    log_RA = log_RA + rng.normal(0, 0.001, (n, n)) - np.eye(n) * OWN[stage][framing]
    return np.exp(log_RA)


def a_run(
    families: tuple[str, ...] = FAMILIES,
    of_stages: tuple[str, ...] = STAGES,
    of_framings: tuple[str, ...] = FRAMINGS,
    seed: int = 1,
) -> list[Finding]:
    """Findings as the matrix experiment writes them, computed from planted entropies."""
    found: list[Finding] = []
    for framing in of_framings:
        k = FRAMINGS.index(framing)
        for stage in of_stages:
            names = [f"{family}-{stage}" for family in families]
            found += _of_matrix(names, stage, framing, entropies(names, stage, k, seed))
        found += _of_changes(found, of_stages, framing)
        if "base" in of_stages[:-1]:
            found += _of_bases(families, max(of_stages, key=STAGES.index), framing)
    names = [f"{family}-{stage}" for stage in of_stages for family in families]
    rng = np.random.default_rng(seed)
    for name in names:
        residual = float(rng.normal(0, 1))
        where = {"reader": name, "framing": of_framings[0]}
        found.append(finding("identity_residual", where, residual, 1.96, unit="standard deviations", n=7000))
        found.append(finding("identity_gap", where, residual * 0.006, 0.012))
    for name in [*names, "world"]:
        for quantity, value in (("ended_share", 0.99), ("mean_words", 71.3), ("repeated_trigrams", 0.01),
                                ("distinct_bigrams", 0.87), ("drift_share", 0.0)):  # fmt: skip
            found.append(finding(quantity, {"author": name}, value, None, unit="share"))
    return found


def _of_matrix(names: list[str], stage: str, framing: str, entropy_RA: np.ndarray) -> list[Finding]:
    found = []
    for r, reader in enumerate(names):
        for a, author in enumerate([*names, "world"]):
            own = reader == author
            value = entropy_RA[r, a] if author != "world" else SHARPNESS[stage] * 1.02
            where = {"reader": reader, "author": author, "framing": framing, "reader_stage": stage}
            where |= {"author_stage": "world" if author == "world" else stage}
            above = 1.0 if own or stage == "base" else 2.6 if stage == "rl" else 1.3
            found.append(finding("entropy", where, value, 0.02))
            found.append(finding("surprisal", where, value * above, 0.04))
            found.append(finding("ownness", where, 0.0 if own else value * (above - 1) + 0.1, 0.03))
    if len(names) < 2:  # one model alone: nothing to compare
        return found
    split = log_ratio_split(entropy_RA)
    values = {
        "other_self_ratio": other_self_ratio(entropy_RA),
        "interaction": interaction(entropy_RA),
        "log_ratio": split.log_geometric_ratio,
        "recognition": split.recognition,
        "ease": split.ease,
        "world_self_ratio": SHARPNESS[stage] * 1.02 / np.diagonal(entropy_RA),
        "matched_gap": np.full(len(names), -0.02 if stage == "rl" else 0.0),
    }
    for quantity, value_R in values.items():
        for reader, value in zip([*names, "mean"], [*value_R, value_R.mean()], strict=True):
            if (reader, quantity) == ("mean", "matched_gap"):
                continue
            where = {"reader": reader, "stage": stage, "framing": framing, "authors": names}
            p = 0.0005 if quantity == "interaction" else None
            found.append(finding(quantity, where, float(value), 0.012 if reader == "mean" else 0.02, p=p))
    return found


def _of_changes(found: list[Finding], of_stages: tuple[str, ...], framing: str) -> list[Finding]:
    mean = {f.where["stage"]: f.estimate or 0.0 for f in select(found, "interaction", reader="mean", framing=framing)}
    return [
        finding("interaction_change", {"reader": "mean", "stage": s, "from_stage": b, "framing": framing},
                mean[s] - mean[b], 0.011)
        for b, s in itertools.pairwise(of_stages)
    ]  # fmt: skip


def _of_bases(families: tuple[str, ...], last: str, framing: str) -> list[Finding]:
    found = []
    names = [f"{family}-{last}" for family in families]
    for family in families:
        for author in names:
            where = {"reader": f"{family}-base", "author": author, "framing": framing}
            where |= {"reader_stage": "base", "author_stage": last}
            found.append(finding("entropy", where, 1.1, 0.02))
            found.append(finding("surprisal", where, 1.3, 0.04))
            found.append(finding("ownness", where, 0.2, 0.03))
        where = {"reader": f"{family}-base", "of": f"{family}-{last}", "stage": last, "framing": framing}
        found.append(finding("base_reader_ratio", where, 1.0, 0.03))
    return found


def real_run() -> list[Finding]:
    """Two real models, one matrix of its own name, one of them without a chat template, stages that differ."""
    names = ["org/A-Very-Long-Model-Name-135M-Instruct-Q4_1", "another-org/gemma-3-270m-base-q4-k-m"]
    found = _of_matrix(names, "sft", "assistant", np.array([[2.53, 2.93], [3.05, 2.88]]))
    stage_of = dict(zip(names, ("sft", "base"), strict=True))
    note = f"{names[1]} has no chat template: read without one"
    framing_of = dict(zip(names, ("assistant", "none"), strict=True))

    def real(where: dict[str, Any]) -> dict[str, Any]:
        if "author" not in where:
            return where | {"stage": "public"}
        reader = where["reader"]
        return where | {"reader_stage": stage_of[reader], "author_stage": "sft", "framing": framing_of[reader]}

    return [
        replace(f, where=real(f.where), notes=f.notes if "author" in f.where else [*f.notes, note])
        for f in found
        if f.where.get("author") != "world" and f.quantity != "world_self_ratio"
    ]


def passages_of(author: str, *, hostile: bool = False) -> list[Passage]:
    text = "one stormy day adam walked to the great classroom ! then there was a strange box under the book ."
    return [
        Passage(
            id=f"{i}/0",
            prompt_id=f"p{i:02d}",
            prompt=(Message(role="user", content=f"tell me about topic {i} {ATTACK if hostile else ''}"),),
            response=ATTACK + text if hostile else text,
            author=author,
            ended=i % 2 == 0,
        )
        for i in range(5)
    ]


def a_folder(folder: Path, findings: list[Finding]) -> Path:
    """A run folder as `enaction run` leaves it, with model text that attacks the page."""
    write_findings(folder / "findings.json", findings)
    authors = list(dict.fromkeys(f.where["author"] for f in findings if "author" in f.where)) or ["ash-rl"]
    for author in authors:
        if "/" not in author:
            write_passages(
                passages_of(author, hostile=author.startswith("ash")), folder / "passages" / f"{author}.parquet"
            )
    manifest = {"versions": {"torch": "2.13.0"}, "seed": 0, "models": {"ash-rl": {"model": ATTACK, "dtype": "float32"}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "study.yaml").write_text(yaml.safe_dump({"name": "planted", "note": ATTACK}))
    return folder


def without_ownness(found: list[Finding]) -> list[Finding]:
    """As findings were before surprisal less entropy was among them."""
    return [f for f in found if f.quantity not in ("ownness", "told_apart_share")]


RUNS = {
    "all stages": a_run,
    "two real models": real_run,
    "twelve models": lambda: a_run(tuple(f"family{i:02d}" for i in range(12)), ("sft", "rl"), ("assistant",)),
    "one model alone": lambda: a_run(("ash",), ("rl",), ("none",)),
    "no framing but none": lambda: a_run(("ash", "birch"), ("base", "rl"), ("none",)),
    "no findings": lambda: [],
    "numbers missing": lambda: [
        replace(f, estimate=None, low=None, high=None) for f in a_run(FAMILIES, ("base", "rl"), ("user",))
    ],
    "before ownness": lambda: without_ownness(a_run()),
    "no intervals": lambda: [replace(f, low=None, high=None) for f in a_run(FAMILIES[:2], ("dpo", "rl"))],
}


@pytest.fixture(params=RUNS, ids=lambda name: name.replace(" ", "_"))
def findings(request: pytest.FixtureRequest) -> list[Finding]:
    return RUNS[request.param]()


def pages_of(findings: list[Finding]) -> dict[str, Page]:
    return {"matrix": Matrix().page(Findings(findings).of("matrix"))} if findings else {}


def report(run: Path, more: dict[str, Page] | None = None, *, png: bool = False) -> Path:
    """The report of a folder as `enaction run` makes it; `more` are pages beyond the matrix."""
    findings = read_findings(run / "findings.json") if (run / "findings.json").exists() else Findings()
    pages = pages_of(list(findings)) | (more or {})
    return build_report(
        run,
        pages,
        answer=verdict.answer(findings, pages),
        claims=claims.checked(findings),
        questions=questions.answered(pages),
        png=png,
    )


def sentences(findings: list[Finding]) -> list[str]:
    return [sentence for page in pages_of(findings).values() for sentence in page.sentences]


def figures(findings: list[Finding], **options: float) -> dict[str, Figure]:
    return {name: draw(chart) for name, chart in charts(Findings(findings), **options).items()}


class Parsed(HTMLParser):
    """What a browser would do with the page: its elements, the addresses it would load, its visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, content in attrs:
            assert not name.startswith("on"), f"{tag} has the handler {name}"
            if name in ("src", "href", "srcset", "action", "data", "poster"):
                (self.links if tag == "a" else self.loads).append(content or "")
            if name == "id":
                self.ids.append(content or "")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_what_a_model_wrote_is_shown_and_never_run(tmp_path):
    page = report(a_folder(tmp_path, a_run())).read_text()
    parsed = Parsed(page)
    assert "script" not in parsed.tags
    assert ATTACK not in page
    assert ATTACK in "".join(parsed.text), "the text itself must still be there to read"
    pictures = parsed.tags.count("img") + parsed.tags.count("source")
    assert pictures == len([x for x in parsed.loads if x.startswith("data:image/svg+xml")]) > 0


def test_the_page_loads_nothing(tmp_path, findings):
    page = report(a_folder(tmp_path, findings)).read_text()
    parsed = Parsed(page)
    assert all(address.startswith("data:") for address in parsed.loads)
    assert all(address.startswith("#") for address in parsed.links)
    assert not re.search(r"url\(|@import", page)
    assert {link[1:] for link in parsed.links} <= set(parsed.ids), "a link that leads nowhere"
    assert len(set(parsed.ids)) == len(parsed.ids)


def test_every_quantity_is_defined_on_the_page(tmp_path):
    found = [*a_run(), finding("a_quantity_of_tomorrow", {"layer": 3}, 0.5, None)]
    page = report(a_folder(tmp_path, found)).read_text()
    text = "".join(Parsed(page).text)
    for f in found:
        assert f'id="def-matrix-{f.quantity}"' in page
        assert f.definition in text


def test_another_experiment_has_a_page_of_its_own_and_leaves_the_matrix_alone(tmp_path, findings):
    where = {"reader": "ash-rl", "author": "ash-rl", "framing": "assistant", "reader_stage": "rl", "of": ATTACK}
    found = [replace(finding("entropy", where, 9.25, None), experiment="persona")]
    chart = Chart("Entropy by persona.", [[Panel([points_of([0.0], found)], Axis(ATTACK))]], 3, 2)
    grid = Grid("By persona", ["persona", "entropy"], [[ATTACK, "0.5"]])
    said = Statement("has entropy 9.25.", ("entropy",), where, subject=ATTACK)
    page_of = Page(
        "Personas", "Does it matter?", [said], [Section(charts=["persona"], grids=[grid])], {"persona": chart}
    )

    plain = report(a_folder(tmp_path / "plain", findings)).read_text()
    page = report(a_folder(tmp_path / "more", [*findings, *found]), {"persona": page_of}).read_text()
    parsed = Parsed(page)
    assert "script" not in parsed.tags
    assert len(set(parsed.ids)) == len(parsed.ids)
    assert {link[1:] for link in parsed.links} <= set(parsed.ids)
    assert (tmp_path / "more" / "figures" / "persona.svg").exists()
    assert "".join(parsed.text).count(f"{ATTACK}: has entropy 9.25.") == 1  # under its question, not on its page again
    matrix = re.compile(r'<section id="page-matrix">.*?</section>', re.DOTALL)
    if findings:
        assert matrix.findall(page) == matrix.findall(plain) != []


def test_a_rebuilt_report_has_the_same_bytes(tmp_path):
    run = a_folder(tmp_path, a_run())

    def contents() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file()}

    report(run)
    first = contents()
    (run / "report.html").unlink()
    report(run)
    assert contents() == first
    assert {p.suffix for p in (run / "figures").iterdir()} == {".svg"}
    report(run, png=True)
    assert {p.suffix for p in (run / "figures").iterdir()} == {".svg", ".png"}


def test_a_folder_without_findings_says_what_to_do(tmp_path):
    with pytest.raises(StudyError, match="enaction run"):
        report(tmp_path)


def test_a_damaged_manifest_is_named(tmp_path):
    run = a_folder(tmp_path, [])
    (run / "manifest.json").write_text("{")
    with pytest.raises(StudyError, match=r"manifest\.json"):
        report(run)


# Quantities whose sentences carry a verdict, with a place that gets a sentence.
@pytest.mark.parametrize(
    ("quantity", "begins"),
    [
        ("interaction", "RL models, assistant turn:"),
        ("other_self_ratio", "RL models, assistant turn:"),
        ("interaction_change", "From DPO to RL"),
        ("recognition", "RL models, assistant turn, split"),
        ("world_self_ratio", "RL models, assistant turn, world against"),
        ("base_reader_ratio", "RL models, assistant turn, the same texts"),
        ("matched_gap", "RL models, assistant turn, own minus other"),
    ],
)
@pytest.mark.parametrize(
    ("low", "high", "none"),
    [
        (-0.2, -0.1, False),
        (-0.2, 0.0, True),
        (-0.1, 0.1, True),
        (0.0, 0.1, True),
        (1e-7, 0.1, False),
        (0.1, 0.3, False),
    ],
)
def test_no_effect_is_said_exactly_where_the_interval_contains_the_null(quantity, begins, low, high, none):
    # The tested quantity alone, so that a verdict in the sentence can only be its own.
    kept = [f for f in a_run() if f.quantity in (quantity, "entropy")]
    null = NULLS[quantity]
    # A run with no matrix but of this quantity: the stages come from the entropies.
    moved = [
        replace(f, estimate=null + (low + high) / 2, low=null + low, high=null + high) if f.quantity == quantity else f
        for f in kept
    ]
    lines = [line for line in sentences(moved) if line.startswith(begins)]
    assert len(lines) == 1
    assert ("no effect" in lines[0]) is none


def test_no_verdict_without_an_interval():
    lines = sentences(RUNS["no intervals"]())
    assert lines
    assert not any("no effect" in line or "overconfident" in line for line in lines)


@pytest.mark.parametrize(("estimate", "words"), [(-0.009, "a trace"), (-0.05, "recognition"), (-0.003, "no effect")])
def test_an_interaction_that_is_there_but_tiny_is_called_a_trace(estimate: float, words: str) -> None:
    (line,) = sentences(
        [finding("interaction", {"reader": "mean", "stage": "base", "framing": "none"}, estimate, 0.005)]
    )
    assert words in line
    assert ("a trace" in line) is (words == "a trace")


def test_the_two_verdicts_of_a_stage_are_kept_apart():
    # A ratio moved by easy text alone: the interaction says no effect, the ratio does not.
    found = [replace(f, estimate=0.0, low=-0.01, high=0.01) if f.quantity == "interaction" else f for f in a_run()]
    line = next(line for line in sentences(found) if line.startswith("RL models, assistant turn:"))
    interaction_clause, ratio_clause = line.split("; ")
    assert "no effect" in interaction_clause
    assert "no effect" not in ratio_clause


def test_an_identity_residual_outside_the_limits_is_the_first_thing_said(tmp_path):
    good = a_run()
    assert sentences(good)[0].startswith("Instrument")
    first = next(f for f in good if f.quantity == "identity_residual")
    bad = [replace(f, estimate=-4.01) if f is first else f for f in good]
    assert sentences(bad)[0].startswith("WARNING")
    assert first.where["reader"] in sentences(bad)[0]
    assert "ALARM" in report(a_folder(tmp_path, bad)).read_text()
    assert "ALARM" in printed(bad)
    assert "ALARM" not in printed(good)


def test_overconfidence_is_claimed_only_where_surprisal_exceeds_entropy():
    overconfident = [line for line in sentences(a_run()) if "overconfident" in line]
    assert {line.split(": ")[0].split(", ")[-1] for line in overconfident} == {"foreign text", "world text"}
    equal = {(f.where["reader"], f.where["author"], f.where["framing"]): f for f in select(a_run(), "entropy")}
    calibrated = [
        replace(equal[f.where["reader"], f.where["author"], f.where["framing"]], quantity="surprisal")
        if f.quantity == "surprisal"
        else f
        for f in a_run()
    ]
    assert not any("overconfident" in line for line in sentences(calibrated))
    assert any("world text: " in line and "does not exceed" in line for line in sentences(calibrated))


def test_world_and_foreign_text_of_the_last_stage_are_the_cells_of_that_stage():
    found = a_run()
    (first, *_) = readings(Findings(found), "rl", "assistant")
    own, others, world = ([cell["entropy"].where for cell in first.texts[k]] for k in ("own", "others", "world"))
    assert [(where["reader"], where["author"]) for where in own] == [("ash-rl", "ash-rl")]
    assert [where["author"] for where in others] == ["birch-rl", "cedar-rl"]
    assert [where["author"] for where in world] == ["world"]
    (base, *_) = readings(Findings(found), "rl", "assistant", by_base=True)
    assert (base.reader, base.author) == ("ash-base", "ash-rl")
    assert base.texts["own"][0]["entropy"].where == own[0] | {"reader": "ash-base", "reader_stage": "base"}


def test_a_reader_without_template_stands_in_every_framing_and_is_marked():
    text = printed_grid(grids.matrices(Findings(real_run()))[-1])
    assert "3.050" in text
    assert "2.530" in text
    assert "†" in text


def printed(findings: list[Finding], *, full: bool = True) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    found, pages = Findings(findings), pages_of(findings)
    show(pages, console, answer=verdict.answer(found, pages), claims=claims.checked(found), full=full)
    return console.export_text()


def test_the_first_screen_is_short_and_begins_with_the_answer(findings):
    lines = printed(findings, full=False).splitlines()
    assert len(lines) <= 45
    assert all(len(line) <= 100 for line in lines)
    if "recognition" in {f.quantity for f in findings if f.estimate is not None}:
        assert "text like their own" in lines[0]


def test_nothing_is_printed_twice():
    text = " ".join(printed(a_run()).split())
    for sentence in re.findall(r"[^.;:]*log units[^.;:]*", text):
        assert text.count(sentence) == 1 or len(sentence) < 40, sentence


def test_the_report_begins_with_the_answer_and_says_each_sentence_once(tmp_path):
    found = a_run()
    page = report(a_folder(tmp_path, found)).read_text()
    text = "".join(Parsed(page).text)
    answer = verdict.answer(Findings(found), pages_of(found))
    order = [page.index(part) for part in ('class="verdict"', 'id="fig-hero"', 'class="numbers"', 'id="claims"')]
    assert order == sorted(order)
    assert len(answer.numbers) == 3
    for statement in answer.sentences:
        assert text.count(statement.text) == 1
    for key in answer.numbers:
        assert f">{key.text}</dd>" in page
    for statement in pages_of(found)["matrix"].statements:
        assert text.count(statement.text) <= 1
    # Everything after the claims is folded: no table and no figure is outside of <details>.
    rest = page[page.index('<section id="questions">') :]
    outside = re.sub(r"<details.*</details>", "", re.sub(r"</section>", "\n", rest.replace("\n", " ")))
    assert "<table" not in outside
    assert "<figure" not in outside


def printed_grid(grid: Grid) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    for table in tables(grid):
        console.print(table)
    return console.export_text()


def test_terminal_tables_fit_and_show_the_numbers(findings):
    for page in pages_of(findings).values():
        for grid in page.grids:
            text = printed_grid(grid)
            assert all(len(line) <= 100 for line in text.splitlines())
            # A name may be cut in its middle, with the mark inside it; a number never.
            assert not re.search(r"(?<![\w.-])-?\d[\d.]*…|…\d*\.", text)
            for cell in (cell for row in grid.cells for cell in row if cell.look not in ("name", "mean")):
                assert cell.text in text or cell.text == NONE  # rows without a number in a block are left out


def test_matrix_table_has_the_cells_in_their_places():
    found = a_run()
    text = printed_grid(grids.matrices(Findings(found))[-1])
    for r in FAMILIES:
        row = next(line for line in text.splitlines() if line.strip().startswith(r))
        cells = [f"{number(value(found, r, a))}" for a in FAMILIES]
        assert [cell.split(" / ")[0] for cell in re.findall(r"\d\.\d+ / \d\.\d+", row)][:3] == cells


def value(found: list[Finding], reader: str, author: str) -> float | None:
    where = {"reader": f"{reader}-rl", "author": f"{author}-rl", "framing": "assistant"}
    (f,) = select(found, "entropy", **where)
    return f.estimate


def test_figures_draw_what_there_is(findings):
    drawn = figures(findings)
    expected = {"identity_residual": "identity", "entropy": "matrix", "interaction": "arc", "recognition": "split"}
    measured = {f.quantity for f in findings if f.estimate is not None}
    for quantity, name in expected.items():
        assert (name in drawn) == (quantity in measured)


def test_what_stands_behind_the_end_of_training_is_not_joined_to_its_course() -> None:
    found = a_run()
    kin = [replace(f, where=f.where | {"stage": "kin"}) for f in found if f.where.get("stage") == "rl"]
    for ax in figures([*found, *kin])["arc"].axes:
        assert [label.get_text() for label in ax.get_xticklabels()] == ["base", "SFT", "DPO", "RL", "kin"]
        joined = [line for line in ax.lines if line.get_linestyle() != "None"]
        assert max(len(np.asarray(line.get_xdata())) for line in joined) == 4


def test_a_saved_figure_is_a_vector_and_a_picture(tmp_path):
    vector, picture = save(charts(Findings(a_run()))["arc"], tmp_path / "figures" / "arc", ("svg", "png"))
    assert vector.read_text().startswith("<?xml")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_figures_leave_no_global_state():
    before = dict(matplotlib.rcParams)
    figures(a_run())
    assert dict(matplotlib.rcParams) == before


def test_figures_do_without_pyplot():
    # In a process of its own: another test may have imported it here.
    code = (
        "import sys; from enaction.report import build_report, show; early = 'matplotlib' in sys.modules\n"
        "from enaction.chart import Chart, Panel; from enaction.report.drawing import draw\n"
        "draw(Chart('', [[Panel([])]], 2, 2)); sys.exit(early or 'matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_labels_of_a_figure_do_not_overlap():
    runs = a_run(), real_run(), RUNS["twelve models"]()
    for name, figure in ((name, figure) for run in runs for name, figure in figures(run).items()):
        figure.draw_without_rendering()
        for ax in figure.axes:
            for axis in (ax.xaxis, ax.yaxis):
                boxes = [label.get_window_extent() for label in axis.get_ticklabels() if label.get_text().strip()]
                if any(label.get_rotation() for label in axis.get_ticklabels()):
                    continue  # boxes of slanted text overlap where the text does not
                assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes)), f"{name}: {axis}"


def test_the_reference_is_drawn_only_if_asked_for():
    def labels(**options: float) -> str:
        (legend,) = figures(a_run(), **options)["split"].legends
        return " ".join(text.get_text() for text in legend.get_texts())

    assert "0.48" in labels(reference=PAPER_RECOGNITION)
    assert "paper" not in labels()


def test_every_cell_of_a_matrix_has_both_quantities_with_a_mark_where_it_is_not_the_readers_text():
    text = printed_grid(grids.matrices(Findings(a_run()))[-1])
    assert "familiarity: entropy / surprisal" in text
    assert "authorship: surprisal less entropy" in text
    lines = [line for line in text.splitlines() if "authorship  " in line]
    assert len(lines) == len(FAMILIES)
    for i, line in enumerate(lines):
        numbers = re.findall(r"-?\d\.\d{3}\*?", line)
        assert len(numbers) == len(FAMILIES) + 1
        assert [n.endswith("*") for n in numbers] == [j != i for j in range(len(FAMILIES) + 1)]


def test_findings_without_ownness_are_shown_as_before():
    found = Findings(without_ownness(a_run()))
    text = printed_grid(grids.matrices(found)[-1])
    assert "authorship" not in text
    assert "familiarity" not in text
    assert "ownness" not in charts(found)
    chart = hero(found)
    assert chart is not None
    assert len(chart.panels[0]) == 2


def test_hero_has_entropy_and_ownness_side_by_side():
    found = a_run()
    chart = hero(Findings(found))
    assert chart is not None
    familiarity, authorship, arc = chart.panels[0]
    (entropy,), (ownness,) = familiarity.marks, authorship.marks
    assert isinstance(entropy, Heat)
    assert isinstance(ownness, Heat)
    assert ownness.colours == "around 0"
    assert ownness.low == -ownness.high  # 0 is in the middle
    assert [ownness.values[i][i] for i in range(3)] == [0.0, 0.0, 0.0]
    (planted,) = select(found, "ownness", reader="ash-rl", author="birch-rl", framing="assistant")
    assert ownness.values[0][1] == planted.estimate
    assert ownness.outlined == entropy.outlined
    assert "Familiarity" in familiarity.title
    assert "Authorship" in authorship.title
    assert "Familiarity" in arc.title


def witnesses(names: list[str], stage: str = "rl") -> list[Finding]:
    """What a verdict on each reader rests on; the first is certified and the last reads everything alike."""
    found = []
    for i, reader in enumerate(names):
        where = {"reader": reader, "stage": stage, "framing": "assistant"}
        word = "certified" if i == 0 else "flat" if i == len(names) - 1 else "disagree"
        found += [
            finding("recognition_adjusted", where, 0.31 - 0.3 * bool(i), 0.02, null=0.0),
            finding("difficulty_slope", where, 0.62, 0.05, null=0.0),
            finding("recognised", where, float(i == 0), None, notes=["read without template", f"{word}: its reasons"]),
        ]
    return found


def test_who_recognises_has_a_row_a_reader_with_every_witness_and_the_verdict():
    names = [f"{family}-rl" for family in FAMILIES]
    brief, *every = grids.recognisers(Findings([*a_run(), *witnesses(names)]))
    assert brief.brief
    assert not any(grid.brief for grid in every)
    rows = {row[0].text: row for row in brief.cells}
    assert [cell.text for cell in brief.header_cells] == [
        "reader", "recognition", "adjusted", "slope", "matched gap", "verdict"
    ]  # fmt: skip
    assert [rows[name][-1].text for name in names] == ["certified", "disagree", "flat"]
    assert rows["ash-rl"][2].text == "0.31 [0.29, 0.33]"
    assert rows["ash-rl"][2].look == "strong"
    assert rows["birch-rl"][2].look == ""
    assert rows["ash-rl"][3].text == "0.62"
    assert rows["mean"][-1].text == NONE
    assert all(len(line) <= 100 for line in printed_grid(brief).splitlines())
    assert printed_grid(brief).count("verdict") == 1  # one block of columns
    means = grids.arc_of_means(Findings([*a_run(), *witnesses(names)]))
    assert "certified" in [cell.text for cell in means.header_cells]
    assert "1 of 3" in printed_grid(means)


def test_two_readers_have_one_row_between_them():
    found = [
        f
        for f in a_run(("ash", "birch"), ("rl",), ("assistant",))
        if f.quantity not in ("recognition", "interaction", "ease") or f.where["reader"] == "mean"
    ]
    brief, _ = grids.recognisers(Findings(found))
    assert len(brief.rows) == 1
    assert brief.cells[0][0].text == "both: one number"
    assert "of 2" not in printed_grid(brief)
    assert "of 2" not in printed_grid(grids.arc_of_means(Findings(found)))
    assert "below 0" not in [cell.text for cell in grids.arc_of_means(Findings(found)).header_cells]


def test_hero_of_several_runs_is_their_mean():
    chart = hero(Findings(a_run(seed=1)), Findings(a_run(seed=2)))
    assert chart is not None
    figure = draw(chart)
    shown = [text.get_text() for text in figure.axes[0].texts]
    mean = np.mean([value(a_run(seed=s), "ash", "birch") or 0.0 for s in (1, 2)])
    assert number(float(mean), 2) in shown
    assert hero(Findings()) is None


def test_a_bound_that_leaves_out_the_null_is_not_rounded_onto_it():
    f = finding("other_self_ratio", {}, 1.01, None)
    f = replace(f, low=1.0002, high=1.02)
    assert contains(f, 1.0) is False
    assert "[1.0002," in with_interval(f)
    assert with_interval(replace(f, low=1.0)).endswith("[1.000, 1.020]")
    assert number(-0.0001) == "0.000"


def test_stages_come_in_the_order_of_training_and_unknown_ones_after():
    found = [
        finding("interaction", {"reader": "a", "stage": s, "framing": "none"}, 0.0, 0.1) for s in ("x", "rl", "base")
    ]
    assert stages(Findings(found)) == ["base", "rl", "x"]


@pytest.mark.parametrize("names", [["a/same", "b/same"], ["x" * 30 + "1" + "y" * 30, "x" * 30 + "2" + "y" * 30]])
def test_short_names_are_never_two_alike(names):
    short = short_names(names, 12)
    assert len(set(short.values())) == len(names)
    assert all(len(name) <= 12 for name in short.values())
