"""The page of commitment: curves of agreement, and a sentence on each label that says whether it was planned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from enaction.chart import SERIES, Axis, Chart, Colour, Key, Label, Mark, Panel, Rule, curve_of, stage_colours
from enaction.experiments.commitment.broken import CONTRASTS
from enaction.experiments.commitment.curves import COMMONEST, PEAKED
from enaction.findings import Finding, Findings
from enaction.page import Grid, Page, Section, Statement, Verdict
from enaction.shown import left_out, number, pvalue, table, value, verdict_of, verdict_words, with_interval
from enaction.words import in_training_order, models_of, stage_label

_VARIETY = {
    "label_entropy": "entropy, nats",
    "top_share": "commonest in the prompt",
    "commonest_share": "commonest of all",
    "unique_labels": "labels",
    "none_share": "without a label",
    "chance_within": "chance in the prompt",
    "chance_pooled": "chance between prompts",
    "word_end": "its word ends at token",
    "settled_before_word_pooled": "settled before it, over chance between prompts",
    "settled_before_word_within": "settled before it, over chance in the prompt",
}
_BROKEN = {
    "prefill_surprisal": "surprisal of the beginning, nats a token",
    "returns": "goes on with the prompt's label",
}
# At least this much of what chance leaves has to be settled before its word for a plan.
_MOST = 0.5
# Below this many nats prompts do not differ enough for a probe to say anything.
_LITTLE = 0.05


def page(findings: Findings, title: str, question: str) -> Page:
    """What the report shows of commitment."""
    readers = _readers(findings)
    statements = [*_summary(findings, readers), *left_out(findings, "Commitment", "left_out")]
    for reader in readers:
        of = findings.at(reader=reader)
        for label in of.values("label"):
            statements += _statements(of.at(label=label), reader, label)
    charts = {"commitment": _curves(findings, readers)} if readers else {}
    grids = _grids(findings, readers) if readers else []
    return Page(title, question, statements, [Section(charts=[*charts], grids=grids)], charts)


def _summary(findings: Findings, readers: Sequence[str]) -> list[Statement]:
    """One sentence on the last stage: what the verdict on each label is, of how many readers."""
    if len(readers) < 2:
        return []
    last = _stage(findings.at(reader=readers[-1])).get("stage")
    of = findings if last is None else findings.at(stage=last)
    chosen = [reader for reader in readers if reader in of.values("reader")]
    parts = []
    for label in dict.fromkeys(of.values("label")):
        counts: dict[str, int] = {}
        for reader in chosen:
            at = of.at(reader=reader, label=label)
            if at:
                words = verdict(at)[0].partition(":")[0]
                counts[words] = counts.get(words, 0) + 1
        said = ", ".join(f"{words} in {n}" for words, n in counts.items())
        parts.append(f"{label} {said}")
    text = f"of {len(chosen)} readers: {'; '.join(parts)}."
    about = ("settled_before_word_pooled", "chance_pooled")
    where = {} if last is None else {"stage": last}
    return [Statement(text, about, where, "", models_of(last and str(last)), headline=True)]


def _readers(findings: Findings) -> list[str]:
    """Readers in the order of training, then of the study."""
    stages = in_training_order([str(s) for s in findings.values("stage")])
    return [str(r) for stage in stages for r in findings.at(stage=stage).values("reader")]


def verdict(findings: Findings) -> tuple[str, Verdict]:
    """Planned, peaked or neither, of one reader and label; in words, and as a verdict."""
    chance = findings.one("chance_pooled")
    between = findings.one("settled_before_word_pooled")
    within = findings.one("settled_before_word_within")
    if chance is None:
        return "not known", ""
    none = findings.one("none_share")
    if none is not None and value(none) >= PEAKED:
        return "not known: nearly all samples have no label", ""
    if value(chance) >= PEAKED:
        return "peaked: it hardly ever differs, whatever the prompt", "no effect"
    if between is None:
        at_start = findings.one("excess_pooled", k=0)
        if at_start is None:
            return "not known", ""
        if _is_planned(at_start):
            return "settled by the prompt; where its word lies is not known", "effect"
        return "not settled by the prompt; where its word lies is not known", "no effect"
    if _is_planned(between):
        by_response = within is not None and _is_planned(within)
        return f"planned, {'in the words before it' if by_response else 'by the prompt'}", "effect"
    if between.low is not None and between.low > 0:
        return "planned in part", "effect"
    return "not planned: it is settled when its word is written", "no effect"


def _is_planned(excess: Finding) -> bool:
    return excess.low is not None and excess.low > 0 and value(excess) >= _MOST


def _statements(findings: Findings, reader: str, label: str) -> list[Statement]:
    """What is said of one label of one reader; readers of a stage share a sentence where several are shown."""
    place = {"reader": reader, "label": label, **_stage(findings)}
    of_stage = f"{models_of(place.get('stage'))}, {label}"

    def said(text: str, about: tuple[str, ...], outcome: Verdict, series: str, short: str) -> Statement:
        together = f"{of_stage}{series}" if short else ""
        return Statement(
            f"{text}.", about, place, outcome, f"{reader}, {label}", series=together, short=f"{reader}: {short}"
        )

    made = []
    chance, within = findings.one("chance_pooled"), findings.one("chance_within")
    before, end = findings.one("settled_before_word_pooled"), findings.one("word_end")
    if chance is not None:
        words, outcome = verdict(findings)
        text = f"{words}. Chance is {number(value(chance), 2)} between prompts and {_number(within)} in a prompt"
        if before is not None and end is not None:
            text += (
                f"; before the label's word, which ends at token {number(value(end), 1)}, "
                f"{with_interval(before, 2)} of what chance leaves is settled"
            )
        short = f"{words.partition(':')[0]} (chance {number(value(chance), 2)})"
        made.append(said(text, ("settled_before_word_pooled", "chance_pooled"), outcome, "", short))
    none = findings.one("none_share")
    if none is not None and value(none) > 0.2:
        text = f"{number(value(none), 2)} of the samples have no label, so that its numbers are about the rest too"
        examples = f": {'; '.join(none.notes)}" if none.notes else ""
        made.append(said(f"{text}{examples}", ("none_share",), "", "", ""))
    gains, room = findings.select("probe_gain").measured, findings.one("probe_room")
    if gains and room is not None and value(room) > _LITTLE:
        best = max(gains, key=value)
        says = f"{with_interval(best, 2)} nats of {_number(room)}"
        text = (
            f"the state before the answer says {says} about the label of a prompt that the probe was not fitted to "
            f"(layer {best.where['layer']}, p = {pvalue(best)})"
        )
        is_beyond = best.p is not None and best.p < 0.05 and best.low is not None and best.low > 0
        foretells: Verdict = "effect" if is_beyond else "no effect"
        short = f"{says}, p = {pvalue(best)}"
        made.append(said(text, ("probe_gain",), foretells, ", what the state before the answer says of it", short))
    windows = findings.values("window")
    cost = findings.one("violation", window=windows[-1]) if windows else None
    share = findings.one("planned_share")
    if cost is not None and share is not None and value(share) < _MOST:
        text = f"no prompt settles it (its commonest has {_number(share)}), so no plan is there to be broken"
        about = ", no prompt settles it, so that no plan is there to be broken; share of the commonest"
        made.append(said(text, ("planned_share",), "", about, _number(share)))
    elif cost is not None:
        text = _cost(findings.at(window=windows[-1]), cost, windows[-1])
        series = f", own text of another label, nats over tokens {windows[-1]}"
        home = findings.one("violation_at_home", window=windows[-1])
        made.append(said(text, ("violation", "style"), _agreed(cost, home), series, with_interval(cost)))
    moved = findings.one("moved", arm="words")
    if moved is not None:
        text = (
            f"with another prompt's keys and values at the user's words, {with_interval(moved, 2)} more of the answers "
            "have that prompt's label than with an unrelated prompt's"
        )
        series = ", moved by another prompt's keys and values at the user's words"
        made.append(said(text, ("moved",), verdict_of(moved), series, with_interval(moved, 2)))
    return made


def _agreed(cost: Finding, home: Finding | None) -> Verdict:
    """Whether a broken plan has an effect that is not the other label's own: against its text at home too."""
    if home is None or verdict_of(cost) != "effect" or verdict_of(home) == "":
        return verdict_of(cost)
    is_one_sign = value(cost) * value(home) > 0
    return "effect" if verdict_of(home) == "effect" and is_one_sign else "no effect"


