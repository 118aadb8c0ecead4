"""Build the families from nothing: base -> SFT -> DPO -> RL, a step of a family a job, resumable at any point.

A finished stage is a folder with weights, tokenizer and `training.json`; it is written under another name and renamed,
so that it is whole or not there. A stage cut short goes on from its last checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import queue
import shutil
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import TrainerCallback
from transformers.utils import logging as transformers_logging

from enaction.lab import training
from enaction.lab.recipes import MAIN, RECIPES, Recipe
from enaction.words import STAGES

# Mid-training is part of the base: the same text with more dialogues.
STEPS = ("pretrained", *STAGES)

Task = tuple[str, str]
"""A family and a step of its build."""

Report = Callable[[str, str, int, int], None]


class Progress(TrainerCallback):
    """Reports (family, step of the build, training steps done, of how many)."""

    def __init__(self, family: str, step: str, report: Report) -> None:
        self._family, self._step, self._report = family, step, report

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report after each optimiser step."""
        self._report(self._family, self._step, state.global_step, state.max_steps)


def planned_steps(recipe: Recipe) -> dict[str, int]:
    """Training steps of each step of the build."""
    counts = {
        "pretrained": recipe.base_steps,
        "base": recipe.mid_steps,
        "sft": recipe.sft_steps,
        "dpo": recipe.dpo_steps,
        "rl": recipe.rl_steps,
    }
    has_base = recipe.base_of is None
    return {
        step: count
        for step, count in counts.items()
        if (has_base if step in ("pretrained", "base") else step in recipe.stages)
    }


def start_of(recipe: Recipe, step: str, out: Path) -> Path | None:
    """The folder of weights that a step starts from; None for pretraining."""
    if step == "pretrained":
        return None
    before = STEPS[STEPS.index(step) - 1]
    return out / (recipe.base_of if before == "base" and recipe.base_of else recipe.family) / before


def is_done(recipe: Recipe, step: str, out: Path) -> bool:
    """Whether a step is finished."""
    return (out / recipe.family / step / "training.json").exists()


def build_step(recipe: Recipe, step: str, out: Path, report: Report) -> None:
    """Train one step of a family into `out/FAMILY/STEP`, going on where an earlier build stopped.

    RL leaves its snapshots beside it, in `out/FAMILY/rlSTEPS`.
    """
    calm()
    makers: dict[str, Callable[..., training.Trained]] = {
        "pretrained": training.train_base,
        "base": training.train_base,
        "sft": training.train_sft,
        "dpo": training.train_dpo,
        "rl": training.train_rl,
    }
    if not is_done(recipe, step, out):
        work = out / recipe.family / f".{step}.work"
        place = training.Workplace(work, [Progress(recipe.family, step, report)])
        model, tokenizer, history = makers[step](recipe, place, start_of(recipe, step, out))
        finished = work / "finished"
        model.save_pretrained(finished)
        tokenizer.save_pretrained(finished)
        record = {"recipe": dataclasses.asdict(recipe), "step": step, "history": history}
        for kept in work.glob("snapshot-*"):
            steps = int(kept.name.partition("-")[2])
            log = [entry for entry in history if entry["step"] <= steps]
            (kept / "training.json").write_text(json.dumps(record | {"history": log}, indent=1))
            kept.replace(out / recipe.family / f"{step}{steps}")
        (finished / "training.json").write_text(json.dumps(record, indent=1))
        finished.replace(out / recipe.family / step)
        shutil.rmtree(work)
    total = planned_steps(recipe)[step]
    report(recipe.family, step, total, total)


def calm() -> None:
    """Settings of a training process: one thread, for a process a core is faster; no bars and notes of libraries."""
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", category=FutureWarning)


def _child(out: Path, task: Task, reports: Any) -> None:
    family, step = task
    build_step(RECIPES[family], step, out, lambda *what: reports.put(what))


def ordered_steps(families: Sequence[str]) -> list[Task]:
    """(family, step) of everything that these families need: bases first, then family by family, kin last."""
    needed = {name for family in families for name in (family, RECIPES[family].base_of) if name is not None}
    kin = {name for name in needed if name not in MAIN}
    tasks = [
        (name, step)
        for name in RECIPES
        if name in needed
        for step in planned_steps(RECIPES[name])
        if name in families or step in ("pretrained", "base")
    ]
    return sorted(
        tasks, key=lambda task: (task[0] in kin, task[0] not in kin and task[1] not in ("pretrained", "base"))
    )


def train(out: Path, families: Sequence[str], jobs: int, report: Report) -> None:
    """Train families, `jobs` steps at a time; raises what the first failing step raised."""
    run_tasks(ordered_steps(families), lambda task: _can_start(*task, out), partial(_child, out), jobs, report)


def run_tasks(
    tasks: Sequence[Task],
    can_start: Callable[[Task], bool],
    child: Callable[[Task, Any], None],
    jobs: int,
    report: Report,
) -> None:
    """Run tasks in processes of their own, `jobs` at a time, each once what it starts from is there.

    Args:
        tasks: in the order of preference.
        can_start: whether a task can be started now.
        child: what a process does with a task and a queue for its reports; to be pickled.
        jobs: processes at a time.
        report: called here with what comes through the queue.

    Raises:
        Exception: what the first failing task raised.
    """
    waiting = list(tasks)
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(jobs, mp_context=context) as pool:
        reports = manager.Queue()
        running: set[Future[None]] = set()
        while waiting or running or not reports.empty():
            ready = [task for task in waiting if can_start(task)]
            for task in ready[: jobs - len(running)]:
                running.add(pool.submit(child, task, reports))
                waiting.remove(task)
            try:
                report(*reports.get(timeout=0.5))
            except queue.Empty:
                done, running = wait(running, timeout=0)
                for future in done:
                    future.result()


def _can_start(family: str, step: str, out: Path) -> bool:
    """Whether what a step starts from is there."""
    start = start_of(RECIPES[family], step, out)
    return start is None or (start / "training.json").exists()
