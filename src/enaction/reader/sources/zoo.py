"""A model that ships with this package: `zoo:NAME`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from enaction import zoo
from enaction.passages import Prompt
from enaction.reader.sources.adapter import Adapter
from enaction.reader.sources.folder import Folder
from enaction.reader.sources.source import Loaded, Loading, Source

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "zoo:"


@dataclass(frozen=True, kw_only=True)
class Zoo(Source):
    """An embedded model.

    Attributes:
        weights: the folder or the adapter that it ships as.
    """

    kind = "zoo"
    remedy = Folder.remedy

    weights: Source

    @classmethod
    def recognise(cls, name: str, revision: str | None) -> Zoo | None:
        """The model of this name.

        Raises:
            ModelError: the zoo has no such model.
        """
        if not name.startswith(PREFIX):
            return None
        folder = str(zoo.path(embedded_name(name)))
        weights = Adapter.recognise(folder, None) or Folder.recognise(folder, None)
        assert weights is not None  # the path is absolute
        return cls(name=name, location=weights.location, files=weights.files, weights=replace(weights, name=name))

    def require(self, base: str | Path | None = None) -> None:
        """As its weights."""
        self.weights.require(base)

    def load(self, loading: Loading) -> Loaded:
        """As its weights."""
        return self.weights.load(loading)

    def identity(self) -> dict[str, str]:
        """As its weights, with a few words on what was trained: what its reward paid for, say."""
        return super().identity() | {"about": zoo.note(embedded_name(self.name))}

    def files_with(self, base: str | Path | None) -> tuple[Path, ...]:
        """As its weights."""
        return self.weights.files_with(base)

    def has_config(self) -> bool:
        """As its weights."""
        return self.weights.has_config()

    def device(self) -> str | None:
        """The CPU for models of the embedded world: they are too small to gain, and the demo is alike everywhere."""
        return None if zoo.kind(embedded_name(self.name)) == "real" else "cpu"

    def own_prompts(self) -> list[Prompt] | None:
        """The requests of the embedded world or an organism's prompts; none for the stages of a real model."""
        name = embedded_name(self.name)
        return None if zoo.kind(name) == "real" else zoo.prompts_for(name)


def embedded_name(name: str) -> str:
    """An embedded model's name in the zoo, given with or without the prefix."""
    return name.removeprefix(PREFIX)
