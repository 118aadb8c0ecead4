"""The paper's behavioural claims, and what one run says to each: reproduced, partly, not reproduced, or not testable.

The standing follows from intervals by a rule that is written beside each claim; `standing` has the rule's logic. Where
a run has no such measurement, or a condition without which the measurement means nothing is not met, the page says why.
Where base models stand beside one post-trained model, ratio, ranks and persona are the latter's, not the mean.
Claims as in arXiv 2605.25459; those about the mechanism (surprise, plans, reports, geometry) are in `mechanism`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from enaction.findings import Finding, Findings
from enaction.paper.standing import Part, Standing, above, at_level, below, judged, within
from enaction.shown import number, with_interval
from enaction.words import FRAMINGS, MEAN, TRACE, checkpoint, framing_label, in_training_order, last_stage, stage_label

Check = Callable[[Findings], "tuple[Standing, str]"]
# What the claims are about: a run with none of them is not asked.
EXPERIMENTS = frozenset({"matrix", "stages", "framings", "persona", "prior", "splice", "controls", "calibration"})

_SEVERAL = 2.0  # a ratio that is "several times" lies above this


class Claim(NamedTuple):
    """One claim of the paper.

    Attributes:
        text: the claim.
        paper: what is known of its numbers.
        rule: what has to be seen.
        check: standing and words from the findings of a run.
        is_absence: whether it is true where nothing is to be seen, as of clones.
    """

    text: str
    paper: str
    rule: str
    check: Check
    is_absence: bool = False


class Checked(NamedTuple):
    """A claim with what one run says."""

    claim: Claim
    standing: Standing
    words: str


def checked(findings: Findings) -> list[Checked]:
    """Every claim with its standing in a run."""
    return [Checked(claim, *claim.check(findings)) for claim in CLAIMS]


def _last_trained(findings: Findings, experiment: str, quantity: str) -> list[str]:
    """The last post-trained stage of which an experiment has a quantity, in a list; empty where there is none."""
    of = [str(f.where.get("stage") or "") for f in findings.select(quantity, experiment)]
    last = last_stage([s for s in in_training_order(of) if s != "base" and not checkpoint(s)])
    return [] if last is None else [last]


def _mean(findings: Findings, experiment: str, quantity: str, **where: Any) -> Finding | None:
    """A quantity of a whole table: the mean over its readers, which with two readers is one number for both."""
    return findings.one(quantity, experiment, reader=MEAN, **where)


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


def _interactions(findings: Findings, stage: str) -> dict[str, Finding | None]:
    """The mean interaction of a stage in each framing."""
    return {f: _mean(findings, "matrix", "interaction", stage=stage, framing=f) for f in FRAMINGS}


def _ground(findings: Findings, stage: str) -> Part:
    """What a claim about post-trained models needs of a table: one of them recognises, and no reader is flat."""
    at = {"stage": stage, "framing": "assistant"}
    if unclear := _unclear(findings, **at):
        return Part(unclear, None)
    bases = _base_readers(findings)
    names = [str(f.where["reader"]) for f in findings.select("recognised", "matrix", **at).measured]
    trained = [name for name in names if name not in bases]
    sure = [name for name in trained if _recognises(findings, name, **at)]
    return Part(f"adjusted for difficulty {len(sure)} of {len(trained)} readers recognise it", bool(sure))


def _unclear(findings: Findings, **at: Any) -> str:
    """Why a table says nothing of recognition; empty where it does.

    A reader that responds less to how difficult texts are moves the interaction of a table without any recognition.
    """
    verdicts = findings.select("recognised", "matrix", **at).measured
    if not verdicts:
        return (
            "two models have one number for both, which also moves where one of them responds less to how difficult a "
            "text is; a third model would tell"
        )
    flat = dict.fromkeys(str(f.where["reader"]) for f in verdicts if is_flat(f))
    return f"{', '.join(flat)} hardly responds to how difficult a text is, which moves the whole table" if flat else ""


def is_flat(verdict: Finding) -> bool:
    """Whether a finding `recognised` says that its reader hardly responds to how difficult a text is."""
    return bool(verdict.notes) and verdict.notes[0].startswith("flat")


def _lower_on_own(findings: Findings) -> tuple[Standing, str]:
    if not (trained := _last_trained(findings, "matrix", "interaction")):
        return "not testable", _NO_STAGE
    at = {"stage": trained[-1], "framing": "assistant"}
    ratio = _at(findings, "matrix", "geometric_ratio", **at)
    return judged(
        [below(_mean(findings, "matrix", "interaction", **at), 0.0, "interaction")],
        _NO_STAGE,
        needs=[_ground(findings, trained[-1])],
        also=[above(ratio, _SEVERAL, "other/self ratio, geometric")],
    )


def _diagonal(findings: Findings) -> tuple[Standing, str]:
    if not (trained := _last_trained(findings, "matrix", "interaction")):
        return "not testable", _NO_STAGE
    at = {"stage": trained[-1], "framing": "assistant"}
    aside = {MEAN, *_base_readers(findings)}
    ranks = [f for f in findings.select("own_rank_among_authors", "matrix", **at) if f.where.get("reader") not in aside]
    if not ranks:
        return "not testable", "this run has no ranks"
    if unclear := _unclear(findings, **at):
        return "not testable", f"{unclear}, and a rank alone may come from an author who writes easy text"
    readers = [str(f.where["reader"]) for f in ranks]
    # A rank whose upper bound is 1 is 1 in nearly every resample.
    first = {reader for reader, f in zip(readers, ranks, strict=True) if f.high == 1}
    sure = {reader for reader in readers if _is_certified(findings, reader, **at)}
    n = len(first & sure)
    standing: Standing = "reproduced" if n == len(readers) else "partly" if n else "not reproduced"
    return standing, (
        f"of {len(readers)} post-trained readers {len(first)} have the least entropy on their own text, 95 % interval "
        f"included; {len(sure)} are certified to recognise it; both: {n}"
    )


def _is_certified(findings: Findings, reader: str, **at: Any) -> bool:
    """Whether all witnesses certify a reader, two of them also in the list's own intervals."""
    verdict = findings.one("recognised", "matrix", reader=reader, **at)
    return verdict is not None and verdict.estimate == 1 and _recognises(findings, reader, **at)


