"""The thesis on runs made by hand: planted familiarity comes back, none gives none, and bad text is kept out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enaction.errors import StudyError
from enaction.experiments import analyse, pages, plan
from enaction.experiments.thesis import Thesis, choices
from enaction.experiments.thesis.panels import panels
from enaction.experiments.thesis.seeds import mean_over_seeds
from enaction.findings import Finding, Findings
from enaction.page import Page
from enaction.passages import Passage, Prompt
from enaction.running import load_study
from enaction.study.config import Study
from enaction.words import MEAN
from enaction.world.stories import Voice, tell
from tests import handmade, tiny

SEEDS = (1, 2, 3)
ARMS = ("actor", "clip", "far", "active2", "copycat", "empty")
STARTS = {arm: "ash2" for arm in ARMS} | {"actor": "ash", "far": "birch"}
NEUTRAL = {"birch": ("birch-x", "birch-y"), "cedar": ("cedar-x", "cedar-y")}
SETTINGS: dict[str, Any] = {
    "arms": {arm: {0: [STARTS[arm]] * 3, 100: [f"{arm}-{seed}" for seed in SEEDS]} for arm in ARMS}
    | {"other": {0: ["ash"] * 3, 100: [f"other-{seed}" for seed in SEEDS]}},
    "neutral": NEUTRAL,
    "akin": {"far": ["birch"]},
    "twins": ["clip", "far"],
    "loops": ["active2"],
    "control": "copycat",
    "other": "other",
    "empty": "empty",
}
# How familiar a reader is with a text; a number in a seed's place is a seed.
Planted = Callable[[str, str, int], float]


def study_of(folder: Path, settings: dict[str, Any] = SETTINGS, n_prompts: int = 12) -> Study:
    path = folder / "prompts.jsonl"
    path.write_text("".join(f'{{"id": "p{i}", "prompt": "question {i}"}}\n' for i in range(n_prompts)))
    names = [m for points in settings["arms"].values() for models in points.values() for m in models]
    names += [m for models in settings["neutral"].values() for m in models]
    return Study.model_validate(
        {
            "name": "thesis",
            "models": {name: {"model": "nowhere", "family": name} for name in names},
            "prompts": str(path),
            "experiments": {"thesis": settings},
            "resamples": 100,
            "sampling": {"per_prompt": 1},
        }
    )


def analysed(
    folder: Path, planted: Planted, *, cut: tuple[str, ...] = (), settings: dict[str, Any] = SETTINGS, draw: int = 0
) -> tuple[Findings, Page]:
    """Findings and page of a run whose readers have effects of their own, texts too, and planted familiarity."""
    study = study_of(folder, settings)

    @cache
    def factor(*names: object, scale: float) -> float:
        seed = int.from_bytes(hashlib.sha256(repr(names).encode()).digest()[:8])
        return float(np.exp(np.random.default_rng(seed).normal(0, scale)))

    def entropy(reader: str, author: str, prompt: int, position: int) -> float:
        easy = factor("reader", reader, scale=0.3) * factor("text", author, scale=0.3)
        seed = max(reader, author, key=lambda name: name[-1].isdigit()).partition("-")[2]
        familiar = planted(reader.partition("-")[0], author.partition("-")[0], int(seed) if seed.isdigit() else 0)
        noise = factor(draw, reader, author, prompt, scale=0.01)
        return 0.8 * easy * factor("prompt", prompt, scale=0.2) * noise * np.exp(-familiar)

    def writing(name: str, prompt: Prompt, n: int) -> Passage:
        return replace(handmade.of_authors(name, prompt, n), ended=name.partition("-")[0] not in cut)

    run = handmade.run(study, folder / "run", handmade.at_positions(entropy), words=lambda *_: 3, writing=writing)
    findings = analyse(study, run)
    return findings, pages(study, findings)["thesis"]


def nothing(reader: str, author: str, seed: int) -> float:
    return 0.0


def over_seeds(findings: Findings, quantity: str, **where: Any) -> Finding:
    found = findings.one(quantity, point=100, seed=MEAN, **where)
    assert found is not None
    return found


def outcome(page: Page, quantity: str, **where: Any) -> str:
    (statement,) = page.select(quantity, **where)
    return statement.outcome


def test_planted_familiarity_comes_back_in_every_quantity(tmp_path: Path) -> None:
    table = {
        ("actor", "actor"): 0.5, ("actor", "clip"): 0.48, ("clip", "clip"): 0.4, ("clip", "actor"): 0.45,
        ("far", "far"): 0.3, ("far", "actor"): 0.25, ("active2", "active2"): 0.35, ("copycat", "copycat"): 0.3,
        ("copycat", "other"): 0.32, ("copycat", "actor"): 0.12, ("clip", "other"): 0.2,
        ("ash2", "actor"): 0.1, ("ash", "actor"): 0.2,
        ("ash", "ash"): 0.15, ("ash2", "ash2"): 0.14, ("empty", "empty"): 0.6,
        # Inside a family of neutral models: must not matter.
        ("birch", "birch"): 0.9, ("cedar", "cedar"): 0.7, ("far", "birch"): 0.8, ("birch", "far"): 0.8,
    }  # fmt: skip
    findings, page = analysed(tmp_path, lambda reader, author, seed: table.get((reader, author), 0.0))
    expected = {
        ("familiarity", ("reader", "clip"), ("author", "actor")): 0.45,
        ("familiarity", ("reader", "far"), ("author", "far")): 0.3,
        ("familiarity", ("reader", "other"), ("author", "actor")): 0.0,
        ("learned", ("reader", "clip")): 0.45 - 0.1,
        ("learned", ("reader", "far")): 0.25,
        ("learned", ("reader", "actor")): 0.5 - 0.2,
        ("specific", ("reader", "clip")): 0.45 - 0.2,
        ("specific", ("reader", "copycat")): 0.12 - 0.32,
        ("specific_beyond_control", ("reader", "clip")): 0.25 + 0.2,
        ("own_less_actors", ("reader", "clip")): -0.05,
        ("apart", ("reader", "clip")): 0.5 + 0.4 - 0.45 - 0.48,
        ("gain", ("reader", "actor")): 0.35,
        ("gain", ("reader", "empty")): 0.46,
        ("loop_adds", ("reader", "clip"), ("loop", "actor")): 0.1,
        ("loop_adds", ("reader", "clip"), ("loop", "active2")): -0.05,
        ("loop_adds_to_gain", ("reader", "clip"), ("loop", "actor")): 0.35 - 0.26,
        ("loop_adds_specifically", ("reader", "clip"), ("loop", "actor")): (0.5 - 0) - (0.45 - 0.2),
    }
    for (quantity, *where), value in expected.items():
        found = over_seeds(findings, quantity, **dict(where))
        assert found.estimate == pytest.approx(value, abs=0.02), (quantity, where)
        assert found.low is not None
        assert found.high is not None
        assert found.low - 0.01 <= value <= found.high + 0.01
        single = findings.select(quantity, point=100, seed=2, **dict(where))
        assert [f.estimate for f in single] == [pytest.approx(value, abs=0.03)]
    assert outcome(page, "learned", reader="clip") == "recognises"
    assert outcome(page, "specific_beyond_control", reader="clip") == "recognises"
    assert outcome(page, "loop_adds", reader="clip", loop="actor") == "adds"
    assert outcome(page, "loop_adds", reader="clip", loop="active2") == "adds nothing"
    assert "gains familiarity" in page.select("gain", reader="empty")[0].text
    assert page.select("own_less_actors", reader="clip")[0].verdict == "effect"


def test_without_familiarity_nothing_is_concluded_and_the_page_says_what_is_not_excluded(tmp_path: Path) -> None:
    outcomes: list[str] = []
    for draw in range(3):
        folder = tmp_path / str(draw)
        folder.mkdir()
        findings, page = analysed(folder, nothing, draw=draw)
        for quantity in ("familiarity", "learned", "specific", "own_less_actors", "apart", "gain", "loop_adds"):
            values = [f.estimate for f in findings.select(quantity, point=100, seed=MEAN)]
            assert values == pytest.approx([0.0] * len(values), abs=0.02), quantity
        outcomes += [s.outcome for s in page.statements if s.outcome]
        assert any("an effect of up to 0.0" in s.text for s in page.select("loop_adds"))
    assert len(outcomes) == 24
    assert outcomes.count("not decided") >= 20  # one interval in twenty misses, and some share a control


def test_the_seed_is_the_unit(tmp_path: Path) -> None:
    """A loop that adds much in two seeds and takes in the third: each seed is sure, and nothing is decided."""
    adds = {0: 0.0, 1: 0.3, 2: -0.25, 3: 0.2}
    findings, page = analysed(tmp_path, lambda r, a, seed: adds[seed] if (r, a) == ("actor", "actor") else 0.0)
    for seed in SEEDS:
        (single,) = findings.select("loop_adds", point=100, seed=seed, reader="clip", loop="actor")
        assert single.low is not None
        assert single.high is not None
        assert single.low > 0 or single.high < 0
    mean = over_seeds(findings, "loop_adds", reader="clip", loop="actor")
    wanted = mean_over_seeds([0.3, -0.25, 0.2])
    assert mean.estimate == pytest.approx(float(wanted.value), abs=0.01)
    assert mean.high == pytest.approx(float(wanted.high), abs=0.02)
    assert mean.n == 3
    statement = page.select("loop_adds", reader="clip", loop="actor")[0]
    assert statement.outcome == "not decided"
    assert f"up to {mean.high:.2f} is not excluded" in statement.text


def test_what_neutral_models_make_of_a_text_takes_ease_and_confidence_out(tmp_path: Path) -> None:
    """The arms' own cells change; what is familiar to a kin reader moves no other kin reader."""
    findings, _ = analysed(tmp_path, lambda r, a, seed: 2.0 if (r, a) == ("actor", "clip") else 0.0)
    assert over_seeds(findings, "familiarity", reader="actor", author="clip").estimate == pytest.approx(2, abs=0.02)
    assert over_seeds(findings, "familiarity", reader="clip", author="clip").estimate == pytest.approx(0, abs=0.02)
    assert over_seeds(findings, "familiarity", reader="actor", author="actor").estimate == pytest.approx(0, abs=0.02)


