"""Lists of a row as token ids, masks and log-probabilities, or one line that says which entry is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from enaction.errors import PassageError
from enaction.passages.rows import kind


def ids_of(values: Any, name: str, where: str) -> tuple[int, ...]:
    """Token ids.

    Raises:
        PassageError: no list of whole numbers from 0 to 2^31.
    """
    listed = _list(values, name, where)
    if set(map(type, listed)) == {int} and min(listed) >= 0 and max(listed) < 2**31:
        return tuple(listed)
    for number, value in enumerate(listed):
        # bool is an int to Python and no token id; hence the exact type.
        if type(value) is not int or not 0 <= value < 2**31:
            raise PassageError(
                f"{where}: '{name}' must hold token ids (whole numbers from 0), and entry {number} is "
                f"{_shown(value)}; correct it or take the row out"
            )
    return tuple(listed)


def floats_of(values: Any, name: str, where: str, may_be_nan: np.ndarray | None = None) -> np.ndarray:
    """Numbers [N], nats, NaN for null.

    Args:
        values: a list of numbers and nulls.
        name: of the column.
        where: the row is.
        may_be_nan: bool [N], entries of which NaN and infinities are no fault, since nobody counts them.

    Raises:
        PassageError: an entry is no number, or is not finite.
    """
    listed = _list(values, name, where)
    if set(map(type, listed)) == {float} and np.isfinite(array := np.array(listed)).all():
        return array
    array = np.full(len(listed), np.nan)
    for number, value in enumerate(listed):
        if value is None:
            continue
        try:
            array[number] = value if type(value) in (int, float) else math.nan
        except OverflowError:  # a whole number of more than 308 digits
            array[number] = math.inf
        if not math.isfinite(array[number]):
            if type(value) is float and may_be_nan is not None and number < len(may_be_nan) and may_be_nan[number]:
                array[number] = np.nan
                continue
            raise PassageError(
                f"{where}: '{name}' must hold finite numbers, and entry {number} is {_shown(value)}; write null for "
                "a token without one, or take the row out"
            )
    return array


def mask_of(values: Any, name: str, where: str) -> np.ndarray:
    """A mask, bool [N], of a list of booleans or of the numbers 0 and 1.

    Raises:
        PassageError: an entry is neither.
    """
    listed = _list(values, name, where)
    if set(map(type, listed)) in ({int}, {bool}) and set(listed) <= {0, 1}:
        return np.array(listed, dtype=bool)
    for number, value in enumerate(listed):
        if type(value) not in (bool, int, float) or value not in (0, 1):
            raise PassageError(
                f"{where}: '{name}' must hold 0 and 1, or false and true, and entry {number} is {_shown(value)}; "
                "correct it, or name the mask with --column mask=NAME"
            )
    return np.array([bool(value) for value in listed], dtype=bool)


def setting_of(value: Any, name: str, where: str, low: float, high: float) -> float | None:
    """A sampling setting between two bounds, both included; None for null.

    Raises:
        PassageError: another kind or out of bounds.
    """
    if value is None:
        return None
    try:
        number = float(value) if type(value) in (int, float) else math.nan
    except OverflowError:
        number = math.inf
    if not low <= number <= high:
        raise PassageError(
            f"{where}: '{name}' is {_shown(value)} and must be a number from {low:g} to {high:g}; correct it or "
            "leave it out"
        )
    return number


def is_nested(values: Any) -> bool:
    """Whether a list holds lists alone."""
    return isinstance(values, list) and bool(values) and all(isinstance(part, list) for part in values)


def _list(values: Any, name: str, where: str) -> Sequence[Any]:
    if not isinstance(values, list):
        raise PassageError(f"{where}: '{name}' is {kind(values)} and must be a list with an entry a token; correct it")
    return values


def _shown(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() >= 64:
        return "a number beyond all of them"
    if isinstance(value, list | dict):
        return kind(value)
    return repr(value)[:60]
