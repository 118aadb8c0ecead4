"""The command line, called in this process."""

from __future__ import annotations

import sys

import pytest

from enaction.cli import main


def enaction(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `enaction ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["enaction", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    code, shown = caught.value.code, capsys.readouterr()
    return code if isinstance(code, int) else 0 if code is None else 1, shown.out, shown.err
