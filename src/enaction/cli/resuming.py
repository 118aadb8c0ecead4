"""Long work in parts: each is kept beside the file that is asked for until that is whole.

What stops a command (Ctrl-C, a kill, a full disk, memory that runs out) costs the part in hand alone: the same command
goes on with the rest. The parts are in a folder `FILE.partial`, with the settings that they were made with, and another
command does not touch them. Work of a single part has no folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import enaction
from enaction.cli import stopping
from enaction.errors import UserError
from enaction.files import write_atomically

if TYPE_CHECKING:
    from enaction.endpoint import EndpointReader
    from enaction.reader import Reader

Part = TypeVar("Part")
Item = TypeVar("Item")

# About how long a part takes to read, and what a device is counted on to do in a second.
_SECONDS = 60.0
_OPERATIONS = {"cpu": 3e10}  # a second
_OPERATIONS_OF_ACCELERATORS = 3e13  # a second


def tokens_of_part(reader: Reader) -> int:
    """Tokens that a reader reads in about a minute; the same for the same model and device."""
    parameters = sum(p.numel() for p in reader.model.parameters())
    speed = _OPERATIONS.get(reader.device.type, _OPERATIONS_OF_ACCELERATORS)
    return max(1, int(_SECONDS * speed / (2 * max(parameters, 1))))


def settings_of(
    reader: Reader | EndpointReader, model: str, base: Path | None, data: Sequence[object]
) -> dict[str, Any]:
    """What parts follow from: the model as it is loaded, and passages or prompts.

    Args:
        reader: as it is loaded.
        model: its name.
        base: of an adapter, as the user gave it.
        data: passages or prompts.
    """
    from enaction.endpoint import EndpointReader
    from enaction.reader.sources import find

    common = {
        "version": enaction.__version__,
        "tokenizer": reader.fingerprint,
        "chat template": reader.tokenizer.chat_template,
        "texts": hashlib.sha256(repr(list(data)).encode("utf-8", "surrogatepass")).hexdigest(),
    }
    if isinstance(reader, EndpointReader):
        # What a server says of itself is all that is known about its weights.
        return {"model": [model, *reader.served], **common}
    source = find(model)
    stamps = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in source.files_with(base)]
    # Without a revision, a name on the hub means another commit tomorrow; transformers notes which one it loaded.
    commit = getattr(reader.model.config, "_commit_hash", None)
    return {
        "model": [source.name, source.revision, commit, stamps],
        "base": None if base is None else str(base),
        "dtype": reader.dtype,
        "quantization": reader.quantization,
        **common,
    }


def grouped(items: Sequence[Item], size: Callable[[Item], int], most: int) -> list[list[Item]]:
    """Items in order, in groups of about equal size that a single item may exceed; one group at least."""
    groups: list[list[Item]] = [[]]
    held = 0
    for item in items:
        if groups[-1] and held + size(item) > most:
            groups.append([])
            held = 0
        groups[-1].append(item)
        held += size(item)
    return groups


def in_parts(
    out: Path,
    settings: dict[str, Any],
    counts: Sequence[int],
    *,
    make: Callable[[int], Part],
    write: Callable[[Part, Path], None],
    read: Callable[[Path], Part],
) -> list[Part]:
    """The parts of a piece of work, in order; those that an earlier command finished are read.

    Args:
        out: the file that is asked for.
        settings: JSON of all that the parts follow from, but for their division.
        counts: of passages in each part.
        make: a part, by its number.
        write, read: a part as a Parquet file.

    Raises:
        UserError: the folder of parts belongs to another command or cannot be written, or what `make` raises, with
            what is kept.
    """
    if len(counts) == 1:
        return [make(0)]
    folder = folder_of(out)
    # A part is known by its number, which means other passages where the work is divided otherwise.
    claim(folder, settings | {"division into parts": list(counts)})
    parts: list[Part] = []
    for number in range(len(counts)):
        path = folder / f"{number:05}.parquet"
        part = _earlier(path, read)
        if part is None:
            try:
                part = make(number)
                write(part, path)
            except UserError as error:
                raise type(error)(f"{error} ({_kept(folder, counts, number)})") from error
        parts.append(part)
        stopping.explain(_kept(folder, counts, number + 1))
    return parts


def finish(out: Path, write: Callable[[Path], None], *, has_parts: bool) -> None:
    """Write the whole file and remove its parts; without parts, keep it elsewhere if there is no room for it.

    Raises:
        UserError: the file cannot be written; the message says where what was made is kept.
    """
    try:
        write(out)
    except UserError as error:
        if has_parts:
            raise
        try:
            spare = Path(tempfile.mkdtemp(prefix="enaction-")) / out.name
            write(spare)
        except (UserError, OSError):
            raise error from None
        raise UserError(f"{error}. Nothing is lost: it is in {spare}, move it from there") from error
    if has_parts:
        shutil.rmtree(folder_of(out), ignore_errors=True)


def folder_of(out: Path) -> Path:
    """Where the parts of a file are."""
    return out.with_name(f"{out.name}.partial")


def _kept(folder: Path, counts: Sequence[int], done: int) -> str:
    if not done:
        return stopping.NOTHING_KEPT
    return f"{sum(counts[:done])} of {sum(counts)} passages are kept in {folder}; the same command resumes"


def claim(folder: Path, settings: dict[str, Any]) -> None:
    """Make the folder of this command's parts, or see that it is this command's.

    Raises:
        UserError: it is another command's, or cannot be written.
    """
    path = folder / "settings.json"
    settings = json.loads(json.dumps(settings))
    try:
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        strange = before is None and folder.exists() and any(p.name[0] != "." for p in folder.iterdir())
    except (OSError, ValueError):
        strange, before = True, None
    if strange:
        raise UserError(f"{folder} is not what an unfinished command left: remove it, or give another --out")
    if before is None:
        with write_atomically(path) as temporary:
            temporary.write_text(json.dumps(settings, indent=1), encoding="utf-8")
    elif before != settings:
        keys = [key for key in settings if not isinstance(before, dict) or before.get(key) != settings[key]]
        raise UserError(
            f"{folder} holds what another command made before it was stopped (it differs in {', '.join(keys)}): give "
            "that command again to resume it, remove the folder, or give another --out"
        )


def _earlier(path: Path, read: Callable[[Path], Part]) -> Part | None:
    """A part that is there and whole."""
    try:
        return read(path) if path.exists() else None
    except UserError:
        return None
