"""The scripts of `examples/` run as they are, and print what they say."""

from __future__ import annotations

import json
import math
import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def _printed(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> list[str]:
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out.splitlines()


def test_surprising_words_are_the_most_surprising_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [
        {"role": "user", "content": "tell me a story"},
        {"role": "assistant", "content": "the river was truly old"},
    ]
    (tmp_path / "chat.json").write_text(json.dumps([{"messages": turns}]))
    shown = _printed("surprising_words.py", capsys, monkeypatch, tmp_path / "chat.json", "zoo:birch-rl")
    assert shown[0].startswith("<Reader zoo:birch-rl")
    nats = [float(line.split()[0]) for line in shown[1:]]
    assert len(nats) >= 5
    assert nats == sorted(nats, reverse=True)
    assert all(re.search(r"of chat's 1/0$", line) for line in shown[1:])


def test_who_reads_whom_prints_the_table_and_its_interaction(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    *cells, last = _printed("who_reads_whom.py", capsys, monkeypatch)
    a, b, c, d = (math.log(float(re.findall(r": ([\d.]+) nats", line)[0])) for line in cells)
    assert float(re.findall(r"[+-][\d.]+", last)[0]) == pytest.approx((a - b - c + d) / 4, abs=2e-3)


def test_the_first_study_prints_each_reader_and_writes_its_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    *readers, last = _printed("first_study.py", capsys, monkeypatch, tmp_path / "run")
    assert [line.partition(":")[0] for line in readers] == ["ash", "birch", "cedar", "mean"]
    assert Path(last.removeprefix("report: ")).is_file()


def test_every_example_has_a_test() -> None:
    tested = set(re.findall(r'_printed\(\s*"(\w+\.py)"', Path(__file__).read_text(encoding="utf-8")))
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


def test_an_intervention_changes_what_is_read_and_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, foreign, written = _printed("intervene.py", capsys, monkeypatch)
    for line in (own, foreign):
        before, after = map(float, re.findall(r"\d\.\d{3}", line))
        assert before != after
    assert len(written.split()) > 5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_training_is_watched(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trl")
    lines = [line for line in _printed("watch_training.py", capsys, monkeypatch) if line.startswith("step ")]
    assert [int(line[5:8]) for line in lines] == [0, 10, 20, 30, 40]
    assert all(" sound; " in line for line in lines)
