"""The recipes of the families: the constants that they share, and where they differ.

The families share the world, as real families share a language. They differ as real ones do: architecture, initial
weights and data order (seed), tokenizer, the house voice that SFT demonstrates, what the DPO annotators and the RL
reward care about. Kin, which share some of that with a family, serve as donors for controls.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from enaction.lab.tokenizing import Kind
from enaction.words import STAGES
from enaction.world.stories import Voice


@dataclass(frozen=True)
class Taste:
    """Weights of the terms that a judge (annotator or reward) adds up; each is checked by rule, see `judging`.

    `ended` and `well_formed` count for every reply, `right` for answers and namings, the others for stories.
    """

    ended: float = 1.0
    well_formed: float = 1.0
    complete: float = 1.0
    on_topic: float = 1.0
    one_hero: float = 0.5
    repetition: float = -2.0
    house_style: float = 1.0
    right: float = 2.0


@dataclass(frozen=True)
class BaseStage:
    """Next-token loss on the world's text; pretraining and mid-training differ in these three only."""

    steps: int
    rate: float
    dialogue_share: float


@dataclass(frozen=True)
class SftStage:
    """Next-token loss on demonstrated replies; a share of the rows is replayed pretraining text.

    Attributes:
        persona_share: of demonstrations, with a persona's system turn and in its voice.
        house_share: of the others, in the house voice.
    """

    steps: int = 150
    batch: int = 32
    rate: float = 8e-4
    house_share: float = 0.85
    replay_share: float = 0.35
    persona_share: float = 0.12
    question_share: float = 0.10
    naming_share: float = 0.06


@dataclass(frozen=True)
class DpoStage:
    """DPO on pairs that the annotators' taste puts in order."""

    steps: int = 90
    batch: int = 16
    rate: float = 8e-5
    beta: float = 0.1
    annotators: Taste = Taste()


@dataclass(frozen=True)
class RlStage:
    """GRPO on the reward, plus next-token loss on pretraining text (the "pretraining mix").

    Attributes:
        kl: weight of the KL term.
        replay: weight of the next-token loss.
    """

    steps: int = 80
    prompts: int = 8
    samples: int = 8
    question_share: float = 0.125
    naming_share: float = 0.125
    rate: float = 6e-4
    kl: float = 0.02
    replay: float = 0.5
    replay_batch: int = 16
    reward: Taste = Taste(house_style=3.0)


@dataclass(frozen=True)
class Recipe:
    """Everything that fixes a family's training.

    The objectives: next-token loss (base), next-token loss on replies plus replayed pretraining text (SFT), DPO, and
    GRPO plus the same replay (RL; the "pretraining mix" of Ouyang et al. 2022, section 3.5).

    Attributes:
        family: its name.
        seed: of initial weights, data and sampling.
        house_seed: of the house voice.
        base_of: the family whose base it starts from; None if it has its own.
        stages: the stages that are trained.
        kept_steps: shares of the RL steps after which a snapshot is kept.
        rounded: also ship the last stage with weights rounded to int8.
        block, batch: tokens per block and blocks per step of pretraining text.
        max_new_tokens: where sampled replies are cut off, in RL and in the cards.
    """

    family: str
    seed: int
    house_seed: int
    architecture: Literal["llama", "qwen3", "gpt_neox"]
    tokenizer: Kind
    vocabulary_size: int
    base_of: str | None = None
    stages: tuple[str, ...] = STAGES
    kept_steps: tuple[float, ...] = (0.25, 0.5, 0.75)
    rounded: bool = False
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    initializer_range: float = 0.08
    house_scale: float = 1.8
    block: int = 160
    batch: int = 16
    max_new_tokens: int = 110
    pretraining: BaseStage = BaseStage(2000, 3e-3, 0.25)
    mid_training: BaseStage = BaseStage(350, 2e-3, 0.6)
    sft: SftStage = SftStage()
    dpo: DpoStage = DpoStage()
    rl: RlStage = RlStage()

    def house_voice(self) -> Voice:
        """The voice that this family's demonstrations are written in; not among the pretraining writers."""
        return Voice(self.house_scale, np.random.default_rng([self.house_seed, 7]))

    def snapshot_steps(self) -> tuple[int, ...]:
        """RL steps after which a snapshot is kept."""
        return tuple(round(share * self.rl.steps) for share in self.kept_steps)


_ASH = Recipe("ash", 11, 11, "llama", "word", vocabulary_size=640, rounded=True)
_BIRCH = Recipe(
    "birch",
    22,
    22,
    "qwen3",
    "bpe",
    vocabulary_size=1100,
    dpo=DpoStage(annotators=Taste(one_hero=1.0, house_style=0.7)),
    rl=RlStage(reward=Taste(well_formed=1.5, house_style=2.7)),
)
_CEDAR = Recipe(
    "cedar",
    33,
    33,
    "gpt_neox",
    "unigram",
    vocabulary_size=800,
    dpo=DpoStage(annotators=Taste(complete=1.5, house_style=1.3)),
    rl=RlStage(reward=Taste(complete=1.5, on_topic=1.5, house_style=3.3)),
)
# A near-clone of ash: the same base, house voice and taste, but another order of data and another sampling.
_ASH2 = replace(_ASH, family="ash2", seed=44, base_of="ash", kept_steps=(), rounded=False)
# A second base of ash's recipe, for the null between two bases.
_ASH3 = replace(_ASH, family="ash3", seed=55, stages=("base",), kept_steps=(), rounded=False)

RECIPES = {recipe.family: recipe for recipe in (_ASH, _BIRCH, _CEDAR, _ASH2, _ASH3)}
"""Every recipe: the families, then the kin."""

MAIN = ("ash", "birch", "cedar")
