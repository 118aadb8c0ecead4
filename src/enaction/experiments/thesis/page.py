"""The page of the thesis: its sections, and the conclusions over seeds by rules that were fixed beforehand."""

from __future__ import annotations

from collections.abc import Sequence

from enaction.experiments.thesis import charts, grids
from enaction.experiments.thesis.analysis import excluded
from enaction.experiments.thesis.contrasts import Roles
from enaction.findings import Finding, Findings
from enaction.page import Page, Section, Statement, Verdict
from enaction.shown import contains, number, value, verdict_of, with_interval
from enaction.words import MEAN


def page(title: str, question: str, findings: Findings, roles: Roles) -> Page:
    """What the report shows of the thesis."""
    points = sorted(findings.values("point"))
    if not points:
        return Page(
            title, question, [Statement("the study names no arms of training.", ("familiarity",), verdict="left out")]
        )
    last = points[-1]
    failing = excluded(findings, last)
    over = findings.at(seed=MEAN)
    end = over.at(point=last)
    arms = end.values("reader", "familiarity")
    shown = [arm for arm in arms if arm not in failing]
    drawn = {"thesis_levels": charts.levels(findings, last, arms, failing, roles)}
    sections = [
        Section(
            "Are the texts worth reading?",
            "Entropy collapses on degenerate text and would be reported as recognition, so an arm whose text fails the "
            "gate in any seed (†) is shown and enters no conclusion.",
            grids=[grids.quality(findings, last, failing)],
        ),
        Section(
            "How familiar is each arm with which text?",
            "Familiarity is how much less entropy a reader has on a text than its own confidence and the text's ease "
            "explain, as told by neutral families; log units. Intervals are over seeds.",
            charts=["thesis_levels"],
            grids=[
                *grids.arms(end, arms, failing),
                grids.loops(end, failing),
                grids.table(end, arms, failing),
                grids.single_seeds(findings, last),
            ],
        ),
        Section(
            "Whose text is it?",
            "Familiarity is with a distribution of text, whoever writes it. Surprisal less entropy is 0 in expectation "
            "on text drawn from the reader, and above 0 on any other that is less likely under it.",
            grids=[grids.ownness(end, arms, failing)],
        ),
    ]
    if len(points) > 1:
        drawn["thesis_course"] = charts.course(over, points)
        sections.append(
            Section(
                "On the way", "Means over seeds.", charts=["thesis_course"], grids=[grids.course_table(over, points)]
            )
        )
    statements = [*_gate_statements(failing), *_statements(end, shown, roles, last)]
    seeds = len([seed for seed in findings.values("seed") if seed != MEAN])
    remark = (
        f"Intervals are over {seeds} seeds, so they speak of other training runs; where 0 is inside, the sentence says "
        "how large an effect remains possible."
    )
    return Page(title, question, statements, sections, drawn, {"point": last}, remark)


def _statements(end: Findings, shown: Sequence[str], roles: Roles, last: int) -> list[Statement]:
    """The conclusions at the end of training, of arms that pass the gate."""
    if roles.actor not in shown:
        return [
            Statement(
                "the actor's text fails the quality gate: nothing is concluded.", ("passes_gate",), verdict="alarm"
            )
        ]
    has_other = roles.other in shown
    made = _actor(end, roles.actor)
    made += [
        statement
        for twin in roles.twins
        if twin in shown
        for statement in (
            *_passive(end, twin, has_other),
            *(_beside_control(end, twin) if has_other and roles.control in shown else ()),
            *_own_or_actors(end, twin),
            *_told_apart(end, twin, roles.actor),
        )
    ]
    for loop in (roles.actor, *roles.loops):
        for twin in roles.twins:
            if loop in shown and twin in shown:
                made += _loop_adds(end, loop, twin, has_other)
    if roles.control in shown and has_other:
        made += _control(end, str(roles.control))
    if roles.empty in shown:
        made += _empty(end, str(roles.empty))
    return made


def _gate_statements(failing: dict[str, list[str]]) -> list[Statement]:
    return [
        Statement(
            f"fails the quality gate and enters no conclusion: {'; '.join(why)}.",
            ("passes_gate",),
            {"arm": arm},
            "left out",
            arm,
        )
        for arm, why in failing.items()
    ]


