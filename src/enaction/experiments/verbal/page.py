"""The page of verbal reports: a sentence on what the design can say, one figure, and the tables."""

from __future__ import annotations

from collections.abc import Sequence

from enaction.chart import Axis, Chart, Key, Mark, Panel, Rule, points_of
from enaction.experiments.verbal.analysis import NONE, TAUGHT
from enaction.experiments.verbal.route import DIRECTIONS
from enaction.findings import Finding, Findings
from enaction.page import Page, Section, Statement
from enaction.shown import left_out, number, table, verdict_of, with_interval

_CELLS = {
    "report_auroc": "AUROC",
    "report_balanced": "right at 0",
    "report_balanced_at_5": "right at 5 % false positives",
    "claims": "called its own",
    "report_gap": "gap, nats",
    "swapped_gap": "gap, swapped question",
    "unrelated_gap": "gap, unrelated questions",
    "shuffled_gap_share": "shuffled labels",
}
_ROUTE = {
    "in_share": "in the subspace of surprise",
    "in_energy": "energy",
    "in_dose": "equivalent dose",
    "random_share": "random subspaces",
    "random_energy": "energy",
    "complement_share": "in the complement",
    "complement_dose": "equivalent dose",
    "shuffled_share": "shuffled bins",
}
_INJECTED = {
    "injection_effect": "concept minus random, nats",
    "injection_unrelated": "unrelated question, nats",
}
# The kinds of text, in the order of the figure.
KINDS = ("foreign", "kin", "begun", "temperature", "moved")
_KIND_LABELS: dict[str, str] = {
    "foreign": "others' text",
    "kin": "near kin",
    "begun": "begun by another, continued by itself",
    "temperature": "own, other temperature",
    "moved": "own, under another prompt",
}
# Own text under another prompt is told alike where the whole interval is this near to one half.
_ALIKE = 0.15
# No privileged access is an advantage in AUROC that is surely smaller than this.
_ADVANTAGE = 0.05
# More of the effect than this lies in a subspace, or outside of it, for a sentence to name it as the route.
MOST = 0.5
# Where fewer replies than this share are disavowed under another prompt, an injected thought has nothing to win back.
_DISAVOWED = 0.2
# What has to hold exactly, nats of log-odds.
_EXACT = 1e-3


def page(findings: Findings, title: str, question: str) -> Page:
    """What the report shows."""
    readers = [str(reader) for reader in findings.values("reader")]
    statements = [s for reader in readers for s in _of_reader(findings.at(reader=reader), reader)]
    answering = [reader for reader in readers if findings.select("report_auroc", reader=reader).measured]
    charts = {"verbal": _chart(findings, answering)} if answering else {}
    remark = (
        "A report is a fact about what a model was taught to say. A model that nobody taught to report answers by "
        "habit: look at the answer mass, at the swapped and at the unrelated questions first."
    )
    reports = table(
        findings.measured,
        "Whose text is it? Own text against each other text",
        {"reader": "model", "author": "text", "kind": "what it is"},
        _CELLS,
        show=lambda f: with_interval(f, 2),
        labels={"kind": lambda kind: _KIND_LABELS[kind]},
    )
    route = table(
        findings.measured,
        "The route: share of the effect of the whole patch",
        {"reader": "model", "direction": "patched"},
        _ROUTE,
        show=lambda f: with_interval(f, 2),
    )
    injected = table(
        Findings(f for f in findings if "layer" in f.where),
        "An injected thought: the concept of the reply's own prompt, put into the prompt that it is shown under",
        {"reader": "model", "asked": "asked", "layer": "layer", "dose": "dose"},
        _INJECTED,
        show=lambda f: with_interval(f, 2),
    )
    sections = [
        Section(charts=[*charts], grids=[reports] if reports.rows else []),
        *([Section("By what route", _ROUTE_TEXT, grids=[route])] if route.rows else []),
        *([Section("An injected thought", grids=[injected], folded=True)] if injected.rows else []),
    ]
    return Page(title, question, statements, sections, charts, remark=remark)


_ROUTE_TEXT = (
    "Keys and values of a foreign reply in place of an own one's. The part in the subspace of surprise is read beside "
    "its energy and beside random subspaces that hold as much; what the complement keeps is 1 minus the part of the "
    "other direction. Where no direction outside holds as much energy, the random ones hold less: compare the two "
    "columns. The equivalent dose is the scale at which the whole patch does as much."
)


