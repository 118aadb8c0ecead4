"""Contexts: what may have stood before a rollout's tokens when somebody computed numbers about them.

Each is what a fault of framing puts there. A context is a prompt as token ids for each rollout, or None where the fault
changes nothing for it; `stated` is what the file says or the template makes of the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from enaction.errors import FramingError, PassageError
from enaction.passages import Message, Prompt
from enaction.rollouts import Rollout

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Context:
    """What stands before the tokens of each rollout.

    Attributes:
        name: of the fault that puts it there; `stated` for none.
        says: what is so, a clause.
        remedy: what to do about it.
        prompts: ids for each rollout; None where the fault changes nothing for it.
        responses: ids of the answer itself where the fault changes these, else None.
    """

    name: str
    says: str
    remedy: str
    prompts: tuple[Ids | None, ...]
    responses: tuple[Ids | None, ...] | None = None

    @property
    def n_changed(self) -> int:
        """Rollouts for which it differs from what is stated."""
        return sum(ids is not None for ids in self.prompts)


def contexts_of(tokenizer: PreTrainedTokenizerBase, rollouts: Sequence[Rollout]) -> list[Context]:
    """All contexts in which these rollouts are read, the stated one first; those that change nothing are left out.

    Raises:
        PassageError: a rollout without token ids, or without both prompt and prompt ids.
        FramingError: the template refuses a prompt.
    """
    stated = tuple(_stated(tokenizer, rollout) for rollout in rollouts)
    made = [Context("stated", "the numbers are those of the stated context", "", stated)]

    def add(name: str, says: str, remedy: str, change: Callable[[Rollout, Ids], Ids | None]) -> None:
        prompts = []
        for rollout, ids in zip(rollouts, stated, strict=True):
            try:
                changed = change(rollout, ids)
            except FramingError:  # this template cannot make that mistake
                changed = None
            prompts.append(None if changed == ids or not changed else changed)
        if any(prompts):
            made.append(Context(name, says, remedy, tuple(prompts)))

    bos = tokenizer.bos_token_id if isinstance(tokenizer.bos_token_id, int) else None
    template = "render the prompt with the model's chat template, or keep the sampler's `prompt_token_ids`"
    add(
        "no template",
        "the prompt was put before the model without its chat template",
        template,
        lambda rollout, _: _framed(tokenizer, rollout.prompt, "none"),
    )
    add(
        "another template",
        "the prompt was rendered by the model's own template, and the sampler's prompt ids are not that",
        "give sampler and trainer one template; or train on the sampler's `prompt_token_ids`",
        lambda rollout, _: rollout.prompt_ids and _framed(tokenizer, rollout.prompt, "assistant"),
    )
    add(
        "generation prompt left out",
        "the header of the assistant's turn does not stand before the answer",
        "render the prompt with `add_generation_prompt=True`",
        lambda rollout, ids: _without_header(tokenizer, rollout, ids),
    )
    add(
        "system prompt left out",
        "the system prompt does not stand before the answer",
        "hand the whole conversation to the template on both sides",
        lambda rollout, _: _without_system(tokenizer, rollout.prompt),
    )
    add(
        "prompt left out",
        "the answer was read by itself, without its prompt",
        "put prompt and answer together before the forward pass",
        lambda _, __: None if bos is None else (bos,),
    )
    add(
        "BOS left out",
        "the token that begins a text is missing",
        "tokenise what the template gives with `add_special_tokens=False` once it holds BOS, else with BOS",
        lambda _, ids: ids[1:] if ids[0] == bos else None,
    )
    add(
        "BOS doubled",
        "the token that begins a text stands there twice",
        "tokenise what the template gives with `add_special_tokens=False`: it holds BOS",
        lambda _, ids: (bos, *ids) if bos is not None and ids[0] == bos else None,
    )
    again = tuple(_tokenised_again(tokenizer, rollout) for rollout in rollouts)
    if any(again):
        made.append(
            Context(
                "re-tokenised",
                "the numbers are those of the text tokenised again, which gives other ids",
                "hand over the sampler's token ids, not its text",
                stated,
                again,
            )
        )
    return made


def _stated(tokenizer: PreTrainedTokenizerBase, rollout: Rollout) -> Ids:
    if rollout.token_ids is None:
        raise PassageError(
            f"rollout '{rollout.id}' has no token ids, and a model reads ids: have the sampler keep them (token_ids), "
            "name their column with --column token_ids=NAME, or leave --model out to compare the columns alone"
        )
    if rollout.prompt_ids:
        return rollout.prompt_ids
    if not rollout.prompt:
        raise PassageError(
            f"rollout '{rollout.id}' has neither a prompt nor prompt ids, so the model cannot be asked: name them with "
            "--column prompt_ids=NAME, or leave --model out to compare the columns alone"
        )
    framing = "none" if tokenizer.chat_template is None else "assistant"
    return _framed(tokenizer, rollout.prompt, framing) or ()


def _framed(tokenizer: PreTrainedTokenizerBase, prompt: tuple[Message, ...] | None, framing: str) -> Ids | None:
    from enaction.framing import frame_prompt

    if not prompt:
        return None
    return frame_prompt(tokenizer, Prompt("", prompt), "none" if framing == "none" else "assistant").ids


def _without_system(tokenizer: PreTrainedTokenizerBase, prompt: tuple[Message, ...] | None) -> Ids | None:
    left = tuple(m for m in prompt or () if m["role"] != "system")
    return _framed(tokenizer, left, "assistant") if prompt and len(left) < len(prompt) else None


def _without_header(tokenizer: PreTrainedTokenizerBase, rollout: Rollout, ids: Ids) -> Ids | None:
    """What the template renders without the generation prompt, where that is a beginning of the stated context."""
    from enaction.framing import render

    if not rollout.prompt:
        return None
    text = render(tokenizer, rollout.prompt)
    bare = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    return bare if len(bare) < len(ids) and ids[: len(bare)] == bare else None


def _tokenised_again(tokenizer: PreTrainedTokenizerBase, rollout: Rollout) -> Ids | None:
    """The answer's ids from its decoded text, as many as there were; None if they are the same."""
    ids = rollout.token_ids or ()
    text = tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    again = tuple(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    return again if again and again != ids else None
