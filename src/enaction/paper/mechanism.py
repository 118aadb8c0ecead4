"""The paper's claims about the mechanism, and what one run says to each: as `claims`, for what its experiments measure.

A claim is listed where the run has its experiment. Parts are those of single readers of the last post-trained stage,
each in 99 % intervals shared among the readers, except the first claim's, which are the verdicts of the experiment;
where some readers hold and others do not, the claim is reproduced partly. The rate of false claims that `familywise`
gives was measured on the claims about behaviour alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from enaction.findings import Finding, Findings
from enaction.paper.claims import Check, Checked, Claim
from enaction.paper.standing import Part, Standing, above, at_level, below, judged, within
from enaction.shown import number, with_interval
from enaction.words import checkpoint, in_training_order, last_stage

# Chance between prompts from which on a label is peaked: it hardly ever differs, so nothing can be planned.
_PEAKED = 0.8
# A share of the gap up to this is given to surprise where it explains nothing by design (docs/experiments/reaction.md).
_SHARE = 0.1
# Share of what chance leaves that has to be settled before the label's word.
_SETTLED = 0.5
# A share of the report's route, or a slope, within this of 0 counts as none.
_NONE, _NO_SLOPE = 0.1, 0.15
# Probability of the two answers together below which a model does not answer the question.
_MASS = 0.2
# The paper's range of CKA, and the cosine that counts as about 0.
_CKA, _COSINE = 0.5, 0.2


@dataclass(frozen=True)
class _Of:
    """A claim and the experiment without which it is not listed."""

    experiment: str
    claim: Claim


def checked(findings: Findings) -> list[Checked]:
    """Every claim whose experiment the run has, with its standing."""
    present = findings.experiments
    return [Checked(of.claim, *of.claim.check(findings)) for of in _CLAIMS if of.experiment in present]


def _last(findings: Findings, experiment: str, quantity: str, **where: object) -> list[Finding]:
    """A quantity of each reader of the last post-trained stage that has it."""
    found = [*findings.select(quantity, experiment, **where)]
    stages = in_training_order({str(f.where.get("stage") or "") for f in found})
    stage = last_stage([s for s in stages if s != "base" and not checkpoint(s)])
    return [f for f in found if f.where.get("stage") == stage]


_NO_STAGE = "no post-trained stage of this run has it"


def _sets(findings: Findings) -> tuple[Standing, str]:
    verdicts = _last(findings, "surprise", "surprise_verdict")
    if not verdicts:
        return "not testable", _NO_STAGE
    parts = []
    for f in verdicts:
        words, slope = f.notes[0], with_interval(at_level(f), 2)
        holds = {"surprise moves entropy": True, "surprise does not move entropy": False}.get(words)
        parts.append(Part(f"{f.where['reader']}: {words}{f', slope {slope}' if f.estimate is not None else ''}", holds))
    return judged(parts, _NO_STAGE)


def _explains(findings: Findings) -> tuple[Standing, str]:
    shares = {
        (str(f.where["reader"]), str(f.where["entropy"])): f
        for f in _last(findings, "reaction", "share_surprisal")
        if f.estimate is not None and f.where["reader"] != "mean"
    }
    readers = [*dict.fromkeys(reader for reader, _ in shares)]
    parts = []
    for reader in readers:
        held, free = (
            above(shares.get((reader, entropy)), _SHARE, f"{reader}, H_t {words}", among=len(readers))
            for entropy, words in (("held", "held equal"), ("free", "free"))
        )
        parts.append(held and free and _both(held, free))
    return judged(parts, "no reader of the last stage has a gap between own and foreign text")


def _both(one: Part, other: Part) -> Part:
    """Holds where both parts hold, and does not where one does not."""
    holds = False if False in (one.holds, other.holds) else None if None in (one.holds, other.holds) else True
    return Part(f"{one.words}; {other.words}", holds)


def _entropy_does_nothing(findings: Findings) -> tuple[Standing, str]:
    found = _last(findings, "surprise", "steering_slope", trace="entropy", key="none", rank=2)
    return judged([], _NO_STAGE, absent=[within(f, _NO_SLOPE, str(f.where["reader"])) for f in found])


def _settles(findings: Findings) -> tuple[Standing, str]:
    found = [f for f in _last(findings, "commitment", "settled_before_word_pooled") if f.estimate is not None]
    if not found:
        return "not testable", "no label of the last stage has a word whose place is known, and room above chance"
    label = "topic" if any(f.where["label"] == "topic" for f in found) else str(found[0].where["label"])
    chosen = [f for f in found if f.where["label"] == label]
    parts = [_settled(findings, f, len(chosen)) for f in chosen]
    return judged(parts, "no label")


def _settled(findings: Findings, f: Finding, among: int) -> Part | None:
    words = f"{f.where['reader']}, {f.where['label']}"
    chance = findings.one("chance_pooled", "commitment", reader=f.where["reader"], label=f.where["label"])
    if chance is not None and (chance.estimate or 0.0) >= _PEAKED:
        return Part(f"{words}: hardly ever differs, chance {number(chance.estimate, 2)}", False)
    return above(f, _SETTLED, words, among)


def _breaks(findings: Findings) -> tuple[Standing, str]:
    found = [f for f in _last(findings, "commitment", "violation", window="0-8") if f.estimate is not None]
    label = next((f.where["label"] for f in found if f.where["label"] == "topic"), None)
    chosen = [f for f in found if label is None or f.where["label"] == label]
    return judged(
        [above(f, 0.0, f"{f.where['reader']}, {f.where['label']}, nats", among=len(chosen)) for f in chosen],
        "no reader of the last stage has a plan to break",
    )


def _reports(findings: Findings) -> tuple[Standing, str]:
    found = [
        f
        for f in _last(findings, "verbal", "report_auroc", kind="foreign")
        if f.estimate is not None and _answers(findings, f)
    ]
    parts: list[Part | None] = []
    for f in found:
        place = {"reader": f.where["reader"], "author": f.where["author"]}
        swapped = findings.one("swapped_gap", "verbal", **place)
        told = above(f, 0.5, f"{place['reader']} on {place['author']}'s, AUROC", among=len(found))
        heeds = below(swapped, 0.0, "swapped question, nats", among=len(found))
        parts.append(told and heeds and _both(told, heeds))
    return judged(parts, "no model of the last stage answers with the two words")


def _answers(findings: Findings, f: Finding) -> bool:
    """Whether the model says one of the two words at all: log-odds of words that it never says are no report."""
    mass = findings.select("answer_mass", "verbal", reader=f.where["reader"]).measured
    return any((m.estimate or 0.0) >= _MASS for m in mass)


def _another_route(findings: Findings) -> tuple[Standing, str]:
    found = [f for f in _last(findings, "verbal", "in_share") if f.estimate is not None and _answers(findings, f)]
    words = [f"{f.where['reader']}, {f.where['direction']}" for f in found]
    return judged(
        [],
        "no model of the last stage reports, so there is no route",
        absent=[within(f, _NONE, text) for f, text in zip(found, words, strict=True)],
    )


def _orthogonal(findings: Findings) -> tuple[Standing, str]:
    cosines = _inside(_last(findings, "geometry", "cosine"))
    ckas = _inside(_last(findings, "geometry", "cka"))
    if not cosines or not ckas:
        return "not testable", "no family of this run has a base and a post-trained stage with one tokenizer"
    # The claim is about all layers, so the most alike of them has to be below.
    parts = [
        below(max(found, key=lambda f: f.high or 0.0), bound, f"greatest {name} over layers and families")
        for found, bound, name in ((cosines, _COSINE, "cosine"), (ckas, _CKA, "CKA"))
    ]
    return judged(parts, "nothing measured")


def _inside(found: Sequence[Finding]) -> list[Finding]:
    """Findings of layers beyond the embedding, against a base model."""
    return [
        f for f in found if f.where["layer"] > 0 and f.where.get("other_stage") == "base" and f.estimate is not None
    ]


def _claim(experiment: str, text: str, paper: str, rule: str, check: Check, *, is_absence: bool = False) -> _Of:
    return _Of(experiment, Claim(text, paper, rule, check, is_absence))


_CLAIMS = (
    _claim(
        "reaction",
        "Surprise explains part of the difference between own and foreign text.",
        "part of the effect; the share is not known",
        f"last stage, each reader: share of the gap that goes with the last surprisal, all else equal, above "
        f"{_SHARE:g} with H_t held equal and with H_t free; an association, no cause",
        _explains,
    ),
    _claim(
        "surprise",
        "An internal trace of input surprise sets the entropy of what comes next.",
        "slope about 1 toward centroids of surprise",
        "last stage, each reader: the verdict of the experiment, rank-1 clamp within quartiles of H_t",
        _sets,
    ),
    _claim(
        "surprise",
        "Moving toward centroids of entropy does nothing.",
        "slope about .01",
        f"an absence: last stage: slope within ±{_NO_SLOPE}; on models in which surprise sets entropy by design it is "
        "about 1",
        _entropy_does_nothing,
        is_absence=True,
    ),
    _claim(
        "commitment",
        "The topic of an open-ended reply is settled before the first word of it.",
        "top-1 share 8 to 100 % in eight categories",
        f"last stage, each reader: more than {_SETTLED:g} of what chance between prompts leaves is settled before the "
        f"label's word, and chance is below {_PEAKED:g}",
        _settles,
    ),
    _claim(
        "commitment",
        "A beginning that violates the plan raises the entropy of what follows.",
        "no number known",
        "last stage, each reader: own text of another label minus own text of the prompt's label, 8 tokens, above 0",
        _breaks,
    ),
    _claim(
        "verbal",
        "The model can say whether a reply was put into its mouth.",
        "no accuracy known",
        "last stage, each foreign author: AUROC above .5, and the swapped question turns the answer",
        _reports,
    ),
    _claim(
        "verbal",
        "It says so by another mechanism than surprise.",
        "no effect in the subspace, all of it in the complement",
        f"an absence: last stage: share of the effect in the subspace of surprise within ±{_NONE}, both ways",
        _another_route,
        is_absence=True,
    ),
    _claim(
        "geometry",
        "Base and post-trained model hold the same text in unrelated directions.",
        "cosine about 0 at all layers, CKA .2 to .5",
        f"last stage against base, every layer beyond the embedding: cosine below {_COSINE:g} and CKA below {_CKA:g}",
        _orthogonal,
    ),
)
