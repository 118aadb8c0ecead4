"""The paper's claims: positive parts decide, absences only qualify, and what was not measured is not reproduced."""

from __future__ import annotations

from typing import Any

import pytest
from scipy import stats as scipy_stats

from enaction.findings import Finding, Findings
from enaction.paper.claims import CLAIMS, checked
from enaction.paper.standing import LEVEL, Part, at_level, below, familywise, judged, within
from enaction.words import in_training_order, last_stage, models_of, stage_label

FRAMINGS = ("assistant", "user", "none")
THERE, NONE, WIDE = (-0.2, -0.1), (-0.01, 0.01), (-0.3, 0.3)


def finding(experiment: str, quantity: str, low: float, high: float, **where: Any) -> Finding:
    unit = "ratio" if quantity == "geometric_ratio" else "log units"
    place = {"reader": "mean"} | where
    return Finding(experiment, quantity, place, (low + high) / 2, low, high, 200, unit, "", null=0.0)


def interactions(stage: str, *bounds: tuple[float, float]) -> list[Finding]:
    return [
        finding("matrix", "interaction", low, high, stage=stage, framing=framing)
        for framing, (low, high) in zip(FRAMINGS, bounds, strict=True)
    ]


def ranked(
    stage: str, readers: dict[str, tuple[float, bool, tuple[float, float], tuple[float, float]]]
) -> list[Finding]:
    """Reader -> rank, whether certified, recognition, recognition_adjusted."""
    found = []
    for reader, (rank, certified, recognition, adjusted) in readers.items():
        at = {"reader": reader, "stage": stage, "framing": "assistant"}
        found.append(Finding("matrix", "own_rank_among_authors", at, rank, rank, rank, 200, "rank", ""))
        found.append(Finding("matrix", "recognised", at, float(certified), None, None, 200, "verdict", ""))
        found.append(finding("matrix", "recognition", *recognition, **at))
        found.append(finding("matrix", "recognition_adjusted", *adjusted, **at))
    return found


def sure(stage: str) -> list[Finding]:
    """Three readers, one of whom is certified."""
    yes, no = (0.2, 0.4), (-0.1, 0.1)
    return ranked(stage, {"a": (1, True, yes, yes), "b": (1, False, no, no), "c": (2, False, no, no)})


def nobody(stage: str) -> list[Finding]:
    """Three readers, none of whom is certified."""
    return ranked(stage, dict.fromkeys("abc", (1, False, (-0.1, 0.1), (-0.1, 0.1))))


def standing(findings: list[Finding], words: str) -> tuple[str, str]:
    (found,) = [c for c in checked(Findings(findings)) if words in c.claim.text]
    return found.standing, found.words


def test_a_run_without_findings_reproduces_nothing_and_says_what_it_lacks() -> None:
    for claim in checked(Findings()):
        assert claim.standing == "not testable"
        assert "this run has no" in claim.words


@pytest.mark.parametrize("n", [2, 8, 72])
def test_intervals_of_the_list_are_those_of_t_at_its_level(n: int) -> None:
    low, high = scipy_stats.t.interval(0.95, n - 1, loc=1.5, scale=0.4)
    wide = at_level(Finding("matrix", "interaction", {}, 1.5, low, high, n, "log units", ""))
    assert (wide.low, wide.high) == pytest.approx(scipy_stats.t.interval(LEVEL, n - 1, loc=1.5, scale=0.4), rel=1e-5)
    ratio = at_level(Finding("matrix", "geometric_ratio", {}, 2.0, 1.0, 4.0, n, "ratio", ""))
    assert ratio.low is not None and ratio.high is not None  # noqa: PT018
    assert 0 < ratio.low < 1
    assert ratio.low * ratio.high == pytest.approx(4)


def test_an_interval_of_95_percent_that_barely_excludes_the_bound_is_not_enough_for_a_list() -> None:
    barely = finding("matrix", "interaction", -0.2, -0.005)
    part = below(barely, 0.0, "interaction")
    assert part is not None
    assert part.holds is False


def test_an_absence_is_shown_or_contradicted_or_beyond_the_power_of_a_run() -> None:
    for (low, high), holds in ((NONE, True), (THERE, False), ((-0.03, 0.03), None), ((-0.2, 0.0), None)):
        part = within(finding("matrix", "interaction", low, high), 0.02, "user turn")
        assert part is not None
        assert part.holds is holds
        assert ("contradicts" in part.words) == (holds is False)
        assert ("too wide" in part.words) == (holds is None)


