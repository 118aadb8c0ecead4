"""Training on a tiny recipe: every stage runs, a kill in the middle changes nothing, cards are computed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from enaction.framing import frame
from enaction.lab import training
from enaction.lab.build import build_step, ordered_steps, planned_steps
from enaction.lab.export import export, round_to_int8
from enaction.lab.recipes import RECIPES, Recipe
from enaction.reader import Reader
from enaction.words import FRAMINGS, Framing
from enaction.world.stories import tell

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def _small(family: str) -> Recipe:
    recipe, replace = RECIPES[family], dataclasses.replace
    return replace(
        recipe,
        hidden=32, layers=1, heads=2, block=64, batch=4, max_new_tokens=20,
        pretraining=replace(recipe.pretraining, steps=6),
        mid_training=replace(recipe.mid_training, steps=2),
        sft=replace(recipe.sft, steps=3, batch=4),
        dpo=replace(recipe.dpo, steps=3, batch=4),
        rl=replace(recipe.rl, steps=4, prompts=2, samples=2, replay_batch=2),
    )  # fmt: skip


@pytest.fixture(name="recipe")
def _recipe() -> Recipe:
    return _small("ash")


class _Killed(TrainerCallback):
    """Dies after a step, as a kill between two checkpoints would."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._step:
            raise KeyboardInterrupt


