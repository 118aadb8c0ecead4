"""What the findings of the matrix mean, one plain sentence each, with the interval.

The words follow the numbers by fixed rules and claim no more than they do: a sentence says "no effect" exactly where
the 95 % interval contains the value that means none (ratio 1, everything else 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from enaction.experiments.matrix.authorship import authorship
from enaction.experiments.matrix.lookup import (
    Cell,
    alarmed,
    counted_certified,
    framings,
    main_place,
    members,
    readings,
    singles,
    stages,
    verdict_word,
)
from enaction.findings import Finding, Findings
from enaction.page import Statement, Verdict
from enaction.shown import NO_VERDICT, mean_value, number, value, verdict_of, verdict_words, with_interval
from enaction.stats import IDENTITY_LIMIT
from enaction.words import MEAN, TRACE, WORLD, checkpoint, framing_label, models_of, stage_label

_JOINT = "one number for both readers: it says neither which of them recognises, nor whether one is flat"
# Why a reader is not certified, before its name.
_DOUBTS = {"disagree": "the witnesses disagree on", "flat": "no response to difficulty in"}
_SERIES = {"interaction": "interaction (log units)", "other_self_ratio": "other/self ratio"}
# With more readers than this a sentence gives their range in place of their names.
_NAMED_READERS = 6


def statements(findings: Findings) -> list[Statement]:
    """One for each finding that people ask for, the instrument's alarm first; checkpoints have their own page."""
    return [
        *_identity(findings),
        *_recognition(findings),
        *authorship(findings),
        *_changes(findings),
        *_split(findings),
        # Is the last stage's own text easier for its family's own base too? Then the effect is the text's.
        *_of_readers(
            findings,
            "base_reader_ratio",
            of="the same texts read by their own base, other/self ratio",
            below="its descendant's text is no easier for it but harder",
            above="its descendant's text is easier for it too, so part of the raw ratio lies in the text",
        ),
        *_world(findings),
        # What is left of the difference among tokens of equal input surprise?
        *_of_readers(
            findings,
            "matched_gap",
            of="own minus other entropy after equally surprising tokens, nats",
            below="less on own text all the same",
            above="more on own text",
        ),
        *_variety(findings),
    ]


def _said(text: str, about: Sequence[str], at: dict[str, Any], verdict: Verdict, *, of: str = "") -> Statement:
    """A sentence about the models of a stage in a framing; `of` narrows its subject."""
    subject = ", ".join(filter(None, (models_of(at["stage"]), framing_label(at["framing"]), of)))
    return Statement(text, tuple(about), at, verdict, subject)


def _identity(findings: Findings) -> list[Statement]:
    """Whether the instrument can be trusted: the identity residuals of the readers' own text."""
    residuals = findings.select("identity_residual")
    if not residuals:
        return []
    about = ("identity_residual",)
    if bad := [f"{_reader(f)} {number(f.estimate, 1)}" for f in residuals if alarmed(f)]:
        text = (
            f"identity residual outside ±{IDENTITY_LIMIT:g} standard deviations ({', '.join(bad)}): something in the "
            "template, tokenisation, temperature or cache is wrong, and no other number of these readers is to be "
            "trusted before that is found."
        )
        return [Statement(text, about, verdict="alarm", subject="WARNING", headline=True)]
    largest, n = max(residuals, key=lambda f: abs(value(f))), len(residuals)
    they = f"{n} of {n} identity residuals lie" if n > 1 else "the identity residual lies"
    text = (
        f"{they} within ±{IDENTITY_LIMIT:g} standard deviations ({_reader(largest)} {number(largest.estimate, 2)} at "
        "most); on its own text each reader is as surprised as it expects to be: no sign of an error in template, "
        "tokenisation or temperature."
    )
    return [Statement(text, about, subject="Instrument")]