def test_an_arm_that_fails_the_gate_is_shown_and_concludes_nothing(tmp_path: Path) -> None:
    wreck = {("clip", "clip"): 1.2, ("clip", "actor"): 1.1, ("far", "actor"): 0.3}
    findings, page = analysed(tmp_path, lambda r, a, _: wreck.get((r, a), 0.0), cut=("clip",))
    assert over_seeds(findings, "familiarity", reader="clip", author="clip").estimate == pytest.approx(1.2, abs=0.02)
    assert [s.where["reader"] for s in page.select("learned")] == ["actor", "far", "copycat"]
    assert not page.select("loop_adds", reader="clip")
    (note,) = page.select("passes_gate", arm="clip")
    assert note.verdict == "left out"
    assert "ended 0.00 (gate 0.85)" in note.text
    shown = [cell.text for grid in page.grids for row in grid.cells for cell in row[:1]]
    assert "clip †" in shown


def test_nothing_is_concluded_from_an_actor_that_fails_the_gate(tmp_path: Path) -> None:
    _, page = analysed(tmp_path, nothing, cut=("actor",))
    assert [s.verdict for s in page.statements] == ["left out", "alarm"]


def test_one_seed_has_no_interval_and_no_conclusion(tmp_path: Path) -> None:
    arms = {arm: {point: models[:1] for point, models in of.items()} for arm, of in SETTINGS["arms"].items()}
    findings, page = analysed(tmp_path, nothing, settings=SETTINGS | {"arms": arms})
    assert over_seeds(findings, "loop_adds", reader="clip", loop="actor").low is None
    assert {s.outcome for s in page.statements if s.outcome} == {"not decided"}
    assert "one seed has no interval" in page.select("loop_adds", reader="clip", loop="actor")[0].text


