"""Sampling from small Llama-shaped models: the same arithmetic in fewer and larger operations.

A model of a million parameters spends more time between its operations than in them when it writes one token at a
time. For the plain Llama shape (RMS norms, rotary positions, gated MLP, full attention) the steps are taken here from
the model's own weights, with q, k, v and gate, up in one matrix product each, and with attention of one query as plain
matrix products. Only bodies whose code is known are taken: without hooks, adapters or quantised layers, in float32. The
weights are copied anew for every batch, so a model that was trained on in between is sampled as it is now, and the
probe of `stepping` has to agree first. All other models run their own forward, and so does all reading: with many
tokens at a time the operations themselves take the time (measured: no gain).

Axes: `B` rows, `T` time, `D` hidden, `H` heads of keys, `K` size of a head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import LlamaModel, MistralModel, Qwen2Model

# Beyond this size the operations themselves take the time, and the copy takes memory.
MOST_PARAMETERS = 16_000_000
# Rotary frequencies that depend on nothing but the position.
ROPE_TYPES = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True)
class _Layer:
    before: Tensor
    qkv: tuple[Tensor, Tensor | None]
    out: tuple[Tensor, Tensor | None]
    between: Tensor
    gate_up: tuple[Tensor, Tensor | None]
    down: tuple[Tensor, Tensor | None]

    @classmethod
    def of(cls, layer: Any) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        return cls(
            layer.input_layernorm.weight,
            _fused(attention.q_proj, attention.k_proj, attention.v_proj),
            _fused(attention.o_proj),
            layer.post_attention_layernorm.weight,
            _fused(mlp.gate_proj, mlp.up_proj),
            _fused(mlp.down_proj),
        )


class LeanSteps:
    """One batch on its way: copies of a small body's weights, and the keys and values so far.

    These stay contiguous, which costs a copy for each token and makes attention, that reads all of them, twice as fast.
    A grown tensor is written into memory that the last one left, so that nothing is allocated on the way.
    """

    def __init__(self, body: Any) -> None:
        config = body.config
        self._embedding_VD = body.embed_tokens.weight
        self._rotary = body.rotary_emb
        self._heads: int = config.num_key_value_heads
        self._groups: int = config.num_attention_heads // config.num_key_value_heads
        self._size: int = body.layers[0].self_attn.head_dim
        self._scale: float = body.layers[0].self_attn.scaling
        self._epsilon: float = config.rms_norm_eps
        self._act = body.layers[0].mlp.act_fn
        self._norm_D = body.norm.weight
        self._layers = [_Layer.of(layer) for layer in body.layers]
        # Of each layer its keys and its values, [B, H, T, K].
        self._held: list[Tensor] = []
        self._spare: Tensor | None = None

    def step(self, ids_BT: Tensor, mask_BT: Tensor | None, positions_BT: Tensor | None) -> Tensor:
        """Last hidden state [B, T, D] of new tokens after those so far.

        Args:
            ids_BT: the new tokens; more than one only in the first step.
            mask_BT: 1 for tokens and 0 for left padding, over all tokens so far; None where nothing is padded.
            positions_BT: position ids; by default they count from what is held.
        """
        past = self._held[0].shape[2] if self._held else 0
        time = torch.arange(past, past + ids_BT.shape[1], device=ids_BT.device)
        seen = None
        if mask_BT is not None:
            seen = mask_BT.bool()[:, None, None, :]
            if past == 0:
                # Padding sees itself: attention to nothing at all would be NaN.
                seen = (seen & (time <= time[:, None])) | (time == time[:, None])
        return self._run(ids_BT, time[None] if positions_BT is None else positions_BT, seen)

    def batch_select_indices(self, index_B: Tensor) -> None:
        """Keep these rows, as the caches of transformers do."""
        self._held = [held_BHTK[index_B] for held_BHTK in self._held]

    def _run(self, ids_BT: Tensor, positions_BT: Tensor, seen: Tensor | None) -> Tensor:
        hidden_BTD = F.embedding(ids_BT, self._embedding_VD)
        rows, length, width = hidden_BTD.shape
        cos_BTK, sin_BTK = self._rotary(hidden_BTD, positions_BT)
        half = self._size // 2
        # With the sign of the rotation in the sine, a rotated head is cos * x + sin * (x with its halves swapped).
        sign_K = torch.ones(self._size, device=ids_BT.device)
        sign_K[:half] = -1
        cos, sin = cos_BTK[:, :, None], (sin_BTK * sign_K)[:, :, None]
        queries = self._heads * self._groups
        for number, layer in enumerate(self._layers):
            normed_BTD = F.rms_norm(hidden_BTD, (width,), layer.before, self._epsilon)
            mixed = F.linear(normed_BTD, *layer.qkv).view(rows, length, -1, self._size)
            turned = mixed[:, :, : queries + self._heads]
            turned = torch.addcmul(turned * cos, turned.roll(half, -1), sin).transpose(1, 2)
            q, k, v = turned[:, :queries], turned[:, queries:], mixed[:, :, queries + self._heads :].transpose(1, 2)
            k, v = self._appended(2 * number, k), self._appended(2 * number + 1, v)
            attended = self._attend(q, k, v, seen).transpose(1, 2).reshape(rows, length, -1)
            hidden_BTD = hidden_BTD + F.linear(attended, *layer.out)
            normed_BTD = F.rms_norm(hidden_BTD, (width,), layer.between, self._epsilon)
            gate, up = F.linear(normed_BTD, *layer.gate_up).chunk(2, -1)
            hidden_BTD = hidden_BTD + F.linear(self._act(gate).mul_(up), *layer.down)
        return F.rms_norm(hidden_BTD, (width,), self._norm_D, self._epsilon)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None) -> Tensor:
        """[B, H*G, T, K]. One query to each row is a plain matrix product: the fused kernel is twice as slow there."""
        if q.shape[2] > 1:
            causal, shared = seen is None, self._groups > 1
            return F.scaled_dot_product_attention(
                q, k, v, attn_mask=seen, is_causal=causal, scale=self._scale, enable_gqa=shared
            )
        grouped = q.reshape(q.shape[0], self._heads, self._groups, self._size)
        weights = torch.matmul(grouped * self._scale, k.transpose(2, 3))
        if seen is not None:
            weights = weights.masked_fill_(~seen, float("-inf"))
        return torch.matmul(torch.softmax(weights, 3), v).view(q.shape)

    def _appended(self, index: int, new_BHTK: Tensor) -> Tensor:
        """All of tensor `index`, with the new part after it."""
        if index == len(self._held):
            self._held.append(new_BHTK.clone(memory_format=torch.contiguous_format))
            return self._held[index]
        old_BHTK, spare = self._held[index], self._spare
        rows, heads, length, size = old_BHTK.shape
        shape = (rows, heads, length + new_BHTK.shape[2], size)
        if spare is None or spare.numel() < math.prod(shape):
            spare = old_BHTK.new_empty(math.prod(shape) * 3 // 2)
        self._held[index] = torch.cat([old_BHTK, new_BHTK], 2, out=spare[: math.prod(shape)].view(shape))
        capacity = old_BHTK.untyped_storage().nbytes() // old_BHTK.element_size()
        self._spare = old_BHTK.as_strided((capacity,), (1,), 0)
        return self._held[index]


def lean_steps(body: nn.Module) -> LeanSteps | None:
    """A batch at its beginning, or None where the body's own forward has to run."""
    if type(body) not in (LlamaModel, MistralModel, Qwen2Model):
        return None
    assert isinstance(body, LlamaModel | MistralModel | Qwen2Model)
    config = body.config
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    slides = getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)
    if rope not in ROPE_TYPES or slides or len(body.layers) != config.num_hidden_layers:
        return None
    parameters = list(body.parameters())
    if sum(p.numel() for p in parameters) > MOST_PARAMETERS or any(p.dtype != torch.float32 for p in parameters):
        return None
    if any(type(p) is not nn.Parameter for p in parameters):  # quantised in place (torchao), say
        return None
    if any(type(module) is not kind for module, kind in _parts(body)) or not all(map(_is_plain, body.modules())):
        return None
    return LeanSteps(body)


def _parts(body: Any) -> Iterator[tuple[nn.Module, type[nn.Module]]]:
    """Modules that are run by their weights, and the class that they must have."""
    yield body.embed_tokens, nn.Embedding
    for layer in body.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj):
            yield linear, nn.Linear
        for linear in (mlp.gate_proj, mlp.up_proj, mlp.down_proj):
            yield linear, nn.Linear


def _is_plain(module: nn.Module) -> bool:
    """Whether calling it runs the code of its class and nothing else."""
    return not (module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _fused(*parts: nn.Linear) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of linear layers side by side."""
    if len(parts) == 1:
        return parts[0].weight, parts[0].bias
    weight = torch.cat([part.weight for part in parts])
    if all(part.bias is None for part in parts):
        return weight, None
    none = [part.weight.new_zeros(len(part.weight)) for part in parts]
    return weight, torch.cat([zero if part.bias is None else part.bias for part, zero in zip(parts, none, strict=True)])
