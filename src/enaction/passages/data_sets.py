"""Data sets of Hugging Face `datasets`: of the hub, saved by `save_to_disk`, or a folder of data files.

The library is loaded when a data set is read, and only to read: data sets that bring code are refused. Folders and
limited reads are streamed, so that a limit reads little and nothing is copied; a whole data set of the hub is
downloaded into the library's own cache.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from enaction.errors import PassageError

DATA_FILES = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".arrow")

_TIMEOUT = 10.0  # seconds
# The library reads no code of data sets from this version on.
_NO_CODE = 4
_HUB_ID = re.compile(r"(?P<id>[\w-][\w.-]*/[\w-][\w.-]*)(:(?P<config>[\w.+-]+))?(@(?P<revision>[\w./-]+))?")


def is_hub_id(name: str, folder: Path = Path()) -> bool:
    """Whether a name is one of the hub's, `ORG/NAME`, `ORG/NAME:CONFIG` or `ORG/NAME@REVISION`, and of no file.

    Args:
        name: as the user gave it.
        folder: that a relative path is relative to.
    """
    path = folder / name
    is_file_name = path.suffix.lower() in DATA_FILES or path.parent.exists()
    return bool(_HUB_ID.fullmatch(name)) and not is_file_name


def rows_of_folder(folder: Path, split: str | None) -> Iterator[dict[str, Any]]:
    """The rows of a folder that `save_to_disk` wrote, or of a folder of data files as `load_dataset` takes them.

    Args:
        folder: of the data set.
        split: of it; may be left out where there is one.

    Raises:
        PassageError: no data set, one with code, damaged, or of several splits of which none was named.
    """
    is_saved = any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))
    if not is_saved and not any(path.suffix.lower() in DATA_FILES for path in folder.rglob("*")):
        raise PassageError(f"cannot read {folder}: it holds no data set and no data files; give a file")
    if any(script := sorted(folder.glob(f"{folder.resolve().name}.py"))):
        raise PassageError(
            f"{folder}: {script[0].name} is the code of a data set, which is not run; give the folder of its data files"
        )
    library = _library(folder)
    with _one_line(str(folder), "give one of its files, or save it again"):
        if is_saved:
            found = library.load_from_disk(str(folder))
            own = str(getattr(found, "split", None) or folder.resolve().name)
            if split not in (None, own) and not isinstance(found, dict):
                raise PassageError(f"{folder} is one split, {own}, and not {split}; leave --split out")
        else:
            found = _loaded(library, str(folder.resolve()), split, is_streamed=True)
        yield from _of_split(found, split, str(folder))


def rows_of_hub(name: str, split: str | None, *, is_limited: bool) -> Iterator[dict[str, Any]]:
    """The rows of a data set of the hub.

    Args:
        name: `ORG/NAME`, then `:CONFIG` and `@REVISION` if wanted.
        split: of it, also as `train[:100]`; may be left out where there is one.
        is_limited: only the first rows will be read.

    Raises:
        PassageError: the data set is not there or cannot be reached, brings code, or has several splits or
            configurations of which none was named.
    """
    library, parts = _library(name), _HUB_ID.fullmatch(name)
    assert parts
    given = {"name": parts["config"], "revision": parts["revision"]}
    is_offline = library.config.HF_HUB_OFFLINE or not _is_reachable(parts["id"])
    # What is in the cache can be read without a net, but not streamed; the library would retry for half a minute first.
    streams = is_limited and not is_offline
    with _one_line(name, "check the name, or give a folder or file"), _offline(library, is_offline):
        yield from _of_split(_loaded(library, parts["id"], split, is_streamed=streams, **given), split, name)


def _is_reachable(name: str) -> bool:
    """Whether the hub answers, if only to say that it has no such data set."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().dataset_info(name, timeout=_TIMEOUT)
    except HfHubHTTPError:
        return True
    except Exception:  # whatever the connection or the hub's client raises
        return False
    return True


@contextlib.contextmanager
def _offline(library: Any, is_offline: bool) -> Iterator[None]:
    """Let the library look in its cache alone."""
    before = library.config.HF_HUB_OFFLINE
    library.config.HF_HUB_OFFLINE = is_offline
    try:
        yield
    finally:
        library.config.HF_HUB_OFFLINE = before


def _library(name: str | Path) -> Any:
    """The library `datasets`.

    Raises:
        PassageError: it is not installed, or so old that it runs code of data sets.
    """
    remedy = "pip install 'enaction[datasets]'"
    if importlib.util.find_spec("datasets") is None:
        if isinstance(name, Path):
            raise PassageError(f"{name} is read by the package datasets, which is not installed: {remedy}")
        raise PassageError(
            f"there is no file {name}; a data set of the hub is read by the package datasets, which is not installed: "
            f"{remedy}"
        )
    import datasets

    if int(datasets.__version__.split(".")[0]) < _NO_CODE:
        raise PassageError(f"datasets {datasets.__version__} runs code that comes with data sets: {remedy}")
    return datasets


def _loaded(library: Any, path: str, split: str | None, *, is_streamed: bool, **given: str | None) -> Any:
    """A data set, or a dictionary of its splits if none is named; a part of a split, `train[:9]`, is not streamed."""
    options = {key: value for key, value in given.items() if value is not None}
    is_part = split is not None and "[" in split
    return library.load_dataset(
        path, split=split if is_part else None, streaming=is_streamed and not is_part, **options
    )


def _of_split(found: Any, split: str | None, name: str) -> Iterable[dict[str, Any]]:
    """The rows of the split that is wanted."""
    if not isinstance(found, dict):
        return found
    if split is None and len(found) == 1:
        return next(iter(found.values()))
    if split in found:
        return found[split]
    wrong = "has several splits" if split is None else f"has no split {split}"
    raise PassageError(f"{name} {wrong}; give --split one of {', '.join(map(str, found))}")


@contextlib.contextmanager
def _one_line(name: str, remedy: str) -> Iterator[None]:
    """Whatever the library says of a data set that it cannot read, as one line.

    Raises:
        PassageError: it says something.
    """
    try:
        yield
    except (PassageError, MemoryError):
        raise
    except (ConnectionError, TimeoutError) as error:
        raise PassageError(
            f"there is no file {name}, and no data set of the hub by this name can be reached ({_first(error)}); check "
            "the name, or download it where there is a net and give its folder"
        ) from error
    except (
        pa.ArrowException,
        ImportError,
        LookupError,
        OSError,
        RuntimeError,
        StopIteration,
        TypeError,
        ValueError,
    ) as error:
        text = str(error)
        if "scripts are no longer supported" in text:
            remedy = "its code is not run; give a data set without code, or a folder of its data files"
        elif isinstance(error, ValueError) and "onfig" in text and ":" not in name:
            remedy = f"give one as {name}:CONFIG"
        raise PassageError(f"{name} is no readable data set ({_first(error)}); {remedy}") from error


def _first(error: BaseException) -> str:
    """What an error says, on one line of a length that can be read."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 240 else f"{text[:240]}..."
