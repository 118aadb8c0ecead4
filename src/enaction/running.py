"""One call from a study to its findings: sample, read, analyse, report.

`run` does what `enaction run` does and resumes what is in the folder; `open_run` opens a finished one. A plan is made
once; an engine carries it out, which needs the models (`run_study` is this step alone), then `experiments.analyse`
works from it. A run whose folder holds everything, analysed by this very code, is only opened: no model is loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import html
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enaction import experiments
from enaction.errors import StudyError, UserError
from enaction.files import write_atomically
from enaction.findings import Findings, read_findings, write_findings
from enaction.passages import Passage, Prompt
from enaction.reader.sources import find
from enaction.study import recipes
from enaction.study.config import Study, parse_study, study_of, with_absolute_paths
from enaction.study.engines import Report
from enaction.study.lock import held
from enaction.study.planning import Plan, Text
from enaction.study.store import Cell, Run
from enaction.words import Framing

if TYPE_CHECKING:
    import pyarrow as pa

    from enaction.page import Page, Statement
    from enaction.paper.claims import Checked
    from enaction.paper.verdict import Answer

# Phase (`sampling`, `reading`, `analysing`), how much of it is done, and how much it is in all.
Progress = Callable[[str, int, int], None]
_ANALYSED = "analysed.json"
_LOG = logging.getLogger(__name__)
# What a text follows from, for people.
_PARTS = {
    "text": "settings of its experiment",
    "sampling": "sampling",
    "prompts": "prompts",
    "needs": "the texts that it is made of",
    "writer": "files of its model",
}


@dataclass(frozen=True)
class FinishedRun:
    """A run with its findings.

    Attributes:
        folder: of the run.
        study: as it was resolved.
        findings: every number, with look-ups and `to_pandas()`.
        kept: experiments whose findings are those of an earlier version, see `analyse_again`.
    """

    folder: Path
    study: Study
    findings: Findings
    kept: tuple[str, ...] = ()

    def tokens(self, reader: str, author: str, framing: Framing = "assistant") -> pa.Table:
        """The token table of a cell: one row a prediction.

        Raises:
            StudyError: the run has no such cell.
        """
        return Run(self.folder).tokens(Cell(reader, author, framing))

    def passages(self, author: str) -> list[Passage]:
        """The passages of an author, or of a text that an experiment made.

        Raises:
            PassageError: the run has no such text.
        """
        return Run(self.folder).passages(author)

    def pages(self) -> dict[str, Page]:
        """What each experiment shows, by its name: statements, tables and charts as data."""
        return experiments.pages(self.study, self.findings)

    def cautions(self) -> list[Statement]:
        """What the run cannot say by its design, or must not be believed in; empty where nothing is to be said."""
        from enaction.paper import cautions

        return cautions.cautions(self.study, self.findings, self.kept)

    def claims(self) -> list[Checked]:
        """The paper's claims, with what the run says to each; those about the mechanism where it has the experiment."""
        from enaction.paper import claims, mechanism

        of_mechanism = mechanism.checked(self.findings)
        has_behaviour = not of_mechanism or not claims.EXPERIMENTS.isdisjoint(self.findings.experiments)
        return [*(claims.checked(self.findings) if has_behaviour else ()), *of_mechanism]

    def answer(self) -> Answer:
        """What the run says in a few sentences, and the numbers that they rest on."""
        from enaction.paper import verdict

        return verdict.answer(self.findings, self.pages())

    def report(self, *, png: bool = False) -> Path:
        """Make report.html and the figures anew and return the path of report.html.

        Args:
            png: figures as PNG too, beside SVG.
        """
        from enaction.paper import questions
        from enaction.report import build_report

        pages = self.pages()
        return build_report(
            self.folder,
            pages,
            answer=self.answer(),
            claims=self.claims(),
            questions=questions.answered(pages),
            cautions=self.cautions(),
            png=png,
        )

    def _repr_html_(self) -> str:
        return f"<p>run of study <b>{html.escape(self.study.name)}</b>: {len(self.findings)} findings</p>"


