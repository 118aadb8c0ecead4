"""YAML as people write it, and nothing that only a program would: no key twice, no bombs, no endless numbers."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from enaction.study.names import plain

# A study is five levels deep and has some hundred values; YAML's references can make billions of a few lines.
DEEPEST = 40
MOST_VALUES = 100_000
LONGEST_NUMBER = 40  # characters
_MERGE = "tag:yaml.org,2002:merge"
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def parsed(text: str) -> Any:
    """The plain data that a YAML text describes.

    Raises:
        ValueError: it is not YAML, or more than a person means; one line says where and why.
    """
    try:
        _require_shallow(text)
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _require_plain(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        what = ", ".join(part.strip() for part in (error.context, error.problem) if part)
        mark = error.problem_mark or error.context_mark
        remedy = "; indent with blanks" if r"\t" in what else ""
        raise ValueError(f"{_line(mark) if mark else ''}not YAML: {plain(what)}{remedy}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {plain(str(error).splitlines()[0])}") from None
    except (ValueError, OverflowError) as error:  # what YAML's own conversions raise, of dates say
        raise ValueError(plain(str(error).splitlines()[0])) from None


def _require_shallow(text: str) -> None:
    """Fail if collections are nested deeper than anybody means; parsing would exhaust the stack."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise ValueError(f"{_line(event.start_mark)}{DEEPEST} levels of nesting: take some out")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _require_plain(root: Node) -> None:
    """Fail if a key is given twice, a number is endless, or references make too much of the text."""
    sizes: dict[int, int] = {}

    def size(node: Node, above: frozenset[int]) -> int:
        """How many values a node has with its references written out."""
        if id(node) in above:
            raise ValueError(f"{_line(node.start_mark)}a reference (&, *) to what it is part of: write it out")
        if id(node) not in sizes:
            if isinstance(node, ScalarNode):
                _require_short(node)
                sizes[id(node)] = 1
            else:
                if isinstance(node, MappingNode):
                    _require_single(node)
                    inner = [part for pair in node.value for part in pair]
                else:
                    inner = node.value
                sizes[id(node)] = 1 + sum(size(part, above | {id(node)}) for part in inner)
        if sizes[id(node)] > MOST_VALUES:
            raise ValueError(
                f"{_line(node.start_mark)}references (&, *) that make more than {MOST_VALUES:,} values: write it out"
            )
        return sizes[id(node)]

    size(root, frozenset())


def _require_short(node: ScalarNode) -> None:
    if node.tag in _NUMBERS and len(node.value) > LONGEST_NUMBER:
        raise ValueError(
            f"{_line(node.start_mark)}a number of {len(node.value)} characters: shorten it, or put it in quotes"
        )


def _require_single(node: MappingNode) -> None:
    seen: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if isinstance(key, ScalarNode) and key.tag != _MERGE:
            line, name = key.start_mark.line + 1, (key.tag, key.value)
            if name in seen:
                raise ValueError(
                    f"line {line}: '{plain(key.value)[:60]}' is given twice (before in line {seen[name]}): keep one"
                )
            seen[name] = line


def _line(mark: yaml.Mark) -> str:
    return f"line {mark.line + 1}: "
