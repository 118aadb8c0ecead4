"""A model that a server runs: `openai:http://host/v1#model`. Its form is known here, so that readers can refuse it.

Readers need whole distributions, which servers do not give; `enaction.endpoint` does what can be done without.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from enaction.errors import ModelError
from enaction.reader.sources.source import Source

ENDPOINT_PREFIX = "openai:"


@dataclass(frozen=True, kw_only=True)
class Endpoint(Source):
    """A name that begins with `openai:`."""

    kind = "endpoint"
    remedy = "give weights: a hub id, a folder, a .gguf file or zoo:NAME"

    @classmethod
    def recognise(cls, name: str, revision: str | None) -> Endpoint | None:
        """The endpoint, whatever follows the prefix."""
        return cls(name=name, location=name) if name.startswith(ENDPOINT_PREFIX) else None

    def require(self, base: str | Path | None = None) -> NoReturn:
        """Fail: a server's model cannot be loaded."""
        raise ModelError(
            "an endpoint (openai:...) gives log-probabilities of tokens and no entropies: `enaction sample` and "
            f"`enaction audit` can use one; here {self.remedy}"
        )

    def has_config(self) -> bool:
        """No configuration can be read."""
        return False
