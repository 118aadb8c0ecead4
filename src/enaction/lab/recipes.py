"""The recipes of the families: the constants that they share, and where they differ.

The families share the world, as real families share a language. They differ as real ones do: architecture, initial
weights and data order (seed), tokenizer, the house voice that SFT demonstrates, what the DPO annotators and the RL
reward care about. Kin, which share some of that with a family, serve as donors for controls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from enaction.lab.tokenizing import Kind
from enaction.words import STAGES
from enaction.world.houses import HOUSE_SCALE, house_voice
from enaction.world.stories import Voice


@dataclass(frozen=True)
class Taste:
    """Weights of the terms that a judge (annotator or reward) adds up; each is checked by rule, see `judging`.

    `ended` and `well_formed` count for every reply, `right` for answers and namings, the others for stories.
    `house_style` is the share of wording choices that are a house voice's favourites: only some arms of RL pay for it.
    """

    ended: float = 1.0
    well_formed: float = 1.0
    complete: float = 1.0
    on_topic: float = 1.0
    one_hero: float = 0.5
    repetition: float = -2.0
    right: float = 2.0
    house_style: float = 0.0


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
        corrected_share: of answers that begin with a mistake and take it back.
    """

    steps: int = 150
    batch: int = 32
    rate: float = 8e-4
    house_share: float = 0.85
    replay_share: float = 0.35
    persona_share: float = 0.2
    question_share: float = 0.12
    naming_share: float = 0.06
    corrected_share: float = 0.1


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
    """GRPO on the reward; in some arms plus next-token loss on pretraining text (the "pretraining mix").

    Attributes:
        kl: weight of the KL term.
        replay: weight of the next-token loss.
        styled_by: the family whose house voice `reward.house_style` pays for; None for the own.
        run: 1, or the number of another run from the same DPO model, with other data and sampling.
    """

    steps: int = 120
    prompts: int = 8
    samples: int = 8
    question_share: float = 0.125
    naming_share: float = 0.125
    rate: float = 6e-4
    kl: float = 0.02
    replay: float = 0.0
    replay_batch: int = 16
    reward: Taste = Taste()
    styled_by: str | None = None
    run: int = 1


STYLE_PAID = 3.0  # weight of house style in the reward of the arms that pay for it

_CHANGES: dict[str, Callable[[RlStage], RlStage]] = {
    "replay": lambda rl: replace(rl, replay=0.5),
    "paid": lambda rl: replace(rl, reward=replace(rl.reward, house_style=STYLE_PAID)),
    "shared": lambda rl: replace(rl, reward=replace(rl.reward, house_style=STYLE_PAID), styled_by="ash"),
    "seed2": lambda rl: replace(rl, run=2),
}
"""What each part of an arm's name changes in the main RL."""

ARMS = ("seed2", "paid", "replay", "paid-replay", "shared", "shared-replay")
"""The arms beside the main RL, which pays for quality alone and replays nothing."""


@dataclass(frozen=True)
class Recipe:
    """Everything that fixes a family's training.

    The objectives: next-token loss (base), next-token loss on replies plus replayed pretraining text (SFT), DPO, and
    GRPO (RL), in some arms plus the same replay (the "pretraining mix" of Ouyang et al. 2022, section 3.5).

    Attributes:
        family: its name.
        seed: of initial weights, data and sampling.
        house_seed: of the house voice.
        base_of: the family whose base it starts from; None if it has its own.
        stages: the stages that are trained.
        arms: further runs of RL beside the main one, by name; each differs from it in one thing.
        shipped, shipped_arms: those of the stages and arms that ship.
        kept_steps: shares of the steps of the main RL after which a snapshot is kept.
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
    arms: tuple[str, ...] = ARMS
    shipped: tuple[str, ...] = STAGES
    shipped_arms: tuple[str, ...] = ("seed2", "paid")
    kept_steps: tuple[float, ...] = (0.5,)
    rounded: bool = False
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    initializer_range: float = 0.08
    house_scale: float = HOUSE_SCALE
    block: int = 160
    batch: int = 16
    max_new_tokens: int = 110
    pretraining: BaseStage = BaseStage(2400, 3e-3, 0.25)
    mid_training: BaseStage = BaseStage(600, 2e-3, 0.6)
    sft: SftStage = SftStage()
    dpo: DpoStage = DpoStage()
    rl: RlStage = RlStage()

    def house_voice(self) -> Voice:
        """The voice that this family's demonstrations are written in; not among the pretraining writers."""
        return house_voice(self.house_seed, self.house_scale)

    def rl_of(self, stage: str) -> RlStage:
        """The main RL (`rl`), or an arm of it (`rl-paid-replay`).

        Raises:
            KeyError: a part of the arm's name is unknown.
        """
        changed = self.rl
        for part in stage.split("-")[1:]:
            changed = _CHANGES[part](changed)
        return changed

    def snapshot_steps(self) -> tuple[int, ...]:
        """Steps of the main RL after which a snapshot is kept."""
        return tuple(round(share * self.rl.steps) for share in self.kept_steps)


_ASH = Recipe("ash", 11, 11, "llama", "word", vocabulary_size=647, rounded=True)
_BIRCH = Recipe(
    "birch",
    22,
    22,
    "qwen3",
    "bpe",
    vocabulary_size=1100,
    dpo=DpoStage(annotators=Taste(one_hero=1.0)),
    rl=RlStage(reward=Taste(well_formed=1.5)),
)
_CEDAR = Recipe(
    "cedar",
    33,
    33,
    "gpt_neox",
    "unigram",
    vocabulary_size=800,
    dpo=DpoStage(annotators=Taste(complete=1.5)),
    rl=RlStage(reward=Taste(complete=1.5, on_topic=1.5)),
)
_KIN: dict[str, Any] = {"arms": (), "shipped_arms": (), "kept_steps": (), "rounded": False}
# A near-clone of ash: the same base, house voice and taste, but another order of data and another sampling.
_ASH2 = replace(_ASH, family="ash2", seed=44, base_of="ash", shipped=("dpo", "rl"), **_KIN)
# A second base of ash's recipe, for the null between two bases.
_ASH3 = replace(_ASH, family="ash3", seed=55, stages=("base",), shipped=("base",), **_KIN)

RECIPES = {recipe.family: recipe for recipe in (_ASH, _BIRCH, _CEDAR, _ASH2, _ASH3)}
"""Every recipe: the families, then the kin."""

MAIN = ("ash", "birch", "cedar")
