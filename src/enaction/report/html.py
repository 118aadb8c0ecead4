"""The report of a run: one HTML file with its figures inside, made from the run folder alone.

The page loads nothing from anywhere: style sheets are inline and pictures are data URIs. Everything that a model or a
user wrote (text, names, notes) goes through the template's escaping. The same folder gives the same bytes.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from enaction.errors import StudyError
from enaction.files import write_atomically
from enaction.findings import Finding, is_permutation_note, permutation_pvalue, read_findings, select
from enaction.passages import Passage, read_passages
from enaction.report import claims, figures, questions
from enaction.report.arrange import (
    IDENTITY_LIMIT,
    MEAN,
    NULL,
    WORLD,
    Triple,
    alarmed,
    base_triples,
    cancels,
    contains,
    curve,
    framing_label,
    framings,
    grid,
    main_framing,
    main_stage,
    members,
    models_of,
    number,
    ordered,
    stage_label,
    stages,
    triples,
    value,
    with_interval,
)
from enaction.report.pages import Grid, make_pages
from enaction.report.sentences import sentences

SAMPLES_PER_AUTHOR = 3
# A response longer than this many characters is cut on the page; the run folder has all of it.
SAMPLE_LENGTH = 1500

_CAPTIONS = {
    "identity": "Identity residual of each reader on its own text; outside the dashed lines something is wrong.",
    "matrix": "Entropy of each reader (row) on each author's text (column), surprisal below it; own text outlined.",
    "arc": "Mean over readers by stage with 95 % intervals, a colour a framing; faint points are single readers.",
    "split": "Log other/self ratio taken apart: recognition, and the ease of the own text for all readers alike.",
    "critic": "Own, others' and world text read by the last stage and by each family's base: entropy and surprisal.",
}


@dataclass(frozen=True)
class Cell:
    """One cell of a table: its text, and the class that says how it looks."""

    text: str
    look: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the page; `about` names quantities whose definitions it links to."""

    title: str
    header: list[str]
    rows: list[list[Cell]]
    about: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Picture:
    """A figure as a data URI."""

    name: str
    source: str
    caption: str


@dataclass(frozen=True)
class Sample:
    """A passage as the page shows it."""

    prompt: list[tuple[str, str]]
    response: str
    remark: str


