"""Merge a LoRA adapter into its base, and prove on a short text that nothing of it was lost."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from enaction.errors import ModelError
from enaction.reader.head import probe_ids
from enaction.reader.sources.adapter import ADAPTER
from enaction.reader.sources.source import first_line
from enaction.reader.stepping import accepted, deviation

# Largest difference of the merged model's logits from those of the model with its adapter beside it, relative.
TOLERANCE = 1e-4


def merged(model: PreTrainedModel, folder: Path, name: str) -> PreTrainedModel:
    """The model with a folder's adapter in its weights, which are changed.

    Args:
        model: the base, in float32.
        folder: of the adapter.
        name: for the messages.

    Raises:
        ModelError: the adapter holds tensors that the model has no place for, lacks some, or does not merge exactly.
    """
    stored = load_file(folder / ADAPTER)
    _fit_vocabulary(model, stored)
    _untie(model, stored)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PEFT warns of is refused below
        try:
            adapted = PeftModel.from_pretrained(model, str(folder)).eval()
        except (RuntimeError, ValueError, KeyError) as error:
            raise ModelError(f"{name} does not fit its base ({first_line(error)}): is it of another model?") from error
        expected = get_peft_model_state_dict(adapted, save_embedding_layers=False)
        _require(name, expected.keys() - stored.keys(), "holds no")
        _require(
            name, stored.keys() - expected.keys() - adapted.state_dict().keys(), "holds, with no place in its base,"
        )
        with torch.no_grad():
            beside_TV = _logits(adapted, probe_ids(model))
            whole: Any = adapted.merge_and_unload(safe_merge=True)  # pyright: ignore[reportCallIssue]
            error = deviation(_logits(whole, probe_ids(model)), beside_TV)
    if not error <= TOLERANCE:
        raise ModelError(
            f"{name} does not merge exactly (its logits change by {error:.1e} of the largest): merge it yourself "
            "(merge_and_unload() of PEFT), look at what it writes, and save that"
        )
    return whole


def _require(name: str, keys: Iterable[str], what: str) -> None:
    found = sorted(keys)
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise ModelError(f"{name} {what} {found[0]}{more}: its file and its adapter_config.json, or its base, differ")


def _logits(model: Any, ids: Tensor) -> Tensor:
    return model(**accepted(model, {"input_ids": ids, "use_cache": False})).logits[0].float()


def _fit_vocabulary(model: PreTrainedModel, stored: dict[str, Tensor]) -> None:
    """Give the embedding and the head as many rows as the adapter was trained with, where it holds theirs."""
    rows = {len(weight) for key, weight in stored.items() if key.endswith(("embed_tokens.weight", "lm_head.weight"))}
    if len(rows) == 1 and rows != {model.config.get_text_config().vocab_size}:
        model.resize_token_embeddings(rows.pop(), mean_resizing=False)


def _untie(model: PreTrainedModel, stored: dict[str, Tensor]) -> None:
    """Give the head weights of its own where the adapter changes the embedding or the head alone."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not isinstance(embedding, nn.Module) or not isinstance(head, nn.Module) or embedding.weight is not head.weight:
        return
    names = [name for name, module in model.named_modules() if module is embedding or module is head]
    if any(f".{name}." in key for key in stored for name in names):
        head.weight = nn.Parameter(embedding.weight.detach().clone())  # pyright: ignore[reportArgumentType, reportCallIssue]
        model.config.get_text_config().tie_word_embeddings = False
        model.config.tie_word_embeddings = False
