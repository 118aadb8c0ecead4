"""The output head: from the body's last hidden state to logits, bit for bit as the model's own forward goes.

Scoring by the model's own forward would hold logits of the whole vocabulary for every position, prompts and padding
included. So the body is run alone and the head only on measured positions, a bounded slice at a time. What stands
between the two differs between architectures (a bias, a scale, a soft cap); it is found by structure and then checked:
a probe compares the result with the model's own logits. A model that fails the probe is read through its own logits.

Axes: `B` batch, `T` time, `N` measured positions, `D` hidden, `V` vocabulary.
"""

# ruff: noqa: N815  # fields carry their axes, by the house convention
from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from enaction.reader.placing import device_of, input_device, only_moves
from enaction.reader.precision import is_coarse
from enaction.reader.stepping import accepted, deviation

PROBE_TOKENS = 24
DIAGONAL_ROWS = 64
# Largest deviation from the model's own logits, relative to their largest magnitude. Half precision rounds the logits
# of the two paths at different places.
TOLERANCE = 1e-4
HALF_TOLERANCE = 2e-2
# The same for its own logits when later tokens are taken away, which gives every matrix another shape.
LOOK_AHEAD = 1e-3
HALF_LOOK_AHEAD = 5e-2
# What a matrix product can run in; weights in any other dtype have a module that knows what to do with them.
_ARITHMETIC = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Head:
    """Body and output transform of one causal LM.

    Attributes:
        body: everything before the output matrix; returns `last_hidden_state` [B, T, D].
        matrix: the output embedding, with its bias if it has one.
        scale: factor on the logits (Cohere `logit_scale`, the reciprocal of Granite's `logits_scaling`).
        softcap: c in c * tanh(logits / c), or None (Gemma 2).
    """

    body: nn.Module
    matrix: nn.Module
    scale: float
    softcap: float | None

    @property
    def is_tiled(self) -> bool:
        """Whether logits of a part of the vocabulary can be had by themselves: the matrix is a plain linear layer."""
        matrix = self.matrix
        return (
            isinstance(matrix, nn.Linear)
            and type(matrix).forward is nn.Linear.forward
            and type(matrix.weight) is nn.Parameter  # and not a quantised or sharded one
            and not (matrix._forward_hooks or matrix._forward_pre_hooks)
            and ("forward" not in vars(matrix) or only_moves(matrix))
        )

    @property
    def device(self) -> torch.device:
        """Where the matrix takes hidden states; in a model on several devices it may be another than the body's."""
        return device_of(self.matrix)

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """Float32 logits [N, V], a tensor of the caller's own.

        The matrix product runs in the matrix's dtype, as the model's own forward does, and is converted after it.
        """
        return self._transformed(self.matrix(self._cast(hidden_ND)).float())

    def logits_of(self, hidden_ND: Tensor, tokens: slice | Tensor, out_NV: Tensor | None = None) -> Tensor:
        """Float32 logits [N, tokens] of a part of the vocabulary, where `is_tiled`; `out_NV` may come to hold them."""
        assert isinstance(self.matrix, nn.Linear)
        hidden_ND, weight_VD, bias = self._cast(hidden_ND), self.matrix.weight[tokens], self.matrix.bias
        bias_V = None if bias is None else bias[tokens]
        if out_NV is None or out_NV.dtype != weight_VD.dtype:
            return self._transformed(nn.functional.linear(hidden_ND, weight_VD, bias_V).float())
        if bias_V is None:
            return self._transformed(torch.mm(hidden_ND, weight_VD.T, out=out_NV))
        return self._transformed(torch.addmm(bias_V, hidden_ND, weight_VD.T, out=out_NV))

    def _cast(self, hidden_ND: Tensor) -> Tensor:
        """Some models keep their states or their matrix in float32 while the rest is half precision (Mamba, xLSTM)."""
        dtype = getattr(getattr(self.matrix, "weight", None), "dtype", None)
        return hidden_ND.to(self.device, dtype if dtype in _ARITHMETIC else hidden_ND.dtype)

    def _transformed(self, logits_NV: Tensor) -> Tensor:
        if self.scale != 1.0:
            logits_NV = logits_NV.mul_(self.scale)
        if self.softcap is not None:
            logits_NV = logits_NV.div_(self.softcap).tanh_().mul_(self.softcap)
        return logits_NV