def _recognises(findings: Findings, reader: str, **at: Any) -> bool:
    """Whether a reader's recognition is above 0, and that adjusted for difficulty, in the list's own intervals."""
    witnesses = [findings.one(q, "matrix", reader=reader, **at) for q in ("recognition", "recognition_adjusted")]
    parts = [above(witness, 0.0, "") for witness in witnesses]
    return all(part is not None and part.holds for part in parts)


def _base(findings: Findings) -> tuple[Standing, str]:
    found = _interactions(findings, "base")
    if any(is_flat(f) for f in findings.select("recognised", "matrix", stage="base").measured):
        return "not testable", _unclear(findings, stage="base")
    return judged(
        [],
        "this run has no matrix of base models in all three framings",
        absent=[within(found[framing], TRACE, framing_label(framing)) for framing in FRAMINGS],
    )


def _role(findings: Findings) -> tuple[Standing, str]:
    if not (trained := _last_trained(findings, "framings", "interaction_difference")):
        return "not testable", _no_framings(findings)
    at: dict[str, Any] = {"stage": trained[-1], "framing": "assistant", "question": "kept"}
    return judged(
        [
            below(
                _mean(findings, "framings", "interaction_difference", minus_framing=of, minus_question="kept", **at),
                0.0,
                f"interaction as assistant minus {framing_label(of)}",
                among=2,
            )
            for of in ("user", "none")
        ],
        f"the experiment framings of this run lacks a framing: it needs {', '.join(FRAMINGS)}, with the question",
        needs=[
            below(_mean(findings, "framings", "interaction", **at), 0.0, "interaction as assistant"),
            _ground(findings, trained[-1]),
        ],
    )


