"""Framing: how a passage is put before a reader, as token ids with the measured span marked.

The one idea: a response is located by rendering the chat template with a sentinel in it, never by searching for the
response's words. What precedes the sentinel is the context, what follows it is the end of the turn, and a response
has to come out of the template between exactly these two, whole or with its outer white space stripped.

Two paths lead to ids. A model's own text has token ids, and these are the truth: they follow the ids of the generation
prompt and are never tokenised again. Any other text is tokenised together with what precedes it, and the measured
tokens are located by character offsets. A token that straddles the boundary is measured if it contains at least
one character of the response; its context is then everything before it. Sampling and reading share this path, so that
a model reads its own text after the very ids it wrote it after.

Nothing here changes the tokenizer. A template that asks for today's date gets `TEMPLATE_DATE`, whatever the day:
otherwise the same text would be read in another context tomorrow, and own text in another one than it was written in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import SequenceMatcher
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from jinja2 import TemplateError

from enaction.errors import FramingError
from enaction.passages import Message, Passage, Prompt
from enaction.words import FRAMINGS, Framing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The date that templates of Llama 3.1 fall back on if they are given none.
TEMPLATE_DATE = datetime(2024, 7, 26)

# Closes a reasoning model's thoughts (DeepSeek R1, Qwen 3 and what follows them).
THOUGHTS_END = "</think>"

# Letters and digits only, so that no template strips, escapes or splits it.
_SENTINEL = "Enaction7f3a9c51Sentinel"


@dataclass(frozen=True)
class Framed:
    """One passage as a reader meets it.

    Attributes:
        ids: token ids from the start of the context to the last measured token.
        start: index of the first measured token; at least 1 if anything is measured, since a token without a
            predecessor has no prediction.
        stop: index after the last measured token; `ids[start:stop]` are the measured tokens.
        has_end: the last measured token is the end-of-turn token.
        skipped: response tokens left out in front because nothing predicts them: 1 if the context is empty (no
            template, no prompt, no BOS), else 0. The first measured token is number `skipped` of the response.
        is_own: the ids are the author's own, not a tokenisation of the text.
        passage_id: for error messages.
    """

    ids: tuple[int, ...]
    start: int
    stop: int
    has_end: bool
    skipped: int = 0
    is_own: bool = False
    passage_id: str = ""


@dataclass(frozen=True)
class FramedPrompt:
    """A prompt up to the point where a response is due.

    Attributes:
        ids: token ids of the context.
        end_id: the token that ends a response here, None if the tokenizer has none.
    """

    ids: tuple[int, ...]
    end_id: int | None


def frame(tokenizer: PreTrainedTokenizerBase, passage: Passage, framing: Framing, *, separator: str = "\n") -> Framed:
    """Put a passage before a reader and mark the tokens to measure.

    `assistant`: the response is the assistant's turn after the prompt; the end-of-turn token is measured too if the
    passage ended by itself. `user`: the response is part of the user's turn, after the question and `separator`.
    `none`: prompt contents joined by newlines, `separator`, response, with the special tokens that the tokenizer adds
    by itself in front; the end token is measured only if the passage was sampled in this framing and ended by itself.

    Own ids of a passage that was sampled in another framing keep their text tokens; its end token is replaced by the
    one that ends a turn here, or left out.

    Args:
        tokenizer: a fast tokenizer, the reader's.
        passage: what is read.
        framing: one of `FRAMINGS`.
        separator: between question and response in `user` and `none`.

    Raises:
        FramingError: no chat template, a template that refuses the conversation or hides the response, a tokenizer
            without character offsets, or a prompt without a user turn in `user`.
    """
    slot = _slot(tokenizer, passage.prompt, framing, separator)
    own = _own_body(tokenizer, passage, slot)
    if own is None:
        context, body = _tokenise(tokenizer, slot, passage)
    else:
        context, body = _encode(tokenizer, slot.prompt, slot.special)[0], own
    end = _end_token(tokenizer, passage, slot)
    measured = [*body] if end is None else [*body, end]
    start = len(context)
    skipped = 1 if start == 0 and measured else 0
    ids = (*context, *measured)
    has_end = end is not None and start + skipped < len(ids)
    return Framed(ids, start + skipped, len(ids), has_end, skipped, own is not None, passage.id)


def frame_prompt(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, framing: Framing, *, separator: str = "\n"
) -> FramedPrompt:
    """The ids after which a response to this prompt is sampled, by the same path that `frame` takes.

    Raises:
        FramingError: as `frame`; also `user`, where no response of the model is due, and an empty context.
    """
    if framing == "user":
        raise FramingError("cannot sample in framing user, where the turn is the user's: sample as assistant or none")
    slot = _slot(tokenizer, prompt.messages, framing, separator)
    ids = tuple(_encode(tokenizer, slot.prompt, slot.special)[0])
    if not ids:
        raise FramingError(f"prompt '{prompt.id}' gives an empty context and nothing can follow it: give it some text")
    return FramedPrompt(ids, slot.end_id)


def beginning_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, text: str, framing: Framing, *, separator: str = "\n"
) -> tuple[int, ...]:
    """Ids of the beginning of a response that is given as text, to be followed by more; see `sampling.sample`.

    Raises:
        FramingError: as `frame`; or the beginning's first token would also cover the end of the context, so that the
            response cannot begin with whole tokens.
    """
    context = frame_prompt(tokenizer, prompt, framing, separator=separator).ids
    framed = frame(
        tokenizer, Passage("", prompt.id, prompt.messages, text, "", ended=False), framing, separator=separator
    )
    if framed.ids[: framed.start] != context:
        raise FramingError(
            f"prompt '{prompt.id}': the beginning {text[:20]!r} melts into the context when they are tokenised "
            "together: begin with a letter, or use another separator"
        )
    return framed.ids[framed.start : framed.stop]


def retokenisation_drift(
    tokenizer: PreTrainedTokenizerBase, passage: Passage, framing: Framing = "assistant", *, separator: str = "\n"
) -> int | None:
    """How far a re-tokenised transcript would be from what the author wrote, in tokens; 0 means not at all.

    Aligns the author's own ids with the tokenisation of the response text in this framing and counts the tokens
    outside the matching blocks, on the side that has more of them. None if there are no own ids or they
    belong to another tokenizer.

    Raises:
        FramingError: as `frame`.
    """
    slot = _slot(tokenizer, passage.prompt, framing, separator)
    own = _own_body(tokenizer, passage, slot)
    if own is None:
        return None
    again = _tokenise(tokenizer, slot, passage)[1]
    if again == own:
        return 0
    blocks = SequenceMatcher(a=own, b=again, autojunk=False).get_opcodes()
    return sum(max(i2 - i1, j2 - j1) for tag, i1, i2, j1, j2 in blocks if tag != "equal")


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Name of what ids mean: a hash of the vocabulary and of which tokens are special.

    Which special token plays the part of BOS or EOS is left out, so that a base model and its post-trained descendants,
    which often differ in nothing else, read each other's ids. Computed once for each tokenizer object and size.
    """
    size = len(tokenizer)
    cached = _FINGERPRINTS.get(tokenizer)
    if cached is None or cached[0] != size:
        vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
        special = sorted(_special_ids(tokenizer))
        digest = hashlib.sha256(json.dumps([vocabulary, special]).encode()).hexdigest()[:16]
        cached = _FINGERPRINTS[tokenizer] = (size, digest)
    return cached[1]


