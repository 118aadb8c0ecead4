"""Limits of time and memory for code that comes with a model: its chat template is a program.

Transformers runs templates in Jinja's sandbox, which keeps them from the machine and not from running for ever or from
making a text of gigabytes. A template that takes a second takes too long; these limits are far above that.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

try:
    import resource
except ImportError:  # Windows
    resource = None

SECONDS = 10.0
MEMORY = 2 * 2**30  # bytes, above what the process has
# What a thread of ours is called that only waits.
LIGHT = "enaction waits"
_OF_BARS = ("rich.", "tqdm.")


class OverLimitError(Exception):
    """Code ran past its time; raised inside of it."""


@contextmanager
def limited(seconds: float = SECONDS, memory: int = MEMORY) -> Iterator[None]:
    """Stop the Python code of the block after some seconds, and keep it from allocating more than this.

    By a timer in the main thread where the system has one that nobody uses; elsewhere by looking at the clock at every
    line of the functions that the block calls, which slows them. Memory is limited in the main thread on Linux alone,
    and only while no other thread could want some: the limit is the process's, and would fail a model that another
    thread loads.

    Args:
        seconds: of wall time.
        memory: bytes above what the process has.

    Raises:
        OverLimitError: time is up.
        MemoryError: the block asked for more memory.
    """
    if threading.current_thread() is threading.main_thread() and _is_timer_free():
        with _memory(memory) if _is_alone() else nullcontext(), _timer(seconds):
            yield
    else:
        with _clock(seconds):
            yield


def _is_timer_free() -> bool:
    """Whether there is a timer, and neither it nor its signal is in use by what could not be put back."""
    if not hasattr(signal, "setitimer") or signal.getitimer(signal.ITIMER_REAL) != (0.0, 0.0):
        return False
    return signal.getsignal(signal.SIGALRM) is not None  # None: a handler that Python did not install


def _is_alone() -> bool:
    """Whether all other threads of Python are known to allocate next to nothing: by their name, or as a bar's."""
    main = threading.main_thread()
    return all(
        thread is main or thread.name == LIGHT or type(thread).__module__.startswith(_OF_BARS)
        for thread in threading.enumerate()
    )


class PanicError(Exception):
    """A library written in Rust gave up; the message is its own."""


@contextmanager
def panics_caught(*, are_likely: bool = True) -> Iterator[None]:
    """Raise panics of Rust, which are no ordinary exceptions, as `PanicError`.

    Args:
        are_likely: keep back the pages that a panic prints too. They go past Python to the descriptor of standard
            error, which is therefore held for the block; in the main thread alone, since it is the process's.

    Raises:
        PanicError: the block panicked.
    """
    is_main = threading.current_thread() is threading.main_thread()
    held = _held_stderr() if are_likely and is_main else None
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        if held is not None:
            os.ftruncate(_buffer(), 0)
        raise PanicError(str(error)) from None
    finally:
        if held is not None:
            _release_stderr(held)


@cache
def _buffer() -> int:
    """The descriptor of a file for what is printed meanwhile."""
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _held_stderr() -> int | None:
    """Let standard error be the buffer; gives what it was, None if the process has none."""
    try:
        before = os.dup(2)
        os.dup2(_buffer(), 2)
    except OSError:
        return None
    return before


def _release_stderr(before: int) -> None:
    os.dup2(before, 2)
    if size := os.fstat(_buffer()).st_size:
        os.lseek(_buffer(), 0, os.SEEK_SET)
        os.write(2, os.read(_buffer(), size))
        os.ftruncate(_buffer(), 0)
    os.lseek(_buffer(), 0, os.SEEK_SET)
    os.close(before)


@contextmanager
def _timer(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise OverLimitError

    before = signal.signal(signal.SIGALRM, stop)
    # Again and again, should the code catch what is raised.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _clock(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if time.monotonic() > end:
            raise OverLimitError
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


@contextmanager
def _memory(most: int) -> Iterator[None]:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError):
        pages = 0
    if resource is None or not pages:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + most
    is_tighter = soft == resource.RLIM_INFINITY or limit < soft
    if is_tighter:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        if is_tighter:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
