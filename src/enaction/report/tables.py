"""Terminal tables: findings in, `rich` tables out, each within 100 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from enaction.findings import Finding, select
from enaction.report.arrange import (
    IDENTITY_BAND,
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
    names_within,
    number,
    short_names,
    stage_label,
    stages,
    triples,
    with_interval,
)

# More models than this and a cell holds entropy over surprisal on two lines instead of beside each other.
_WIDE_CELLS = 5


def identity_table(findings: Sequence[Finding]) -> Table:
    """Identity residual of every reader on its own text, with the gap in nats and a verdict."""
    table = _table(
        f"Identity: sum(s - H) / sqrt(sum V) on own text; alarm outside ±{IDENTITY_LIMIT:g}",
        ["reader", "framing"],
        ["residual", "s - H, nats", "tokens"],
    )
    table.add_column("verdict", no_wrap=True)
    gaps = {_key(f): f for f in select(findings, "identity_gap")}
    residuals = select(findings, "identity_residual")
    names = short_names(_names(residuals), 28)
    for f in residuals:
        bad = alarmed(f)
        unusual = not bad and abs(f.estimate or 0.0) > IDENTITY_BAND
        verdict = Text("ALARM", "bold red") if bad else Text(f"outside ±{IDENTITY_BAND}" if unusual else "sound")
        gap = gaps.get(_key(f))
        table.add_row(
            escape(names[str(f.where.get("reader"))]),
            framing_label(str(f.where.get("framing") or "")),
            Text(number(f.estimate, 2), "bold red" if bad else ""),
            with_interval(gap) if gap else "–",
            str(f.n),
            verdict,
        )
    return table


def matrix_table(findings: Sequence[Finding], stage: str | None = None, framing: str | None = None) -> Table:
    """Entropy / surprisal of each reader (row) on each author's text (column); the diagonal in bold.

    Args:
        findings: of one run.
        stage: whose models; the end of training by default.
        framing: the main one by default (assistant, where it was measured).
    """
    stage = main_stage(findings) if stage is None else stage
    framing = framing or main_framing(findings)
    cells = grid(findings, framing, members(findings, stage))
    several = len(cells.authors) > _WIDE_CELLS
    names = names_within(cells.authors, stage, 18 if several else 14)
    # Many columns are numbered, and their numbers stand before the names of the rows.
    columns = {a: str(i) if several and a != WORLD else names[a] for i, a in enumerate(cells.authors, start=1)}
    rows = {r: f"{i} {names[r]}" if several else names[r] for i, r in enumerate(cells.readers, start=1)}
    rows = {r: f"{name}{' †' * (r in cells.plain)}" for r, name in rows.items()}
    table = _table(
        f"Entropy {'over' if several else '/'} surprisal, nats: {stage_label(stage)}, {framing_label(framing)}; "
        f"rows read, columns wrote{'; † without template' * bool(cells.plain)}",
        [],
        [],
    )
    table.add_column("reader", no_wrap=True)
    for author in cells.authors:
        table.add_column(escape(columns[author]), justify="right", no_wrap=True)
    for r, reader in enumerate(cells.readers):
        row = [Text(rows[reader])]
        for a, author in enumerate(cells.authors):
            digits = 2 if several else 3
            entropy = number(float(cells.entropy_RA[r, a]), digits)
            surprisal = number(float(cells.surprisal_RA[r, a]), digits)
            row.append(Text(f"{entropy}{chr(10) if several else ' / '}{surprisal}", "bold" if reader == author else ""))
        table.add_row(*row)
    return table


def arc_table(findings: Sequence[Finding]) -> Table:
    """Mean other/self ratio and interaction by framing and stage; bold where the interval leaves the null out."""
    table = _table(
        "Means over readers: other/self ratio (null 1), interaction (null 0); bold: null outside interval",
        ["framing", "stage"],
        ["ratio", "interaction, log units", "below 0", "prompts"],
    )
    for framing in framings(findings, "other_self_ratio", "interaction"):
        ratios = {p.stage: p for p in curve(findings, "other_self_ratio", framing)}
        interactions = {p.stage: p for p in curve(findings, "interaction", framing)}
        for i, stage in enumerate(stages(findings)):
            ratio, inter = (p.mean if (p := of.get(stage)) else None for of in (ratios, interactions))
            if (speaks := inter or ratio) is None:
                continue
            readers = interactions[stage].readers if stage in interactions else []
            below = sum(f.high is not None and f.high < 0 for f in readers)
            table.add_row(
                framing_label(framing) if i == 0 else "",
                escape(stage_label(stage)),
                _judged(ratio),
                _judged(inter),
                f"{below} of {len(readers)}" if readers else "–",
                str(speaks.n),
            )
        table.add_section()
    return table


def split_table(findings: Sequence[Finding], framing: str | None = None) -> Table:
    """Log ratio = recognition + ease of each reader and stage, in one framing (the main one by default)."""
    framing = framing or main_framing(findings)
    table = _table(
        f"Split of the log ratio, {framing_label(framing)}, log units: recognition + ease of own text",
        ["stage", "reader"],
        ["log ratio", "= recognition", "+ ease"],
    )
    parts = [{p.stage: p for p in curve(findings, q, framing)} for q in ("log_ratio", "recognition", "ease")]
    for stage in stages(findings):
        rows = [_by_reader(part[stage].readers + _listed(part[stage].mean)) for part in parts if stage in part]
        if len(rows) < len(parts):
            continue
        names = names_within(list(rows[0]), stage, 14)
        for i, reader in enumerate(rows[0]):
            table.add_row(
                escape(stage_label(stage)) if i == 0 else "",
                Text(names[reader], "italic" if reader == MEAN else ""),
                *(_judged(row.get(reader)) for row in rows),
            )
        table.add_section()
    return table


def critic_table(findings: Sequence[Finding]) -> Table:
    """What a critic asks first: own, others' and world text read by the last stage and by each family's base."""
    stage, framing = main_stage(findings), main_framing(findings)
    table = _table(
        f"Entropy / surprisal, nats, on {stage_label(stage)} texts, {framing_label(framing)}: own readers, then bases",
        ["reader", "own text by"],
        ["own", "others", WORLD, "other/self", "world/self"],
    )
    ratios = {
        (str(f.where.get("reader")), str(f.where.get("of", f.where.get("reader")))): f
        for f in findings
        if (f.where.get("framing") or "") == framing
        and (f.where.get("stage") or "") == stage
        and f.quantity in ("other_self_ratio", "base_reader_ratio")
    }
    worlds = _by_reader(
        [f for p in curve(findings, "world_self_ratio", framing) if p.stage == stage for f in p.readers]
    )
    for read in (triples, base_triples):
        entropy, surprisal = (read(findings, q, stage, framing) for q in ("entropy", "surprisal"))
        surprisal_of = {(t.reader, t.author): t for t in surprisal}
        names = short_names([n for t in entropy for n in (t.reader, t.author)], 14)
        for t in entropy:
            beside = surprisal_of.get((t.reader, t.author))
            is_base = read is base_triples
            table.add_row(
                escape(names[t.reader]),
                escape(names[t.author]) if is_base else "itself",
                *_three(t, beside),
                number(ratios[key].estimate, 2) if (key := (t.reader, t.author)) in ratios else "–",
                number(worlds[t.reader].estimate, 2) if t.reader in worlds and not is_base else "–",
            )
        table.add_section()
    return table


def _three(entropy: Triple, surprisal: Triple | None) -> list[str]:
    def both(of_entropy: float | None, of_surprisal: float | None) -> str:
        return "–" if of_entropy is None else f"{number(of_entropy)} / {number(of_surprisal)}"

    other = surprisal or Triple(entropy.reader, entropy.author, entropy.own, [], None)
    return [
        both(entropy.own.estimate, other.own.estimate if surprisal else None),
        both(_mean(entropy.others), _mean(other.others)),
        both(entropy.world.estimate if entropy.world else None, other.world.estimate if other.world else None),
    ]


def _mean(cells: list[Finding]) -> float | None:
    values = [f.estimate for f in cells if f.estimate is not None]
    return sum(values) / len(values) if values else None


def _judged(finding: Finding | None) -> Text:
    if finding is None:
        return Text("–")
    if cancels(finding):
        return Text("0 by construction")
    return Text(with_interval(finding), "bold" if contains(finding, NULL[finding.quantity]) is False else "")


def _table(title: str, left: list[str], right: list[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, collapse_padding=True)
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _by_reader(findings: Sequence[Finding]) -> dict[str, Finding]:
    return {str(f.where.get("reader")): f for f in findings}


def _listed(finding: Finding | None) -> list[Finding]:
    return [] if finding is None else [finding]


def _names(findings: Sequence[Finding]) -> list[str]:
    return list(dict.fromkeys(str(f.where.get("reader")) for f in findings))


def _key(finding: Finding) -> tuple[str, str]:
    return str(finding.where.get("reader")), str(finding.where.get("framing") or "")
