"""Names, files and ends that would do harm: each is refused in one line, found and mended, or leaves nothing behind."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
import yaml

from enaction.errors import ModelError, PassageError, StudyError, UserError
from enaction.experiments import plan
from enaction.files import write_atomically
from enaction.passages import Sampling
from enaction.reader.sources import find
from enaction.running import run_study
from enaction.study.config import Study, study_of
from enaction.study.names import LONGEST, suggestion
from enaction.study.planning import Plan, Sampled, merged
from enaction.study.store import Cell, Run


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


# Workers as a run has them, each with a job that would take an hour and writes down who it is.
SCRIPT = """
import os, sys, time
from pathlib import Path
from enaction.errors import UserError
from enaction.study.engines import local

def job(folder, say):
    Path(folder, f"{os.getpid()}.pid").touch()
    say("a", 1)
    time.sleep(3600)

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
            # Three processes import torch one after another: minutes on a machine that others keep busy.
            assert _until(lambda: len(list(tmp_path.glob("*.pid"))) == 2 or parent.poll() is not None, 600)
            workers = [int(path.stem) for path in tmp_path.glob("*.pid")]
            os.kill(parent.pid if who == "parent" else workers[0], number)
            out, err = parent.communicate(timeout=120)
        finally:
            parent.kill()
    assert parent.returncode == code, err
    assert _until(lambda: not any(map(_is_alive, workers)), 60)
    if who == "worker":
        assert "fewer --workers" in out
        assert "Traceback" not in err


