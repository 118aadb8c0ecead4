"""Files that people have: each kind gives the passages and prompts that it holds, or one line with the remedy."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from enaction.errors import PassageError, StudyError
from enaction.passages import Message, Passage, data_sets, prompt_hash, read_passages, read_prompts, write_passages
from enaction.study.config import study_of, with_absolute_paths

Rows = list[dict[str, Any]]
QUESTIONS: Rows = [{"id": "a", "question": "why, and how?", "answer": 'so\n"it" was'}]
QUESTIONS += [{"id": "b", "question": "wo ist er? 🦊", "answer": "dort, über dem Fluss"}]


def user(text: str) -> Message:
    return Message(role="user", content=text)


def said(text: str) -> Message:
    return Message(role="assistant", content=text)


def _lines(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _array(path: Path, rows: Rows) -> Path:
    path.write_text("\n" + json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    return path


def _parquet(path: Path, rows: Rows) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def _csv(path: Path, rows: Rows, delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8-sig", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def _saved(path: Path, rows: Rows) -> Path:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(rows).save_to_disk(str(path))
    return path


WRITERS: dict[str, Callable[[Path, Rows], Path]] = {
    "q.jsonl": _lines,
    "q.json": _array,
    "q.parquet": _parquet,
    "q.csv": _csv,
    "q.tsv": lambda path, rows: _csv(path, rows, "\t"),
    "semicolon.csv": lambda path, rows: _csv(path, rows, ";"),
    "saved": _saved,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gives_the_same_passages_and_prompts(name: str, tmp_path: Path) -> None:
    path = WRITERS[name](tmp_path / name, QUESTIONS)
    passages, prompts = read_passages(path), read_prompts(path)
    assert [(p.id, p.prompt, p.response, p.author) for p in passages] == [
        (row["id"], (user(row["question"]),), row["answer"], path.stem) for row in QUESTIONS
    ]
    assert [(p.id, p.messages) for p in prompts] == [(row["id"], (user(row["question"]),)) for row in QUESTIONS]


def test_an_array_on_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(QUESTIONS, indent=1)))
    assert [(p.id, p.author) for p in read_passages("-")] == [("a", "stdin"), ("b", "stdin")]


def test_plain_text_is_one_passage_or_a_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "essay.txt"
    path.write_text("\ufeffthe old fox\n\n  walked \n", encoding="utf-8")
    (passage,) = read_passages(path)
    assert (passage.author, passage.prompt, passage.response) == ("essay", (), "the old fox\n\n  walked ")
    assert [p.messages for p in read_prompts(path)] == [(user("the old fox"),), (user("walked"),)]


CONVERSATION = [Message(role="system", content="be brief"), user("why"), said("so"), user("how"), said("thus")]
SHAREGPT = [{"from": {"user": "human", "assistant": "gpt"}.get(m["role"], m["role"]), "value": m["content"]}
            for m in CONVERSATION]  # fmt: skip


@pytest.mark.parametrize(
    "row",
    [
        {"messages": CONVERSATION},
        {"conversations": SHAREGPT},
        {"conversations": SHAREGPT[1:], "system": "be brief"},
        {"conversation": CONVERSATION},
        {"prompt": "why", "messages": CONVERSATION},
        {"body": {"model": "m", "messages": CONVERSATION}},
    ],
    ids=["openai", "sharegpt", "system apart", "conversation", "ultrachat", "batch"],
)
@pytest.mark.parametrize("write", [_lines, _parquet])
def test_a_whole_conversation_is_measured_at_every_turn_of_the_assistant(
    row: dict[str, Any], write: Callable[[Path, Rows], Path], tmp_path: Path
) -> None:
    path = write(tmp_path / ("c.parquet" if write is _parquet else "c.jsonl"), [row])
    one, two = read_passages(path, author="gpt")
    assert (one.id, one.prompt, one.response) == ("1/0", tuple(CONVERSATION[:2]), "so")
    assert (two.id, two.prompt, two.response) == ("1/1", tuple(CONVERSATION[:4]), "thus")
    assert (one.author, one.prompt_id, two.prompt_id) == ("gpt", prompt_hash(one.prompt), prompt_hash(two.prompt))
    if "prompt" not in row:
        (prompt,) = read_prompts(path)
        assert prompt.messages == tuple(CONVERSATION[:4])


@pytest.mark.parametrize(
    ("row", "prompt", "response"),
    [
        ({"instruction": "add", "input": "1 2", "output": "3"}, [user("add\n\n1 2")], "3"),
        ({"instruction": "add", "input": "", "output": "3"}, [user("add")], "3"),
        ({"instruction": "add", "context": "1 2", "response": "3"}, [user("add\n\n1 2")], "3"),
        (
            {"system_prompt": "s", "question": "q", "response": "r"},
            [Message(role="system", content="s"), user("q")],
            "r",
        ),
        ({"prompt": [user("q")], "completion": [said("r")]}, [user("q")], "r"),
        ({"text": "the fox"}, [], "the fox"),
        ({"input": "q", "answer": "r"}, [user("q")], "r"),
        ({"id": 7, "prompt": "q", "response": "r"}, [user("q")], "r"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_rows_are_read_by_the_names_of_their_columns(
    row: dict[str, Any], prompt: list[Message], response: str, tmp_path: Path
) -> None:
    (passage,) = read_passages(_lines(tmp_path / "p.jsonl", [row]))
    assert (passage.id, passage.prompt, passage.response) == (str(row.get("id", 1)), tuple(prompt), response)


def test_columns_can_be_named(tmp_path: Path) -> None:
    pair = {"prompt": "q", "chosen": [user("q"), said("yes")], "rejected": [user("q"), said("no")]}
    path = _lines(tmp_path / "p.jsonl", [pair])
    for column, response in (("chosen", "yes"), ("rejected", "no")):
        (passage,) = read_passages(path, response_column=column)
        assert (passage.prompt, passage.response) == ((user("q"),), response)
    path = _lines(tmp_path / "x.jsonl", [{"frage": "q", "antwort": "r", "text": "other"}])
    (passage,) = read_passages(path, prompt_column="frage", response_column="antwort")
    assert (passage.prompt, passage.response) == ((user("q"),), "r")
    (prompt,) = read_prompts(path, column="text")
    assert prompt.messages == (user("other"),)


def test_a_turn_that_calls_a_tool_is_context(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    messages = [user("why"), call, {"role": "tool", "content": "42"}, said("42")]
    (passage,) = read_passages(_lines(tmp_path / "p.jsonl", [{"messages": messages}]))
    assert (passage.id, len(passage.prompt), passage.response) == ("1/0", 3, "42")


def test_days_in_messages_of_a_table_are_text(tmp_path: Path) -> None:
    dated = [{**user("why"), "timestamp": datetime(2026, 1, 1, tzinfo=UTC)}, said("so")]
    (passage,) = read_passages(_parquet(tmp_path / "p.parquet", [{"conversation": dated}]))
    assert passage.response == "so"
    write_passages([passage], tmp_path / "q.jsonl")
    assert read_passages(tmp_path / "q.jsonl") == [passage]


def test_authors_of_the_file_are_kept_and_one_given_is_for_rows_without(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "response": "r", "author": "me"}]
    assert read_passages(_lines(tmp_path / "a.jsonl", rows), author="you")[0].author == "me"
    assert read_passages(_lines(tmp_path / "a.jsonl", [{"prompt": "q", "response": "r"}]))[0].author == "a"


COMPLETION: dict[str, Any] = {"id": "c1", "object": "chat.completion", "choices": [{"message": said("so")}]}
BATCH = {"id": "b1", "custom_id": "r1", "response": {"status_code": 200, "body": COMPLETION}, "error": None}


@pytest.mark.parametrize(
    ("row", "passages"),
    [
        (COMPLETION, [("c1", (), "so")]),
        (BATCH, [("r1", (), "so")]),
        (BATCH | {"body": {"messages": [user("why")]}}, [("r1", (user("why"),), "so")]),
        ({"messages": [user("why")], "response": COMPLETION}, [("1", (user("why"),), "so")]),
        ({"prompt": "why", "output": COMPLETION}, [("1", (user("why"),), "so")]),
        ({"request": {"messages": CONVERSATION[:4]}, "response": COMPLETION}, [("1", tuple(CONVERSATION[:4]), "so")]),
        (
            COMPLETION | {"choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}}]},
            [("c1/0", (), "a"), ("c1/1", (), "b")],
        ),
    ],
    ids=["completion", "batch", "joined", "beside messages", "beside a prompt", "log", "two choices"],
)
@pytest.mark.parametrize("write", [_lines, _parquet])
def test_answers_of_openai_are_passages(
    row: dict[str, Any], passages: list[tuple], write: Callable[[Path, Rows], Path], tmp_path: Path
) -> None:
    path = write(tmp_path / ("a.parquet" if write is _parquet else "a.jsonl"), [row])
    assert [(p.id, p.prompt, p.response) for p in read_passages(path)] == passages
    if passages[0][1]:
        assert [p.messages for p in read_prompts(path)] == [passages[0][1]]
    else:
        with pytest.raises(PassageError, match="these are answers, which `enaction score` reads"):
            read_prompts(path)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"a": "x", "b": "y"}], "row 1: 'response' missing; give --response-column one of a, b$"),
        ([{"question": "q", "text": "t", "answer": "r"}], "which of 'question' and 'text' is the prompt.*--prompt-col"),
        ([{"prompt": "q", "output": "a", "answer": "r"}], "which of 'output' and 'answer' is the response"),
        ([{"question": "q", "context": "c", "answer": "r"}], "'context' would be left out beside 'question'"),
        ([{"question": "q", "choices": ["c"], "answer": "r"}], "'choices' would be left out beside 'question'"),
        (
            [{"prompt": "q", "chosen": "a", "rejected": "b"}],
            "one of prompt, chosen, rejected .two responses are compared",
        ),
        ([{"messages": [user("q")]}], "no turn of 'messages' is the assistant's.*enaction sample"),
        ([{"messages": [user("q"), {**said("r"), "reasoning_content": "hm"}]}], "turn 2 .* has 'reasoning_content'"),
        ([{"conversations": [{"from": "narrator", "value": "x"}]}], "a turn from 'narrator'"),
        ([{"messages": "q"}], "'messages' is a string and must be a list"),
        ([{"prompt": "q", "response": "a"}, {"prompt": "p", "response": "b", "author": "me"}], "row 2: 'author' given"),
        ([{"data": [{"prompt": "q"}]}], r"jq -c '\.data\[\]' FILE"),
        (
            [{"prompt": ["q", "p"], "response": ["r", "s"]}],
            r"several texts; .*\[\.prompt, \.response\] \| transpose\[\]",
        ),
        ([{"prompt": ["q", "p"], "answer": "r"}], r"take one of them: jq -c '\.prompt = \.prompt\[0\]'"),
        ([{"prompt": {"0": "q"}, "answer": "r"}], "orient='records', lines=True"),
        ([{"dialogue": [user("q"), said("r")]}], r"jq -c '\{messages: \.dialogue\}'"),
        ([{"data": {"question": "q", "A-1": "a"}}], r"\{prompt: \.data\.question, response: \.data\[\"A-1\"\]\}"),
        ([{"question": "q", "answers": {"text": ["a"]}}], r"prompt: \.question, response: \.answers\.text\[0\]"),
        ([{"id": 1}], 'the row has no text; write {"prompt": ..., "response": ...}'),
        (
            [{"custom_id": "a", "response": {"status_code": 429, "body": {}}}],
            r"failed, .*select\(\.response\.body\.choices\)",
        ),
        (
            [{"custom_id": "a", "response": None, "error": {"code": "x"}}],
            r"failed, .*select\(\.response\.body\.choices\)",
        ),
        ([COMPLETION | {"choices": [{"message": {"content": "r", "reasoning_content": "hm"}}]}], "'reasoning_content'"),
        (["text"], r"row 1 of .* is a string; make objects .*jq -c '\.\[\] \| \{prompt: \.\}' .*p.json > .*"),
        ([[user("q")]], r"row 1 of .* is a list; make objects .*messages: \."),
    ],
)
def test_what_is_not_certain_is_refused_with_the_remedy(rows: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(PassageError, match=words) as caught:
        read_passages(_array(tmp_path / "p.json", rows))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl.gz", b"\x1f\x8b", "gunzip -k .*a.jsonl.gz"),
        ("a.xlsx", b"PK\x03\x04", "read_excel"),
        ("a.arrow", b"ARROW1", "from_file"),
        ("a.jsonl", b"PAR1\xff", "let its name end in .parquet"),
        ("b.jsonl", b"\x1f\x8b\xff", "gunzip -c .*b.jsonl"),
        ("c.jsonl", "{}".encode("utf-16"), "iconv -f UTF-16"),
        ("d.jsonl", b"the old fox", "ends in .txt"),
        ("e.json", b'{\n "prompt": "q"\n}', "jq -c . .*e.json > .*e.rows.jsonl"),
        ("f.csv", b"prompt,response\nq\n", "row 1 of .* has 1 cells for 2 columns"),
        ("g.csv", b'prompt,response\nq,"r\n', "row 1 of .* is not CSV"),
        ("h.csv", b"prompt,prompt\nq,r\n", "two columns have one name"),
        ("i.csv", b"messages\n\"[{'role': 'user', 'content': 'q'}]\"\n", "looks like a list of messages"),
        ("j.csv", b"prompt,response\nq,\n", "row 1: 'response' is empty"),
        ("k.txt", b" \n", "holds no passages"),
    ],
)
def test_other_kinds_are_refused_with_the_command_that_converts_them(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PassageError, match=words):
        read_passages(tmp_path / name)


def test_folders_that_are_no_data_set_say_what_to_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PassageError, match="holds no data set and no data files; give a file"):
        read_prompts(tmp_path)
    (tmp_path / "x.parquet").write_text("not Parquet")
    with pytest.raises(PassageError, match=r"is no readable data set .*; give one of its files"):
        read_prompts(tmp_path)
    (tmp_path / f"{tmp_path.name}.py").write_text("raise SystemExit")
    with pytest.raises(PassageError, match="the code of a data set, which is not run"):
        read_prompts(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    for path in (tmp_path / "..", "org/name"):
        with pytest.raises(PassageError, match=r"not installed: pip install 'enaction\[datasets\]'") as caught:
            read_prompts(path)
        assert "\n" not in str(caught.value)


MANY: Rows = [{"question": f"q{i}", "answer": f"r{i}"} for i in range(7)]


def _folders(tmp_path: Path) -> dict[str, Path]:
    """A data set with two splits: as `save_to_disk` writes it, and as folders of data files."""
    datasets = pytest.importorskip("datasets")
    splits = {"train": MANY, "test": MANY[:2]}
    rows = {name: datasets.Dataset.from_list(of) for name, of in splits.items()}
    datasets.DatasetDict(rows).save_to_disk(str(tmp_path / "saved"))
    for kind, write in (("parquet", _parquet), ("jsonl", _lines), ("csv", _csv)):
        (tmp_path / kind / "data").mkdir(parents=True)
        for name, of in splits.items():
            write(tmp_path / kind / "data" / f"{name}-00000-of-00001.{kind}", of)
    return {name: tmp_path / name for name in ("saved", "parquet", "jsonl", "csv")}


# The library leaves a CSV file open that was not read to its end.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_splits_of_a_data_set_are_read_by_name(tmp_path: Path) -> None:
    for name, folder in _folders(tmp_path).items():
        assert [p.response for p in read_passages(folder, split="test")] == ["r0", "r1"], name
        three = [(user(f"q{i}"),) for i in range(3)]
        assert [p.messages for p in read_prompts(folder, split="train", limit=3)] == three
        assert read_passages(folder, split="test")[0].author == name
        with pytest.raises(PassageError, match=rf"{name} has several splits; give --split one of train, test"):
            read_prompts(folder)
        with pytest.raises(PassageError, match="has no split valid; give --split one of train, test"):
            read_prompts(folder, split="valid")
    assert len(read_prompts(tmp_path / "saved" / "train", split="train")) == 7
    with pytest.raises(PassageError, match="is one split, train, and not test"):
        read_prompts(tmp_path / "saved" / "train", split="test")
    with pytest.raises(PassageError, match="is no data set, so that it has no split"):
        read_prompts(_lines(tmp_path / "q.jsonl", MANY), split="train")


class _Hub:
    """Stands in for `datasets.load_dataset`: what it was asked for, and how many rows were taken."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.taken = 0

    def load_dataset(self, path: str, **given: Any) -> Any:
        self.asked.append({"path": path} | given)
        if path == "org/gone":
            raise ConnectionError("Couldn't reach\nthe hub")
        if path == "org/code":
            raise RuntimeError("Dataset scripts are no longer supported, but found code.py")
        if path == "org/many" and "name" not in given:
            raise ValueError(
                "Config name is missing.\nPlease pick one among the available configs: ['main', 'socratic']"
            )
        return {"train": self._rows(), "test": iter(MANY)} if given["split"] is None else iter(MANY[:1])

    def _rows(self) -> Iterator[dict[str, Any]]:
        for row in MANY:
            self.taken += 1
            yield row


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> _Hub:
    datasets, found = pytest.importorskip("datasets"), _Hub()
    monkeypatch.setattr(datasets, "load_dataset", found.load_dataset)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(data_sets, "_is_reachable", lambda _: True)
    return found


