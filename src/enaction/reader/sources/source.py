"""What every kind of source has in common."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

from enaction.errors import ModelError
from enaction.passages import Prompt
from enaction.reader.naming import DeviceMap, Quantization
from enaction.reader.room import stored_elements

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


CONFIG = "config.json"


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How a model is loaded; `Reader.load` says more.

    Attributes:
        dtype: of the weights.
        device: where they go.
        device_map: where the parts of the model go, if it is to lie on several devices.
        quantization: quantise the weights on loading, to so many bits.
        trust_remote_code: run code that comes with the model.
        use_safetensors: refuse other files of weights.
        base: of a model that is an adapter, if it is not where the adapter says.
    """

    dtype: torch.dtype
    device: str
    device_map: DeviceMap | None = None
    quantization: Quantization | None = None
    trust_remote_code: bool = False
    use_safetensors: bool = True
    base: str | Path | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the weights are plain numbers on one device."""
        return self.device_map is None and self.quantization is None


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """Where a model comes from.

    Attributes:
        kind: of source, one word.
        remedy: what to check if the libraries fail to load it.
        name: as the user gave it.
        location: what `from_pretrained` is given: a folder, or the id on the hub.
        files: that fix the weights; none for a model on the hub, or if they do not exist.
        revision: on the hub; None for the latest, and for local files.
    """

    kind: ClassVar[str]
    remedy: ClassVar[str]

    name: str
    location: str
    files: tuple[Path, ...] = ()
    revision: str | None = None

    @classmethod
    @abstractmethod
    def recognise(cls, name: str, revision: str | None) -> Source | None:
        """The source of this kind that a name means; None if it means another kind."""

    @classmethod
    def is_path(cls, name: str) -> bool:
        """Whether a name is, by its form, a path of this kind, which a study file may give relative to itself."""
        return False

    def require(self, base: str | Path | None = None) -> None:
        """Fail at once if the model cannot be loaded here, before heavy packages or gigabytes are.

        Args:
            base: the base file given by the user, for a model that ships as an adapter.

        Raises:
            ModelError: no such model, missing files or packages, or a base given for a model that has none.
        """
        if base is not None:
            raise ModelError(f"{self.name} does not ship as an adapter and has no base: leave out base {base}")

    def load(self, loading: Loading) -> Loaded:
        """Model and tokenizer, for a source that `require` accepts: on the CPU, or where a device map says.

        Raises:
            ModelError: the file lacks weights, or holds an adapter's beside them.
            Exception: whatever the libraries raise for a model that they cannot load.
        """
        options: dict[str, Any] = {"trust_remote_code": loading.trust_remote_code}
        if self.revision is not None:
            options["revision"] = self.revision
        return from_pretrained(self.location, options, loading, use_safetensors=loading.use_safetensors)

    def settings(self) -> dict[str, Any] | None:
        """What `config.json` says; None for a source that has none, or if it cannot be read here.

        Raises:
            Exception: whatever the hub's client raises.
        """
        if not self.has_config():
            return None
        try:
            given = json.loads((Path(self.location) / CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return given if isinstance(given, dict) else None

    def stored(self) -> dict[str, int] | None:
        """dtype, as safetensors names it -> elements of the weights; None if not known before they are loaded."""
        return stored_elements(Path(self.location)) if self.has_config() else None

    def identity(self) -> dict[str, str]:
        """What fixes the weights: the hash of their files as `sha256`, or the `revision` on the hub."""
        if not self.files:
            return {"revision": self.revision or "latest"}
        digest = hashlib.sha256()
        for path in self.files:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return {"sha256": digest.hexdigest()}

    def files_with(self, base: str | Path | None) -> tuple[Path, ...]:
        """`files`, and of an adapter those of its base, for a source that `require` accepts.

        Args:
            base: given by the user, as in `require`.
        """
        return self.files

    def has_config(self) -> bool:
        """Whether transformers finds a configuration at `location`, which says in what dtype the weights are saved."""
        return True

    def device(self) -> str | None:
        """Where the model runs if nobody says where; None for the best device there is."""
        return None

    def own_prompts(self) -> list[Prompt] | None:
        """The only prompts that the model understands; None for a model of ordinary language."""
        return None


class Loaded(NamedTuple):
    """What a source gives.

    Attributes:
        model: on the CPU, or where its device map says.
        tokenizer: its tokenizer.
        doubts: what a person should know before trusting a number, a sentence each.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    doubts: tuple[str, ...] = ()


