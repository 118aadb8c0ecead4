"""The engine of one machine: writes every text, then reads every cell, in this process or in several.

What the run folder already holds is not done again. The unit that is handed to a process is a model with its texts or
its cells. Small models run faster as one process a core with one thread each than as one process with many threads,
hence `workers`.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Lock
from typing import Any, NamedTuple

import torch

from enaction.errors import UserError
from enaction.framing.limits import LIGHT
from enaction.study import recipes
from enaction.study.config import Study
from enaction.study.desk import Desk
from enaction.study.engines import Report
from enaction.study.planning import Measured, Plan, Text
from enaction.study.recipes import Recipe
from enaction.study.store import Run
from enaction.study.work import forget_models, measure_tables, read_cells, write_texts


def carry_out(study: Study, plan: Plan, run: Run, *, workers: int, report: Report) -> dict[str, Any]:
    """Write and read everything of a plan that the run folder does not have.

    Args:
        study: names the models.
        plan: what is written and read.
        run: an open run folder.
        workers: processes; each gets an equal share of the cores.
        report: called after each batch.

    Returns:
        Reader -> framing -> how its own text was read.

    Raises:
        UserError: a model cannot be loaded, or a passage cannot be framed.
    """
    with _stopped_like_ctrl_c(), _executor(workers) as run_all:
        _write_texts(study, plan, run, run_all, report)
        unmeasured = plan.unmeasured(study, run)
        # Backwards, so that the model that sampled last need not be loaded again to read; and each model's tables after
        # its cells, for the same reason.
        jobs = [
            job
            for name in reversed(study.models)
            for job in (*_reading(study, plan, run, name), *_measuring(study, plan, run, name, unmeasured))
        ]
        run_all(jobs, report)
    forget_models()
    # From the tables and not from the jobs: what an earlier session read, before it was killed, counts too.
    return {name: _own_notes(study, plan, run, name) for name in study.models}


def _reading(study: Study, plan: Plan, run: Run, name: str) -> Iterator[Job]:
    """A model's job of reading the cells that the run does not have; none if it has all."""
    cells = plan.unread(study, run, name)
    if cells:
        passages = sum(plan.texts[cell.author].count for cell in cells)
        optional, recipe = plan.optional_for(study, run, name), recipes.reader(study, name)
        yield Job(passages, read_cells, (study, run, name, cells, optional, recipe), "reading")


def _measuring(study: Study, plan: Plan, run: Run, name: str, unmeasured: Sequence[Measured]) -> Iterator[Job]:
    """A model's job of measuring the tables that the run does not have; none if it has all."""
    tables = [(table, plan.recipe(study, run, table)) for table in unmeasured if table.model == name]
    if tables:
        passages = sum(table.count for table, _ in tables)
        yield Job(passages, measure_tables, (study, plan.prompts, run, name, tables), "reading")


def _own_notes(study: Study, plan: Plan, run: Run, name: str) -> dict[str, Any]:
    """Framing -> how a model's own text was read there."""
    cells = [cell for cell in plan.read_by(study, run, name) if cell.author == name]
    return {cell.framing: run.notes(cell) for cell in cells}