@pytest.mark.parametrize(
    ("needs", "parts", "also", "absent", "expected"),
    [
        ([], [True, True], [], [True], "reproduced"),
        ([], [True, False], [], [True], "partly"),
        ([], [True], [], [False], "partly"),  # there, and elsewhere too
        ([], [True], [], [None], "partly"),  # there; elsewhere the run cannot say
        ([], [True], [False], [], "partly"),
        ([], [False], [True], [True, True], "not reproduced"),  # absences are no support
        ([False], [True], [], [], "not reproduced"),
        ([None], [True], [], [], "not testable"),
        ([], [None], [], [True], "not testable"),
        ([], [None, False], [], [], "not reproduced"),
        ([], [], [], [True, True], "reproduced"),
        ([], [], [], [True, None], "not testable"),
        ([], [], [], [None, False], "not reproduced"),
    ],
)
def test_positive_parts_decide_and_absences_qualify(
    needs: list, parts: list, also: list, absent: list, expected: str
) -> None:
    of = [[Part("", holds) for holds in some] for some in (needs, parts, also, absent)]
    assert judged(of[1], "", needs=of[0], also=of[2], absent=of[3])[0] == expected


def test_a_part_that_was_not_measured_makes_a_claim_not_testable() -> None:
    assert judged([Part("a", True), None], "what is missing") == ("not testable", "what is missing")


def test_absence_at_the_base_needs_power() -> None:
    assert standing(interactions("base", NONE, NONE, NONE), "absent in base")[0] == "reproduced"
    assert standing(interactions("base", NONE, WIDE, NONE), "absent in base")[0] == "not testable"
    assert standing(interactions("base", WIDE, WIDE, WIDE), "absent in base")[0] == "not testable"
    assert standing(interactions("base", THERE, NONE, WIDE), "absent in base")[0] == "not reproduced"
    assert standing(interactions("base", NONE, NONE, NONE)[:2], "absent in base")[0] == "not testable"


def test_several_times_lower_is_more_than_a_ratio_and_more_than_one() -> None:
    at: dict[str, Any] = {"stage": "rl", "framing": "assistant"}
    small = finding("matrix", "geometric_ratio", 1.1, 1.3, **at)
    large = finding("matrix", "geometric_ratio", 2.9, 3.3, **at)
    there = [*interactions("rl", THERE, THERE, THERE), *sure("rl")]
    assert standing([*there, small], "several times")[0] == "partly"
    assert standing([*there, large], "several times")[0] == "reproduced"
    # A ratio from easy text alone.
    easy = [*interactions("rl", NONE, NONE, NONE), *sure("rl")]
    assert standing([*easy, large], "several times")[0] == "not reproduced"


def test_an_interaction_needs_a_reader_who_recognises_and_none_who_is_flat() -> None:
    there = interactions("dpo", THERE, THERE, THERE)
    assert standing([*there, *sure("dpo")], "DPO")[0] == "reproduced"
    assert standing([*there, *nobody("dpo")], "DPO")[0] == "not reproduced"
    base = Finding(
        "matrix", "entropy", {"reader": "a", "author": "a", "reader_stage": "base"}, 1, None, None, 9, "", ""
    )
    assert standing([*there, *sure("dpo"), base], "DPO")[0] == "not reproduced"  # the one that recognises is a base
    at = {"reader": "d", "stage": "dpo", "framing": "assistant"}
    flat = Finding("matrix", "recognised", at, 0, None, None, 200, "verdict", "", ["flat: slope 0.00"])
    said, words = standing([*there, *sure("dpo"), flat], "DPO")
    assert said == "not testable"
    assert "d hardly responds to how difficult a text is" in words
    at_base = {"reader": "d", "stage": "base", "framing": "assistant"}
    flat = Finding("matrix", "recognised", at_base, 0, None, None, 200, "verdict", "", ["flat: slope 0.00"])
    assert standing([*interactions("base", THERE, THERE, THERE), flat], "absent in base")[0] == "not testable"
    ranks = ranked("rl", {"a": (1, True, (0.2, 0.4), (0.2, 0.4))})
    beside = Finding("matrix", "recognised", at | {"stage": "rl"}, 0, None, None, 200, "verdict", "", ["flat: 0.00"])
    found = [*interactions("rl", THERE, THERE, THERE), *ranks]
    assert standing(found, "least entropy on its own")[0] == "reproduced"
    assert standing([*found, beside], "least entropy on its own")[0] == "not testable"


def test_with_two_models_one_number_is_of_neither() -> None:
    said, words = standing(interactions("dpo", THERE, THERE, THERE), "DPO")
    assert said == "not testable"
    assert "-0.150" in words
    assert "one number for both" in words
    assert standing(interactions("dpo", NONE, NONE, NONE), "DPO")[0] == "not reproduced"


