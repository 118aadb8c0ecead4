"""Measured tables of a run: measured again when what they follow from has changed, and never taken for another's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny

from enaction.errors import StudyError
from enaction.passages import Passage, Prompt, Sampling
from enaction.reader import Reader
from enaction.study import tables
from enaction.study.config import Study, study_of
from enaction.study.desk import Desk
from enaction.study.engines import local
from enaction.study.planning import Measured, Plan, Text, merged, own_text
from enaction.study.store import Cell, Run


@dataclass(frozen=True, kw_only=True)
class Told(Text):
    """A text that nobody samples."""

    words: str

    def write(self, desk: Desk) -> list[Passage]:
        return [Passage(f"{p.id}/0", p.id, p.messages, self.words, self.name, {}) for p in desk.prompts]


@dataclass(frozen=True, kw_only=True)
class Lengths(Measured):
    """How long the texts are, in some unit; with who measured them."""

    scale: float = 1.0
    texts: tuple[str, ...] = ("told",)
    framing: str = "assistant"
    done: ClassVar[list[str]] = []

    def measure(self, desk: Desk) -> pa.Table:
        self.done.append(self.name)
        passages = [p for text in self.texts for p in desk.passages(text)]
        return pa.table(
            {
                "reader": pa.array([desk.reader.name] * len(passages), pa.string()),
                "passage": [p.id for p in passages],
                "length": pa.array([self.scale * len(p.response) for p in passages], pa.float32()),
                "ends": pa.array([list(range(len(p.response) % 3)) for p in passages], pa.list_(pa.int32())),
            }
        )


PROMPTS = tuple(Prompt(f"p{i}", tiny.user(f"tell me about the {word}")) for i, word in enumerate(("fox", "house")))
TOLD = Told(name="told", model=None, count=2, words="the old red fox")
LENGTHS = Lengths(name="x", model="a", count=2, needs=("told",))


def _plan(*measured: Lengths, told: Told = TOLD, prompts: tuple[Prompt, ...] = PROMPTS) -> Plan:
    return Plan({"told": told}, [], prompts=prompts, measured={of.name: of for of in measured or (LENGTHS,)})


BOTH = _plan(LENGTHS, replace(LENGTHS, name="y", model="b"))


def _study_in(folder: Path) -> Study:
    models = {name: {"model": str(folder / "models" / name), "family": name} for name in "ab"}
    return study_of({"name": "s", "models": models}, "study")


@pytest.fixture(scope="module", name="made")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, and a run with two tables of which nothing is left to do."""
    folder = tmp_path_factory.mktemp("made")
    tiny.save(folder / "models", "ab")
    run = Run(folder / "run")
    run.open(_study_in(folder))
    assert sorted(_carried_out(_study_in(folder), BOTH, run)) == ["x", "y"]
    return folder


@pytest.fixture(name="run")
def _run(made: Path, tmp_path: Path) -> Run:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return Run(tmp_path / "run")


@pytest.fixture(name="study")
def _study(run: Run) -> Study:
    return _study_in(run.folder.parent)


def _carried_out(study: Study, plan: Plan, run: Run) -> list[str]:
    """Carry out what is left of a plan; the tables that were measured."""
    Lengths.done.clear()
    local.carry_out(study, plan, run, workers=1, report=lambda *_: None)
    assert plan.passages_left(study, run) == (0, 0)
    return list(Lengths.done)


def _of_model(study: Study, **changes: Any) -> Study:
    return study.model_copy(update={"models": study.models | {"a": study.models["a"].model_copy(update=changes)}})


def _other_weights(study: Study) -> Study:
    folder = Path(study.models["a"].model)
    tiny.llama(len(tiny.word_tokenizer()), seed=7).save_pretrained(folder)
    return study


def _other_template(study: Study) -> Study:
    path = Path(study.models["a"].model) / "chat_template.jinja"
    path.write_text(path.read_text() + " ")
    return study


def _given_template(study: Study) -> Study:
    path = Path(study.models["a"].model).parent / "given.jinja"
    path.write_text(tiny.STRIPPING)
    return _of_model(study, chat_template=path)