def test_a_data_set_of_the_hub_is_read_by_its_id(hub: _Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    passages = read_passages("org/some.thing:main@v1", split="train", limit=2)
    assert [(p.response, p.author) for p in passages] == [("r0", "some.thing"), ("r1", "some.thing")]
    asked = {"path": "org/some.thing", "split": None, "name": "main", "revision": "v1"}
    assert hub.asked[-1] == asked | {"streaming": True}
    assert hub.taken <= 3  # and not all of them
    assert len(read_passages("org/some.thing", split="train")) == 7
    assert hub.asked[-1] == {"path": "org/some.thing", "split": None, "streaming": False}
    assert len(read_prompts("org/some.thing", split="train[:1]", limit=1)) == 1
    assert hub.asked[-1] == {"path": "org/some.thing", "split": "train[:1]", "streaming": False}
    monkeypatch.setattr(data_sets, "_is_reachable", lambda _: False)
    read_passages("org/some.thing", split="train", limit=2)
    assert not hub.asked[-1]["streaming"]  # without a net, what is in the cache
    assert not any("trust_remote_code" in asked for asked in hub.asked)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("org/gone", "there is no file org/gone, and no data set .* can be reached .Couldn't reach the hub.; check"),
        ("org/code", "scripts are no longer supported, .*; its code is not run"),
        ("org/many", "available configs: .*'socratic'.*; give one as org/many:CONFIG"),
        ("org/name", "org/name has several splits; give --split one of train, test"),
    ],
)
def test_a_data_set_that_cannot_be_read_is_one_line(name: str, words: str, hub: _Hub) -> None:
    with pytest.raises(PassageError, match=words) as caught:
        read_prompts(name)
    assert "\n" not in str(caught.value)