_FINGERPRINTS: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[int, str]] = WeakKeyDictionary()
_SPECIAL_IDS: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[int, frozenset[int]]] = WeakKeyDictionary()


@dataclass(frozen=True)
class _Slot:
    """Where a response goes in one prompt and framing.

    Attributes:
        prompt: text after which a model writes here: the generation prompt.
        head: text before a response that is given as text. It differs from `prompt` at most by white space that the
            template puts between the generation prompt and the content (Llama 2 puts a blank).
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


def _slot(tokenizer: PreTrainedTokenizerBase, prompt: Sequence[Message], framing: Framing, separator: str) -> _Slot:
    if framing not in FRAMINGS:
        raise FramingError(f"there is no framing '{framing}': use one of {', '.join(FRAMINGS)}")
    if not tokenizer.is_fast:
        raise FramingError(
            f"{type(tokenizer).__name__} gives no character offsets; only fast tokenizers can be read: "
            "load it with AutoTokenizer, or convert it to tokenizer.json"
        )
    messages = tuple(prompt)
    if framing == "none":
        text = "\n".join(m["content"] for m in messages) + separator if messages else ""
        return _Slot(framing, messages, separator, text, text, text, "", True, _eos(tokenizer))
    probe = _render_with(tokenizer, messages, framing, separator, _SENTINEL)
    before, sentinel, after = probe.partition(_SENTINEL)
    if not sentinel or _SENTINEL in after:
        raise FramingError(
            f"the chat template does not show the {framing}'s words exactly once, so they cannot be located: "
            "use --framing none or --chat-template FILE"
        )
    if framing == "user":
        return _Slot(framing, messages, separator, before, before, before, after, False, None)
    # An empty conversation cannot be rendered (transformers refuses it): a turn after nothing follows what it follows.
    generation = render(tokenizer, messages, add_generation_prompt=True) if messages else before
    gap = before.removeprefix(generation)
    # If the template renders a finished turn differently from how it asks for one (an empty block of thoughts in
    # between, say), the generation prompt is the context: own and foreign text must follow the same one.
    head = before if before.startswith(generation) and not gap.strip() else generation
    end_id = _turn_end(tokenizer, after)
    return _Slot(framing, messages, separator, generation, head, before, after, False, end_id)


def _own_body(tokenizer: PreTrainedTokenizerBase, passage: Passage, slot: _Slot) -> list[int] | None:
    """The author's own ids without the end token; None if they mean nothing to this tokenizer."""
    if passage.token_ids is None or passage.tokenizer != tokenizer_fingerprint(tokenizer):
        return None
    ids = list(passage.token_ids)
    return ids[:-1] if _ended(passage, slot) else ids


