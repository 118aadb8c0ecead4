"""The paper's claims: a standing follows from intervals alone, and what was not measured is not called reproduced."""

from __future__ import annotations

from typing import Any

import pytest

from enaction.findings import Finding, Findings
from enaction.paper.claims import checked
from enaction.words import in_training_order, last_stage, models_of, stage_label

FRAMINGS = ("assistant", "user", "none")


def finding(experiment: str, quantity: str, low: float, high: float, **where: Any) -> Finding:
    return Finding(experiment, quantity, {"reader": "mean"} | where, (low + high) / 2, low, high, 20, "", "")


def interactions(stage: str, *bounds: tuple[float, float]) -> list[Finding]:
    return [
        finding("matrix", "interaction", low, high, stage=stage, framing=framing)
        for framing, (low, high) in zip(FRAMINGS, bounds, strict=True)
    ]


def standing(findings: list[Finding], words: str) -> tuple[str, str]:
    (found,) = [c for c in checked(Findings(findings)) if words in c.claim.text]
    return found.standing, found.words


def test_a_run_without_findings_reproduces_nothing_and_says_what_it_lacks() -> None:
    for claim in checked(Findings()):
        assert claim.standing == "not testable"
        assert "this run has no" in claim.words


def test_absence_at_the_base_needs_intervals_that_are_narrow_and_not_only_hold_zero() -> None:
    narrow, wide, shifted = (-0.01, 0.01), (-0.3, 0.3), (-0.09, -0.05)
    assert standing(interactions("base", narrow, narrow, narrow), "absent in base")[0] == "reproduced"
    assert standing(interactions("base", narrow, wide, narrow), "absent in base")[0] == "partly"
    assert standing(interactions("base", shifted, shifted, wide), "absent in base")[0] == "not reproduced"
    assert standing(interactions("base", narrow, narrow, narrow)[:2], "absent in base")[0] == "not testable"


def test_several_times_lower_is_more_than_a_ratio_above_one() -> None:
    there = interactions("rl", (-0.2, -0.1), (-0.2, -0.1), (-0.2, -0.1))
    at: dict[str, Any] = {"stage": "rl", "framing": "assistant"}
    small = [*there, finding("matrix", "other_self_ratio", 1.1, 1.3, **at)]
    large = [*there, finding("matrix", "other_self_ratio", 2.9, 3.3, **at)]
    easy = [*interactions("rl", *[(-0.01, 0.01)] * 3), finding("matrix", "other_self_ratio", 2.9, 3.3, **at)]
    assert standing(small, "several times")[0] == "partly"
    assert standing(large, "several times")[0] == "reproduced"
    assert standing(easy, "several times")[0] == "partly"  # a ratio from easy text alone


def test_the_last_stage_is_not_a_matrix_of_kin_behind_it() -> None:
    there = [(-0.2, -0.1)] * 3
    findings = [*interactions("rl", *there), *interactions("near-kin", *there)]
    ranks = {"rl": 1.0, "near-kin": 2.0}
    findings += [
        Finding(
            "matrix", "own_rank_among_authors", {"reader": "a", "stage": s, "framing": "assistant"}, r, r, r, 9, "", ""
        )
        for s, r in ranks.items()
    ]
    assert standing(findings, "least entropy on its own")[0] == "reproduced"


@pytest.mark.parametrize(
    ("stages", "last"),
    [
        (["base", "rl", "near-kin"], "rl"),
        (["base", "last"], "last"),
        (["base", "sft", "dpo", "rlvr"], "rlvr"),
        ([], None),
    ],
)
def test_the_last_stage_is_the_end_of_training_whatever_it_is_called(stages: list[str], last: str | None) -> None:
    assert last_stage(in_training_order(stages)) == last


def test_sft_in_the_assistants_turn_only() -> None:
    low, none = (-0.08, -0.05), (-0.01, 0.01)
    assert standing(interactions("sft", low, none, none), "SFT")[0] == "reproduced"
    assert standing(interactions("sft", low, low, low), "SFT")[0] == "partly"
    assert standing(interactions("sft", none, low, low), "SFT")[0] == "not reproduced"


