"""Training on a tiny recipe: every stage runs, a kill in the middle changes nothing, cards are computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from enaction.lab import training
from enaction.lab.build import STEPS, build_family, planned_steps
from enaction.lab.export import export
from enaction.lab.recipes import RECIPES, Recipe

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(name="recipe")
def _recipe() -> Recipe:
    return dataclasses.replace(
        RECIPES["ash"], hidden=32, layers=1, heads=2, base_steps=6, mid_steps=2, sft_steps=3, dpo_steps=3, rl_steps=4,
        rl_prompts=2, rl_samples=2, block=64, batch=4, sft_batch=4, dpo_batch=4, rl_replay_batch=2, max_new_tokens=20,
    )  # fmt: skip


class _Killed(TrainerCallback):
    """Dies after a step, as a kill between two checkpoints would."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._step:
            raise KeyboardInterrupt


def test_a_family_is_built_whole_and_a_second_build_does_nothing(recipe: Recipe, tmp_path: Path) -> None:
    reports: list[tuple[str, str, int, int]] = []
    build_family(recipe, tmp_path, lambda *what: reports.append(what))
    last = {step: done for _, step, done, _ in reports}
    assert last == planned_steps(recipe)
    before = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.safetensors")}
    assert len(before) == len(STEPS)
    build_family(recipe, tmp_path, lambda *what: None)
    assert {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.safetensors")} == before
    export(recipe, tmp_path, tmp_path / "models")
    card = (tmp_path / "models" / "ash-rl" / "card.md").read_text()
    assert "ended by itself" in card
    assert "{" not in card


@pytest.mark.parametrize("stage", ["base", "rl"])
def test_training_resumes_to_the_weights_of_an_uninterrupted_run(recipe: Recipe, tmp_path: Path, stage: str) -> None:
    torch.set_num_threads(1)
    start = None
    make: Callable[..., training.Trained] = training.train_base
    if stage == "rl":
        first = training.train_base(recipe, training.Workplace(tmp_path / "base"), None)
        start, make = tmp_path / "start", training.train_rl
        first.model.save_pretrained(start)
        first.tokenizer.save_pretrained(start)
    whole = make(recipe, training.Workplace(tmp_path / "whole", save_every=1), start)
    place = training.Workplace(tmp_path / "cut", [_Killed(3)], save_every=1)
    with pytest.raises(KeyboardInterrupt):
        make(recipe, place, start)
    assert place.resume()
    resumed = make(recipe, training.Workplace(tmp_path / "cut", save_every=1), start)
    whole.model.save_pretrained(tmp_path / "a")
    resumed.model.save_pretrained(tmp_path / "b")
    one, two = load_file(tmp_path / "a" / "model.safetensors"), load_file(tmp_path / "b" / "model.safetensors")
    for name in one:
        assert torch.allclose(one[name], two[name], atol=1e-6), name
