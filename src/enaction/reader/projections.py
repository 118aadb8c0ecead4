"""Where the keys and values of each block come from: one projection each, or a part of one that gives all three."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from enaction.errors import ModelError
from enaction.reader.blocks import blocks
from enaction.reader.head import probe_ids
from enaction.reader.reader import Reader


class Projection(NamedTuple):
    """The part of a module's output that is the keys or the values of a block.

    Attributes:
        module: its output is [B, T, F].
        channels: int64 [C], which of the F numbers, heads side by side; None for all.
    """

    module: nn.Module
    channels: Tensor | None

    def of(self, output: Tensor) -> Tensor:
        """The part [B, T, C]."""
        return output if self.channels is None else output[..., self.channels]

    def put(self, output: Tensor, part: Tensor) -> Tensor:
        """The output with this part in place of its own."""
        if self.channels is None:
            return part
        changed = output.clone()
        changed[..., self.channels] = part
        return changed


def projections(reader: Reader) -> dict[Any, Projection]:
    """Projection of the keys and of the values of every block, by (layer from 1, `key` or `value`).

    A probe proves it: the values are those of the cache.

    Raises:
        ModelError: this attention is not known (latent attention, one projection in an unknown order), or the probe
            disagrees.
    """
    body = reader.model if reader.head is None else reader.head.body
    found = blocks(body)
    stack = [] if found is None else list(found.modules)
    located: dict[Any, Projection] = {}
    for layer, block in enumerate(stack, start=1):
        pair = _pair(block, reader.model.config.get_text_config())
        if pair is None:
            raise ModelError(
                f"keys and values of {type(block).__name__} ({reader.name}) are not known: intervene in the residual "
                "stream"
            )
        located[layer, "key"], located[layer, "value"] = pair
    if not stack or not _agree(reader, body, located):
        raise ModelError(
            f"the keys and values found in {reader.name} are not those of its cache: intervene in the residual stream"
        )
    return located


def _pair(block: nn.Module, config: Any) -> tuple[Projection, Projection] | None:
    named = {path.rsplit(".", 1)[-1]: module for path, module in block.named_modules()}
    if "k_proj" in named and "v_proj" in named:
        return Projection(named["k_proj"], None), Projection(named["v_proj"], None)
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    kv = getattr(config, "num_key_value_heads", None) or heads
    if "query_key_value" in named and kv == heads:  # GPT-NeoX, BLOOM: query, key and value of each head in turn
        each = torch.arange(heads * 3 * width).view(heads, 3, width)
        return _parts(named["query_key_value"], each[:, 1].flatten(), each[:, 2].flatten())
    for name in ("qkv_proj", "c_attn"):  # Phi 3, GPT-2: all queries, all keys, all values
        if name in named:
            q, k = heads * width, kv * width
            return _parts(named[name], torch.arange(q, q + k), torch.arange(q + k, q + 2 * k))
    return None


def _parts(module: nn.Module, key: Tensor, value: Tensor) -> tuple[Projection, Projection]:
    return Projection(module, key), Projection(module, value)


def _agree(reader: Reader, body: nn.Module, located: dict[Any, Projection]) -> bool:
    """Whether each block's values on a probe are those that its cache holds."""
    seen: dict[int, Tensor] = {}

    def keep(layer: int, projection: Projection) -> Any:
        def hook(module: nn.Module, given: tuple, output: Tensor) -> None:
            seen[layer] = projection.of(output)

        return projection.module.register_forward_hook(hook)

    handles = [keep(layer, located[layer, part]) for layer, part in located if part == "value"]
    try:
        with reader.reading():
            cache = body(input_ids=probe_ids(reader.model), use_cache=True).past_key_values
    except Exception:  # whatever a model sets off that has no such cache
        return False
    finally:
        for handle in handles:
            handle.remove()
    held = getattr(cache, "layers", ())
    if len(held) != len(seen):
        return False
    for layer, value in enumerate((layer.values for layer in held), start=1):
        own = seen[layer][:, -value.shape[2] :]
        if value.transpose(1, 2).flatten(2).shape != own.shape:
            return False
        if not torch.equal(value.transpose(1, 2).flatten(2), own):
            return False
    return True