def run(
    study: Study | Mapping[str, Any] | str | Path,
    out: str | Path | None = None,
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> FinishedRun:
    """Carry out a study: sample, read, analyse, report; resumes by itself where the folder exists.

    Args:
        study: a study file, what such a file holds (its paths are relative to the working folder), or a `Study`.
        out: the run folder; `runs/NAME` by default.
        workers: processes that share the cores; more than one pays for small models only, and needs the call to be
            under `if __name__ == "__main__":` in a script, since each process imports it.
        progress: called as work is done.

    Raises:
        UserError: the study is not one, a model cannot be loaded, a passage cannot be framed, or the folder holds
            another study.
    """
    if not isinstance(workers, int) or workers < 1:
        raise StudyError(f"workers is {workers!r}: give a number of processes, at least 1")
    chosen = study if isinstance(study, Study) else _study(study)
    folder, plan = Path(out) if out is not None else Path("runs") / chosen.name, experiments.plan(chosen)
    store = Run(folder)
    store.require(chosen, plan.prompts, needs_models=True)
    with held(folder):
        store.open(chosen, plan.prompts)
        is_complete = plan.passages_left(chosen, store) == (0, 0)
        if not is_complete or "readers" not in _manifest(store):
            _carry_out(chosen, store, plan, workers, _counting(chosen, plan, store, progress))
        if is_complete and _is_analysed(folder, plan):
            return FinishedRun(folder, chosen, read_findings(folder / "findings.json"))
        return _analysed(chosen, store, plan, progress or (lambda *_: None))


def open_run(folder: str | Path) -> FinishedRun:
    """Open a run that `run` finished.

    Raises:
        StudyError: the folder holds no run, or one that was not analysed since it gained an experiment.
    """
    path = Path(folder)
    study, findings = Run(path).study(), read_findings(path / "findings.json")
    missing = [name for name in study.experiments if name not in _analysis(path).get("experiments", study.experiments)]
    if missing:
        raise StudyError(
            f"{path} has no findings of {', '.join(missing)} yet: resume it by `enaction run` with the same --out"
        )
    return FinishedRun(path, study, findings)


def analyse_again(folder: str | Path, *, png: bool = False) -> FinishedRun:
    """Analyse the token tables of a run anew and rebuild findings.json, figures and report.html.

    The prompts are those that the run answered. An experiment for which this version wants texts or cells that the run
    lacks keeps the findings that it has, and a caution says so.

    Args:
        folder: of the run.
        png: figures as PNG too, beside SVG.

    Raises:
        StudyError: the folder holds no run, or one that is not complete.
    """
    store = Run(Path(folder))
    study, stored = store.study(), _stored(store.folder)
    prompts = store.prompts(study)
    kept = [
        name
        for name in study.experiments
        if name in stored.experiments and _left(study, store, prompts, [name]) != (0, 0)
    ]
    complete = [name for name in study.experiments if name not in kept]
    to_write, to_read = _left(study, store, prompts, complete)
    if to_write or to_read:
        raise StudyError(
            f"{folder} is not complete: {to_write} passages are to be written and {to_read} to be read; `enaction run` "
            "with the same study and --out resumes it"
        )
    plan = experiments.plan(_with(study, complete), prompts)
    earlier = Findings(f for name in kept for f in stored.of(name))
    return _analysed(study, store, plan, lambda *_: None, earlier=earlier, png=png)


def _with(study: Study, names: Sequence[str]) -> Study:
    """The study with these of its experiments alone."""
    return study.model_copy(update={"experiments": {name: study.experiments[name] for name in names}})


def _left(study: Study, store: Run, prompts: Sequence[Prompt] | None, names: Sequence[str]) -> tuple[int, int]:
    """Passages to be written and to be read before these experiments can be analysed."""
    part = _with(study, names)
    return experiments.plan(part, prompts).passages_left(part, store, looks=False)


def _stored(folder: Path) -> Findings:
    """The findings of the last analysis; none if there was none, or it was by a version that cannot be read."""
    try:
        return read_findings(folder / "findings.json")
    except StudyError:
        return Findings()


def load_study(path: Path) -> Study:
    """Read a study file; its relative paths, those in the experiments' settings too, become absolute.

    Raises:
        StudyError: the file is missing, not YAML, or not a study; one line names each key and what is wrong.
    """
    return _settled(parse_study(path), path.parent)


def run_study(study: Study, folder: Path, *, workers: int = 1, report: Report | None = None) -> Run:
    """Write and read everything that a study's experiments declare; resumes where an earlier run stopped.

    Args:
        study: what to do.
        folder: the run folder, made if it does not exist.
        workers: processes; each gets an equal share of the cores.
        report: called as passages are done.

    Raises:
        UserError: a model cannot be loaded, a passage cannot be framed, the folder holds another study.
    """
    store, plan = Run(folder), experiments.plan(study)
    store.require(study, plan.prompts, needs_models=True)
    with held(folder):
        store.open(study, plan.prompts)
        _carry_out(study, store, plan, workers, report or (lambda *_: None))
    return store


def _study(given: Mapping[str, Any] | str | Path) -> Study:
    if isinstance(given, str | Path):
        return load_study(Path(given))
    if not isinstance(given, Mapping):
        raise StudyError(f"{type(given).__name__} is no study: give a study file, what such a file holds, or a Study")
    return _settled(study_of(dict(given), "study"), Path.cwd())


def _settled(study: Study, folder: Path) -> Study:
    return experiments.settled(with_absolute_paths(study, folder), folder)


def _carry_out(study: Study, store: Run, plan: Plan, workers: int, report: Report) -> None:
    unwritten = plan.unwritten(study, store)
    writing = {text.model for text in unwritten}
    measuring = {table.model for table in plan.unmeasured(study, store)}
    for name, spec in study.models.items():
        if name in writing or name in measuring or plan.unread(study, store, name):
            find(spec.model).require(spec.base)
    from enaction.study.engines import local  # torch, which analysis and report do without

    began, before = time.time(), _manifest(store)
    workers = min(workers, os.cpu_count() or 1)
    again = [text for text in unwritten if store.has_passages(text.name)]
    if again:
        _LOG.warning("%s", _growing(study, store, plan, again))

    def write(**extra: Any) -> None:
        seconds = round(before.get("seconds", 0.0) + time.time() - began, 1)
        store.write_manifest(study, {"seconds": seconds, "workers": workers, **extra})

    try:
        fresh = local.carry_out(study, plan, store, workers=workers, report=report)
    except BaseException:
        with contextlib.suppress(UserError, OSError):  # what ended the session is what has to be said
            write(**({"readers": before["readers"]} if "readers" in before else {}))
        raise
    known = before.get("readers", {})
    notes = known | {reader: known.get(reader, {}) | of_framings for reader, of_framings in fresh.items()}
    write(plan=plan.digest(), readers=notes)


def _growing(study: Study, store: Run, plan: Plan, texts: Sequence[Text]) -> str:
    """What is written again of what a run holds, and why."""
    why: dict[str, list[str]] = {}
    for text in texts:
        old, new = store.recipe(text.name) or {}, plan.recipe(study, store, text)
        parts = ", ".join(_PARTS[part] for part in recipes.differing(old, new) if part in _PARTS)
        why.setdefault(parts or "the texts that it is made of", []).append(text.name)
    reasons = "; ".join(
        f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''} ({part})"
        for part, names in why.items()
    )
    return f"{store.folder} grows: {reasons}. Passages and readings that are the same now are kept"


