"""The answer of a run in a few sentences and four numbers, for the first screen of terminal and report.

Who recognises text like its own at the end of training, how much, beside base models; what that is; what an imitation
that nobody wrote gets; and whose text surprisal less entropy tells apart. A run without a matrix answers with the
headlines of its experiments. The words follow the intervals: "no" is said where an interval contains the null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from enaction.findings import Finding, Findings
from enaction.page import Page, Statement
from enaction.shown import number, value, verdict_of, with_interval
from enaction.words import MEAN, UNNAMED_STAGES, WORLD, framing_label, models_of

_MOST_NUMBERS = 4
# With more certified readers than this their names are in the tables alone.
_NAMED_READERS = 5
_OWNNESS = "surprisal less entropy"


@dataclass(frozen=True)
class KeyNumber:
    """One of the numbers that a run is remembered by.

    Attributes:
        label: what it is, and of whom.
        finding: the number with its interval.
        reading: its unit, and what its null means.
    """

    label: str
    finding: Finding
    reading: str

    @property
    def text(self) -> str:
        """The number with its interval."""
        return with_interval(self.finding)


@dataclass(frozen=True)
class Answer:
    """What a run says, first sentence first, and the numbers that it rests on."""

    sentences: Sequence[Statement]
    numbers: Sequence[KeyNumber] = ()


def answer(findings: Findings, pages: Mapping[str, Page]) -> Answer:
    """The answer of a run.

    Args:
        findings: of all its experiments.
        pages: of the same.
    """
    at = dict(pages["matrix"].main) if "matrix" in pages else {}
    recognition = findings.one("recognition", "matrix", reader=MEAN, **at) if at else None
    if recognition is None:
        headlines = [page.headline for page in pages.values()]
        return Answer([headline for headline in headlines if headline is not None])
    base = _base(findings, at)
    imitation = _imitation(findings, pages, at)
    nearest = _nearest(findings, at)
    sentences = [
        _who(findings, recognition, base, at),
        *_what(recognition, imitation),
        *_whose(findings, imitation, at),
    ]
    ratio, who = findings.one("other_self_ratio", "matrix", reader=MEAN, **at), _named(at["stage"])
    candidates = [
        (f"Recognition, {who}", recognition, "log units; 0: none"),
        ("Recognition, base models", base, "log units; 0: none"),
        ("Share of it that an imitation gets", imitation, "1: as much as own text"),
        (f"{_OWNNESS.capitalize()}, nearest other text", nearest, "nats; 0: drawn from the reader"),
        (f"Other/self ratio of entropy, {who}", ratio, "1: none; own text may be easy text"),
    ]
    numbers = [KeyNumber(label, f, reading) for label, f, reading in candidates if f is not None]
    return Answer(sentences, numbers[:_MOST_NUMBERS])


def _named(stage: str) -> str:
    """The models of a stage inside a sentence."""
    return "all models" if stage in UNNAMED_STAGES else "base models" if stage == "base" else models_of(stage)


def _base(findings: Findings, at: Mapping[str, Any]) -> Finding | None:
    """Mean recognition of base models in the same framing; None where they are what is asked about, or missing."""
    if at["stage"] == "base":
        return None
    return findings.one("recognition", "matrix", reader=MEAN, stage="base", framing=at["framing"])


def _imitation(findings: Findings, pages: Mapping[str, Page], at: Mapping[str, Any]) -> Finding | None:
    """The share of recognition that the best imitation gets, of the same models in the same framing."""
    said = pages["controls"].select("imitation_share", **at) if "controls" in pages else []
    best = next((statement for statement in said if statement.headline), None)
    return best and findings.one("imitation_share", "controls", reader=MEAN, **best.where)


def _nearest(findings: Findings, at: Mapping[str, Any]) -> Finding | None:
    """The foreign text of the table that is hardest to tell from a reader's own: least surprisal less entropy."""
    return min(_foreign(findings, at), key=value, default=None)


def _foreign(findings: Findings, at: Mapping[str, Any]) -> list[Finding]:
    """Surprisal less entropy of the models of a table on each other's text, and on the world's."""
    models = _readers(findings, at)
    return [
        f
        for f in findings.select("ownness", "matrix", framing=at["framing"]).measured
        if f.where["reader"] in models
        and f.where["author"] in (*models, WORLD)
        and f.where["reader"] != f.where["author"]
    ]


def _readers(findings: Findings, at: Mapping[str, Any]) -> list[str]:
    return [str(f.where["reader"]) for f in findings.select("told_apart_share", "matrix", **at)]


