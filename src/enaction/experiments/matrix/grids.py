"""The tables of the matrix; those of `opening` are for the first screen of a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from enaction.analysis.ownness import OWNNESS
from enaction.experiments.matrix.authorship import TOLD_APART, counted
from enaction.experiments.matrix.lookup import (
    alarmed,
    cells_of,
    counted_below,
    counted_certified,
    framings,
    main_place,
    members,
    readings,
    singles,
    stages,
    verdict_word,
)
from enaction.experiments.matrix.row_charts import IDENTITY_BAND
from enaction.findings import Finding, Findings
from enaction.page import Cell, Grid, Look
from enaction.shown import NONE, judged, mean_value, number, pvalue, table, value, with_interval
from enaction.stats import IDENTITY_LIMIT
from enaction.words import MEAN, WORLD, framing_label, models_of, stage_label

_ENTROPY = "entropy / surprisal, nats"
_FAMILIARITY = f"familiarity: {_ENTROPY}"
_AUTHORSHIP = (
    "authorship: surprisal less entropy, 0 on text that the reader drew in this framing (*: interval excludes 0)"
)
_LEGEND = f"{_FAMILIARITY}; authorship: surprisal less entropy (*: not 0)"
_BOTH = "both: one number"
# With more models than this the last table is too large for the first screen of a terminal.
_MOST_ON_FIRST_SCREEN = 4
# What a verdict on one reader rests on -> the heading of its column.
_WITNESSES = {
    "recognition": "recognition",
    "recognition_adjusted": "adjusted",
    "difficulty_slope": "slope",
    "matched_gap": "matched gap",
}
# Ratio and interaction in all their versions.
_VERSIONS = (
    "other_self_ratio", "geometric_ratio", "interaction", "interaction_of_means", "interaction_clipped",
    "interaction_per_byte", "interaction_token_weighted", "other_self_ratio_token_weighted",
    "other_self_ratio_per_byte", "interaction_change",
)  # fmt: skip


def identity(findings: Findings) -> Grid:
    """Identity residual of every reader on its own text, with the gap in nats and a verdict."""
    return table(
        findings,
        f"Identity: sum(s − H) / √sum(V) on own text; alarm outside ±{IDENTITY_LIMIT:g}",
        {"reader": "reader", "framing": "framing"},
        {"identity_residual": "residual, s.d.", "identity_gap": "mean of s − H, nats"},
        show=lambda f: _residual(f) if f and f.quantity == "identity_residual" else with_interval(f),
        beside={"tokens": lambda row: str(row["identity_residual"].n), "verdict": _soundness},
        brief=True,
    )


def _residual(residual: Finding) -> Cell:
    return Cell(number(residual.estimate, 2), "bad" if alarmed(residual) else "")


def _soundness(row: Mapping[str, Finding]) -> Cell:
    residual = row["identity_residual"]
    if alarmed(residual):
        return Cell("ALARM", "bad")
    return Cell(f"outside ±{IDENTITY_BAND}" if abs(value(residual)) > IDENTITY_BAND else "sound")


def matrices(findings: Findings) -> list[Grid]:
    """One table a stage, in the main framing; that of the last stage is brief where it has no room in `opening`."""
    main = main_place(findings)
    last, framing = main["stage"], main["framing"]
    return [
        _matrix(
            findings,
            f"{models_of(stage)}, {framing_label(framing)}",
            framing,
            models,
            brief=stage == last and not _is_small(models),
        )
        for stage in stages(findings)
        if len(models := members(findings, stage)) > 1 or stage == last
    ]


def opening(findings: Findings) -> list[Grid]:
    """What the first screen of a terminal has room for: the last stage's table, and a row a stage in its framing."""
    main = main_place(findings)
    models, made = members(findings, main["stage"]), []
    if models and _is_small(models):
        who = f"{models_of(main['stage'])}, {framing_label(main['framing'])}: readers (rows) on authors (columns)"
        grid = _matrix(findings, who, main["framing"], models)
        made = [replace(grid, title=f"{who}\n{_LEGEND if OWNNESS in grid.about else _ENTROPY}")]
    course = table(
        findings.at(framing=main["framing"]),
        f"Means over readers by stage, {framing_label(main['framing'])}",
        {"stage": "stage"},
        {"interaction": "interaction (0: none)", "other_self_ratio": "other/self ratio (1: none)"},
        beside=_counts(findings),
        reader=MEAN,
    )
    return [grid for grid in (*made, course) if grid.rows]


def _is_small(models: Sequence[str]) -> bool:
    return len(models) <= _MOST_ON_FIRST_SCREEN


def all_cells(findings: Findings) -> list[Grid]:
    """Every reader on every author, one table a framing."""
    return [_matrix(findings, f"All cells, {framing_label(f)}", f) for f in framings(findings, "entropy")]


