"""Ctrl-C and its like: what is kept is said, and the process ends, with exit code 130.

A signal raises KeyboardInterrupt, so that files are closed and workers end. Libraries swallow that at times, or turn it
into an error of their own (in the middle of an import, say): what has been asked is therefore remembered, and a process
that has not ended after `PATIENCE` seconds, or is asked again, ends at once; so does one that is importing, since an
exception inside of torch's own initialisation aborts the process. Files appear whole or not at all, so that nothing is
lost by that.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

CODE = 130
PATIENCE = 5.0  # seconds

NOTHING_KEPT = "nothing was written; the same command begins anew"
_kept = NOTHING_KEPT
_is_asked = False


def explain(kept: str) -> None:
    """Set what is said if the process is stopped from now on: what is kept, and how to resume."""
    from enaction.cli.showing import printable

    global _kept
    _kept = printable(kept)


def is_asked() -> bool:
    """Whether a signal has asked the process to stop."""
    return _is_asked


def say() -> None:
    """Say on standard error that the process was stopped, and what is kept; without imports, one of which may hang."""
    sys.stderr.write(f"enaction: stopped; {_kept}\n")
    sys.stderr.flush()


@contextmanager
def listening() -> Iterator[None]:
    """Handle the signals that ask for an end while the block runs: Ctrl-C, SIGTERM, and the end of the terminal."""
    global _is_asked, _kept
    _is_asked, _kept = False, NOTHING_KEPT
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    before = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows knows no SIGHUP
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            before[number] = signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    global _is_asked
    if _is_asked or _is_importing(frame):
        _end_at_once()
    _is_asked = True
    timer = threading.Timer(PATIENCE, _end_at_once)
    timer.daemon = True
    timer.start()
    raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _end_at_once() -> None:
    """End without clean-up; temporary files are swept by the next run, workers end with their parent."""
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h")  # a bar hides the cursor
    say()
    sys.stdout.flush()
    os._exit(CODE)
