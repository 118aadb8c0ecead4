"""The stack of blocks is found, whatever other lists of modules a model has."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    MixtralConfig,
    MixtralForCausalLM,
    OlmoeConfig,
    OlmoeForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from enaction.reader.blocks import blocks

LAYERS, EXPERTS = 2, 7
SIZES: dict[str, Any] = {
    "vocab_size": 48,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


def with_a_list_of_experts(model: nn.Module) -> nn.Module:
    """Experts as a list of modules in each block, as code outside of transformers and its older versions have them."""
    for block in model.get_submodule("model.layers").children():
        block.get_submodule("mlp").add_module("experts", nn.ModuleList(nn.Linear(16, 24) for _ in range(EXPERTS)))
    return model


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (MixtralForCausalLM, MixtralConfig(**SIZES, num_local_experts=EXPERTS)),
        (Qwen3MoeForCausalLM, Qwen3MoeConfig(**SIZES, num_experts=EXPERTS, moe_intermediate_size=8)),
        (OlmoeForCausalLM, OlmoeConfig(**SIZES, num_experts=EXPERTS)),
    ],
)
def test_more_experts_than_blocks_are_not_taken_for_the_blocks(
    kind: type[PreTrainedModel], config: PreTrainedConfig, as_list: bool
) -> None:
    with torch.device("meta"):
        model = kind(config)
        model = with_a_list_of_experts(model) if as_list else model
    found = blocks(model)
    assert found is not None
    assert (found.path, len(found.modules)) == ("model.layers", LAYERS)


def test_a_model_without_lists_has_no_blocks() -> None:
    assert blocks(nn.Linear(2, 2)) is None