def test_the_default_persona_is_not_compared_with_personas_that_were_not_learned() -> None:
    margin = finding("persona", "default_margin", 0.4, 0.6, stage="rl")
    learned = finding("persona", "surprisal_own_minus_other", -0.9, -0.5, stage="rl", persona="mean")
    ignored = finding("persona", "surprisal_own_minus_other", -0.005, 0.001, stage="rl", persona="mean")
    assert standing([margin, learned], "default Assistant")[0] == "reproduced"
    said, words = standing([margin, ignored], "default Assistant")
    assert said == "not testable"
    assert "did not learn the personas" in words


def test_rl_is_judged_from_before_it_to_its_end_whatever_its_checkpoints_do() -> None:
    def change(quantity: str, of: str, to: str, low: float, high: float) -> Finding:
        return finding("matrix", quantity, low, high, stage=to, from_stage=of, framing="assistant")

    noisy = [
        change("interaction_change", "dpo", "rl20", -0.1, 0.2),
        change("interaction_change", "rl20", "rl", -0.3, -0.2),
        change("interaction_change_over_stage", "dpo", "rl", -0.4, -0.1),
    ]
    said, words = standing(noisy, "RL strengthens")
    assert said == "reproduced"
    assert words.startswith("DPO to RL ")
    weaker = [*noisy[:2], change("interaction_change_over_stage", "dpo", "rl", -0.1, 0.2)]
    assert standing(weaker, "RL strengthens")[0] == "not reproduced"
    assert standing([change("interaction_change", "dpo", "rlvr", -0.2, -0.1)], "RL strengthens")[0] == "reproduced"
    assert standing(noisy[:1], "RL strengthens")[0] == "not testable"


def test_where_one_post_trained_model_stands_among_bases_the_claims_are_about_it() -> None:
    findings = [
        Finding("matrix", "entropy", {"reader": reader, "author": reader, "reader_stage": of}, 2, 1, 3, 9, "", "")
        for reader, of in (("tuned", "sft"), ("plain", "base"))
    ]
    findings += interactions("real", *[(-0.2, -0.1)] * 3)
    findings += [
        Finding("persona", quantity, {"reader": reader, "stage": "real"} | more, (low + high) / 2, low, high, 9, "", "")
        for quantity, more, bounds in (
            ("default_margin", {}, {"tuned": (0.1, 0.7), "plain": (-0.6, 0.1), "mean": (-0.2, 0.4)}),
            ("surprisal_own_minus_other", {"persona": "mean"}, {r: (-0.2, -0.1) for r in ("tuned", "plain", "mean")}),
        )
        for reader, (low, high) in bounds.items()
    ]
    assert standing(findings, "default Assistant")[0] == "reproduced"
    without_base = [f for f in findings if f.where.get("reader_stage") != "base"]
    assert standing(without_base, "default Assistant")[0] == "not reproduced"  # the mean, which holds the base


def test_a_finding_without_an_interval_decides_nothing() -> None:
    (first, *others) = interactions("dpo", (-0.2, -0.1), (-0.2, -0.1), (-0.2, -0.1))
    blind = Finding(first.experiment, first.quantity, first.where, -0.15, None, None, 20, "", "")
    assert standing([blind, *others], "DPO")[0] == "partly"


@pytest.mark.parametrize(
    "given", [["rl", "rl60", "base", "kin", "rl20", "sft"], ["kin", "rl20", "rl60", "rl", "sft", "base"]]
)
def test_checkpoints_stand_before_the_end_of_their_stage(given: list[str]) -> None:
    assert in_training_order(given) == ["base", "sft", "rl20", "rl60", "rl", "kin"]
    assert stage_label("rl20") == "RL 20"
    assert (stage_label("rl-b"), models_of("rl-b"), stage_label("kin-a-b")) == ("RL-b", "RL-b models", "kin-a-b")
    assert models_of("rl20") == "RL models after 20 steps"
    assert models_of("base") == "Base models"
