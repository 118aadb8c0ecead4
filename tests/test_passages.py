"""Passage files: what is written comes back, and a bad line is named with its number and its remedy."""

from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path
from typing import cast

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enaction.errors import PassageError
from enaction.passages import (
    Message,
    Passage,
    Prompt,
    first_sampling,
    prompt_hash,
    read_passages,
    read_prompts,
    write_passages,
)

GOOD = {"id": "1", "prompt": [{"role": "user", "content": "why?"}], "response": "because", "author": "me"}

# Surrogates alone cannot be written as UTF-8; everything else can stand in a text, line separators included.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def passages(draw: st.DrawFn) -> Passage:
    ids = draw(st.none() | st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4).map(tuple))
    messages = draw(st.lists(st.tuples(texts, texts, st.dictionaries(st.just("name"), texts)), max_size=3))
    return Passage(
        id=draw(texts),
        prompt_id=draw(texts),
        prompt=tuple(cast("Message", {"role": r, "content": c} | extras) for r, c, extras in messages),
        response=draw(texts.filter(bool)),
        author=draw(texts),
        sampling=draw(st.dictionaries(texts, finite | st.integers(0, 9) | texts, max_size=2)),
        token_ids=ids,
        logprobs=None if ids is None else draw(st.none() | st.tuples(*[finite] * len(ids))),
        tokenizer=draw(st.none() | texts if ids is None else texts),
        ended=draw(st.none() | st.booleans()),
        marks=draw(st.dictionaries(texts, finite | texts, max_size=2)),
    )


@settings(deadline=None, max_examples=40)  # every example writes a file and waits for the disk
@given(passage=passages())
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_what_is_written_is_read_back_equal(
    suffix: str, passage: Passage, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("round") / f"p.{suffix}"
    write_passages([passage], path)
    assert read_passages(path) == [passage]


def test_marks_of_version_0_1_are_taken_out_of_the_settings_of_sampling(tmp_path: Path) -> None:
    """Run folders of that version have no column of marks."""
    sampling = {"temperature": 1.0, "framing": "assistant", "begun_with": 3}
    marks = {"prefix": 3, "piece": 4}
    write_passages([Passage("1", "p", (), "so", "me", sampling=sampling | marks)], tmp_path / "new.parquet")
    pq.write_table(pq.read_table(tmp_path / "new.parquet").drop_columns("marks"), tmp_path / "old.parquet")
    (passage,) = read_passages(tmp_path / "old.parquet")
    assert (passage.sampling, passage.marks) == (sampling, marks)
    assert first_sampling(tmp_path / "old.parquet")["framing"] == "assistant"


def test_a_response_that_ended_at_once_survives_the_round_trip(tmp_path: Path) -> None:
    empty = Passage("1", "p", (), "", "me", token_ids=(3,), logprobs=(-0.5,), tokenizer="t", ended=True)
    for name in ("a.jsonl", "a.parquet"):
        write_passages([empty], tmp_path / name)
        assert read_passages(tmp_path / name) == [empty]


def test_prompt_id_defaults_to_a_hash_of_the_prompt_alone(tmp_path: Path) -> None:
    lines = [GOOD, GOOD | {"id": "2", "response": "no"}, GOOD | {"id": "3", "prompt": "why"}]
    one, two, three = read_passages(_written(tmp_path, *map(json.dumps, lines)))
    assert one.prompt_id == two.prompt_id == prompt_hash(one.prompt) != three.prompt_id


def test_stdin_and_stdout_carry_json_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(GOOD) + "\n"))
    read = read_passages("-")
    write_passages(read, "-")
    assert json.loads(capsys.readouterr().out)["response"] == "because"


