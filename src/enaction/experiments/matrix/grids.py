"""The tables of the matrix; those that are brief are printed in the terminal too."""

from __future__ import annotations

import math
from collections.abc import Iterable

from enaction.experiments.matrix.lookup import (
    Triple,
    alarmed,
    base_triples,
    cancels,
    cells_of,
    curve,
    framings,
    main_framing,
    main_stage,
    members,
    place,
    point_at,
    stages,
    triples,
)
from enaction.experiments.matrix.row_charts import IDENTITY_BAND
from enaction.findings import Finding, Findings
from enaction.page import Cell, Grid
from enaction.shown import NONE, judged, mean_value, number, pvalue, with_interval
from enaction.stats import IDENTITY_LIMIT
from enaction.words import MEAN, WORLD, framing_label, models_of, stage_label


def identity(findings: Findings) -> Grid:
    """Identity residual of every reader on its own text, with the gap in nats and a verdict."""
    rows = []
    for f in findings.select("identity_residual"):
        at = {key: f.where.get(key) for key in ("reader", "framing")}
        gap = next(iter(findings.select("identity_gap", **at)), None)
        is_bad = alarmed(f)
        is_unusual = abs(f.estimate or 0.0) > IDENTITY_BAND
        verdict = "ALARM" if is_bad else f"outside ±{IDENTITY_BAND}" if is_unusual else "sound"
        rows.append(
            [
                Cell(place(f, "reader"), "name"),
                Cell(framing_label(place(f, "framing")), "name"),
                Cell(number(f.estimate, 2), "bad" if is_bad else ""),
                Cell(with_interval(gap)),
                Cell(str(f.n)),
                Cell(verdict, "bad" if is_bad else ""),
            ]
        )
    return Grid(
        f"Identity: sum(s − H) / √sum(V) on own text; alarm outside ±{IDENTITY_LIMIT:g}",
        ["reader", "framing", "residual, s.d.", "mean of s − H, nats", "tokens", "verdict"],
        rows,
        ["identity_residual", "identity_gap"],
        brief=True,
    )


def matrices(findings: Findings) -> list[Grid]:
    """One table a stage, in the main framing; that of the last stage is brief."""
    main, last = main_framing(findings), main_stage(findings)
    return [
        _matrix(findings, f"{models_of(stage)}, {framing_label(main)}", main, models, brief=stage == last)
        for stage in stages(findings)
        if len(models := members(findings, stage)) > 1 or stage == last
    ]


def all_cells(findings: Findings) -> list[Grid]:
    """Every reader on every author, one table a framing."""
    return [_matrix(findings, f"All cells, {framing_label(f)}", f, None) for f in framings(findings, "entropy")]


def _matrix(findings: Findings, title: str, framing: str, models: list[str] | None, *, brief: bool = False) -> Grid:
    cells = cells_of(findings, framing, models)
    rows = []
    for r, reader in enumerate(cells.readers):
        row = [Cell(f"{reader} †" if reader in cells.plain else reader, "name")]
        for a, author in enumerate(cells.authors):
            entropy, surprisal = (float(table[r, a]) for table in (cells.entropy_RA, cells.surprisal_RA))
            text = f"{number(entropy)} / {number(surprisal)}" if math.isfinite(entropy) else NONE
            row.append(Cell(text, "own" if reader == author else ""))
        rows.append(row)
    note = "; † read without template" if cells.plain else ""
    return Grid(
        f"{title}: entropy / surprisal, nats; rows read, columns wrote{note}",
        ["reader \\ author", *(Cell(author, "name") for author in cells.authors)],
        rows,
        ["entropy", "surprisal"],
        brief=brief,
    )


def arc_of_means(findings: Findings) -> Grid:
    """Mean other/self ratio and interaction by framing and stage."""
    rows = []
    for framing in framings(findings, "other_self_ratio", "interaction"):
        ratios, interactions = (
            {p.stage: p for p in curve(findings, q, framing)} for q in ("other_self_ratio", "interaction")
        )
        for stage in stages(findings):
            ratio, interaction = (p.mean if (p := of.get(stage)) else None for of in (ratios, interactions))
            if (counted := interaction or ratio) is None:
                continue
            readers = interactions[stage].readers if stage in interactions else []
            below = sum(f.high is not None and f.high < 0 for f in readers)
            rows.append(
                [
                    Cell(framing_label(framing), "name"),
                    Cell(stage_label(stage), "name"),
                    judged(ratio),
                    judged(interaction),
                    Cell(f"{below} of {len(readers)}" if readers else NONE),
                    Cell(str(counted.n)),
                ]
            )
    return Grid(
        "Means over readers: other/self ratio (null 1), interaction (null 0); bold: null outside interval",
        ["framing", "stage", "ratio", "interaction, log units", "below 0", "prompts"],
        rows,
        [q for q in ("other_self_ratio", "interaction") if findings.select(q)],
        brief=True,
    )