def _manifest(store: Run) -> dict[str, Any]:
    """What the run was made with; nothing if that was never written or is damaged, since it is then written anew."""
    try:
        manifest = store.manifest()
    except StudyError:
        return {}
    seconds = manifest.get("seconds", 0.0)
    return manifest if isinstance(seconds, int | float) else manifest | {"seconds": 0.0}


def _analysed(
    study: Study, store: Run, plan: Plan, progress: Progress, *, earlier: Findings | None = None, png: bool = False
) -> FinishedRun:
    """Analyse all experiments but those of which there are `earlier` findings, and write what follows."""
    progress("analysing", 0, 2)
    kept = earlier.experiments if earlier is not None else []
    fresh = experiments.analyse(_with(study, [name for name in study.experiments if name not in kept]), store, plan)
    findings = Findings([*fresh, *(earlier or ())])
    write_findings(store.folder / "findings.json", findings)
    progress("analysing", 1, 2)
    done = FinishedRun(store.folder, study, findings, tuple(kept))
    done.report(png=png)
    with write_atomically(store.folder / _ANALYSED) as temporary:
        made = {"of": _state(store.folder, plan), "experiments": list(study.experiments)}
        temporary.write_text(json.dumps(made) + "\n")
    progress("analysing", 2, 2)
    return done


def _is_analysed(folder: Path, plan: Plan) -> bool:
    """Whether findings and report are of the files that are in the folder, made by this code."""
    try:
        return _analysis(folder).get("of") == _state(folder, plan)
    except OSError:  # an output is missing
        return False


def _analysis(folder: Path) -> dict[str, Any]:
    """What analysed.json says of the last analysis; nothing if there was none, or the file is damaged."""
    try:
        made = json.loads((folder / _ANALYSED).read_text())
    except (OSError, ValueError):
        return {}
    return made if isinstance(made, dict) else {}


def _state(folder: Path, plan: Plan) -> str:
    """SHA-256 of the outputs and of what they follow from: the plan with its prompts, the run's files, this code."""
    digest = hashlib.sha256(plan.digest().encode())
    for name in ("study.yaml", "manifest.json", "findings.json", "report.html"):
        digest.update((folder / name).read_bytes())
    digest.update(repr(sorted(path.name for path in (folder / "figures").glob("*.svg"))).encode())
    code = Path(__file__).parent
    made = [path for name in ("passages", "tokens", "measured") for path in (folder / name).glob("*.parquet")]
    sources = [*made, *code.rglob("*.py")]
    for path in sorted([*sources, *code.rglob("*.j2")]):
        status = path.stat()
        digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _counting(study: Study, plan: Plan, store: Run, progress: Progress | None) -> Report:
    """Turn increments into (phase, done, total)."""
    if progress is None:
        return lambda *_: None
    phases = ("sampling", "reading")
    totals: dict[str, int] = dict(zip(phases, plan.passages_left(study, store), strict=True))
    done: dict[str, int] = dict.fromkeys(phases, 0)

    def report(phase: str, name: str, n: int) -> None:
        if phase == "reading" and not done["reading"]:
            # Only now is it known which models have no template and read in one framing.
            totals["reading"] = plan.passages_left(study, store)[1]
        done[phase] += n
        # Texts can come out with fewer passages than planned, cells with more.
        progress(phase, done[phase], max(totals[phase], done[phase]))

    return report
