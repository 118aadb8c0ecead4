"""The tables of the matrix; those that are brief are printed in the terminal too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from enaction.experiments.matrix.lookup import (
    alarmed,
    cells_of,
    counted_below,
    framings,
    main_place,
    members,
    readings,
    stages,
)
from enaction.experiments.matrix.row_charts import IDENTITY_BAND
from enaction.findings import Finding, Findings
from enaction.page import Cell, Grid
from enaction.shown import NONE, judged, mean_value, number, pvalue, table, value, with_interval
from enaction.stats import IDENTITY_LIMIT
from enaction.words import MEAN, WORLD, framing_label, models_of, stage_label

# Ratio and interaction in all their versions.
_VERSIONS = (
    "other_self_ratio", "interaction", "interaction_clipped", "other_self_ratio_token_weighted",
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
    """One table a stage, in the main framing; that of the last stage is brief."""
    main = main_place(findings)
    last, framing = main["stage"], main["framing"]
    return [
        _matrix(findings, f"{models_of(stage)}, {framing_label(framing)}", framing, models, brief=stage == last)
        for stage in stages(findings)
        if len(models := members(findings, stage)) > 1 or stage == last
    ]


def all_cells(findings: Findings) -> list[Grid]:
    """Every reader on every author, one table a framing."""
    return [_matrix(findings, f"All cells, {framing_label(f)}", f) for f in framings(findings, "entropy")]


def _matrix(findings: Findings, title: str, framing: str, models: Sequence[str] = (), *, brief: bool = False) -> Grid:
    cells = cells_of(findings, framing, models)
    rows = []
    for reader, entropies, surprisals in zip(cells.readers, cells.entropy, cells.surprisal, strict=True):
        row = [Cell(f"{reader} †" if reader in cells.plain else reader, "name")]
        for author, entropy, surprisal in zip(cells.authors, entropies, surprisals, strict=True):
            text = NONE if entropy is None else f"{number(entropy)} / {number(surprisal)}"
            row.append(Cell(text, "own" if reader == author else ""))
        rows.append(row)
    note = "; † read without template" if cells.plain else ""
    title = f"{title}: entropy / surprisal, nats; rows read, columns wrote{note}"
    header = ["reader \\ author", *(Cell(author, "name") for author in cells.authors)]
    return Grid(title, header, rows, ["entropy", "surprisal"], brief)


def arc_of_means(findings: Findings) -> Grid:
    """Mean other/self ratio and interaction by framing and stage."""
    columns = {"other_self_ratio": "ratio", "interaction": "interaction, log units"}

    def counted(row: Mapping[str, Finding]) -> str:
        at = next(iter(row.values())).where
        return counted_below(findings, at["stage"], at["framing"]) or NONE

    return table(
        findings,
        "Means over readers: other/self ratio (null 1), interaction (null 0); bold: null outside interval",
        {"framing": "framing", "stage": "stage"},
        columns,
        show=judged,
        beside={"below 0": counted, "prompts": lambda row: str([*row.values()][-1].n)},
        brief=True,
        reader=MEAN,
    )


def arc(findings: Findings) -> Grid:
    """Ratio and interaction in all their versions, of each reader, by framing and stage."""
    return table(
        findings,
        "Ratio and interaction by framing, stage and reader; bold: null outside interval",
        {"framing": "framing", "stage": "stage", "reader": "reader"},
        {quantity: quantity.replace("_", " ") for quantity in _VERSIONS if findings.select(quantity)},
        show=judged,
        beside={"permutation p": lambda row: pvalue(row.get("interaction")) or NONE},
    )


def splits(findings: Findings) -> list[Grid]:
    """Log ratio = recognition + ease of each reader and stage, one table a framing; that of the main one is brief."""
    return [
        table(
            findings,
            f"Split of the log ratio, log units, {framing_label(framing)}",
            {"stage": "stage", "reader": "reader"},
            {"log_ratio": "log ratio", "recognition": "= recognition", "ease": "+ ease of own text"},
            show=_judged_part,
            brief=framing == main_place(findings)["framing"],
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
