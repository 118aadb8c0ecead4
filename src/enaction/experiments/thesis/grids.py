"""The tables of the thesis: quality, familiarity, surprisal less entropy, the way there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from enaction.findings import Finding, Findings
from enaction.page import Cell, Grid
from enaction.shown import NONE, judged, number, with_interval
from enaction.words import MEAN


def marked(arm: str, failing: dict[str, list[str]]) -> str:
    """An arm's name, with a dagger where it fails the quality gate."""
    return f"{arm} †" if arm in failing else arm


def courses(over: Findings, points: Sequence[int]) -> list[str]:
    """Arms that were read at every point."""
    present = {arm: over.select("familiarity", reader=arm, author=arm) for arm in over.values("reader", "familiarity")}
    return [arm for arm, at in present.items() if len(at) == len(points)]


def quality(findings: Findings, last: int, failing: dict[str, list[str]]) -> Grid:
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
                Cell(marked(place["arm"], failing), "name"),
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


def arms(end: Findings, arms: Sequence[str], failing: dict[str, list[str]]) -> list[Grid]:
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
    names = [Cell(marked(arm, failing), "name") for arm in arms]
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


def loops(end: Findings, failing: dict[str, list[str]]) -> Grid:
    """What a loop has beyond a twin, means over seeds."""
    columns = {
        "loop_adds": "own text",
        "loop_adds_to_gain": "gain over the start",
        "loop_adds_specifically": "actor's less other loop's text",
    }
    pairs = dict.fromkeys((f.where["loop"], f.where["reader"]) for f in end.select("loop_adds"))
    rows = [
        [
            Cell(marked(loop, failing), "name"),
            Cell(marked(twin, failing), "name"),
            *(judged(end.one(quantity, loop=loop, reader=twin)) for quantity in columns),
        ]
        for loop, twin in pairs
    ]
    title = "Familiarity of a loop less that of a twin, log units: means over seeds; bold: 0 outside"
    return Grid(title, ["loop", "twin", *columns.values()], rows, list(columns), brief=True)


def table(end: Findings, arms: Sequence[str], failing: dict[str, list[str]]) -> Grid:
    """Familiarity of every arm with the text of every arm, means over seeds."""
    rows = [
        [
            Cell(marked(reader, failing), "name"),
            *(_own(end.one("familiarity", reader=reader, author=author), reader == author) for author in arms),
        ]
        for reader in arms
    ]
    header = ["reader \\ author", *(Cell(marked(arm, failing), "name") for arm in arms)]
    return Grid("Familiarity of every arm with every text, means over seeds", header, rows, ["familiarity"])


def _own(finding: Finding | None, is_own: bool) -> Cell:
    return Cell(number(finding.estimate if finding else None), "own" if is_own else "")


def single_seeds(findings: Findings, last: int) -> Grid:
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


def ownness(end: Findings, arms: Sequence[str], failing: dict[str, list[str]]) -> Grid:
    """Surprisal less entropy of every arm on the text of every arm, means over seeds."""
    rows = []
    for reader in arms:
        cells = [end.one("ownness", reader=reader, author=author) for author in arms]
        shown = [
            Cell(judged(f).text, "own" if a == reader else judged(f).look) for a, f in zip(arms, cells, strict=True)
        ]
        rows.append([Cell(marked(reader, failing), "name"), *shown])
    header = ["reader \\ author", *(Cell(marked(arm, failing), "name") for arm in arms)]
    title = "Surprisal less entropy, nats a token: means over seeds with 95 % t intervals over seeds; bold: 0 outside"
    return Grid(title, header, rows, ["ownness"])


def course_table(over: Findings, points: Sequence[int]) -> Grid:
    """Familiarity of each arm with its own text at every point of the training, means over seeds."""
    rows = [
        [
            Cell(arm, "name"),
            str(point),
            judged(over.one("familiarity", point=point, reader=arm, author=arm)),
            *(judged(over.one(q, point=point, reader=arm)) for q in ("learned", "own_less_actors", "apart")),
            number(f.estimate if (f := over.one("own_entropy", point=point, arm=arm)) else None),
        ]
        for arm in courses(over, points)
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
