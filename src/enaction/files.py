"""Files that survive a kill: everything is written beside its final name and renamed."""

from __future__ import annotations

import errno
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from enaction.errors import UserError


def require_place(path: Path, suffixes: Sequence[str]) -> None:
    """Fail before any work if a file cannot be written there afterwards.

    Args:
        path: of the file.
        suffixes: what its name may end in, the first of them as the remedy.

    Raises:
        UserError: another ending, a folder or device of that name, or a place where nothing can be written.
    """
    try:
        if path.is_dir():
            raise UserError(f"cannot write {path}: it is a folder; give a file, such as {path / ('out' + suffixes[0])}")
        if path.suffix not in suffixes:
            raise UserError(f"cannot write {path}: give a name that ends in {' or '.join(suffixes)}")
        if path.exists() and not path.is_file():
            raise UserError(f"cannot write {path}: it is no ordinary file; give another name")
        folder = path.parent
        while not folder.exists():
            folder = folder.parent
        # A trial and not a question: permissions, read-only disks and files in a folder's place differ by system.
        probe = folder / f".{uuid.uuid4().hex[:8]}.tmp"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}): give another place") from error


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to `path` if the block ends well, remove it if not.

    A reader therefore sees the whole file or none, whatever instant the process dies at.

    Raises:
        UserError: there is no room, the file is too large for a limit, or nothing can be written there.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        remedy = _REMEDIES.get(error.errno or 0, "give another place, or make this one writable")
        raise UserError(f"cannot write {path} ({reason}): {remedy}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


_ROOM = "make room and give the same command again; what is finished is kept"
_REMEDIES = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "raise the limit on the size of files (ulimit -f) and give the same command again",
}
# Nobody takes this long to write a file: what is older was left behind by a process that was killed.
_LITTER_AGE = 3600.0  # seconds


def sweep(folder: Path, age: float = _LITTER_AGE) -> None:
    """Remove temporary files that killed processes left in a folder: those that are older than this, seconds."""
    for path in folder.glob(".*.????????.tmp"):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > age:
                path.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename outlive a power cut, where the system knows how."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