def _of_reader(findings: Findings, reader: str) -> list[Statement]:
    reports = findings.select("report_auroc")
    if reports and not reports.measured:
        return _silence(findings, reader)  # the log-odds of words that it does not say are nothing to speak of
    is_taught = any(TAUGHT in f.notes for f in findings)
    subject = f"{reader}, an organism that was taught what to say" if is_taught else reader
    return [
        *_report(findings, subject),
        *_what_it_is_of(findings, subject),
        *_privileged(findings, subject),
        *_route(findings, reader, subject),
        *_thought(findings, reader, subject),
    ]


def _silence(findings: Findings, reader: str) -> list[Statement]:
    """Why nothing is said of a model's reports."""
    mass = [f.estimate for f in findings.select("answer_mass").measured if f.estimate is not None]
    if not mass:
        return left_out(findings, reader, "report_auroc")[:1]
    text = (
        f"does not answer with the two words: their probability together is {number(min(mass), 2)} to "
        f"{number(max(mass), 2)} over texts, so that their log-odds are no report."
    )
    return [Statement(text, ("answer_mass",), {"reader": reader}, "left out", reader)]


def _report(findings: Findings, subject: str) -> list[Statement]:
    """Whether the model reports."""
    foreign = findings.select("report_auroc", kind="foreign").measured
    made: list[Statement] = []
    for f in foreign:
        claims, own = (findings.one(q, author=f.where["author"]) for q in ("claims", "own_claims"))
        text = (
            f"tells its own text from {f.where['author']}'s with an AUROC of {with_interval(f, 2)}; it calls "
            f"{with_interval(own, 2)} of its own and {with_interval(claims, 2)} of the other text its own. "
            f"{_question_sentence(findings, f)}"
        )
        made.append(
            Statement(text, ("report_auroc", "claims"), f.where, verdict_of(f), subject, headline=f is foreign[0])
        )
    return made


def _above(f: Finding) -> bool:
    return f.low is not None and f.null is not None and f.low > f.null


def _specific(findings: Findings, f: Finding) -> bool:
    """Whether the question matters: the swap reverses the gap, and unrelated ones have under half of it, or none."""
    gap, swapped, unrelated = _gaps(findings, f)
    if gap is None or gap.estimate is None or swapped is None:
        return False
    habit = abs(unrelated.estimate or 0.0) if unrelated else 0.0
    return (swapped.high or 0.0) < 0 and habit < abs(gap.estimate) / 2


def _gaps(findings: Findings, f: Finding) -> list[Finding | None]:
    """The gap under the question, its swap and unrelated ones; None where the model does not answer that question."""
    return [findings.one(q, author=f.where["author"]) for q in ("report_gap", "swapped_gap", "unrelated_gap")]


def _question_sentence(findings: Findings, f: Finding) -> str:
    gap, swapped, unrelated = _gaps(findings, f)
    if swapped is None:
        return "It does not answer the swapped question, so it is open whether the question sets the answer."
    if _specific(findings, f):
        return f"The swapped question turns the gap of {with_interval(gap, 1)} nats into {with_interval(swapped, 1)}."
    others = f" and {with_interval(unrelated, 1)} under unrelated ones" if unrelated else ""
    return (
        f"But it answers other questions alike: the gap is {with_interval(gap, 1)} nats, {with_interval(swapped, 1)} "
        f"under the swapped question{others}. The transcript sets the answer, not the question."
    )


def _what_it_is_of(findings: Findings, subject: str) -> list[Statement]:
    """Style or intention, of a model that reports: own text under another prompt."""
    if not any(_above(f) and _specific(findings, f) for f in findings.select("report_auroc", kind="foreign").measured):
        return []
    made = []
    for f in findings.select("report_auroc", kind="moved").measured:
        said = findings.one("claims", author=f.where["author"])
        text = (
            f"own text under a prompt that it does not answer is told from own text in place with an AUROC of "
            f"{with_interval(f, 2)}, and {with_interval(said, 2)} of it is called its own: "
        )
        if _above(f):
            text += "the report heeds what was asked for, as well as style."
        elif f.low is not None and f.high is not None and f.low > 0.5 - _ALIKE and f.high < 0.5 + _ALIKE:
            text += "the report is of the text's style, not of what the model was about to say."
        else:
            text += "too few texts to say whether the report heeds what was asked for."
        made.append(Statement(text, ("report_auroc",), f.where, verdict_of(f), subject))
    return made


