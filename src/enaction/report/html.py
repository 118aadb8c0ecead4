"""The report of a run: one HTML file with its figures inside, made of the run folder and of its experiments' pages.

The file loads nothing from anywhere: style sheets are inline and pictures are data URIs. Everything that a model or a
user wrote (text, names, notes) goes through the template's escaping. The same folder gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from enaction.chart import Chart
from enaction.files import write_atomically
from enaction.findings import Finding, Findings, read_findings
from enaction.page import Cell, Grid, Page, Statement, merged
from enaction.paper.claims import Checked
from enaction.paper.questions import Answered
from enaction.paper.standing import LEVEL, familywise
from enaction.paper.verdict import Answer
from enaction.passages import Message, Passage, read_passages
from enaction.report.narrow import narrow
from enaction.report.token_view import LEVELS, NATS_PER_LEVEL, views
from enaction.shown import NONE, with_interval
from enaction.study.store import Run
from enaction.words import ordered

SAMPLES_PER_AUTHOR = 3
# A response or prompt longer than this many characters is cut in the report; the run folder has all of it.
SAMPLE_LENGTH = 1500
# The role of a message is a word; whatever else a file gave is cut here.
_ROLE_LENGTH = 40


# A word with letters that are written from right to left, or with marks of direction: it would turn the numbers that
# follow it round.
_TURNING = re.compile(
    "[\\w.-]*[\u0590-\u08ff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff"
    "\U0001e800-\U0001efff][\\w.-]*"
)


class Prose(str):
    """Text whose own direction stays: what a model wrote or was asked, and a file."""


@dataclass(frozen=True)
class Sample:
    """A passage as the report shows it."""

    prompt: list[tuple[str, Prose]]
    response: Prose
    remark: str


@dataclass(frozen=True)
class Said:
    """A sentence with its anchor: in full, or as a link to where the page has it already."""

    statement: Statement
    anchor: str
    is_repeat: bool


@dataclass(frozen=True)
class Picture:
    """A chart as data URIs, the second for narrow screens (empty where it would be the same), with their widths."""

    wide: str
    narrow: str
    inches: float
    narrow_inches: float


@dataclass(frozen=True)
class Defined:
    """A quantity with its units and every definition that it was computed by."""

    experiment: str
    quantity: str
    units: list[str]
    definitions: list[str]


def build_report(
    run: Path,
    pages: Mapping[str, Page],
    *,
    answer: Answer | None = None,
    claims: Sequence[Checked] = (),
    questions: Sequence[Answered] = (),
    cautions: Sequence[Statement] = (),
    png: bool = False,
) -> Path:
    """Make figures/ and report.html of a run anew.

    Args:
        run: the run folder, with its findings, manifest, study and passages.
        pages: of its experiments, in order.
        answer: what the run says; shown first.
        claims: the paper's claims with what the run says to each.
        questions: with the statements that answer them.
        cautions: shown above everything else.
        png: figures as PNG too, beside SVG.

    Returns:
        The path of report.html.

    Raises:
        StudyError: the folder has no findings, or its manifest is not JSON.
        PassageError: a passage file of the run is damaged.
    """
    findings = read_findings(run / "findings.json")
    defined = _definitions(findings)
    charts = {name: chart for page in pages.values() for name, chart in page.charts.items()}
    first, seen = answer.sentences if answer else [], set[str]()
    said = {id(statement) for of in (first, *(item.statements for item in questions)) for statement in of}
    text = _template().render(
        title=run.resolve().name,
        verdict=_once_each(first, seen),
        numbers=answer.numbers if answer else [],
        pages=pages,
        heroes=[page.hero for page in pages.values() if page.hero],
        unsaid=_unsaid(pages, said),
        notices=_notices(pages, said),
        charts=charts,
        pictures=_pictures(run, charts, ("svg", "png") if png else ("svg",)),
        samples=_samples(run, pages),
        views=views(run, [reading for page in pages.values() for reading in page.readings]),
        levels=LEVELS,
        nats_per_level=NATS_PER_LEVEL,
        claims=claims,
        questions=[(item, _once_each(item.statements, seen)) for item in questions],
        cautions=cautions,
        level=LEVEL,
        familywise=familywise() if claims else None,
        defined=defined,
        known={(of.experiment, of.quantity) for of in defined},
        everything=_everything(findings),
        manifest=_leaves(Run(run).manifest()),
        study=Prose((run / "study.yaml").read_text(encoding="utf-8") if (run / "study.yaml").is_file() else ""),
        notes=_notes(findings),
    )
    path = run / "report.html"
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("enaction.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.finalize = _isolated
    return environment.get_template("report.html.j2")


def _isolated(value: Any) -> Any:
    """A sentence, name or cell in which no name changes the order of what follows it."""
    if type(value) is not str or value.isascii():
        return value
    return _TURNING.sub("\u2068\\g<0>\u2069", value)


def _once_each(statements: Sequence[Statement], seen: set[str]) -> list[Said]:
    """The sentences, those of a series as one, in full where they are not among the anchors seen; adds to these."""
    made = []
    for statement in merged(statements):
        anchor = f"said-{hashlib.sha256(statement.sentence.encode()).hexdigest()[:12]}"
        made.append(Said(statement, anchor, anchor in seen))
        seen.add(anchor)
    return made


def _unsaid(pages: Mapping[str, Page], said: set[int]) -> dict[str, list[Statement]]:
    """Of each page the statements that the page shows nowhere else; a series whole if it shows only some of it."""
    unsaid = {}
    for name, page in pages.items():
        left = [statement for statement in page.statements if id(statement) not in said]
        series = {statement.series for statement in left} - {""}
        unsaid[name] = merged([s for s in page.statements if id(s) not in said or s.series in series])
    return unsaid


def _notices(pages: Mapping[str, Page], said: set[int]) -> dict[tuple[str, str], Statement]:
    """Page and section -> its notice, if that is a warning or is shown nowhere else."""
    return {
        (name, section.title): section.notice
        for name, page in pages.items()
        for section in page.sections
        if section.notice and (section.notice.verdict in ("alarm", "left out") or id(section.notice) not in said)
    }


def _pictures(run: Path, charts: Mapping[str, Chart], formats: Sequence[str]) -> dict[str, Picture]:
    """Saves every chart, and gives its pictures by name; figures of an earlier report are removed."""
    from enaction.report.drawing import as_svg, save  # matplotlib, which whoever only prints pages does without

    for earlier in [*(run / "figures").glob("*.svg"), *(run / "figures").glob("*.png")]:
        earlier.unlink()
    made = {}
    for name, chart in charts.items():
        wide = save(chart, run / "figures" / name, formats)[0].read_bytes()
        stacked = narrow(chart)
        made[name] = Picture(
            _data_uri(wide),
            _data_uri(as_svg(stacked)) if stacked else "",
            chart.width,
            stacked.width if stacked else chart.width,
        )
    return made


def _data_uri(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _samples(run: Path, pages: Mapping[str, Page]) -> dict[str, list[Sample]]:
    """A few passages of each author whom a page names, of the same prompts where they have them."""
    named = [author for page in pages.values() for section in page.sections for author in section.authors]
    samples = {}
    for path in sorted((run / "passages").glob("*.parquet")):
        if path.stem not in named:
            continue  # what an experiment derived from an author's text or sampled beside it
        first_of: dict[str, Passage] = {}
        for passage in read_passages(path):
            first_of.setdefault(passage.prompt_id, passage)
        ids = sorted(first_of)
        count = min(SAMPLES_PER_AUTHOR, len(ids))
        chosen = [first_of[ids[(2 * i + 1) * len(ids) // (2 * count)]] for i in range(count)]
        if chosen:
            samples[chosen[0].author] = [_sample(passage) for passage in chosen]
    return {author: samples[author] for author in ordered(samples, named)}


def _sample(passage: Passage) -> Sample:
    response = passage.response
    remarks = {True: [], False: ["cut off at the length limit"], None: []}[passage.ended]
    if len(response) > SAMPLE_LENGTH:
        remarks.append(f"{len(response) - SAMPLE_LENGTH} more characters in the run folder")
        response = f"{response[:SAMPLE_LENGTH]} …"
    prompt, n_cut = _end_of(passage.prompt)
    if n_cut:
        remarks.append(f"{n_cut} more characters of the prompt in the run folder")
    return Sample(prompt, Prose(response), "; ".join(remarks))


def _end_of(prompt: Sequence[Message]) -> tuple[list[tuple[str, Prose]], int]:
    """Role and text of the last messages of a prompt, and how many characters are left out before and in them."""
    shown: list[tuple[str, Prose]] = []
    left, n_cut = SAMPLE_LENGTH, 0
    for message in reversed(prompt):
        content = message["content"]
        if left > 0 or not content:
            text = content if len(content) <= left else f"{content[:left]} …"
            shown.append((message["role"][:_ROLE_LENGTH], Prose(text)))
        n_cut += max(len(content) - max(left, 0), 0)
        left -= len(content)
    return shown[::-1], n_cut


def _definitions(findings: Findings) -> list[Defined]:
    """Each experiment's quantities, in the order of the findings."""
    defined: dict[tuple[str, str], list[Finding]] = {}
    for f in findings:
        defined.setdefault((f.experiment, f.quantity), []).append(f)
    return [Defined(*key, _once(f.unit for f in of), _once(f.definition for f in of)) for key, of in defined.items()]


