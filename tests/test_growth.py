"""A run grows: what is still valid is kept, what is missing is made, and the whole equals a run made at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny

import enaction
from enaction.errors import StudyError
from enaction.passages import write_passages
from enaction.running import run_study
from enaction.study import lock, recipes
from enaction.study.config import ModelSpec, study_of
from enaction.study.store import Run

WORDS = ("fox", "house", "garden", "night", "stone", "story")
SMALL = {
    "name": "tiny",
    "models": {"a": "./a", "b": "./b"},
    "experiments": ["matrix"],
    "prompts": "./prompts.jsonl",
    "sampling": {"per_prompt": 1, "max_new_tokens": 6},
    "framings": ["assistant"],
    "resamples": 100,
}
# Each kind of growth, and which passages of `a` it has sampled anew beside those that a limit had cut off.
LARGER = {
    "models": {"models": {"a": "./a", "b": "./b", "c": "./c"}},
    "framings": {"framings": ["assistant", "none"]},
    "prompts": {"prompts": "./more.jsonl"},
    "responses": {"sampling": {"per_prompt": 2, "max_new_tokens": 6}},
    "longer": {"sampling": {"per_prompt": 1, "max_new_tokens": 30}},
    "experiments": {"experiments": {"matrix": {}, "prior": {}, "framings": {}, "persona": {"n_prompts": 3}}},
    "resamples": {"resamples": 150},
}


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models and two files of prompts, the one a part of the other."""
    folder = tmp_path_factory.mktemp("growing")
    tiny.save(folder, "abc")
    tiny.save_prompts(folder / "prompts.jsonl", WORDS[1:5], first=1)
    tiny.save_prompts(folder / "more.jsonl", WORDS)
    return folder