def _ended(passage: Passage, slot: _Slot) -> bool:
    """Whether the author ended the response; if that was not recorded, whether its own ids close with the end token."""
    if passage.ended is None:
        return bool(passage.token_ids) and slot.end_id is not None and passage.token_ids[-1] == slot.end_id
    return passage.ended


def _end_token(tokenizer: PreTrainedTokenizerBase, passage: Passage, slot: _Slot) -> int | None:
    """The end token to measure, if one is: the author's own if it was sampled in this framing, else the reader's."""
    sampled_in = passage.sampling.get("framing", "assistant")
    is_own = passage.token_ids is not None and passage.tokenizer == tokenizer_fingerprint(tokenizer)
    if slot.framing == "user" or (slot.framing == "none" and sampled_in != "none"):
        return None
    if not (_ended(passage, slot) if is_own else passage.ended):
        return None
    if is_own and passage.token_ids and sampled_in == slot.framing:
        return passage.token_ids[-1]
    return slot.end_id


def _tokenise(tokenizer: PreTrainedTokenizerBase, slot: _Slot, passage: Passage) -> tuple[list[int], list[int]]:
    """Ids before the response and ids of the response, by offsets in one tokenisation of both.

    If no token straddles the boundary, the ids before it are those that a model writes after. One tokenisation may cut
    them differently (GPT-2's cuts a blank line in two as soon as a word follows it), and own and foreign text must
    follow the same ones.
    """
    response = _rendered_response(tokenizer, slot, passage)
    ids, ends = _encode(tokenizer, slot.head + response, slot.special)
    start = next((i for i, end in enumerate(ends) if end > len(slot.head)), len(ids))
    is_whole = start == 0 or ends[start - 1] >= len(slot.head)
    if is_whole and slot.head == slot.prompt:
        return _encode(tokenizer, slot.prompt, slot.special)[0], ids[start:]
    return ids[:start], ids[start:]


def _rendered_response(tokenizer: PreTrainedTokenizerBase, slot: _Slot, passage: Passage) -> str:
    response = passage.response
    if slot.framing == "none" or not response:
        return response
    text = _render_with(tokenizer, slot.messages, slot.framing, slot.separator, response)
    shown = text[len(slot.before) : len(text) - len(slot.after)]
    whole = text.startswith(slot.before) and text.endswith(slot.after)
    if whole and shown in response and shown.strip() == response.strip():
        return shown
    if slot.framing == "assistant" and THOUGHTS_END in response:
        # Templates take the thoughts out of a finished turn. This one is being written: its words are kept, as the
        # author's own ids would be.
        return response
    raise FramingError(
        f"passage '{passage.id}': the chat template does not show the response as it is (it drops or rewrites a "
        "part of it), so it cannot be located: use --framing none or --chat-template FILE"
    )


