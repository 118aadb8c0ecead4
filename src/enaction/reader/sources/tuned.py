"""A LoRA adapter of the user's own: a folder as PEFT writes it, without the model that it was trained on.

The model is found by the name in `adapter_config.json`, or given by the user, and the adapter is merged into its
weights on loading, so that the rest of the product sees a plain model. What cannot be merged exactly is refused.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enaction.errors import ModelError
from enaction.reader.sources.adapter import ADAPTER, Adapter, need, require_whole
from enaction.reader.sources.folder import Folder, files_of
from enaction.reader.sources.gguf import Gguf
from enaction.reader.sources.hub import Hub
from enaction.reader.sources.quantised import method_of
from enaction.reader.sources.source import CONFIG, Loaded, Loading, Source
from enaction.reader.sources.zoo import Zoo

SETTINGS = "adapter_config.json"
# A name of this form means a model on the hub where no folder has it.
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
# Ways to begin that change the base's weights: without those, the adapter means something else.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
# Kinds of models that an adapter may be for, in the order in which a name is tried.
_OF_BASES: tuple[type[Source], ...] = (Zoo, Gguf, Adapter, Folder, Hub)


@dataclass(frozen=True, kw_only=True)
class Tuned(Source):
    """A folder with an `adapter_config.json` and no model."""

    kind = "peft"
    remedy = (
        "the folder needs adapter_config.json and adapter_model.safetensors, as save_pretrained of PEFT writes them"
    )

    @classmethod
    def recognise(cls, name: str, revision: str | None) -> Tuned | None:
        """The folder, if it holds an adapter alone."""
        folder = Path(name).expanduser()
        if not (folder / SETTINGS).is_file() or (folder / CONFIG).is_file():
            return None
        return cls(name=name, location=str(folder), files=files_of(folder))

    def require(self, base: str | Path | None = None) -> None:
        """Fail if the adapter cannot be merged, or its base is not there."""
        settings = self._adapter()
        if not (Path(self.location) / ADAPTER).is_file():
            raise ModelError(f"the folder {self.name} holds no {ADAPTER}: save the adapter again, as safetensors")
        need("peft")
        model = self._base(settings, base)
        try:
            model.require()
        except ModelError as error:
            raise ModelError(
                f"{self.name} is an adapter, and its base is missing: {error}; or give the base with --base (`base` "
                "of a study)"
            ) from None
        method = method_of(model.settings())
        if method is not None:
            raise ModelError(
                f"{self.name} is an adapter of {model.name}, which is quantised ({method}), so that a merge would be "
                "rounded: give the plain model that it was made from with --base"
            )

    def load(self, loading: Loading) -> Loaded:
        """As `Source.load`: merged in float32, then put into its dtype. Files of a tokenizer in the folder are taken.

        Raises:
            ModelError: the adapter does not fit its base, or the model is to be quantised or spread over devices.
        """
        import torch
        from torch import nn
        from transformers import AutoTokenizer

        from enaction.reader.sources.merging import merged

        require_whole(self.name, loading)
        of_base = Loading(
            dtype=torch.float32,
            device="cpu",
            trust_remote_code=loading.trust_remote_code,
            use_safetensors=loading.use_safetensors,
        )
        base = self._base(self._adapter(), loading.base).load(of_base)
        folder, tokenizer = Path(self.location), base.tokenizer
        if (folder / "tokenizer_config.json").is_file():
            tokenizer = AutoTokenizer.from_pretrained(self.location, trust_remote_code=loading.trust_remote_code)
        model = merged(base.model, folder, self.name)
        nn.Module.to(model, loading.dtype)
        model.config.name_or_path = self.name
        return Loaded(model, tokenizer, base.doubts)

    def files_with(self, base: str | Path | None) -> tuple[Path, ...]:
        """With those of the base."""
        return (*self.files, *self._base(self._adapter(), base).files_with(None))

    def has_config(self) -> bool:
        """No: the configuration is its base's."""
        return False

    def identity(self) -> dict[str, str]:
        """As `Source.identity`, with the name of the base."""
        return super().identity() | {"base": str(self._adapter().get("base_model_name_or_path"))}

    def _adapter(self) -> dict[str, Any]:
        """What `adapter_config.json` says.

        Raises:
            ModelError: it cannot be read, or names what cannot be merged exactly.
        """
        path = Path(self.location) / SETTINGS
        try:
            given = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ModelError(f"{path} cannot be read ({type(error).__name__}): save the adapter again") from None
        kind = given.get("peft_type") if isinstance(given, dict) else None
        if kind != "LORA":
            raise ModelError(
                f"{self.name} is an adapter of the kind {kind}, and LORA alone is merged here: merge it "
                "(merge_and_unload() of PEFT, if it can) and save the model, with the tokenizer"
            )
        if given.get("alora_invocation_tokens"):
            raise ModelError(
                f"{self.name} is an activated LoRA (aLoRA), which acts on some tokens and cannot be merged"
            )
        begun = str(given.get("init_lora_weights")).lower()
        if begun.startswith(_CHANGES_BASE):
            raise ModelError(
                f"{self.name} began as {begun}, which changes the base too: save it again with "
                "path_initial_model_for_weight_conversion of PEFT, or merge it where it was trained"
            )
        return given

    def _base(self, settings: dict[str, Any], given: str | Path | None) -> Source:
        """The model that the adapter is for.

        Raises:
            ModelError: no folder has it, its name is none of the hub's, or it is an adapter itself.
        """
        named = settings.get("base_model_name_or_path")
        if given is not None:
            base = _source(str(given))
        elif not isinstance(named, str) or not named:
            raise ModelError(f"{self.name} is an adapter and does not say of which model: give the base with --base")
        else:
            beside = Path(self.location) / Path(named).expanduser()
            local = next((path for path in (beside, Path(named).expanduser()) if path.exists()), None)
            if local is None and not _HUB.fullmatch(named):
                raise ModelError(
                    f"{self.name} is an adapter of {named}, which is not here: give the base with --base (`base` of a "
                    "study), a folder or an id on the hub"
                )
            base = _source(str(local.resolve())) if local is not None else _source(named, settings.get("revision"))
        if Tuned.recognise(base.name, None) is not None:
            raise ModelError(f"{self.name} is an adapter of {base.name}, an adapter itself: merge that one first")
        return base


def _source(name: str, revision: str | None = None) -> Source:
    return next(source for kind in _OF_BASES if (source := kind.recognise(name, revision)) is not None)
