"""What studies, models, stages and families may be called.

A name becomes a folder, a part of the name of a file, a word in a figure and a word in a terminal. One pattern keeps
it from being more than that: no path, no escape, no mark of direction, no formula, and no dash where two names meet.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import partial
from typing import Annotated

from pydantic import AfterValidator

from enaction.words import MEAN, WORLD

# Letters and digits of any script, `.`, `_` and single dashes; it begins and ends with a letter, a digit or `_`.
_NAME = re.compile(r"\w+(?:(?:-|\.)\w+)*")
# The file of a cell holds the names of a reader and of a text that is made of one or two models' texts: 255 bytes.
LONGEST = 48  # bytes
# Texts and rows that are no model: the world's, those of people and of everybody's memory, and a mean.
RESERVED = {WORLD: "the world's text", MEAN: "a mean", "human": "text of people", "memorised": "text known by heart"}
# How texts are called that experiments make of a model's own: `ash-rl.again`, `ash-rl.as-poet`. The plan refuses two
# texts of one name whatever they are called; this tells it in the study file, where the name is given.
_DERIVED = re.compile(
    r"\.(again|alone|anew|between|decisions|house|imitation|moved|plain|recombined|settled|shuffled"
    r"|(as|under|after|cut)-.+|(T|answers|continued|at|of|to)\d+(\.\d+)?)(?=\.|$)"
)


def require_name(name: str, what: str, *, is_reserved: bool = False, is_derived: bool = False) -> str:
    """Fail if a name cannot name this.

    Args:
        name: as the user gave it.
        what: it names, for the message: `a model`.
        is_reserved: refuse the names of what is no model too.
        is_derived: refuse the names of texts that experiments make too.

    Returns:
        The name.

    Raises:
        ValueError: it cannot; pydantic adds the key.
    """
    if not _NAME.fullmatch(name) or len(name.encode()) > LONGEST or unicodedata.normalize("NFC", name) != name:
        raise ValueError(
            f"{_shown(name)} cannot name {what}: give letters, digits, '_', and single '.' or '-' between them, "
            f"at most {LONGEST} bytes, such as '{suggestion(name)}'"
        )
    if is_reserved and name.casefold() in RESERVED:
        raise ValueError(f"'{name}' cannot name {what}: it is {RESERVED[name.casefold()]}; give another name")
    if is_derived and (derived := _DERIVED.search(name)):
        raise ValueError(
            f"'{name}' cannot name {what}: '{derived[0]}' ends the name of a text that an experiment makes; give "
            f"another name, such as '{suggestion(name.replace('.', '-'))}'"
        )
    return name


def require_models(names: Iterable[str]) -> None:
    """Fail if models cannot be called so.

    Raises:
        ValueError: a name is none, or two would share a file; pydantic adds the key.
    """
    names = [require_name(name, "a model", is_reserved=True, is_derived=True) for name in names]
    require_distinct(names, "a model")


def require_distinct(names: Iterable[str], what: str) -> None:
    """Fail if two names would share a file on some disk: many know no case, and some no order of accents.

    Raises:
        ValueError: they would; pydantic adds the key.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(folded(name), name)
        if other != name:
            raise ValueError(f"'{other}' and '{name}' cannot both name {what}: on some disks they are one file")


def folded(name: str) -> str:
    """What names share that some disk takes for one: without case, accents composed."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def suggestion(name: str) -> str:
    """The nearest name that can be given."""
    words = re.findall(r"\w+", unicodedata.normalize("NFC", name).encode(errors="ignore").decode())
    nearest = "-".join(words)
    while len(nearest.encode()) > LONGEST:
        nearest = nearest[:-1]
    return nearest.rstrip("-") or "a"


def plain(text: str) -> str:
    """Text of a user on one line of a message: what a terminal would obey, and halves of characters, as codes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _shown(name: str) -> str:
    """A name in a message, no longer than a line."""
    return f"'{plain(name)[:60]}{'...' if len(plain(name)) > 60 else ''}'"


StudyName = Annotated[str, AfterValidator(partial(require_name, what="a study"))]
StageName = Annotated[str, AfterValidator(partial(require_name, what="a stage"))]
FamilyName = Annotated[str, AfterValidator(partial(require_name, what="a family", is_reserved=True))]
