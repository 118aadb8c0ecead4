"""A GGUF file, whose weights transformers expands."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enaction.errors import ModelError
from enaction.reader.sources.source import Loaded, Loading, Source, from_pretrained

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PACKAGES = ("gguf", "accelerate")

# Pre-tokenizers that llama.cpp splits by GPT-2's rule, as transformers does with every name that it does not know.
_GPT2_RULE = ("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "gigachat", "jina-es", "jina-de")


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
                f"{self.name} is a GGUF file, and what reads it is not installed ({', '.join(missing)}): pip install "
                "'enaction[gguf]'"
            )
        super().require(base)

    def has_config(self) -> bool:
        """No: the weights are expanded from a file of their own."""
        return False

    def load(self, loading: Loading) -> Loaded:
        """As `Source.load`; the file is no safetensors, whatever the option says."""
        options = {"gguf_file": self.path.name, "trust_remote_code": loading.trust_remote_code}
        loaded = from_pretrained(self.location, options, loading)
        _require_all_read(self.path, loaded.model)
        _take_out_invented(loaded.tokenizer, loaded.model)
        return loaded._replace(doubts=(*loaded.doubts, *_doubts_of_splitting(self.path)))


def _require_all_read(path: Path, model: PreTrainedModel) -> None:
    """Fail where transformers leaves out what the file says of the model: it reads neither the scaling of positions
    (Llama 3.1 and later keep theirs in `rope_freqs.weight`) nor tensors for which its class has no place.

    Raises:
        ModelError: factors of positions or biases that the model lacks.
    """
    try:
        from transformers.integrations.gguf.reader import read_gguf_metadata
    except ImportError:  # other versions keep this elsewhere
        return
    metadata, tensors = read_gguf_metadata(str(path))
    scaling = f"{metadata.get('general.architecture')}.rope.scaling."
    named = [name for name in tensors if name.startswith(("rope_freqs", "rope_factors"))]
    if metadata.get(f"{scaling}type", "none") != "none" and metadata.get(f"{scaling}factor", 1.0) != 1.0:
        named.append(f"{scaling}type")
    if named and not _scales_positions(getattr(model.config, "rope_parameters", None)):
        raise ModelError(
            f"{path} scales positions ({named[0]}), which transformers does not read from GGUF: every number would be "
            "another model's; give a folder or hub id with safetensors"
        )
    biases = [name for name in tensors if name.endswith(".bias")]
    if biases and not any("bias" in name for name in model.state_dict()):
        raise ModelError(
            f"{path} holds biases ({biases[0]}), and the model that transformers makes of it has none: give a "
            "folder or hub id with safetensors"
        )


def _scales_positions(parameters: object) -> bool:
    """Whether rotary parameters, which may be given by type of layer, name a type other than the default."""
    if not isinstance(parameters, dict):
        return False
    return parameters.get("rope_type", "default") != "default" or any(map(_scales_positions, parameters.values()))


def _take_out_invented(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Take out tokens that transformers added and the file does not have: GPT-2's `<|endoftext|>`, where another
    family's vocabulary lacks it. A text with that string would have an id that the model does not know."""
    from tokenizers import Tokenizer

    embedding: Any = model.get_input_embeddings()
    rows = embedding.weight.shape[0]
    backend: Any = tokenizer.backend_tokenizer  # pyright: ignore[reportAttributeAccessIssue]
    given = json.loads(backend.to_str())
    kept = [token for token in given["added_tokens"] if token["id"] < rows]
    if len(kept) == len(given["added_tokens"]):
        return
    invented = {token["content"] for token in given["added_tokens"]} - {token["content"] for token in kept}
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(given | {"added_tokens": kept}))  # pyright: ignore[reportAttributeAccessIssue]
    for part, token in dict(tokenizer.special_tokens_map).items():
        if token in invented:
            setattr(tokenizer, part, None)


def _doubts_of_splitting(path: Path) -> tuple[str, ...]:
    """Whether the file's vocabulary is split by the rule that its merges were learned with."""
    try:
        from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
        from transformers.integrations.gguf.reader import read_gguf_metadata
    except ImportError:  # other versions keep this elsewhere
        return ()
    metadata, _ = read_gguf_metadata(str(path))
    name = metadata.get("tokenizer.ggml.pre")
    if metadata.get("tokenizer.ggml.model") != "gpt2" or name in GGUF_PRE_TOKENIZER_SPLITS or name in _GPT2_RULE:
        return ()
    told = f"names a pre-tokenizer that transformers does not know ('{name}')" if name else "names no pre-tokenizer"
    return (
        f"the GGUF file {told}, so that text is split by GPT-2's rule: digits, line breaks and abbreviations may get "
        "other ids than the model was trained on; compare with the model's own tokenizer, or give a folder",
    )
