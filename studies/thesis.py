"""Train the arms of the thesis study: loops that write and learn from it, and twins that learn from what loops wrote.

    python studies/thesis.py                           # an hour on two cores; resumes where it was cut short
    enaction run studies/thesis.yaml --workers 2       # measures the arms
    python studies/tables.py runs/thesis thesis --sentences     # prints the conclusions and tables of docs/thesis.md

Needs `pip install 'enaction[lab]'`. What the arms are and what the study asks is in docs/thesis.md. The models go to
runs/thesis-models/ARM-SEED/SHARE (share of the training, in per cent) and do not ship; a loop's stored replies are in
ARM-SEED/rollouts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from enaction import zoo
from enaction.lab.build import calm, run_tasks
from enaction.lab.judging import score_reply
from enaction.lab.recipes import RECIPES
from enaction.lab.training import load
from enaction.lab.twins import Lesson, LoopRecipe, Reward, empty_taste, run_loop, run_twin
from enaction.world.chats import Request
from enaction.world.stories import Voice

SEEDS = (1, 2, 3, 4)
# The actor starts from one of two near-clones, its near twins from the other; the roles change from seed to seed.
ACTOR_START = {1: "ash-dpo", 2: "ash2-dpo", 3: "ash-dpo", 4: "ash2-dpo"}
NEAR_START = {1: "ash2-dpo", 2: "ash-dpo", 3: "ash2-dpo", 4: "ash-dpo"}
FAR_START = "birch-dpo"
# Whose replies the control reads: a second loop of another seed, from the actor's own start.
OTHER_SEED = {1: 2, 2: 3, 3: 4, 4: 1}


@dataclass(frozen=True)
class Arm:
    """How the models of an arm are trained.

    Attributes:
        starts: seed -> zoo model.
        reward: of a loop.
        source: of a twin: seed -> the loop whose replies it gets.
        lesson: of a twin.
    """

    starts: dict[int, str]
    reward: Reward | None = None
    source: Callable[[int], str] = lambda seed: f"actor-{seed}"
    lesson: Lesson = "likelihood"


def quality(request: Request, reply: str, ended: bool) -> float:
    """What can be verified of a reply without any term for style."""
    return score_reply(reply, ended, request, replace(RECIPES["ash"].rl.reward, house_style=0.0), _house())


@cache
def _house() -> Voice:
    """The voice of the actor's house, which has no weight in the reward; it takes long to draw."""
    return RECIPES["ash"].house_voice()


# Loops first: twins wait for them.
ARMS = {
    "actor": Arm(ACTOR_START, quality),
    "active2": Arm(NEAR_START, quality),
    "empty": Arm(NEAR_START, empty_taste),
    "clip": Arm(NEAR_START, lesson="policy"),
    "sft-near": Arm(NEAR_START),
    "sft-far": Arm(dict.fromkeys(SEEDS, FAR_START)),
    "sft-other": Arm(NEAR_START, source=lambda seed: f"active2-{OTHER_SEED[seed]}"),
}


def recipe_of(seed: int, steps: int) -> LoopRecipe:
    """The settings of all arms of a seed."""
    return LoopRecipe(seed=seed, steps=steps)


def can_start(out: Path, steps: int, arm: str, seed: str) -> bool:
    """Whether the loop whose replies an arm needs is finished."""
    of = ARMS[arm]
    return of.reward is not None or (out / of.source(int(seed)) / "100" / "training.json").exists()


def build(out: Path, steps: int, arm: str, seed: str, report: Callable[[str, str, int, int], None]) -> None:
    """Train one arm with one seed into `out/ARM-SEED`."""
    of, number, folder = ARMS[arm], int(seed), out / f"{arm}-{seed}"
    told = partial(_told, report, arm, seed, steps)
    if (folder / "100" / "training.json").exists():
        told(steps)
        return
    calm()
    model, tokenizer = load(zoo.path(of.starts[number]))
    recipe = recipe_of(number, steps)
    if of.reward is not None:
        run_loop(model, tokenizer, recipe, of.reward, folder, folder.name, told)
    else:
        run_twin(model, tokenizer, recipe, of.lesson, out / of.source(number), folder, told)
    (folder / "state.pt").unlink()


def _told(report: Callable[[str, str, int, int], None], arm: str, seed: str, steps: int, done: int) -> None:
    report(arm, seed, done, steps)


def main() -> None:
    """Train every arm with every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/thesis-models"))
    parser.add_argument("--steps", type=int, default=LoopRecipe.steps)
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=list(SEEDS))
    given = parser.parse_args()
    tasks = [(arm, str(seed)) for arm in ARMS if arm in given.arms for seed in given.seeds]
    run_tasks(
        tasks, partial(can_start, given.out, given.steps), partial(build, given.out, given.steps), given.jobs, _tell
    )


def _tell(arm: str, seed: str, done: int, total: int) -> None:
    if done % 10 == 0 or done == total:
        print(f"{arm}-{seed} {done}/{total}", flush=True)


if __name__ == "__main__":
    main()
