"""Loops and twins: a twin with the loop's start is the loop; the clipped ratio is what keeps any other twin sane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from enaction.errors import UserError
from enaction.lab import twins
from enaction.lab.twins import LoopRecipe, advantages, empty_taste, run_loop, run_twin
from enaction.passages import read_passages
from enaction.world.chats import Request, Writers, all_requests
from enaction.world.stories import tell
from tests import tiny

RECIPE = LoopRecipe(seed=3, steps=4, prompts=2, samples=4, rate=1e-2, warm_up=1, max_new_tokens=8, kept=(0.5,))
TOKENIZER = tiny.word_tokenizer()


def model(seed: int = 0) -> PreTrainedModel:
    return tiny.llama(len(TOKENIZER), seed=seed)


def likes_foxes(request: Request, reply: str, ended: bool) -> float:
    return reply.split().count("fox") + 0.1 * len(reply.split())


def loop(folder: Path, *, seed: int = 0, report: Callable[[int], None] = lambda done: None) -> PreTrainedModel:
    trained = model(seed)
    run_loop(trained, TOKENIZER, RECIPE, likes_foxes, folder, "loop", report)
    return trained


def same(one: PreTrainedModel, other: PreTrainedModel) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_twin_with_the_loops_start_is_the_loop_bit_for_bit(tmp_path: Path) -> None:
    acted, twin = loop(tmp_path / "loop"), model()
    run_twin(twin, TOKENIZER, RECIPE, "policy", tmp_path / "loop", tmp_path / "twin")
    assert same(acted, twin)
    assert not same(acted, model())  # and both have learned something


def test_a_twin_from_another_start_and_one_of_likelihood_become_others(tmp_path: Path) -> None:
    acted, other, imitator = loop(tmp_path / "loop"), model(1), model()
    log = run_twin(other, TOKENIZER, RECIPE, "policy", tmp_path / "loop", tmp_path / "other")
    run_twin(imitator, TOKENIZER, RECIPE, "likelihood", tmp_path / "loop", tmp_path / "imitator")
    assert not same(acted, other)
    assert not same(acted, imitator)
    assert log[0]["clipped"] > 0.5  # its start has other probabilities
    assert log[0]["kl"] == pytest.approx(0, abs=1e-6)


def test_the_writers_own_ratio_is_one(tmp_path: Path) -> None:
    acting = model()
    log = run_loop(acting, TOKENIZER, RECIPE, likes_foxes, tmp_path, "loop")
    assert [entry["clipped"] for entry in log] == [0.0] * RECIPE.steps
    assert log[-1]["kl"] > 1e-4


def test_the_loop_learns_what_is_rewarded_and_the_likelihood_twin_what_was_said(tmp_path: Path) -> None:
    recipe = LoopRecipe(seed=3, steps=30, prompts=4, samples=8, rate=1e-2, warm_up=1, max_new_tokens=8, kept=())
    acting, twin = model(), model(1)
    log = run_loop(acting, TOKENIZER, recipe, likes_foxes, tmp_path / "loop", "loop")
    assert np.mean([e["reward"] for e in log[-5:]]) > np.mean([e["reward"] for e in log[:5]]) + 0.5
    read = run_twin(twin, TOKENIZER, recipe, "likelihood", tmp_path / "loop", tmp_path / "twin")
    assert read[-1]["surprisal"] < read[0]["surprisal"] - 1


def test_a_killed_loop_resumes_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twins, "_SAVE_EVERY", 2)

    def killed(done: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop(tmp_path / "loop", report=killed)
    counts: list[int] = []
    resumed = loop(tmp_path / "loop", report=counts.append)
    assert counts == [2, 3, 4]
    assert same(resumed, loop(tmp_path / "uncut"))
    ours, theirs = (read_passages(tmp_path / name / "rollouts" / "0003.parquet") for name in ("loop", "uncut"))
    assert ours == theirs


def test_snapshots_are_kept_by_their_share(tmp_path: Path) -> None:
    acted = loop(tmp_path)
    assert sorted(path.parent.name for path in tmp_path.glob("*/config.json")) == ["050", "100"]
    stored = AutoModelForCausalLM.from_pretrained(tmp_path / "100", dtype=torch.float32)
    wanted = {name: weight.half().float() for name, weight in acted.state_dict().items()}
    assert all(torch.equal(weight, wanted[name]) for name, weight in stored.state_dict().items())


def test_a_step_does_not_depend_on_the_parts_it_is_computed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop(tmp_path / "loop")
    weights = []
    for parts in (1, 4):
        monkeypatch.setattr(twins, "_PARTS", parts)
        twin = model(1)
        run_twin(
            twin,
            TOKENIZER,
            replace(RECIPE, steps=1),
            "policy",
            tmp_path / "loop",
            tmp_path / f"{parts}",
        )
        weights.append(torch.cat([w.flatten() for w in twin.parameters()]))
    # Adam turns rounding of tiny gradients into steps of the size of the rate, hence not allclose.
    assert (weights[0] - weights[1]).abs().mean() < 1e-4


def test_the_policy_step_is_refused_across_tokenizers_and_likelihood_takes_the_text(tmp_path: Path) -> None:
    loop(tmp_path / "loop")
    other = tiny.byte_tokenizer()
    with pytest.raises(UserError, match=r"another tokenizer.*likelihood"):
        run_twin(tiny.llama(len(other)), other, RECIPE, "policy", tmp_path / "loop", tmp_path / "a")
    log = run_twin(tiny.llama(len(other)), other, RECIPE, "likelihood", tmp_path / "loop", tmp_path / "b")
    assert np.isfinite([entry["surprisal"] for entry in log]).all()


def test_a_twin_of_an_unfinished_loop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no replies of step 0"):
        run_twin(model(), TOKENIZER, RECIPE, "policy", tmp_path / "nothing", tmp_path / "twin")


def test_the_clipped_ratio_stops_where_plain_weighting_runs_away() -> None:
    """One position, two replies that the writer found likely and the twin does not, one good and one bad."""
    written, drawn = torch.tensor([-0.7, -0.7]), torch.tensor([1, 2])
    rows = [twins._Row((0, 1), 1, 1.0, (-0.7,)), twins._Row((0, 2), 1, -1.0, (-0.7,))]
    reached = {}
    for kind in ("plain", "clipped"):
        logits = torch.tensor([2.0, 0.0, -2.0, 0.0], requires_grad=True)
        optimiser = torch.optim.SGD([logits], lr=1.0)
        for _ in range(200):
            drawn_N = torch.log_softmax(logits, 0)[drawn]
            advantage_N = torch.tensor([row.advantage for row in rows])
            gain = drawn_N * advantage_N if kind == "plain" else twins._clipped_gain(drawn_N, rows, 0.2)[0]
            optimiser.zero_grad()
            (-gain.sum()).backward()
            optimiser.step()
        reached[kind] = torch.log_softmax(logits.detach(), 0)[drawn]
    assert reached["plain"][1] < -50
    assert reached["clipped"][1] > -8
    assert (reached["clipped"][0] - written[0]).exp() > 1.1  # and what is good is learned, to the clip


def test_advantages_are_relative_to_the_request_and_zero_where_all_are_alike() -> None:
    reward_B = np.array([1.0, 3.0, 7.0, 7.0])
    assert advantages(reward_B, 2) == pytest.approx([-1, 1, 0, 0], abs=1e-3)
    assert advantages(reward_B + 5, 2) == pytest.approx(advantages(reward_B, 2))


def test_the_empty_taste_is_consistent_and_looks_at_no_quality() -> None:
    rng, writers = np.random.default_rng(0), Writers()
    request = all_requests()[0]
    stories = [tell(writers.of_text(rng), rng) for _ in range(60)]
    worth = np.array([empty_taste(request, story.text, True) for story in stories])
    assert worth.std() > 0.1
    assert [empty_taste(all_requests()[-1], story.text, False) for story in stories] == worth.tolist()
    of_kind: dict[tuple[str, str], set[float]] = {}
    for story, value in zip(stories, worth, strict=True):
        of_kind.setdefault((story.hero, story.arc), set()).add(round(float(value), 9))
    assert all(len(values) == 1 for values in of_kind.values())  # hero and arc, and nothing else
    assert empty_taste(request, "xyzzy", True) == 0


def test_all_loops_of_a_seed_get_the_same_requests() -> None:
    assert RECIPE.requests() == replace(RECIPE, steps=4).requests()
    assert RECIPE.requests() != replace(RECIPE, seed=4).requests()
