"""What a model's name means: its kind, where it is, what fixes its weights, how it is loaded.

The only place that looks at the form of a name. A new format is one file here, with a subclass of `Source`, and one
entry of `KINDS`. Nothing here imports torch or transformers before a model is loaded, so that a wrong name is reported
at once.
"""

from __future__ import annotations

from pathlib import Path

from enaction.reader.sources.adapter import Adapter
from enaction.reader.sources.folder import Folder
from enaction.reader.sources.gguf import Gguf
from enaction.reader.sources.hub import Hub
from enaction.reader.sources.source import Source
from enaction.reader.sources.zoo import Zoo, embedded_name

__all__ = ["KINDS", "Source", "absolute_name", "embedded_name", "find", "short_name"]

# In this order a name is tried; the hub takes whatever is left.
KINDS: tuple[type[Source], ...] = (Zoo, Gguf, Adapter, Folder, Hub)


def find(name: str, revision: str | None = None) -> Source:
    """The source that a name means. Local files are looked at and nothing else; they need not exist.

    Args:
        name: a hub id, optionally `@revision`; a folder; a `.gguf` file; or `zoo:NAME`.
        revision: on the hub, if the name has none.

    Raises:
        ModelError: the zoo has no such model, or two revisions are given.
    """
    return next(source for kind in KINDS if (source := kind.recognise(name, revision)) is not None)


def absolute_name(name: str, folder: Path) -> str:
    """A name that a study file in this folder gives: a path becomes absolute, any other name remains as it is."""
    if any(kind.is_path(name) for kind in KINDS):
        return str((folder / Path(name).expanduser()).resolve())
    return name


def short_name(name: str) -> str:
    """A name without what tells where the model is: no prefix, hub owner or folder."""
    return embedded_name(name).rstrip("/").rsplit("/", 1)[-1]
