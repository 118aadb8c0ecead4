"""One forward of a model: as body and head run apart, where that was proved right, else whole.

Axes: `B` batch, `T` time, `P` a context that is run once, `D` hidden, `V` vocabulary.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from enaction.reader.head import Head, is_exact, probe_ids
from enaction.reader.placing import input_device
from enaction.reader.precision import is_coarse
from enaction.reader.stepping import accepted, deviation


class Forward:
    """Runs a model. The caller sees to inference mode and dropout.

    Attributes:
        model: the causal LM.
        head: what turns the body's states into logits; None if the model is run whole.
        device: where ids go in, and logits come out.
    """

    def __init__(self, model: PreTrainedModel, head: Head | None) -> None:
        self.model = model
        self.head = head
        self.device = input_device(model)

    def run(self, **given: Any) -> Any:
        """The body's output, or the model's own if body and head are not run apart; None is not passed."""
        source = self.model if self.head is None else self.head.body
        return source(**accepted(source, given))

    def logits(self, output: Any, positions: int | slice) -> Tensor:
        """Float32 logits of some positions of every row of what `run` gave."""
        if self.head is None:
            return output.logits[:, positions].float().to(self.device)
        return self.head.logits(output.last_hidden_state[:, positions]).to(self.device)

    def whole(self, ids_1T: Tensor) -> Tensor:
        """Float32 logits [T, V] of one text read at once."""
        return self.logits(self.run(input_ids=ids_1T, use_cache=False), slice(None))[0]

    def continued(self, context_1P: Tensor, ids_BT: Tensor, mask_BT: Tensor | None) -> Any:
        """What `run` gives for ids that follow a context, which is run once."""
        rows, length, past = *ids_BT.shape, context_1P.shape[1]
        cache = self.run(input_ids=context_1P, use_cache=True).past_key_values
        cache.batch_repeat_interleave(rows)
        if mask_BT is not None:
            mask_BT = torch.cat([mask_BT.new_ones(rows, past), mask_BT], 1)
        positions_BT = torch.arange(past, past + length, device=self.device).expand(rows, length)
        return self.run(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            position_ids=positions_BT,
            past_key_values=cache,
            use_cache=True,
        )

    @cached_property
    def can_share(self) -> bool:
        """Whether a probe, two texts of different length after one context, shows that a context can be shared."""
        ids_1T = probe_ids(self.model)
        length, past = ids_1T.shape[1], ids_1T.shape[1] // 2
        own_TV = self.whole(ids_1T)[past:]
        mask_BT = torch.ones((2, length - past), dtype=torch.long, device=self.device)
        mask_BT[1, -3:] = 0
        try:
            output = self.continued(ids_1T[:, :past], ids_1T[:, past:].repeat(2, 1), mask_BT)
            full_TV, cut_TV = self.logits(output, slice(None))
        except Exception:  # whatever is raised by a model whose cache cannot be repeated or continued in this way
            return False
        error = max(deviation(full_TV, own_TV), deviation(cut_TV[:-3], own_TV[:-3]))
        return is_exact(error, is_half=is_coarse(self.model))
