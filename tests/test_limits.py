"""Chat templates and tokenizers that never end, or make gigabytes: each ends in one line within a limit."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from collections.abc import Callable

import pytest
import tiny
from rich.console import Console
from rich.progress import Progress
from tokenizers import Tokenizer

from enaction.errors import FramingError
from enaction.framing import limits, template
from enaction.framing.ids import encode
from enaction.framing.template import render
from enaction.passages import Message

TURNS = [Message(role="user", content="why")]
LOOPS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second in place of ten."""
    monkeypatch.setattr(template, "SECONDS", 1.0)
    monkeypatch.setattr(template, "_ENDLESS", set())


def _render(source: str) -> str:
    tokenizer = tiny.word_tokenizer()
    tokenizer.chat_template = source
    return render(tokenizer, TURNS, add_generation_prompt=True)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (LOOPS, "not done after"),
        ("{{ 'x' * 300000000000 }}", "no memory holds"),
        ("{{ 'x' * 30000000 }}", "30,000,000 characters"),
        (
            "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
            "no memory|not done",
        ),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{{ 1/0 }}", "division by zero"),
        ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
        ("{% include 'x' %}", "no loader"),
    ],
)
def test_a_template_that_fails_or_never_ends_is_one_line_with_the_remedy(
    source: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_is_alone", lambda: True)  # other tests leave threads
    if "not done" not in words:  # a busy machine may take more than a second over what ends
        monkeypatch.setattr(template, "SECONDS", 10.0)
    began = time.monotonic()
    with pytest.raises(FramingError, match=words) as caught:
        _render(source)
    assert "use --framing none or --chat-template FILE" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert time.monotonic() - began < 15


def test_a_template_that_ran_out_of_time_is_not_tried_again() -> None:
    with pytest.raises(FramingError, match="not done after"):
        _render(LOOPS)
    began = time.monotonic()
    with pytest.raises(FramingError, match="not done after"):
        _render(LOOPS)
    assert time.monotonic() - began < 0.5


def test_time_is_limited_outside_of_the_main_thread_too() -> None:
    caught: list[BaseException] = []

    def endless() -> None:
        while True:
            pass

    def work() -> None:
        try:
            with limits.limited(0.2):
                endless()
        except limits.OverLimitError as error:
            caught.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(10)
    assert len(caught) == 1


def test_a_good_template_leaves_no_timer_and_no_limit() -> None:
    resource, signal = pytest.importorskip("resource"), pytest.importorskip("signal")
    before = resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGALRM)
    assert "why" in _render(tiny.CHATML)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert before == (resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGALRM))


@pytest.mark.parametrize(
    ("name", "is_bar", "is_limited"), [("", False, False), (limits.LIGHT, False, True), ("", True, True)]
)
def test_memory_is_not_limited_beside_a_thread_that_may_want_some(
    name: str, is_bar: bool, is_limited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is the process's: a model that another thread loads would fail for a template that this one renders."""
    resource, end = pytest.importorskip("resource"), threading.Event()
    kind = type("Bar", (threading.Thread,), {"__module__": "rich.live"}) if is_bar else threading.Thread
    beside = kind(target=end.wait, name=name or None, daemon=True)
    before = resource.getrlimit(resource.RLIMIT_AS)

    def fail() -> None:
        assert (resource.getrlimit(resource.RLIMIT_AS) != before) == is_limited
        raise ZeroDivisionError

    beside.start()
    monkeypatch.setattr(threading, "enumerate", lambda: [threading.main_thread(), beside])  # other tests leave some
    try:
        with pytest.raises(ZeroDivisionError), limits.limited():
            fail()
    finally:
        end.set()
        beside.join()
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_the_thread_of_a_bar_is_known_by_its_module() -> None:
    before = set(threading.enumerate())
    with Progress(console=Console(file=io.StringIO(), force_terminal=True)):
        (of_bar,) = set(threading.enumerate()) - before
        assert type(of_bar).__module__.startswith(limits._OF_BARS)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d | {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated",
                                         "invert": False}},
        lambda d: d | {"normalizer": {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "x"}},
    ],
)  # fmt: skip
def test_an_endless_expression_of_a_tokenizer_is_one_line(
    change: Callable[[dict], dict], capfd: pytest.CaptureFixture[str]
) -> None:
    tokenizer = tiny.word_tokenizer()
    given = json.loads(tokenizer.backend_tokenizer.to_str())
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(change(given)))
    with pytest.raises(FramingError, match="the tokenizer gives up on a text") as caught:
        encode(tokenizer, "a" * 60 + "!", special=False)
    assert "tokenizer.json" in str(caught.value)
    assert capfd.readouterr().err == ""  # no pages of Rust


def test_what_native_code_prints_without_a_panic_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with limits.panics_caught():
        os.write(2, b"native words\n")
    with limits.panics_caught():
        pass
    assert capfd.readouterr().err == "native words\n"