def test_the_distance_from_the_start_is_what_the_start_finds_more_surprising(tmp_path: Path) -> None:
    found: dict[str, dict[float, float]] = {"distance_from_start": {}, "own_entropy": {}}
    for familiar in (0.0, 0.5):
        folder = tmp_path / str(familiar)
        folder.mkdir()
        findings, _ = analysed(folder, lambda r, a, _, f=familiar: {("clip", "clip"): f}.get((r, a), 0.0))
        for quantity, values in found.items():
            one = findings.one(quantity, point=100, seed=1, arm="clip")
            assert one is not None
            assert one.estimate is not None
            values[familiar] = one.estimate
    far, own = found.values()
    assert far[0.5] - far[0.0] == pytest.approx(own[0.0] - own[0.5])  # surprisal is entropy in this run
    assert own[0.0] - own[0.5] > 0.1


def test_kin_pairs_are_arms_starts_and_families(tmp_path: Path) -> None:
    settings = Thesis.model_validate(SETTINGS)
    last = list(panels(settings.arms, settings.neutral, settings.akin))[-1]
    assert (last.seed, last.point) == (3, 100)
    kin, at = last.kin_pairs(), {model: i for i, model in enumerate(last.members)}
    assert kin.diagonal().all()
    for reader, author, wanted in (
        ("actor-3", "clip-3", True),
        ("actor-3", "ash2", True),
        ("birch-x", "birch-y", True),
        ("birch-x", "cedar-x", False),
        ("clip-3", "birch-x", False),
        ("far-3", "birch-x", True),
        ("birch", "birch-y", True),
        ("far-3", "cedar-x", False),
    ):
        assert kin[at[reader], at[author]] == kin[at[author], at[reader]] == wanted, (reader, author)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"twins": ["nobody"]}, "no arm is called nobody"),
        ({"neutral": {"birch": ["birch-x"]}}, "two neutral families"),
        ({"akin": {"far": ["birch", "cedar"]}}, "far is akin to every neutral family"),
        ({"arms": {**SETTINGS["arms"], "clip": {0: ["ash2"], 100: ["clip-1"]}}}, "one model for each seed"),
    ],
)
def test_arms_that_cannot_be_compared_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    study = study_of(tmp_path)
    with pytest.raises(StudyError, match=message):
        plan(study.model_copy(update={"experiments": {"thesis": SETTINGS | changes}}))


