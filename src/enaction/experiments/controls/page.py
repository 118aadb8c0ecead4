"""The page of `controls`: one line for each thing that a critic says, and whether recognition survives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from enaction.chart import Axis, Chart, Colour, Label, Mark, Panel, Rule, points_of, single_readers
from enaction.experiments.controls.imitation import page as imitation_page
from enaction.experiments.controls.imitation.texts import ANEW, ARM
from enaction.findings import Finding, Findings
from enaction.page import Cell, Grid, Page, Section, Statement, Verdict
from enaction.shown import NONE, judged, number, pvalue, value, with_interval
from enaction.words import MEAN, framing_label, models_of

ENOUGH = 0.5
RULE = (
    f"Recognition survives if the interval lies above 0 and at least {ENOUGH:.0%} of recognition without the arm is "
    "left; it is weakened if the interval lies above 0 and less is left; gone if the interval contains 0; reversed if "
    "it lies below."
)
REFERENCE = "reference"
# Arm -> what a critic says.
CRITIC = {
    REFERENCE: "no change: the matrix itself",
    "sampling, all authors": "it is an effect of the temperature at which texts were written",
    "sampling, own text only": "own text is only the one that was sampled as the reader would",
    ARM: "any text of the same distribution would do, whoever wrote it",
    ANEW.arm: "own text without its author's token ids in place of foreign text: nothing should be left",
    "kin": "any text from a nearly identical model would do",
    "people or the world": "models' text is odd; against text that no model wrote nothing is left",
    "memorised": "it is familiarity: what is known by heart is read with as little entropy",
    "equal difficulty": "own text is easier for everybody",
    "easy half": "it exists on easy text only",
    "difficult half": "it exists on difficult text only",
    "length": "texts differ in length, and late tokens are easier",
    "off topic, all authors": "readers recognise that the text answers the prompt",
    "off topic, foreign text only": "foreign text differs in topic",
    "off topic, own text only": "own text is recognised by its topic",
    "one word for synonyms": "it is a taste for certain words",
    "shuffled words": "it needs no trajectory: the words alone would do",
    "itself again": "a reader's own second sample in place of foreign text: nothing should be left",
    "equal difficulty, another author for own": "another author's text taken for own: nothing should be left",
}
# Arms that are nulls themselves: the rule does not apply to them.
NULLS = ("itself again", ANEW.arm, "equal difficulty, another author for own")


@dataclass(frozen=True)
class Outcome:
    """What became of recognition in an arm: its name by the rule, what is printed after it, and its looks."""

    name: str
    verdict: Verdict
    colour: Colour
    more: str = ""

    @property
    def words(self) -> str:
        """As it is printed."""
        return f"{self.name}{self.more}"


_LEFT_OUT = Outcome("left out", "left out", "grey")
_NO_INTERVAL = Outcome("left out", "left out", "grey", ", since it has no interval")
_THERE = Outcome("there", "effect", "blue")
_SURVIVES = Outcome("survives", "effect", "blue")
_WEAKENED = Outcome("weakened", "effect", "orange")
_GONE = Outcome("gone", "no effect", "red")
_REVERSED = Outcome("reversed", "effect", "red")
_NOTHING_LEFT = Outcome("nothing left", "no effect", "grey", ", as it must be")
_SOMETHING_LEFT = Outcome("something left", "effect", "grey", ": subtract it from the arm")
_WORDS_LEFT = Outcome("weakened", "effect", "orange", ", as it must be; what is left is in the words")

# Outcome of an arm that tests an explanation -> what recognition does in it.
_WORDS = {"survives": "survives", "weakened": "is weakened by", "gone": "is gone in", "reversed": "is reversed in"}
# An outcome of more arms than this names none of them in the sentence about all.
_NAMED_ARMS = 2
_OF_IMITATIONS = "Text that nobody wrote, its share of own text's recognition"

# The difference of a text from itself is computed as 1e-16.
_ROUNDING = 1e-9

_Key = tuple[str, str | None]  # an arm's name and setting


def page(findings: Findings, title: str, question: str) -> Page:
    """What the report shows of the controls."""
    quantities = ("arm_recognition", "arm_share", "off_support")
    arms = findings.pivot(quantities, ("arm", "setting"), reader=MEAN)
    first = next((row["arm_recognition"].where for row in arms.values()), {})
    of = f"{models_of(first.get('stage'))}, {framing_label(str(first.get('framing') or ''))}"
    rows = [_row(key, row) for key, row in arms.items()]
    header = ["arm", "a critic says", "recognition, log units", "share of that without it", "p", "verdict"]
    verdicts = Grid(f"Does recognition survive? {of}", header, rows, quantities[:2])
    charts = {"controls": _forest(findings, arms, of)}
    section = Section(text=RULE, charts=[*charts], grids=[verdicts, *_distances(findings)])
    # The sentence about an imitation says what its arm would, and more.
    of_imitations = {(s.where["arm"], s.where.get("setting")): s for s in imitation_page.statements(findings)}
    statements = [
        replace(of_imitations[key], outcome=_outcome(row).name, series=_OF_IMITATIONS, short=_imitated(key, findings))
        if key in of_imitations
        else _statement(key, row)
        for key, row in arms.items()
    ]
    statements = [*_overall(arms), *statements]
    for f in findings.select("familiar_share"):
        text = (
            f"text known by heart goes {with_interval(f, 2)} of the way from strangers' to own text, though nobody "
            "here wrote it: low entropy alone says familiar, not own."
        )
        statements.append(Statement(text, (f.quantity,), f.where, subject="memorised, entropy"))
    return Page(
        title,
        question,
        statements,
        [section, *imitation_page.sections(findings)],
        charts,
        readings=imitation_page.readings(findings),
    )


def outcome_of(arm: Finding, share: Finding | None) -> Outcome:
    """By the rule of the page; for an arm that is a null, whether it is one."""
    if arm.low is None or arm.high is None:
        return _LEFT_OUT
    if arm.where["arm"] in NULLS:
        return _NOTHING_LEFT if arm.low <= _ROUNDING else _SOMETHING_LEFT
    if arm.high < 0:
        return _REVERSED
    if arm.low <= 0:
        return _GONE
    if arm.where["arm"] == REFERENCE:
        return _THERE
    left = share.estimate if share else None
    return _SURVIVES if left is None or left >= ENOUGH else _WEAKENED


def _outcome(row: Mapping[str, Finding]) -> Outcome:
    return outcome_of(row["arm_recognition"], row.get("arm_share"))


def _label(key: _Key) -> str:
    arm, setting = key
    return f"{arm}: {setting}" if setting else arm


def _share(key: _Key, row: Mapping[str, Finding]) -> str:
    return NONE if key[0] == REFERENCE else with_interval(row.get("arm_share"), 2)


def _row(key: _Key, row: Mapping[str, Finding]) -> list[Cell | str]:
    arm = row["arm_recognition"]
    recognition = judged(arm) if arm.left_out is None else Cell(f"left out: {arm.left_out}", "name")
    critic, outcome = Cell(CRITIC.get(key[0], ""), "name"), Cell(_outcome(row).words, "name")
    return [_label(key), critic, recognition, _share(key, row), pvalue(arm) or NONE, outcome]


def _statement(key: _Key, row: Mapping[str, Finding]) -> Statement:
    arm, share, off, outcome = row["arm_recognition"], _share(key, row), row.get("off_support"), _outcome(row)
    if key[0] == REFERENCE and arm.estimate is not None:
        text = f"recognition {with_interval(arm)} log units without any change."
    elif arm.estimate is None:
        text = f"left out: {arm.left_out}."
    else:
        if outcome is _LEFT_OUT:
            outcome = _NO_INTERVAL
        elif outcome is _WEAKENED and key[0] == "shuffled words":
            outcome = _WORDS_LEFT
        beside = "" if share == NONE else f", {share} of that without the change"
        beside += f", {value(off):.0%} of passages without a counterpart" if off else ""
        text = f"{outcome.words}: recognition {with_interval(arm)} log units{beside} ({CRITIC.get(key[0], '')})."
    place = {name: at for name, at in arm.where.items() if name != "reader"}
    series, short = _in_series(key, row, outcome)
    return Statement(
        text, tuple(row), place, outcome.verdict, _label(key), outcome=outcome.name, series=series, short=short
    )


def _in_series(key: _Key, row: Mapping[str, Finding], outcome: Outcome) -> tuple[str, str]:
    """The series of an arm's sentence, those with its outcome, and what it has there: its share of recognition."""
    if key[0] == REFERENCE:
        return "", ""
    name = f"{outcome.name[0].upper()}{outcome.name[1:]}"
    if outcome.verdict == "left out":
        return name, _label(key)
    if key[0] in NULLS:
        return f"{name}{outcome.more}; recognition, log units", f"{_label(key)} {with_interval(row['arm_recognition'])}"
    share = row.get("arm_share")
    left = with_interval(share, 2) if share else with_interval(row["arm_recognition"])
    return f"{name}; share of recognition that is left", f"{_label(key)} {left}"


