"""The answer of a run says what the intervals say: who, how much, beside base, what of an imitation, whose text."""

from __future__ import annotations

import math
from typing import Any

import pytest

from enaction.findings import Finding, Findings
from enaction.page import Page, Statement
from enaction.paper.verdict import answer

AT = {"stage": "rl", "framing": "assistant"}
PAGE = Page("Matrix", "Is it?", [Statement("anything.", headline=True)], main=AT)


def number(
    quantity: str, estimate: float, half: float | None = None, *, of: str = "matrix", null: float = 0.0, **where: Any
) -> Finding:
    low, high = (None, None) if half is None else (estimate - half, estimate + half)
    return Finding(of, quantity, {**AT, **where}, estimate, low, high, 72, "log units", "", null=null)


def recognition(estimate: float, half: float | None, certified: int = 3, stage: str = "rl") -> list[Finding]:
    names = [f"{family}-{stage}" for family in ("ash", "birch", "cedar")]
    return [
        number("recognition", estimate, half, reader="mean", stage=stage),
        *(number("recognised", float(i < certified), reader=name, stage=stage) for i, name in enumerate(names)),
    ]


def ownness(above: int) -> list[Finding]:
    """Of 3 readers on 3 other texts each, so many of all cells above 0."""
    names = ["ash-rl", "birch-rl", "cedar-rl"]
    cells = [
        number("ownness", 0.0 if reader == author else 0.5, 0.01, reader=reader, author=author)
        for reader in names
        for author in (*names, "world")
    ]
    shares = [above // 3 + (i < above % 3) for i in range(3)]
    told = [
        Finding("matrix", "told_apart_share", {**AT, "reader": reader}, share / 3, None, None, 3, "share", "")
        for reader, share in zip(names, shares, strict=True)
    ]
    return [*cells, *told]


IMITATION: dict[str, Any] = {"arm": "imitation", "setting": "own habits"}


def imitated(share: float, told: int) -> list[Finding]:
    return [
        number("imitation_share", share, 0.05, of="controls", null=1.0, reader="mean", **IMITATION),
        *(
            number("ownness_beyond_own", 0.1 * (i < told), 0.01, of="controls", reader=reader, **IMITATION)
            for i, reader in enumerate(("ash-rl", "birch-rl", "cedar-rl"))
        ),
    ]


def said(findings: list[Finding], **pages: Page) -> list[str]:
    return [statement.sentence for statement in answer(Findings(findings), {"matrix": PAGE, **pages}).sentences]


def test_who_recognises_how_much_and_what_of_base_models() -> None:
    found = [*recognition(-math.log(0.8), 0.01), *recognition(0.0, 0.01, 0, "base")]
    first, what = said(found)
    assert first.startswith("RL models read text like their own with 20 % [19, 21] less entropy")
    assert "(3 of 3 certified); base models: 0.0 % [-1.0, 1.0] (0 of 3 certified)" in first
    assert "whoever wrote it; this run measured no imitation" in what


@pytest.mark.parametrize(
    ("estimate", "half", "words"),
    [
        (0.01, 0.02, "are not shown to have less entropy on text like their own"),
        (-0.1, 0.02, "have more entropy on text like their own"),
        (0.1, None, "no interval, so no verdict"),
        (0.03, 0.02, "read text like their own with 3.0 % [1.0, 4.9] less entropy"),
    ],
)
def test_the_words_follow_the_interval(estimate: float, half: float | None, words: str) -> None:
    (first, *rest) = said(recognition(estimate, half, 0))
    assert words in first
    # What is not shown is not explained.
    assert bool(rest) == (half is not None and estimate - half > 0)


def test_more_entropy_is_given_as_what_it_grows_by() -> None:
    (first,) = said(recognition(-math.log(1.25), 1e-9, 0))
    assert "by 25 % [25, 25]" in first


def test_only_those_who_are_certified_are_named_where_others_are_not() -> None:
    assert "(2 of 3 certified: ash-rl, birch-rl)" in said(recognition(0.2, 0.01, 2))[0]
    assert "(0 of 3 certified)" in said(recognition(0.2, 0.01, 0))[0]


def test_two_readers_have_one_number_that_names_nobody() -> None:
    (first, *_) = said([number("recognition", 0.2, 0.01, reader="mean")])
    assert "one number for all of them, which does not say who" in first
    assert "certified" not in first


def test_what_an_imitation_gets_and_whose_text_is_told_apart() -> None:
    statement = Statement("best.", ("imitation_share",), {**AT, **IMITATION}, headline=True)
    other = Statement("worse.", ("imitation_share",), {**AT, "arm": "imitation", "setting": "house"})
    controls = Page("Controls", "Is it?", [other, statement])
    found = [*recognition(0.2, 0.01), *ownness(8), *imitated(0.97, 2)]
    _, what, whose = said(found, controls=controls)
    assert "an imitation that nobody wrote gets 97 % [92, 102] of it" in what
    assert "in 8 of 9 pairs of reader and author" in whose
    assert whose.endswith("and the imitation for 2 of 3 readers.")
    numbers = answer(Findings(found), {"matrix": PAGE, "controls": controls}).numbers
    assert [key.text for key in numbers] == ["0.200 [0.190, 0.210]", "0.970 [0.920, 1.020]", "0.500 [0.490, 0.510]"]


def test_a_run_without_a_comparison_says_its_headlines() -> None:
    assert said([]) == ["anything."]
    thesis = Page("Thesis", "Does it?", [Statement("plain."), Statement("twins do.", headline=True)])
    assert [s.sentence for s in answer(Findings(), {"thesis": thesis}).sentences] == ["twins do."]
