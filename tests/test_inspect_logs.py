"""Logs of Inspect: a real one, the same in every form it has, and files that only look like one.

`data/colours.eval` was written by inspect_ai 0.3.285 (zstd) with its model `mockllm/model`: two samples, two epochs, a
tool, a turn that a solver put into the model's mouth, logged log-probabilities, and reasoning with a turn cut off.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from command import enaction
from hypothesis import given, settings
from hypothesis import strategies as st

from enaction.errors import PassageError
from enaction.integrations.inspect import read_eval
from enaction.passages import inspect_logs, read_passages, read_prompts

LOG = Path(__file__).parent / "data" / "colours.eval"


def _entries() -> dict[str, bytes]:
    """Header and samples of the real log, unpacked here without the code under test."""
    found: dict[str, bytes] = {}
    raw = LOG.read_bytes()
    with zipfile.ZipFile(LOG) as archive:
        for info in archive.infolist():
            name, extra = struct.unpack("<HH", raw[info.header_offset + 26 : info.header_offset + 30])
            start = info.header_offset + 30 + name + extra
            packed = raw[start : start + info.compress_size]
            data = pa.Codec("zstd").decompress(packed, info.file_size)
            found[info.filename] = data.to_pybytes()
    return found


def _zip(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def _sample(**keys: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": "so", "source": "generate"}
    return {"id": 1, "epoch": 1, "messages": [{"role": "user", "content": "why"}, said]} | keys


def _log(path: Path, *samples: Any, header: object = None) -> Path:
    header = {"version": 2, "status": "success", "eval": {"task": "t", "model": "m"}} if header is None else header
    entries = {"header.json": json.dumps(header).encode()}
    return _zip(path, entries | {f"samples/{n}.json": json.dumps(s).encode() for n, s in enumerate(samples)})


def test_a_real_log_gives_every_turn_of_the_assistant_with_what_came_before_it() -> None:
    passages = list(read_eval(LOG))
    sky = [p for p in passages if p.id.startswith("sky/1/")]
    assert [p.id for p in sky] == ["sky/1/0", "sky/1/1", "sky/1/2", "sky/1/3"]
    assert [p.response for p in sky] == ["tool call for tool look", "It is blue.", "No, it is green.", "Himmel"]
    assert {p.author for p in sky} == {"mockllm/model"}
    assert [p.marks["source"] for p in sky] == ["generate", "generate", "unknown", "generate"]
    assert sky[1].sampling == {"temperature": 0.7, "top_p": 0.95, "max_new_tokens": 50}
    assert sky[1].marks["logged_tokens"] == ["It", " is", " blue", "."]
    assert sky[1].marks["logged_logprobs"] == [-0.1, -0.2, -0.3, -0.05]
    assert [p.ended for p in sky] == [None, True, None, False]  # after a call, by itself, by a solver, cut off
    assert (sky[0].marks["tool_calls"], sky[3].marks["reasoning"]) == (1, "Sky in German?")
    assert [p.marks.get("tools") for p in sky] == [1, 1, None, 1]
    roles = [m["role"] for m in sky[3].prompt]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "assistant", "user"]
    assert [m["content"] for m in sky[0].prompt] == ["Be brief.", "What colour is the sky?"]
    call = sky[1].prompt[2]["tool_calls"][0]["function"]  # pyright: ignore[reportGeneralTypeIssues]
    assert call == {"name": "look", "arguments": {"where": "up"}}
    assert sky[1].prompt[3]["content"] == "It is blue " * 30


def test_turns_of_the_data_set_are_not_the_models() -> None:
    given = [p for p in read_eval(LOG) if p.marks["source"] == "input"]
    assert [(p.id, p.response, p.author, p.sampling) for p in given] == [
        ("2/1/0", "Of what?", "input", {}),
        ("2/2/0", "Of what?", "input", {}),
    ]


def _deflated(path: Path) -> Path:
    return _zip(path.with_suffix(".eval"), _entries())


def _stored(path: Path) -> Path:
    return _zip(path.with_suffix(".eval"), _entries(), zipfile.ZIP_STORED)


def _stopped(path: Path) -> Path:
    return _zip(path.with_suffix(".eval"), {k: v for k, v in _entries().items() if k != "header.json"})


def _as_json(path: Path) -> Path:
    entries = _entries()
    samples = [json.loads(data) for name, data in entries.items() if name.startswith("samples/")]
    path.with_suffix(".json").write_text(
        json.dumps(json.loads(entries["header.json"]) | {"samples": samples}, indent=2)
    )
    return path.with_suffix(".json")


@pytest.mark.parametrize("form", [_deflated, _stored, _stopped, _as_json])
def test_every_form_of_a_log_gives_the_same_passages(form: Callable[[Path], Path], tmp_path: Path) -> None:
    path = form(tmp_path / "log")
    assert list(read_eval(path)) == list(read_eval(LOG))
    assert read_passages(path) == list(read_eval(LOG))


def test_prompts_of_a_log_are_what_its_turns_answer(tmp_path: Path) -> None:
    path = _log(tmp_path / "a.eval", _sample(), _sample(epoch=2))
    assert [p.messages for p in read_prompts(path, limit=1)] == [({"role": "user", "content": "why"},)]


def test_a_log_has_no_splits() -> None:
    with pytest.raises(PassageError, match="is no data set, so that it has no split test"):
        read_passages(LOG, split="test")


def test_settings_of_the_run_hold_where_a_call_says_none(tmp_path: Path) -> None:
    run = {"task": "t", "model": "m", "model_generate_config": {"temperature": 0.5, "top_k": 20}}
    header = {"version": 2, "status": "success", "eval": run, "plan": {"config": {"temperature": 0.9, "top_p": None}}}
    (passage,) = read_eval(_log(tmp_path / "a.eval", _sample(), header=header))
    assert passage.sampling == {"temperature": 0.9, "top_k": 20}


def test_settings_of_a_call_go_first_and_a_stop_sequence_leaves_the_end_open(tmp_path: Path) -> None:
    said = {"id": "m1", "role": "assistant", "content": "so", "source": "generate"}
    output = {"choices": [{"message": said, "stop_reason": "stop"}]}
    event = {"event": "model", "config": {"temperature": 0.1}, "output": output}
    stopped = event | {"config": {"temperature": 0.1, "stop_seqs": ["\n"]}}
    samples = [_sample(id=n, messages=[said], events=[e]) for n, e in enumerate((event, stopped))]
    header = {"eval": {"model": "m", "model_generate_config": {"temperature": 0.5}}}
    first, second = read_eval(_log(tmp_path / "a.eval", *samples, header=header))
    assert (first.sampling, first.ended) == ({"temperature": 0.1}, True)
    assert (second.sampling, second.ended) == ({"temperature": 0.1}, None)


def test_attached_texts_are_put_back(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "attachment://a1"}, {"role": "assistant", "content": [
        {"type": "text", "text": "attachment://a2", "citations": []}]}]  # fmt: skip
    path = _log(tmp_path / "a.eval", _sample(messages=messages, attachments={"a1": "long", "a2": "longer"}))
    (passage,) = read_eval(path)
    assert (passage.prompt, passage.response) == (({"role": "user", "content": "long"},), "longer")


def test_a_turn_without_text_is_one_only_if_the_model_ended_it(tmp_path: Path) -> None:
    empty = {"id": "m1", "role": "assistant", "content": "", "source": "generate"}
    outputs = [{"choices": [{"message": empty, "stop_reason": reason}]} for reason in ("content_filter", "stop")]
    samples = [_sample(id=n, messages=[empty], output=output) for n, output in enumerate(outputs)]
    (passage,) = read_eval(_log(tmp_path / "a.eval", *samples))
    assert (passage.id, passage.response, passage.ended) == ("1/1/0", "", True)


_NAMES = ["id", "role", "content", "type", "text", "reasoning", "config", "output", "choices", "message", "event"]
_NAMES += ["logprobs", "token", "logprob", "function", "arguments", "stop_reason", "tools"]
_KEYS = st.sampled_from(_NAMES)
_WORDS = st.sampled_from(["assistant", "text", "model", "attachment://a"])
_SCALARS = st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | _WORDS
_VALUES = st.recursive(_SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(_KEYS, v), max_leaves=9)
_MESSAGES = st.fixed_dictionaries(
    {"role": st.just("assistant") | _VALUES, "content": _VALUES},
    optional={key: _VALUES for key in ("id", "source", "model", "tool_calls", "tool_call_id")},
)
_SAMPLES = st.fixed_dictionaries(
    {"id": _VALUES, "messages": st.lists(_MESSAGES | _VALUES, max_size=3)},
    optional={key: _VALUES for key in ("epoch", "events", "output", "attachments")},
)


@settings(max_examples=150, deadline=None)
@given(sample=_SAMPLES | _VALUES, run=_VALUES, plan=_VALUES)
def test_any_sample_is_turns_or_one_line(
    sample: Any, run: Any, plan: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = _log(tmp_path_factory.getbasetemp() / "any.eval", sample, header={"eval": run, "plan": plan})
    try:
        assert all(isinstance(passage.response, str) for passage in read_eval(path))
    except PassageError as error:
        said = str(error)
        assert "\n" not in said


PICTURE = {"role": "user", "content": [{"type": "image", "image": "data:"}]}
BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no zip": (lambda p: p.write_bytes(b"hello"), "is no zip, or a damaged one"),
    "empty": (lambda p: p.write_bytes(b""), "is no zip, or a damaged one"),
    "cut off": (lambda p: p.write_bytes(LOG.read_bytes()[:9000]), "is no zip, or a damaged one"),
    "other zip": (lambda p: _zip(p, {"a.txt": b"a"}), "without header.json"),
    "no samples": (lambda p: _log(p), "holds no turn of the assistant"),
    "no json": (lambda p: _zip(p, {"header.json": b"{"}), "header.json of .* is not valid JSON"),
    "no text": (lambda p: _zip(p, {"header.json": b"\xff"}), "is not UTF-8 text"),
    "header a list": (lambda p: _log(p, header=[1]), "is a list and must be an object"),
    "too deep": (lambda p: _zip(p, {"header.json": b"[" * 10**5}), "nested too deep"),
    "sample a list": (lambda p: _log(p, [1]), "is a list and must be an object"),
    "no messages": (lambda p: _log(p, {"id": 1}), "is no sample with messages"),
    "message a text": (lambda p: _log(p, _sample(messages=["a"])), "message 1 is a string"),
    "a picture": (lambda p: _log(p, _sample(messages=[PICTURE, {"role": "assistant", "content": "a"}])), "'image'"),
    "one twice": (lambda p: _log(p, _sample(), _sample()), "two samples of this id and epoch"),
    "half a character": (lambda p: _log(p, _sample(id="\ud800")), "lone surrogate"),
    "hostile name": (lambda p: _zip(p, {"header.json": b"{}", "samples/../\x1b[2J\n.json": b"["}), r"samples/"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_log_is_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make, message = BROKEN[name]
    path = tmp_path / "log.eval"
    make(path)
    with pytest.raises(PassageError, match=message):
        list(read_eval(path))
    code, _, said = enaction(
        capsys, monkeypatch, "score", path, "--model", "zoo:ash-rl", "--out", tmp_path / "t.parquet"
    )
    assert (code, said.count("\n"), "\x1b" in said) == (2, 1, False)
    assert said.startswith("enaction: ")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_logs, "LARGEST", 10**6)
    path = _zip(tmp_path / "bomb.eval", {"header.json": b"{}", "samples/1.json": b" " * (10**6 + 1)})
    with pytest.raises(PassageError, match=r"samples/1.json of .* unpacks to 1 MB, and at most 0 MB"):
        list(read_eval(path))


def _patched(path: Path, name: str, size: int, old: bytes = b"", new: bytes = b"") -> Path:
    """The real log with another unpacked size in the directory, or other bytes."""
    data = bytearray(LOG.read_bytes().replace(old, new) if old else LOG.read_bytes())
    at = data.rindex(name.encode())  # in the directory, where the size is 22 bytes before the name
    if size:
        data[at - 22 : at - 18] = struct.pack("<I", size)
    path.write_bytes(data)
    return path


def test_a_directory_that_lies_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(PassageError, match=r"sky_epoch_2.json of .* is damaged"):
        list(read_eval(_patched(tmp_path / "a.eval", "samples/sky_epoch_2.json", 100)))


def test_bytes_that_are_no_zstd_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(PassageError, match=r"cannot be unpacked|is damaged"):
        list(
            read_eval(
                _patched(tmp_path / "a.eval", "samples/sky_epoch_2.json", 0, b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfe")
            )
        )


def test_an_encrypted_sample_is_one_line(tmp_path: Path) -> None:
    path = _log(tmp_path / "a.eval", _sample())
    data = bytearray(path.read_bytes())
    at = data.rindex(b"samples/0.json") - 46 + 8  # the flags in the directory
    data[at] |= 1
    path.write_bytes(data)
    with pytest.raises(PassageError, match="is encrypted"):
        list(read_eval(path))


def test_samples_are_read_one_by_one(tmp_path: Path) -> None:
    path = _log(tmp_path / "a.eval", _sample(), [1])
    turns = read_eval(path)
    assert next(turns).response == "so"  # before the second sample, which is none, is met
    with pytest.raises(PassageError):
        next(turns)


def test_several_frames_of_zstd_are_one_entry(tmp_path: Path) -> None:
    frames = b"".join(_frame(part) for part in (b'{"id": 1, "mess', b'ages": []}'))
    info = zipfile.ZipInfo("samples/1.json")
    info.compress_type, info.compress_size, info.header_offset = 93, len(frames), 0
    info.file_size, info.CRC = 25, zipfile.crc32(b'{"id": 1, "messages": []}')  # pyright: ignore[reportAttributeAccessIssue]
    raw = io.BytesIO(b"PK\x03\x04" + bytes(26) + frames)
    with zipfile.ZipFile(LOG) as archive:
        data = inspect_logs._unpacked(archive, raw, info, Path("a.eval"))
    assert data == b'{"id": 1, "messages": []}'


def _frame(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()
