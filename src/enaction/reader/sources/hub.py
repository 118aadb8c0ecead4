"""A model on the Hugging Face hub: `org/name`, or `org/name@revision`."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enaction.errors import ModelError
from enaction.reader.room import stored_elements
from enaction.reader.sources.source import CONFIG, Source, first_line

TIMEOUT = 10.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Hub(Source):
    """Any name that no other kind recognises."""

    kind = "hub"
    remedy = "check the name, the connection and, for a gated model, your access; or give a local folder or zoo:NAME"

    @classmethod
    def recognise(cls, name: str, revision: str | None) -> Hub:
        """The id and its revision.

        Raises:
            ModelError: the name has one revision and the argument is another.
        """
        location, at, named = name.partition("@")
        if at and revision is not None and revision != named:
            raise ModelError(f"{name} names a revision and revision='{revision}' another: give one of them")
        return cls(name=name, location=location, revision=named if at else revision)

    def require(self, base: str | Path | None = None) -> None:
        """Fail at once if the hub cannot be reached or has no such model; loading would retry for a minute first."""
        try:
            _ask(self.location, self.revision)
        except Exception as error:  # whatever the connection or the hub's client raises
            raise ModelError(f"cannot find {self.location} on the hub: {first_line(error)} ({self.remedy})") from error
        super().require(base)

    def settings(self) -> dict[str, Any] | None:
        """As `Source.settings`: from the cache, or fetched."""
        from huggingface_hub import hf_hub_download

        path = hf_hub_download(self.location, CONFIG, revision=self.revision, etag_timeout=TIMEOUT)
        given = json.loads(Path(path).read_text(encoding="utf-8"))
        return given if isinstance(given, dict) else None

    def stored(self) -> dict[str, int] | None:
        """As `Source.stored`: by the files in the cache, else by the hub's account of them."""
        from huggingface_hub import HfApi, try_to_load_from_cache

        path = try_to_load_from_cache(self.location, CONFIG, revision=self.revision)
        cached = stored_elements(Path(path).parent) if isinstance(path, str) else None
        if cached is not None:
            return cached
        try:
            told = HfApi().model_info(self.location, revision=self.revision, timeout=TIMEOUT).safetensors
        except Exception:  # whatever the connection or the hub's client raises; loading says it better
            return None
        return None if told is None else dict(told.parameters)


@functools.cache
def _ask(location: str, revision: str | None) -> None:
    """Look for a model in the cache and then on the hub; each model that exists is asked for once in a process."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    if not isinstance(try_to_load_from_cache(location, "config.json", revision=revision), str):
        HfApi().model_info(location, revision=revision, timeout=TIMEOUT)
