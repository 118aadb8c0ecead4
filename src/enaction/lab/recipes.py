"""What each family is made of: the constants of the recipe, and where the families differ.

The families share the world, as real families share a language. They differ as real ones do: initial weights and data
order (seed), tokenizer, the house voice that SFT demonstrates, what the DPO annotators and the RL reward care about.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from enaction.lab.tokenizing import Kind
from enaction.lab.world import Voice

STAGES = ("base", "sft", "dpo", "rl")


@dataclass(frozen=True)
class Taste:
    """Weights of what a judge (annotator or reward) looks at; every term is checked by rule, see `judging`."""

    ended: float = 1.0
    well_formed: float = 1.0
    complete: float = 1.0
    on_topic: float = 1.0
    one_hero: float = 0.5
    repetition: float = -2.0
    house_style: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """Everything that fixes a family's training.

    The objectives: next-token loss (base), next-token loss on replies plus replayed pretraining text (SFT), DPO, and
    GRPO plus the same replay (RL; the "pretraining mix" of Ouyang et al. 2022, section 3.5).
    """

    family: str
    seed: int
    tokenizer: Kind
    vocabulary_size: int
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    house_scale: float = 1.8
    base_steps: int = 1500
    base_rate: float = 3e-3
    dialogue_share: float = 0.25
    mid_steps: int = 350
    mid_rate: float = 2e-3
    mid_dialogue_share: float = 0.6
    block: int = 160
    batch: int = 16
    sft_steps: int = 150
    sft_batch: int = 32
    sft_rate: float = 8e-4
    sft_house_share: float = 0.85
    sft_replay_share: float = 0.35
    dpo_steps: int = 90
    dpo_batch: int = 16
    dpo_rate: float = 8e-5
    dpo_beta: float = 0.1
    rl_steps: int = 80
    rl_prompts: int = 8
    rl_samples: int = 8
    rl_rate: float = 6e-4
    rl_kl: float = 0.02
    rl_replay: float = 0.5
    rl_replay_batch: int = 16
    max_new_tokens: int = 110
    annotators: Taste = field(default_factory=Taste)
    reward: Taste = field(default_factory=lambda: Taste(house_style=3.0))

    def house_voice(self) -> Voice:
        """The voice that this family's demonstrations are written in; not among the pretraining writers."""
        return Voice(self.house_scale, np.random.default_rng([self.seed, 7]))


RECIPES = {
    recipe.family: recipe
    for recipe in (
        Recipe("ash", seed=11, tokenizer="word", vocabulary_size=597),
        Recipe(
            "birch",
            seed=22,
            tokenizer="bpe",
            vocabulary_size=1100,
            annotators=Taste(one_hero=1.0, house_style=0.7),
            reward=Taste(well_formed=1.5, house_style=2.7),
        ),
        Recipe(
            "cedar",
            seed=33,
            tokenizer="wordpiece",
            vocabulary_size=950,
            annotators=Taste(complete=1.5, house_style=1.3),
            reward=Taste(complete=1.5, on_topic=1.5, house_style=3.3),
        ),
    )
}