@pytest.mark.slow
def test_a_job_that_fails_is_told_at_once_and_leaves_no_workers_behind(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    failing = """
    while len(list(Path(folder).glob("*.pid"))) < 2:
        time.sleep(0.05)
    if min(Path(folder).glob("*.pid")).stem == str(os.getpid()):
        raise ValueError("one of two")
    time.sleep(3600)"""
    script.write_text(SCRIPT.replace("\n    time.sleep(3600)", failing))
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.stderr.rstrip().endswith("ValueError: one of two")
    workers = [int(path.stem) for path in tmp_path.glob("*.pid")]
    assert len(workers) == 2
    assert _until(lambda: not any(map(_is_alive, workers)), 60)


@pytest.mark.slow
def test_workers_of_a_script_without_main_are_explained(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace('if __name__ == "__main__":', "if True:"))
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 2
    assert "__main__" in done.stdout


@pytest.fixture(scope="module", name="run")
def _run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two tiny models on two prompts, with these beside it."""
    folder = tmp_path_factory.mktemp("models")
    tiny.save(folder, "ab")
    tiny.save_prompts(folder / "prompts.jsonl", ("fox", "house"))
    study = {
        "name": "tiny",
        "models": {name: {"model": str(folder / name), "family": name} for name in "ab"},
        "prompts": str(folder / "prompts.jsonl"),
        "sampling": {"per_prompt": 2, "max_new_tokens": 12},
        "framings": ["assistant"],
        "resamples": 100,
    }
    return run_study(study_of(study, "study"), folder / "run")


@pytest.fixture(name="copy")
def _copy(run: Run, tmp_path: Path) -> Run:
    """The run, moved with its study."""
    shutil.copytree(run.folder.parent, tmp_path / "moved")
    return Run(tmp_path / "moved" / "run")


CELLS = [Cell(reader, author, "assistant") for reader in "ab" for author in "ab"]


def _file(run: Run, cell: Cell) -> Path:
    return run.folder / "tokens" / f"{cell.reader}--{cell.author}--{cell.framing}.parquet"


def _cut(run: Run, path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.slice(0, len(table) // 2), path)


def _flip(run: Run, path: Path) -> None:
    """Another bit in the last of the data of a column."""
    column = pq.ParquetFile(path).metadata.row_group(0).column(3)
    start = column.dictionary_page_offset or column.data_page_offset
    data = bytearray(path.read_bytes())
    data[start + column.total_compressed_size - 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize(
    "harm",
    [
        _cut,
        _flip,
        lambda run, path: shutil.copy(_file(run, Cell("b", "b", "assistant")), path),
        lambda run, path: path.write_bytes(path.read_bytes()[:-9]),
        lambda run, path: path.write_bytes(b""),
        lambda run, path: pq.write_table(pa.table({"reader": ["a"]}), path),
        lambda run, path: pq.write_table(pq.read_table(path).replace_schema_metadata({b"enaction.cell": b"{"}), path),
    ],
    ids=["cut", "rotted", "another's", "truncated", "empty", "foreign", "unmarked"],
)
def test_a_cell_that_is_not_what_was_written_is_found_and_read_again(harm: Any, copy: Run) -> None:
    cell = Cell("a", "b", "assistant")
    path = _file(copy, cell)
    before = path.read_bytes()
    assert all(map(copy.has_tokens, CELLS))
    harm(copy, path)
    assert [c for c in CELLS if not copy.has_tokens(c)] == [cell]
    with pytest.raises(StudyError, match="again"):
        copy.tokens(cell)
    done: list[tuple[str, str]] = []
    run_study(copy.study(), copy.folder, report=lambda phase, name, _: done.append((phase, name)))
    assert set(done) == {("reading", "a")}
    assert path.read_bytes() == before


def test_swapped_cells_are_both_read_again(copy: Run) -> None:
    one, other = (_file(copy, cell) for cell in CELLS[1:3])
    aside = one.rename(one.with_suffix(".aside"))
    other.rename(one)
    aside.rename(other)
    assert [c for c in CELLS if not copy.has_tokens(c)] == [CELLS[1], CELLS[2]]


def test_no_flipped_bit_of_a_cell_passes_for_another_number(copy: Run) -> None:
    cell = CELLS[0]
    path, whole = _file(copy, cell), copy.tokens(cell)
    data = path.read_bytes()
    refused = 0
    for bit in np.random.default_rng(0).choice(8 * len(data), 400, replace=False):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            assert copy.tokens(cell).equals(whole), bit
        except StudyError:
            refused += 1
    assert refused > 200


def test_cells_of_a_text_that_was_written_anew_are_read_again(copy: Run) -> None:
    passages = copy.passages("b")
    copy.write_passages("b", [dataclasses.replace(p, response=p.response + " fox", token_ids=None) for p in passages])
    assert [c.author for c in CELLS if not copy.has_tokens(c)] == ["b", "b"]


def test_cells_of_an_older_version_are_taken_unless_they_are_anothers(copy: Run) -> None:
    for cell in CELLS:
        table = copy.tokens(cell)
        notes = {key: value for key, value in table.schema.metadata.items() if key != b"enaction.cell"}
        pq.write_table(table.replace_schema_metadata(notes), _file(copy, cell))
    assert all(map(copy.has_tokens, CELLS))
    shutil.copy(_file(copy, CELLS[0]), _file(copy, CELLS[1]))
    assert [c for c in CELLS if not copy.has_tokens(c)] == [CELLS[1]]


@pytest.mark.parametrize(
    "harm",
    [
        _flip,
        lambda run, path: shutil.copy(path.with_stem("b"), path),
        lambda run, path: path.write_bytes(b"PAR1"),
        *(
            lambda run, path, name=name: pq.write_table(
                (t := pq.read_table(path)).set_column(
                    t.column_names.index(name), name, pa.nulls(len(t), t[name].type)
                ), path)
            for name in ("id", "prompt", "response", "author")
        ),
        lambda run, path: pq.write_table(pq.read_table(path).set_column(5, "sampling", pa.array(["["] * 4)), path),
    ],
)  # fmt: skip
def test_damaged_passages_are_named_with_the_remedy(harm: Any, copy: Run) -> None:
    path = copy.folder / "passages" / "a.parquet"
    harm(copy, path)
    with pytest.raises(PassageError, match=r"a\.parquet is damaged.*remove it") as caught:
        copy.passages("a")
    assert "\n" not in str(caught.value)


def test_the_manifest_says_of_every_cell_how_it_was_read_after_a_kill_too(copy: Run) -> None:
    before = copy.manifest()["readers"]
    assert {name: list(of_framings) for name, of_framings in before.items()} == {"a": ["assistant"], "b": ["assistant"]}
    (copy.folder / "manifest.json").unlink()  # a killed session wrote none
    _file(copy, Cell("a", "b", "assistant")).unlink()
    run_study(copy.study(), copy.folder)
    assert copy.manifest()["readers"] == before


@pytest.mark.parametrize("content", ["", "null", "[]", "{", '{"readers": 1}', "é".encode("latin-1"), "[" * 5000])
def test_a_damaged_manifest_is_named_with_the_remedy(content: str | bytes, copy: Run) -> None:
    path = copy.folder / "manifest.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(StudyError, match=r"manifest\.json.*writes it anew"):
        copy.manifest()


def test_a_start_that_fails_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    study = run.study()
    for changes in ({"model": "./nowhere"}, {"chat_template": Path("nowhere.jinja")}):
        models = {**study.models, "b": study.models["b"].model_copy(update=changes)}
        with pytest.raises(UserError, match="nowhere"):
            run_study(study.model_copy(update={"models": models}), tmp_path / "new")
        assert not (tmp_path / "new").exists()


def test_a_run_without_a_finished_text_is_nobodys(copy: Run) -> None:
    changed = copy.study().model_copy(update={"seed": 7})
    with pytest.raises(StudyError, match="another study"):
        copy.open(changed)
    for path in (copy.folder / "passages").iterdir():
        path.unlink()
    copy.open(changed)
    assert copy.study() == changed


def test_a_folder_that_is_no_run_is_not_touched(run: Run, tmp_path: Path) -> None:
    study = run.study()
    for name, text in (("study.yaml", "# mine\n" + yaml.safe_dump(study.model_dump(mode="json"))),
                       ("notes.txt", "mine"), ("findings.json", "[]")):  # fmt: skip
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text(text)
        with pytest.raises(StudyError, match="new folder"):
            Run(folder).open(study)
        assert [(path.name, path.read_text()) for path in folder.iterdir()] == [(name, text)]


def test_a_run_that_lost_its_study_is_not_taken_for_another(copy: Run) -> None:
    study = copy.study()
    (copy.folder / "study.yaml").unlink()
    with pytest.raises(StudyError, match="lost its study"):
        copy.open(study)


def test_what_killed_processes_left_is_swept(copy: Run) -> None:
    text, table = copy.folder / "passages" / ".a.parquet.0a1b2c3d.tmp", copy.folder / "tokens" / ".a.1a1b2c3d.tmp"
    old, new = (copy.folder / "figures" / f".critic.svg.{digits}.tmp" for digits in ("0a1b2c3d", "1a1b2c3d"))
    old.parent.mkdir(exist_ok=True)
    for path in (text, table, old, new):
        path.touch()
    os.utime(old, (0, 0))
    copy.open(copy.study())
    assert not any(path.exists() for path in (text, table, old))
    assert new.exists()  # a report may be writing it


BASE_FILE = {"package": "json", "requirement": "json==1", "file": "x.gguf", "sha256": "0" * 64}


@pytest.mark.parametrize(
    "content",
    ["", "[]", "1", "null", "{", "[" * 5000, "{}", *(json.dumps(BASE_FILE | changes) for changes in (
        {"package": "attacked.x"}, {"package": ".x"}, {"package": ""}, {"package": 1}, {"package": "__main__"},
        {"requirement": "x; rm -rf ~"}, {"requirement": "--index-url=http://x y"}, {"requirement": "\x1b[2J"},
        {"file": "../../x"}, {"file": "/x"}, {"file": None}, {"sha256": "short"}, {"more": 1}))],
)  # fmt: skip
def test_base_json_of_anybody_is_refused_in_words_and_imports_nothing(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "attacked").mkdir()
    (tmp_path / "attacked" / "__init__.py").write_text("raise SystemError('was imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "base.json").write_text(content)
    with pytest.raises(ModelError) as caught:
        find(str(tmp_path / "model")).require()
    assert str(caught.value).isprintable()
    assert "attacked" not in sys.modules


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_disk_that_does_not_take_a_file_is_one_line_and_loses_nothing(number: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def write() -> None:
        with write_atomically(path) as temporary:
            temporary.write_text("half")
            raise OSError(number, os.strerror(number))

    with pytest.raises(UserError, match=r"cannot write .*file \(.*\): \w+"):
        write()
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "before"
