"""The paper's behavioural claims, and what one run says to each: reproduced, partly, not reproduced, or not testable.

The standing follows from intervals by a rule that is written beside each claim: a claim is reproduced where every part
of it has an interval on the claimed side of its bound, partly where some have, not reproduced where none has. Where a
run has no such measurement, or a condition without which the measurement means nothing is not met, the page says why.
Where the last table has base models and one post-trained model, the claims are about the latter, not the mean.
Claims as in arXiv 2605.25459; what is not a claim about behaviour (surprise, report, geometry) has no line here yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from enaction.findings import Finding, Findings
from enaction.shown import with_interval
from enaction.words import FRAMINGS, MEAN, TRACE, checkpoint, framing_label, in_training_order, last_stage, stage_label

Standing = Literal["reproduced", "partly", "not reproduced", "not testable"]
Check = Callable[[Findings], "tuple[Standing, str]"]

_SEVERAL = 2.0  # a ratio that is "several times" lies above this


class Part(NamedTuple):
    """One part of a claim: what was measured, and whether it lies where the claim says; None without an interval."""

    words: str
    holds: bool | None


class Claim(NamedTuple):
    """One claim of the paper.

    Attributes:
        text: the claim.
        paper: what is known of its numbers.
        rule: what has to be seen.
        check: standing and words from the findings of a run.
    """

    text: str
    paper: str
    rule: str
    check: Check


class Checked(NamedTuple):
    """A claim with what one run says."""

    claim: Claim
    standing: Standing
    words: str


def checked(findings: Findings) -> list[Checked]:
    """Every claim with its standing in a run."""
    return [Checked(claim, *claim.check(findings)) for claim in CLAIMS]


def below(finding: Finding | None, bound: float, words: str) -> Part | None:
    """A part that holds where the whole interval lies below a bound."""
    return _part(finding, words, lambda low, high: high < bound)


def above(finding: Finding | None, bound: float, words: str) -> Part | None:
    """A part that holds where the whole interval lies above a bound."""
    return _part(finding, words, lambda low, high: low > bound)


def within(finding: Finding | None, bound: float, words: str) -> Part | None:
    """A part that holds where the whole interval lies within a bound on both sides of 0."""
    return _part(finding, words, lambda low, high: -bound < low and high < bound)


def _part(finding: Finding | None, words: str, claim: Callable[[float, float], bool]) -> Part | None:
    if finding is None:
        return None
    holds = None if finding.low is None or finding.high is None else claim(finding.low, finding.high)
    return Part(f"{words} {with_interval(finding)}", holds)


def judged(parts: Sequence[Part | None], missing: str) -> tuple[Standing, str]:
    """Standing of a claim from its parts; `missing` says what a run without them does not have."""
    measured = [part for part in parts if part is not None]
    if len(measured) < len(parts) or all(part.holds is None for part in measured):
        return "not testable", missing
    verdicts = [part.holds is True for part in measured]
    standing: Standing = "reproduced" if all(verdicts) else "partly" if any(verdicts) else "not reproduced"
    return standing, "; ".join(part.words for part in measured)


def _last_trained(findings: Findings, experiment: str, quantity: str) -> list[str]:
    """The last post-trained stage of which an experiment has a quantity, in a list; empty where there is none."""
    of = [str(f.where.get("stage") or "") for f in findings.select(quantity, experiment)]
    last = last_stage([s for s in in_training_order(of) if s != "base" and not checkpoint(s)])
    return [] if last is None else [last]


def _at(findings: Findings, experiment: str, quantity: str, **where: Any) -> Finding | None:
    """A quantity at a place: the mean over its readers, or the one post-trained reader of a table with base models."""
    by_reader = {
        str(f.where.get("reader")): f for f in findings.select(quantity, experiment, **where) if f.estimate is not None
    }
    bases = _base_readers(findings) & set(by_reader)
    others = [name for name in by_reader if name not in bases and name != MEAN]
    return by_reader[others[0]] if bases and len(others) == 1 else by_reader.get(MEAN)


def _base_readers(findings: Findings) -> set[str]:
    return {str(f.where["reader"]) for f in findings.select("entropy", "matrix", reader_stage="base")}


def _lower_on_own(findings: Findings) -> tuple[Standing, str]:
    if not (trained := _last_trained(findings, "matrix", "interaction")):
        return "not testable", _NO_STAGE
    at = {"stage": trained[-1], "framing": "assistant"}
    return judged(
        [
            above(_at(findings, "matrix", "other_self_ratio", **at), _SEVERAL, "other/self ratio"),
            below(_at(findings, "matrix", "interaction", **at), 0.0, "interaction"),
        ],
        _NO_STAGE,
    )


def _diagonal(findings: Findings) -> tuple[Standing, str]:
    if not (trained := _last_trained(findings, "matrix", "interaction")):
        return "not testable", _NO_STAGE
    at = {"stage": trained[-1], "framing": "assistant"}
    aside = {MEAN, *_base_readers(findings)}
    ranks = [f for f in findings.select("own_rank_among_authors", "matrix", **at) if f.where.get("reader") not in aside]
    if not ranks:
        return "not testable", "this run has no ranks"
    first = sum(f.high == 1 for f in ranks)  # in nearly every resample
    standing: Standing = "reproduced" if first == len(ranks) else "partly" if first else "not reproduced"
    return (
        standing,
        f"own text has the least entropy for {first} of {len(ranks)} post-trained readers, 95 % interval included",
    )


def _base(findings: Findings) -> tuple[Standing, str]:
    parts = [
        within(_at(findings, "matrix", "interaction", stage="base", framing=framing), TRACE, framing_label(framing))
        for framing in FRAMINGS
    ]
    return judged(parts, "this run has no matrix of base models in all three framings")


def _role(findings: Findings) -> tuple[Standing, str]:
    parts = [
        below(
            _at(
                findings, "framings", "interaction_difference", stage=stage, framing="assistant", question="kept",
                minus_framing=other, minus_question="kept",
            ),
            0.0,
            f"interaction as assistant minus {framing_label(other)}",
        )
        for stage in _last_trained(findings, "framings", "interaction_difference")
        for other in ("user", "none")
    ]  # fmt: skip
    return judged(parts or [None], "this run has no framings experiment with a post-trained stage")


def _persona(findings: Findings) -> tuple[Standing, str]:
    stages = _last_trained(findings, "persona", "default_margin")
    if not stages:
        return "not testable", "this run has no persona experiment with a post-trained stage"
    foreign = _at(findings, "persona", "surprisal_own_minus_other", stage=stages[-1], persona=MEAN)
    margin = _at(findings, "persona", "default_margin", stage=stages[-1])
    standing, words = judged([above(margin, 0.0, "lowest persona's entropy minus the default's, nats")], "no margin")
    if foreign is not None and foreign.high is not None and foreign.high > -TRACE:
        return "not testable", (
            f"{words}; but text is no less surprising under its own persona than under another "
            f"({with_interval(foreign)} nats): these models did not learn the personas, so the default is compared "
            "with no other self"
        )
    return standing, words


def _prior(findings: Findings) -> tuple[Standing, str]:
    parts = [
        part
        for stage in _last_trained(findings, "prior", "amplification")
        for part in (
            below(_at(findings, "prior", "position_trend", stage=stage), 0.0, "interaction, each doubling of position"),
            above(_at(findings, "prior", "amplification", stage=stage), 0.0, "log gap after own minus foreign turns"),
        )
    ]
    return judged(parts or [None], "this run has no prior experiment with a post-trained stage")


def _sft(findings: Findings) -> tuple[Standing, str]:
    at = {framing: _at(findings, "matrix", "interaction", stage="sft", framing=framing) for framing in FRAMINGS}
    return judged(
        [
            below(at["assistant"], 0.0, "assistant turn"),
            within(at["user"], TRACE, "user turn"),
            within(at["none"], TRACE, "no template"),
        ],
        "this run has no matrix of the stage sft in all three framings",
    )


def _dpo(findings: Findings) -> tuple[Standing, str]:
    parts = [
        below(_at(findings, "matrix", "interaction", stage="dpo", framing=framing), 0.0, framing_label(framing))
        for framing in FRAMINGS
    ]
    return judged(parts, "this run has no matrix of the stage dpo in all three framings")


def _rl(findings: Findings) -> tuple[Standing, str]:
    """From the stage before RL to its end, whatever the curve on the way."""
    changes = [
        f
        for quantity in ("interaction_change_over_stage", "interaction_change")  # the first where there are checkpoints
        for f in findings.select(quantity, "matrix", reader=MEAN, framing="assistant")
        if f.where.get("stage") in ("rl", "rlvr")
    ]
    parts = [
        below(f, 0.0, f"{stage_label(str(f.where['from_stage']))} to {stage_label(str(f.where['stage']))}")
        for f in changes[:1]
    ]
    return judged(parts or [None], "this run has no stage rl after another")


def _violation(findings: Findings) -> tuple[Standing, str]:
    parts = [
        above(_at(findings, "splice", "foreignness_after", k=k, **at), 0.0, f"{k} foreign tokens, nats")
        for stage in _last_trained(findings, "splice", "foreignness_after")
        for at in ({"stage": stage, "pattern": "ofo"},)
        for k in sorted({int(f.where["k"]) for f in findings.select("foreignness_after", "splice", **at)})
    ]
    return judged(parts or [None], "this run has no splice experiment with a post-trained stage")


_NO_STAGE = "this run has no matrix of two or more post-trained models as assistant"

CLAIMS = (
    Claim(
        "Post-trained models read their own text with several times lower entropy than others' text.",
        "ratios of 1.3 to 3 in its 5 x 5 table; a headline of 3 to 4",
        f"last stage, assistant: ratio above {_SEVERAL:g} and interaction below 0",
        _lower_on_own,
    ),
    Claim(
        "Each reader has its least entropy on its own text.",
        "5 of 5 readers",
        "last stage, assistant: rank 1 among authors, interval included, for every reader",
        _diagonal,
    ),
    Claim(
        "The effect is essentially absent in base models.",
        "base ratios 1.06 to 1.11 (on the instruct model's text)",
        f"base, every framing: interaction within ±{TRACE}",
        _base,
    ),
    Claim(
        "It is concentrated in the assistant role.",
        "mean other/self 3.2 as assistant, 2.1 as user, 2.3 without template",
        "last stage: interaction stronger as assistant than as user turn and than without template, same text",
        _role,
    ),
    Claim(
        "The default Assistant has the lowest entropy of all personas.",
        "a figure; values not known",
        "last stage: the margin above 0, if the models tell personas apart",
        _persona,
    ),
    Claim(
        "It is amplified when the model reads its own prior outputs.",
        "no number known; two readings",
        "last stage: interaction falls along a response, and the gap is wider after own earlier turns",
        _prior,
    ),
    Claim(
        "It appears at SFT in the assistant's turn only.",
        "self below others as assistant (ratio 1.18), above them elsewhere (.86, .85)",
        f"sft: interaction below 0 as assistant, within ±{TRACE} elsewhere",
        _sft,
    ),
    Claim(
        "At DPO it is present in all framings.",
        "ratios 1.12, 1.15, 1.08",
        "dpo: interaction below 0 in every framing",
        _dpo,
    ),
    Claim(
        "RL strengthens it.",
        "ratio as assistant 1.12 to 1.19",
        "assistant: interaction falls from the stage before RL to its end",
        _rl,
    ),
    Claim(
        "A foreign beginning raises the entropy of what the model then writes.",
        "no number known (another topic's prefill)",
        "last stage: summed entropy after a foreign piece above that after an own piece, for every length",
        _violation,
    ),
)
