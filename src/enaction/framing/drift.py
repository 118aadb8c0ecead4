"""Drift: what would change if a model's own text were tokenised again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from enaction.framing.frames import own_ids, tokenise
from enaction.framing.slots import slot_for
from enaction.passages import Passage
from enaction.words import Framing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# How vocabularies with a fallback to bytes spell one.
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def retokenisation_drift(
    tokenizer: PreTrainedTokenizerBase, passage: Passage, framing: Framing = "assistant", *, separator: str = "\n"
) -> int | None:
    """How far a re-tokenised transcript would be from what the author wrote, in tokens; 0 means not at all.

    A token stays if re-tokenising gives the same token for the same letters. Wherever it does not, the tokens between
    two that stay are counted, on the side that has more of them. None if there are no own ids or they belong to another
    tokenizer.

    Raises:
        FramingError: as `frame`.
    """
    slot = slot_for(tokenizer, passage.prompt, framing, separator)
    own = own_ids(tokenizer, passage, slot)
    if own is None:
        return None
    again = tokenise(tokenizer, slot, passage)[1]
    return 0 if again == own.body else _differing(tokenizer, own.body, again)


def _differing(tokenizer: PreTrainedTokenizerBase, one: list[int], two: list[int]) -> int:
    spelt_one, spelt_two = (_spelt(tokenizer, ids) for ids in (one, two))
    if spelt_one is None or spelt_two is None or b"".join(spelt_one) != b"".join(spelt_two):
        # The text is not quite what the ids say (half of a character, white space that the template strips).
        return max(len(one), len(two)) - _longest_common(one, two)
    counted = between_one = between_two = 0
    i = j = at_one = at_two = 0
    # Along the letters: of the two sequences, the one that has come less far takes its next token.
    while i < len(one) or j < len(two):
        if at_one == at_two and i < len(one) and j < len(two) and one[i] == two[j]:
            counted += max(between_one, between_two)
            at_one, at_two = at_one + len(spelt_one[i]), at_two + len(spelt_two[j])
            i, j, between_one, between_two = i + 1, j + 1, 0, 0
        elif j == len(two) or (i < len(one) and at_one <= at_two):
            at_one, i, between_one = at_one + len(spelt_one[i]), i + 1, between_one + 1
        else:
            at_two, j, between_two = at_two + len(spelt_two[j]), j + 1, between_two + 1
    return counted + max(between_one, between_two)


def _spelt(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[bytes] | None:
    """Each token as the vocabulary spells it, bytes of a character that has no token as these bytes; None if one of
    them is not in the vocabulary."""
    names: list[str | None] = tokenizer.convert_ids_to_tokens(ids)  # pyright: ignore[reportAssignmentType]
    spelt = []
    for name in names:
        if name is None:
            return None
        byte = _BYTE.fullmatch(name)
        spelt.append(bytes([int(byte[1], 16)]) if byte else name.encode("utf-8", "surrogatepass"))
    return spelt


def _longest_common(one: list[int], two: list[int]) -> int:
    """Length of the longest common subsequence, a machine word at a time (Hyyro 2004, in integers without limit)."""
    places: dict[int, int] = {}
    for i, token in enumerate(one):
        places[token] = places.get(token, 0) | 1 << i
    whole = (1 << len(one)) - 1
    free = whole
    for token in two:
        held = free & places.get(token, 0)
        free = ((free + held) | (free - held)) & whole
    return len(one) - free.bit_count()
