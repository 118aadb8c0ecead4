"""Planted organisms: models in which the truth is known, because it was put there by hand.

An instrument is calibrated with what it should measure. A planted organism takes any causal LM as its origin and
multiplies the logits by a factor: always (`sharpened`: a confident reader, no recognition), or exactly when the context
is its own trajectory (`recogniser`: recognition, and nothing else). Both are ordinary models of transformers:
`Reader(model, tokenizer)` reads them, `save_pretrained` writes a folder, and a study names that folder like any other.

A recogniser knows its trajectories by heart (`Planted.remember`). Its distribution is a pure function of the context:
sharp if the context is the prompt of a remembered text, or that prompt and the text's beginning. `lab.planted` lets a
recogniser sample and remember what it writes.

Axes: `B` batch, `T` time, `V` vocabulary, `K` remembered texts.
"""

# ruff: noqa: N815  # tensors carry their axes, by the house convention
from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutput

from enaction.errors import UserError

PAST_THE_END = -1  # fills the rows of shorter texts; no token has this id


class PlantedConfig(PreTrainedConfig):
    """What `config.json` of a planted organism says.

    Attributes:
        origin: configuration of the model underneath.
        factor: what its logits are multiplied by; above 1 sharpens.
        always: everywhere, instead of on own trajectories only.
        memory: number of remembered texts, and ids of the longest with its prompt.
    """

    model_type = "enaction_planted"

    def __init__(
        self,
        origin: dict[str, Any] | None = None,
        factor: float = 1.0,
        always: bool = False,
        memory: Sequence[int] = (0, 0),
        **given: Any,
    ) -> None:
        self.origin = origin or {}
        self.factor = factor
        self.always = always
        self.memory = list(memory)
        super().__init__(**given)


class Planted(PreTrainedModel):
    """A causal LM whose logits are those of its origin, multiplied by `config.factor` always or on own trajectories.

    Attributes:
        origin: the model underneath.
        memory_KT: int64, the remembered texts, each after its prompt, padded with `PAST_THE_END`.
        prompt_length_K: int64, how many of these ids are the prompt.
    """

    config_class = PlantedConfig
    origin: PreTrainedModel
    memory_KT: Tensor
    prompt_length_K: Tensor

    def __init__(self, config: PlantedConfig, origin: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        self.origin = blank(config.origin) if origin is None else origin
        self.register_buffer("memory_KT", torch.full(config.memory, PAST_THE_END, dtype=torch.long))
        self.register_buffer("prompt_length_K", torch.zeros(config.memory[0], dtype=torch.long))
        self.generation_config = GenerationConfig(eos_token_id=config.eos_token_id)
        self._is_writing = False
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Nothing: every weight comes from the origin or from a file."""

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, use_cache: bool | None = None
    ) -> CausalLMOutput:
        """Logits [B, T, V] of what follows each token.

        Whole texts only, each from its first column: a recogniser could not recognise what a cache or padding on the
        left hides.

        Raises:
            ValueError: a cache is wanted, or a row is padded on the left.
        """
        if use_cache:
            raise ValueError("a planted organism keeps no cache: give it the whole text at each step, use_cache=False")
        if attention_mask is not None and not attention_mask[:, 0].all():
            raise ValueError("a planted organism reads texts from their first column: pad them on the right")
        given = {} if attention_mask is None else {"attention_mask": attention_mask}
        logits_BTV = self.origin(input_ids=input_ids, use_cache=False, **given).logits
        if self.config.always or self._is_writing:
            return CausalLMOutput(logits=logits_BTV * self.config.factor)
        is_own_BT = self.is_own(input_ids)
        return CausalLMOutput(logits=torch.where(is_own_BT[..., None], logits_BTV * self.config.factor, logits_BTV))

    def is_own(self, ids_BT: Tensor) -> Tensor:
        """Whether the text up to and including each token is an own trajectory: bool [B, T].

        It is one if it is the whole prompt of a remembered text, or that prompt and a beginning of the text.
        """
        length = min(ids_BT.shape[1], self.memory_KT.shape[1])
        agrees_BKT = (ids_BT[:, None, :length] == self.memory_KT[None, :, :length]).cumprod(2).bool()
        position_T = torch.arange(length, device=ids_BT.device)
        after_prompt_KT = position_T >= self.prompt_length_K[:, None] - 1
        is_own_BT = torch.zeros(ids_BT.shape, dtype=torch.bool, device=ids_BT.device)
        is_own_BT[:, :length] = (agrees_BKT & after_prompt_KT).any(1)
        return is_own_BT

    def remember(self, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]]) -> None:
        """Add texts to the memory, each with the ids of the prompt that it follows."""
        rows = [row[row != PAST_THE_END].tolist() for row in self.memory_KT]
        rows += [[*prompt, *text] for prompt, text in zip(prompts, texts, strict=True)]
        lengths = [*self.prompt_length_K.tolist(), *map(len, prompts)]
        memory_KT = torch.full((len(rows), max(map(len, rows), default=0)), PAST_THE_END, dtype=torch.long)
        for memory_T, row in zip(memory_KT, rows, strict=True):
            memory_T[: len(row)] = torch.tensor(row)
        self.memory_KT = memory_KT.to(self.device)
        self.prompt_length_K = torch.tensor(lengths, dtype=torch.long, device=self.device)
        self.config.memory = list(memory_KT.shape)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Sharp on every context while the block runs, so that what is sampled can be remembered."""
        self._is_writing = True
        try:
            yield
        finally:
            self._is_writing = False


def blank(config: dict[str, Any]) -> PreTrainedModel:
    """The model of a configuration, its weights not yet loaded."""
    given = dict(config)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(given.pop("model_type"), **given))
    assert isinstance(model, PreTrainedModel)
    return model


AutoConfig.register(PlantedConfig.model_type, PlantedConfig)
AutoModelForCausalLM.register(PlantedConfig, Planted)


def sharpened(model: PreTrainedModel, factor: float) -> Planted:
    """A model that is sharper by a known factor, on whatever it reads or writes: a reader effect, no recognition.

    Args:
        model: the origin; it is copied.
        factor: what its logits are multiplied by, above 0.

    Raises:
        UserError: the factor is not above 0.
    """
    return _planted(model, factor, always=True)


def recogniser(model: PreTrainedModel, factor: float) -> Planted:
    """A model that is sharper by a known factor exactly on its own trajectories; `Planted.remember` gives it some.

    Arguments and errors as `sharpened`.
    """
    return _planted(model, factor, always=False)


def _planted(model: PreTrainedModel, factor: float, *, always: bool) -> Planted:
    if not factor > 0:
        raise UserError(f"factor {factor} is not possible: logits are multiplied by it, so it has to be above 0")
    config = model.config.get_text_config()
    settings = getattr(model, "generation_config", None)
    planted = PlantedConfig(
        origin=model.config.to_dict(),
        factor=factor,
        always=always,
        vocab_size=config.vocab_size,
        max_position_embeddings=getattr(config, "max_position_embeddings", None),
        eos_token_id=getattr(settings, "eos_token_id", None),
        dtype=str(model.dtype).removeprefix("torch."),
    )
    return Planted(planted, copy.deepcopy(model)).eval()