def _render_with(
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
    return render(tokenizer, (*messages[:-1], Message(role="user", content=question + response)))


def render(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, add_generation_prompt: bool = False
) -> str:
    """A conversation through the chat template, dated `TEMPLATE_DATE` if the template asks for today.

    Raises:
        FramingError: no chat template, or one that refuses these turns.
    """
    if tokenizer.chat_template is None:
        name = tokenizer.name_or_path or type(tokenizer).__name__
        raise FramingError(f"the tokenizer of {name} has no chat template: use --framing none or --chat-template FILE")
    try:
        text = tokenizer.apply_chat_template(
            [{"role": m["role"], "content": m["content"]} for m in messages],
            chat_template=_dated(tokenizer.get_chat_template()),
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
        )
    except TemplateError as err:
        roles = ", ".join(m["role"] for m in messages)
        raise FramingError(
            f"the chat template refuses the turns ({roles}): {err}; change the prompt, or use --framing none or "
            "--chat-template FILE"
        ) from err
    assert isinstance(text, str)
    return text


def opening(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the chat template puts before the words of a first user turn, with its own system prompt if it has one.

    Raises:
        FramingError: as `render`.
    """
    text = render(tokenizer, [Message(role="user", content=_SENTINEL)], add_generation_prompt=True)
    return text.partition(_SENTINEL)[0]


def template_date(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The date in this tokenizer's chat template, None if it asks for none."""
    return TEMPLATE_DATE.date().isoformat() if "strftime_now" in str(tokenizer.chat_template) else None


def _dated(template: str) -> str:
    """The template with a macro that hides transformers' `strftime_now`, which gives today."""
    if "strftime_now" not in template:
        return template
    shown = {f"%{part}": TEMPLATE_DATE.strftime(f"%{part}") for part in "YymdbBaAjHIMSp"}
    shown |= {f"%-{part}": shown[f"%{part}"].lstrip("0") for part in "md"}
    parts = "".join(f" | replace('{part}', '{value}')" for part, value in shown.items())
    return "{% macro strftime_now(format) %}{{ format" + parts + " }}{% endmacro %}" + template


def _encode(tokenizer: PreTrainedTokenizerBase, text: str, special: bool) -> tuple[list[int], list[int]]:
    """Ids of a text and the offset of the character after each, without what the tokenizer adds after a text."""
    if not text and not special:
        return [], []
    encoding = tokenizer(
        text,
        add_special_tokens=special,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_attention_mask=False,
        verbose=False,
    )
    ids: list[int] = list(encoding["input_ids"])
    added: list[int] = encoding["special_tokens_mask"]
    ends = [end for _, end in encoding["offset_mapping"]]
    # A tokenizer that closes every text with EOS would put it between a prompt and its response. The mask also marks
    # special tokens that are part of the text itself; those cover characters, the added ones do not.
    in_text = [i for i, (end, mark) in enumerate(zip(ends, added, strict=True)) if end > 0 or not mark]
    begins = 1 if ids and ids[0] == tokenizer.bos_token_id else 0
    keep = in_text[-1] + 1 if in_text else begins
    return ids[:keep], ends[:keep]


def _turn_end(tokenizer: PreTrainedTokenizerBase, after: str) -> int | None:
    """What ends an assistant's turn: the first special token after the response, else the tokenizer's EOS."""
    special, unknown = _special_ids(tokenizer), tokenizer.unk_token_id
    ends = (i for i in _encode(tokenizer, after, False)[0] if i in special and i != unknown)
    return next(ends, _eos(tokenizer))


def _eos(tokenizer: PreTrainedTokenizerBase) -> int | None:
    eos = tokenizer.eos_token_id
    return eos if isinstance(eos, int) else None


def _special_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    size = len(tokenizer)
    cached = _SPECIAL_IDS.get(tokenizer)
    if cached is None or cached[0] != size:
        marked = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        cached = _SPECIAL_IDS[tokenizer] = (size, frozenset(marked | set(tokenizer.all_special_ids)))
    return cached[1]
