"""The paper's claims about the mechanism, from findings made by hand."""

from __future__ import annotations

from typing import Any

from enaction.findings import Finding, Findings
from enaction.paper.mechanism import checked


def _finding(experiment: str, quantity: str, value: float | None, /, spread: float = 0.05, **where: Any) -> Finding:
    notes = where.pop("notes", [])
    low, high = (None, None) if value is None else (value - spread, value + spread)
    return Finding(experiment, quantity, where, value, low, high, 40, "nats", "made by hand", notes, 0.0)


def _standing(words: str, *findings: Finding) -> str:
    return next(c.standing for c in checked(Findings(findings)) if words in c.claim.text)


def _verdict(reader: str, stage: str, words: str, value: float | None) -> Finding:
    return _finding("surprise", "surprise_verdict", value, reader=reader, stage=stage, notes=[words])


def test_a_run_without_the_experiments_lists_nothing() -> None:
    assert checked(Findings([_finding("matrix", "interaction", -0.2, reader="mean", stage="rl")])) == []


def test_only_the_last_stage_decides_whether_surprise_sets_entropy() -> None:
    base = _verdict("a", "base", "surprise moves entropy", 0.8)
    moves = [_verdict(r, "rl", "surprise moves entropy", 0.8) for r in ("a", "b")]
    still = _verdict("c", "rl", "surprise does not move entropy", 0.1)
    unknown = _verdict("c", "rl", "not identified: keys disagree", 0.6)
    assert _standing("trace of input", base, *moves) == "reproduced"
    assert _standing("trace of input", base, *moves, still) == "partly"
    assert _standing("trace of input", base, still) == "not reproduced"
    assert _standing("trace of input", base, unknown) == "not testable"
    assert _standing("trace of input", base) == "not testable"


def test_a_share_of_the_gap_goes_with_surprise_whether_the_entropy_before_is_held_or_free() -> None:
    def shares(reader: str, held: float | None, free: float | None) -> list[Finding]:
        where: dict[str, Any] = {"reader": reader, "stage": "rl"}
        return [
            _finding("reaction", "share_surprisal", value, 0.02, entropy=entropy, **where)
            for entropy, value in (("held", held), ("free", free))
        ]

    whole, none = shares("a", 0.96, 0.96), shares("b", 0.06, 0.05)
    assert _standing("explains part", *whole) == "reproduced"
    # What organism-belief is given, whose entropy does not follow surprise.
    assert _standing("explains part", *none) == "not reproduced"
    assert _standing("explains part", *shares("a", 0.5, 0.03)) == "not reproduced"
    assert _standing("explains part", *whole, *none) == "partly"
    # The mean over readers may be of gaps of opposite sign.
    assert _standing("explains part", *none, *shares("mean", 1.7, 2.1)) == "not reproduced"
    assert _standing("explains part", *shares("a", None, None)) == "not testable"


def test_entropy_centroids_that_steer_contradict_an_absence() -> None:
    at: dict[str, Any] = {"trace": "entropy", "key": "none", "rank": 2, "reader": "a", "stage": "rl"}
    assert _standing("entropy does nothing", _finding("surprise", "steering_slope", 0.9, **at)) == "not reproduced"
    assert _standing("entropy does nothing", _finding("surprise", "steering_slope", 0.0, 0.02, **at)) == "reproduced"
    assert _standing("entropy does nothing", _finding("surprise", "steering_slope", 0.0, 0.5, **at)) == "not testable"


def test_a_peaked_label_is_no_plan() -> None:
    at: dict[str, Any] = {"reader": "a", "label": "topic", "stage": "rl"}
    settled = _finding("commitment", "settled_before_word_pooled", 0.9, **at)
    varied, peaked = (_finding("commitment", "chance_pooled", v, **at) for v in (0.1, 0.95))
    assert _standing("settled before", settled, varied) == "reproduced"
    assert _standing("settled before", settled, peaked) == "not reproduced"


def test_a_report_has_to_heed_the_question() -> None:
    at: dict[str, Any] = {"reader": "a", "author": "b", "stage": "rl"}
    told = _finding("verbal", "report_auroc", 0.95, kind="foreign", **at)
    turned, same = (_finding("verbal", "swapped_gap", v, **at) for v in (-3.0, 3.0))
    says, silent = (_finding("verbal", "answer_mass", v, 0.01, **at) for v in (0.9, 0.01))
    assert _standing("put into its mouth", told, turned, says) == "reproduced"
    assert _standing("put into its mouth", told, same, says) == "not reproduced"
    assert _standing("put into its mouth", told, turned, silent) == "not testable"


def test_one_unlike_layer_is_not_unrelated_models() -> None:
    def layer(quantity: str, value: float, number: int) -> Finding:
        where: dict[str, Any] = {"family": "a", "stage": "rl", "other_stage": "base", "layer": number}
        return _finding("geometry", quantity, value, 0.01, **where)

    unlike = [layer(q, v, n) for q, v in (("cosine", 0.02), ("cka", 0.3)) for n in (1, 2, 3)]
    embedding = [layer(q, 0.99, 0) for q in ("cosine", "cka")]
    assert _standing("unrelated", *embedding, *unlike) == "reproduced"
    assert _standing("unrelated", *unlike, layer("cosine", 0.95, 4), layer("cka", 0.95, 4)) == "not reproduced"