def _matrix(findings: Findings, title: str, framing: str, models: Sequence[str] = (), *, brief: bool = False) -> Grid:
    """A reader has a row for each quantity; findings of earlier versions have no ownness, and so one row a reader."""
    cells = cells_of(findings, framing, models)
    has_ownness = bool(cells.known_ownness)
    rows = []
    for r, reader in enumerate(cells.readers):
        pairs = zip(cells.entropy[r], cells.surprisal[r], strict=True)
        told = ["*" * ((reader, author) in cells.told) for author in cells.authors]
        lines = {"familiarity": [NONE if h is None else f"{number(h)} / {number(s)}" for h, s in pairs]}
        if has_ownness:
            lines["authorship"] = [number(x) + mark for x, mark in zip(cells.ownness[r], told, strict=True)]
        looks: list[Look] = ["own" if reader == author else "" for author in cells.authors]
        name = f"{reader} †" if reader in cells.plain else reader
        for label, texts in lines.items():
            names = [Cell(name, "name"), *([Cell(label, "name")] if has_ownness else [])]
            rows.append([*names, *map(Cell, texts, looks)])
    parts = [title, "rows read, columns wrote", *([_FAMILIARITY, _AUTHORSHIP] if has_ownness else [_ENTROPY])]
    parts += ["† read without template"] if cells.plain else []
    header = [
        "reader \\ author",
        *([Cell("", "name")] if has_ownness else []),
        *(Cell(a, "name") for a in cells.authors),
    ]
    return Grid("; ".join(parts), header, rows, ["entropy", "surprisal", *([OWNNESS] if has_ownness else [])], brief)


def tellers(findings: Findings) -> Grid:
    """What each reader can tell from its own text by ownness, at every stage in the main framing."""
    framing, rows = main_place(findings)["framing"], []
    for stage in stages(findings):
        for reader, _, texts in readings(findings, stage, framing):
            own, others, world = (
                [cell[OWNNESS] for cell in texts.get(kind, ()) if OWNNESS in cell] for kind in ("own", "others", WORLD)
            )
            share = findings.one(TOLD_APART, stage=stage, framing=framing, reader=reader)
            if share is not None and own:
                least, fresh = min(others, key=value, default=None), world[0] if world else None
                names = [Cell(stage_label(stage), "name"), Cell(reader, "name")]
                told = counted(round(value(share) * share.n), share.n)
                rows.append([*names, *(judged(f) for f in (own[0], least, fresh)), told])
    title = (
        f"Surprisal less entropy, nats, {framing_label(framing)} (null 0: the reader's own text); bold: null outside"
    )
    header = [Cell("stage", "name"), Cell("reader", "name"), "own text", "least of others", WORLD, "authors above 0"]
    return Grid(title, header, rows, [OWNNESS, TOLD_APART])


def arc_of_means(findings: Findings) -> Grid:
    """Mean other/self ratio and interaction by framing and stage."""
    columns = {"other_self_ratio": "ratio", "interaction": "interaction, log units"}

    return table(
        findings,
        "Means over readers: other/self ratio (null 1), interaction (null 0); bold: null outside interval",
        {"framing": "framing", "stage": "stage"},
        columns,
        show=judged,
        beside={**_counts(findings), "prompts": lambda row: str([*row.values()][-1].n)},
        brief=True,
        reader=MEAN,
    )


def _counts(findings: Findings) -> dict[str, Callable[[Mapping[str, Finding]], str]]:
    """Column of how many readers are certified at a row's place; none where two readers have one number."""
    if not singles(findings, "interaction"):
        return {}
    count, heading = (counted_certified, "certified") if findings.select("recognised") else (counted_below, "below 0")

    def counted(row: Mapping[str, Finding]) -> str:
        at = next(iter(row.values())).where
        return count(findings, at["stage"], at["framing"]) or NONE

    return {heading: counted}


def arc(findings: Findings) -> Grid:
    """Ratio and interaction in all their versions, of each reader, by framing and stage."""
    return table(
        findings,
        "Ratio and interaction by framing, stage and reader; bold: null outside interval",
        {"framing": "framing", "stage": "stage", "reader": "reader"},
        {quantity: quantity.replace("_", " ") for quantity in _VERSIONS if findings.select(quantity)},
        show=judged,
        beside={"p": lambda row: pvalue(row.get("interaction")) or NONE},
    )


def recognisers(findings: Findings) -> list[Grid]:
    """Who recognises: each reader's three witnesses and its verdict, one table a framing, the main place's in brief.

    Two readers have one number between them, and so one row. Findings of earlier versions have fewer columns.
    """
    main = main_place(findings)
    brief = _recognisers(findings, [main["stage"]], main["framing"], models_of(main["stage"]), brief=True)
    every = [_recognisers(findings, stages(findings), framing, "") for framing in framings(findings, "recognition")]
    return [grid for grid in (brief, *every) if grid.rows]


