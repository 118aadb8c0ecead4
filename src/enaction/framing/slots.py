"""Where a response goes: what the chat template puts before and after it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from enaction.errors import FramingError
from enaction.framing import template
from enaction.framing.ids import added_token, encode, eos, special_ids
from enaction.framing.template import SENTINEL, render, require_all_shown
from enaction.passages import Message, Passage, worded_extras
from enaction.words import FRAMINGS, Framing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Tags around a reasoning model's thoughts: <think>, <seed:think>, <|START_THINKING|>, [THINK] and the like.
_TAG = r"[<\[][^<>\[\]\s]*(?:think|thought|reason)[^<>\[\]\s]*[>\]]"
_EMPTY_THOUGHTS = re.compile(rf"{_TAG}\s*{_TAG}\s*\Z", re.IGNORECASE)
_THOUGHTS_OPEN = re.compile(rf"(?!\S*(?:/|END)){_TAG}\s*\Z", re.IGNORECASE)
_THOUGHTS_CLOSE = re.compile(r"[<\[](?:/|\|END_)[^<>\[\]\s]*(?:think|thought|reason)[^<>\[\]\s]*[>\]]", re.IGNORECASE)
_CLOSING_TAG = re.compile(r"[<\[]/\w+[>\]]\Z")


@dataclass(frozen=True)
class Slot:
    """Where a response goes in one prompt and framing.

    Attributes:
        framing: of the passage.
        messages: the prompt.
        separator: between question and response in `user` and `none`.
        prompt: text after which a model writes here: the generation prompt.
        head: text before a response that is given as text. It differs from `prompt` by white space that the template
            puts between the generation prompt and the content (Llama 2 puts a blank), and by words that it puts there
            (the channel of gpt-oss), but for an empty block of thoughts.
        before, after: what the template renders around the content of a finished turn.
        special: whether the tokenizer adds its own special tokens; never if a template has put them already.
        end_id: the token that ends a turn here.
    """

    framing: Framing
    messages: tuple[Message, ...]
    separator: str
    prompt: str
    head: str
    before: str
    after: str
    special: bool
    end_id: int | None


@dataclass(frozen=True)
class Habits:
    """What a chat template does around a response, for a person to see.

    Attributes:
        adds: words between the generation prompt and a finished turn's content, before which text that others wrote is
            read: a header that the generation prompt lacks, or a channel.
        drops: an empty block of thoughts that a finished turn has and nothing is read after.
        opens_thoughts: the generation prompt opens the thoughts, so that text of others is read as thoughts.
        has_header: the template heeds `add_generation_prompt`, or needs none.
        closes_with: what follows the content.
    """

    adds: str
    drops: str
    opens_thoughts: bool
    has_header: bool
    closes_with: str


def slot_for(tokenizer: PreTrainedTokenizerBase, prompt: Sequence[Message], framing: Framing, separator: str) -> Slot:
    """Where a response to this prompt goes; asked again for the same prompt, as for its next response, it is kept.

    Raises:
        FramingError: as `frames.frame`.
    """
    messages = tuple(m.copy() for m in prompt)  # a copy, since a kept slot must not change with them
    marks = (str(tokenizer.chat_template), template.TEMPLATE_DATE, len(tokenizer), tokenizer.eos_token_id)
    key = (messages, framing, separator, *marks)
    kept = _LAST.get(tokenizer)
    if kept is None or kept[0] != key:
        kept = _LAST[tokenizer] = (key, _slot(tokenizer, messages, framing, separator))
    return kept[1]


_LAST: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[tuple, Slot]] = WeakKeyDictionary()


def _slot(tokenizer: PreTrainedTokenizerBase, messages: tuple[Message, ...], framing: Framing, separator: str) -> Slot:
    if framing not in FRAMINGS:
        raise FramingError(f"there is no framing '{framing}': use one of {', '.join(FRAMINGS)}")
    if not tokenizer.is_fast:
        raise FramingError(
            f"{type(tokenizer).__name__} gives no character offsets; only fast tokenizers can be read: "
            "load it with AutoTokenizer, or convert it to tokenizer.json"
        )
    if framing == "none":
        _require_plain(messages)
        text = "\n".join(m["content"] for m in messages) + separator if messages else ""
        return Slot(framing, messages, separator, text, text, text, "", True, eos(tokenizer))
    if framing == "assistant" and messages and messages[-1]["role"] == "assistant":
        raise FramingError(
            "the prompt ends with a turn of the assistant, so that no response is due: take the turn out of the prompt "
            "(as the response, if it is the one to read), or use --framing none"
        )
    probe = render_with(tokenizer, messages, framing, separator, SENTINEL)
    before, sentinel, after = probe.partition(SENTINEL)
    if not sentinel or SENTINEL in after:
        raise FramingError(
            f"the chat template does not show the {framing}'s words exactly once, so they cannot be located: "
            "use --framing none or --chat-template FILE"
        )
    if messages:
        require_all_shown(tokenizer, messages, generation=framing == "assistant")
    if framing == "user":
        return Slot(framing, messages, separator, before, before, before, after, False, None)
    # An empty conversation cannot be rendered (transformers refuses it): a turn after nothing follows what it follows.
    generation = render(tokenizer, messages, add_generation_prompt=True) if messages else before
    head = _head(generation, before)
    if _words(head, generation) and render(tokenizer, messages).startswith(generation):
        # The template has no generation prompt. A model that it was trained with wrote after the header of a turn.
        generation = head
    return Slot(framing, messages, separator, generation, head, before, after, False, _turn_end(tokenizer, after))


def template_habits(tokenizer: PreTrainedTokenizerBase) -> Habits:
    """What this tokenizer's chat template does around a response to a lone user message.

    Raises:
        FramingError: as `slot_for`.
    """
    messages = (Message(role="user", content="?"),)
    slot = slot_for(tokenizer, messages, "assistant", "\n")
    generation = render(tokenizer, messages, add_generation_prompt=True)
    _, dropped = _common(slot.head, slot.before)
    return Habits(
        adds=_words(slot.head, generation),
        drops=dropped.strip(),
        opens_thoughts=_THOUGHTS_OPEN.search(slot.head) is not None,
        has_header=slot.prompt == generation,
        closes_with=slot.after,
    )


def located(tokenizer: PreTrainedTokenizerBase, slot: Slot, passage: Passage) -> tuple[str, str]:
    """The text before a response that is given as text, and the response as the template shows it.

    Raises:
        FramingError: the template drops or rewrites a part of the response.
    """
    response = passage.response
    if slot.framing == "none" or not response:
        return slot.head, response
    head = slot.head
    if slot.framing == "assistant":
        added = _words(head, slot.prompt)
        # Thoughts follow the generation prompt, and so does a response that brings the template's words itself.
        if _THOUGHTS_CLOSE.search(response) or (added and response.lstrip().startswith(added)):
            head = slot.prompt
    text = render_with(tokenizer, slot.messages, slot.framing, slot.separator, response)
    shown = text[len(slot.before) : len(text) - len(slot.after)]
    whole = text.startswith(slot.before) and text.endswith(slot.after)
    if whole and shown in response and shown.strip() == response.strip():
        return head, shown
    if slot.framing == "assistant" and _THOUGHTS_CLOSE.search(response):
        # Templates take the thoughts out of a finished turn. This one is being written: its words are kept, as the
        # author's own ids would be.
        return head, response
    raise FramingError(
        f"passage '{passage.id}': the chat template does not show the response as it is (it drops or rewrites a "
        "part of it), so it cannot be located: use --framing none or --chat-template FILE"
    )


def render_with(
    tokenizer: PreTrainedTokenizerBase, messages: tuple[Message, ...], framing: Framing, separator: str, response: str
) -> str:
    """The whole conversation with a response in it."""
    if framing == "assistant":
        return render(tokenizer, (*messages, Message(role="assistant", content=response)))
    if messages and messages[-1]["role"] != "user":
        raise FramingError(
            f"the prompt ends with a turn of '{messages[-1]['role']}', so there is no user's turn to put the response "
            "in: use another framing, or end the prompt with a user message"
        )
    question = messages[-1]["content"] + separator if messages else ""
    last = Message(role="user", content=question + response)
    return render(tokenizer, (*messages[:-1], {**messages[-1], **last} if messages else last))


def _head(generation: str, before: str) -> str:
    """The text before a response that is given as text, from the generation prompt and a finished turn's beginning."""
    asked, shown = _common(generation, before)
    block = _EMPTY_THOUGHTS.search(shown)
    kept = shown[: block.start()] if block else shown
    if not kept.strip() and (block or asked):
        # An empty block of thoughts is left out, and white space that the prompt has otherwise: own and foreign text
        # follow the same prompt.
        return generation
    return before[: len(before) - len(shown)] + kept