def _imitated(key: _Key, findings: Findings) -> str:
    share = findings.one("imitation_share", arm=key[0], setting=key[1], reader=MEAN)
    return f"{key[1]} {with_interval(share, 2)}"


def _overall(arms: Mapping[_Key, Mapping[str, Finding]]) -> list[Statement]:
    """One sentence about all arms that test an explanation: imitations and nulls have sentences of their own."""
    found: dict[str, list[str]] = {name: [] for name in _WORDS}
    for key, row in arms.items():
        if key[0] not in (*NULLS, REFERENCE, ARM) and (name := _outcome(row).name) in found:
            found[name].append(_label(key))
    if not (n := sum(map(len, found.values()))):
        return []
    parts = []
    for name, labels in found.items():
        which = f" ({', '.join(labels)})" if name != _SURVIVES.name and len(labels) <= _NAMED_ARMS else ""
        parts += [f"{_WORDS[name]} {len(labels)}{which}"] if labels else []
    nulls = [_outcome(row) for key, row in arms.items() if key[0] in NULLS]
    left = sum(o is _SOMETHING_LEFT for o in nulls)
    beside = f"; {len(nulls) - left} of {len(nulls)} nulls leave nothing, as they must" if nulls else ""
    text = f"of {n} changes that take away another explanation, recognition {', '.join(parts)}{beside}."
    first = next(iter(arms.values()))["arm_recognition"].where
    place = {name: at for name, at in first.items() if name in ("stage", "framing")}
    return [Statement(text, ("arm_recognition",), place, subject="Other explanations", headline=True)]


