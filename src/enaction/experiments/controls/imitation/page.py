"""What the page of `controls` shows of the imitation arm: a table, one line a text, and a sentence for each."""

from __future__ import annotations

from collections.abc import Mapping

from enaction.experiments.controls.imitation.texts import ANEW, KINDS, Kind
from enaction.findings import Finding, Findings
from enaction.page import Cell, Grid, Reading, Section, Statement
from enaction.shown import NONE, contains, judged, verdict_of, with_interval
from enaction.words import MEAN

TITLE = "What would a text that nobody wrote get?"
TEXT = (
    "An imitation is made from further replies of the model, and no model writes it. Its recognition is that of the "
    "table in which every own text is replaced by it; only what own text has beyond that can be owed to the author. "
    "Entropy is familiarity with a distribution of text, whoever writes it. Surprisal less entropy is 0 in expectation "
    "on text drawn from the reader: where it differs from own text's, the reader tells the two apart."
)
_QUANTITIES = ("imitation_recognition", "imitation_share", "arm_recognition", "ownness_beyond_own")
_OWN = "own text"


def sections(findings: Findings) -> list[Section]:
    """The tables of all texts and of single readers; nothing where no imitation was read."""
    kinds = [kind for kind in (*KINDS, ANEW) if _means(findings, kind)]
    return [Section(TITLE, TEXT, grids=[_overview(findings, kinds), _readers(findings, kinds)])] if kinds else []


def readings(findings: Findings) -> list[Reading]:
    """The best imitation of one model, read by that and by another."""
    kind = next((kind for kind in KINDS if _means(findings, kind)), None)
    found = findings.select("ownness_beyond_own", **_place(kind)) if kind else []
    readers = [(str(f.where["reader"]), f.where["framing"]) for f in found if f.where["reader"] != MEAN]
    if kind is None or len(readers) < 2:
        return []
    (model, framing), (other, _) = readers[:2]
    return [Reading(f"{model}{kind.ending}", (model, other), framing, f"nobody wrote it, an imitation of {model}")]


def statements(findings: Findings) -> list[Statement]:
    """A sentence for each imitation; the first, the best that there is, belongs to the summary of the run."""
    made: list[Statement] = []
    for kind in KINDS:
        found = _means(findings, kind)
        if not found:
            continue
        recognition, share, left, beyond = found
        told, of = _told(findings, kind)
        text = (
            f"{_gets(recognition, share)}: recognition {with_interval(recognition)} log units, "
            f"{with_interval(share, 2)} of own text's; own text has {with_interval(left)} beyond it. Surprisal less "
            f"entropy lies {with_interval(beyond)} nats a token above own text's and tells the two apart for {told} of "
            f"{of} readers."
        )
        place = {name: at for name, at in share.where.items() if name != "reader"}
        verdict = "effect" if (recognition.low or 0) > 0 else "no effect"
        subject = f"Text that nobody wrote ({kind.what})"
        made.append(Statement(text, (*_QUANTITIES, "arm_share"), place, verdict, subject, headline=not made))
    return made


def _gets(recognition: Finding, share: Finding) -> str:
    """What an imitation gets, in words; the share's null is 1."""
    if recognition.low is None or share.low is None or share.high is None:
        return "no interval, so no verdict"
    if recognition.low <= 0:
        return "gets no recognition that could be told from 0"
    if contains(share, 1.0):
        return "is recognised like own text, as far as this run can tell"
    return "gets more than own text" if share.low > 1 else "gets a part of what own text gets"


def _place(kind: Kind) -> Mapping[str, str]:
    return {"arm": kind.arm, **({"setting": kind.setting} if kind.setting else {})}


def _means(findings: Findings, kind: Kind) -> tuple[Finding, Finding, Finding, Finding] | None:
    """What an imitation gets, its share, what own text has beyond it, and ownness beyond own text's; None if left out.

    Means over readers.
    """
    recognition, share, left, beyond = (findings.one(q, reader=MEAN, **_place(kind)) for q in _QUANTITIES)
    if recognition is None or share is None or left is None or beyond is None:
        return None
    return recognition, share, left, beyond


def _told(findings: Findings, kind: Kind) -> tuple[int, int]:
    """How many readers' surprisal less entropy on the text differs from that on own text, and how many there are."""
    each = [f for f in findings.select("ownness_beyond_own", **_place(kind)) if f.where["reader"] != MEAN]
    return sum(verdict_of(f) == "effect" for f in each), len(each)


def _overview(findings: Findings, kinds: list[Kind]) -> Grid:
    reference = findings.one("arm_recognition", arm="reference", reader=MEAN)
    rows: list[list[Cell | str]] = [[_OWN, judged(reference), NONE, NONE, NONE]]
    for kind in kinds:
        if found := _means(findings, kind):
            recognition, share, _, beyond = found
            told, of = _told(findings, kind)
            numbers = [judged(recognition), with_interval(share, 2), judged(beyond)]
            rows.append([kind.label, *numbers, f"{told} of {of}"])
    header = ["means over readers", "recognition", "of own text's", "S - H beyond own", "told apart"]
    title = f"{TITLE} Recognition, log units; surprisal less entropy (S - H), nats a token"
    return Grid(title, header, rows, _QUANTITIES, brief=True)


def _readers(findings: Findings, kinds: list[Kind]) -> Grid:
    """What each text is, and each reader's numbers, own text first."""
    rows: list[list[Cell | str]] = []
    for reader in [r for r in findings.values("reader", "ownness_beyond_own") if r != MEAN]:
        own = findings.one("arm_recognition", arm="reference", reader=reader)
        rows.append(
            [
                reader,
                Cell(_OWN, "name"),
                Cell("", "name"),
                judged(own),
                NONE,
                judged(_ownness(findings, reader, reader)),
            ]
        )
        for kind in kinds:
            found = [
                findings.one("imitation_recognition", reader=reader, **_place(kind)),
                findings.one("arm_recognition", reader=reader, **_place(kind)),
                _ownness(findings, reader, f"{reader}{kind.ending}"),
            ]
            rows.append([reader, Cell(kind.label, "name"), Cell(kind.what, "name"), *map(judged, found)])
    header = [
        "reader",
        Cell("text", "name"),
        Cell("what it is", "name"),
        "recognition",
        "own text beyond it",
        "surprisal less entropy",
    ]
    return Grid(f"{TITLE} Reader by reader, log units and nats a token", header, rows, ("ownness", "imitated_share"))


def _ownness(findings: Findings, reader: str, author: str) -> Finding | None:
    return findings.one("ownness", reader=reader, author=author)