def _recognition(findings: Findings) -> list[Statement]:
    """For each stage and framing: does a reader have less entropy on its own text than main effects explain?

    The interaction speaks first; the ratio follows with a verdict of its own, for the two can disagree. Those of a
    framing are a series along training; that of the main place is a headline.
    """
    made, main = [], main_place(findings)
    beside = ", and readers certified" if findings.select("recognised") else ""
    for framing in framings(findings, "interaction", "other_self_ratio"):
        for stage in (stage for stage in stages(findings) if not checkpoint(stage)):
            at = {"stage": stage, "framing": framing}
            means = [f for q in ("interaction", "other_self_ratio") if (f := findings.one(q, reader=MEAN, **at))]
            clauses = [_interaction_clause(m) if m.quantity == "interaction" else _ratio_clause(m) for m in means]
            if means:
                who = _who(findings, at)
                about = [*(f.quantity for f in means), *(["recognised"] if who else [])]
                text = "; ".join([*clauses[:1], *who, *clauses[1:]])
                said = _said(f"{text}.", about, at, verdict_of(means[0]))
                series = f"{framing_label(framing)} by stage, mean {_SERIES[means[0].quantity]}{beside}"
                short = ", ".join(filter(None, [_number_at(means[0]), counted_certified(findings, **at)]))
                made.append(replace(said, headline=at == main, series=series[0].upper() + series[1:], short=short))
    return made


def _number_at(mean: Finding) -> str:
    return f"{stage_label(mean.where['stage'])} {with_interval(mean)}"


def _who(findings: Findings, at: dict[str, Any]) -> list[str]:
    """Which readers the verdicts name; that nobody can be named, in a table of two."""
    by_word: dict[str, list[str]] = {}
    for f in findings.select("recognised", **at):
        by_word.setdefault(verdict_word(f), []).append(str(f.where["reader"]))
    if not by_word:
        alone = findings.select("interaction", **at).values("reader") == [MEAN]
        return [_JOINT] if alone else []
    certified, rest = by_word.pop("certified", []), by_word.pop("not certified", [])
    parts = [f"certified: {', '.join(certified)}"] if certified else ["no reader is certified"]
    if certified and rest:
        parts.append(f"not {', '.join(rest)}")
    parts += [f"{_DOUBTS.get(word, word)} {', '.join(names)}" for word, names in by_word.items()]
    return [", ".join(parts)]


def _interaction_clause(mean: Finding) -> str:
    verdict = verdict_words(
        mean, below="recognition beyond their confidence and the text's ease", above="the reverse of recognition"
    )
    if verdict_of(mean) == "effect" and abs(value(mean)) < TRACE:
        verdict = f"a trace (less than {TRACE:.0%}) of {verdict}"
    return f"{verdict}: mean interaction {with_interval(mean)} log units"


def _ratio_clause(mean: Finding) -> str:
    verdict = verdict_words(mean, below="less entropy on others' text", above="more entropy on others' text")
    return f"mean other/self ratio {with_interval(mean)} ({verdict})"


def _changes(findings: Findings) -> list[Statement]:
    """What each stage added to the interaction of the one before, in the main framing; with checkpoints, as a whole."""
    at = {"framing": main_place(findings)["framing"], "reader": MEAN}
    made = []
    for step in findings.select("interaction_change", **at):
        after = step.where["stage"]
        change = findings.one("interaction_change_over_stage", stage=after, **at) or step
        before = change.where["from_stage"]
        verdict = verdict_words(change, below="recognition grows", above="recognition shrinks")
        made.append(
            Statement(
                f"{verdict}: the interaction changes by {with_interval(change)} log units.",
                (change.quantity,),
                {"stage": after, "from_stage": before, "framing": at["framing"]},
                verdict_of(change),
                f"From {stage_label(before)} to {stage_label(after)}, {framing_label(at['framing'])}",
                series=f"Change of the interaction from stage to stage, {framing_label(at['framing'])}, log units",
                short=f"{stage_label(before)} to {stage_label(after)} {with_interval(change)}"
                + " (no effect)" * (verdict_of(change) == "no effect"),
            )
        )
    return made


def _split(findings: Findings) -> list[Statement]:
    """How much of each reader's log ratio at the last stage is recognition, and how much the ease of its own text.

    Over all readers of a table the eases cancel, so only the mean recognition gets a verdict.
    """
    about, at = ("log_ratio", "recognition", "ease"), main_place(findings)
    mean = findings.one("recognition", reader=MEAN, **at)
    if mean is None:
        return []
    verdict = verdict_words(mean, below="the reverse of recognition", above="recognition is found")
    alone = findings.select("recognition", **at).values("reader") == [MEAN]
    of = "recognition of both readers together" if alone else "mean recognition"
    text = f"{verdict}: {of} {with_interval(mean)} log units"
    parts = findings.pivot(about, ("reader",), **at)
    numbers = {r: [value(part[q]) for q in about] for (r,), part in parts.items() if r != MEAN and len(part) == 3}
    if len(numbers) > _NAMED_READERS:
        eases = sorted(ease for *_, ease in numbers.values())
        text += f"; the ease of the own text adds from {number(eases[0])} to {number(eases[-1])} to the log ratio"
    elif numbers:
        sums = [
            f"{reader} {number(log_ratio)} = {number(recognition)} {'-' if ease < 0 else '+'} {number(abs(ease))}"
            for reader, (log_ratio, recognition, ease) in numbers.items()
        ]
        text += f"; log ratio = recognition + ease of own text: {', '.join(sums)}"
    return [_said(f"{text}.", about, at, verdict_of(mean), of="split")]