def _recognisers(findings: Findings, of: Sequence[str], framing: str, who: str, *, brief: bool = False) -> Grid:
    rows = [f for stage in of for f in _witnesses(findings, stage, framing)]
    verdicts = findings.pivot(("recognised",), ("stage", "reader"), framing=framing)
    shared = {f.where["stage"] for f in rows} - {f.where["stage"] for f in rows if f.where["reader"] != MEAN}
    here = Findings(replace(f, where=f.where | {"reader": _BOTH}) if f.where["stage"] in shared else f for f in rows)

    def verdict(row: Mapping[str, Finding]) -> str:
        at = next(iter(row.values())).where
        found = verdicts.get((at["stage"], at["reader"]))
        return verdict_word(found["recognised"]) if found else NONE

    where = ", ".join(filter(None, (who, framing_label(framing))))
    return table(
        here,
        f"Who recognises text like its own? {where}; log units (null 0), matched gap in nats; bold: null outside",
        {"reader": "reader"} if len(of) == 1 else {"stage": "stage", "reader": "reader"},
        {quantity: heading for quantity, heading in _WITNESSES.items() if here.select(quantity)},
        show=_brief_witness if brief else judged,
        beside={"verdict": verdict} if verdicts else {},
        brief=brief,
    )


def _witnesses(findings: Findings, stage: str, framing: str) -> list[Finding]:
    """Of every reader of a table; of a table of two readers only what belongs to both."""
    at = {"stage": stage, "framing": framing}
    has_readers = bool(singles(findings, "recognition", **at))
    found = [f for quantity in _WITNESSES for f in findings.select(quantity, **at)]
    return [f for f in found if has_readers or f.where["reader"] == MEAN]


def _brief_witness(part: Finding | None) -> Cell:
    """Two digits and a slope without its interval, so that all witnesses fit into a terminal."""
    if part is None or part.quantity == "difficulty_slope":
        return Cell(number(part and part.estimate, 2))
    return Cell(with_interval(part, 2), judged(part).look)


def splits(findings: Findings) -> list[Grid]:
    """Log ratio = recognition + ease of each reader and stage, one table a framing."""
    return [
        table(
            findings,
            f"Split of the log ratio, log units, {framing_label(framing)}",
            {"stage": "stage", "reader": "reader"},
            {"log_ratio": "log ratio", "recognition": "= recognition", "ease": "+ ease of own text"},
            show=_judged_part,
            framing=framing,
        )
        for framing in framings(findings, "log_ratio")
    ]


def _judged_part(part: Finding | None) -> Cell:
    """Over all readers of a table the eases of their own texts cancel."""
    cancels = part and part.quantity == "ease" and part.where["reader"] == MEAN
    return Cell("0 by construction") if cancels else judged(part)


def critic(findings: Findings) -> Grid:
    """What a critic asks first: own, others' and world text read by the last stage and by each family's base."""
    at = main_place(findings)
    rows = []
    for by_base in (False, True):
        tested = ("base_reader_ratio" if by_base else "other_self_ratio", "world_self_ratio", "matched_gap")
        for reader, author, texts in readings(findings, **at, by_base=by_base):
            of = {"of": author} if by_base else {}
            rows.append(
                [
                    reader,
                    Cell(author if by_base else "itself", "name"),
                    *(_means(texts.get(kind, [])) for kind in ("own", "others", WORLD)),
                    *(judged(findings.one(q, reader=reader, **of, **at)) for q in tested),
                ]
            )
    title = "Entropy / surprisal, nats, on {} texts, {}: own readers, then bases"
    header = ["reader", "own text by", "own", "others (mean)", WORLD, "other/self", "world/self", "matched gap, nats"]
    about = [q for q in ("base_reader_ratio", "world_self_ratio", "matched_gap") if findings.select(q)]
    return Grid(title.format(stage_label(at["stage"]), framing_label(at["framing"])), header, rows, about, brief=True)


def _means(cells: Sequence[Mapping[str, Finding]]) -> str:
    means = [mean_value([cell[q] for cell in cells if q in cell]) for q in ("entropy", "surprisal")]
    return " / ".join(map(number, means)) if cells else NONE


def quality(findings: Findings) -> Grid:
    """Everything that is known of an author alone, whatever reads it."""
    of_authors = Findings(f for f in findings if set(f.where) == {"author"})
    quantities = dict.fromkeys(f.quantity for f in of_authors)
    columns = {quantity: quantity.replace("_", " ") for quantity in quantities}
    return table(of_authors, "What the texts are like", {"author": "author"}, columns)
