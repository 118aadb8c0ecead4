"""From text to token ids, and what ids mean."""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from enaction.errors import FramingError
from enaction.framing.limits import PanicError, panics_caught

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Of so many tokens added at the end of a vocabulary it is tried whether another tokenizer lacks them.
MOST_ADDED = 64


@dataclass(frozen=True)
class Encoded:
    """A text as token ids.

    Attributes:
        ids: of the tokens.
        begins, ends: offsets of each token's first character and of the one after its last; white space that a special
            token swallows is part of it.
    """

    ids: list[int]
    begins: list[int]
    ends: list[int]


def encode(tokenizer: PreTrainedTokenizerBase, text: str, special: bool) -> Encoded:
    """Ids of a text, without what the tokenizer adds after a text, and with one BOS where the text begins with one.

    Args:
        tokenizer: a fast tokenizer.
        text: may be empty.
        special: whether the tokenizer puts its own special tokens in front.

    Raises:
        FramingError: a text that is no Unicode, or that the tokenizer gives up on.
    """
    if not text and not special:
        return Encoded([], [], [])
    try:
        with panics_caught(are_likely=_may_panic(tokenizer)):
            encoding = tokenizer(
                text,
                add_special_tokens=special,
                return_offsets_mapping=True,
                return_special_tokens_mask=True,
                return_attention_mask=False,
                verbose=False,
            )
    except PanicError as error:
        raise FramingError(
            f"the tokenizer gives up on a text ({str(error).splitlines()[0]}): an expression in its tokenizer.json "
            "takes for ever; correct it, or leave the text out"
        ) from None
    except TypeError as error:  # what the tokenizers' library raises for half of a surrogate pair
        raise FramingError(
            "a text holds half of a character (a lone surrogate): write it whole, or as \\ufffd"
        ) from error
    ids: list[int] = list(encoding["input_ids"])
    added: list[int] = encoding["special_tokens_mask"]
    offsets: list[tuple[int, int]] = encoding["offset_mapping"]
    # A tokenizer that closes every text with EOS would put it between a prompt and its response. The mask also marks
    # special tokens that are part of the text itself; those cover characters, the added ones do not.
    in_text = [i for i, ((_, end), mark) in enumerate(zip(offsets, added, strict=True)) if end > 0 or not mark]
    front = in_text[0] if in_text else int(bool(ids) and ids[0] == tokenizer.bos_token_id)
    keep = in_text[-1] + 1 if in_text else front
    # A text that begins with BOS itself (a prompt exported with its special tokens) gets no second one.
    first = front if ids[:front] == ids[front : 2 * front] else 0
    return Encoded(ids[first:keep], [b for b, _ in offsets[first:keep]], [e for _, e in offsets[first:keep]])


# A group that repeats and is repeated, as in `(a+)+`: the usual cause of an endless search.
_NESTED = re.compile(r"[+*}]\)[+*{]")
_MAY_PANIC: WeakKeyDictionary[PreTrainedTokenizerBase, bool] = WeakKeyDictionary()


def _may_panic(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether an expression of the tokenizer can take for ever; the library panics then."""
    if tokenizer not in _MAY_PANIC:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        parts = (getattr(backend, "normalizer", None), getattr(backend, "pre_tokenizer", None))
        states = [part.__getstate__() for part in parts if part is not None]
        _MAY_PANIC[tokenizer] = any(isinstance(s, bytes) and _NESTED.search(s.decode()) for s in states)
    return _MAY_PANIC[tokenizer]


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Name of what ids mean: a hash of the vocabulary and of which tokens are special.

    Which special token plays the part of BOS or EOS is left out, so that a base model and its post-trained descendants,
    which often differ in nothing else, read each other's ids; and so is a padding token at the end of the vocabulary,
    which training libraries add and no text holds. Computed once for each tokenizer object and size.
    """
    return _known(tokenizer).fingerprint


def knows_ids_of(tokenizer: PreTrainedTokenizerBase, fingerprint: str) -> bool:
    """Whether ids that were recorded under this fingerprint mean the same to the tokenizer.

    Its own, and those of a tokenizer from which it differs by nothing but tokens added at the end.
    """
    return fingerprint in _known(tokenizer).readable


def special_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Tokens that are marked special."""
    return _known(tokenizer).special


def added_token(tokenizer: PreTrainedTokenizerBase, token: int) -> str | None:
    """The text of a token that was added to the vocabulary as a whole; None for an ordinary one or white space.

    Some tokenizers add runs of blanks, which are text like any other.
    """
    return _known(tokenizer).added.get(token)


def swallows_before(tokenizer: PreTrainedTokenizerBase, token: int) -> bool:
    """Whether a token takes the white space before it, so that a text that it ends has none there."""
    added = tokenizer.added_tokens_decoder.get(token) if added_token(tokenizer, token) else None
    return added is not None and added.lstrip


def eos(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that the tokenizer ends a text with, if it has one."""
    token = tokenizer.eos_token_id
    return token if isinstance(token, int) else None


@dataclass(frozen=True)
class _Known:
    """What is looked up about a tokenizer, at one size of its vocabulary."""

    size: int
    fingerprint: str
    readable: frozenset[str]
    special: frozenset[int]
    added: dict[int, str]


_KNOWN: WeakKeyDictionary[PreTrainedTokenizerBase, _Known] = WeakKeyDictionary()


def _known(tokenizer: PreTrainedTokenizerBase) -> _Known:
    size = len(tokenizer)
    known = _KNOWN.get(tokenizer)
    if known is None or known.size != size:
        decoder = tokenizer.added_tokens_decoder
        special = frozenset({i for i, token in decoder.items() if token.special} | set(tokenizer.all_special_ids))
        whole = {i: token.content for i, token in decoder.items()} | dict(
            zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True)
        )
        added = {i: content for i, content in whole.items() if content.strip()}
        fingerprint, readable = _fingerprints(tokenizer, special)
        known = _KNOWN[tokenizer] = _Known(size, fingerprint, readable, special, added)
    return known


def _fingerprints(tokenizer: PreTrainedTokenizerBase, special: frozenset[int]) -> tuple[str, frozenset[str]]:
    """The tokenizer's own fingerprint, and those of the tokenizers that it continues.

    Of each beginning of the vocabulary that only added tokens follow, the hash of its JSON is the fingerprint.
    """
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    added, marked = tokenizer.added_tokens_decoder, sorted(special)
    whole = shortest = len(vocabulary)
    while shortest > max(1, whole - MOST_ADDED) and vocabulary[shortest - 1][1] in added:
        shortest -= 1
    running = hashlib.sha256(b"[[" + ", ".join(json.dumps(entry) for entry in vocabulary[:shortest]).encode())
    digests: dict[int, str] = {}
    for length in range(shortest, whole + 1):
        last = vocabulary[length - 1]
        if length > shortest:
            running.update(f", {json.dumps(last)}".encode())
        here = running.copy()
        here.update(
            f"], {json.dumps(marked if length == whole else marked[: bisect_right(marked, last[1])])}]".encode()
        )
        digests[length] = here.hexdigest()[:16]
    parts = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id)
    pad = tokenizer.pad_token_id
    ends_in_pad = whole > shortest and vocabulary[-1][1] == pad and pad not in parts
    return digests[whole - 1 if ends_in_pad else whole], frozenset(digests.values())
