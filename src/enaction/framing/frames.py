"""Passages and prompts as token ids, with the measured span marked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from enaction.errors import FramingError
from enaction.framing.ids import added_token, encode, eos, knows_ids_of, swallows_before
from enaction.framing.slots import Slot, located, slot_for
from enaction.passages import Passage, Prompt
from enaction.words import Framing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
        ends: of a text that was tokenised here, for each token of the response, a skipped one too and without the
            end-of-turn token: the number of the response's characters up to and including it. None for own ids.
    """

    ids: tuple[int, ...]
    start: int
    stop: int
    has_end: bool
    skipped: int = 0
    is_own: bool = False
    passage_id: str = ""
    ends: tuple[int, ...] | None = None


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
    slot = slot_for(tokenizer, passage.prompt, framing, separator)
    own = own_ids(tokenizer, passage, slot)
    end = _end_token(passage, slot, own)
    if own is not None:
        context, body, ends = encode(tokenizer, slot.prompt, slot.special).ids, own.body, None
    else:
        if end is not None and swallows_before(tokenizer, end):
            passage = replace(passage, response=passage.response.rstrip())
        context, body, ends = tokenise(tokenizer, slot, passage)
        if body and body[-1] == slot.end_id and passage.ended is not False and framing == "assistant":
            # The text was exported with its end token.
            body, ends, end = body[:-1], ends[:-1], slot.end_id
    measured = [*body] if end is None else [*body, end]
    start = len(context)
    skipped = 1 if start == 0 and measured else 0
    ids = (*context, *measured)
    has_end = end is not None and start + skipped < len(ids)
    ends = None if ends is None else tuple(ends)
    return Framed(ids, start + skipped, len(ids), has_end, skipped, own is not None, passage.id, ends)


def frame_prompt(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, framing: Framing, *, separator: str = "\n"
) -> FramedPrompt:
    """The ids after which a response to this prompt is sampled, by the same path that `frame` takes.

    Raises:
        FramingError: as `frame`; also `user`, where no response of the model is due, and an empty context.
    """
    if framing == "user":
        raise FramingError("cannot sample in framing user, where the turn is the user's: sample as assistant or none")
    slot = slot_for(tokenizer, prompt.messages, framing, separator)
    ids = tuple(encode(tokenizer, slot.prompt, slot.special).ids)
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
    expected = frame_prompt(tokenizer, prompt, framing, separator=separator).ids
    slot = slot_for(tokenizer, prompt.messages, framing, separator)
    # The model is to go on from it, so it follows the generation prompt whatever a finished turn has in between.
    beginning = Passage("", prompt.id, prompt.messages, text, "", ended=False)
    context, body, _ = tokenise(tokenizer, replace(slot, head=slot.prompt), beginning)
    if tuple(context) != expected:
        raise FramingError(
            f"prompt '{prompt.id}': the beginning {text[:20]!r} melts into the context when they are tokenised "
            "together: begin with a letter, or use another separator"
        )
    return tuple(body)


@dataclass(frozen=True)
class OwnIds:
    """What an author wrote, by its own ids.

    Attributes:
        body: the text tokens.
        end: the token that ended the response, if the ids hold it.
    """

    body: list[int]
    end: int | None


def own_ids(tokenizer: PreTrainedTokenizerBase, passage: Passage, slot: Slot) -> OwnIds | None:
    """The author's own ids; None if there are none, or if they mean nothing to this tokenizer.

    Raises:
        FramingError: ids without the fingerprint of their tokenizer.
    """
    if passage.token_ids is None:
        return None
    if passage.tokenizer is None:
        raise FramingError(
            f"passage '{passage.id}' has token_ids and does not say of which tokenizer: set 'tokenizer' to the "
            "fingerprint that `enaction sample` writes (Reader.fingerprint), or leave token_ids out"
        )
    if not knows_ids_of(tokenizer, passage.tokenizer):
        return None
    ids = list(passage.token_ids)
    return OwnIds(ids[:-1], ids[-1]) if ids and _is_end(tokenizer, passage, slot, ids) else OwnIds(ids, None)


def tokenise(
    tokenizer: PreTrainedTokenizerBase, slot: Slot, passage: Passage
) -> tuple[list[int], list[int], list[int]]:
    """Ids before the response, ids of the response and where in it they end, by offsets in one tokenisation of both.

    If no token straddles the boundary, the ids before it are those that a model writes after. One tokenisation may cut
    them differently (GPT-2's cuts a blank line in two as soon as a word follows it), and own and foreign text must
    follow the same ones.
    """
    head, response = located(tokenizer, slot, passage)
    text = head + response
    found = encode(tokenizer, text, slot.special)
    start = next((i for i, end in enumerate(found.ends) if end > len(head)), len(found.ids))
    is_swallowed = False
    if start < len(found.ids) and found.begins[start] < len(head):
        beyond = text[len(head) : found.ends[start]]
        if not beyond.strip() and added_token(tokenizer, found.ids[start]) is not None:
            # A token of the template that swallows white space (`<|assistant|>` of Phi 3): the words begin after it.
            start, is_swallowed = start + 1, True
    before = len(head) - passage.response.index(response)  # the template may take white space off a response
    body, ends = found.ids[start:], [end - before for end in found.ends[start:]]
    is_whole = not is_swallowed and (start == 0 or found.ends[start - 1] >= len(head))
    if is_whole and head == slot.prompt:
        return encode(tokenizer, slot.prompt, slot.special).ids, body, ends
    return found.ids[:start], body, ends


def _is_end(tokenizer: PreTrainedTokenizerBase, passage: Passage, slot: Slot, ids: list[int]) -> bool:
    """Whether the last of its own ids ended the response, rather than being a part of it.

    `ended` alone does not tell: some engines leave the token out that ended a response, and some end with another one
    than the template's.
    """
    last = ids[-1]
    if passage.ended is False:
        return False
    if last in (slot.end_id, eos(tokenizer)):
        return True
    added = added_token(tokenizer, last)
    if added is not None:
        return not passage.response.endswith(added)
    # A model can be told to stop at an ordinary token, which its text then lacks.
    return passage.ended is True and _text(tokenizer, ids) != passage.response == _text(tokenizer, ids[:-1])


def _text(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _end_token(passage: Passage, slot: Slot, own: OwnIds | None) -> int | None:
    """The end token to measure, if one is: the author's own if it was sampled in this framing, else the reader's."""
    sampled_in = passage.sampling.get("framing", "assistant")
    if slot.framing == "user" or (slot.framing == "none" and sampled_in != "none"):
        return None
    if own is not None and own.end is not None:
        return own.end if sampled_in == slot.framing else slot.end_id
    return slot.end_id if passage.ended else None
