"""Build the adapters of the real model: its replies, then DPO, then the runs of RL; resumable at any point.

A finished step is a folder that was written under another name and renamed: `replies`, `dpo`, `rl-a`, and snapshots as
`rl-a12`. Each holds the adapter as PEFT writes it and `training.json`, the recipe and the log.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from peft import PeftModel

from enaction.lab.adapting import BASE, DPO, FAMILY, RL, requests
from enaction.lab.appraising import word_pairs
from enaction.lab.build import Progress, Report, Task, calm, run_tasks
from enaction.lab.preferring import pairs, prefer, read_replies, sample_replies
from enaction.lab.reinforcing import reinforce
from enaction.lab.training import Workplace
from enaction.reader import Reader
from enaction.reader.adapters import find_base, load_base

_RUNS = {f"rl-{recipe.run}": recipe for recipe in RL}


def planned_steps() -> dict[str, int]:
    """Steps of the build and how far each has to go: requests sampled (twice), or training steps."""
    n = len(requests())
    return {"replies": 2 * n, "dpo": DPO.pairs // DPO.batch} | {name: recipe.steps for name, recipe in _RUNS.items()}


def train(out: Path, base: Path | None, jobs: int, report: Report) -> None:
    """Train the adapters into `out/smollm2`, `jobs` steps at a time; what an earlier build finished is kept.

    Raises:
        ModelError: the base file is missing, or is not the one that the recipe names.
    """
    file = find_base(BASE, base)
    tasks = [(FAMILY, step) for step in planned_steps()]
    run_tasks(tasks, lambda task: _can_start(task[1], out / FAMILY), partial(_child, out / FAMILY, file), jobs, report)


def build_step(step: str, folder: Path, file: Path, report: Report) -> None:
    """Make one step into `folder/STEP`, going on where an earlier build stopped."""
    calm()
    total = planned_steps()[step]
    if not (folder / step).exists():
        work = folder / f".{step}.work"
        model, tokenizer = load_base(file)
        if step == "replies":
            reader = Reader(model, tokenizer, name=f"{FAMILY}-sft")
            sample_replies(reader, requests(), DPO, work, lambda done, of: report(FAMILY, step, done, of))
            work.replace(folder / step)
        elif step == "dpo":
            replies = read_replies(folder / "replies")
            known = word_pairs(p.response for p in replies.plain)
            rows = pairs(requests(), replies.drawn, known, DPO)
            place = Workplace(work, [Progress(FAMILY, step, report)], save_every=5)
            trained, history = prefer(model, tokenizer, rows, DPO, place)
            _finish(trained, work, folder / step, dataclasses.asdict(DPO), history)
        else:
            recipe = _RUNS[step]
            known = word_pairs(p.response for p in read_replies(folder / "replies").plain)
            started = PeftModel.from_pretrained(model, str(folder / "dpo"), is_trainable=True)
            history = reinforce(
                started,
                tokenizer,
                requests(),
                known,
                recipe,
                work,
                lambda done: report(FAMILY, step, done, recipe.steps),
            )
            for kept in work.glob("snapshot-*"):
                kept.replace(folder / f"{step}{kept.name.partition('-')[2]}")
            _finish(started, work, folder / step, dataclasses.asdict(recipe), history)
    report(FAMILY, step, total, total)


def _child(folder: Path, file: Path, task: Task, reports: Any) -> None:
    build_step(task[1], folder, file, lambda *what: reports.put(what))


def _can_start(step: str, folder: Path) -> bool:
    before = {"replies": None, "dpo": "replies"}.get(step, "dpo")
    return before is None or (folder / before).exists()


def _finish(model: PeftModel, work: Path, there: Path, recipe: dict[str, Any], history: list[dict[str, Any]]) -> None:
    finished = work / "finished"
    model.save_pretrained(str(finished), save_embedding_layers=False)
    (finished / "training.json").write_text(json.dumps({"recipe": recipe, "history": history}, indent=1))
    finished.replace(there)
    shutil.rmtree(work)
