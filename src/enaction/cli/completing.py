"""What a shell completes besides commands and options: names of embedded models."""

from __future__ import annotations

from collections.abc import MutableMapping

_PREFIX = "zoo:"
_COLON = ":"
# Whether the shell has cut the prefix off the word that it wants completed.
_is_cut = False


def models(incomplete: str) -> list[tuple[str, str]]:
    """Names of embedded models that begin so, each with a few words on it; folders are the shell's to complete."""
    prefix = "" if _is_cut else _PREFIX
    return [(f"{prefix}{name}", about) for name, about in embedded("") if f"{prefix}{name}".startswith(incomplete)]


def embedded(incomplete: str) -> list[tuple[str, str]]:
    """The same without the prefix."""
    from enaction import zoo

    return [(name, zoo.note(name)) for name in zoo.names(everything=True) if name.startswith(incomplete)]


def undo_splitting(environment: MutableMapping[str, str]) -> None:
    """Put words together again that bash splits at colons: it asks about `zoo:ash` as `zoo`, `:` and `ash`.

    The word to be completed loses its prefix, since bash replaces only what follows the colon.

    Args:
        environment: where bash describes the line; changed in place.
    """
    global _is_cut
    _is_cut = False
    if "COMP_WORDS" not in environment or "COMP_CWORD" not in environment:
        return
    words, current = environment["COMP_WORDS"].split("\n"), int(environment["COMP_CWORD"])
    before, after = words[:current], words[current : current + 1]
    if after == [_COLON]:  # the cursor is at the colon: nothing follows yet
        before, after = [*before, _COLON], [""]
    if before[-2:] == [_PREFIX.removesuffix(_COLON), _COLON]:
        before, _is_cut = before[:-2], True
    joined: list[str] = []
    for word in before:
        if joined and (word == _COLON or joined[-1].endswith(_COLON)):
            joined[-1] += word
        else:
            joined.append(word)
    environment["COMP_WORDS"], environment["COMP_CWORD"] = "\n".join([*joined, *after]), str(len(joined))
