"""Files, places, encodings and names that people have: read alike everywhere, or one line and exit code 2 at once."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from command import enaction

from enaction.errors import FramingError, PassageError
from enaction.framing import opening
from enaction.passages import read_passages, write_passages
from enaction.reader import Reader
from enaction.running import load_study
from enaction.study.work import _load, forget_models
from enaction.tokens import read_token_table, score_passages, table_notes

ROW: dict[str, Any] = {"id": "x", "prompt": "tell me a story", "response": "the old fox", "author": "person"}


@pytest.fixture(scope="module", name="model")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Brackets, which a terminal's markup takes for its own.
    folder = tmp_path_factory.mktemp("m") / "tiny [v2] [/b]"
    tokenizer = tiny.byte_tokenizer()
    tiny.llama(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def lines(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


# Places.


def test_a_place_that_cannot_be_written_is_found_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    passages = lines(tmp_path / "p.jsonl", ROW)
    (tmp_path / "d.parquet").mkdir()
    (tmp_path / "file").write_text("")
    cases = [
        (("score", passages, "-o", tmp_path / "d.parquet"), "it is a folder; give a file"),
        (("score", passages, "-o", tmp_path), "it is a folder; give a file"),
        (("score", passages, "-o", tmp_path / "t.xlsx"), "give a name that ends in .parquet or .csv"),
        (("score", passages, "-o", tmp_path / "file" / "t.parquet"), "give another place"),
        (("sample", "--prompts", passages, "-o", tmp_path / "d.parquet"), "it is a folder"),
        (("sample", "--prompts", passages, "-o", tmp_path / "s.csv"), "ends in .jsonl or .ndjson or .parquet"),
    ]
    before = sorted(tmp_path.rglob("*"))
    for arguments, words in cases:
        # A model that is not there would be told first, were the place not looked at before it.
        code, _, err = enaction(capsys, monkeypatch, *arguments, "--model", "./nowhere")
        assert code == 2, err
        assert words in err
        assert len(err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_name_in_csv_gets_csv(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    passages = lines(tmp_path / "p.jsonl", ROW)
    for name in ("new/t.csv", "t.parquet"):
        assert enaction(capsys, monkeypatch, "score", passages, "--model", model, "-o", tmp_path / name)[0] == 0
    expected = read_token_table(tmp_path / "t.parquet").to_pylist()
    with (tmp_path / "new" / "t.csv").open() as handle:
        found = list(csv.DictReader(handle))
    assert [row["token_id"] for row in found] == [str(row["token_id"]) for row in expected]
    assert [float(row["entropy"]) for row in found] == pytest.approx([row["entropy"] for row in expected], rel=1e-6)
    assert found[0]["author"] == "person"


# Encodings.


def test_standard_input_is_utf8_whatever_the_locale(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = json.dumps(ROW | {"response": "thé"}, ensure_ascii=False) + "\n"
    (tmp_path / "p.jsonl").write_text(text, encoding="utf-8")
    for bom in ("", "\ufeff"):
        given = io.TextIOWrapper(io.BytesIO((bom + text).encode()), encoding="latin-1")
        monkeypatch.setattr(sys, "stdin", given)
        assert read_passages("-") == read_passages(tmp_path / "p.jsonl")
        assert not given.closed
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe{"), encoding="latin-1"))
    with pytest.raises(PassageError, match="standard input is not UTF-8"):
        read_passages("-")


def test_standard_output_is_utf8_whatever_the_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="ascii"))
    write_passages([tiny.passage("thé 🙂")], "-")
    assert json.loads(out.getvalue().decode())["response"] == "thé 🙂"


def test_a_template_file_with_a_byte_order_mark_is_the_same_template(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    passages = lines(tmp_path / "p.jsonl", ROW)
    tables = []
    for name, encoding in (("plain", "utf-8"), ("marked", "utf-8-sig")):
        template = tmp_path / f"{name}.jinja"
        template.write_text(tiny.STRIPPING, encoding=encoding)
        arguments = ("score", passages, "--model", model, "--chat-template", template, "-o", tmp_path / "t.parquet")
        assert enaction(capsys, monkeypatch, *arguments)[0] == 0
        tables.append(read_token_table(tmp_path / "t.parquet"))
    assert tables[0].equals(tables[1])
    (tmp_path / "bad.jinja").write_bytes(b"\xff{{")
    arguments = ("check", model, "--chat-template", tmp_path / "bad.jinja")
    code, _, err = enaction(capsys, monkeypatch, *arguments)
    assert (code, "is not UTF-8 text" in err) == (2, True)


def test_a_switch_of_the_template_is_given_by_an_option(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    template = tmp_path / "t.jinja"
    template.write_text("{{ '<|system|>' + ('deep' if deep is not defined or deep else 'quick') }}" + tiny.CHATML)
    for given, words in (((), "deep"), (("--template-option", "deep=false"), "quick")):
        code, out, _ = enaction(capsys, monkeypatch, "check", model, "--chat-template", template, "--json", *given)
        assert code == 0
        assert words in json.loads(out)["facts"]["template opens with"]
    for option, words in (("shallow=1", "has no switch 'shallow'"), ("deep", "write NAME=VALUE")):
        arguments = ("check", model, "--chat-template", template, "--template-option", option)
        code, _, err = enaction(capsys, monkeypatch, *arguments)
        assert (code, words in err) == (2, True), err


def test_a_study_sets_switches_of_a_models_template(model: Path, tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text(
        "\ufeff{{ '<|system|>' + ('deep' if deep is not defined or deep else 'quick') }}" + tiny.CHATML,
        encoding="utf-8",
    )
    spec = {"model": str(model), "family": "f", "chat_template": "t.jinja", "template_options": {"deep": False}}
    (tmp_path / "s.yaml").write_text(json.dumps({"name": "s", "models": {"a": spec, "b": spec}}))
    study = load_study(tmp_path / "s.yaml")
    assert opening(_load(study, "a").tokenizer).startswith("<|system|>quick")
    study.models["b"].template_options["shallow"] = True
    with pytest.raises(FramingError, match="has no switch 'shallow'"):
        _load(study, "b")
    forget_models()


# Names.


def test_brackets_and_escapes_in_names_are_printed_as_they_are(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    authors = ["x [/b]", "x [web]", "\\", "red \u001b[31m"]
    passages = lines(tmp_path / "p.jsonl", *(ROW | {"author": author} for author in authors))
    monkeypatch.setenv("COLUMNS", "300")
    code, _, err = enaction(capsys, monkeypatch, "score", passages, "--model", model, "-o", tmp_path / "t.parquet")
    assert code == 0, err
    for author in (*authors[:3], "red \\x1b[31m", model.name):
        assert author in err
    assert "\x1b[31m" not in err
    code, out, _ = enaction(capsys, monkeypatch, "check", model)
    assert code == 0
    assert f"{model.name} is read to within" in out


# Files.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"response": None}, "row 2: 'response' is empty; fill it in"),
        ({"response": ""}, "row 2: 'response' is empty"),
        ({"id": None}, "row 2: 'id' is null"),
        ({"id": "x"}, "row 2: author 'person' already has a passage with id 'x' in row 1"),
        ({"author": None}, "row 2: 'author' is null"),
        ({"prompt": None}, "row 2: 'prompt' is empty; fill it in"),
        ({"prompt": [{"role": "user", "content": None}]}, "row 2: 'prompt' must be a list of messages"),
        ({"token_ids": [1.5], "tokenizer": "t"}, "row 2: 'token_ids' must hold token ids"),
        ({"token_ids": [1, None], "tokenizer": "t"}, "row 2: 'token_ids' must hold token ids"),
        ({"token_ids": [1]}, "row 2: 'token_ids' without 'tokenizer'"),
        ({"sampling": "hot"}, "row 2: 'sampling' is not valid JSON"),
        ({"ended": "yes"}, "row 2: 'ended' is a string"),
        ({"tools": [{"name": "river"}]}, "row 2: 'tools' is not given to the chat template"),
    ],
)
def test_parquet_is_checked_as_json_lines_are(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    first = ROW if not isinstance(change.get("prompt"), list) else ROW | {"prompt": [{"role": "user", "content": "a"}]}
    records = [first, first | {"id": "y"} | change]
    pq.write_table(pa.Table.from_pylist([dict.fromkeys(records[1]) | r for r in records]), tmp_path / "p.parquet")
    with pytest.raises(PassageError, match="^" + words):
        read_passages(tmp_path / "p.parquet")


def test_parquet_from_elsewhere_is_read(tmp_path: Path) -> None:
    rows = [
        ROW | {"sampling": None, "marks": None, "ended": None, "token_ids": None},
        ROW | {"id": "y", "sampling": {"temperature": 0.5}, "marks": None, "ended": True, "token_ids": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    one, two = read_passages(tmp_path / "p.parquet")
    assert one.prompt == tiny.user("tell me a story")
    assert (one.sampling, one.ended, two.sampling, two.ended) == ({}, None, {"temperature": 0.5}, True)
    numbers = pa.Table.from_pylist([ROW | {"id": 7.5}])
    pq.write_table(numbers, tmp_path / "n.parquet")
    with pytest.raises(PassageError, match="row 1: 'id' is a number and must be a string"):
        read_passages(tmp_path / "n.parquet")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"id": ' + "9" * 5000 + "}", "line 1 of .* holds a number with too many digits"),
        ("{" * 0 + '{"a":' * 100_000 + "1" + "}" * 100_000, "line 1 of .* is nested too deep"),
        ('[{"id": "a"}]', "row 1: 'response' missing"),
        ("[\n", "is not valid JSON .*; write a JSON array of objects, or one object a line"),
    ],
)
def test_what_json_allows_and_nobody_can_read_is_one_line(line: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(line)
    with pytest.raises(PassageError, match=words) as caught:
        read_passages(tmp_path / "p.jsonl")
    assert len(str(caught.value)) < 300


# What the notes tell.


def test_score_says_what_it_did_not_read_as_it_was_given(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [
        ROW | {"id": "plain"},
        ROW | {"id": "ids", "token_ids": [9, 10], "tokenizer": "another"},
        ROW | {"id": "nothing", "response": "", "token_ids": [9], "tokenizer": "another", "author": "silent"},
        ROW | {"id": "half", "response": "the \ufffd"},
        ROW | {"id": "special", "response": "the <s>old</s> fox"},
    ]
    passages = lines(tmp_path / "p.jsonl", *given)
    code, _, err = enaction(capsys, monkeypatch, "score", passages, "--model", model, "-o", tmp_path / "t.parquet")
    assert code == 0
    for words in (
        "2 passages have token_ids of another tokenizer; their text was read",
        "1 passages have no token to measure",
        "1 passages hold half of a character",
        "1 passages hold special tokens among their words",
        "nothing to read",
    ):
        assert words in err
    assert "nan" not in err
    code, _, err = enaction(
        capsys, monkeypatch, "score", lines(passages, ROW), "--model", model, "-o", tmp_path / "t.parquet"
    )
    assert "passages have" not in err
    assert "warning" not in err


def test_notes_hold_the_warnings_about_the_template() -> None:
    tokenizer = tiny.byte_tokenizer(tiny.CHATML.replace("{{ '<|assistant|>' }}", "{{ '<|assistant|><think>' }}"))
    reader = Reader(tiny.llama(len(tokenizer)), tokenizer)
    notes = table_notes(score_passages(reader, [tiny.passage()], "assistant"))
    assert ["opens the thoughts" in warning for warning in notes["warnings"]] == [True]
    assert table_notes(score_passages(reader, [tiny.passage()], "none"))["warnings"] == []