def _privileged(findings: Findings, subject: str) -> list[Statement]:
    made = []
    for f in findings.select("privileged_access").measured:
        asked = f"asked about the same transcripts ({f.where['author']}'s and its own)"
        text = f"its AUROC minus that of {f.where['outsider']}, {asked}, is {with_interval(f, 2)}: "
        if _above(f):
            text += "more than the outsider has."
        elif f.high is not None and f.high < _ADVANTAGE:
            text += "no privileged access."
        else:
            text += "too few texts to say whether it knows more than the outsider."
        made.append(Statement(text, ("privileged_access",), f.where, verdict_of(f), subject))
    return made + [
        Statement(
            f"no measure of access: {f.left_out}. A fair outsider was taught to answer.",
            ("privileged_access",), f.where, "left out", subject,
        )
        for f in findings.select("privileged_access")
        if f.left_out
    ]  # fmt: skip


def _route(findings: Findings, reader: str, subject: str) -> list[Statement]:
    """Where the route lies, by rule."""
    errors = [findings.one(q) for q in ("full_patch_error", "identity_error")]
    broken = [f for f in errors if f is not None and (f.estimate or 0.0) > _EXACT]
    if broken:
        size = number(broken[0].estimate, 5)
        text = f"a check of the patching fails by {size} nats: the shares of the route mean nothing."
        return [Statement(text, (broken[0].quantity,), {"reader": reader}, "alarm", subject)]
    kept = [findings.one("complement_share", direction=d) for d in DIRECTIONS]
    found = [
        (share, drawn, energy, random)
        for d in DIRECTIONS
        if (share := findings.one("in_share", direction=d))
        and (drawn := findings.one("random_share", direction=d))
        and (energy := findings.one("in_energy", direction=d))
        and (random := findings.one("random_energy", direction=d))
    ]
    if len(found) < len(DIRECTIONS):
        return left_out(findings, subject, "in_share")[:1]
    (there, drawn, energy, random), (back, drawn_back, *_) = found
    outcome, words = _outcome(found)
    text = (
        f"of the effect of a foreign reply's keys and values {with_interval(there, 2)} lies in the subspace of "
        f"surprise ({with_interval(back, 2)} the other way), and the complement keeps {with_interval(kept[0], 2)}; "
        f"random subspaces of the complement have {with_interval(drawn, 2)} ({with_interval(drawn_back, 2)}), with "
        f"{number(random.estimate, 2)} of the patch's energy where surprise has {number(energy.estimate, 2)}. {words}"
    )
    about = ("in_share", "complement_share", "random_share")
    verdict = "effect" if outcome in ("by surprise", "in part") else "no effect"
    return [Statement(text, about, {"reader": reader}, verdict, subject, outcome=outcome)]


def _outcome(found: Sequence[tuple[Finding, Finding, Finding, Finding]]) -> tuple[str, str]:
    """What the shares say: `by surprise`, `in part`, `not by surprise`, `no more than energy`.

    Args:
        found: share in the subspace, share of random draws, energy of both; for each direction.
    """
    low, high = min(share.low or 0.0 for share, *_ in found), max(share.high or 0.0 for share, *_ in found)
    beyond = all((share.low or 0.0) > _fair(drawn, energy, random) for share, drawn, energy, random in found)
    if beyond and low > MOST:
        return "by surprise", "The report travels by the trace of surprise."
    if high < NONE:
        return "not by surprise", "The report does not travel by the trace of surprise."
    if beyond:
        return "in part", "A part of the report travels by the trace of surprise, more than energy explains."
    return (
        "no more than energy",
        "That is no more than so much energy does anywhere: no evidence for the trace of surprise.",
    )


def _fair(drawn: Finding, energy: Finding, random: Finding) -> float:
    """The largest share of random draws; in proportion larger where no subspace outside holds as much energy."""
    most, missing = drawn.high or 0.0, (energy.estimate or 0.0) / max(random.estimate or 0.0, 1e-9)
    return most * max(1.0, missing) if most > 0 else most


