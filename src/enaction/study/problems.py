"""What is wrong with a study, key by key, in sentences with cause and remedy."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from enaction.study.names import plain

# Kind of a problem by the beginning of pydantic's name for it -> what the value must be.
_WANTED = {
    "finite": "a finite number",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text; put it in quotes",
    "path": "the path of a file",
    "list": "a list, as in [a, b]",
    "tuple": "a list, as in [a, b]",
    "dict": "a mapping, as in {key: value}",
    "model": "a mapping, as in {key: value}",
}
_LIMITS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("greater than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


def problems_of(error: ValidationError, of: type[BaseModel]) -> str:
    """What is wrong, key by key, on one line.

    Args:
        error: of the validation.
        of: what was validated.
    """
    return "; ".join(dict.fromkeys(_sentence(dict(problem), of) for problem in error.errors()))


# No file system takes a longer name, and no model's id or word of a study is as long.
_LONGEST = 4_000  # characters
_UNUSABLE = re.compile("[\0\ud800-\udfff]")


def require_text(given: Any, place: str = "") -> None:
    """Fail if plain data holds text that neither a file's name nor a prompt can be: NUL, halves of characters, pages.

    Raises:
        ValueError: it does; the message names the key.
    """
    if isinstance(given, dict):
        for key, value in given.items():
            require_text(key, place)
            require_text(value, f"{place}.{key}" if place else str(key))
    elif isinstance(given, list):
        for value in given:
            require_text(value, place)
    elif isinstance(given, str):
        if _UNUSABLE.search(given):
            raise ValueError(f"{plain(place)}: {_shown(given)} holds a character that no file or text has: take it out")
        if len(given) > _LONGEST:
            raise ValueError(
                f"{plain(place)[:60]}: has {len(given):,} characters, and at most {_LONGEST:,} can be meant"
            )


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A question for the nearest of the names, with a blank before it; empty if none is near."""
    near = difflib.get_close_matches(name.lower(), list(names), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""


def _sentence(problem: dict[str, Any], of: type[BaseModel]) -> str:
    place, sort, given = problem["loc"], problem["type"], problem["input"]
    key = plain(".".join(str(part) for part in place if part != "[key]")) or "study"
    if sort == "extra_forbidden":
        keys = _keys_at(of, place[:-1])
        return f"{key}: there is no such key.{did_you_mean(str(place[-1]), keys)} The keys are {', '.join(keys)}"
    if sort == "missing":
        return f"{key}: this key is missing; add it"
    if sort == "value_error":
        return f"{key}: {problem['ctx']['error']}"
    if sort == "literal_error":
        allowed = problem["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        return f"{key}: there is no {_shown(given)}.{did_you_mean(str(given), allowed)} Use one of {', '.join(allowed)}"
    if place and place[-1] == "[key]":
        return f"{key}: a name must be text; put it in quotes"
    if sort == "too_short":
        return f"{key}: is empty; give at least {problem['ctx']['min_length']}, or leave the key out for the default"
    if sort in _LIMITS:
        words, bound = _LIMITS[sort]
        limit = problem["ctx"][bound]
        return (
            f"{key}: must be {words} {f'{limit:,}' if isinstance(limit, int) else f'{limit:g}'}, and is {_shown(given)}"
        )
    wanted = _WANTED.get(sort.partition("_")[0])
    if wanted is not None:
        return f"{key}: is {_shown(given)}, and must be {wanted}"
    return f"{key}: {problem['msg'][:1].lower()}{problem['msg'][1:]}, and is {_shown(given)}"


def _shown(value: object) -> str:
    """A value as YAML would hold it, short."""
    words = {True: "true", False: "false", None: "null"}
    text = words[value] if value is None or isinstance(value, bool) else plain(repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _keys_at(of: type[BaseModel], place: Sequence[str | int]) -> list[str]:
    """The keys that a place of a study may have."""
    at: Any = of
    for part in place:
        at = at.model_fields[part].annotation if _is_model(at) and part in at.model_fields else _inside(at)
        at = _model_in(at)
    return list(at.model_fields) if _is_model(at) else []


def _model_in(annotation: Any) -> Any:
    """An annotation without its metadata and without null."""
    if get_origin(annotation) is Annotated:
        return _model_in(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return next((_model_in(part) for part in get_args(annotation) if part is not types.NoneType), annotation)
    return annotation


def _inside(annotation: Any) -> Any:
    """What a mapping or list holds."""
    parts = typing.get_args(annotation)
    return parts[-1] if parts else annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