# What makes of a weight another function: a bias, or the scales of a quantised one.
_PARTS = re.compile(r"\.(bias|weight_scale|weight_scale_inv|scales)$")
# Names of tensors that PEFT and its like write: `q_proj.lora_A.weight`, `q_proj.base_layer.weight`.
_ADAPTERS = re.compile(
    r"lora_|\.base_layer\.|base_model\.model\.|ia3_|\.modules_to_save\.|lokr_|hada_|oft_|vera_|\badapters?\b|prompt_embeddings"
)


def from_pretrained(location: str, options: dict[str, Any], loading: Loading, **weights: Any) -> Loaded:
    """Model and tokenizer by transformers; `options` are for both, `weights` for the model alone.

    Raises:
        ModelError: weights are missing, of another shape, or an adapter's that nobody merged. Transformers would draw
            the missing ones at random, and leave the adapter out.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name = str(Path(location) / options["gguf_file"]) if "gguf_file" in options else location
    tokenizer = AutoTokenizer.from_pretrained(location, **options)
    weights |= _placed(loading) | {"dtype": loading.dtype}
    weights |= {"output_loading_info": True, "ignore_mismatched_sizes": True}  # they are refused below, by name
    model, info = cast(
        "tuple[PreTrainedModel, dict]", AutoModelForCausalLM.from_pretrained(location, **weights, **options)
    )
    if getattr(model, "_hf_peft_config_loaded", False):
        # Transformers has put an adapter on a model, and tells of the adapter's weights alone.
        raise ModelError(
            f"{name} holds an adapter, and whether the model beneath it is whole is not known: merge it "
            "(merge_and_unload() of PEFT) and save the model again"
        )
    unused = sorted(info["unexpected_keys"])
    adapters = [key for key in unused if _ADAPTERS.search(key)]
    if adapters:
        raise ModelError(
            f"{name} holds weights of an adapter that nobody merged ({_some(adapters)}): merge it "
            "(merge_and_unload() of PEFT) and save the model again"
        )
    mismatched = sorted(key for key, *_ in info["mismatched_keys"])
    for names, what in ((sorted(info["missing_keys"]), "holds no"), (mismatched, "holds another shape of")):
        if names:
            beside = f"; it holds {_some(unused)}, which the model does not have" if unused else ""
            raise ModelError(
                f"{name} {what} {_some(names)}{beside}: without these weights it is another model; save it again "
                "with save_pretrained, whole and under the names of its architecture"
            )
    if not getattr(model.config, "quantization_config", None):
        _require_no_more(name, model, unused)
    if "offload_folder" in weights:
        weakref.finalize(model, shutil.rmtree, weights["offload_folder"], ignore_errors=True)
    doubts = (f"the file holds weights that the model has no place for ({_some(unused)})",) if unused else ()
    return Loaded(model, tokenizer, doubts)


def _require_no_more(location: str, model: PreTrainedModel, unused: Sequence[str]) -> None:
    """Fail where the file has a bias or a scale for a weight that the model uses without: the two are one function."""
    used = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    parts = [name for name in unused if _PARTS.search(name) and _PARTS.sub(".weight", name) in used]
    if parts:
        raise ModelError(
            f"{location} holds {_some(parts)}, and by its config.json the model has no such part: without it this is "
            "another model; give the config.json that belongs to these weights (attention_bias or mlp_bias, say)"
        )


def _placed(loading: Loading) -> dict[str, Any]:
    """What transformers is told about devices and quantisation."""
    if loading.is_whole:
        return {}
    device_map = loading.device_map
    told: dict[str, Any] = {}
    if loading.quantization is not None:
        from transformers import BitsAndBytesConfig

        four = loading.quantization == "4bit"
        told["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=four, load_in_8bit=not four, bnb_4bit_compute_dtype=loading.dtype
        )
        device_map = device_map or {"": loading.device}
    # Weights that are kept on disk and are not in the file as they are used, are written there.
    told["offload_folder"] = tempfile.mkdtemp(prefix="enaction-offload-")
    return told | {"device_map": device_map if isinstance(device_map, str) else dict(device_map or {})}


def _some(names: Sequence[str]) -> str:
    """The first of some names, and how many there are."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def first_line(error: BaseException) -> str:
    """The first line of an error that may fill a page, without its full stop; a heading with what it announces."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if isinstance(error, KeyError):
        return f"an entry {lines[0]} is missing or unknown"
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1]).rstrip(".")