def _distances(findings: Findings) -> list[Grid]:
    """Kinship: how far a text is in the reader's own eyes, and what is recognised against it."""
    quantities = ("surprisal_distance", "text_entropy")
    against: dict[tuple[str, str | None], Finding] = {}
    for f in findings.select("arm_recognition"):
        reader = f.where["reader"]
        text = {"itself again": f"{reader}.again", "memorised": "memorised"}.get(f.where["arm"])
        against.setdefault((reader, f.where.get("setting") or text), f)
    rows = [
        [of[0], Cell(of[1], "name"), *(with_interval(row.get(q)) for q in quantities), judged(against.get(of))]
        for of, row in findings.pivot(quantities, ("reader", "text")).items()
    ]
    title = "How far a text is from the reader's own, in its own eyes, nats"
    header = ["reader", Cell("text", "name"), "surprisal beyond own", "entropy", "recognition of own against it"]
    return [Grid(title, header, rows, quantities)] if rows else []


def _forest(findings: Findings, arms: Mapping[_Key, Mapping[str, Finding]], of: str) -> Chart:
    """A line an arm: interval of the mean, faint points of single readers, dashed the reference."""
    shown = {key: row for key, row in arms.items() if row["arm_recognition"].estimate is not None}
    marks: list[Mark] = [Rule("x", 0, "ink")]
    for y, ((name, setting), row) in enumerate(shown.items()):
        outcome, each = _outcome(row), findings.select("arm_recognition", arm=name, setting=setting)
        marks += [
            single_readers([y], [each], along="x", colour=outcome.colour),
            points_of([y], [row["arm_recognition"]], along="x", colour=outcome.colour, marker="diamond", size=4.5),
            Label(outcome.name, y, colour=outcome.colour, size=8.0),
        ]
    axis, reference = "recognition left, log units", findings.one("arm_recognition", arm=REFERENCE, reader=MEAN)
    if reference is not None:
        marks.append(Rule("x", value(reference), "ink", "dashed", 0.9))
        axis += f" (dashed: the matrix itself, {number(reference.estimate, 2)})"
    ticks = Axis(ticks=range(len(shown)), names=[*map(_label, shown)], low=len(shown) - 0.4, high=-0.6)
    caption = (
        f"Recognition left in each arm with 95 % interval, {of}: mean over readers (diamonds), single readers (faint "
        "points)."
    )
    return Chart(caption, [[Panel(marks, Axis(axis), ticks)]], width=7.4, height=1.0 + 0.25 * len(shown))
