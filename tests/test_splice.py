"""Splices: alignment on planted models with a known reaction and recovery, pieces of text as ids, curves by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from enaction import stats
from enaction.experiments import analyse, pages
from enaction.experiments.pieces import decoded, ids_after, own_body, prefix_of_own, prefix_of_text
from enaction.experiments.splice import Splice
from enaction.experiments.splice.texts import PATTERNS
from enaction.findings import Findings, select
from enaction.passages import Passage, Sampling
from enaction.reader import Reader
from enaction.reader.sources.hub import Hub
from enaction.report.drawing import draw
from enaction.running import run_study
from enaction.study.config import ModelSpec, Study
from enaction.study.store import Run

RECOVERY = 3
OWN, FOREIGN = tiny.WORDS[:8], tiny.WORDS[8:12]
QUESTIONS = ["tell me about it", "what was it", "why", "how please", "tell me about why", "what was in it"]


class Planted(tiny.LogitsOnly):
    """Writes only its own words, surely; from the row behind another's word on vaguely, until it has read some own.

    The distribution is `vague` (uniform over its words) wherever fewer than `RECOVERY` tokens have been read since the
    last word of the other, else `sure` (.7 and .3).
    """

    def __init__(self, own: Sequence[str], other: Sequence[str]) -> None:
        tokenizer = tiny.word_tokenizer()
        super().__init__(len(tokenizer))
        self.size = len(tokenizer)
        self.own: list[int] = tokenizer.convert_tokens_to_ids(list(own))  # pyright: ignore[reportAttributeAccessIssue]
        self.other = torch.tensor(tokenizer.convert_tokens_to_ids(list(other)))

    def forward(self, input_ids: Tensor) -> SimpleNamespace:
        is_other_BT = torch.isin(input_ids, self.other)
        place_T = torch.arange(input_ids.shape[1])
        last_BT = torch.where(is_other_BT, place_T, torch.tensor(-1000)).cummax(1).values
        is_vague_BT = place_T - last_BT < RECOVERY
        vague_V, sure_V = torch.full((2, self.size), -40.0)
        vague_V[self.own] = 0.0
        sure_V[self.own[:2]] = torch.tensor([0.7, 0.3]).log()
        return SimpleNamespace(logits=torch.where(is_vague_BT[:, :, None], vague_V, sure_V))


VAGUE, SURE = float(np.log(len(OWN))), float(-0.7 * np.log(0.7) - 0.3 * np.log(0.3))


def study_of(folder: Path, models: dict[str, ModelSpec], **settings: Any) -> Study:
    prompts = folder / "prompts.jsonl"
    prompts.write_text("\n".join(json.dumps({"id": f"p{i}", "prompt": q}) for i, q in enumerate(QUESTIONS)))
    return Study(
        name="splices",
        models=models,
        prompts=str(prompts),
        experiments={"splice": settings},
        sampling=Sampling(per_prompt=1, max_new_tokens=40),
        resamples=200,
    )


@pytest.fixture(scope="module", name="planted")
def _planted(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    folder = tmp_path_factory.mktemp("planted")
    models = {"own": Planted(OWN, FOREIGN), "other": Planted(FOREIGN, OWN)}

    def load(path: str, **_: Any) -> Reader:
        return Reader(models[path], tiny.word_tokenizer(), name=path)  # pyright: ignore[reportArgumentType]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reader, "load", load)
        patch.setattr(Hub, "require", lambda *_: None)
        patch.setattr(Hub, "settings", lambda *_: None)
        study = study_of(
            folder,
            {name: ModelSpec(model=name, family=name) for name in models},
            lengths=[1, 4],
            at=6,
            after=8,
        )
        return analyse(study, run_study(study, folder / "run"))


def test_reaction_and_recovery_are_the_planted_ones(planted: Findings) -> None:
    for k in (1, 4):
        place = {"reader": "own", "k": k, "pattern": "ofo"}
        for quantity, expected in (
            ("reaction", 1),
            ("recovery", RECOVERY),
            ("recovery_within_tolerance", RECOVERY),
            ("excess_first", VAGUE - SURE),
            ("excess_after", RECOVERY * (VAGUE - SURE)),
            ("foreignness_after", RECOVERY * (VAGUE - SURE)),
        ):
            (found,) = select(planted, quantity, **place)
            assert found.estimate == pytest.approx(expected, abs=1e-4), (quantity, k)
            assert (found.low, found.high) == pytest.approx((expected, expected), abs=1e-4), (quantity, k)
            assert found.n == len(QUESTIONS)


def test_a_piece_of_own_text_does_nothing(planted: Findings) -> None:
    for k in (1, 4):
        place = {"reader": "own", "k": k, "pattern": "ooo"}
        (reaction,) = select(planted, "reaction", **place)
        assert reaction.estimate is None
        assert any("no reaction" in note for note in reaction.notes)
        for quantity in ("excess_first", "excess_after"):
            assert select(planted, quantity, **place)[0].estimate == pytest.approx(0, abs=1e-5)


def test_own_words_in_foreign_text_are_recognised_after_the_planted_number(planted: Findings) -> None:
    # Fewer own tokens than the model needs change nothing; after RECOVERY of them it is sure, until one token later
    # it has read a foreign one again.
    assert select(planted, "reaction", reader="own", k=1, pattern="fof")[0].estimate is None
    place = {"reader": "own", "k": 4, "pattern": "fof"}
    assert select(planted, "reaction", **place)[0].estimate == RECOVERY
    assert select(planted, "recovery", **place)[0].estimate == 1
    assert select(planted, "excess_during", **place)[0].estimate == pytest.approx(SURE - VAGUE, abs=1e-4)
    assert select(planted, "excess_after", **place)[0].estimate == pytest.approx(SURE - VAGUE, abs=1e-4)


def test_page_says_what_the_findings_say(planted: Findings) -> None:
    page = Splice().page(planted)
    text = " ".join(page.sentences)
    assert "The first offset outside the band is 1; it is back after 3." in text
    assert "beyond the seam" in text
    assert any(s.verdict == "effect" and s.where["pattern"] == "ofo" for s in page.select("foreignness_after"))
    draw(page.charts["splice"]).draw_without_rendering()
    assert any("3 [3, 3]" in cell.text for grid in page.grids for row in grid.cells for cell in row)


def test_texts_that_are_too_short_are_left_out_and_named(run: Run) -> None:
    # Pieces longer than any text: nothing is written, nothing is read, and the report says so.
    study = run.study().model_copy(update={"experiments": {"splice": {"lengths": [60], "at": 4, "after": 5}}})
    grown = run_study(study, run.folder.with_name("long"))
    findings = analyse(study, grown)
    assert [f.quantity for f in findings] == ["left_out"]
    assert "too few prompts" in findings[0].notes[0]
    assert any(s.startswith("Left out: ") for s in pages(study, findings)["splice"].sentences)


@pytest.fixture(scope="module", name="run")
def _run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Random models of two tokenizers, one without a template."""
    folder = tmp_path_factory.mktemp("random")
    parts = {"words": (tiny.llama, tiny.word_tokenizer()), "bytes": (tiny.neox, tiny.byte_tokenizer(None))}
    models = {}
    for name, (build, tokenizer) in parts.items():
        build(len(tokenizer)).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        models[name] = ModelSpec(model=str(folder / name), family=name)
    return run_study(study_of(folder, models, lengths=[1, 3], at=4, after=5), folder / "run")