def _no_framings(findings: Findings) -> str:
    """What is missing for a comparison of framings, and what of it the matrix shows."""
    missing = "this run has no experiment `framings`, which measures the difference between roles on the same text"
    trained = _last_trained(findings, "matrix", "interaction")
    found = _interactions(findings, trained[-1]) if trained else {}
    shown = [f"{number(f.estimate)} ({framing_label(framing)})" for framing, f in found.items() if f is not None]
    if len(shown) < len(FRAMINGS):
        return missing
    return (
        f"the matrix has the interaction in all three framings, {', '.join(shown)}, but not their differences with "
        f"intervals: {missing}; add it to the study"
    )


def _persona(findings: Findings) -> tuple[Standing, str]:
    stages = _last_trained(findings, "persona", "default_margin")
    if not stages:
        return "not testable", "this run has no persona experiment with a post-trained stage"
    foreign = _at(findings, "persona", "surprisal_own_minus_other", stage=stages[-1], persona=MEAN)
    margin = _at(findings, "persona", "default_margin", stage=stages[-1])
    standing, words = judged([above(margin, 0.0, "lowest persona's entropy minus the default's, nats")], "no margin")
    if foreign is None:
        return "not testable", f"{words}; but this run has no measure of whether the models tell personas apart"
    apart = below(foreign, -TRACE, "")
    if apart is None or not apart.holds:
        return "not testable", (
            f"{words}; but text is not shown to be less surprising under its own persona than under another "
            f"({with_interval(at_level(foreign))} nats): whether these models learned the personas is open, so the "
            "default is compared with no other self"
        )
    return standing, words


def _prior(findings: Findings) -> tuple[Standing, str]:
    stages = _last_trained(findings, "prior", "position_trend")
    stages += _last_trained(findings, "prior", "amplification_beyond_continuity")
    if not stages:
        return "not testable", "this run has no prior experiment with a post-trained stage"
    at = {"stage": stages[-1]}
    trend = _at(findings, "prior", "position_trend", **at)
    beyond = _at(findings, "prior", "amplification_beyond_continuity", **at)
    missing = [
        words
        for f, words in (
            (trend, "a trend along the response, which needs longer texts"),
            (beyond, "amplification beyond continuity, which needs a third model"),
        )
        if f is None
    ]
    return judged(
        [
            below(trend, 0.0, "interaction, each doubling of position", among=2),
            above(beyond, 0.0, "effect of own earlier turns beyond continuity, log units", among=2),
        ],
        f"the experiment prior of this run has no {' and no '.join(missing)}",
    )


def _sft(findings: Findings) -> tuple[Standing, str]:
    found = _interactions(findings, "sft")
    return judged(
        [below(found["assistant"], 0.0, framing_label("assistant"))],
        "this run has no matrix of the stage sft in all three framings",
        needs=[_ground(findings, "sft")],
        absent=[within(found[framing], TRACE, framing_label(framing)) for framing in ("user", "none")],
    )


def _dpo(findings: Findings) -> tuple[Standing, str]:
    found = _interactions(findings, "dpo")
    return judged(
        [below(found[framing], 0.0, framing_label(framing), among=len(FRAMINGS)) for framing in FRAMINGS],
        "this run has no matrix of the stage dpo in all three framings",
        needs=[_ground(findings, "dpo")],
    )


