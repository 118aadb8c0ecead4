"""A GGUF file, whose weights transformers expands."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from enaction.errors import ModelError
from enaction.reader.sources.source import Source, from_pretrained

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PACKAGES = ("gguf", "accelerate")


@dataclass(frozen=True, kw_only=True)
class Gguf(Source):
    """A path that ends in `.gguf`.

    Attributes:
        path: of the file.
    """

    kind = "gguf"
    remedy = "the file is damaged, or of a family that transformers cannot convert: give a folder with safetensors"

    path: Path

    @classmethod
    def recognise(cls, name: str, revision: str | None) -> Gguf | None:
        """The file, whether it exists or not."""
        if not cls.is_path(name):
            return None
        path = Path(name).expanduser()
        return cls(name=name, location=str(path.parent), files=(path,) if path.is_file() else (), path=path)

    @classmethod
    def is_path(cls, name: str) -> bool:
        """By its suffix."""
        return Path(name).suffix == ".gguf"

    def require(self, base: str | Path | None = None) -> None:
        """Fail if there is no such file, or a package that reads it is not installed."""
        if not self.files:
            raise ModelError(f"there is no file {self.name}: check the path of the .gguf file")
        missing = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
        if missing:
            raise ModelError(
                f"{self.name} is a GGUF file and {' and '.join(missing)} is not installed: pip install 'enaction[gguf]'"
            )
        super().require(base)

    def load(
        self, dtype: torch.dtype, *, trust_remote_code: bool, use_safetensors: bool, base: str | Path | None
    ) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """As `Source.load`; the file is no safetensors, whatever the option says."""
        options = {"gguf_file": self.path.name, "trust_remote_code": trust_remote_code}
        return from_pretrained(self.location, options, dtype=dtype)