MORE = (*PROMPTS, Prompt("p2", tiny.user("tell me about the stone")))
# What changes in the plan or the study, and whether a table follows from it.
CHANGES: dict[str, tuple[Callable[[], Plan], Callable[[Study], Study], bool]] = {
    "nothing": (_plan, lambda s: s, False),
    "count": (lambda: _plan(replace(LENGTHS, count=9)), lambda s: s, False),
    "batch size": (_plan, lambda s: s.model_copy(update={"sampling": Sampling(batch_size=1)}), False),
    "device": (_plan, lambda s: _of_model(s, device="cpu"), False),
    "another model": (_plan, lambda s: s.model_copy(update={"models": {"a": s.models["a"]}}), False),
    "a setting": (lambda: _plan(replace(LENGTHS, scale=2.0)), lambda s: s, True),
    "its framing": (lambda: _plan(replace(LENGTHS, framing="none")), lambda s: s, True),
    "its model": (lambda: _plan(replace(LENGTHS, model="b")), lambda s: s, True),
    "a text": (lambda: _plan(told=replace(TOLD, words="a small river")), lambda s: s, True),
    "its texts": (lambda: _plan(replace(LENGTHS, texts=("told", "told"))), lambda s: s, True),
    "words of a prompt": (lambda: _plan(prompts=(PROMPTS[0], replace(MORE[2], id="p1"))), lambda s: s, True),
    "more prompts": (lambda: _plan(prompts=MORE), lambda s: s, True),
    "order of prompts": (lambda: _plan(prompts=PROMPTS[::-1]), lambda s: s, True),
    "seed": (_plan, lambda s: s.model_copy(update={"seed": 1}), True),
    "separator": (_plan, lambda s: s.model_copy(update={"separator": " "}), True),
    "limit": (_plan, lambda s: s.model_copy(update={"sampling": Sampling(max_new_tokens=3)}), True),
    "weights": (_plan, _other_weights, True),
    "template in its folder": (_plan, _other_template, True),
    "given template": (_plan, _given_template, True),
    "framing of the model": (_plan, lambda s: _of_model(s, framing="none"), True),
    "dtype": (_plan, lambda s: _of_model(s, dtype="bfloat16"), True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_table_is_measured_again_if_what_it_follows_from_has_changed(change: str, study: Study, run: Run) -> None:
    of_plan, of_study, follows = CHANGES[change]
    plan, changed = of_plan(), of_study(study)
    assert [table.name for table in plan.unmeasured(changed, run)] == (["x"] if follows else [])
    assert _carried_out(changed, plan, run) == (["x"] if follows else [])
    (table,) = plan.measured.values()
    assert isinstance(table, Lengths)
    passages = [p for text in table.texts for p in run.passages(text)]
    rows = tables.read_table(run.folder, "x").to_pylist()
    assert [row["length"] for row in rows] == [table.scale * len(p.response) for p in passages]
    assert {row["reader"] for row in rows} == {table.model}
    assert not _carried_out(changed, plan, run)


def _rewritten(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    return lambda path: pq.write_table(change(pq.read_table(path)), path)


def _flip(path: Path) -> None:
    """Another bit in the last of the data of a column."""
    column = pq.ParquetFile(path).metadata.row_group(0).column(2)
    data = bytearray(path.read_bytes())
    data[(column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size - 2] ^= 4
    path.write_bytes(data)


def _forget_recipe(table: pa.Table) -> pa.Table:
    note = json.loads(table.schema.metadata[b"enaction.measured"])
    del note["recipe"]
    return table.replace_schema_metadata({b"enaction.measured": json.dumps(note).encode()})


HARMS: dict[str, Callable[[Path], object]] = {
    "another's": lambda path: shutil.copy(path.with_stem("y"), path),
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "rotted": _flip,
    "cut": _rewritten(lambda table: table.slice(1)),
    "unmarked": _rewritten(lambda table: table.replace_schema_metadata(None)),
    "renamed column": _rewritten(lambda table: table.rename_columns(["reader", "passage", "lengths", "ends"])),
    "another type": _rewritten(lambda table: table.set_column(2, "length", table["length"].cast(pa.int32()))),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_table_that_is_not_what_was_written_is_refused_and_measured_again(harm: str, study: Study, run: Run) -> None:
    path = tables.path_of(run.folder, "x")
    before = tables.read_table(run.folder, "x")
    HARMS[harm](path)
    with pytest.raises(StudyError, match=r"x\.parquet .*measures it"):
        tables.read_table(run.folder, "x")
    assert _carried_out(study, BOTH, run) == ["x"]
    assert tables.read_table(run.folder, "x").equals(before)


def test_a_table_that_does_not_say_what_it_follows_from_is_measured_again(study: Study, run: Run) -> None:
    _rewritten(_forget_recipe)(tables.path_of(run.folder, "x"))
    assert _carried_out(study, _plan(), run) == ["x"]


def test_no_flipped_bit_of_a_table_passes_for_another_number_column_or_type(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    flat = pa.array(rng.random(40).astype(np.float16))
    table = pa.table(
        {"p": [f"p{i}" for i in range(10)], "n": np.arange(10), "s": pa.FixedSizeListArray.from_arrays(flat, 4)}
    )
    tables.write_table(tmp_path, "x", table, {"seed": 0})
    path = tables.path_of(tmp_path, "x")
    data, whole, refused = path.read_bytes(), tables.read_table(tmp_path, "x"), 0
    for bit in rng.choice(8 * len(data), 250, replace=False):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = tables.read_table(tmp_path, "x")
            assert found.schema == whole.schema, bit
            assert found.equals(whole), bit
        except StudyError:
            refused += 1
    assert refused > 100


def test_a_table_and_a_text_of_one_name_have_their_own_recipes(study: Study, tmp_path: Path) -> None:
    table = replace(LENGTHS, name="told")
    one, other = (merged([_plan(table, told=told)], PROMPTS) for told in (TOLD, replace(TOLD, words="a small river")))
    run = Run(tmp_path / "new")
    run.open(study)
    recipes = [[plan.recipe(study, run, of)["text"] for of in (plan.texts["told"], table)] for plan in (one, other)]
    assert len({*recipes[0], *recipes[1]}) == 3
    assert recipes[0][1] == recipes[1][1]


def test_a_model_is_loaded_once_for_its_cells_and_tables(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    load = Reader.load
    monkeypatch.setattr(
        Reader, "load", lambda *args, name, **more: loaded.append(name) or load(*args, name=name, **more)
    )
    own = {name: own_text(study, len(PROMPTS), name) for name in "ab"}
    cells = [Cell(reader, author, "assistant") for reader in "ab" for author in "ab"]
    plan = Plan(
        own | _plan().texts, cells, prompts=PROMPTS, measured={n: replace(LENGTHS, name=n, model=n) for n in "ab"}
    )
    run = Run(tmp_path / "new")
    run.open(study)
    assert _carried_out(study, plan, run) == ["b", "a"]
    assert loaded == ["a", "b", "a"]


def test_progress_of_tables_ends_at_their_count_though_they_say_nothing(study: Study, run: Run) -> None:
    done: list[tuple[str, str, int]] = []
    plan = _plan(replace(LENGTHS, name="z", count=5))
    local.carry_out(study, plan, run, workers=1, report=lambda *told: done.append(told))
    assert done == [("reading", "z", 5)]