def _cost(findings: Findings, cost: Finding, window: str) -> str:
    """What a broken plan costs in a window, beside what another author's style costs."""
    home, style = findings.one("violation_at_home"), findings.one("style")
    words = verdict_words(cost, below="lowers entropy", above="raises entropy", none="costs no entropy")
    if verdict_of(cost) == "effect" and _agreed(cost, home) != "effect":
        words = "differs in entropy as it does after its own prompt"
    text = f"own text of another label {words}: {with_interval(cost)} nats over tokens {window}"
    if home is not None:
        text += f" ({with_interval(home)} against the same text after its own prompt)"
    if style is not None:
        text += f"; another author's text of the right label: {with_interval(style)}"
    return text


def _stage(findings: Findings) -> dict[str, Any]:
    stage = next(iter(findings.values("stage")), None)
    return {} if stage is None else {"stage": stage}


def _named(finding: Finding | None) -> str:
    """A number, after the label that it is about where it is about one."""
    shown = with_interval(finding, 2)
    if finding is None or finding.quantity != "commonest_share":
        return shown
    return f"{finding.notes[0].removeprefix(COMMONEST)} {shown}"


def _number(finding: Finding | None) -> str:
    return number(value(finding) if finding else None, 2)


def _curves(findings: Findings, readers: Sequence[str]) -> Chart:
    """Excess of agreement over chance between prompts: a panel for each label, a line for each reader."""
    labels = findings.values("label", "excess_pooled")
    stages = in_training_order([str(stage) for stage in findings.values("stage")])
    by_stage = stage_colours(stages)
    stage_of = {reader: str(_stage(findings.at(reader=reader)).get("stage", "")) for reader in readers}
    colours: dict[str, Colour] = {reader: SERIES[i % len(SERIES)] for i, reader in enumerate(readers)}
    legend = [Key(reader, colours[reader], "circle", "solid") for reader in readers]
    if len(stages) > 1:
        colours = {reader: by_stage[stage_of[reader]] for reader in readers}
        legend = [Key(stage_label(stage), by_stage[stage], "circle", "solid") for stage in stages]
    panels = []
    for label in labels:
        at = findings.at(label=label)
        curves = {reader: at.select("excess_pooled", reader=reader).measured for reader in readers}
        marks: list[Mark] = [
            curve_of(curve, lambda f: f.where["k"], colour=colours[reader]) for reader, curve in curves.items() if curve
        ]
        ends = [f for f in at.select("word_end").measured if curves.get(f.where["reader"])]
        marks += [Rule("x", value(f), colour=colours[f.where["reader"]], line="dotted") for f in ends]
        if not any(curves.values()):
            marks.append(Label("hardly ever differs: no curve", 0.5, edge="left"))
        x, y = Axis("tokens given"), Axis("agreement, excess over chance" if label == labels[0] else "")
        panels.append(Panel([Rule("y", 0), *marks], x, y, str(label)))
    caption = (
        "How often a response that is written anew from its first tokens has the label of the original, in excess of "
        "the chance that two prompts have the same label (0: chance, 1: always), 95 % intervals; a line for each "
        "model. Dotted: where the label's own word ends. A label that hardly ever differs has no curve to read."
    )
    width = 1.5 + 2.6 * len(panels)
    return Chart(caption, [panels], width=width, height=3.4, legend=legend, share_x="all", share_y="row")


