"""The token table: one row a prediction, flags where they belong, and it survives the disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny

from enaction.errors import StudyError
from enaction.framing import frame
from enaction.passages import Passage
from enaction.reader import Reader
from enaction.sampling import sample
from enaction.tokens import SCHEMA, read_token_table, score_passages, table_notes, token_table, write_token_table
from enaction.words import FRAMINGS


@pytest.fixture(scope="module")
def reader() -> Reader:
    tokenizer = tiny.word_tokenizer()
    return Reader(tiny.gemma2(len(tokenizer)), tokenizer, name="r")


@pytest.fixture(scope="module")
def passages(reader: Reader) -> list[Passage]:
    return sample(reader, [tiny.prompt("why", "a"), tiny.prompt("tell me about the fox", "b")], n=8, max_new_tokens=25)


def test_a_row_describes_the_distribution_that_predicted_its_token(reader: Reader, passages: list[Passage]) -> None:
    table = score_passages(reader, passages, "assistant", with_text=False)
    assert table.schema.equals(SCHEMA)
    rows = table.to_pylist()
    for passage in passages:
        mine = [row for row in rows if row["passage_id"] == passage.id]
        assert tuple(row["token_id"] for row in mine) == passage.token_ids
        assert [row["position"] for row in mine] == list(range(len(mine)))
        assert [row["is_first"] for row in mine] == [True] + [False] * (len(mine) - 1)
        assert [row["is_end"] for row in mine] == [False] * (len(mine) - 1) + [passage.ended]
        f = frame(reader.tokenizer, passage, "assistant")
        expected = tiny.reference(reader.model, f.ids, f.start, f.stop).numpy()
        for column, values in zip(("surprisal", "entropy", "varentropy", "rank"), expected, strict=True):
            np.testing.assert_allclose([row[column] for row in mine], values, atol=1e-5, rtol=1e-5)
        assert {(row["reader"], row["author"], row["framing"], row["prompt_id"]) for row in mine} == {
            ("r", "r", "assistant", passage.prompt_id)
        }


def test_first_rows_of_one_prompt_have_one_entropy_whoever_wrote(reader: Reader, passages: list[Passage]) -> None:
    stranger = replace(passages[0], id="s", author="person", response="the fox", token_ids=None, ended=None)
    table = score_passages(reader, [*passages[:8], stranger], "assistant").to_pandas()
    first = table[table.is_first]
    assert len(first) == 9
    assert np.ptp(first.entropy) < 1e-5
    assert np.ptp(first.surprisal) > 0.1


def test_only_a_response_that_ended_in_its_own_framing_has_an_end_row(reader: Reader, passages: list[Passage]) -> None:
    ended = sum(bool(p.ended) for p in passages)
    assert 0 < ended < len(passages)
    ends = {f: score_passages(reader, passages, f).to_pandas().is_end.sum() for f in FRAMINGS}
    assert ends == {"assistant": ended, "user": 0, "none": 0}


def test_notes_tell_how_the_table_was_read(passages: list[Passage]) -> None:
    tokenizer = tiny.byte_tokenizer()
    reader = Reader(tiny.neox(len(tokenizer)), tokenizer, name="b")
    own = sample(reader, [tiny.prompt()], n=5, max_new_tokens=20)
    notes = table_notes(score_passages(reader, [*own, *passages], "assistant"))
    assert notes["reader"] == "b"
    assert notes["dtype"] == "float32"
    assert notes["head_path"] == "streamed"
    assert notes["passages_by_own_ids"] == 5
    # Random bytes do not come back from their text as they were: the drift is told, not hidden.
    assert 0 < notes["passages_that_would_drift"] <= 5
    assert notes["tokens_that_would_drift"] > 0
    assert notes["passages_spelt_otherwise"] == 0
    swapped = [replace(own[0], response=f"{own[0].response} and more"), own[1]]
    assert table_notes(score_passages(reader, swapped, "assistant"))["passages_spelt_otherwise"] == 1


def test_a_first_token_without_context_has_no_row() -> None:
    tokenizer = tiny.word_tokenizer()
    reader = Reader(tiny.llama(len(tokenizer)), tokenizer, name="r")
    bare = replace(tiny.passage("the old fox", ended=False), prompt=())
    table = score_passages(reader, [bare], "none")
    assert table["position"].to_pylist() == [1, 2]
    assert table["is_first"].to_pylist() == [False, False]
    assert table_notes(table)["first_tokens_without_context"] == 1


def test_the_table_survives_the_disk_and_can_be_joined(reader: Reader, passages: list[Passage], tmp_path: Path) -> None:
    one, two = score_passages(reader, passages[:8], "user"), score_passages(reader, passages[8:], "none")
    write_token_table(one, tmp_path / "deep" / "one.parquet")
    back = read_token_table(tmp_path / "deep" / "one.parquet")
    assert back.equals(one)
    assert table_notes(back) == table_notes(one)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["one.parquet"]
    both = pa.concat_tables([back, two])
    assert both["framing"].unique().to_pylist() == ["user", "none"]


def test_no_passages_give_an_empty_table_of_the_same_shape() -> None:
    table = token_table("r", "assistant", [])
    assert table.schema.equals(SCHEMA)
    assert table.num_rows == 0


def test_what_is_not_a_token_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="there is no token table"):
        read_token_table(tmp_path / "no.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"x")
    with pytest.raises(StudyError, match="not a readable Parquet"):
        read_token_table(tmp_path / "bad.parquet")
    pq.write_table(pa.table({"reader": ["r"]}), tmp_path / "other.parquet")
    with pytest.raises(StudyError, match="missing the columns author"):
        read_token_table(tmp_path / "other.parquet")