def test_spliced_passages_keep_the_ids_of_their_prefix(run: Run) -> None:
    study = run.study()
    settings = Splice(lengths=(1, 3), at=4, after=5)
    n_checked = 0
    for pair in settings.pairs(study):
        own = {p.prompt_id: own_body(p) for p in run.passages(pair.reader)}
        pieces: dict[tuple[str, str], tuple[int, ...]] = {}
        for pattern in ("ofo", "ooo"):
            for k in (1, 3):
                for p in run.passages(settings.cuts.text_name(pair, pattern, k)):
                    ids, cut = p.token_ids or (), p.marks["prefix"]
                    assert ids[:cut] == own[p.prompt_id][:cut]
                    assert 4 <= cut <= 4 + 8
                    assert p.sampling["begun_with"] == cut + k
                    assert cut + k < len(ids) <= cut + k + 5
                    piece = ids[cut : cut + k]
                    assert pieces.setdefault((pattern, p.prompt_id), piece)[:1] == piece[:1]  # nested
                    n_checked += 1
    assert n_checked > 20


def test_nothing_reacts_before_it_can(run: Run) -> None:
    findings = analyse(run.study(), run)
    for quantity in ("excess_entropy", "excess_surprisal"):
        before = [f for f in select(findings, quantity) if f.where["offset"] < 0]
        assert before
        assert all(f.estimate == pytest.approx(0, abs=1e-4) for f in before)
    at = [f for f in select(findings, "excess_entropy") if f.where["offset"] == 0]
    assert {f.where["pattern"] for f in at} == set(PATTERNS)
    assert all(f.estimate == pytest.approx(0, abs=1e-4) for f in at)
    behind = [f for f in select(findings, "excess_entropy", pattern="ofo") if f.where["offset"] == 1]
    assert all(abs(f.estimate or 0) > 1e-3 for f in behind)