def arc(findings: Findings) -> Grid:
    """Ratio and interaction in all their versions, of each reader, by framing and stage."""
    quantities = [
        "other_self_ratio", "interaction", "interaction_clipped", "other_self_ratio_token_weighted",
        "other_self_ratio_per_byte", "interaction_change",
    ]  # fmt: skip
    quantities = [q for q in quantities if findings.select(q)]
    rows = []
    for framing in framings(findings, *quantities):
        curves = {q: {p.stage: p.by_reader for p in curve(findings, q, framing)} for q in quantities}
        for stage in stages(findings):
            points = {q: of[stage] for q, of in curves.items() if stage in of}
            for reader in sorted({r: None for of in points.values() for r in of}, key=lambda r: r != MEAN):
                found = {q: of.get(reader) for q, of in points.items()}
                look = "mean" if reader == MEAN else "name"
                rows.append(
                    [
                        Cell(framing_label(framing), "name"),
                        Cell(stage_label(stage), "name"),
                        Cell(reader, look),
                        *(judged(found.get(q)) for q in quantities),
                        Cell(pvalue(found.get("interaction")) or NONE),
                    ]
                )
    header = ["framing", "stage", "reader", *(q.replace("_", " ") for q in quantities), "permutation p"]
    title = "Ratio and interaction by framing, stage and reader; bold: null outside interval"
    return Grid(title, header, rows, quantities)


def splits(findings: Findings) -> list[Grid]:
    """Log ratio = recognition + ease of each reader and stage, one table a framing; that of the main one is brief."""
    main = main_framing(findings)
    return [_split(findings, framing, brief=framing == main) for framing in framings(findings, "log_ratio")]


def _split(findings: Findings, framing: str, *, brief: bool) -> Grid:
    quantities = ["log_ratio", "recognition", "ease"]
    curves = [{p.stage: p.by_reader for p in curve(findings, q, framing)} for q in quantities]
    rows = []
    for stage in stages(findings):
        points = [of.get(stage, {}) for of in curves]
        for reader in points[0]:
            found = [_judged_part(of.get(reader)) for of in points]
            look = "mean" if reader == MEAN else "name"
            rows.append([Cell(stage_label(stage), "name"), Cell(reader, look), *found])
    header = ["stage", "reader", "log ratio", "= recognition", "+ ease of own text"]
    return Grid(f"Split of the log ratio, log units, {framing_label(framing)}", header, rows, quantities, brief)


def _judged_part(finding: Finding | None) -> Cell:
    return Cell("0 by construction") if finding and cancels(finding) else judged(finding)


def critic(findings: Findings) -> Grid:
    """What a critic asks first: own, others' and world text read by the last stage and by each family's base."""
    stage, framing = main_stage(findings), main_framing(findings)
    ratios = {
        (place(f, "reader"), place(f, "of") or place(f, "reader")): f
        for q in ("other_self_ratio", "base_reader_ratio")
        for f in findings.select(q)
        if (place(f, "stage"), place(f, "framing")) == (stage, framing)
    }
    points = [point_at(findings, q, stage, framing) for q in ("world_self_ratio", "matched_gap")]
    worlds, gaps = (point.by_reader if point else {} for point in points)
    rows = []
    for read in (triples, base_triples):
        entropy, surprisal = (read(findings, q, stage, framing) for q in ("entropy", "surprisal"))
        surprisal_of = {(t.reader, t.author): t for t in surprisal}
        for t in entropy:
            is_author = read is triples
            rows.append(
                [
                    Cell(t.reader, "name"),
                    Cell("itself" if is_author else t.author, "name"),
                    *_three(t, surprisal_of.get((t.reader, t.author))),
                    judged(ratios.get((t.reader, t.author))),
                    judged(worlds.get(t.reader) if is_author else None),
                    judged(gaps.get(t.reader) if is_author else None),
                ]
            )
    title = (
        f"Entropy / surprisal, nats, on {stage_label(stage)} texts, {framing_label(framing)}: own readers, then bases"
    )
    header = ["reader", "own text by", "own", "others (mean)", WORLD, "other/self", "world/self", "matched gap, nats"]
    about = ["base_reader_ratio", "world_self_ratio", "matched_gap"]
    return Grid(title, header, rows, [quantity for quantity in about if findings.select(quantity)], brief=True)


def _three(entropy: Triple, surprisal: Triple | None) -> list[Cell]:
    def cell(of_entropy: Iterable[Finding | None], of_surprisal: Iterable[Finding | None]) -> Cell:
        means = [mean_value([f for f in found if f is not None]) for found in (of_entropy, of_surprisal)]
        return Cell(" / ".join(map(number, means)) if means[0] is not None else NONE)

    return [
        cell([entropy.own], [surprisal.own] if surprisal else []),
        cell(entropy.others, surprisal.others if surprisal else []),
        cell([entropy.world], [surprisal.world] if surprisal else []),
    ]


def quality(findings: Findings) -> Grid:
    """Everything that is known of an author alone, whatever reads it."""
    of_authors = [f for f in findings if set(f.where) == {"author"}]
    quantities = list(dict.fromkeys(f.quantity for f in of_authors))
    values = {(place(f, "author"), f.quantity): f for f in of_authors}
    authors = list(dict.fromkeys(place(f, "author") for f in of_authors))
    rows = [[author, *(with_interval(values.get((author, q))) for q in quantities)] for author in authors]
    return Grid("What the texts are like", ["author", *(q.replace("_", " ") for q in quantities)], rows, quantities)