def test_a_byte_order_mark_and_empty_lines_are_no_passages(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("\ufeff" + json.dumps(GOOD) + "\n\n  \n", encoding="utf-8")
    assert len(read_passages(path)) == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"id": "1",', ["line 3", "JSON"]),
        ("[1]", ["line 3", "a list", "one JSON object a line"]),
        (json.dumps({"id": "x", "prompt": [], "author": "me"}), ["line 3", "'response' missing", "--response-column"]),
        (json.dumps({k: v for k, v in GOOD.items() if k != "author"}), ["line 3", "'author' missing", "to all"]),
        (json.dumps(GOOD | {"id": "x", "response": ""}), ["line 3", "'response' is empty", "at least one token"]),
        (json.dumps(GOOD | {"id": 7.5}), ["line 3", "'id'", "a number", "quotes"]),
        (json.dumps(GOOD | {"id": "x", "prompt": 5}), ["line 3", "'prompt'", "role"]),
        (json.dumps(GOOD | {"id": "x", "prompt": [{"role": "user"}]}), ["line 3", "'prompt'", "content"]),
        (json.dumps(GOOD | {"id": "x", "token_ids": [1, True]}), ["line 3", "'token_ids'", "True"]),
        (json.dumps(GOOD | {"id": "x", "token_ids": [-1]}), ["line 3", "'token_ids'", "-1"]),
        (json.dumps(GOOD | {"id": "x", "token_ids": [1], "tokenizer": "t", "logprobs": [math.nan]}), ["'logprobs'"]),
        (json.dumps(GOOD | {"id": "x", "token_ids": [1], "tokenizer": "t", "logprobs": [10**400]}), ["'logprobs'"]),
        (json.dumps(GOOD | {"id": "x", "token_ids": [1, 2]}), ["line 3", "'token_ids' without 'tokenizer'"]),
        (json.dumps(GOOD | {"id": "x", "token_ids": [1, 2], "tokenizer": "t", "logprobs": [-1]}), ["1 logprobs for 2"]),
        (json.dumps(GOOD | {"id": "x", "sampling": "hot"}), ["line 3", "'sampling'", "an object"]),
        (json.dumps(GOOD | {"id": "x", "ended": 1}), ["line 3", "'ended'", "true, false or null"]),
        (json.dumps(GOOD), ["line 3", "'me'", "line 1"]),
    ],
)
def test_a_bad_line_is_named_with_its_number_and_remedy(line: str, words: list[str], tmp_path: Path) -> None:
    path = _written(tmp_path, json.dumps(GOOD), "", line)
    with pytest.raises(PassageError) as caught:
        read_passages(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_file_that_is_missing_empty_or_binary_says_so(tmp_path: Path) -> None:
    with pytest.raises(PassageError, match="there is no file"):
        read_passages(tmp_path / "nowhere.jsonl")
    with pytest.raises(PassageError, match="there is no file"):
        read_passages(tmp_path / "nowhere.parquet")
    with pytest.raises(PassageError, match="no passages"):
        read_passages(_written(tmp_path, ""))
    with pytest.raises(PassageError, match="no readable data set"):
        read_passages(tmp_path)
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PassageError, match="UTF-8"):
        read_passages(tmp_path / "b.jsonl")
    (tmp_path / "b.parquet").write_bytes(b"no")
    with pytest.raises(PassageError, match="not a readable Parquet"):
        read_passages(tmp_path / "b.parquet")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = _written(tmp_path, json.dumps(GOOD))
    good = read_passages(path)
    unwritable = Passage("2", "p", (), "text", "me", sampling={"what": object()})
    with pytest.raises(TypeError):
        write_passages([*good, unwritable], path)
    assert read_passages(path) == good
    assert list(tmp_path.iterdir()) == [path]


def test_prompts_are_read_from_prompt_and_passage_files(tmp_path: Path) -> None:
    named = {"id": "q1", "prompt": [{"role": "user", "content": "why?"}]}
    answered = [GOOD | {"prompt_id": "q9"}, GOOD | {"prompt_id": "q9", "id": "2"}]
    lines = [named, {"messages": "how?"}, *answered]
    one, two, three = read_prompts(_written(tmp_path, *map(json.dumps, lines)))
    assert one == Prompt("q1", (Message(role="user", content="why?"),))
    assert two == Prompt(prompt_hash(two.messages), (Message(role="user", content="how?"),))
    assert three.id == "q9"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([{"id": "1"}], "'prompt' missing"),
        ([{"id": "1", "prompt": []}], "no messages"),
        ([{"id": "1", "prompt": "a"}, {"id": "1", "prompt": "b"}], "line 2: id '1' already names another prompt"),
    ],
)
def test_a_bad_prompt_is_named_with_its_line(lines: list[dict], words: str, tmp_path: Path) -> None:
    with pytest.raises(PassageError, match=words):
        read_prompts(_written(tmp_path, *map(json.dumps, lines)))


def _written(folder: Path, *lines: str) -> Path:
    path = folder / "p.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
