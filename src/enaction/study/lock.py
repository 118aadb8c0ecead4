"""One run at a time in a folder: a lock of the operating system, which ends with the process that holds it.

A killed process therefore leaves no lock. Who holds it is written in a second file, for the message alone.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from enaction.errors import StudyError

if TYPE_CHECKING:
    from filelock import BaseFileLock

_LOCK, _HOLDER = ".lock", ".lock.json"
# Of disks that know no locks and of places where nobody can write anyway.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EROFS, errno.EACCES, errno.EPERM)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a run folder while the block runs; the folder is made if it does not exist.

    Raises:
        StudyError: another process holds it, or no folder can be made there.
    """
    import filelock

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"{folder}: cannot write there ({error.strerror}): give --out another folder") from None
    lock = filelock.FileLock(folder / _LOCK, timeout=0)
    if not _acquired(lock, folder):
        yield
        return
    try:
        with contextlib.suppress(OSError):
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
            (folder / _HOLDER).write_text(json.dumps(holder) + "\n", encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / _HOLDER).unlink(missing_ok=True)
        lock.release()


def _acquired(lock: BaseFileLock, folder: Path) -> bool:
    """Whether the lock of a folder was taken; not where there are no locks.

    Raises:
        StudyError: another process has it.
    """
    import filelock

    try:
        lock.acquire()
    except filelock.Timeout:
        raise StudyError(
            f"{folder}: {_holder(folder)} is carrying out this run: wait until it ends (the same command then goes on "
            "from there), stop it, or give --out another folder"
        ) from None
    except NotImplementedError:  # older versions of filelock, for ENOSYS
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise StudyError(f"{folder}: cannot be locked ({error.strerror}): give --out another folder") from None
        return False
    return True


def _holder(folder: Path) -> str:
    """Who holds the lock, as far as it has written that down."""
    try:
        of = json.loads((folder / _HOLDER).read_text(encoding="utf-8"))
        return f"process {int(of['pid'])} on {str(of['host'])[:60]!r}, since {str(of['since'])[:20]},"
    except (OSError, ValueError, LookupError, TypeError):
        return "another process"