def test_a_model_that_the_study_does_not_have_is_refused(tmp_path: Path) -> None:
    arms = SETTINGS["arms"] | {"clip": {0: ["ash2"] * 3, 100: ["clip-9"] * 3}}
    with pytest.raises(StudyError, match="clip-9 is not among"):
        plan(study_of(tmp_path).model_copy(update={"experiments": {"thesis": SETTINGS | {"arms": arms}}}))


def test_the_shipped_study_can_be_planned() -> None:
    study = load_study(Path(__file__).parent.parent / "studies" / "thesis.yaml")
    made, settings = plan(study), Thesis.model_validate(study.experiments["thesis"])
    assert {cell.reader for cell in made.cells} == set(study.models)
    for panel in panels(settings.arms, settings.neutral, settings.akin):
        assert panel.starts["actor"] == panel.starts["other"] != panel.starts["clip"]  # roles are swapped
        assert panel.arms["other"] != panel.arms["active2"] or panel.point == 0


def test_the_shipped_study_names_what_its_script_trains() -> None:
    from studies import thesis as script

    study = load_study(Path(__file__).parent.parent / "studies" / "thesis.yaml")
    settings, shares = Thesis.model_validate(study.experiments["thesis"]), script.recipe_of(1, 100).snapshots()
    for arm, trained in script.ARMS.items():
        points = settings.arms[arm]
        assert points[0] == tuple(trained.starts[seed] for seed in script.SEEDS)
        for point in sorted(points)[1:]:
            for seed, model in zip(script.SEEDS, points[point], strict=True):
                path = Path(study.models[model].model)
                assert (path.parent.name, path.name) == (f"{arm}-{seed}", f"{point:03}")
                assert path.name in shares.values()
    others = [script.ARMS["sft-other"].source(seed) for seed in script.SEEDS]
    assert settings.arms["other"][100] == tuple(others)
    assert [script.ACTOR_START[seed] for seed in script.SEEDS] == list(settings.arms["other"][0])


def test_wordings_of_two_writers_lie_apart_and_of_one_as_far_as_chance_has_it() -> None:
    def text(voice: Voice, seed: int) -> list[Passage]:
        rng = np.random.default_rng(seed)
        return [tiny.passage(tell(voice, rng).text, name=f"x{i}") for i in range(40)]

    one, another = Voice(1.8, np.random.default_rng(1)), Voice(1.8, np.random.default_rng(2))
    rng = np.random.default_rng(0)
    found, floor = choices.distance(text(one, 1), text(one, 2), rng)
    assert found == pytest.approx(floor, abs=0.03)
    far, floor = choices.distance(text(one, 1), text(another, 2), rng)
    assert far > 2 * floor
    assert choices.distance(text(one, 1), text(one, 1), rng) == (0, 0)


def test_quality_is_that_of_the_worlds_grammar() -> None:
    rng = np.random.default_rng(0)
    good = tiny.passage(tell(Voice(1.0, rng), rng).text)
    assert choices.quality([good], in_world=True) == {"ended": 1, "well_formed": 1, "complete": 1}
    bad = tiny.passage("but and and the the", ended=False)
    measured = choices.quality([good, bad], in_world=True)
    assert measured["ended"] == measured["well_formed"] == 0.5
    assert choices.fails(measured, {"ended": 0.9, "well_formed": 0.4}) == ["ended 0.50 (gate 0.9)"]
    assert choices.quality([bad], in_world=False) == {"ended": 0}