def test_a_study_takes_the_split_of_a_data_set(hub: _Hub, tmp_path: Path) -> None:
    given = {"name": "s", "models": {"a": "zoo:ash-rl"}}
    for prompts in (_folders(tmp_path)["saved"].name, "org/name"):
        study = with_absolute_paths(study_of(given | {"prompts": prompts, "split": "test"}, "s.yaml"), tmp_path)
        assert len(study.load_prompts()) == (2 if prompts == "saved" else 7)
    with pytest.raises(StudyError, match="split is of a data set"):
        study_of(given | {"split": "test"}, "s.yaml")


def test_passages_survive_every_kind_that_is_written(tmp_path: Path) -> None:
    passage = Passage("7", "p", tuple(CONVERSATION[:4]), "thus", "me", {"temperature": 1.0}, (1, 2), (-0.5, -1.0), "t")
    for name in ("a.jsonl", "a.parquet"):
        write_passages([passage], tmp_path / name)
        assert read_passages(tmp_path / name) == [passage]


@pytest.mark.parametrize("name", ["q.csv", "q.parquet", "q.jsonl"])
@pytest.mark.parametrize(
    ("row", "named", "words"),
    [
        ({"question": "b", "answer": None}, {}, "row 2: 'answer' is empty; fill it in, or take the row out"),
        ({"question": None, "answer": "b"}, {}, "row 2: 'question' is empty"),
        ({"question": "b", "answer": None}, {"response": "answer"}, "row 2: 'answer' is empty"),
        ({"question": None, "answer": "b"}, {"prompt": "question"}, "row 2: 'question' is empty"),
    ],
)
def test_a_cell_without_text_is_not_called_a_missing_column(
    name: str, row: dict[str, str | None], named: dict[str, str], words: str, tmp_path: Path
) -> None:
    path, rows = tmp_path / name, [{"question": "a", "answer": "a"}, row]
    if name == "q.csv":
        _csv(path, rows)
    elif name == "q.parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(f"{json.dumps(r)}\n" for r in rows))
        words = words.replace("row 2", "line 2")
    with pytest.raises(PassageError, match=words):
        read_passages(path, prompt_column=named.get("prompt"), response_column=named.get("response"))
