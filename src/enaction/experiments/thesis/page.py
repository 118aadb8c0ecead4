"""The page of the thesis: the quality gate, then what each arm recognises, then conclusions over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from enaction.chart import Axis, Chart, Colour, Key, Panel, Points, Rule, points_of
from enaction.experiments.thesis.analysis import excluded
from enaction.experiments.thesis.contrasts import Roles
from enaction.findings import Finding, Findings
from enaction.page import Cell, Grid, Page, Section, Statement, Verdict
from enaction.shown import NONE, judged, number, verdict_of, with_interval
from enaction.words import MEAN

_TEXT_LOOKS: dict[str, tuple[str, Colour]] = {
    "own": ("its own text", "blue"),
    "actor": ("the actor's text", "red"),
    "other": ("another loop's text", "silver"),
}
_LINES: tuple[Colour, ...] = ("blue", "red", "green", "orange", "sky", "pink", "silver")
_SPREAD = 0.22  # between the texts of an arm in the chart


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
    charts = {"thesis_levels": _levels(findings, last, arms, failing, roles)}
    sections = [
        Section(
            "Are the texts worth reading?",
            "Entropy collapses on degenerate text and would be reported as recognition, so an arm whose text fails the "
            "gate in any seed (†) is shown and enters no conclusion.",
            grids=[_quality(findings, last, failing)],
        ),
        Section(
            "How familiar is each arm with which text?",
            "Familiarity is how much less entropy a reader has on a text than its own confidence and the text's ease "
            "explain, as told by neutral families; log units. Intervals are over seeds.",
            charts=["thesis_levels"],
            grids=[
                *_arms(end, arms, failing),
                _loops(end, failing),
                _table(end, arms, failing),
                _single_seeds(findings, last),
            ],
        ),
        Section(
            "Whose text is it?",
            "Familiarity is with a distribution of text, whoever writes it. Surprisal less entropy is 0 in expectation "
            "on text drawn from the reader, and above 0 on any other that is less likely under it.",
            grids=[_ownness(end, arms, failing)],
        ),
    ]
    if len(points) > 1:
        charts["thesis_course"] = _course(over, points)
        sections.append(
            Section("On the way", "Means over seeds.", charts=["thesis_course"], grids=[_course_table(over, points)])
        )
    statements = [*_gate_statements(failing), *_statements(end, shown, roles, last)]
    seeds = len([seed for seed in findings.values("seed") if seed != MEAN])
    remark = (
        f"Intervals are over {seeds} seeds, so they speak of other training runs; where 0 is inside, the sentence says "
        "how large an effect remains possible."
    )
    return Page(title, question, statements, sections, charts, {"point": last}, remark)


def _statements(end: Findings, shown: Sequence[str], roles: Roles, last: int) -> list[Statement]:
    """The conclusions at the end of training, of arms that pass the gate."""
    if roles.actor not in shown:
        return [
            Statement(
                "the actor's text fails the quality gate: nothing is concluded.", ("passes_gate",), verdict="alarm"
            )
        ]
    has_other = roles.other in shown
    made = [
        statement
        for twin in roles.twins
        if twin in shown
        for statement in (*_passive(end, twin, has_other), *_own_or_actors(end, twin))
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
    if finding.low is None or finding.high is None:
        return 0
    return int(finding.low > 0) - int(finding.high < 0)


def _open(findings: Sequence[Finding | None]) -> str:
    """How large an effect the undecided intervals leave possible."""
    undecided = [f for f in findings if f is not None and _sign(f) == 0]
    widest = [max(-f.low, f.high) for f in undecided if f.low is not None and f.high is not None]
    if not widest:
        return "one seed has no interval"
    return f"an effect of up to {number(max(widest), 2)} is not excluded"


def _seeds(finding: Finding) -> str:
    return f"{finding.n} {'seed' if finding.n == 1 else 'seeds'} ({'; '.join(finding.notes)})"


def _marked(arm: str, failing: dict[str, list[str]]) -> str:
    return f"{arm} †" if arm in failing else arm


def _quality(findings: Findings, last: int, failing: dict[str, list[str]]) -> Grid:
    """Quality of each arm and seed, least first within an arm, and how far it went from its start."""
    names = [name for name in ("ended", "well_formed", "complete") if findings.select(f"quality_{name}")]
    at = findings.at(point=last)
    rows = []
    for f in at.select("passes_gate"):
        place = {"arm": f.where["arm"], "seed": f.where["seed"]}
        of = [at.one(f"quality_{name}", **place) for name in names]
        told = next((note.removeprefix("commonest arc: ") for q in of if q for note in q.notes), NONE)
        rows.append(
            [
                Cell(_marked(place["arm"], failing), "name"),
                str(place["seed"]),
                *(number(q.estimate if q else None, 2) for q in of),
                told,
                with_interval(at.one("distance_from_start", **place)),
                Cell("passes" if f.estimate else "fails", "" if f.estimate else "bad"),
            ]
        )
    header = [
        "arm",
        "seed",
        *(name.replace("_", " ") for name in names),
        "commonest arc",
        "nats a token from its start",
        "gate",
    ]
    about = ["passes_gate", *(f"quality_{name}" for name in names), "distance_from_start"]
    return Grid("Quality of the texts at the end of training, by rule", header, rows, about)


def _arms(end: Findings, arms: Sequence[str], failing: dict[str, list[str]]) -> list[Grid]:
    """What the thesis asks of each arm, means over seeds: what conclusions rest on, then what is beside it."""
    first = {
        "learned": "actor's text, learned",
        "specific": "actor's less other loop's",
        "own_less_actors": "own less actor's",
        "apart": "both, own less other's",
    }
    further = {
        "gain": "own text, gain over the start",
        "specific_beyond_control": "actor's less other loop's, beyond the control",
    }
    beside = {
        "own_entropy": "own entropy, nats",
        "distance_from_start": "nats a token from its start",
        "wording_distance": "wordings from the actor's",
        "wording_distance_floor": "the same for one writer",
    }
    names = [Cell(_marked(arm, failing), "name") for arm in arms]
    own = [judged(end.one("familiarity", reader=arm, author=arm)) for arm in arms]

    def columns(quantities: Iterable[str], arm: str) -> list[Cell]:
        return [judged(end.one(quantity, reader=arm)) for quantity in quantities]

    title = "Familiarity, log units: means over seeds with 95 % t intervals over seeds; bold: 0 outside"
    return [
        Grid(
            title,
            ["arm", "own text", *first.values()],
            [[name, of_own, *columns(first, arm)] for name, of_own, arm in zip(names, own, arms, strict=True)],
            ["familiarity", *first],
            brief=True,
        ),
        Grid(
            "Further means over seeds: familiarity, log units, then what the texts are like",
            ["arm", *further.values(), *beside.values()],
            [
                [name, *columns(further, arm), *(with_interval(end.one(q, arm=arm), 2) for q in beside)]
                for name, arm in zip(names, arms, strict=True)
            ],
            [*further, *beside],
        ),
    ]


def _loops(end: Findings, failing: dict[str, list[str]]) -> Grid:
    """What a loop has beyond a twin, means over seeds."""
    columns = {
        "loop_adds": "own text",
        "loop_adds_to_gain": "gain over the start",
        "loop_adds_specifically": "actor's less other loop's text",
    }
    pairs = dict.fromkeys((f.where["loop"], f.where["reader"]) for f in end.select("loop_adds"))
    rows = [
        [
            Cell(_marked(loop, failing), "name"),
            Cell(_marked(twin, failing), "name"),
            *(judged(end.one(quantity, loop=loop, reader=twin)) for quantity in columns),
        ]
        for loop, twin in pairs
    ]
    title = "Familiarity of a loop less that of a twin, log units: means over seeds; bold: 0 outside"
    return Grid(title, ["loop", "twin", *columns.values()], rows, list(columns), brief=True)


def _table(end: Findings, arms: Sequence[str], failing: dict[str, list[str]]) -> Grid:
    rows = [
        [
            Cell(_marked(reader, failing), "name"),
            *(_own(end.one("familiarity", reader=reader, author=author), reader == author) for author in arms),
        ]
        for reader in arms
    ]
    header = ["reader \\ author", *(Cell(_marked(arm, failing), "name") for arm in arms)]
    return Grid("Familiarity of every arm with every text, means over seeds", header, rows, ["familiarity"])


def _own(finding: Finding | None, is_own: bool) -> Cell:
    return Cell(number(finding.estimate if finding else None), "own" if is_own else "")


def _single_seeds(findings: Findings, last: int) -> Grid:
    """The numbers that conclusions rest on, of every seed, with intervals over prompts."""
    quantities = ("gain", "learned", "specific", "own_less_actors", "apart")
    places = dict.fromkeys(
        (f.where["reader"], f.where["seed"])
        for quantity in quantities
        for f in findings.select(quantity, point=last)
        if f.where["seed"] != MEAN
    )
    rows = [
        [
            Cell(arm, "name"),
            str(seed),
            *(judged(findings.one(q, point=last, reader=arm, seed=seed)) for q in quantities),
        ]
        for arm, seed in sorted(places)
    ]
    title = "Single seeds, log units: 95 % t intervals over prompts, which say nothing of another training run"
    return Grid(title, ["arm", "seed", *(q.replace("_", " ") for q in quantities)], rows, quantities)


def _ownness(end: Findings, arms: Sequence[str], failing: dict[str, list[str]]) -> Grid:
    rows = []
    for reader in arms:
        cells = [end.one("ownness", reader=reader, author=author) for author in arms]
        shown = [
            Cell(judged(f).text, "own" if a == reader else judged(f).look) for a, f in zip(arms, cells, strict=True)
        ]
        rows.append([Cell(_marked(reader, failing), "name"), *shown])
    header = ["reader \\ author", *(Cell(_marked(arm, failing), "name") for arm in arms)]
    title = "Surprisal less entropy, nats a token: means over seeds with 95 % t intervals over seeds; bold: 0 outside"
    return Grid(title, header, rows, ["ownness"])


def _texts(arm: str, roles: Roles) -> dict[str, str | None]:
    return {"own": arm, "actor": roles.actor if arm != roles.actor else None, "other": roles.other}


def _levels(findings: Findings, last: int, arms: Sequence[str], failing: dict[str, list[str]], roles: Roles) -> Chart:
    """Familiarity of each arm with its own, the actor's and another loop's text; single seeds faint."""
    shown = [arm for arm in arms if arm != roles.other]
    seeds = [seed for seed in findings.values("seed", "familiarity") if seed != MEAN]
    marks: list[Points | Rule] = [Rule("y", 0.0, "ink")]
    for k, (text, (label, colour)) in enumerate(_TEXT_LOOKS.items()):
        at = [x + _SPREAD * (k - 1) for x in range(len(shown))]
        authors = [_texts(arm, roles)[text] for arm in shown]
        places = [{"point": last, "reader": arm, "author": author} for arm, author in zip(shown, authors, strict=True)]
        for seed in seeds:
            single = [findings.one("familiarity", seed=seed, **place) for place in places]
            marks.append(points_of(at, single, colour=colour, faint=True, low=(), high=()))
        mean = [findings.one("familiarity", seed=MEAN, **place) for place in places]
        marks.append(points_of(at, mean, colour=colour, label=label))
    x = Axis(ticks=range(len(shown)), names=[_marked(arm, failing) for arm in shown], slant=20)
    caption = (
        "Familiarity of each arm at the end of training with three texts: mean over seeds with 95 % t interval over "
        "seeds; faint points are single seeds. † fails the quality gate."
    )
    legend = [Key(label, colour) for label, colour in _TEXT_LOOKS.values()]
    return Chart(caption, [[Panel(marks, x, Axis("familiarity, log units"))]], width=9.0, height=3.6, legend=legend)


def _courses(over: Findings, points: Sequence[int]) -> list[str]:
    """Arms that were read at every point."""
    present = {arm: over.select("familiarity", reader=arm, author=arm) for arm in over.values("reader", "familiarity")}
    return [arm for arm, at in present.items() if len(at) == len(points)]


def _course(over: Findings, points: Sequence[int]) -> Chart:
    panels = []
    for quantity, title in (("own", "with its own text"), ("actor", "with the actor's text")):
        marks: list[Points | Rule] = [Rule("y", 0.0, "ink")]
        for k, arm in enumerate(_courses(over, points)):
            author = arm if quantity == "own" else "actor"
            of = [over.one("familiarity", point=p, reader=arm, author=author) for p in points]
            shift = [p + 0.8 * (k - 2) for p in points]
            marks.append(points_of(shift, of, colour=_LINES[k % len(_LINES)], line="solid", label=arm))
        panels.append(Panel(marks, Axis("per cent of the training", ticks=points), title=f"Familiarity {title}"))
    keys = [Key(arm, _LINES[k % len(_LINES)], line="solid") for k, arm in enumerate(_courses(over, points))]
    caption = "Familiarity along the training, log units: means over seeds with 95 % t intervals over seeds."
    return Chart(caption, [panels], width=9.6, height=3.4, legend=keys, share_y="row")


def _course_table(over: Findings, points: Sequence[int]) -> Grid:
    rows = [
        [
            Cell(arm, "name"),
            str(point),
            judged(over.one("familiarity", point=point, reader=arm, author=arm)),
            *(judged(over.one(q, point=point, reader=arm)) for q in ("learned", "own_less_actors", "apart")),
            number(f.estimate if (f := over.one("own_entropy", point=point, arm=arm)) else None),
        ]
        for arm in _courses(over, points)
        for point in points
    ]
    header = [
        "arm",
        "per cent",
        "own text",
        "actor's text, learned",
        "own less actor's",
        "both, own less other's",
        "own entropy, nats",
    ]
    return Grid("Familiarity along the training, log units; means over seeds", header, rows, ["familiarity", "apart"])
