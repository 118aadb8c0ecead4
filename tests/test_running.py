"""One Python call from a study to its findings: what it takes, what it gives, and when it does nothing again."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from typer.testing import CliRunner

import enaction
from enaction.cli import app
from enaction.errors import PassageError, StudyError
from enaction.experiments import analyse, plan
from enaction.running import FinishedRun, analyse_again, load_study, run_study
from enaction.study.config import Study
from enaction.study.store import Cell, Run

HEAVY = "torch", "transformers"


@pytest.fixture(scope="module", name="study")
def _study(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a study file would hold, with absolute paths."""
    folder = tmp_path_factory.mktemp("models")
    tiny.save(folder, "ab")
    tiny.save_prompts(folder / "prompts.jsonl", ("fox", "house"))
    return {
        "name": "tiny",
        "models": {family: {"model": str(folder / family), "family": family} for family in "ab"},
        "prompts": str(folder / "prompts.jsonl"),
        "sampling": {"per_prompt": 2, "max_new_tokens": 12},
        "framings": ["assistant"],
        "resamples": 100,
    }


@pytest.fixture(scope="module", name="finished")
def _finished(study: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return enaction.run(study, tmp_path_factory.mktemp("runs") / "tiny")


def test_a_run_gives_findings_tokens_passages_and_a_report(finished: FinishedRun) -> None:
    interaction = finished.findings.one("interaction", "matrix", reader="mean", framing="assistant")
    assert interaction is not None
    frame = finished.findings.to_pandas()
    assert len(frame) == len(finished.findings)
    row = frame[(frame.quantity == "interaction") & (frame.reader == "mean")].iloc[0]
    assert (row.estimate, row.low, row.null) == (interaction.estimate, interaction.low, 0.0)
    tokens = finished.tokens("a", "b")
    assert set(tokens["passage_id"].to_pylist()) <= {p.id for p in finished.passages("b")}
    assert finished.report().read_text().startswith("<!doctype html>")


def test_the_command_prints_one_screen_and_on_demand_everything(finished: FinishedRun) -> None:
    printed = {
        option: CliRunner().invoke(app, ["report", str(finished.folder), *([option] if option else [])]).stdout
        for option in ("", "--full", "--json")
    }
    first = printed[""].splitlines()
    assert len(first) <= 45
    assert first[0].startswith("Caution: ")
    assert first[-1] == f"Report: {finished.folder / 'report.html'}"
    assert printed["--full"].startswith("\n".join(first[:-1]))
    assert "Identity: sum" in printed["--full"]
    assert "Identity: sum" not in printed[""]
    data = json.loads(printed["--json"])
    assert len(data["findings"]) == len(finished.findings)
    assert all(finding["definition"] for finding in data["findings"])
    assert data["answer"][0] in " ".join(printed[""].split())
    assert data["cautions"] == [statement.sentence for statement in finished.cautions()]
    assert len(data["claims"]) == len(finished.claims())
    assert Path(data["files"]["report"]).is_file()
    with pytest.raises(StudyError):
        finished.tokens("a", "nobody")
    with pytest.raises(PassageError):
        finished.passages("nobody")


def test_a_path_a_dictionary_and_a_study_are_the_same_study(
    finished: FinishedRun, study: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(study))
    monkeypatch.chdir(tmp_path)
    for given in (file, str(file), study, load_study(file)):
        again = enaction.run(given, finished.folder)
        assert again.study == finished.study
        assert again.findings == finished.findings
    assert enaction.open_run(finished.folder).findings == finished.findings


def test_progress_is_reported_phase_by_phase_to_the_end(study: dict[str, Any], tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    enaction.run(study, tmp_path / "run", progress=lambda *call: calls.append(call))
    assert list(dict.fromkeys(phase for phase, _, _ in calls)) == ["sampling", "reading", "analysing"]
    last = {phase: (done, total) for phase, done, total in calls}
    assert last == {"sampling": (8, 8), "reading": (16, 16), "analysing": (2, 2)}


def test_a_finished_run_is_neither_analysed_nor_loaded_again(finished: FinishedRun, study: dict[str, Any]) -> None:
    finished.report(png=True)  # the same bytes again
    before = (finished.folder / "findings.json").stat().st_mtime_ns
    code = (
        f"import sys, enaction\nrun = enaction.run({study!r}, {str(finished.folder)!r})\nprint(len(run.findings))\n"
        f"print([name for name in {(*HEAVY, 'scipy', 'matplotlib')!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [str(len(finished.findings)), "[]"], done.stderr
    assert (finished.folder / "findings.json").stat().st_mtime_ns == before


def test_every_token_table_is_read_once(finished: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    every = finished.study.model_copy(update={"experiments": {"matrix": {}, "prior": {}, "framings": {}}})
    run = run_study(every, finished.folder.with_name("every"))
    read: list[Cell] = []
    tokens = Run.tokens
    monkeypatch.setattr(Run, "tokens", lambda self, cell: read.append(cell) or tokens(self, cell))
    analyse(every, run)
    assert len(read) == len(set(read)) > 4


def test_what_was_changed_since_is_analysed_again(study: dict[str, Any], tmp_path: Path) -> None:
    run = enaction.run(study, tmp_path / "run")
    for path in (run.folder / "findings.json", run.folder / "report.html", run.folder / "analysed.json"):
        path.write_text("[]")
        assert enaction.run(study, run.folder).findings == run.findings
        assert path.read_text() != "[]"


@pytest.mark.parametrize("command", [["report"], ["run", "study.yaml", "--out"]], ids=lambda c: c[0])
def test_analysis_and_report_need_no_model(
    command: list[str], finished: FinishedRun, tmp_path: Path, study: dict[str, Any]
) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    (finished.folder / "analysed.json").unlink(missing_ok=True)
    code = (
        f"import sys\nfrom enaction.cli import app\n"
        f"app({[*command, str(finished.folder)]!r}, standalone_mode=False)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_figures_are_drawn_as_png_only_on_demand(finished: FinishedRun) -> None:
    figures = finished.folder / "figures"
    finished.report()
    assert list(figures.glob("*.svg"))
    assert not list(figures.glob("*.png"))
    finished.report(png=True)
    assert {p.stem for p in figures.glob("*.png")} == {p.stem for p in figures.glob("*.svg")}
    finished.report()  # pictures of an earlier report would show other numbers
    assert not list(figures.glob("*.png"))


def test_a_plan_has_one_digest_that_changes_with_the_study(study: dict[str, Any], finished: FinishedRun) -> None:
    digest = plan(finished.study).digest()
    assert digest == plan(finished.study).digest()
    assert json.loads((finished.folder / "manifest.json").read_text())["plan"] == digest
    longer = finished.study.model_copy(
        update={"sampling": finished.study.sampling.model_copy(update={"max_new_tokens": 13})}
    )
    assert plan(longer).digest() != digest


def test_a_run_that_was_cut_short_is_named_and_not_analysed(
    finished: FinishedRun, study: dict[str, Any], tmp_path: Path
) -> None:
    run = enaction.run(study, tmp_path / "run")
    next((run.folder / "passages").glob("a.parquet")).unlink()
    with pytest.raises(StudyError, match=r"not complete: 4 passages are to be written.*resumes it"):
        analyse_again(run.folder)


@pytest.mark.parametrize("given", [None, 3, ["matrix"]])
def test_what_is_no_study_is_refused(given: Any, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="is no study"):
        enaction.run(given, tmp_path)


def test_open_run_names_a_folder_that_holds_no_run(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no run folder"):
        enaction.open_run(tmp_path)


def test_findings_of_an_older_version_are_refused_with_the_remedy(finished: FinishedRun, tmp_path: Path) -> None:
    """Without nulls no verdict could be given."""
    path = finished.folder / "findings.json"
    items = json.loads(path.read_text())
    (tmp_path / "study.yaml").write_bytes((finished.folder / "study.yaml").read_bytes())
    (tmp_path / "findings.json").write_text(json.dumps([{k: v for k, v in f.items() if k != "null"} for f in items]))
    with pytest.raises(StudyError, match=r"older version.*enaction report"):
        enaction.open_run(tmp_path)


def test_prompts_that_changed_since_the_run_are_named(study: dict[str, Any], tmp_path: Path) -> None:
    prompts = Path(study["prompts"]).read_text()
    file = tmp_path / "prompts.jsonl"
    file.write_text(prompts)
    run = enaction.run({**study, "prompts": str(file)}, tmp_path / "run")
    for others, words in ((prompts.replace("fox", "dog"), "'p0' is .*fox.* there and .*dog.* here"),
                          (prompts.replace("p0", "q0"), "has no prompt 'p0'"),
                          (prompts.splitlines()[0], "it answered 2, and here are 1")):  # fmt: skip
        file.write_text(others)
        with pytest.raises(StudyError, match=words):
            enaction.run({**study, "prompts": str(file)}, run.folder)
    file.write_text(prompts)
    assert enaction.run({**study, "prompts": str(file)}, run.folder).findings == run.findings


def test_a_run_is_analysed_again_without_the_file_of_its_prompts(study: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(Path(study["prompts"]).read_text())
    run = enaction.run({**study, "prompts": str(file)}, tmp_path / "run")
    file.unlink()
    again = analyse_again(run.folder)
    assert again.findings == run.findings
    assert again.kept == ()


def test_an_experiment_that_this_version_cannot_analyse_keeps_its_findings(
    study: dict[str, Any], tmp_path: Path
) -> None:
    """As where an older run lacks texts that have been added to an experiment since."""
    run = enaction.run({**study, "experiments": ["matrix", "prior"]}, tmp_path / "run")
    of_matrix = {cell.author for cell in plan(Study.model_validate({**study, "experiments": ["matrix"]})).cells}
    for path in (run.folder / "tokens").glob("*.parquet"):
        if path.name.split("--")[1] not in of_matrix:
            path.unlink()
    again = analyse_again(run.folder)
    assert again.kept == ("prior",)
    assert list(again.findings) == list(run.findings)
    assert "earlier analysis" in (run.folder / "report.html").read_text()


def test_a_damaged_text_is_named(study: dict[str, Any], tmp_path: Path) -> None:
    run = enaction.run(study, tmp_path / "run")
    text = run.folder / "passages" / "a.parquet"
    text.write_bytes(text.read_bytes()[:100])
    with pytest.raises(PassageError, match="not a readable Parquet file"):
        enaction.run(study, run.folder)


@pytest.mark.parametrize("content", ["{", "[]", '{"readers": 1}', "{}", None])
def test_a_damaged_manifest_is_named_by_the_report_and_written_anew_by_the_run(
    content: str | None, finished: FinishedRun, study: dict[str, Any]
) -> None:
    manifest = finished.folder / "manifest.json"
    before = json.loads(manifest.read_text())
    manifest.unlink() if content is None else manifest.write_text(content)
    if content not in (None, "{}"):
        with pytest.raises(StudyError, match=r"manifest\.json.*enaction run.* writes it anew"):
            finished.report()
    assert enaction.run(study, finished.folder).findings == finished.findings
    after = json.loads(manifest.read_text())
    assert after | {"seconds": 0} == before | {"seconds": 0}


def test_the_seconds_of_all_sessions_add_up(study: dict[str, Any], tmp_path: Path) -> None:
    run = enaction.run(study, tmp_path / "run")
    manifest = run.folder / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"seconds": 1000.0}))
    (run.folder / "tokens" / "a--b--assistant.parquet").unlink()
    enaction.run(study, run.folder)
    assert 1000 <= json.loads(manifest.read_text())["seconds"] < 1100


def test_what_is_shared_names_no_folder_of_this_machine(finished: FinishedRun, study: dict[str, Any]) -> None:
    machine = str(Path(study["prompts"]).parents[1])
    assert str(finished.study.models["a"].model).startswith(machine)
    for name in ("manifest.json", "report.html", "study.yaml", "findings.json", "analysed.json"):
        text = (finished.folder / name).read_text()
        assert machine not in text, name
        assert str(Path.home()) not in text, name
    assert Run(finished.folder).study() == finished.study


def test_figures_that_were_removed_are_drawn_again(study: dict[str, Any], tmp_path: Path) -> None:
    run = enaction.run(study, tmp_path / "run")
    figures = {path.name for path in (run.folder / "figures").iterdir()}
    for path in (run.folder / "figures").iterdir():
        path.unlink()
    enaction.run(study, run.folder)
    assert {path.name for path in (run.folder / "figures").iterdir()} == figures != set()


def test_a_run_that_gained_an_experiment_is_not_opened_before_it_is_analysed(
    study: dict[str, Any], tmp_path: Path
) -> None:
    run = enaction.run({**study, "experiments": ["matrix"]}, tmp_path / "run")
    grown = Study.model_validate({**study, "experiments": ["matrix", "prior"]})
    Run(run.folder).open(grown)  # and is stopped
    with pytest.raises(StudyError, match="no findings of prior yet"):
        enaction.open_run(run.folder)
    assert enaction.open_run(enaction.run(grown, run.folder).folder).findings.experiments == ["matrix", "prior"]


def test_the_name_of_a_study_is_escaped_in_a_notebook(finished: FinishedRun) -> None:
    named = replace(finished, study=finished.study.model_copy(update={"name": "<script>"}))
    assert "<script>" not in named._repr_html_()