def _write_texts(study: Study, plan: Plan, run: Run, run_all: RunAll, report: Report) -> None:
    """Write texts in the order in which they need each other; side by side where they do not.

    One whose needs came out as they were is left as it is.
    """
    waiting = {text.name: text for text in plan.unwritten(study, run)}
    while waiting:
        ready = [text for text in waiting.values() if not any(need in waiting for need in text.needs)]
        assert ready, f"texts that need each other: {', '.join(waiting)}"
        by_model: dict[str, list[tuple[Text, Recipe]]] = {}
        for text in ready:
            del waiting[text.name]
            recipe = plan.recipe(study, run, text)
            if run.has_text(text.name, recipe):
                report("sampling", text.name, text.count)
            elif text.model is None:
                run.write_passages(text.name, text.write(Desk(study, plan.prompts, run)), recipe)
                report("sampling", text.name, text.count)
            else:
                by_model.setdefault(text.model, []).append((text, recipe))
        jobs = [
            Job(
                sum(text.count for text, _ in texts),
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
    function: Callable[..., None]
    arguments: tuple[Any, ...]
    phase: str


RunAll = Callable[[list[Job], Report], None]


def _run_here(jobs: list[Job], report: Report) -> None:
    for job in jobs:
        job.function(*job.arguments, partial(report, job.phase))


@contextlib.contextmanager
def _executor(workers: int) -> Iterator[RunAll]:
    """Runs jobs in this process or in a pool."""
    if workers <= 1:
        yield _run_here
        return
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // workers)
    reports, line = context.Pipe(duplex=False)
    # This process alone holds the one end; whatever ends it, SIGKILL too, closes it, and whoever watches the other end
    # ends as well.
    watched, lifeline = context.Pipe(duplex=False)
    of_others = set(multiprocessing.active_children())
    levels = {name: logging.getLogger(name).getEffectiveLevel() for name in _LOGGERS}
    arguments = (threads, watched, line, context.Lock(), levels)
    with (
        contextlib.closing(lifeline),
        ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=arguments) as pool,
    ):
        have_started = False
        places: set[str] = set()

        def kill_workers() -> None:
            for process in set(multiprocessing.active_children()) - of_others:
                process.kill()

        def relay(record: logging.LogRecord) -> None:
            """Log what a worker did, as if it had been done here; where models lie is said once, not by each worker."""
            said = record.getMessage()
            if record.name != _DEVICE or said not in places:
                logging.getLogger(record.name).handle(record)
            if record.name == _DEVICE:
                places.add(said)

        def run_all(jobs: list[Job], report: Report) -> None:
            nonlocal have_started
            # The longest first, so that at the end no worker waits for another.
            longest_first = sorted(jobs, key=lambda job: -job.passages)
            try:
                with _deaf_children():
                    waiting: set[Future] = {pool.submit(_in_worker, job) for job in longest_first}
                while waiting or reports.poll():
                    if reports.poll(0.2):
                        message = reports.recv()
                        have_started = True
                        if isinstance(message, logging.LogRecord):
                            relay(message)
                        elif message is not None:
                            report(*message)
                        continue
                    done, waiting = wait(waiting, timeout=0)
                    for future in done:
                        future.result()
            except BaseException as error:  # Ctrl-C too: what is finished is kept, and nobody waits for the rest
                kill_workers()  # the pool asks them to end, and waits
                if isinstance(error, BrokenProcessPool):
                    raise UserError(_why_broken(workers, have_started)) from None
                raise

        yield run_all


def _why_broken(workers: int, have_started: bool) -> str:
    if not have_started:
        return (
            "several workers are processes that import your script again, and one of them ended there: put the call "
            'under `if __name__ == "__main__":` in a file, or use workers=1'
        )
    return (
        f"one of {workers} workers was killed, probably for want of memory: use fewer --workers; what is finished is "
        "kept, and the same command goes on from there"
    )


@contextlib.contextmanager
def _deaf_children() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: it is this one's to handle, and they may still be importing.

    A process inherits what its parent's thread blocks. The resource tracker, whose start unblocks, already runs.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# The loggers whose records workers pass on: the package's, and the one that has a level of its own.
_DEVICE = "enaction.device"
_LOGGERS = ("enaction", _DEVICE)


class _Teller(QueueHandler):
    """Passes records on to the parent, as messages that can be pickled."""

    def __init__(self, say: Callable[[Any], None]) -> None:
        super().__init__(queue.Queue())  # which stays empty
        self._say = say

    def enqueue(self, record: logging.LogRecord) -> None:
        self._say(record)


# Where a worker says what it has done: the line to its parent, which its siblings use too.
_SAY: list[Callable[[Any], None]] = []


def _start_worker(threads: int, watched: Connection, line: Connection, lock: Lock, levels: dict[str, int]) -> None:
    """In a worker: Ctrl-C is the parent's to handle, the parent's end ends this process, and the parent logs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        with contextlib.suppress(OSError):
            watched.poll(None)  # nothing is ever sent: it returns when the other end is closed
        os._exit(1)  # without clean-up: files are written beside their names, and a dead parent may hold the lock

    def say(message: Any) -> None:
        with lock:
            line.send(message)

    threading.Thread(target=watch, name=LIGHT, daemon=True).start()
    torch.set_num_threads(threads)
    _SAY[:] = [say]
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    package = logging.getLogger(_LOGGERS[0])
    package.addHandler(_Teller(say))
    package.propagate = False
    say(None)


def _in_worker(job: Job) -> None:
    (say,) = _SAY
    job.function(*job.arguments, lambda name, n: say((job.phase, name, n)))


@contextlib.contextmanager
def _stopped_like_ctrl_c() -> Iterator[None]:
    """Let a polite end (Slurm, `docker stop`, a closed terminal) do what Ctrl-C does, unless the user's code has a say.

    Only the main thread of a process hears signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows knows no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            before[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
