"""Build the families from nothing: base -> SFT -> DPO -> RL, one process a family, resumable at any point.

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
from concurrent.futures import ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import TrainerCallback
from transformers.utils import logging as transformers_logging

from enaction.lab import training
from enaction.lab.recipes import RECIPES, STAGES, Recipe

# Mid-training is part of the base: the same text with more dialogues.
STEPS = ("pretrained", *STAGES)

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
    counts = (recipe.base_steps, recipe.mid_steps, recipe.sft_steps, recipe.dpo_steps, recipe.rl_steps)
    return dict(zip(STEPS, counts, strict=True))


def build_family(recipe: Recipe, out: Path, report: Report) -> None:
    """Train one family into `out/FAMILY/STEP`, going on where an earlier build stopped."""
    torch.set_num_threads(1)  # models this small train faster as one process a core
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", category=FutureWarning)
    makers: dict[str, Callable[..., training.Trained]] = {
        "pretrained": training.train_base,
        "base": training.train_base,
        "sft": training.train_sft,
        "dpo": training.train_dpo,
        "rl": training.train_rl,
    }
    start: Path | None = None
    for step, make in makers.items():
        folder = out / recipe.family / step
        total = planned_steps(recipe)[step]
        if not (folder / "training.json").exists():
            work = out / recipe.family / f".{step}.work"
            place = training.Workplace(work, [Progress(recipe.family, step, report)])
            model, tokenizer, history = make(recipe, place, start)
            finished = work / "finished"
            model.save_pretrained(finished)
            tokenizer.save_pretrained(finished)
            record = {"recipe": dataclasses.asdict(recipe), "step": step, "history": history}
            (finished / "training.json").write_text(json.dumps(record, indent=1))
            finished.replace(folder)
            shutil.rmtree(work)
        report(recipe.family, step, total, total)
        start = folder


def _child(recipe: Recipe, out: Path, reports: Any) -> None:
    build_family(recipe, out, lambda *what: reports.put(what))


def train(out: Path, families: Sequence[str], jobs: int, report: Report) -> None:
    """Train families side by side, `jobs` at a time; raises what the first failing family raised."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(jobs, mp_context=context) as pool:
        reports = manager.Queue()
        running = {pool.submit(_child, RECIPES[name], out, reports) for name in families}
        while running or not reports.empty():
            try:
                report(*reports.get(timeout=0.5))
            except queue.Empty:
                done, running = wait(running, timeout=0)
                for future in done:
                    future.result()