def build_report(run: Path, *, reference: float | None = None) -> Path:
    """Make figures/ and report.html of a run anew from its findings, manifest, study and passages.

    Args:
        run: the run folder.
        reference: recognition, log units, drawn into the split for comparison, e.g. figures.PAPER_RECOGNITION.

    Returns:
        The path of report.html.

    Raises:
        StudyError: the folder has no findings, or its manifest is not JSON.
        PassageError: a passage file of the run is damaged.
    """
    everything = read_findings(run / "findings.json")
    findings = [f for f in everything if f.experiment == "matrix"]
    pages = make_pages(everything)
    drawn = {n: (figure, _CAPTIONS.get(n, "")) for n, figure in figures.draw(findings, reference=reference).items()}
    for page in pages.values():
        drawn |= page.figures
    pictures = {}
    for name, (figure, caption) in drawn.items():
        vector, _ = figures.save(figure, run / "figures" / name)
        encoded = base64.b64encode(vector.read_bytes()).decode()
        pictures[name] = Picture(name, f"data:image/svg+xml;base64,{encoded}", caption)
    text = _template().render(
        title=run.resolve().name,
        sentences=[line.partition(": ") for line in sentences(findings)],
        claims=claims.checked(everything),
        alarm=any(alarmed(f) for f in select(findings, "identity_residual")),
        limit=f"{IDENTITY_LIMIT:g}",
        pictures=pictures,
        identity=_identity(findings),
        matrices=_matrices(findings),
        all_cells=_all_cells(findings),
        arc=_arc(findings),
        split=[_split(findings, framing) for framing in framings(findings, "log_ratio")],
        critic=_critic(findings),
        samples=_samples(run, findings),
        quality=_quality(findings),
        pages=pages,
        grids={name: [_of_grid(grid) for grid in page.grids] for name, page in pages.items()},
        questions=questions.answered(findings, pages),
        definitions=_definitions(everything),
        everything=_everything(everything),
        manifest=_flat(_manifest(run)),
        study=(run / "study.yaml").read_text() if (run / "study.yaml").is_file() else "",
        notes=_notes(everything),
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
    return environment.get_template("report.html.j2")


def _of_grid(grid: Grid) -> Table:
    rows = [[Cell(text, "" if column else "name") for column, text in enumerate(row)] for row in grid.rows]
    return Table(grid.title, grid.header, rows)


def _identity(findings: Sequence[Finding]) -> Table:
    gaps = {(f.where.get("reader"), f.where.get("framing")): f for f in select(findings, "identity_gap")}
    rows = []
    for f in select(findings, "identity_residual"):
        gap = gaps.get((f.where.get("reader"), f.where.get("framing")))
        rows.append(
            [
                Cell(str(f.where.get("reader")), "name"),
                Cell(framing_label(str(f.where.get("framing") or "")), "name"),
                Cell(number(f.estimate, 2), "bad" if alarmed(f) else ""),
                Cell(with_interval(gap) if gap else "–"),
                Cell(str(f.n)),
                Cell("ALARM", "bad") if alarmed(f) else Cell("sound"),
            ]
        )
    header = ["reader", "framing", "residual, s.d.", "mean of s − H, nats", "n", "verdict"]
    return Table("Identity residuals", header, rows, ["identity_residual", "identity_gap"])


def _matrices(findings: Sequence[Finding]) -> list[Table]:
    """One table a stage, in the main framing."""
    main = main_framing(findings)
    return [
        _matrix(findings, f"{models_of(stage)}, {framing_label(main)}", main, models)
        for stage in stages(findings)
        if len(models := members(findings, stage)) > 1
    ]


def _all_cells(findings: Sequence[Finding]) -> list[Table]:
    """Every reader on every author, one table a framing."""
    return [_matrix(findings, f"All cells, {framing_label(f)}", f, None) for f in framings(findings, "entropy")]


def _matrix(findings: Sequence[Finding], title: str, framing: str, models: list[str] | None) -> Table:
    cells = grid(findings, framing, models)
    rows = []
    for r, reader in enumerate(cells.readers):
        row = [Cell(f"{reader} †" if reader in cells.plain else reader, "name")]
        for a, author in enumerate(cells.authors):
            entropy, surprisal = (float(table[r, a]) for table in (cells.entropy_RA, cells.surprisal_RA))
            text = f"{number(entropy)} / {number(surprisal)}" if math.isfinite(entropy) else "–"
            row.append(Cell(text, "own" if reader == author else ""))
        rows.append(row)
    note = "; † read without template" if cells.plain else ""
    return Table(
        f"{title}: entropy / surprisal, nats{note}",
        ["reader \\ author", *cells.authors],
        rows,
        ["entropy", "surprisal"],
    )


def _arc(findings: Sequence[Finding]) -> Table:
    quantities = [
        "other_self_ratio", "interaction", "interaction_clipped", "other_self_ratio_token_weighted",
        "other_self_ratio_per_byte", "interaction_change",
    ]  # fmt: skip
    quantities = [q for q in quantities if select(findings, q)]
    rows = []
    for framing in framings(findings, *quantities):
        curves = {q: {p.stage: p for p in curve(findings, q, framing)} for q in quantities}
        for stage in stages(findings):
            points = {q: of[stage] for q, of in curves.items() if stage in of}
            readers = list(dict.fromkeys(f.where.get("reader") for p in points.values() for f in p.readers))
            for reader in ([MEAN] if any(p.mean for p in points.values()) else []) + readers:
                found = {q: _of_reader([*p.readers, *([p.mean] if p.mean else [])], reader) for q, p in points.items()}
                tested = found.get("interaction")
                pvalue = (permutation_pvalue(tested) if tested else "") or "–"
                look = "mean" if reader == MEAN else "name"
                row = [Cell(framing_label(framing), "name"), Cell(stage_label(stage), "name"), Cell(str(reader), look)]
                rows.append([*row, *(_judged(found.get(q)) for q in quantities), Cell(pvalue)])
    header = ["framing", "stage", "reader", *(q.replace("_", " ") for q in quantities), "permutation p"]
    return Table(
        "Ratio and interaction by framing and stage; bold: null outside the interval", header, rows, quantities
    )


def _split(findings: Sequence[Finding], framing: str) -> Table:
    quantities = ["log_ratio", "recognition", "ease"]
    curves = [{p.stage: p for p in curve(findings, q, framing)} for q in quantities]
    rows = []
    for stage in stages(findings):
        points = [of[stage] for of in curves if stage in of]
        readers = [str(f.where.get("reader")) for f in (points[0].readers if points else [])]
        for reader in [MEAN, *readers]:
            found = [_of_reader([*p.readers, *([p.mean] if p.mean else [])], reader) for p in points]
            if any(found):
                look = "mean" if reader == MEAN else "name"
                rows.append([Cell(stage_label(stage), "name"), Cell(reader, look), *(_judged(f) for f in found)])
    header = ["stage", "reader", "log ratio", "= recognition", "+ ease of own text"]
    return Table(f"Split of the log ratio, log units, {framing_label(framing)}", header, rows, quantities)


def _critic(findings: Sequence[Finding]) -> Table:
    stage, framing = main_stage(findings), main_framing(findings)
    ratios = {
        (f.where.get("reader"), f.where.get("of", f.where.get("reader"))): f
        for q in ("other_self_ratio", "base_reader_ratio")
        for f in select(findings, q)
        if (f.where.get("stage") or "", f.where.get("framing")) == (stage, framing)
    }
    worlds, gaps = (
        {f.where.get("reader"): f for p in curve(findings, q, framing) if p.stage == stage for f in p.readers}
        for q in ("world_self_ratio", "matched_gap")
    )
    rows = []
    for read in (triples, base_triples):
        entropy, surprisal = (read(findings, q, stage, framing) for q in ("entropy", "surprisal"))
        surprisal_of = {(t.reader, t.author): t for t in surprisal}
        for t in entropy:
            itself = read is triples
            rows.append(
                [
                    Cell(t.reader, "name"),
                    Cell("itself" if itself else t.author, "name"),
                    *_three(t, surprisal_of.get((t.reader, t.author))),
                    _judged(ratios.get((t.reader, t.author))),
                    _judged(worlds.get(t.reader) if itself else None),
                    _judged(gaps.get(t.reader) if itself else None),
                ]
            )
    header = ["reader", "own text by", "own", "others (mean)", WORLD, "other/self", "world/self", "matched gap, nats"]
    about = ["base_reader_ratio", "world_self_ratio", "matched_gap"]
    about = [quantity for quantity in about if select(findings, quantity)]
    return Table(f"{models_of(stage)}, {framing_label(framing)}: entropy / surprisal, nats", header, rows, about)


def _three(entropy: Triple, surprisal: Triple | None) -> list[Cell]:
    def cell(of_entropy: Iterable[Finding | None], of_surprisal: Iterable[Finding | None]) -> Cell:
        means = [_mean([f for f in found if f is not None]) for found in (of_entropy, of_surprisal)]
        return Cell(" / ".join(map(number, means)) if means[0] is not None else "–")

    return [
        cell([entropy.own], [surprisal.own] if surprisal else []),
        cell(entropy.others, surprisal.others if surprisal else []),
        cell([entropy.world], [surprisal.world] if surprisal else []),
    ]


def _quality(findings: Sequence[Finding]) -> Table:
    """Everything that is known of an author alone, whatever reads it."""
    of_authors = [f for f in findings if set(f.where) == {"author"}]
    quantities = list(dict.fromkeys(f.quantity for f in of_authors))
    values = {(f.where["author"], f.quantity): f for f in of_authors}
    authors = list(dict.fromkeys(str(f.where["author"]) for f in of_authors))
    rows = [
        [Cell(author, "name"), *(Cell(with_interval(f) if (f := values.get((author, q))) else "–") for q in quantities)]
        for author in authors
    ]
    return Table("What the texts are like", ["author", *(q.replace("_", " ") for q in quantities)], rows, quantities)


def _samples(run: Path, findings: Sequence[Finding]) -> list[tuple[str, list[Sample], bool]]:
    """A few passages of each author, of the same prompts where they have them; those of the last stage stand open."""
    last = members(findings, main_stage(findings))
    known = [str(f.where["author"]) for f in findings if set(f.where) == {"author"}]
    shown = {}
    for path in sorted((run / "passages").glob("*.parquet")):
        if path.stem not in known:
            continue  # what an experiment derived from an author's text or sampled beside it
        first_of: dict[str, Passage] = {}
        for passage in read_passages(path):
            first_of.setdefault(passage.prompt_id, passage)
        ids = sorted(first_of)
        count = min(SAMPLES_PER_AUTHOR, len(ids))
        chosen = [first_of[ids[(2 * i + 1) * len(ids) // (2 * count)]] for i in range(count)]
        if chosen:
            shown[chosen[0].author] = [_sample(passage) for passage in chosen]
    in_order = ordered(shown, known)
    return [(author, shown[author], author in last) for author in in_order]


def _sample(passage: Passage) -> Sample:
    response = passage.response
    remarks = {True: [], False: ["cut off at the length limit"], None: []}[passage.ended]
    if len(response) > SAMPLE_LENGTH:
        remarks.append(f"{len(response) - SAMPLE_LENGTH} more characters in the run folder")
        response = f"{response[:SAMPLE_LENGTH]} …"
    return Sample([(m["role"], m["content"]) for m in passage.prompt], response, "; ".join(remarks))


def _definitions(findings: Sequence[Finding]) -> list[tuple[str, str, list[str], list[str]]]:
    """Each experiment's quantities, with their units and every definition that they were computed by."""
    units: dict[tuple[str, str], list[str]] = {}
    texts: dict[tuple[str, str], list[str]] = {}
    for f in findings:
        units.setdefault((f.experiment, f.quantity), []).append(f.unit)
        texts.setdefault((f.experiment, f.quantity), []).append(f.definition)
    return [(*key, list(dict.fromkeys(units[key])), list(dict.fromkeys(texts[key]))) for key in units]


def _everything(findings: Sequence[Finding]) -> Table:
    rows = [
        [
            Cell(f.experiment, "name"),
            Cell(f.quantity, "name"),
            Cell(", ".join(f"{k} {_plain(v)}" for k, v in f.where.items() if k != "authors"), "name"),
            Cell(with_interval(f)),
            Cell(str(f.n)),
            Cell(f.unit),
        ]
        for f in findings
    ]
    return Table("Every finding", ["experiment", "quantity", "where", "estimate [95 %]", "n", "unit"], rows)


def _notes(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """Each note once, with what it belongs to; permutation p-values stand in the table of the interaction."""
    places: dict[str, list[str]] = {}
    for f in findings:
        for note in f.notes:
            if not is_permutation_note(note):
                places.setdefault(note, []).append(f.quantity)
    return [(note, ", ".join(dict.fromkeys(quantities))) for note, quantities in places.items()]


def _manifest(run: Path) -> dict[str, Any]:
    path = run / "manifest.json"
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise StudyError(f"{path}: not JSON ({error}); run the study again to write it anew") from None


def _flat(tree: Any, name: str = "") -> list[tuple[str, str]]:
    """The leaves of nested objects with their dotted names."""
    if isinstance(tree, dict) and tree:
        return [leaf for key, child in tree.items() for leaf in _flat(child, f"{name}.{key}" if name else str(key))]
    if isinstance(tree, list) and any(isinstance(item, dict | list) for item in tree):
        return [leaf for i, child in enumerate(tree) for leaf in _flat(child, f"{name}[{i}]")]
    return [(name, _plain(tree))]


def _judged(finding: Finding | None) -> Cell:
    if finding is None:
        return Cell("–")
    if cancels(finding):
        return Cell("0 by construction")
    null = NULL.get(finding.quantity)
    return Cell(with_interval(finding), "strong" if null is not None and contains(finding, null) is False else "")


def _of_reader(findings: Iterable[Finding], reader: object) -> Finding | None:
    return next((f for f in findings if f.where.get("reader") == reader), None)


def _mean(cells: list[Finding]) -> float | None:
    return sum(map(value, cells)) / len(cells) if cells else None


def _plain(leaf: Any) -> str:
    if isinstance(leaf, list):
        return ", ".join(map(str, leaf))
    return "–" if leaf is None else str(leaf)
