"""What the findings of the matrix mean, one plain sentence each, with the interval.

The words follow the numbers by fixed rules and claim no more than they do: a sentence says "no effect" exactly where
the 95 % interval contains the value that means none (ratio 1, everything else 0).
"""

from __future__ import annotations

from enaction.experiments.matrix.lookup import (
    Triple,
    alarmed,
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
from enaction.findings import Finding, Findings
from enaction.page import Statement, Verdict
from enaction.shown import NO_VERDICT, number, value, verdict_of, verdict_words, with_interval
from enaction.stats import IDENTITY_LIMIT
from enaction.words import MEAN, TRACE, checkpoint, framing_label, models_of, stage_label

# With more readers than this a sentence gives their range in place of their names.
_NAMED_READERS = 6


def statements(findings: Findings) -> list[Statement]:
    """One for each headline finding, the instrument's alarm first; checkpoints inside a stage have their own page."""
    return [
        *_identity(findings),
        *_recognition(findings),
        *_changes(findings),
        *_split(findings),
        *_base_readers(findings),
        *_world(findings),
        *_matched(findings),
        *_variety(findings),
    ]


def _said(text: str, about: tuple[str, ...], stage: str, framing: str, verdict: Verdict, *, of: str = "") -> Statement:
    """A headline about the models of a stage in a framing; `of` narrows its subject."""
    subject = ", ".join(filter(None, (models_of(stage), framing_label(framing), of)))
    return Statement(text, about, {"stage": stage, "framing": framing}, verdict, subject, headline=True)


def _identity(findings: Findings) -> list[Statement]:
    """Whether the instrument can be trusted: the identity residuals of the readers' own text."""
    residuals = findings.select("identity_residual")
    if not residuals:
        return []
    about = ("identity_residual",)
    bad = [f for f in residuals if alarmed(f)]
    if bad:
        named = ", ".join(f"{_reader(f)} {number(f.estimate, 1)}" for f in bad)
        text = (
            f"identity residual outside ±{IDENTITY_LIMIT:g} standard deviations ({named}): something in the template, "
            "tokenisation, temperature or cache is wrong, and no other number of these readers is to be trusted before "
            "that is found."
        )
        return [Statement(text, about, verdict="alarm", subject="WARNING", headline=True)]
    largest = max(residuals, key=lambda f: abs(value(f)))
    they = (
        f"{len(residuals)} of {len(residuals)} identity residuals lie"
        if len(residuals) > 1
        else "the identity residual lies"
    )
    text = (
        f"{they} within ±{IDENTITY_LIMIT:g} standard deviations ({_reader(largest)} {number(largest.estimate, 2)} at "
        "most); on its own text each reader is as surprised as it expects to be: no sign of an error in template, "
        "tokenisation or temperature."
    )
    return [Statement(text, about, subject="Instrument", headline=True)]


def _recognition(findings: Findings) -> list[Statement]:
    """For each stage and framing: does a reader have less entropy on its own text than main effects explain?

    The interaction speaks first; the ratio follows with a verdict of its own, for the two can disagree.
    """
    made = []
    for framing in framings(findings, "interaction", "other_self_ratio"):
        ratios, interactions = (
            {p.stage: p for p in curve(findings, q, framing)} for q in ("other_self_ratio", "interaction")
        )
        for stage in (stage for stage in stages(findings) if not checkpoint(stage)):
            clauses, verdicts = {}, []
            if (point := interactions.get(stage)) and (mean := point.headline):
                clauses["interaction"] = _interaction_clause(mean, point.readers)
                verdicts.append(verdict_of(mean))
            if (point := ratios.get(stage)) and (ratio := point.headline):
                clauses["other_self_ratio"] = _ratio_clause(ratio)
                verdicts.append(verdict_of(ratio))
            if clauses:
                made.append(_said(f"{'; '.join(clauses.values())}.", tuple(clauses), stage, framing, verdicts[0]))
    return made


def _changes(findings: Findings) -> list[Statement]:
    """What each stage added to the interaction of the one before, in the main framing; with checkpoints, as a whole."""
    framing = main_framing(findings)
    over = {point.stage: point for point in curve(findings, "interaction_change_over_stage", framing)}
    made = []
    for point in curve(findings, "interaction_change", framing):
        if (change := over.get(point.stage, point).headline) is None:
            continue
        before, after = place(change, "from_stage"), point.stage
        verdict = verdict_words(change, below="recognition grows", above="recognition shrinks")
        made.append(
            Statement(
                f"{verdict}: the interaction changes by {with_interval(change)} log units.",
                (change.quantity,),
                {"stage": after, "from_stage": before, "framing": framing},
                verdict_of(change),
                f"From {stage_label(before)} to {stage_label(after)}, {framing_label(framing)}",
                headline=True,
            )
        )
    return made


def _split(findings: Findings) -> list[Statement]:
    """How much of each reader's log ratio at the last stage is recognition, and how much the ease of its own text.

    Over all readers of a table the eases cancel, so only the mean recognition gets a verdict.
    """
    framing, stage = main_framing(findings), main_stage(findings)
    about = ("log_ratio", "recognition", "ease")
    points = [point_at(findings, quantity, stage, framing) for quantity in about]
    if points[1] is None or (mean := points[1].headline) is None:
        return []
    verdict = verdict_words(mean, below="the reverse of recognition", above="recognition is there")
    averaged = "mean " * (mean.where.get("reader") == MEAN)
    clauses = [f"{verdict}: {averaged}recognition {with_interval(mean)} log units"]
    parts = [{place(f, "reader"): f for f in point.readers} if point else {} for point in points]
    readers = [name for name in parts[0] if all(name in part for part in parts)]
    if len(readers) > _NAMED_READERS:
        eases = sorted(value(parts[2][name]) for name in readers)
        clauses.append(f"the ease of the own text adds from {number(eases[0])} to {number(eases[-1])} to the log ratio")
    elif readers:
        sums = [_sum(name, *(part[name] for part in parts)) for name in readers]
        clauses.append(f"log ratio = recognition + ease of own text: {', '.join(sums)}")
    return [_said(f"{'; '.join(clauses)}.", about, stage, framing, verdict_of(mean), of="split")]


def _base_readers(findings: Findings) -> list[Statement]:
    """Is the last stage's own text easier for its family's own base too? Then the effect is the text's."""
    return _of_readers(
        findings,
        "base_reader_ratio",
        of="the same texts read by their own base, other/self ratio",
        below="its descendant's text is no easier for it but harder",
        above="its descendant's text is easier for it too, so part of the raw ratio lies in the text",
    )


def _world(findings: Findings) -> list[Statement]:
    """How the last stage reads text that it did not write: the others', and the world's own."""
    framing, stage = main_framing(findings), main_stage(findings)
    made = []
    entropy, surprisal = (triples(findings, q, stage, framing) for q in ("entropy", "surprisal"))
    for kind, name in (("others", "foreign text"), ("world", "world text")):
        if pairs := _pairs(entropy, surprisal, kind):
            about = ("entropy", "surprisal")
            made.append(_said(f"{_overconfidence(pairs)}.", about, stage, framing, "", of=name))
    point = point_at(findings, "world_self_ratio", stage, framing)
    if point and (ratio := point.headline):
        verdict = verdict_words(
            ratio, below="less entropy than on their own text", above="more entropy than on their own text"
        )
        text = f"{verdict}: world/self ratio {with_interval(ratio)}."
        made.append(_said(text, ("world_self_ratio",), stage, framing, verdict_of(ratio), of="world against own text"))
    return made


def _matched(findings: Findings) -> list[Statement]:
    """What is left of the difference among tokens of equal input surprise, at the last stage."""
    return _of_readers(
        findings,
        "matched_gap",
        of="own minus other entropy after equally surprising tokens, nats",
        below="less on own text all the same",
        above="more on own text",
    )


def _variety(findings: Findings) -> list[Statement]:
    """How varied the text of each stage is: share of different word bigrams, mean over its authors; no interval."""
    share = {place(f, "author"): f for f in findings.select("distinct_bigrams") if f.estimate is not None}
    by_stage = {stage: [share[m] for m in members(findings, stage) if m in share] for stage in stages(findings)}
    shown = [
        f"{stage_label(stage)} {number(sum(map(value, shares)) / len(shares))}"
        for stage, shares in by_stage.items()
        if shares
    ]
    if len(shown) < 2:
        return []
    subject = "Different word bigrams among all of an author's, mean by stage (no interval)"
    return [Statement(f"{', '.join(shown)}.", ("distinct_bigrams",), subject=subject)]


def _of_readers(findings: Findings, quantity: str, *, of: str, below: str, above: str) -> list[Statement]:
    """A clause a verdict at the last stage, naming the readers that it holds for; of the mean alone where it exists."""
    framing, stage = main_framing(findings), main_stage(findings)
    point = point_at(findings, quantity, stage, framing)
    if point is None:
        return []
    found = [point.mean] if point.mean else point.readers
    clauses: dict[str, list[str]] = {}
    for f in found:
        base_of = f" (of {f.where['of']})" if "of" in f.where else ""
        words = verdict_words(f, below=below, above=above)
        clauses.setdefault(words, []).append(f"{place(f, 'reader')}{base_of} {with_interval(f)}")
    text = "; ".join(f"{words}: {', '.join(readers)}" for words, readers in clauses.items())
    verdicts: list[Verdict] = [verdict_of(f) for f in found]
    same = verdicts[0] if len(set(verdicts)) == 1 else ""
    return [_said(f"{text}.", (quantity,), stage, framing, same, of=of)]


def _interaction_clause(mean: Finding, readers: list[Finding]) -> str:
    verdict = verdict_words(
        mean,
        below="recognition beyond their confidence and the text's ease",
        above="the reverse of recognition",
    )
    if verdict_of(mean) == "effect" and abs(value(mean)) < TRACE:
        verdict = f"a trace (less than {TRACE:.0%}) of {verdict}"
    several = mean.where.get("reader") == MEAN
    below = sum(f.high is not None and f.high < 0 for f in readers)
    counted = f", below 0 for {below} of {len(readers)} readers" if several and readers else ""
    return f"{verdict}: {'mean ' * several}interaction {with_interval(mean)} log units{counted}"


def _ratio_clause(ratio: Finding) -> str:
    verdict = verdict_words(ratio, below="less entropy on others' text", above="more entropy on others' text")
    return f"{'mean ' * (ratio.where.get('reader') == MEAN)}other/self ratio {with_interval(ratio)} ({verdict})"


def _sum(reader: str, log_ratio: Finding, recognition: Finding, ease: Finding) -> str:
    sign = "-" if value(ease) < 0 else "+"
    return f"{reader} {number(value(log_ratio))} = {number(value(recognition))} {sign} {number(abs(value(ease)))}"


def _pairs(entropy: list[Triple], surprisal: list[Triple], kind: str) -> list[tuple[Finding, Finding]]:
    """Entropy and surprisal of the same cells."""

    def cells(of: list[Triple]) -> dict[tuple[str, str], Finding]:
        return {
            (t.reader, place(f, "author")): f
            for t in of
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
        return f"{read}: {NO_VERDICT}"
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


def _reader(finding: Finding) -> str:
    framing = finding.where.get("framing")
    return f"{finding.where.get('reader')}{f', {framing_label(str(framing))}' if framing else ''}"