@pytest.fixture(name="here")
def _here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(name="sampled")
def _sampled(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many passages each author has sampled."""
    from enaction import sampling

    count: Counter[str] = Counter()
    sample = sampling.sample

    def counting(*args: Any, **more: Any) -> Any:
        passages = sample(*args, **more)
        count.update(p.author for p in passages)
        return passages

    monkeypatch.setattr(sampling, "sample", counting)
    return count


def _tables(run: Run) -> dict[str, Any]:
    return {path.name: pq.read_table(path) for path in sorted((run.folder / "tokens").glob("*.parquet"))}


def _is_like(one: Run, other: Run) -> None:
    """The same texts and tables; numbers but for what shared their batches, a few units of the last place."""
    names = {path.name for path in (one.folder / "passages").iterdir()}
    assert names == {path.name for path in (other.folder / "passages").iterdir()}
    for name in names:
        texts = [run.passages(name.removesuffix(".parquet")) for run in (one, other)]
        for mine, theirs in zip(*texts, strict=True):
            same = [{k: v for k, v in vars(p).items() if k != "logprobs"} for p in (mine, theirs)]
            assert same[0] == same[1]
            assert np.allclose(mine.logprobs or 0, theirs.logprobs or 0, rtol=0, atol=1e-5)
    tables = [_tables(run) for run in (one, other)]
    assert tables[0].keys() == tables[1].keys()
    for name, table in tables[0].items():
        for column in table.column_names:
            mine, theirs = (t[column].to_pylist() for t in (table, tables[1][name]))
            assert mine == pytest.approx(theirs, abs=1e-5) if isinstance(mine[0], float) else mine == theirs, column


@pytest.mark.parametrize(
    "kind", [kind if kind in ("prompts", "longer") else pytest.param(kind, marks=pytest.mark.slow) for kind in LARGER]
)
def test_a_run_that_grew_is_the_run_that_was_made_at_once(
    kind: str, here: Path, sampled: Counter[str], tmp_path: Path
) -> None:
    larger = SMALL | LARGER[kind]
    run = run_study(study_of(SMALL, "s"), tmp_path / "grown")
    before, first = run.passages("a"), sampled["a"]
    assert first == len(before)
    sampled.clear()
    grown = enaction.run(larger, tmp_path / "grown")
    is_cut = sum(p.ended is False for p in before)
    assert 0 < is_cut < len(before)
    expected = {"prompts": 2, "responses": 4, "longer": is_cut}
    assert sampled["a"] == expected.get(kind, 0)
    fresh = enaction.run(larger, tmp_path / "fresh")
    _is_like(Run(grown.folder), Run(fresh.folder))
    assert len(grown.findings) == len(fresh.findings)
    for mine, theirs in zip(grown.findings, fresh.findings, strict=True):
        for one, other in zip(vars(mine).values(), vars(theirs).values(), strict=True):
            is_number = isinstance(other, float)
            assert one == (pytest.approx(other, abs=1e-4, rel=1e-4, nan_ok=True) if is_number else other), mine
    readers = [json.loads((of.folder / "manifest.json").read_text())["readers"] for of in (grown, fresh)]
    assert readers[0] == readers[1]
    sampled.clear()
    assert enaction.run(larger, grown.folder).findings == grown.findings
    assert not sampled


def test_only_new_passages_are_read(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from enaction.reader import Reader

    read: list[int] = []
    score = Reader.score

    def counting(self: Any, framed: Any, **more: Any) -> Any:
        read.append(len(framed))
        return score(self, framed, **more)

    monkeypatch.setattr(Reader, "score", counting)
    run_study(study_of(SMALL, "s"), tmp_path / "run")
    assert read == [4] * 4
    run_study(study_of(SMALL | LARGER["prompts"], "s"), tmp_path / "run")
    assert read[4:] == [2] * 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 7}, "seed is 0 there and 7 here"),
        ({"separator": " "}, "separator is"),
        ({"sampling": {"per_prompt": 1, "max_new_tokens": 6, "temperature": 0.5}}, "sampling.temperature is 1.0 there"),
        ({"sampling": {"per_prompt": 1, "max_new_tokens": 5}}, "sampling.max_new_tokens is 6 there and 5 here"),
        (
            {"models": {"a": {"model": "./a", "dtype": "bf16"}, "b": "./b"}},
            "models.a.dtype is float32 there and bfloat16",
        ),
        ({"models": {"a": "./c", "b": "./b"}}, r"models.a: the weights of .* were \w+ when it wrote and are"),
        ({"models": {"b": "./b"}}, "models: it has a, which this one has not"),
        ({"framings": ["none"]}, "framings: it has assistant"),
        ({"experiments": ["prior"]}, "experiments: it has matrix"),
    ],
)
def test_another_study_is_refused_with_the_key_that_differs(
    change: dict[str, Any], words: str, here: Path, tmp_path_factory: pytest.TempPathFactory, small: Run
) -> None:
    before = sorted((path.name, path.stat().st_mtime_ns) for path in small.folder.rglob("*"))
    with pytest.raises(StudyError, match=words) as caught:
        run_study(study_of(SMALL | change, "s"), small.folder)
    assert "give --out another folder" in str(caught.value)
    after = sorted((path.name, path.stat().st_mtime_ns) for path in small.folder.rglob("*"))
    assert [item for item in after if not item[0].startswith(".")] == [b for b in before if not b[0].startswith(".")]


@pytest.fixture(scope="module", name="small")
def _small(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return run_study(study_of(SMALL, "s"), tmp_path_factory.mktemp("small") / "run")


def test_the_same_model_in_another_place_is_the_same_model(folder: Path, small: Run, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").symlink_to(folder / "a", target_is_directory=True)
    study = study_of(
        SMALL
        | {
            "models": {"a": str(tmp_path / "elsewhere"), "b": str(folder / "b")},
            "prompts": str(folder / "prompts.jsonl"),
        },
        "",
    )
    done: list[str] = []
    run_study(study, small.folder, report=lambda phase, *_: done.append(phase))
    assert not done


def test_another_template_in_the_folder_of_a_model_is_noticed(folder: Path, small: Run) -> None:
    template = folder / "a" / "chat_template.jinja"
    before = template.read_text()
    template.write_text(before + " ")
    try:
        with pytest.raises(StudyError, match=r"models\.a: the files of the tokenizer"):
            run_study(small.study(), small.folder)
    finally:
        template.write_text(before)


def test_a_recipe_names_every_setting_of_a_model_that_changes_what_it_says(folder: Path) -> None:
    changes = {
        "framing": "none",
        "template_options": {"enable_thinking": False},
        "dtype": "bfloat16",
        "quantization": "4bit",
        "trust_remote_code": True,
    }
    assert changes.keys() == ModelSpec.model_fields.keys() - recipes.ELSEWHERE
    plain = ModelSpec(model=str(folder / "a"), family="a")
    for key, value in changes.items():
        one, other = recipes.writer(plain), recipes.writer(plain.model_copy(update={key: value}))
        assert not recipes.agree(one, other), key
        assert not recipes.agree(other, one), key


def test_a_run_of_the_former_format_resumes_gains_experiments_and_nothing_else(here: Path, tmp_path: Path) -> None:
    run = run_study(study_of(SMALL, "s"), tmp_path / "run")
    for path in (run.folder / "passages").glob("*.parquet"):
        write_passages(run.passages(path.stem), path)
    for path in (run.folder / "tokens").glob("*.parquet"):
        table = pq.read_table(path)
        kept = {k: v for k, v in table.schema.metadata.items() if k != b"enaction.cell"}
        pq.write_table(table.replace_schema_metadata(kept), path)
    done: list[tuple[str, str]] = []
    run_study(study_of(SMALL, "s"), run.folder, report=lambda phase, name, _: done.append((phase, name)))
    assert not done
    more = SMALL | {"experiments": ["matrix", "framings"]}
    assert enaction.run(more, run.folder).findings.experiments == ["matrix", "framings"]
    assert enaction.open_run(run.folder).passages("a")
    for change in ("longer", "framings", "models"):
        with pytest.raises(StudyError, match=r"by an older version.*gains experiments and nothing else"):
            run_study(study_of(more | LARGER[change], "s"), run.folder)


def test_large_files_are_hashed_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "_LARGEST_UNNOTED", 0)
    monkeypatch.setattr(recipes, "_LARGE", {})
    recipes._of_file.cache_clear()
    spec = study_of(SMALL | {"models": {"a": str(folder / "a")}}, "s").models["a"]
    first = recipes.writer(spec)
    recipes.note(tmp_path / "noted")
    assert str(folder) not in (tmp_path / "noted").read_text()
    recipes._LARGE.clear()
    recipes.recall(tmp_path / "noted")
    recipes._of_file.cache_clear()
    monkeypatch.setattr("hashlib.file_digest", None)  # no file is read
    assert recipes.writer(spec) == first
    os.utime(next((folder / "a").glob("*.safetensors")))
    with pytest.raises(TypeError):
        recipes.writer(spec)


def test_one_run_at_a_time_in_a_folder_and_none_waits_for_the_dead(small: Run) -> None:
    code = f"""
import time
from pathlib import Path
from enaction.study.lock import held
with held(Path({str(small.folder)!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(StudyError, match=rf"process {holder.pid} on .*, since .* wait until it ends"):
                run_study(small.study(), small.folder)
            assert enaction.running.Run(small.folder).passages("a")  # reading needs no lock
        finally:
            holder.send_signal(signal.SIGKILL)
    with lock.held(small.folder):
        assert json.loads((small.folder / ".lock.json").read_text())["pid"] == os.getpid()
    assert not (small.folder / ".lock.json").exists()
