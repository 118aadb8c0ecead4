"""What a model's name means: its kind, where it is, what fixes its weights, how it is loaded.

The only place that looks at the form of a name. A new format is one file here, with a subclass of `Source`, and one
entry of `KINDS`. Nothing here imports torch or transformers before a model is loaded, so that a wrong name is reported
at once.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from enaction.errors import ModelError
from enaction.reader.naming import DeviceMap, Quantization
from enaction.reader.sources.adapter import Adapter
from enaction.reader.sources.endpoint import ENDPOINT_PREFIX, Endpoint
from enaction.reader.sources.folder import Folder
from enaction.reader.sources.gguf import Gguf
from enaction.reader.sources.hub import Hub
from enaction.reader.sources.quantised import method_of, require_packages, require_quantization
from enaction.reader.sources.source import Source, first_line
from enaction.reader.sources.tuned import Tuned
from enaction.reader.sources.zoo import Zoo, embedded_name

__all__ = [
    "ENDPOINT_PREFIX",
    "KINDS",
    "Source",
    "absolute_name",
    "embedded_name",
    "find",
    "require",
    "short_name",
]

# In this order a name is tried; the hub takes whatever is left.
KINDS: tuple[type[Source], ...] = (Zoo, Endpoint, Gguf, Adapter, Tuned, Folder, Hub)


def find(name: str, revision: str | None = None) -> Source:
    """The source that a name means. Local files are looked at and nothing else; they need not exist.

    Args:
        name: a hub id, optionally `@revision`; a folder; a `.gguf` file; `zoo:NAME`; an endpoint `openai:URL#MODEL`.
        revision: on the hub, if the name has none.

    Raises:
        ModelError: the zoo has no such model, or two revisions are given.
    """
    return next(source for kind in KINDS if (source := kind.recognise(name, revision)) is not None)


def require(
    source: Source,
    *,
    base: str | Path | None = None,
    device_map: DeviceMap | None = None,
    quantization: Quantization | None = None,
) -> None:
    """Fail if a model cannot be loaded here, by all that can be known without torch; the arguments are `Reader.load`'s.

    Raises:
        ModelError: no such model, or files or packages are missing.
    """
    source.require(base)
    if device_map is not None and importlib.util.find_spec("accelerate") is None:
        raise ModelError(
            "device_map needs accelerate, not installed: pip install 'enaction[devices]' (or give one device)"
        )
    try:
        settings = source.settings()
    except Exception as error:  # whatever the connection or the hub's client raises
        raise ModelError(
            f"cannot read the configuration of {source.name}: {first_line(error)} ({source.remedy})"
        ) from error
    if quantization is not None:
        require_quantization(source.name, quantization, settings)
    method = method_of(settings)
    if method is not None:
        require_packages(source.name, method)


def absolute_name(name: str, folder: Path) -> str:
    """A name that a study file in this folder gives: a path becomes absolute, any other name remains as it is."""
    if any(kind.is_path(name) for kind in KINDS):
        return str((folder / Path(name).expanduser()).resolve())
    return name


def short_name(name: str) -> str:
    """A name without what tells where the model is: no prefix, hub owner or folder."""
    return embedded_name(name).rstrip("/").rsplit("/", 1)[-1]