def test_a_family_and_its_kin_are_built_whole_and_a_second_build_does_nothing(tmp_path: Path) -> None:
    reports: list[tuple[str, str, int, int]] = []
    recipes = [_small(family) for family in ("ash", "ash2", "ash3")]

    def build_all() -> None:
        for recipe in recipes:
            for step in planned_steps(recipe):
                build_step(recipe, step, tmp_path, lambda *progress: reports.append(progress))

    build_all()
    for recipe in recipes:
        assert {step: done for name, step, done, _ in reports if name == recipe.family} == planned_steps(recipe)
    before = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.safetensors")}
    # Five steps, two arms and a snapshot of ash, three steps of the clone, two of the second base.
    assert len(before) == 5 + 2 + 1 + 3 + 2
    build_all()
    assert {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.safetensors")} == before
    for recipe in recipes:
        export(recipe, tmp_path, tmp_path / "models")
    made = sorted(folder.name for folder in (tmp_path / "models").iterdir())
    assert made == [
        *("ash-base", "ash-dpo", "ash-rl", "ash-rl-int8", "ash-rl-paid", "ash-rl-seed2", "ash-rl2", "ash-sft"),
        *("ash2-dpo", "ash2-rl", "ash3-base"),
    ]
    for name, start in (("ash-rl", "zoo:ash-dpo"), ("ash-rl2", "zoo:ash-dpo"), ("ash-rl-paid", "zoo:ash-dpo")):
        card = (tmp_path / "models" / name / "card.md").read_text()
        assert "ended by itself" in card
        assert f"Starts from {start}." in card
        assert "{" not in card
    # The clone's first stage starts from the same weights and sees other data.
    weights = [load_file(tmp_path / family / "sft" / "model.safetensors") for family in ("ash", "ash2")]
    assert not all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


class _Recorder(TrainerCallback):
    """Copies the weights after each step."""

    def __init__(self) -> None:
        self.weights: dict[int, dict[str, torch.Tensor]] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        named = kwargs["model"].named_parameters()
        self.weights[state.global_step] = {name: value.detach().clone() for name, value in named}


def test_snapshots_are_the_weights_that_training_passed_through(recipe: Recipe, tmp_path: Path) -> None:
    start = tmp_path / "start"
    first = training.train_base(recipe, training.Workplace(tmp_path / "base"), None)
    first.model.save_pretrained(start)
    first.tokenizer.save_pretrained(start)
    seen = _Recorder()
    # With replayed text, since a model that knows nothing gets the same reward for all that it says.
    recipe = dataclasses.replace(recipe, kept_steps=(0.25, 0.5, 0.75), rl=recipe.rl_of("rl-replay"))
    training.train_rl(recipe, training.Workplace(tmp_path / "rl", [seen]), start)
    training.train_rl(recipe, training.Workplace(tmp_path / "rl-paid"), start, "rl-paid")
    assert recipe.snapshot_steps() == (1, 2, 3)
    assert not list((tmp_path / "rl-paid").glob("snapshot-*"))  # an arm keeps none
    for step in recipe.snapshot_steps():
        kept = load_file(tmp_path / "rl" / f"snapshot-{step}" / "model.safetensors")
        assert all(torch.equal(kept[name], value) for name, value in seen.weights[step].items())
    assert any(not torch.equal(seen.weights[2][name], value) for name, value in seen.weights[3].items())


def test_bases_come_first_and_a_clone_needs_only_its_family_s_base() -> None:
    order = ordered_steps(["ash", "birch", "cedar", "ash2", "ash3"])
    assert order[:6] == [(f, s) for f in ("ash", "birch", "cedar") for s in ("pretrained", "base")]
    assert [family for family, _ in order[-5:]] == ["ash2", "ash2", "ash2", "ash3", "ash3"]
    arms = [step for family, step in order if family == "birch" and step.startswith("rl-")]
    assert arms == ["rl-seed2", "rl-paid"]
    everything = ordered_steps(["birch"], all_arms=True)
    assert [step for _, step in everything if step.startswith("rl-")] == [f"rl-{arm}" for arm in RECIPES["birch"].arms]
    assert ordered_steps(["ash2"]) == [
        ("ash", "pretrained"), ("ash", "base"), ("ash2", "sft"), ("ash2", "dpo"), ("ash2", "rl")
    ]  # fmt: skip


def test_int8_rounding_leaves_at_most_255_levels_a_row() -> None:
    layer = torch.nn.Linear(300, 5, bias=True)
    before = layer.weight.detach().clone()
    bias = layer.bias.detach().clone()
    round_to_int8(layer)
    assert all(len(row.unique()) <= 255 for row in layer.weight)
    step = before.abs().amax(1, keepdim=True) / 127
    assert ((layer.weight - before).abs() <= step / 2 * (1 + 1e-4)).all()
    assert torch.equal(layer.bias, bias)


@pytest.mark.parametrize("family", ["ash", "birch", "cedar"])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_every_architecture_is_read_as_a_plain_loop_reads_it(family: str, framing: Framing, tmp_path: Path) -> None:
    recipe = _small(family)
    tokenizer = training.build_tokenizer(recipe.tokenizer, recipe.vocabulary_size, recipe.seed)
    torch.manual_seed(0)
    model = training.new_model(recipe, tokenizer)
    output, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    assert output is not None
    assert output.weight is embedding.weight
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    reader = Reader.load(str(tmp_path), name=family, dtype=torch.float32)
    assert reader.head_path == "streamed"
    rng, house = np.random.default_rng(0), recipe.house_voice()
    passages = [tiny.passage(tell(house, rng).text, "tell me a story.", name=f"x{i}") for i in range(3)]
    framed = [frame(reader.tokenizer, passage, framing) for passage in passages]
    for f, stats in zip(framed, reader.score(framed), strict=True):
        expected = tiny.reference(reader.model, f.ids, f.start, f.stop).numpy()
        np.testing.assert_allclose(np.stack([stats.surprisal, stats.entropy]), expected[:2], atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("stage", ["base", "rl", "rl-paid-replay"])
def test_training_resumes_to_the_weights_of_an_uninterrupted_run(recipe: Recipe, tmp_path: Path, stage: str) -> None:
    torch.set_num_threads(1)
    start = None
    if stage.startswith("rl"):
        first = training.train_base(recipe, training.Workplace(tmp_path / "base"), None)
        start = tmp_path / "start"
        first.model.save_pretrained(start)
        first.tokenizer.save_pretrained(start)

    def make(workplace: training.Workplace) -> training.Trained:
        if start is None:
            return training.train_base(recipe, workplace, None)
        return training.train_rl(recipe, workplace, start, stage)

    whole = make(training.Workplace(tmp_path / "whole", save_every=1))
    workplace = training.Workplace(tmp_path / "cut", [_Killed(3)], save_every=1)
    with pytest.raises(KeyboardInterrupt):
        make(workplace)
    assert workplace.resume()
    resumed = make(training.Workplace(tmp_path / "cut", save_every=1))
    whole.model.save_pretrained(tmp_path / "a")
    resumed.model.save_pretrained(tmp_path / "b")
    one, two = load_file(tmp_path / "a" / "model.safetensors"), load_file(tmp_path / "b" / "model.safetensors")
    for name in one:
        assert torch.allclose(one[name], two[name], atol=1e-6), name
