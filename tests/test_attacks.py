"""Names, files and ends that would do harm: each is refused in one line, found and mended, or leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from enaction.errors import StudyError
from enaction.experiments import plan
from enaction.passages import Sampling
from enaction.study.config import Study, study_of
from enaction.study.names import LONGEST, suggestion
from enaction.study.planning import Plan, Sampled, merged


def _study(**changes: Any) -> dict[str, Any]:
    return {"name": "s", "models": {"a": {"model": "zoo:ash-rl", "family": "f"}}} | changes


def _models(*names: str) -> dict[str, Any]:
    return _study(models={name: {"model": "zoo:ash-rl", "family": "f"} for name in names})


BAD = [
    "", "-b", "a-", "a--b", ".a", "a.", "a..b", "..", "../x", "/x", "a/b", "a\\b", "a b", "a\0b", "a\n", "\x1b[31mred",
    "\u202eabc", "\u2066a\u2069", "cost$}$", "$_$", "a<b>", "a\uffff", "a:b", "x" * (LONGEST + 1), "\ud800",
    unicodedata.normalize("NFD", "é"),
]  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("given", [lambda name: _study(name=name), _models,
                                   lambda name: _study(models={"a": {"model": "m", "family": "f", "stage": name}}),
                                   lambda name: _study(models={"a": {"model": "m", "family": name}}),
                                   lambda name: _models("a", "b") | {"matrices": {name: ["a", "b"]}}])  # fmt: skip
def test_a_name_that_is_more_than_a_name_is_refused_in_plain_letters_with_one_that_can_be_given(
    name: str, given: Any
) -> None:
    with pytest.raises(StudyError, match="cannot name a") as caught:
        study_of(given(name), "study.yaml")
    assert str(caught.value).isprintable()
    assert study_of(given(suggestion(name)), "study.yaml")


@pytest.mark.parametrize("name", ["world", "mean", "Mean", "human", "memorised", "x.again", "x.T0.5", "x.as-pirate",
                                  "a.moved.plain"])  # fmt: skip
def test_names_of_what_is_no_model_are_refused(name: str) -> None:
    with pytest.raises(StudyError, match="cannot name a model"):
        study_of(_models(name), "study.yaml")


@pytest.mark.parametrize("name", ["ash-rl", "actor-1.30", "llama-3.2", "qwen2.5-0.5b", "Modèle_7", "模型"])
def test_names_that_models_have_are_taken(name: str) -> None:
    assert list(study_of(_models(name), "study.yaml").models) == [name]


@pytest.mark.parametrize("names", [("a", "A"), ("straße", "STRASSE"), ("É", "é")])
def test_names_that_some_disk_takes_for_one_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(StudyError, match="one file"):
        study_of(_models(*names), "study.yaml")


def test_a_plan_never_has_two_texts_of_one_file() -> None:
    def of(name: str, temperature: float) -> Plan:
        return Plan(
            {name: Sampled(name=name, model="a", count=2, sampling=Sampling(temperature=temperature))}, []
        )  # fmt: skip

    assert len(merged([of("x", 1), of("x", 1), of("y", 1)]).texts) == 2
    with pytest.raises(StudyError, match="two different texts would be called 'x'"):
        merged([of("x", 1), of("x", 0.5)])
    with pytest.raises(StudyError, match="one file"):
        merged([of("x", 1), of("X", 1)])


def test_a_derived_text_never_takes_the_place_of_a_models_own() -> None:
    models = {name: {"model": "zoo:ash-rl", "family": "f", "stage": "rl"} for name in ("x", "y")}
    study = Study.model_validate(_study(models=models, experiments={"controls": {}}))
    derived = next(name for name in plan(study).texts if name.startswith("x."))
    spec = study.models["x"]
    clash = study.model_copy(update={"models": {**study.models, derived: spec}})  # past the study file's own check
    with pytest.raises(StudyError, match="two different texts"):
        plan(clash)


# Workers as a run has them, each with a job that would take a minute and writes down who it is.
SCRIPT = """
import os, sys, time
from pathlib import Path
from enaction.errors import UserError
from enaction.study.engines import local

def job(folder, say):
    Path(folder, f"{os.getpid()}.pid").touch()
    say("a", 1)
    time.sleep(60)
    return {}

if __name__ == "__main__":
    jobs = [local.Job(1, job, (sys.argv[1],), "reading")] * 2
    try:
        with local._stopped_like_ctrl_c(), local._executor(2) as run_all:
            run_all(jobs, lambda *_: None)
    except UserError as error:
        print(error)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _until(holds: Any, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return holds()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize(
    ("number", "who", "code"),
    [(signal.SIGKILL, "parent", -9), *(pytest.param(*case, marks=pytest.mark.slow) for case in (
        (signal.SIGTERM, "parent", 130), (signal.SIGHUP, "parent", 130), (signal.SIGINT, "parent", 130),
        (signal.SIGKILL, "worker", 2)))],
)  # fmt: skip
def test_no_end_of_a_run_leaves_workers_behind(number: int, who: str, code: int, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as parent:
        try:
            assert _until(lambda: len(list(tmp_path.glob("*.pid"))) == 2, 90)
            workers = [int(path.stem) for path in tmp_path.glob("*.pid")]
            os.kill(parent.pid if who == "parent" else workers[0], number)
            out, err = parent.communicate(timeout=20)
        finally:
            parent.kill()
    assert parent.returncode == code, err
    assert _until(lambda: not any(map(_is_alive, workers)), 5)
    if who == "worker":
        assert "fewer --workers" in out
        assert "Traceback" not in err


@pytest.mark.slow
def test_workers_of_a_script_without_main_are_explained(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace('if __name__ == "__main__":', "if True:"))
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 2
    assert "__main__" in done.stdout
