"""The tokenizer of a server's model: found here, and held against what the server itself does with text and ids."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from enaction.endpoint.client import Client
from enaction.errors import ModelError
from enaction.reader.sources import find
from enaction.reader.sources.folder import Folder
from enaction.reader.sources.hub import Hub
from enaction.reader.sources.source import first_line
from enaction.reader.sources.zoo import Zoo

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REMEDY = "give the model's own with --tokenizer (a folder, a hub id or zoo:NAME)"
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# Words, digits, white space, several scripts: what tokenizers cut in different ways.
_TRIAL = "Once upon a time, 27 naïve foxes\n\tran to the river; 日本 🙂 a story"
# Of the tokens that a server names, this share may be spelt otherwise: servers show white space and halves of
# characters in ways of their own.
_SPELT_OTHERWISE = 0.5


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, a hub id or a model of the zoo.

    Raises:
        ModelError: there is none of this name.
    """
    source = find(name)
    weights = source.weights if isinstance(source, Zoo) else source
    if not isinstance(weights, Folder | Hub):
        raise ModelError(f"--tokenizer {name}: no tokenizer can be taken from {source.kind} alone; {REMEDY}")
    if isinstance(weights, Hub):
        weights.require()
    elif not Path(weights.location).is_dir():
        raise ModelError(f"--tokenizer {name}: there is no such folder; {REMEDY}")
    from transformers import AutoTokenizer

    from enaction.reader.quiet import quiet

    options = {"revision": weights.revision} if weights.revision is not None else {}
    try:
        with quiet():
            return AutoTokenizer.from_pretrained(weights.location, **options)
    except Exception as error:  # whatever a missing or broken file sets off in the libraries that read it
        raise ModelError(f"cannot load the tokenizer {name}: {first_line(error)} ({REMEDY})") from error


def likely_tokenizer(model: str) -> str:
    """The name of a tokenizer that a model's name on a server suggests: servers call models by hub id or folder.

    Raises:
        ModelError: it suggests none.
    """
    if _HUB.fullmatch(model) or Path(model).is_dir():
        return model
    raise ModelError(f"which tokenizer {model} has is not known here: {REMEDY}")


def trial_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of a short text, by which a server is tried."""
    return list(tokenizer(_TRIAL, add_special_tokens=False)["input_ids"])


def is_checked(client: Client, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the server cuts a text as the tokenizer does; False if it offers no way to ask (vLLM's /tokenize).

    Raises:
        ModelError: it cuts the text otherwise.
    """
    payload = {"model": client.address.model, "prompt": _TRIAL, "add_special_tokens": False}
    answer = client.ask("/tokenize", payload)
    theirs = answer.get("tokens") if isinstance(answer, dict) else None
    if not isinstance(theirs, list):
        return False
    if theirs != trial_ids(tokenizer):
        raise ModelError(
            f"the tokenizer is not that of {client.address.model}: the server cuts a text into other tokens; {REMEDY}"
        )
    return True


def require_same_words(tokenizer: PreTrainedTokenizerBase, named: list[tuple[int, str]], model: str) -> None:
    """Fail where the words by which a server calls ids are not the tokenizer's.

    Args:
        tokenizer: that the ids are from.
        named: ids, each with what the server calls it.
        model: for the message.

    Raises:
        ModelError: most of the words are others.
    """
    others = [(i, word) for i, word in named if not _same(tokenizer, i, word)]
    if len(others) > _SPELT_OTHERWISE * len(named):
        i, word = others[0]
        raise ModelError(
            f"the tokenizer is not that of {model}: token {i} is {word[:20]!r} there and "
            f"{str(tokenizer.decode([i]))[:20]!r} here; {REMEDY}"
        )


def _same(tokenizer: PreTrainedTokenizerBase, token: int, word: str) -> bool:
    own = str(tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False))
    return word.strip() == own.strip() or word == tokenizer.convert_ids_to_tokens(token)