def _actor(end: Findings, actor: str) -> list[Statement]:
    """How much of what the actor gained is in the reader: its start reads the same text."""
    gain, learned = end.one("gain", reader=actor), end.one("learned", reader=actor)
    if gain is None or learned is None:
        return []
    text = (
        f"its familiarity with its own text is {with_interval(gain)} log units above that of its start with the "
        f"start's own text; above that of its start with the same text it is {with_interval(learned)}, and the rest is "
        f"in the text, which its start finds more familiar too; {_seeds(learned)}."
    )
    return [Statement(text, ("gain", "learned"), gain.where, verdict_of(learned), f"Loop {actor}", headline=True)]


def _passive(end: Findings, twin: str, has_other: bool) -> list[Statement]:
    """Whether a reader that never sampled recognises the text that it was trained on, and that text in particular."""
    learned, specific = end.one("learned", reader=twin), end.one("specific", reader=twin) if has_other else None
    if learned is None:
        return []
    numbers = f"training made it more familiar with the actor's text by {with_interval(learned)} log units"
    if specific is not None:
        numbers += f", and it is more familiar with that than with another such loop's by {with_interval(specific)}"
    signs = {_sign(f) for f in (learned, specific) if f is not None}
    if signs == {1}:
        conclusion, outcome, verdict = "a passive reader recognises the text", "recognises", "effect"
    elif -1 in signs:
        conclusion, outcome, verdict = "a passive reader does not recognise the text", "does not recognise", "no effect"
    else:
        conclusion = f"not decided whether a passive reader recognises the text ({_open([learned, specific])})"
        outcome, verdict = "not decided", "no effect"
    text = f"{conclusion}: {numbers}; {_seeds(learned)}."
    about = ("learned", "specific") if specific else ("learned",)
    return [Statement(text, about, learned.where, verdict, f"Twin {twin}", headline=True, outcome=outcome)]


def _beside_control(end: Findings, twin: str) -> list[Statement]:
    """Whether the twin knows the actor's text in particular, by a control that got another loop's replies.

    All kin find the same texts familiar, which `specific` does not take out and this does.
    """
    beyond = end.one("specific_beyond_control", reader=twin)
    if beyond is None:
        return []
    words = {
        1: ("it recognises the actor's text in particular", "recognises"),
        -1: ("it recognises the other loop's text rather than the actor's", "does not recognise"),
        0: (f"not decided whether it recognises the actor's text in particular ({_open([beyond])})", "not decided"),
    }
    conclusion, outcome = words[_sign(beyond)]
    verdict: Verdict = "effect" if _sign(beyond) > 0 else "no effect"
    text = (
        f"{conclusion}: the actor's less another loop's text, beyond the same of the control that got the other's "
        f"replies, {with_interval(beyond)} log units; {_seeds(beyond)}."
    )
    about = ("specific_beyond_control",)
    return [Statement(text, about, beyond.where, verdict, f"Twin {twin}", headline=True, outcome=outcome)]


def _told_apart(end: Findings, twin: str, actor: str) -> list[Statement]:
    """Whether surprisal less entropy tells the other's text from own, which it is 0 on, from either side."""
    reading, read = (end.one("ownness", reader=r, author=a) for r, a in ((twin, actor), (actor, twin)))
    if reading is None or read is None:
        return []
    words = {True: "takes it for text that could be its own", False: "tells it from its own"}
    text = (
        f"surprisal less entropy on the actor's text is {with_interval(reading)} nats a token (the twin "
        f"{words[_sign(reading) == 0]}), the actor's on the twin's text {with_interval(read)} (the actor "
        f"{words[_sign(read) == 0]}); {_seeds(reading)}."
    )
    return [Statement(text, ("ownness",), reading.where, verdict_of(reading), f"Twin {twin}")]