TEXT = "the old red fox walked over the small river and saw a stone"


@pytest.mark.parametrize("build", [tiny.word_tokenizer, tiny.byte_tokenizer])
def test_a_prefix_ends_between_words_and_its_rest_follows(build: Any) -> None:
    tokenizer = build()
    for at in range(1, 9):
        prefix = prefix_of_text(tokenizer, TEXT, at)
        assert prefix is not None
        assert prefix.text + prefix.rest == TEXT
        assert prefix.rest.startswith(" ")
        assert decoded(tokenizer, prefix.ids) == prefix.text
        assert len(prefix.ids) >= at
        ids = tuple(tokenizer.encode(TEXT, add_special_tokens=False))
        own = Passage("x", "p", (), TEXT, "m", token_ids=(*ids, 7), ended=True)
        assert prefix_of_own(tokenizer, own, at) == prefix
        # What follows a prefix in the text follows it in the ids.
        assert prefix.ids + (ids_after(tokenizer, prefix.text, prefix.rest) or ()) == ids
    assert prefix_of_text(tokenizer, TEXT, 200) is None
    assert prefix_of_text(tokenizer, "the", 1) is None


def test_a_piece_that_melts_into_what_is_before_is_refused() -> None:
    tokenizer = tiny.byte_tokenizer()
    (whole,) = tokenizer.encode(" the", add_special_tokens=False)
    assert ids_after(tokenizer, "fox", " the") == (whole,)
    assert ids_after(tokenizer, "fox t", "he") is None


def curve_of(mean: list[float], noise: float = 0.0, *, seed: int = 0, n: int = 40) -> stats.Curve:
    rng = np.random.default_rng(seed)
    difference_TP = np.array(mean)[:, None] + noise * rng.standard_normal((len(mean), n))
    return stats.curve(difference_TP, np.arange(len(mean)) - 1, stats.cluster_weights(n, 500, rng))


def test_departure_and_comeback_of_a_curve_by_hand() -> None:
    exact = curve_of([0, 0, 0, 1, 1, 0.05, 0.05, 0.05, 0, 0, 0, 0])
    assert stats.departure(exact, first=1).value == 2
    assert stats.comeback(exact, first=2).value == 7
    assert stats.comeback(exact, first=2, tolerance=0.1).value == 4
    assert np.isnan(stats.comeback(curve_of([0, 1, 1, 0, 0, 1, 0, 0]), first=0).value)
    assert exact.total(2, 5).value == pytest.approx(2.05)
    noisy = curve_of([0, 0, 0, 1, 1, 1, 0, 0, 0, 0], noise=0.5)
    found = stats.departure(noisy, first=1)
    assert (found.value, found.low, found.high) == (2, 2, 2)
    assert stats.comeback(noisy, first=2).value == 5


def test_a_curve_of_noise_seldom_leaves_its_band() -> None:
    left = [np.isfinite(stats.departure(curve_of([0.0] * 20, noise=1.0, seed=s), first=0).value) for s in range(200)]
    assert np.mean(left) < 0.12  # 5 % in the limit; a bootstrap of 40 prompts is a little short


def test_a_missing_offset_is_left_out_and_shapes_are_checked() -> None:
    difference_TP = np.array([[0.0, 0, 0], [1, np.nan, np.nan], [2, 2, 2]])
    found = stats.curve(difference_TP, [0, 1, 2], np.ones((2, 3)), least=2)
    assert np.isnan(found.mean[1])
    assert found.mean[2] == 2
    with pytest.raises(ValueError, match="rise by one"):
        stats.curve(difference_TP, [0, 2, 3], np.ones((2, 3)))
