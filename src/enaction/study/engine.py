"""The engine: writes every text, then reads every cell; what is already in the run folder is not done again.

What is written and read comes from the study's experiments (`enaction.experiments.plan`). The unit that is handed out
is a model: loaded once, it samples its texts, later it reads its cells. Small models run faster as one process a core
with one thread each than as one process with many threads, hence `workers`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import torch

from enaction import experiments
from enaction.errors import FramingError
from enaction.reader import Reader
from enaction.study.config import ModelSpec, Study
from enaction.study.planning import Derived, Plan, Sampled
from enaction.study.store import Run
from enaction.tokens import left_out_table, score_passages, table_notes

# phase ("sampling" or "reading"), author or model, passages done since the last report
Report = Callable[[str, str, int], None]


def run_study(study: Study, folder: Path, *, workers: int = 1, report: Report | None = None) -> Run:
    """Write and read everything that a study's experiments declare; resumes where an earlier run stopped.

    Args:
        study: what to do.
        folder: the run folder, made if it is not there.
        workers: processes; each gets an equal share of the cores.
        report: told of progress.

    Raises:
        UserError: a model cannot be loaded, a passage cannot be framed, the folder holds another study.
    """
    began = time.time()
    run, plan = Run(folder), experiments.plan(study)
    run.open(study)
    report = report or (lambda *_: None)
    with _hands(workers) as do_all:
        _write_texts(study, run, plan, do_all, report)
        # Backwards, so that the model that sampled last need not be loaded again to read.
        unread = {name: _unread(study, run, plan, name) for name in reversed(study.models)}
        jobs = [Job(count, (study, folder, name)) for name, count in unread.items() if count]
        found = do_all(_read_cells, jobs, report)
    _LOADED.clear()
    notes = run.manifest().get("readers", {})
    for more in found:
        notes |= more
    run.write_manifest(study, {"readers": notes, "seconds": round(time.time() - began, 1), "workers": workers})
    return run


def planned_passages(study: Study, run: Run) -> tuple[int, int]:
    """How many passages are still to be written, and how many readings of a passage are still to be done."""
    plan = experiments.plan(study)
    written = sum(text.count for text in plan.texts.values() if not run.has_passages(text.name))
    # Before sampling it is not known which models have a template; all framings are counted then.
    return written, sum(_unread(study, run, plan, name) for name in study.models)


def _unread(study: Study, run: Run, plan: Plan, reader: str) -> int:
    """How many readings of a passage a reader still has to do."""
    cells = plan.read_by(study, run, reader)
    return sum(plan.texts[cell.author].count for cell in cells if not run.has_tokens(cell))


def _write_texts(study: Study, run: Run, plan: Plan, do_all: DoAll, report: Report) -> None:
    """Write texts in the order in which they need each other; side by side where they do not."""
    waiting = {name: text for name, text in plan.texts.items() if not run.has_passages(name)}
    while waiting:
        ready = [text for text in waiting.values() if not any(need in waiting for need in text.needs)]
        assert ready, f"texts that need each other: {', '.join(waiting)}"
        by_model: dict[str, list[str]] = {}
        for text in ready:
            del waiting[text.name]
            if isinstance(text, Derived):
                run.write_passages(text.name, text.write(run))
                report("sampling", text.name, text.count)
            else:
                by_model.setdefault(text.model, []).append(text.name)
        jobs = [
            Job(sum(plan.texts[name].count for name in names), (study, run.folder, model, names))
            for model, names in by_model.items()
        ]
        do_all(_sample_texts, jobs, report)


# The reader that this process loaded last: big models load slowly, and two at a time may not fit into memory.
_LOADED: dict[tuple[str, ModelSpec], Reader] = {}


def _load(study: Study, name: str) -> Reader:
    spec = study.models[name]
    if (name, spec) not in _LOADED:
        _LOADED.clear()
        _LOADED[name, spec] = Reader.load(
            spec.model,
            name=name,
            dtype=spec.dtype,
            device=spec.device,
            chat_template=spec.chat_template.read_text() if spec.chat_template else None,
            trust_remote_code=spec.trust_remote_code,
            base=spec.base,
        )
    return _LOADED[name, spec]


def _sample_texts(study: Study, folder: Path, model: str, names: list[str], report: Report) -> dict[str, Any]:
    reader, run, plan = _load(study, model), Run(folder), experiments.plan(study)
    for name in names:
        text = plan.texts[name]
        assert isinstance(text, Sampled)
        run.write_passages(name, text.write(run, reader, _increments(lambda n, name=name: report("sampling", name, n))))
    return {}


def _read_cells(study: Study, folder: Path, name: str, report: Report) -> dict[str, Any]:
    reader, run, plan = _load(study, name), Run(folder), experiments.plan(study)
    notes: dict[str, Any] = {}
    optional = plan.optional_for(study, run, name)
    for cell in plan.read_by(study, run, name):
        if run.has_tokens(cell):
            continue
        progress = _increments(lambda n: report("reading", name, n))
        passages = run.passages(cell.author)
        try:
            table = score_passages(reader, passages, cell.framing, separator=study.separator, progress=progress)
        except FramingError as error:
            if cell not in optional:
                raise
            table = left_out_table(str(error))
        run.write_tokens(cell, table)
        if cell.author == name:
            notes[cell.framing] = table_notes(table)
    return {name: notes}


def _increments(tell_more: Callable[[int], None]) -> Callable[[int, int], None]:
    """Turn (done, total) into how many more are done."""
    before = 0

    def progress(done: int, total: int) -> None:
        nonlocal before
        tell_more(done - before)
        before = done

    return progress


class Job(NamedTuple):
    """What one model has to do: passages, and the arguments of the function that does it."""

    passages: int
    arguments: tuple[Any, ...]


DoAll = Callable[[Callable[..., dict[str, Any]], list[Job], Report], list[dict[str, Any]]]


@contextlib.contextmanager
def _hands(workers: int) -> Iterator[DoAll]:
    """Whoever does the jobs: this process, or a pool of them."""
    if workers <= 1:
        yield lambda function, jobs, report: [function(*job.arguments, report) for job in jobs]
        return
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // workers)
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(threads,)) as pool,
    ):
        reports = manager.Queue()

        def do_all(function: Callable[..., dict[str, Any]], jobs: list[Job], report: Report) -> list:
            # The longest first, so that at the end no worker waits for another.
            ordered = sorted(jobs, key=lambda job: -job.passages)
            waiting: set[Future] = {pool.submit(_in_worker, function, job.arguments, reports) for job in ordered}
            found = []
            try:
                while waiting:
                    with contextlib.suppress(queue.Empty):
                        report(*reports.get(timeout=0.2))
                        continue
                    done, waiting = wait(waiting, timeout=0)
                    found += [future.result() for future in done]
                while not reports.empty():
                    report(*reports.get())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            return found

        yield do_all


def _start_worker(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    torch.set_num_threads(threads)


def _in_worker(function: Callable[..., dict[str, Any]], arguments: tuple[Any, ...], reports: Any) -> dict[str, Any]:
    return function(*arguments, lambda *what: reports.put(what))
