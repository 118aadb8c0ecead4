"""What the findings mean, one plain sentence each, with the interval; "no effect" where the interval contains the null.

The words follow the numbers by fixed rules and claim no more than they do: a sentence says "no effect" exactly where
the 95 % interval contains the value that means none (ratio 1, everything else 0).
"""

from __future__ import annotations

from collections.abc import Sequence

from enaction.findings import Finding, select
from enaction.report.arrange import (
    IDENTITY_LIMIT,
    MEAN,
    NULL,
    StagePoint,
    Triple,
    alarmed,
    contains,
    curve,
    framing_label,
    framings,
    headline,
    main_framing,
    main_stage,
    members,
    models_of,
    number,
    stage_label,
    stages,
    triples,
    value,
    with_interval,
)
from enaction.words import checkpoint

NO_EFFECT = "no effect"
_NO_VERDICT = "no interval, so no verdict"
# With more readers than this a sentence gives their range in place of their names.
_NAMED_READERS = 6
# An interaction within this is there, if its interval excludes 0, but changes no entropy by more than this share.
_TRACE = 0.02


def sentences(findings: Sequence[Finding]) -> list[str]:
    """One sentence a headline finding, the instrument's alarm first; checkpoints inside a stage have their own page."""
    at_stages = [f for f in findings if not checkpoint(str(f.where.get("stage") or ""))]
    return [
        *identity_sentences(findings),
        *recognition_sentences(at_stages),
        *change_sentences(findings),
        *split_sentences(findings),
        *base_reader_sentences(findings),
        *world_sentences(findings),
        *matched_sentences(findings),
    ]


def identity_sentences(findings: Sequence[Finding]) -> list[str]:
    """Whether the instrument can be trusted: the identity residuals of the readers' own text."""
    residuals = select(findings, "identity_residual")
    if not residuals:
        return []
    bad = [f for f in residuals if alarmed(f)]
    if bad:
        named = ", ".join(f"{_place(f)} {number(f.estimate, 1)}" for f in bad)
        return [
            f"WARNING: identity residual outside ±{IDENTITY_LIMIT:g} standard deviations ({named}): something in the "
            "template, tokenisation, temperature or cache is wrong, and no other number of these readers is to be "
            "trusted before that is found."
        ]
    largest = max(residuals, key=lambda f: abs(value(f)))
    they = (
        f"{len(residuals)} of {len(residuals)} identity residuals lie"
        if len(residuals) > 1
        else "the identity residual lies"
    )
    return [
        f"Instrument: {they} within ±{IDENTITY_LIMIT:g} standard deviations "
        f"({_place(largest)} {number(largest.estimate, 2)} at most); on its own text each reader is as surprised as "
        "it expects to be: no sign of an error in template, tokenisation or temperature."
    ]


def recognition_sentences(findings: Sequence[Finding]) -> list[str]:
    """For each stage and framing: does a reader have less entropy on its own text than main effects explain?

    The interaction speaks first; the ratio stands behind it with a verdict of its own, for the two can disagree.
    """
    lines = []
    for framing in framings(findings, "interaction", "other_self_ratio"):
        ratio_of = {p.stage: headline(p) for p in curve(findings, "other_self_ratio", framing)}
        interaction_of = {p.stage: p for p in curve(findings, "interaction", framing)}
        for stage in stages(findings):
            clauses = []
            if (point := interaction_of.get(stage)) and (found := headline(point)):
                clauses.append(_interaction_clause(found, point.readers))
            if ratio := ratio_of.get(stage):
                clauses.append(_ratio_clause(ratio))
            if clauses:
                lines.append(f"{models_of(stage)}, {framing_label(framing)}: {'; '.join(clauses)}.")
    return lines


def change_sentences(findings: Sequence[Finding]) -> list[str]:
    """What each stage added to the interaction of the one before, in the main framing; with checkpoints, as a whole."""
    framing = main_framing(findings)
    over = {point.stage: point for point in curve(findings, "interaction_change_over_stage", framing)}
    lines = []
    for point in curve(findings, "interaction_change", framing):
        if (change := headline(over.get(point.stage, point))) is None:
            continue
        before, after = stage_label(str(change.where.get("from_stage") or "")), stage_label(point.stage)
        verdict = _verdict(change, below="recognition grows", above="recognition shrinks")
        lines.append(
            f"From {before} to {after}, {framing_label(framing)}: {verdict}: the interaction changes by "
            f"{with_interval(change)} log units."
        )
    return lines