def test_a_rank_without_recognition_is_an_author_of_easy_text() -> None:
    mean, yes, no = interactions("rl", THERE, THERE, THERE), (0.2, 0.4), (-0.1, 0.1)
    claim = "least entropy on its own"
    known, easy = (1, True, yes, yes), (1, False, no, no)
    assert standing([*mean, *ranked("rl", {"a": known, "b": known})], claim)[0] == "reproduced"
    assert standing([*mean, *ranked("rl", {"a": known, "b": easy})], claim)[0] == "partly"
    assert standing([*mean, *ranked("rl", {"a": easy, "b": easy})], claim)[0] == "not reproduced"
    # Certified at 95 %, but not in the list's own intervals.
    barely = (1, True, (0.001, 0.4), yes)
    assert standing([*mean, *ranked("rl", {"a": barely})], claim)[0] == "not reproduced"
    assert standing([*mean, *ranked("rl", {"a": (1, True, yes, (0.001, 0.4))})], claim)[0] == "not reproduced"
    # It recognises its text and another author's is easier still.
    said, words = standing([*mean, *ranked("rl", {"a": (2, True, yes, yes), "b": known})], claim)
    assert said == "partly"
    assert "both: 1" in words


def test_with_two_models_no_reader_has_a_rank_of_its_own() -> None:
    at = {"stage": "rl", "framing": "assistant"}
    ranks = [Finding("matrix", "own_rank_among_authors", {"reader": r, **at}, 1, 1, 1, 99, "rank", "") for r in "ab"]
    said, words = standing([*interactions("rl", THERE, THERE, THERE), *ranks], "least entropy on its own")
    assert said == "not testable"
    assert "one number for both" in words


def test_the_last_stage_is_not_a_matrix_of_kin_behind_it() -> None:
    mean = [*interactions("rl", THERE, THERE, THERE), *interactions("near-kin", THERE, THERE, THERE)]
    yes = (0.2, 0.4)
    found = [*mean, *ranked("rl", {"a": (1, True, yes, yes)}), *ranked("near-kin", {"a": (2, False, yes, yes)})]
    assert standing(found, "least entropy on its own")[0] == "reproduced"


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


def roles(assistant: tuple[float, float], *differences: tuple[float, float]) -> list[Finding]:
    at = {"stage": "rl", "framing": "assistant", "question": "kept"}
    return [
        *sure("rl"),
        finding("framings", "interaction", *assistant, **at),
        *(
            finding("framings", "interaction_difference", *bounds, minus_framing=of, minus_question="kept", **at)
            for of, bounds in zip(("user", "none"), differences, strict=False)
        ),
    ]


def test_concentration_in_the_assistant_role_needs_something_to_concentrate() -> None:
    assert standing(roles(THERE, THERE, THERE), "assistant role")[0] == "reproduced"
    assert standing(roles(THERE, THERE, NONE), "assistant role")[0] == "partly"
    assert standing(roles(NONE, THERE, THERE), "assistant role")[0] == "not reproduced"
    assert standing(roles(THERE, THERE), "assistant role")[0] == "not testable"


def test_without_framings_it_says_what_a_matrix_of_all_framings_lacks() -> None:
    said, words = standing(interactions("rl", THERE, NONE, NONE), "assistant role")
    assert said == "not testable"
    assert "-0.150 (assistant turn)" in words
    assert "add it to the study" in words
    assert "add it" not in standing(interactions("rl", THERE, NONE, NONE)[:1], "assistant role")[1]


def test_sft_in_the_assistants_turn_only() -> None:
    def said(*bounds: tuple[float, float]) -> str:
        return standing([*interactions("sft", *bounds), *sure("sft")], "SFT")[0]

    assert said(THERE, NONE, NONE) == "reproduced"
    assert said(THERE, THERE, THERE) == "partly"
    assert said(THERE, WIDE, NONE) == "partly"
    assert said(NONE, THERE, THERE) == "not reproduced"
    assert said(NONE, NONE, NONE) == "not reproduced"  # two absences are no half of the claim


def test_dpo_in_every_framing() -> None:
    for bounds, expected in (
        ((THERE, THERE, THERE), "reproduced"),
        ((THERE, THERE, WIDE), "partly"),
        ((NONE, NONE, WIDE), "not reproduced"),
    ):
        assert standing([*interactions("dpo", *bounds), *sure("dpo")], "DPO")[0] == expected


def test_parts_of_which_one_would_do_share_the_level_of_their_claim() -> None:
    # 99 % for one part of one; of three, each 99.67 %, which is wider.
    n, half = 200, 1.96
    enough = 2.75  # standard errors below 0
    one = Finding("matrix", "interaction", {}, -enough, -enough - half, -enough + half, n, "log units", "")
    alone, shared = below(one, 0.0, ""), below(one, 0.0, "", among=3)
    assert alone is not None and shared is not None  # noqa: PT018
    assert (alone.holds, shared.holds) == (True, False)