def _of_readers(findings: Findings, quantity: str, *, of: str, below: str, above: str) -> list[Statement]:
    """A clause a verdict at the last stage, naming the readers that it holds for."""
    at = main_place(findings)
    of_readers = singles(findings, quantity, **at)
    clauses: dict[str, list[str]] = {}
    for f in of_readers:
        base_of = f" (of {f.where['of']})" if "of" in f.where else ""
        words = verdict_words(f, below=below, above=above)
        clauses.setdefault(words, []).append(f"{f.where['reader']}{base_of} {with_interval(f)}")
    text = "; ".join(f"{words}: {', '.join(readers)}" for words, readers in clauses.items())
    verdict: Verdict = verdict_of(of_readers[0]) if len(set(map(verdict_of, of_readers))) == 1 else ""
    return [_said(f"{text}.", (quantity,), at, verdict, of=of)] if of_readers else []


def _world(findings: Findings) -> list[Statement]:
    """How the last stage reads text that it did not write: the others', and the world's own."""
    at = main_place(findings)
    read = readings(findings, **at)
    made = []
    for kind, name in (("others", "foreign text"), (WORLD, "world text")):
        if cells := [c for of in read for c in of.texts.get(kind, ()) if {"entropy", "surprisal"} <= c.keys()]:
            made.append(_said(f"{_overconfidence(cells)}.", ("entropy", "surprisal"), at, "", of=name))
    if ratio := findings.one("world_self_ratio", reader=MEAN, **at):
        less, more = (f"{which} entropy than on their own text" for which in ("less", "more"))
        text = f"{verdict_words(ratio, below=less, above=more)}: world/self ratio {with_interval(ratio)}."
        made.append(_said(text, ("world_self_ratio",), at, verdict_of(ratio), of="world against own text"))
    return made


def _overconfidence(cells: list[Cell]) -> str:
    """Surprisal beside entropy; overconfident only where the two intervals are apart, in every cell or in some."""
    entropy, surprisal = ([cell[quantity] for cell in cells] for quantity in ("entropy", "surprisal"))
    read = f"read with surprisal {_range(surprisal)} at entropy {_range(entropy)}"
    pairs = zip(surprisal, entropy, strict=True)
    apart = [s.low > h.high for s, h in pairs if s.low is not None and h.high is not None]
    if len(apart) < len(cells):
        return f"{read}: {NO_VERDICT}"
    over = sum(apart)
    if over == len(cells):
        return f"{read}: overconfident off-policy" + (f", in all {over} cells" if over > 1 else "")
    if over:
        return f"{read}: overconfident off-policy in {over} of {len(cells)} cells"
    return f"{read}: surprisal does not exceed entropy beyond the intervals"


def _range(cells: list[Finding]) -> str:
    low, high = (number(bound(map(value, cells)), 2) for bound in (min, max))
    return f"{low} nats" if low == high else f"{low} to {high} nats"


def _variety(findings: Findings) -> list[Statement]:
    """How varied the text of each stage is: share of different word bigrams, mean over its authors; no interval."""
    means = {}
    for stage in stages(findings):
        shares = [findings.one("distinct_bigrams", author=model) for model in members(findings, stage)]
        means[stage] = mean_value([f for f in shares if f])
    listed = [f"{stage_label(stage)} {number(mean)}" for stage, mean in means.items() if mean is not None]
    if len(listed) < 2:
        return []
    subject = "Different word bigrams among all of an author's, mean by stage (no interval)"
    return [Statement(f"{', '.join(listed)}.", ("distinct_bigrams",), subject=subject)]


def _reader(finding: Finding) -> str:
    framing = finding.where.get("framing")
    return f"{finding.where['reader']}{f', {framing_label(framing)}' if framing else ''}"