def _who(findings: Findings, recognition: Finding, base: Finding | None, at: Mapping[str, Any]) -> Statement:
    """Who recognises, how much, and the same of base models."""
    where = "" if at["framing"] == "assistant" else f" ({framing_label(at['framing'])})"
    who = f"{'The models' if at['stage'] in UNNAMED_STAGES else models_of(at['stage'])}{where}"
    certified = _certified(findings, at)
    joint = "" if certified else " (one number for all of them, which does not say who)"
    text = f"{who} {_amount(recognition)}{certified or joint}"
    if base is not None:
        text += f"; base models: {_percent(base)}{_certified(findings, {**at, 'stage': 'base'})}"
    return Statement(f"{text}.", ("recognition", "recognised"), dict(at), verdict_of(recognition))


def _amount(recognition: Finding) -> str:
    """In words: how much less entropy on text like their own, or that it is not told from none."""
    beyond = "than their confidence and the ease of the text explain"
    if recognition.low is None or recognition.high is None:
        return f"have {_percent(recognition)} less entropy on text like their own {beyond} (no interval, so no verdict)"
    if recognition.high < 0:
        more = replace(recognition, estimate=-value(recognition), low=-recognition.high, high=-recognition.low)
        return f"have more entropy on text like their own {beyond}, by {_percent(more, grows=True)}"
    if recognition.low <= 0:
        return f"are not shown to have less entropy on text like their own {beyond}: {_percent(recognition)}"
    return f"read text like their own with {_percent(recognition)} less entropy {beyond}"


def _percent(recognition: Finding, *, grows: bool = False) -> str:
    """Log units as percent less entropy (more, where it `grows`) with the interval: `20 % [19, 21]`."""
    sign = 1 if grows else -1
    numbers = [sign * 100 * math.expm1(sign * x) for x in _bounds(recognition)]
    digits = 0 if abs(numbers[0]) >= 10 else 1
    estimate, *interval = (number(x, digits) for x in numbers)
    return f"{estimate} %" + (f" [{', '.join(interval)}]" if interval else "")


def _bounds(finding: Finding) -> list[float]:
    """The estimate, then the interval if there is one."""
    return [x for x in (finding.estimate, finding.low, finding.high) if x is not None]


def _certified(findings: Findings, at: Mapping[str, Any]) -> str:
    """How many readers are certified, in brackets; nothing where the table has no verdict on single readers."""
    verdicts = findings.select("recognised", "matrix", **at).measured
    names = [str(f.where["reader"]) for f in verdicts if f.estimate == 1]
    some = f": {', '.join(names)}" if 0 < len(names) < min(len(verdicts), _NAMED_READERS) else ""
    return f" ({len(names)} of {len(verdicts)} certified{some})" if verdicts else ""


def _what(recognition: Finding, imitation: Finding | None) -> list[Statement]:
    """What is recognised: a distribution of text, as far as an imitation shows."""
    if recognition.low is None or recognition.low <= 0:
        return []
    text = "This is familiarity with a distribution of text, whoever wrote it"
    if imitation is None:
        return [Statement(f"{text}; this run measured no imitation.", ("recognition",))]
    share = [100 * x for x in _bounds(imitation)]
    estimate, *interval = (number(x, 0) for x in share)
    of = f"{estimate} %" + (f" [{', '.join(interval)}]" if interval else "")
    return [
        Statement(f"{text}: an imitation that nobody wrote gets {of} of it.", ("imitation_share",), imitation.where)
    ]


def _whose(findings: Findings, imitation: Finding | None, at: Mapping[str, Any]) -> list[Statement]:
    """Whose text surprisal less entropy tells from the readers' own."""
    foreign, told = _foreign(findings, at), findings.select("told_apart_share", "matrix", **at).measured
    if not foreign or not told:
        return []
    n, n_all = round(sum(value(f) * f.n for f in told)), sum(f.n for f in told)
    counted = f"all {n}" if n == n_all else f"{n or 'none'} of {n_all}"
    text = f"{_OWNNESS.capitalize()} tells others' text from a reader's own in {counted} pairs of reader and author"
    if imitation is not None:
        place = {key: at for key, at in imitation.where.items() if key != "reader"}
        each = [f for f in findings.select("ownness_beyond_own", "controls", **place) if f.where["reader"] != MEAN]
        if each:
            text += f", and the imitation for {sum(verdict_of(f) == 'effect' for f in each)} of {len(each)} readers"
    return [Statement(f"{text}.", ("ownness", "told_apart_share"), dict(at))]