@dataclass(frozen=True)
class HeadLogits:
    """Logits of some hidden states, computed a tile of the vocabulary at a time; the head `is_tiled`."""

    head: Head
    hidden_ND: Tensor

    def tile(self, start: int, stop: int, out_NV: Tensor) -> Tensor:
        """Float32 logits [N, stop - start] of tokens `start` to `stop`, in `out_NV` where the weights are float32."""
        return self.head.logits_of(self.hidden_ND, slice(start, stop), out_NV)

    def of(self, tokens_N: Tensor) -> Tensor:
        """Float32 logit of one token in each row, [N].

        The diagonal of a small matrix product and not a sum of products: it goes through the same kernel as a tile, so
        that a token whose row of the matrix equals this one's gets the same logit to the last bit, and ties are ties.
        """
        logits_N = self.hidden_ND.new_empty(len(tokens_N), dtype=torch.float32)
        for begin in range(0, len(tokens_N), DIAGONAL_ROWS):
            # The last block reaches back, because kernels for a few rows add in another order.
            block = slice(max(0, min(begin, len(tokens_N) - DIAGONAL_ROWS)), begin + DIAGONAL_ROWS)
            logits_N[block] = self.head.logits_of(self.hidden_ND[block], tokens_N[block]).diagonal()
        return logits_N


def candidate_heads(model: PreTrainedModel) -> list[Head]:
    """What body, output matrix and output transform may be, by structure and not by the model's name, likeliest first.

    Configurations name the numbers of a transform, but one name can mean a factor in one family and a divisor in the
    next (`logits_scaling` in HyperCLOVA X and in Granite). The caller's probe tells which is meant. Empty if there is
    no body and matrix to run apart.
    """
    body, matrix = model.base_model, model.get_output_embeddings()
    if body is model:
        # Some classes (Llama 4) name a prefix that is not there; the body is `model` all the same.
        body = getattr(model, "model", None)
    if not isinstance(body, nn.Module) or not isinstance(matrix, nn.Module):
        return []
    config = model.config.get_text_config()

    def named(*names: str) -> float:
        return math.prod(getattr(config, name, None) or 1.0 for name in names)

    factor, divisor = named("logit_scale", "lm_head_multiplier"), named("logits_scaling", "logits_mup_width_multiplier")
    caps = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
    softcap = next((cap for name in caps if (cap := getattr(config, name, None))), None)
    # Last comes no transform at all: a configuration can name one that its model's forward leaves out.
    transforms = [(factor / divisor, softcap), (factor * divisor, softcap), (1.0, None)]
    return [Head(body, matrix, scale, cap) for scale, cap in dict.fromkeys(transforms)]


def locate_head(model: PreTrainedModel) -> tuple[Head | None, float]:
    """The candidate that agrees best with the model's own logits on the probe, and its parity error.

    (None, inf) if there is nothing to run apart.
    """
    best, least = None, float("inf")
    for head in candidate_heads(model):
        error = parity_error(model, head)
        if best is None or error < least:
            best, least = head, error
        if is_exact(error, is_half=is_coarse(model)):
            break
    return best, least


def probe_ids(model: PreTrainedModel) -> Tensor:
    """A short random text [1, T] that any causal LM can read."""
    # Markers of images and sounds, where a model has them, are at the end of the vocabulary.
    vocabulary = max(1, model.config.get_text_config().vocab_size // 2)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(vocabulary, (1, PROBE_TOKENS), generator=generator).to(input_device(model))


@torch.inference_mode()
def look_ahead(model: PreTrainedModel) -> float:
    """How far the model's own predictions depend on what comes later, relative to the largest logit; about 0 if causal.

    The median over positions: a mixture of experts in half precision may route one token otherwise when a matrix has
    another shape, while a model that looks ahead (an encoder without `is_decoder`) does so everywhere.
    """
    ids_BT = probe_ids(model)
    half = PROBE_TOKENS // 2
    given = [accepted(model, {"input_ids": ids, "use_cache": False}) for ids in (ids_BT, ids_BT[:, :half])]
    whole_TV, part_TV = (model(**g).logits[0].float() for g in given)
    if len(part_TV) != half:
        return float("inf")
    return statistics.median(deviation(part_V, whole_V) for part_V, whole_V in zip(part_TV, whole_TV, strict=False))


@torch.inference_mode()
def parity_error(model: PreTrainedModel, head: Head) -> float:
    """Largest difference between the head's logits and the model's own on a short probe, relative to their magnitude.

    inf where body or head cannot be run apart.
    """
    ids_BT = probe_ids(model)
    own_TV = model(**accepted(model, {"input_ids": ids_BT, "use_cache": False})).logits[0].float()
    try:
        hidden_TD = head.body(**accepted(head.body, {"input_ids": ids_BT, "use_cache": False})).last_hidden_state[0]
        logits_TV = head.logits(hidden_TD)
    except Exception:  # whatever is raised by a body that wants other inputs, or gives something else
        return float("inf")
    return deviation(logits_TV, own_TV)


def is_exact(error: float, *, is_half: bool) -> bool:
    """Whether a parity error is rounding and nothing else."""
    return error <= (HALF_TOLERANCE if is_half else TOLERANCE)


def is_causal(error: float, *, is_half: bool) -> bool:
    """Whether what `look_ahead` found is rounding and nothing else."""
    return error <= (HALF_LOOK_AHEAD if is_half else LOOK_AHEAD)
