"""Tables and passages that were damaged or made by hand: one line with the file and the remedy, never a number."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import handmade
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from enaction.analysis.data import Data
from enaction.errors import PassageError, StudyError
from enaction.experiments import plan
from enaction.passages import read_passages, write_passages
from enaction.study.store import Cell, Run
from enaction.tokens import read_token_table, write_token_table

CELL = Cell("ash-rl", "birch-rl", "assistant")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("whole")
    study = handmade.study(folder, {"matrix": {}}, prompts=4, stages=("rl",))
    run = handmade.run(study, folder / "run", handmade.at_positions(lambda *_: 1.0))
    return Data(study, run, plan(study))


@pytest.fixture
def data(whole: Data, tmp_path: Path) -> Data:
    """A copy, to be damaged."""
    shutil.copytree(whole.run.folder, tmp_path / "run")
    return Data(whole.study, Run(tmp_path / "run"), whole.plan)


def _file(run: Run) -> Path:
    return run.folder / "tokens" / f"{CELL.reader}--{CELL.author}--{CELL.framing}.parquet"


def _by_hand(run: Run, column: str, change: Callable[[list], list]) -> Path:
    """The cell's file with other values in a column, as somebody else's program would write it."""
    path = _file(run)
    table = pq.read_table(path).replace_schema_metadata(None)
    at, field = table.column_names.index(column), table.schema.field(column)
    values = change(table[column].to_pylist())
    kind = field.type if isinstance(values[0], type(table[column][0].as_py())) else None
    array = pa.array(values, pa.string()).dictionary_encode() if column == "passage_id" else pa.array(values, kind)
    pq.write_table(table.set_column(at, column, array), path)
    return path


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("entropy", float("nan"), "'entropy' is NaN in 1 rows"),
        ("entropy", float("inf"), "'entropy' is infinite in 1 rows"),
        ("entropy", None, "'entropy' is missing in 1 rows"),
        ("entropy", -0.5, "'entropy' is negative in 1 rows"),
        ("surprisal", float("-inf"), "'surprisal' is negative in 1 rows"),
        ("varentropy", -1.0, "'varentropy' is negative"),
        ("rank", -1, "'rank' is negative"),
        ("position", -3, "'position' is negative"),
        ("passage_id", None, "'passage_id' is missing"),
    ],
)
def test_values_that_no_reader_measures_are_refused(column: str, value: Any, words: str, data: Data) -> None:
    path = _by_hand(data.run, column, lambda values: [*values[:-1], value])
    for read in (lambda: read_token_table(path), lambda: data.tokens(CELL)):
        with pytest.raises(StudyError) as caught:
            read()
        assert str(path) in str(caught.value)
        assert words in str(caught.value)
        assert "again" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not data.run.has_tokens(CELL)  # so that a run reads it again


def test_numbers_as_text_are_no_numbers(data: Data) -> None:
    path = _by_hand(data.run, "entropy", lambda values: [str(value) for value in values])
    with pytest.raises(StudyError, match="'entropy' holds string and no numbers"):
        read_token_table(path)


def test_a_token_that_a_model_rules_out_is_infinitely_surprising(data: Data, tmp_path: Path) -> None:
    table = data.run.tokens(CELL)
    surprisal = table["surprisal"].to_numpy().copy()
    surprisal[0] = np.inf
    at = table.column_names.index("surprisal")
    write_token_table(table.set_column(at, "surprisal", pa.array(surprisal, pa.float32())), tmp_path / "t.parquet")
    assert np.isinf(read_token_table(tmp_path / "t.parquet")["surprisal"].to_numpy()[0])


def test_a_passage_that_nobody_wrote_is_named(data: Data) -> None:
    _by_hand(data.run, "passage_id", lambda values: ["nobody's", *values[1:]])
    with pytest.raises(
        StudyError, match=r"the table of ash-rl on birch-rl .* is damaged .there is no passage \"nobody's\""
    ):
        data.means(CELL)


def test_a_prompt_that_nobody_asked_is_named(data: Data) -> None:
    path = data.run.folder / "passages" / "birch-rl.parquet"
    first, *rest = read_passages(path)
    write_passages([replace(first, prompt_id="p99"), *rest], path)
    with pytest.raises(PassageError, match=r"text of birch-rl is damaged .*'p99'.*remove its file"):
        data.prompt_codes("birch-rl")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "null", '"x"', "true"])
def test_log_probabilities_that_are_none_are_refused(value: str, tmp_path: Path) -> None:
    row = f'{{"prompt": "q", "response": "r", "token_ids": [1], "tokenizer": "t", "logprobs": [{value}]}}\n'
    (tmp_path / "p.jsonl").write_text(row)
    with pytest.raises(PassageError, match="line 1: 'logprobs' must hold finite numbers"):
        read_passages(tmp_path / "p.jsonl")
