"""Build the families from nothing: base -> SFT -> DPO -> RL and its arms, each a job, resumable at any point.

A finished stage is a folder with weights, tokenizer and `training.json`; it is written under another name and renamed,
so that it is complete or does not exist. An interrupted stage resumes from its last checkpoint.
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
"""Called with (family, step of the build, training steps done, their total)."""


class Progress(TrainerCallback):
    """Reports the progress of a trainer."""

    def __init__(self, family: str, step: str, report: Report) -> None:
        self._family, self._step, self._report = family, step, report

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report after each optimiser step."""
        self._report(self._family, self._step, state.global_step, state.max_steps)


def planned_steps(recipe: Recipe, *, all_arms: bool = False) -> dict[str, int]:
    """Training steps of each step of the build; of the arms of RL, those that ship or all."""
    stages = {
        "pretrained": recipe.pretraining,
        "base": recipe.mid_training,
        "sft": recipe.sft,
        "dpo": recipe.dpo,
        "rl": recipe.rl,
    }
    has_base = recipe.base_of is None
    planned = {
        step: stage.steps
        for step, stage in stages.items()
        if (has_base if step in ("pretrained", "base") else step in recipe.stages)
    }
    arms = [f"rl-{arm}" for arm in (recipe.arms if all_arms else recipe.shipped_arms)]
    return planned | {arm: recipe.rl_of(arm).steps for arm in arms}


def start_of(recipe: Recipe, step: str, out: Path) -> Path | None:
    """The folder of weights that a step starts from; None for pretraining."""
    if step == "pretrained":
        return None
    before = STEPS[STEPS.index(step.partition("-")[0]) - 1]
    return out / (recipe.base_of if before == "base" and recipe.base_of else recipe.family) / before


def is_done(recipe: Recipe, step: str, out: Path) -> bool:
    """Whether a step is finished."""
    return (out / recipe.family / step / "training.json").exists()


def build_step(recipe: Recipe, step: str, out: Path, report: Report, *, device: training.Device = "cpu") -> None:
    """Train one step of a family into `out/FAMILY/STEP`, resuming an earlier build.

    The snapshots of RL are put into `out/FAMILY/rlSTEPS`.
    """
    calm()
    makers: dict[str, Callable[..., training.Trained]] = {
        "pretrained": training.train_base,
        "base": training.train_base,
        "sft": training.train_sft,
        "dpo": training.train_dpo,
        "rl": training.train_rl,
    }
    makers |= {f"rl-{arm}": partial(training.train_rl, name=f"rl-{arm}") for arm in recipe.arms}
    if not is_done(recipe, step, out):
        work = out / recipe.family / f".{step}.work"
        workplace = training.Workplace(work, [Progress(recipe.family, step, report)], device=device)
        model, tokenizer, history = makers[step](recipe, workplace, start_of(recipe, step, out))

        def write(folder: Path) -> None:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)

        record = {"recipe": dataclasses.asdict(recipe), "step": step, "history": history}
        finish(work, out / recipe.family / step, write, record)
    total = planned_steps(recipe, all_arms=True)[step]
    report(recipe.family, step, total, total)


def finish(work: Path, target: Path, write: Callable[[Path], None], record: dict[str, Any]) -> None:
    """Move the result of a step from its work folder to `target`, and its snapshots to `target` + their step.

    Args:
        work: the work folder, with the snapshots as `snapshot-STEP`; it is removed.
        target: the folder of the finished step.
        write: writes weights into a folder.
        record: for `training.json`; a snapshot gets the entries of its `history` up to its step.
    """
    finished = work / "finished"
    write(finished)
    for snapshot in work.glob("snapshot-*"):
        steps = int(snapshot.name.partition("-")[2])
        history = [entry for entry in record["history"] if entry["step"] <= steps]
        (snapshot / "training.json").write_text(json.dumps(record | {"history": history}, indent=1))
        snapshot.replace(target.with_name(f"{target.name}{steps}"))
    (finished / "training.json").write_text(json.dumps(record, indent=1))
    finished.replace(target)
    shutil.rmtree(work)


def calm() -> None:
    """Settings of a training process: one thread, since one process per core is faster; libraries print nothing."""
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", category=FutureWarning)


def ordered_steps(families: Sequence[str], *, all_arms: bool = False) -> list[Task]:
    """(family, step) of everything that these families need: bases first, then family by family, kin last."""
    needed = {name for family in families for name in (family, RECIPES[family].base_of) if name is not None}
    kin = {name for name in needed if name not in MAIN}
    tasks = [
        (name, step)
        for name in RECIPES
        if name in needed
        for step in planned_steps(RECIPES[name], all_arms=all_arms)
        if name in families or step in ("pretrained", "base")
    ]
    return sorted(
        tasks, key=lambda task: (task[0] in kin, task[0] not in kin and task[1] not in ("pretrained", "base"))
    )


def train(
    out: Path,
    families: Sequence[str],
    jobs: int,
    report: Report,
    *,
    all_arms: bool = False,
    device: training.Device = "cpu",
) -> None:
    """Train families, `jobs` steps at a time; raises what the first failing step raised."""
    tasks = ordered_steps(families, all_arms=all_arms)
    run_tasks(tasks, partial(_can_start, out), partial(_build, out, device), jobs, report)


def _can_start(out: Path, family: str, step: str) -> bool:
    """Whether the weights that a step starts from exist."""
    start = start_of(RECIPES[family], step, out)
    return start is None or (start / "training.json").exists()


def _build(out: Path, device: training.Device, family: str, step: str, report: Report) -> None:
    build_step(RECIPES[family], step, out, report, device=device)


def run_tasks(
    tasks: Sequence[Task],
    can_start: Callable[[str, str], bool],
    build: Callable[[str, str, Report], None],
    jobs: int,
    report: Report,
) -> None:
    """Run tasks in processes of their own, `jobs` at a time, each once the result that it starts from exists.

    Args:
        tasks: in the order of preference.
        can_start: whether this step of this family can be started now.
        build: builds this step of this family; to be pickled.
        jobs: processes at a time.
        report: called in this process with the progress of all tasks.

    Raises:
        Exception: what the first failing task raised.
    """
    waiting = list(tasks)
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(jobs, mp_context=context) as pool:
        reports = manager.Queue()
        running: set[Future[None]] = set()
        while waiting or running or not reports.empty():
            ready = [task for task in waiting if can_start(*task)]
            for task in ready[: jobs - len(running)]:
                running.add(pool.submit(_child, build, task, reports))
                waiting.remove(task)
            try:
                report(*reports.get(timeout=0.5))
            except queue.Empty:
                done, running = wait(running, timeout=0)
                for future in done:
                    future.result()


def _child(build: Callable[[str, str, Report], None], task: Task, reports: Any) -> None:
    build(*task, lambda *progress: reports.put(progress))
