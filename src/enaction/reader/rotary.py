"""Rotary positions that depend on the length of what is read (longrope: Phi 3 and 3.5 at 128k, Phi 4 mini, MiniCPM).

Such a model rotates every position of a forward by one set of factors up to some length, the switch, and by another set
beyond it. A longer text in the same batch, or a later word in the same text, would then change how earlier words are
read. So nothing here mixes the two sides: not a batch, not a shared context, not a cache.

The rule: a token is read as the model predicts it when it writes it. Token t is predicted from a forward over the t
tokens before it, so that it is read with the short factors if t is at most the switch, and else with the long ones for
all of its context. A text that crosses the switch is read twice, once up to there and once whole, and what a model
wrote across it is read as it was written. One plain forward over such a text gives its early tokens other statistics,
which depend on words that come later.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from enaction.framing import Framed

# What configurations call a set of factors that is chosen by length.
_SWITCHING = ("longrope", "su")


def switches_of(config: Any) -> tuple[int, ...]:
    """The lengths, in tokens, beyond which a model rotates all positions otherwise; none for almost every model.

    Args:
        config: of the text model.
    """
    given: list[Any] = [getattr(config, name, None) for name in ("rope_parameters", "rope_scaling")]
    # Some families have a set for each kind of layer.
    given += [part for parameters in given if isinstance(parameters, Mapping) for part in parameters.values()]
    found = set()
    for parameters in given:
        if isinstance(parameters, Mapping) and _kind(parameters) in _SWITCHING:
            name = "original_max_position_embeddings"
            length = parameters.get(name) or getattr(config, name, None)
            found |= {length} if isinstance(length, int) else set()
    return tuple(sorted(found))


def steady_length(config: Any) -> int | None:
    """The longest text that a model reads with factors that depend on nothing but the position; None for any length.

    The first Qwen's code draws its factors anew for each length beyond the one that it was trained on.
    """
    length = getattr(config, "seq_length", None)
    return length if getattr(config, "use_dynamic_ntk", False) and isinstance(length, int) else None


def _kind(parameters: Mapping[str, Any]) -> object:
    return parameters.get("rope_type", parameters.get("type"))


def side(length: int, switches: Sequence[int]) -> int:
    """How many switches a forward over this many tokens is beyond."""
    return bisect_left(switches, length)


def on_each_side(framed: Framed, switches: Sequence[int]) -> list[Framed]:
    """The parts of a passage that are read on one side of every switch, each as a passage of its own, in order."""
    first, last = side(framed.start, switches), side(framed.stop - 1, switches)
    if first == last or framed.start == framed.stop:
        return [framed]
    cuts = [framed.start, *(switch + 1 for switch in switches[first:last]), framed.stop]
    return [
        replace(framed, ids=framed.ids[:stop], start=start, stop=stop, has_end=framed.has_end and stop == framed.stop)
        for start, stop in pairwise(cuts)
    ]
