"""Build the adapters of a real model: its replies, then DPO, then the runs of RL; resumable at any point.

A finished step is a folder that was written under another name and renamed: `replies`, `dpo`, `rl-a`, and snapshots as
`rl-a30`. But for the replies each holds the adapter as PEFT writes it and `training.json`, the recipe and the log.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from peft import PeftModel

from enaction.lab.adapting import DpoRecipe, Plan, RlRecipe
from enaction.lab.appraising import word_pairs
from enaction.lab.build import Progress, Report, Task, calm, run_tasks
from enaction.lab.preferring import pairs, prefer, read_replies, sample_replies
from enaction.lab.reinforcing import reinforce
from enaction.lab.training import Workplace
from enaction.reader import Reader
from enaction.reader.sources.adapter import find_base, load_base


def planned_steps(plan: Plan) -> dict[str, int]:
    """Steps of the build and how far each has to go: requests sampled (twice), or training steps."""
    first = {"replies": 2 * len(plan.asked), "dpo": min(plan.dpo.pairs, len(plan.asked)) // plan.dpo.batch}
    return first | {f"rl-{run.run}": run.steps for run in plan.rl}


def train(plan: Plan, out: Path, base: Path | None, jobs: int, report: Report) -> None:
    """Train a plan's adapters into `out/FAMILY`, `jobs` steps at a time; what an earlier build finished is kept.

    Args:
        plan: what is trained.
        out: where; `build_step` says how.
        base: the base file; by default the one in its package.
        jobs: processes, a core each. Replies and DPO come one after the other, the runs of RL side by side.
        report: called with (family, step, done, of how many).

    Raises:
        ModelError: the base file is missing, or is not the one that the plan names.
    """
    file = find_base(plan.base, base)
    tasks = [(plan.family, step) for step in planned_steps(plan)]
    run_tasks(tasks, lambda task: _can_start(*task, out), partial(_child, plan, out, file), jobs, report)


def build_step(plan: Plan, step: str, out: Path, file: Path, report: Report) -> None:
    """Make one step into `out/FAMILY/STEP`, going on where an earlier build stopped."""
    calm()
    folder = out / plan.family
    work = folder / f".{step}.work"
    total = planned_steps(plan)[step]
    if not (folder / step).exists():
        model, tokenizer = load_base(file)
        told = partial(report, plan.family, step)
        if step == "replies":
            reader = Reader(model, tokenizer, name=f"{plan.family}-sft")
            sample_replies(reader, plan.asked, plan.dpo, work, told)
            work.replace(folder / step)
        else:
            replies = read_replies(folder / "replies")
            known = word_pairs(p.response for p in replies.plain)
            if step == "dpo":
                rows = pairs(plan.asked, replies.drawn, known, plan.dpo)
                place = Workplace(work, [Progress(plan.family, step, report)], save_every=5)
                trained, history = prefer(model, tokenizer, rows, plan.dpo, place)
                _finish(trained, work, folder / step, plan.dpo, history)
            elif run := plan.run_of(step):
                trained = PeftModel.from_pretrained(model, str(folder / "dpo"), is_trainable=True)
                history = reinforce(trained, tokenizer, plan.asked, known, run, work, lambda n: told(n, total))
                for kept in work.glob("snapshot-*"):
                    kept.replace(folder / f"{step}{kept.name.partition('-')[2]}")
                _finish(trained, work, folder / step, run, history)
    report(plan.family, step, total, total)


def _child(plan: Plan, out: Path, file: Path, task: Task, reports: Any) -> None:
    build_step(plan, task[1], out, file, lambda *what: reports.put(what))


def _can_start(family: str, step: str, out: Path) -> bool:
    """Whether what a step starts from is there."""
    before = {"replies": None, "dpo": "replies"}.get(step, "dpo")
    return before is None or (out / family / before).exists()


def _finish(
    model: PeftModel, work: Path, there: Path, recipe: DpoRecipe | RlRecipe, history: list[dict[str, Any]]
) -> None:
    finished = work / "finished"
    model.save_pretrained(str(finished), save_embedding_layers=False)
    record = {"recipe": dataclasses.asdict(recipe), "history": history}
    (finished / "training.json").write_text(json.dumps(record, indent=1))
    finished.replace(there)
    shutil.rmtree(work)
