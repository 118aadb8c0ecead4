"""The engine: samples every author, then reads every cell; what is already in the run folder is not done again.

The unit that is handed out is a model: loaded once, it samples its passages, later it reads its cells. Small models run
faster as one process a core with one thread each than as one process with many threads, hence `workers`.
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
from typing import Any

import numpy as np
import torch

from enaction.framing import Framing
from enaction.lab.chats import Writers, all_requests
from enaction.lab.world import tell
from enaction.passages import Passage, Prompt
from enaction.reader import Reader
from enaction.sampling import sample
from enaction.study.config import WORLD, ModelSpec, Study
from enaction.study.store import Cell, Run
from enaction.tokens import score_passages, table_notes

# phase ("sampling" or "reading"), model, passages done since the last report
Report = Callable[[str, str, int], None]


def run_study(study: Study, folder: Path, *, workers: int = 1, report: Report | None = None) -> Run:
    """Sample and read everything that a study declares; resumes where an earlier run stopped.

    Args:
        study: what to do.
        folder: the run folder, made if it is not there.
        workers: processes; each gets an equal share of the cores.
        report: told of progress.

    Raises:
        UserError: a model cannot be loaded, a passage cannot be framed, the folder holds another study.
    """
    began = time.time()
    run = Run(folder)
    run.open(study)
    report = report or (lambda *_: None)
    if study.world_text and not run.has_passages(WORLD):
        run.write_passages(WORLD, world_passages(study))
    names = list(study.models)
    notes: dict[str, Any] = {}
    with _hands(workers) as do_all:
        do_all(_sample_author, [(study, folder, n) for n in names if not run.has_passages(n)], report)
        # Backwards, so that the model that sampled last need not be loaded again to read.
        unread = [n for n in reversed(names) if not all(run.has_tokens(c) for c in cells_of(study, run, n))]
        jobs = [(study, folder, n) for n in unread]
        for found in do_all(_read_cells, jobs, report):
            notes |= found
    _LOADED.clear()
    readers = run.manifest().get("readers", {}) | notes
    run.write_manifest(study, {"readers": readers, "seconds": round(time.time() - began, 1), "workers": workers})
    return run


def planned_passages(study: Study, run: Run) -> tuple[int, int]:
    """How many passages are still to be sampled, and how many readings of a passage are still to be done."""
    each = len(study.load_prompts()) * study.sampling.per_prompt
    sampled = sum(not run.has_passages(name) for name in study.models) * each
    # Before sampling it is not known which models have a template; count all framings then.
    cells = [c for n in study.models for c in cells_of(study, run, n)]
    return sampled, sum(not run.has_tokens(c) for c in cells) * each


def own_framing(study: Study, run: Run, model: str) -> Framing | None:
    """The framing that a model sampled in, None before it has: `none` means that it has no template."""
    fixed = study.models[model].framing
    if fixed is not None or not run.has_passages(model):
        return fixed
    return run.passages(model)[0].sampling["framing"]


def framing_for(own: Framing | None, framing: Framing) -> Framing:
    """The framing that a model of that `own_framing` reads in when `framing` is asked for: `none` has no template."""
    return "none" if own == "none" else framing


def cells_of(study: Study, run: Run, reader: str) -> list[Cell]:
    """The cells of a reader, in a fixed order, without repetition."""
    if study.cross_stage or study.models[reader].stage == "base":
        authors = list(study.models)
    else:
        mates = {m for members in study.groups().values() if reader in members for m in members} | {reader}
        authors = [name for name in study.models if name in mates]
    if study.world_text:
        authors.append(WORLD)
    own = own_framing(study, run, reader)
    framings: dict[Framing, None] = dict.fromkeys(framing_for(own, f) for f in study.framings)
    return [Cell(reader, author, framing) for framing in framings for author in authors]


def world_passages(study: Study) -> list[Passage]:
    """Fresh text of the embedded world, by its own writers, for each prompt of the study."""
    topics = {request.text: request.topic for request in all_requests()}
    writers, rng = Writers(), np.random.default_rng([study.seed, 404])
    return [
        Passage(
            id=f"{prompt.id}/{k}",
            prompt_id=prompt.id,
            prompt=prompt.messages,
            response=tell(writers.of_text(rng), rng, topic=topics.get(prompt.messages[-1]["content"])).text,
            author=WORLD,
            ended=True,
        )
        for prompt in study.load_prompts()
        for k in range(study.sampling.per_prompt)
    ]


# The reader that this process loaded last: big models load slowly, and two at a time may not fit into memory.
_LOADED: dict[tuple[str, ModelSpec], Reader] = {}


def _load(study: Study, name: str) -> Reader:
    spec = study.models[name]
    if (name, spec) not in _LOADED:
        _LOADED.clear()
        _LOADED[name, spec] = Reader.load(
            spec.model,
            name=name,
            dtype=getattr(torch, spec.dtype),
            chat_template=spec.chat_template.read_text() if spec.chat_template else None,
            trust_remote_code=spec.trust_remote_code,
        )
    return _LOADED[name, spec]


def _sample_author(study: Study, folder: Path, name: str, report: Report) -> dict[str, Any]:
    reader, settings = _load(study, name), study.sampling
    prompts: list[Prompt] = study.load_prompts()
    passages = sample(
        reader,
        prompts,
        n=settings.per_prompt,
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_new_tokens=settings.max_new_tokens,
        framing=study.models[name].framing,
        separator=study.separator,
        seed=study.seed,
        batch_size=settings.batch_size,
        author=name,
        progress=_increments(lambda n: report("sampling", name, n)),
    )
    Run(folder).write_passages(name, passages)
    return {}


def _read_cells(study: Study, folder: Path, name: str, report: Report) -> dict[str, Any]:
    reader, run = _load(study, name), Run(folder)
    notes: dict[str, Any] = {}
    for cell in cells_of(study, run, name):
        if run.has_tokens(cell):
            continue
        progress = _increments(lambda n: report("reading", name, n))
        passages = run.passages(cell.author)
        table = score_passages(reader, passages, cell.framing, separator=study.separator, progress=progress)
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


DoAll = Callable[[Callable[..., dict[str, Any]], list[tuple[Any, ...]], Report], list[dict[str, Any]]]


@contextlib.contextmanager
def _hands(workers: int) -> Iterator[DoAll]:
    """Whoever does the jobs: this process, or a pool of them."""
    if workers <= 1:
        yield lambda job, arguments, report: [job(*a, report) for a in arguments]
        return
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // workers)
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(threads,)) as pool,
    ):
        reports = manager.Queue()

        def do_all(job: Callable[..., dict[str, Any]], arguments: list[tuple[Any, ...]], report: Report) -> list:
            waiting: set[Future] = {pool.submit(_in_worker, job, a, reports) for a in arguments}
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


def _in_worker(job: Callable[..., dict[str, Any]], arguments: tuple[Any, ...], reports: Any) -> dict[str, Any]:
    return job(*arguments, lambda *what: reports.put(what))