def _rl(findings: Findings) -> tuple[Standing, str]:
    """From the stage before RL to its end, whatever the curve on the way."""
    changes = [
        f
        for quantity in ("interaction_change_over_stage", "interaction_change")  # the first where there are checkpoints
        for f in findings.select(quantity, "matrix", reader=MEAN, framing="assistant")
        if f.where.get("stage") in ("rl", "rlvr")
    ]
    if not changes:
        return "not testable", "this run has no stage rl after another"
    before, stage = (str(changes[0].where[key]) for key in ("from_stage", "stage"))
    end = _mean(findings, "matrix", "interaction", stage=stage, framing="assistant")
    return judged(
        [below(changes[0], 0.0, f"{stage_label(before)} to {stage_label(stage)}")],
        f"this run has no interaction at the end of {stage_label(stage)}",
        needs=[below(end, 0.0, f"interaction after {stage_label(stage)}"), _ground(findings, stage)],
    )


def _violation(findings: Findings) -> tuple[Standing, str]:
    missing = "this run has no splice experiment with a post-trained stage"
    if not (trained := _last_trained(findings, "splice", "foreignness_after")):
        return "not testable", missing
    at = {"stage": trained[-1], "pattern": "ofo"}
    found = {
        k: _at(findings, "splice", "foreignness_after", k=k, **at)
        for k in sorted({int(f.where["k"]) for f in findings.select("foreignness_after", "splice", **at)})
    }
    return judged([above(f, 0.0, f"{k} foreign tokens, nats", among=len(found)) for k, f in found.items()], missing)


_NO_STAGE = "this run has no matrix of two or more post-trained models as assistant"

CLAIMS = (
    Claim(
        "Post-trained models read their own text with several times lower entropy than others' text.",
        "ratios of 1.3 to 3 in its 5 x 5 table; a headline of 3 to 4",
        "last stage, assistant: interaction below 0 and a reader who recognises; with them a geometric ratio above "
        f"{_SEVERAL:g}, which alone may be easy text",
        _lower_on_own,
    ),
    Claim(
        "Each reader has its least entropy on its own text.",
        "5 of 5 readers",
        "last stage, assistant: every reader has rank 1 among authors, interval included, and is certified to "
        "recognise its text beyond confidence and ease",
        _diagonal,
    ),
    Claim(
        "The effect is essentially absent in base models.",
        "base ratios 1.06 to 1.11 (on the instruct model's text)",
        f"an absence: base, every framing: interaction within ±{TRACE}; not reproduced where one lies outside",
        _base,
        is_absence=True,
    ),
    Claim(
        "It is concentrated in the assistant role.",
        "mean other/self 3.2 as assistant, 2.1 as user, 2.3 without template",
        "last stage: interaction below 0 as assistant and a reader who recognises; stronger than as user turn and than "
        "without template, same text",
        _role,
    ),
    Claim(
        "The default Assistant has the lowest entropy of all personas.",
        "a figure; values not known",
        f"last stage: the margin above 0, if text is less surprising by {TRACE} nats under its own persona",
        _persona,
    ),
    Claim(
        "It is amplified when the model reads its own prior outputs.",
        "no number known; two readings",
        "last stage: interaction falls along a response; own earlier turns lower own text beyond foreign text and "
        "beyond what any author's continuity does",
        _prior,
    ),
    Claim(
        "It appears at SFT in the assistant's turn only.",
        "self below others as assistant (ratio 1.18), above them elsewhere (.86, .85)",
        f"sft: interaction below 0 as assistant and a reader who recognises; then, as qualification, absent (within "
        f"±{TRACE}) elsewhere",
        _sft,
    ),
    Claim(
        "At DPO it is present in all framings.",
        "ratios 1.12, 1.15, 1.08",
        "dpo: a reader who recognises as assistant, and interaction below 0 in every framing",
        _dpo,
    ),
    Claim(
        "RL strengthens it.",
        "ratio as assistant 1.12 to 1.19",
        "assistant: interaction below 0 after RL and a reader who recognises; and below that of the stage before RL",
        _rl,
    ),
    Claim(
        "A foreign beginning raises the entropy of what the model then writes.",
        "no number known (another topic's prefill)",
        "last stage: summed entropy after a foreign piece above that after an own piece, for every length",
        _violation,
    ),
)