def split_sentences(findings: Sequence[Finding]) -> list[str]:
    """How much of each reader's log ratio at the last stage is recognition, and how much the ease of its own text.

    Over all readers of a table the eases cancel, so only the mean recognition gets a verdict.
    """
    framing, stage = main_framing(findings), main_stage(findings)
    parts = [
        next((p for p in curve(findings, quantity, framing) if p.stage == stage), None)
        for quantity in ("log_ratio", "recognition", "ease")
    ]
    if parts[1] is None or (mean := headline(parts[1])) is None:
        return []
    verdict = _verdict(mean, below="the reverse of recognition", above="recognition is there")
    averaged = "mean " * (mean.where.get("reader") == MEAN)
    clauses = [f"{verdict}: {averaged}recognition {with_interval(mean)} log units"]
    readers = [{f.where.get("reader"): f for f in part.readers} if part else {} for part in parts]
    together = [name for name in readers[0] if all(name in found for found in readers)]
    if len(together) > _NAMED_READERS:
        eases = sorted(value(readers[2][name]) for name in together)
        clauses.append(f"the ease of the own text adds from {number(eases[0])} to {number(eases[-1])} to the log ratio")
    elif together:
        sums = [" ".join(_sum(*(found[name] for found in readers))) for name in together]
        clauses.append(f"log ratio = recognition + ease of own text: {', '.join(sums)}")
    return [f"{models_of(stage)}, {framing_label(framing)}, split: {'; '.join(clauses)}."]


def base_reader_sentences(findings: Sequence[Finding]) -> list[str]:
    """Is the last stage's own text easier for its family's own base too? Then the effect is the text's."""
    framing, stage = main_framing(findings), main_stage(findings)
    found = [p for p in curve(findings, "base_reader_ratio", framing) if p.stage == stage]
    return [
        f"{models_of(stage)}, {framing_label(framing)}, the same texts read by their own base, other/self ratio: "
        + _by_reader(
            point,
            below="its descendant's text is no easier for it but harder",
            above="its descendant's text is easier for it too, so part of the raw ratio lies in the text",
        )
        for point in found
    ]


def world_sentences(findings: Sequence[Finding]) -> list[str]:
    """How the last stage reads text that it did not write: the others', and the world's own."""
    framing, stage = main_framing(findings), main_stage(findings)
    if stage is None:
        return []
    lines = []
    entropy, surprisal = (triples(findings, q, stage, framing) for q in ("entropy", "surprisal"))
    for kind, name in (("others", "foreign text"), ("world", "world text")):
        pairs = _pairs(entropy, surprisal, kind)
        if pairs:
            lines.append(f"{models_of(stage)}, {framing_label(framing)}, {name}: {_overconfidence(pairs)}.")
    for point in curve(findings, "world_self_ratio", framing):
        if point.stage == stage and (ratio := headline(point)):
            verdict = _verdict(
                ratio, below="less entropy than on their own text", above="more entropy than on their own text"
            )
            lines.append(
                f"{models_of(stage)}, {framing_label(framing)}, world against own text: {verdict}: "
                f"world/self ratio {with_interval(ratio)}."
            )
    return lines


def matched_sentences(findings: Sequence[Finding]) -> list[str]:
    """What is left of the difference among tokens of equal input surprise, at the last stage."""
    framing, stage = main_framing(findings), main_stage(findings)
    found = [p for p in curve(findings, "matched_gap", framing) if p.stage == stage]
    return [
        f"{models_of(stage)}, {framing_label(framing)}, own minus other entropy after equally surprising tokens, "
        "nats: " + _by_reader(point, below="less on own text all the same", above="more on own text")
        for point in found
    ]


def diversity_sentences(findings: Sequence[Finding]) -> list[str]:
    """How varied the text of each stage is: share of different word bigrams, mean over its authors; no interval."""
    share = {f.where.get("author"): f for f in select(findings, "distinct_bigrams") if f.estimate is not None}
    by_stage = {stage: [share[m] for m in members(findings, stage) if m in share] for stage in stages(findings)}
    shown = [
        f"{stage_label(stage)} {number(sum(map(value, found)) / len(found))}"
        for stage, found in by_stage.items()
        if found
    ]
    if len(shown) < 2:
        return []
    return [f"Different word bigrams among all of an author's, mean by stage (no interval): {', '.join(shown)}."]