def _everything(findings: Findings) -> Grid:
    rows = []
    for f in findings:
        place = ", ".join(f"{key} {_plain(at)}" for key, at in f.where.items() if key != "authors")
        names = [Cell(text, "name") for text in (f.experiment, f.quantity, place)]
        rows.append([*names, with_interval(f), str(f.n), f.unit])
    return Grid("Every finding", ["experiment", "quantity", "where", "estimate [95 %]", "n", "unit"], rows)


def _notes(findings: Findings) -> list[tuple[str, str]]:
    """Each note and each reason for leaving out, once, with its quantities; p-values are printed in tables."""
    of: dict[str, list[str]] = {}
    for f in findings:
        for note in [*f.remarks, *([f.left_out] if f.left_out else [])]:
            of.setdefault(note, []).append(f.quantity)
    return [(note, ", ".join(_once(quantities))) for note, quantities in of.items()]


def _leaves(tree: Any, name: str = "") -> list[tuple[str, str]]:
    """The leaves of nested objects with their dotted names."""
    if isinstance(tree, dict) and tree:
        return [leaf for key, child in tree.items() for leaf in _leaves(child, f"{name}.{key}" if name else str(key))]
    if isinstance(tree, list) and any(isinstance(item, dict | list) for item in tree):
        return [leaf for i, child in enumerate(tree) for leaf in _leaves(child, f"{name}[{i}]")]
    return [(name, _plain(tree))]


def _once(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _plain(leaf: Any) -> str:
    if isinstance(leaf, list):
        return ", ".join(map(str, leaf))
    return NONE if leaf is None else str(leaf)