def _thought(findings: Findings, reader: str, subject: str) -> list[Statement]:
    """The layer at which the concept acts most at dose 1, beside random vectors there."""
    own = Findings(f for f in findings if f.where.get("asked", reader) == reader)
    at_one = [f for f in own.select("injection_effect").measured if f.where.get("dose") == 1.0]
    if not at_one:
        return []
    best = max(at_one, key=lambda f: f.estimate or 0.0)
    place = {"layer": best.where["layer"], "dose": 1.0}
    concept, chance, third = (own.one("injected_claims", treatment=t, **place) for t in ("concept", "random", "third"))
    before, ceiling = (own.one("injected_claims", treatment=t) for t in ("disavowed", "ceiling"))
    if before is None or ceiling is None or (ceiling.estimate or 0.0) - (before.estimate or 0.0) < _DISAVOWED:
        text = (
            f"it does not disavow replies under a prompt that they do not answer ({with_interval(before, 2)} are "
            f"called its own, {with_interval(ceiling, 2)} under their own prompt), so an injected thought has "
            "nothing to win back."
        )
        return [Statement(text, ("injected_claims",), {"reader": reader}, "left out", subject)]
    text = (
        f"of replies under a prompt that they do not answer {with_interval(before, 2)} are called its own. With the "
        f"concept of their own prompt put into that prompt, at layer {place['layer']}, where it acts most of "
        f"{len(at_one)} layers, it is {with_interval(concept, 2)} (random vectors of its length "
        f"{with_interval(chance, 2)}, a third prompt's concept {with_interval(third, 2)}; under the own prompt "
        f"{with_interval(ceiling, 2)})."
    )
    # The best of several layers is above 0 by chance sooner than one is: no draw and no third prompt may do as much.
    others = [f.high or 0.0 for f in (chance, third) if f]
    beyond = concept is not None and (concept.low or 0.0) > max(others, default=0.0)
    verdict = "effect" if beyond and _above(best) else "no effect"
    return [Statement(text, ("injection_effect", "injected_claims"), best.where, verdict, subject)]


def _chart(findings: Findings, readers: Sequence[str]) -> Chart:
    """AUROC of every text on the left; on the right the route, where it was measured."""
    columns = [_reports_panel(findings.at(reader=reader), reader) for reader in readers]
    rows = [columns]
    if findings.select("in_share").measured:
        rows.append([_route_panel(findings.at(reader=reader), reader == readers[0]) for reader in readers])
    caption = (
        "Above: AUROC of the report, own text against each other text, with 95 % intervals over prompts. Below: share "
        "of the effect of the whole patch of keys and values that lies in the subspace of surprise and in its "
        "complement, own replies patched (full) and foreign ones (open); grey: random subspaces of the complement, "
        "with as much energy if any have it, range of draws."
    )
    return Chart(
        caption, rows, width=1.5 + 3.4 * len(readers), height=2.6 * len(rows) + 0.6, share_x="row", share_y="none"
    )


def _reports_panel(findings: Findings, reader: str) -> Panel:
    ordered = sorted(findings.select("report_auroc").measured, key=lambda f: KINDS.index(f.where["kind"]))
    names = [str(f.where["author"]).removeprefix(f"{reader}.") for f in ordered]
    places = [float(-i) for i in range(len(ordered))]
    marks: list[Mark] = [points_of(places, ordered, along="x"), Rule("x", 0.5, line="dotted")]
    y = Axis(ticks=places, names=names, low=-len(ordered) + 0.5, high=0.5, bare=True)
    return Panel(marks, Axis("AUROC of the report", low=0.0, high=1.02), y, reader)


def _route_panel(findings: Findings, has_legend: bool) -> Panel:
    rows = {"in_share": "surprise", "random_share": "random", "complement_share": "complement"}
    marks: list[Mark] = [Rule("x", 0.0, line="dotted"), Rule("x", 1.0, line="dotted")]
    for i, quantity in enumerate(rows):
        for shift, direction in zip((0.13, -0.13), DIRECTIONS, strict=True):
            found = [f for f in [findings.one(quantity, direction=direction)] if f]
            look = {"colour": "grey" if quantity == "random_share" else "blue"}
            face = "full" if direction == DIRECTIONS[0] else "white"
            marks.append(points_of([-i + shift] * len(found), found, along="x", face=face, **look))
    y = Axis(ticks=[-i for i in range(len(rows))], names=[*rows.values()], low=-len(rows) + 0.5, high=0.5, bare=True)
    legend = [Key("own patched", "blue"), Key("foreign patched", "blue", face="white")]
    return Panel(marks, Axis("share of the effect"), y, legend=legend if has_legend else ())