def test_the_default_persona_is_not_compared_with_personas_that_were_not_learned() -> None:
    margin = finding("persona", "default_margin", 0.4, 0.6, stage="rl")
    learned = finding("persona", "surprisal_own_minus_other", -0.9, -0.5, stage="rl", persona="mean")
    ignored = finding("persona", "surprisal_own_minus_other", -0.005, 0.001, stage="rl", persona="mean")
    assert standing([margin, learned], "default Assistant")[0] == "reproduced"
    said, words = standing([margin, ignored], "default Assistant")
    assert said == "not testable"
    assert "learned the personas" in words
    assert standing([margin], "default Assistant")[0] == "not testable"


def test_amplification_is_what_continuity_does_not_explain() -> None:
    at = {"stage": "rl"}
    trend = finding("prior", "position_trend", *THERE, **at)
    included = finding("prior", "amplification", 0.2, 0.3, **at)
    beyond, nothing = (finding("prior", "amplification_beyond_continuity", *b, **at) for b in ((0.2, 0.3), (-0.1, 0.1)))
    assert standing([trend, included, beyond], "amplified")[0] == "reproduced"
    assert standing([trend, included, nothing], "amplified")[0] == "partly"
    said, words = standing([trend, included], "amplified")  # two models
    assert said == "not testable"
    assert "needs a third model" in words


def change(quantity: str, of: str, to: str, low: float, high: float) -> Finding:
    return finding("matrix", quantity, low, high, stage=to, from_stage=of, framing="assistant")


def test_rl_is_judged_from_before_it_to_its_end_whatever_its_checkpoints_do() -> None:
    noisy = [
        *interactions("rl", THERE, THERE, THERE),
        *sure("rl"),
        change("interaction_change", "dpo", "rl20", -0.1, 0.2),
        change("interaction_change", "rl20", "rl", -0.3, -0.2),
        change("interaction_change_over_stage", "dpo", "rl", -0.4, -0.1),
    ]
    said, words = standing(noisy, "RL strengthens")
    assert said == "reproduced"
    assert "DPO to RL -0.250" in words
    weaker = [*noisy[:-1], change("interaction_change_over_stage", "dpo", "rl", -0.1, 0.2)]
    assert standing(weaker, "RL strengthens")[0] == "not reproduced"
    assert standing(noisy[:-2], "RL strengthens")[0] == "not testable"
    as_rlvr = [
        *interactions("rlvr", THERE, THERE, THERE),
        *sure("rlvr"),
        change("interaction_change", "dpo", "rlvr", -0.2, -0.1),
    ]
    assert standing(as_rlvr, "RL strengthens")[0] == "reproduced"


def test_rl_does_not_strengthen_what_is_not_there_at_its_end() -> None:
    less = change("interaction_change", "dpo", "rl", -0.4, -0.2)  # from above 0 to 0
    nothing = [*interactions("rl", NONE, NONE, NONE), *sure("rl")]
    assert standing([*nothing, less], "RL strengthens")[0] == "not reproduced"


def test_where_one_post_trained_model_stands_among_bases_the_persona_is_its_own() -> None:
    findings = [
        Finding("matrix", "entropy", {"reader": reader, "author": reader, "reader_stage": of}, 2, 1, 3, 9, "", "")
        for reader, of in (("tuned", "sft"), ("plain", "base"))
    ]
    findings += interactions("real", THERE, THERE, THERE)
    findings += [
        finding("persona", quantity, low, high, reader=reader, stage="real", **more)
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
    (first, *others) = interactions("dpo", THERE, THERE, THERE)
    blind = Finding(first.experiment, first.quantity, first.where, -0.15, None, None, 20, "", "")
    assert standing([blind, *others, *sure("dpo")], "DPO")[0] == "partly"


def test_the_rate_beside_the_list_is_of_this_list_and_at_most_a_tenth() -> None:
    rate = familywise()
    assert rate.level == LEVEL
    assert rate.rate <= 0.10
    assert rate.low <= rate.rate <= rate.high
    assert sum(claim.is_absence for claim in CLAIMS) == 1


@pytest.mark.parametrize(
    "given", [["rl", "rl60", "base", "kin", "rl20", "sft"], ["kin", "rl20", "rl60", "rl", "sft", "base"]]
)
def test_checkpoints_stand_before_the_end_of_their_stage(given: list[str]) -> None:
    assert in_training_order(given) == ["base", "sft", "rl20", "rl60", "rl", "kin"]
    assert stage_label("rl20") == "RL 20"
    assert (stage_label("rl-b"), models_of("rl-b"), stage_label("kin-a-b")) == ("RL-b", "RL-b models", "kin-a-b")
    assert models_of("rl20") == "RL models after 20 steps"
    assert models_of("base") == "Base models"