def _grids(findings: Findings, readers: Sequence[str]) -> list[Grid]:
    rows = {"reader": "model", "label": "label"}
    variety = table(
        Findings(f for f in findings if f.quantity in _VARIETY),
        "Variety and commitment",
        rows,
        _VARIETY,
        order=lambda reader, label: readers.index(reader),
        show=_named,
    )
    windows = findings.values("window")
    grids = [variety]
    for window in windows:
        costs = table(
            findings.at(window=window),
            f"What a broken plan costs: entropy over tokens {window} after the beginning, nats",
            rows,
            {name: what for name, (_, _, what) in CONTRASTS.items()} | {"violation_by_author": "foreign minus own"},
            order=lambda reader, label: readers.index(reader),
        )
        grids.append(costs)
    if windows:
        grids.append(
            table(
                Findings(f for f in findings if f.quantity in _BROKEN and "arm" in f.where),
                "Beginnings",
                rows | {"arm": "beginning"},
                _BROKEN,
                order=lambda reader, label, arm: readers.index(reader),
                show=lambda f: with_interval(f, 2),
            )
        )
    moved = findings.select("moved_share")
    if moved:
        grids.append(
            table(
                Findings(f for f in findings if f.quantity in ("moved_share", "kept_share")),
                "Answers under another prompt's keys and values",
                rows | {"arm": "at"},
                {"moved_share": "donor's label", "kept_share": "own label"},
                order=lambda reader, label, arm: readers.index(reader),
                show=lambda f: with_interval(f, 2),
            )
        )
    return grids
