"""A folder that `save_pretrained` wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from enaction.errors import ModelError
from enaction.reader.sources.plausible import require_plausible
from enaction.reader.sources.source import Source

# Settings fix a model too: a soft cap or a planted factor is in the configuration and not in the weights.
SETTINGS = ("config.json", "adapter_config.json", "base.json")


@dataclass(frozen=True, kw_only=True)
class Folder(Source):
    """A folder, or a name that can only be a path although nothing is there."""

    kind = "folder"
    remedy = "the folder needs config.json, tokenizer files and *.safetensors of a causal LM"

    @classmethod
    def recognise(cls, name: str, revision: str | None) -> Folder | None:
        """The folder; a name of the hub's form means a folder if there is one."""
        path = Path(name).expanduser()
        if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
            return cls(name=name, location=str(path), files=files_of(path))
        return None

    @classmethod
    def is_path(cls, name: str) -> bool:
        """Only with a dot or a tilde in front: `org/name` is an id on the hub."""
        return name.startswith((".", "~"))

    def require(self, base: str | Path | None = None) -> None:
        """Fail if there is no such folder, no model in it, or a configuration that cannot be that of its weights."""
        if not Path(self.location).is_dir():
            raise ModelError(f"there is no model folder {self.name}: check the path")
        if not (Path(self.location) / "config.json").is_file():
            raise ModelError(f"the folder {self.name} holds no config.json: give a folder that save_pretrained wrote")
        require_plausible(Path(self.location), self.name)
        super().require(base)


def files_of(folder: Path) -> tuple[Path, ...]:
    """The files that fix the weights of a model in a folder: weights first, then settings."""
    paths = [*sorted(folder.glob("*.safetensors")), *(folder / name for name in SETTINGS)]
    return tuple(path for path in paths if path.is_file())
