"""The engine of one machine: writes every text, then reads every cell, in this process or in several.

What the run folder already holds is not done again. The unit that is handed to a process is a model with its texts or
its cells. Small models run faster as one process a core with one thread each than as one process with many threads,
hence `workers`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from functools import partial
from typing import Any, NamedTuple

import torch

from enaction.errors import UserError
from enaction.study.config import Study
from enaction.study.desk import Desk
from enaction.study.engines import Report
from enaction.study.planning import Plan, Text
from enaction.study.store import Run
from enaction.study.work import forget_models, read_cells, write_texts


def carry_out(study: Study, plan: Plan, run: Run, *, workers: int, report: Report) -> dict[str, Any]:
    """Write and read everything of a plan that the run folder does not have.

    Args:
        study: names the models.
        plan: what is written and read.
        run: an open run folder.
        workers: processes; each gets an equal share of the cores.
        report: called after each batch.

    Returns:
        Reader -> framing -> how its own text was read, for the cells that were read now.

    Raises:
        UserError: a model cannot be loaded, or a passage cannot be framed.
    """
    with _executor(workers) as run_all:
        _write_texts(study, plan, run, run_all, report)
        # Backwards, so that the model that sampled last need not be loaded again to read.
        unread = {name: plan.unread(study, run, name) for name in reversed(study.models)}
        jobs = [
            Job(
                sum(plan.texts[cell.author].count for cell in cells),
                read_cells,
                (study, run, name, cells, plan.optional_for(study, run, name)),
                "reading",
            )
            for name, cells in unread.items()
            if cells
        ]
        notes = run_all(jobs, report)
    forget_models()
    return {reader: of_framings for note in notes for reader, of_framings in note.items()}


def _write_texts(study: Study, plan: Plan, run: Run, run_all: RunAll, report: Report) -> None:
    """Write texts in the order in which they need each other; side by side where they do not."""
    waiting = {text.name: text for text in plan.unwritten(run)}
    while waiting:
        ready = [text for text in waiting.values() if not any(need in waiting for need in text.needs)]
        assert ready, f"texts that need each other: {', '.join(waiting)}"
        by_model: dict[str, list[Text]] = {}
        for text in ready:
            del waiting[text.name]
            if text.model is None:
                run.write_passages(text.name, text.write(Desk(study, plan.prompts, run)))
                report("sampling", text.name, text.count)
            else:
                by_model.setdefault(text.model, []).append(text)
        jobs = [
            Job(
                sum(text.count for text in texts),
                write_texts,
                (study, plan.prompts, run, model, texts),
                "sampling",
            )
            for model, texts in by_model.items()
        ]
        run_all(jobs, report)


class Job(NamedTuple):
    """What one model has to do.

    Attributes:
        passages: how many, to begin with the longest.
        function, arguments: the work; it is also given whom to report each advance to.
        phase: in those reports.
    """

    passages: int
    function: Callable[..., dict[str, Any]]
    arguments: tuple[Any, ...]
    phase: str


RunAll = Callable[[list[Job], Report], list[dict[str, Any]]]


@contextlib.contextmanager
def _executor(workers: int) -> Iterator[RunAll]:
    """Runs jobs in this process or in a pool."""
    if workers <= 1:
        yield lambda jobs, report: [job.function(*job.arguments, partial(report, job.phase)) for job in jobs]
        return
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // workers)
    try:
        manager = context.Manager()
    except EOFError:  # the new process ended while it imported the script
        raise UserError(
            "several workers are processes that import your script again: put the call under "
            '`if __name__ == "__main__":` in a file, or use workers=1'
        ) from None
    with (
        manager,
        ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(threads,)) as pool,
    ):
        reports = manager.Queue()

        def run_all(jobs: list[Job], report: Report) -> list[dict[str, Any]]:
            # The longest first, so that at the end no worker waits for another.
            longest_first = sorted(jobs, key=lambda job: -job.passages)
            waiting: set[Future] = {pool.submit(_in_worker, job, reports) for job in longest_first}
            results = []
            try:
                while waiting:
                    with contextlib.suppress(queue.Empty):
                        report(*reports.get(timeout=0.2))
                        continue
                    done, waiting = wait(waiting, timeout=0)
                    results += [future.result() for future in done]
                while not reports.empty():
                    report(*reports.get())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            return results

        yield run_all


def _start_worker(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    torch.set_num_threads(threads)


def _in_worker(job: Job, reports: Any) -> dict[str, Any]:
    return job.function(*job.arguments, lambda name, n: reports.put((job.phase, name, n)))
