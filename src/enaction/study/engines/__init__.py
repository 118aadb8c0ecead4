"""Engines: each carries out a plan and knows no experiment. `local` uses the processes of this machine."""

from collections.abc import Callable

# Phase ("sampling" or "reading"), the text or the reader, passages done since the last report.
Report = Callable[[str, str, int], None]
