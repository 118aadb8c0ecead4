"""Build the adapters of a real model: its replies, then DPO, then the runs of RL; resumable at any point.

A finished step is a folder that was written under another name and renamed: `replies`, `dpo`, `rl-a`, and snapshots as
`rl-a30`. Each but `replies` holds the adapter as PEFT writes it and `training.json` with the recipe and the log.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

from peft import PeftModel

from enaction.lab.adapting import Plan
from enaction.lab.appraising import word_pairs
from enaction.lab.build import Progress, Report, calm, finish, run_tasks
from enaction.lab.preferring import pairs, prefer, read_replies, sample_replies
from enaction.lab.reinforcing import reinforce
from enaction.lab.training import Workplace
from enaction.reader import Reader
from enaction.reader.sources.adapter import find_base, load_base


def planned_steps(plan: Plan) -> dict[str, int]:
    """Steps of the build and the total of each: requests sampled (twice), or training steps."""
    first = {"replies": 2 * len(plan.requests), "dpo": min(plan.dpo.pairs, len(plan.requests)) // plan.dpo.batch}
    return first | {f"rl-{run.run}": run.steps for run in plan.rl}


def train(plan: Plan, out: Path, base: Path | None, jobs: int, report: Report) -> None:
    """Train a plan's adapters into `out/FAMILY`, `jobs` steps at a time; steps that an earlier build finished are kept.

    Args:
        plan: what is trained.
        out: where they are built.
        base: the base file; by default the one in its package.
        jobs: processes, one core each. DPO waits for the replies; the runs of RL are trained side by side.
        report: called with the progress of each step.

    Raises:
        ModelError: the base file is missing, or is not the one that the plan names.
    """
    file = find_base(plan.base, base)
    tasks = [(plan.family, step) for step in planned_steps(plan)]
    run_tasks(tasks, partial(_can_start, out), partial(_build, plan, out, file), jobs, report)


def _can_start(out: Path, family: str, step: str) -> bool:
    """Whether the step that a step starts from is finished."""
    before = {"replies": None, "dpo": "replies"}.get(step, "dpo")
    return before is None or (out / family / before).exists()


def _build(plan: Plan, out: Path, file: Path, _: str, step: str, report: Report) -> None:
    build_step(plan, step, out, file, report)


def build_step(plan: Plan, step: str, out: Path, file: Path, report: Report) -> None:
    """Make one step into `out/FAMILY/STEP`, resuming an earlier build."""
    calm()
    folder = out / plan.family
    work = folder / f".{step}.work"
    total = planned_steps(plan)[step]
    if not (folder / step).exists():
        model, tokenizer = load_base(file)
        progress = partial(report, plan.family, step)
        if step == "replies":
            reader = Reader(model, tokenizer, name=f"{plan.family}-sft")
            sample_replies(reader, plan.requests, plan.dpo, work, progress)
            work.replace(folder / step)
        else:
            replies = read_replies(folder / "replies")
            known = word_pairs(p.response for p in replies.plain)
            run = plan.run_of(step)
            if run is None:
                rows = pairs(plan.requests, replies.drawn, known, plan.dpo)
                workplace = Workplace(work, [Progress(plan.family, step, report)], save_every=5)
                trained, history = prefer(model, tokenizer, rows, plan.dpo, workplace)
            else:
                trained = PeftModel.from_pretrained(model, str(folder / "dpo"), is_trainable=True)
                history = reinforce(trained, tokenizer, plan.requests, known, run, work, lambda n: progress(n, total))
            record = {"recipe": dataclasses.asdict(run or plan.dpo), "history": history}
            finish(
                work, folder / step, lambda to: trained.save_pretrained(str(to), save_embedding_layers=False), record
            )
    report(plan.family, step, total, total)
