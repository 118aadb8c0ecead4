"""`enaction audit`: what it says and writes, that it goes on after a stop, and what it refuses."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
import tiny
from command import enaction

from enaction.audit.resampling import two_sided
from enaction.cli import journal
from enaction.errors import UserError
from enaction.framing import frame_prompt
from enaction.passages import Passage, write_passages
from enaction.reader import Reader
from enaction.sampling import sample

Call = Callable[..., tuple[int, str, str]]
WORDS = ("fox", "house", "night", "river")


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    tiny.save(folder, ["a", "b"])
    prompts = [tiny.prompt(f"tell me about the {word}", f"p{i}") for i, word in enumerate(WORDS)]
    for name in ("a", "b"):
        reader = Reader.load(str(folder / name))
        write_passages(sample(reader, prompts, n=2, max_new_tokens=60, author=name), folder / f"{name}.jsonl")
        if name == "a":
            rows = [_rollout(reader, p) for p in sample(reader, prompts, n=1, max_new_tokens=20)]
            (folder / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # Words that nothing in the model makes likely.
    strange = [Passage(f"x{i}", f"p{i}", p.messages, "fox fox fox fox " * 12, "me") for i, p in enumerate(prompts)]
    write_passages(strange, folder / "strange.jsonl")
    tokenizer = tiny.byte_tokenizer()
    tiny.llama(len(tokenizer)).save_pretrained(folder / "bytes")
    tokenizer.save_pretrained(folder / "bytes")
    row = {"id": "x", "prompt": "why", "author": "me"}
    (folder / "long.jsonl").write_text(json.dumps(row | {"response": "fox " * 300}) + "\n")
    (folder / "empty_turn.jsonl").write_text(json.dumps(row | {"response": ""}) + "\n")
    (folder / "no_turn.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "why"}]}) + "\n")
    return folder


def _rollout(reader: Reader, passage: Passage) -> dict[str, Any]:
    context = frame_prompt(reader.tokenizer, tiny.prompt(passage.prompt[0]["content"]), "assistant").ids
    return {"prompt_ids": list(context), "completion_ids": list(passage.token_ids or ()), "temperature": 1.0}


@pytest.fixture(name="call")
def _call(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(folder)
    return lambda *arguments: enaction(capsys, monkeypatch, "audit", *arguments)


def test_own_turns_are_no_evidence_and_the_answer_says_what_that_is_not(call: Call) -> None:
    code, out, err = call("a.jsonl", "--model", "./a", "--fail-on", "foreign", "-q")
    assert (code, err) == (0, "")
    first, together = out.splitlines()[:2]
    assert first.startswith("None of 8 turns is reported as not sampled from ./a at temperature 1, no truncation")
    assert "no proof" in first
    assert together.startswith("- All turns together, as if one sampler had written them all: no evidence: log10 e is")
    assert out.index("is never proven") > out.index("curvature")  # cautions after the table


def test_foreign_turns_are_reported_and_the_code_says_so(call: Call) -> None:
    code, out, _ = call("strange.jsonl", "--model", "./a", "--fail-on", "foreign", "-q")
    assert code == 1
    assert out.startswith("4 of 4 turns are reported as not sampled from ./a at temperature 1")
    assert "not sampled as stated: log10 e is" in out
    assert call("strange.jsonl", "--model", "./a", "-q")[0] == 0


def test_json_has_the_answer_the_worst_turns_and_definitions_of_what_they_hold(call: Call) -> None:
    code, out, _ = call("strange.jsonl", "--model", "./a", "--versus", "./b", "--rows", 2, "--json", "-q")
    data = json.loads(out)
    assert (code, data["turns"], data["turns_reported"], data["together"]["verdict"]) == (0, 4, 4, "foreign")
    assert data["settings"]["versus"] == ["./b"]
    first, second = data["worst"]
    assert first["log10_e_greatest"] >= second["log10_e_greatest"]
    assert first["reported"] is True
    assert "./b" in first["versus"]
    assert set(first) - {"turn", "author", "id", "tokens", "verdict"} <= data["definitions"].keys()


def test_binoculars_has_a_column_where_it_is_asked_for(call: Call) -> None:
    code, out, _ = call("strange.jsonl", "--model", "./a", "--versus", "./b", "--binoculars", "--json", "-q")
    data = json.loads(out)
    assert code == 0
    assert all(row["binoculars"] > 0 for row in data["worst"])
    assert data["settings"]["observer"] == "./b"
    assert "Binoculars" in call("strange.jsonl", "--model", "./a", "--versus", "./b", "--binoculars", "-q")[1]
    data = json.loads(call("strange.jsonl", "--model", "./a", "--json", "-q")[1])
    assert all(row["binoculars"] is None for row in data["worst"])
    code, out, err = call("a.jsonl", "--model", "./a", "--binoculars")
    assert (code, out) == (2, "")
    assert "--versus" in err


def test_tables_of_every_kind_have_a_row_a_turn(call: Call, folder: Path) -> None:
    for ending in ("parquet", "csv", "jsonl"):
        assert call("a.jsonl", "--model", "./a", "-o", f"out/t.{ending}", "-q")[0] == 0
    rows = pq.read_table(folder / "out" / "t.parquet").to_pylist()
    assert [row["turn"] for row in rows] == list(range(1, 9))
    assert [row["reported"] for row in rows] == [False] * 8
    assert pc.read_csv(folder / "out" / "t.csv")["id"].to_pylist() == [row["id"] for row in rows]
    lines = (folder / "out" / "t.jsonl").read_text().splitlines()
    assert [json.loads(line)["log10_e"] for line in lines] == [row["log10_e"] for row in rows]
    assert not list((folder / "out").glob("*.partial"))


def test_the_same_command_goes_on_after_a_stop(call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from enaction.audit import streaming

    monkeypatch.setattr(streaming, "TURNS_TOGETHER", 2)
    monkeypatch.setattr(journal, "_ROWS", 2)
    line = ("a.jsonl", "--model", "./a", "--json", "-q", "-o")
    whole = json.loads(call(*line, "whole.jsonl")[1])
    judge, judged = streaming.judge, []

    def stopping(author: str, name: str, *rest: Any) -> Any:
        judged.append(name)
        if len(judged) == 6:
            raise UserError("the disk is on fire")
        return judge(author, name, *rest)

    monkeypatch.setattr(streaming, "judge", stopping)
    code, _, err = call(*line, "parts.jsonl")
    assert code == 2
    assert "the disk is on fire (5 turns are kept in parts.jsonl.partial; the same command resumes)" in err
    code, _, err = call("b.jsonl", *line[1:], "parts.jsonl")
    assert (code, "another command" in err) == (2, True)
    judged.clear()
    monkeypatch.setattr(streaming, "judge", lambda *given: (judged.append(given[1]), judge(*given))[1])
    resumed = json.loads(call(*line, "parts.jsonl")[1])
    assert len(judged) == 3
    assert resumed["together"]["log10_e"] == pytest.approx(whole["together"]["log10_e"], abs=1e-5)
    for key in ("turns", "tokens", "turns_reported"):
        assert resumed[key] == whole[key]
    texts = [(folder / name).read_text().splitlines() for name in ("whole.jsonl", "parts.jsonl")]
    for one, two in zip(*(map(json.loads, text) for text in texts), strict=True):
        assert one["id"] == two["id"]
        assert one["log10_e"] == pytest.approx(two["log10_e"], abs=1e-5)
    assert not (folder / "parts.jsonl.partial").exists()


def test_the_page_loads_nothing_and_shows_what_models_write_as_text(call: Call, folder: Path) -> None:
    row = {
        "id": "<script>",
        "prompt": [{"role": "user", "content": "tell me \u202eevil <b>now</b>"}],
        "response": "the </label><script>alert(1)</script> \u202e fox \x1b[31m\nhouse",
        "author": "<img src=x>",
    }
    (folder / "attack.jsonl").write_text(json.dumps(row) + "\n")
    assert call("attack.jsonl", "--model", "./a", "--html", "page.html", "-q")[0] == 0
    page = (folder / "page.html").read_text()
    assert not re.search(r"<script|<img|<b>now|\x1b|\u202e|src=|href=|url\(", page.replace("&lt;", ""))
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert "\\u202e" in page
    assert page.count('type="radio"') > 3  # tokens, to be chosen with the keyboard
    assert len(set(re.findall(r'name="t(\d+)"', page))) == 1


def test_long_pages_are_cut_and_say_so(call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from enaction.cli import audit

    monkeypatch.setattr(audit, "_TURNS_SHOWN", 2)
    monkeypatch.setattr(audit, "_TOKENS_SHOWN", 5)
    assert call("strange.jsonl", "--model", "./a", "--html", "cut.html", "-q")[0] == 0
    page = (folder / "cut.html").read_text()
    assert page.count("The first 5 of 48 tokens") == page.count("<article") == 2


def test_rollouts_are_found_by_their_columns(call: Call) -> None:
    code, out, _ = call("rollouts.jsonl", "--model", "./a", "--json", "-q")
    data = json.loads(out)
    assert (code, data["turns"], data["turns_foreign"]) == (0, 4, 0)
    code, out, err = call("rollouts.jsonl", "--model", "./a", "--column", "token_ids=nowhere", "-q")
    assert (code, out) == (2, "")
    assert "there is no column 'nowhere'" in err


def test_settings_come_from_the_first_turn_and_others_are_counted(call: Call, folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "a.jsonl").read_text().splitlines()]
    rows[0]["sampling"]["temperature"] = rows[1]["sampling"]["temperature"] = 0.5
    (folder / "mixed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, out, err = call("mixed.jsonl", "--model", "./a")
    assert "as the first turn says: temperature 0.5" in err
    assert "Warning: 6 of 8 turns are noted in the file as sampled otherwise than temperature 0.5" in out
    assert "at temperature 1, no truncation" in call("mixed.jsonl", "--model", "./a", "--temperature", 1, "-q")[1]


def test_standard_input_is_read_once_and_serves_for_everything(
    call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (folder / "strange.jsonl").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    code, out, _ = call("-", "--model", "./a", "--html", "in.html", "-o", "in.csv", "--json", "-q")
    assert (code, json.loads(out)["turns"]) == (0, 4)
    assert (folder / "in.html").read_text().count("<article") == 4


def test_a_turn_beyond_all_answers_has_the_smallest_p_and_lost_answers_count_against_it() -> None:
    answers = [float(i) for i in range(39)]
    assert two_sided(-1.0, answers, 39) == two_sided(99.0, answers, 39) == pytest.approx(2 / 40)
    assert two_sided(19.0, answers, 39) == 1
    assert two_sided(-1.0, answers[:29], 39) == pytest.approx(22 / 40)


def test_a_second_opinion_ranks_turns_among_answers(call: Call) -> None:
    data = json.loads(call("strange.jsonl", "--model", "./a", "--limit", 2, "--resample", 39, "--json", "-q")[1])
    values = [row[name] for row in data["second_opinion"] for name in ("p_logprob", "p_curvature")]
    assert len(values) == 4
    assert all(2 / 40 <= p <= 1 and p * 20 == pytest.approx(round(p * 20)) for p in values)
    code, _, err = call("a.jsonl", "--model", "./a", "--resample", 19, "--top-k", 5, "-q")
    assert (code, "without top-k" in err) == (2, True)
    code, _, err = call("rollouts.jsonl", "--model", "./a", "--resample", 19, "-q")
    assert (code, "prompts as messages" in err) == (2, True)


REFUSALS = [
    ("a.jsonl --model ./a --versus ./bytes", "another tokenizer"),
    ("long.jsonl --model ./a", "leave the turn out"),
    ("empty_turn.jsonl --model ./a", "'response' is empty"),
    ("no_turn.jsonl --model ./a", "no turn of 'messages' is the assistant's"),
    ("a.jsonl --model ./a --versus ./a", "named twice"),
    ("a.jsonl --model ./a --tokenizer ./a", "--tokenizer is for endpoints"),
]


@pytest.mark.parametrize(("line", "words"), REFUSALS)
def test_what_cannot_be_judged_is_refused_in_one_line(call: Call, line: str, words: str) -> None:
    code, out, err = call(*line.split(), "-q")
    assert (code, out) == (2, "")
    (said,) = err.splitlines()
    assert said.startswith("enaction: ")
    assert words in said
    assert "--window" not in said


_MEASURED = """
import resource, sys
from enaction.cli import journal, main
journal._ROWS = 200
try:
    main()
except SystemExit as end:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, end.code, file=sys.stderr)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(folder: Path) -> None:
    peaks = []
    for n in (1000, 6000):
        row = {"prompt": "why", "response": "the fox", "author": "me"}
        (folder / "many.jsonl").write_text("".join(json.dumps(row | {"id": str(i)}) + "\n" for i in range(n)))
        line = ["audit", "many.jsonl", "--model", "./a", "-o", "many.parquet", "-q"]
        done = subprocess.run(
            [sys.executable, "-c", _MEASURED, *line], cwd=folder, capture_output=True, text=True, check=True
        )
        peak, code = done.stderr.split()[-2:]
        assert code in ("0", "None")
        assert pq.read_metadata(folder / "many.parquet").num_rows == n
        peaks.append(int(peak))
    assert peaks[1] - peaks[0] < 15_000  # KiB: rows alone would be more
