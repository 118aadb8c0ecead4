"""Traced models: a causal LM into which a trace of surprise is planted along one direction of its embeddings.

Whether a report rides on a trace of surprise can be asked of any model; whether the instrument answers rightly can only
be asked of a model in which the trace was put there. A traced model reads its text once without the trace, takes the
surprisal of each token of the first reply, standardised, and reads the text again with `trace x direction` added to
the token's embedding. What it makes of the trace is a matter of training (`lab.organisms.reports`): one such model
reports by it, another one by a word. Both are ordinary models of transformers, as planted organisms are.

The first reply itself is written and predicted by the first reading: the trace is exactly the surprise that anybody
measures there, and does not feed on itself. All that follows the reply is predicted by the second. A question that
follows carries no trace, so what is known of the reply there came through keys and values.

Axes: `B` batch, `T` time, `D` hidden, `V` vocabulary.
"""

# ruff: noqa: N815  # tensors carry their axes, by the house convention
from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from enaction.reader.planted import blank


class TracedConfig(PreTrainedConfig):
    """What `config.json` of a traced model says.

    Attributes:
        origin: configuration of the model underneath.
        mean, spread: of surprisal, nats; the trace is (surprisal - mean) / spread.
        most: the trace is not larger than this.
        opens, closes: ids of the tokens between which a reply lies.
    """

    model_type = "enaction_traced"

    def __init__(
        self,
        origin: dict[str, Any] | None = None,
        mean: float = 0.0,
        spread: float = 1.0,
        most: float = 4.0,
        opens: int = 0,
        closes: int = 0,
        **given: Any,
    ) -> None:
        self.origin = origin or {}
        self.mean = mean
        self.spread = spread
        self.most = most
        self.opens = opens
        self.closes = closes
        super().__init__(**given)


class Traced(PreTrainedModel):
    """A causal LM that reads the surprise of its first reply along `direction_D` of the embeddings.

    Attributes:
        origin: the model underneath.
        direction_D: what is added to an embedding for a trace of 1.
    """

    config_class = TracedConfig
    origin: PreTrainedModel
    direction_D: Tensor

    def __init__(self, config: TracedConfig, origin: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        self.origin = blank(config.origin) if origin is None else origin
        self.register_buffer("direction_D", torch.zeros(_embedding(self.origin).shape[1]))
        self.generation_config = GenerationConfig(eos_token_id=config.eos_token_id)
        self._plain: tuple[PreTrainedModel, ...] = ()  # a tuple, so that it is no module of this one
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Nothing: every weight comes from the origin or from a file."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        use_cache: bool | None = None,
        past_key_values: Any = None,
        trace_BT: Tensor | None = None,
    ) -> CausalLMOutputWithPast:
        """Logits [B, T, V] of what follows each token; with `use_cache` the keys and values of the second reading.

        Whole texts only, each from its first column: surprise is that of the text so far.

        Args:
            trace_BT: in place of the text's own trace.

        Raises:
            ValueError: a cache is given, or a row is padded on the left.
        """
        if past_key_values is not None:
            raise ValueError("a traced model goes on from no cache: give it the whole text at each step")
        if attention_mask is not None and not attention_mask[:, 0].all():
            raise ValueError("a traced model reads texts from their first column: pad them on the right")
        given = {} if attention_mask is None else {"attention_mask": attention_mask}
        plain_BTV = self._untouched()(input_ids=input_ids, use_cache=False, **given).logits
        if trace_BT is None:
            trace_BT = self._trace(input_ids, plain_BTV)
        embedded_BTD = self.origin.get_input_embeddings()(input_ids)
        embedded_BTD = embedded_BTD + trace_BT[..., None].to(embedded_BTD.dtype) * self.direction_D
        read = self.origin(inputs_embeds=embedded_BTD, use_cache=bool(use_cache), **given)
        is_after_BT1 = self._closed(input_ids)[..., None]
        logits_BTV = torch.where(is_after_BT1, read.logits, plain_BTV)
        return CausalLMOutputWithPast(logits=logits_BTV, past_key_values=read.past_key_values if use_cache else None)

    @torch.no_grad()
    def trace(self, ids_BT: Tensor) -> Tensor:
        """The text's own trace [B, T], without a unit: standardised surprisal in the first reply, 0 elsewhere."""
        return self._trace(ids_BT, self._untouched()(input_ids=ids_BT, use_cache=False).logits)

    @torch.no_grad()
    def _trace(self, ids_BT: Tensor, plain_BTV: Tensor) -> Tensor:
        logprob_BTV = plain_BTV[:, :-1].float().log_softmax(-1)
        surprisal_BT = torch.zeros(ids_BT.shape, device=ids_BT.device)
        surprisal_BT[:, 1:] = -logprob_BTV.gather(-1, ids_BT[:, 1:, None]).squeeze(-1)
        standard_BT = ((surprisal_BT - self.config.mean) / self.config.spread).clamp(max=self.config.most)
        return torch.where(self.in_first_reply(ids_BT), standard_BT, 0.0)

    def in_first_reply(self, ids_BT: Tensor) -> Tensor:
        """Whether a token is a word of the first reply: bool [B, T]; the tokens around a reply are not of it."""
        opens_BT = ids_BT == self.config.opens
        return (opens_BT.cumsum(1) > 0) & ~self._closed(ids_BT) & ~opens_BT

    def _closed(self, ids_BT: Tensor) -> Tensor:
        """Whether the first reply has ended, its end token included: bool [B, T]."""
        opened_BT = (ids_BT == self.config.opens).cumsum(1) > 0
        return ((ids_BT == self.config.closes) & opened_BT).cumsum(1) > 0

    def _untouched(self) -> PreTrainedModel:
        """The origin with the same weights in modules of its own: hooks on the origin's do not reach the trace."""
        if not self._plain:
            tensors = [*self.origin.parameters(), *self.origin.buffers()]
            plain = copy.deepcopy(self.origin, {id(tensor): tensor for tensor in tensors})
            for module in plain.modules():
                vars(module).pop("forward", None)
                module._forward_hooks, module._forward_pre_hooks = OrderedDict(), OrderedDict()
            self._plain = (plain,)
        return self._plain[0]


def _embedding(model: PreTrainedModel) -> Tensor:
    return cast(Any, model.get_input_embeddings()).weight


AutoConfig.register(TracedConfig.model_type, TracedConfig)
AutoModelForCausalLM.register(TracedConfig, Traced)


def traced(model: PreTrainedModel, *, mean: float, spread: float, opens: int, closes: int, seed: int) -> Traced:
    """A model with a trace along a random direction, as long as an embedding is on average.

    If longer, normalisation bends the trace into many directions; if shorter, bins of surprise find those of the words.

    Args:
        model: the origin; it is copied.
        mean, spread: of the surprisal of its replies, nats.
        opens, closes: ids of the tokens between which a reply lies.
        seed: of the direction.
    """
    config = model.config.get_text_config()
    settings = TracedConfig(
        origin=model.config.to_dict() | {"_name_or_path": ""},
        mean=mean,
        spread=spread,
        opens=opens,
        closes=closes,
        vocab_size=config.vocab_size,
        max_position_embeddings=getattr(config, "max_position_embeddings", None),
        eos_token_id=closes,
        dtype=str(model.dtype).removeprefix("torch."),
    )
    made = Traced(settings, copy.deepcopy(model)).eval()
    weight_VD = _embedding(made.origin).detach()
    direction_D = torch.randn(weight_VD.shape[1], generator=torch.Generator().manual_seed(seed))
    made.direction_D.data.copy_(direction_D / direction_D.norm() * weight_VD.norm(dim=1).mean())
    return made