def _loop_adds(end: Findings, loop: str, twin: str, has_other: bool) -> list[Statement]:
    """Whether a model that learned from its own samples is more familiar with its text than a twin with its own."""
    level = end.one("loop_adds", loop=loop, reader=twin)
    gain = end.one("loop_adds_to_gain", loop=loop, reader=twin)
    specific = end.one("loop_adds_specifically", loop=loop, reader=twin) if has_other else None
    if level is None or gain is None:
        return []
    words = {
        1: ("the loop adds to familiarity with one's own text", "adds"),
        -1: ("the twin is the more familiar with its own text", "adds nothing"),
        0: (f"not decided whether the loop adds ({_open([level])})", "not decided"),
    }
    conclusion, outcome = words[_sign(level)]
    verdict: Verdict = "effect" if _sign(level) > 0 else "no effect"
    far = [end.one("distance_from_start", arm=arm) for arm in (loop, twin)]
    at = "; nats a token from the start: " + ", ".join(number(f.estimate if f else None, 2) for f in far)
    text = (
        f"{conclusion}: level of the loop less the twin's {with_interval(level)} log units, over the own starts "
        f"{with_interval(gain)}"
        + (f"; on the actor's less the other loop's text {with_interval(specific)}" if specific else "")
        + f"{at}; {_seeds(level)}."
    )
    about = ("loop_adds", "loop_adds_to_gain", *(["loop_adds_specifically"] if specific else []))
    return [Statement(text, about, level.where, verdict, f"Loop {loop}, twin {twin}", headline=True, outcome=outcome)]


def _own_or_actors(end: Findings, twin: str) -> list[Statement]:
    """Whether a twin tells its own text from the actor's, with how far the texts lie apart."""
    own, both = end.one("own_less_actors", reader=twin), end.one("apart", reader=twin)
    if own is None or both is None:
        return []
    words = {
        1: "it is more familiar with its own text than with the actor's",
        -1: "it is more familiar with the actor's text than with its own",
        0: f"not decided whether it tells its own text from the actor's ({_open([own])})",
    }
    wording, floor = end.one("wording_distance", arm=twin), end.one("wording_distance_floor", arm=twin)
    beside = f"; their wordings lie {number(wording.estimate, 2)} apart" if wording else ""
    beside += f" (two texts of one writer: {number(floor.estimate, 2)})" if floor else ""
    text = (
        f"{words[_sign(own)]}: own less the actor's {with_interval(own)} log units, summed over twin and actor "
        f"{with_interval(both)}{beside}; {_seeds(own)}."
    )
    return [Statement(text, ("own_less_actors", "apart"), own.where, verdict_of(own), f"Twin {twin}")]


def _control(end: Findings, arm: str) -> list[Statement]:
    learned, specific = end.one("learned", reader=arm), end.one("specific", reader=arm)
    if learned is None or specific is None:
        return []
    text = (
        f"training on another loop's replies made it more familiar with the actor's text, which it never met, by "
        f"{with_interval(learned)} log units; it is more familiar with that than with its source's by "
        f"{with_interval(specific)}; {_seeds(specific)}."
    )
    return [Statement(text, ("learned", "specific"), learned.where, verdict_of(specific), f"Control {arm}")]


def _empty(end: Findings, arm: str) -> list[Statement]:
    gain, far = end.one("gain", reader=arm), end.one("distance_from_start", arm=arm)
    if gain is None:
        return []
    words = {
        1: "a loop with a reward that means nothing gains familiarity with its own text",
        -1: "a loop with a reward that means nothing loses familiarity with its own text",
        0: f"not decided whether a reward that means nothing brings familiarity ({_open([gain])})",
    }
    beside = f", {number(far.estimate, 2)} nats a token from its start" if far else ""
    text = f"{words[_sign(gain)]}: {with_interval(gain)} log units{beside}; {_seeds(gain)}."
    return [Statement(text, ("gain",), gain.where, verdict_of(gain), f"Loop {arm}", headline=True)]


def _sign(finding: Finding) -> int:
    """1 or -1 where the interval lies above or below 0, else 0."""
    return 0 if contains(finding, 0.0) is not False else 1 if value(finding) > 0 else -1


def _open(findings: Sequence[Finding | None]) -> str:
    """How large an effect the undecided intervals leave possible."""
    undecided = [f for f in findings if f is not None and _sign(f) == 0]
    widest = [max(-f.low, f.high) for f in undecided if f.low is not None and f.high is not None]
    if not widest:
        return "one seed has no interval"
    return f"an effect of up to {number(max(widest), 2)} is not excluded"


def _seeds(finding: Finding) -> str:
    return f"{finding.n} {'seed' if finding.n == 1 else 'seeds'} ({'; '.join(finding.notes)})"