def _common(one: str, other: str) -> tuple[str, str]:
    """What each has after their common beginning."""
    if other.startswith(one):
        return "", other[len(one) :]
    length = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(other))
    return one[length:], other[length:]


def _words(head: str, generation: str) -> str:
    """Words that a head has and a generation prompt has not."""
    return _common(generation, head)[1].strip()


def _require_plain(messages: tuple[Message, ...]) -> None:
    for number, message in enumerate(messages, start=1):
        extras = worded_extras(message)
        if extras:
            raise FramingError(
                f"message {number} of the prompt has '{extras[0]}', and framing none shows contents alone: take it "
                "out, or use --framing assistant"
            )


def _turn_end(tokenizer: PreTrainedTokenizerBase, after: str) -> int | None:
    """What ends an assistant's turn, from what follows its content.

    The first special token, or a token before it that was added without being marked special (a fine-tune's
    `<|im_end|>`), unless that is a tag that closes something inside the turn. Else the tokenizer's EOS.
    """
    for token in encode(tokenizer, after, special=False).ids:
        if token == tokenizer.unk_token_id:
            continue
        if token in special_ids(tokenizer):
            return token
        text = added_token(tokenizer, token)
        if text is not None and not _CLOSING_TAG.match(text):
            return token
    return eos(tokenizer)
