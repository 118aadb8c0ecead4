"""What a training run is watched with: settings, the two readers and the texts, all checked before the first step."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from enaction.errors import ModelError, UserError
from enaction.framing import frame
from enaction.integrations.watching import Judge, Watch
from enaction.passages import Message, Passage, Prompt, prompt_hash, read_passages, read_prompts
from enaction.reader import Reader
from enaction.words import Framing

START = "start"


@dataclass(frozen=True)
class Settings:
    """The options of `EnactionCallback`, which says what they mean."""

    prompts: str | Path | Sequence[Prompt | str]
    foreign: str | Path | Sequence[Passage]
    judge: Reader | str | None
    every_steps: int
    time_share: float
    per_prompt: int
    max_new_tokens: int
    seed: int
    framing: Framing | None
    noise: float
    rollouts: Path | None

    def require(self, args: Any, trainer: Any, *, is_resumed: bool) -> None:
        """Fail on settings that could not work in this training.

        Args:
            args: of the trainer.
            trainer: that the callback is attached to, if it is.
            is_resumed: training goes on from a checkpoint.

        Raises:
            UserError: which one, and what to do.
        """
        for name in ("every_steps", "per_prompt", "max_new_tokens"):
            if (value := getattr(self, name)) < 1:
                raise UserError(f"EnactionCallback: {name} {value} is not possible: it has to be at least 1")
        if not 0 < self.time_share <= 1:
            raise UserError(f"EnactionCallback: time_share {self.time_share} is not possible: 0.05 is 5 % of the time")
        if not self.noise >= 0:
            raise UserError(f"EnactionCallback: noise {self.noise} is not possible: it is a standard deviation, nats")
        if getattr(args, "fsdp", None) or getattr(args, "deepspeed", None):
            raise UserError(
                "EnactionCallback cannot read weights that FSDP or DeepSpeed spreads over processes: train without "
                "them, or measure the checkpoints with `enaction run`"
            )
        if self.rollouts is not None:
            if not hasattr(trainer, "_buffered_inputs"):
                raise UserError(
                    "EnactionCallback: save_rollouts needs the batch of a trainer that samples: call "
                    "`.attach(trainer)` with a GRPO trainer, or leave it out"
                )
            if self.rollouts.exists() and not is_resumed:
                raise UserError(f"EnactionCallback: {self.rollouts} exists: remove it, or save to another place")
            if not self.rollouts.parent.is_dir():
                raise UserError(f"EnactionCallback: there is no folder {self.rollouts.parent} for save_rollouts")


def watch_of(settings: Settings, model: Any, processing_class: Any) -> Watch:
    """Readers and texts, checked: every foreign passage is framed and answers one of the prompts.

    Args:
        settings: checked already.
        model: in training, with its adapter if it has one.
        processing_class: of the trainer, its tokenizer.

    Raises:
        UserError: something in them could not work.
    """
    core = core_of(model)
    reader = Reader(core, _tokenizer_of(processing_class), name="the model in training")
    prompts = _prompts(settings.prompts)
    given = settings.foreign
    foreign = _answering(prompts, read_passages(given) if isinstance(given, str | Path) else given)
    judge = _judge(settings.judge, model, core, reader)
    if judge is not None and judge.reader.name in {p.author for p in foreign}:
        raise UserError(
            f"EnactionCallback: the judge {judge.reader.name} wrote foreign passages, so that its own recognition "
            "would count as the model's: give another judge, or passages of somebody else"
        )
    framing: Framing = settings.framing or ("assistant" if reader.has_template else "none")
    for passage in foreign:
        reader.check_fits(frame(reader.tokenizer, passage, framing))
    return Watch(reader, judge, prompts, foreign, framing, settings.per_prompt, settings.max_new_tokens, settings.seed)


def _judge(given: Reader | str | None, model: Any, core: PreTrainedModel, reader: Reader) -> Judge | None:
    if given is None:
        return None
    if isinstance(given, Reader):
        return Judge(given)
    if given != START:
        return Judge(Reader.load(given))
    if core is not model:
        return Judge(reader, model.disable_adapter, is_start=True)
    return Judge(Reader(_copy_of(core), reader.tokenizer, name="the model at the start"), is_start=True)


def core_of(model: Any) -> PreTrainedModel:
    """The causal LM that is read: the model itself, or the one inside an adapter, with the adapter's layers in it.

    Raises:
        UserError: a soft prompt, which is not part of the inner model, or no model of transformers.
    """
    core = model
    if hasattr(model, "peft_config"):
        if any(c.is_prompt_learning for c in model.peft_config.values()):
            raise UserError(
                "EnactionCallback cannot read a soft prompt (prompt or prefix tuning): train LoRA or all weights"
            )
        core = model.get_base_model()
    if not isinstance(core, PreTrainedModel):
        raise ModelError(f"EnactionCallback: a {type(model).__name__} is trained, and no causal LM of transformers")
    return core


def _copy_of(model: PreTrainedModel) -> PreTrainedModel:
    """A model of its own with these weights, frozen."""
    if any(hasattr(module, "_hf_hook") for module in model.modules()):
        raise UserError(
            "EnactionCallback cannot copy a model that lies on several devices: give judge=a Reader or judge=None"
        )
    return copy.deepcopy(model).requires_grad_(False).eval()


def _tokenizer_of(processing_class: Any) -> PreTrainedTokenizerFast:
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UserError(
            "EnactionCallback needs the model's fast tokenizer: give the trainer processing_class=tokenizer"
        )
    return tokenizer


def _prompts(given: str | Path | Sequence[Prompt | str]) -> list[Prompt]:
    if isinstance(given, str | Path):
        return read_prompts(given)
    made = [_prompt(p) for p in given]
    if not made:
        raise UserError("EnactionCallback: no prompts; give some that the model is not trained on")
    if len({p.id for p in made}) < len(made):
        raise UserError("EnactionCallback: two prompts have the same id: leave one out")
    return made


def _prompt(given: Prompt | str) -> Prompt:
    if isinstance(given, Prompt):
        return given
    messages = (Message(role="user", content=given),)
    return Prompt(prompt_hash(messages), messages)


def _answering(prompts: Sequence[Prompt], passages: Sequence[Passage]) -> list[Passage]:
    """The passages that answer one of the prompts, by its id or by its messages, under the prompt's id.

    Raises:
        UserError: there are passages, and they answer fewer than 2 prompts.
    """
    known = {prompt_hash(p.messages): p.id for p in prompts} | {p.id: p.id for p in prompts}
    named = [(p, known.get(p.prompt_id) or known.get(prompt_hash(p.prompt))) for p in passages]
    answering = [replace(p, prompt_id=name) for p, name in named if name is not None]
    if passages and len({p.prompt_id for p in answering}) < 2:
        raise UserError(
            "EnactionCallback: fewer than 2 of the prompts are answered by foreign passages, which are matched by "
            "prompt_id or messages: give passages that answer the prompts"
        )
    return answering