def _interaction_clause(mean: Finding, readers: list[Finding]) -> str:
    verdict = _verdict(
        mean,
        below="recognition beyond their confidence and the text's ease",
        above="the reverse of recognition",
    )
    if verdict not in (NO_EFFECT, _NO_VERDICT) and abs(value(mean)) < _TRACE:
        verdict = f"a trace (less than {_TRACE:.0%}) of {verdict}"
    several = mean.where.get("reader") == MEAN
    below = sum(f.high is not None and f.high < 0 for f in readers)
    counted = f", below 0 for {below} of {len(readers)} readers" if several and readers else ""
    return f"{verdict}: {'mean ' * several}interaction {with_interval(mean)} log units{counted}"


def _ratio_clause(ratio: Finding) -> str:
    verdict = _verdict(ratio, below="less entropy on others' text", above="more entropy on others' text")
    return f"{'mean ' * (ratio.where.get('reader') == MEAN)}other/self ratio {with_interval(ratio)} ({verdict})"


def _verdict(finding: Finding, *, below: str, above: str) -> str:
    """The words for an interval below or above the null; "no effect" where it contains it."""
    null = NULL[finding.quantity]
    match contains(finding, null):
        case None:
            return _NO_VERDICT
        case True:
            return NO_EFFECT
        case False:
            return below if (finding.high or 0.0) < null else above


def _sum(log_ratio: Finding, recognition: Finding, ease: Finding) -> tuple[str, ...]:
    sign = "-" if value(ease) < 0 else "+"
    parts = number(value(recognition)), sign, number(abs(value(ease)))
    return str(log_ratio.where.get("reader")), number(value(log_ratio)), "=", *parts


def _by_reader(point: StagePoint, *, below: str, above: str) -> str:
    """A clause a verdict, naming the readers that it holds for; of the mean alone where there is one."""
    found = [point.mean] if point.mean else point.readers
    verdicts: dict[str, list[str]] = {}
    for f in found:
        of = f" (of {f.where['of']})" if "of" in f.where else ""
        verdict = _verdict(f, below=below, above=above)
        verdicts.setdefault(verdict, []).append(f"{f.where.get('reader')}{of} {with_interval(f)}")
    return "; ".join(f"{verdict}: {', '.join(readers)}" for verdict, readers in verdicts.items()) + "."


def _pairs(entropy: list[Triple], surprisal: list[Triple], kind: str) -> list[tuple[Finding, Finding]]:
    """Entropy and surprisal of the same cells."""

    def cells(found: list[Triple]) -> dict[tuple[str, str], Finding]:
        return {
            (t.reader, str(f.where.get("author"))): f
            for t in found
            for f in (t.others if kind == "others" else [t.world])
            if f is not None
        }

    entropy_of, surprisal_of = cells(entropy), cells(surprisal)
    return [(entropy_of[key], surprisal_of[key]) for key in entropy_of if key in surprisal_of]


def _overconfidence(pairs: list[tuple[Finding, Finding]]) -> str:
    """Surprisal beside entropy; overconfident only where the two intervals are apart, in every cell or in some."""
    read = f"read with surprisal {_range([s for _, s in pairs])} at entropy {_range([h for h, _ in pairs])}"
    apart = [s.low > h.high for h, s in pairs if s.low is not None and h.high is not None]
    if len(apart) < len(pairs):
        return f"{read}: {_NO_VERDICT}"
    over = sum(apart)
    if over == len(pairs):
        return f"{read}: overconfident off-policy" + (f", in all {over} cells" if over > 1 else "")
    if over:
        return f"{read}: overconfident off-policy in {over} of {len(pairs)} cells"
    return f"{read}: surprisal does not exceed entropy beyond the intervals"


def _range(cells: list[Finding]) -> str:
    values = sorted(value(f) for f in cells)
    low, high = number(values[0], 2), number(values[-1], 2)
    return f"{low} nats" if low == high else f"{low} to {high} nats"


def _place(finding: Finding) -> str:
    framing = finding.where.get("framing")
    return f"{finding.where.get('reader')}{f', {framing_label(str(framing))}' if framing else ''}"
