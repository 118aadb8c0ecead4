"""The same passage as two readers read it: their tokens one above the other, word by word, with what each cost.

The text of a token is not in the token table; it is decoded by the reader's own tokenizer where that is on this
machine (`tokenizer.json`, which needs neither torch nor transformers). Where it is not, there is no view.
"""

from __future__ import annotations

import bisect
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from enaction.errors import UserError
from enaction.page import Reading
from enaction.passages import Passage
from enaction.reader.sources import find
from enaction.study.store import Cell, Run

# Shades of a token: each is half a nat, the last is everything above.
LEVELS = 8
NATS_PER_LEVEL = 0.5
# A view has no more words than this, and of each reader no more tokens.
_MOST_WORDS = 120
_MOST_TOKENS = 400
# The prompt is its heading.
_MOST_CHARACTERS = 200
_END = "∎"


@dataclass(frozen=True)
class Token:
    """A token with its numbers, nats, and the shades that they have."""

    text: str
    surprisal: float
    entropy: float

    @property
    def shades(self) -> tuple[int, int]:
        """Of surprisal and entropy, from 0 to `LEVELS`."""
        return _shade(self.surprisal), _shade(self.entropy)


@dataclass(frozen=True)
class View:
    """One passage by several readers.

    Attributes:
        reading: what is shown.
        prompt: role and text of its last message, which may be cut; empty without a prompt.
        words: of each word, the tokens of each reader.
        means: of each reader, surprisal and entropy, nats a token, of the whole passage.
        is_cut: whether the passage is longer.
    """

    reading: Reading
    prompt: list[tuple[str, str]]
    words: list[list[list[Token]]]
    means: dict[str, tuple[float, float]]
    is_cut: bool


def views(run: Path, readings: Sequence[Reading]) -> list[View]:
    """The views that this machine can make, of one prompt where the authors answered it."""
    store, made = Run(run), []
    try:
        models = store.study().models
    except UserError:
        return []
    prompt: str | None = None
    for reading in readings:
        try:
            passages = store.passages(reading.author)
            tables = {r: store.tokens(Cell(r, reading.author, reading.framing)) for r in reading.readers}
        except UserError:  # an earlier version read other cells
            continue
        passage = _typical(passages, prompt)
        names = {r: models[r].model for r in reading.readers if r in models}
        if passage is not None and len(names) == len(tables) and (view := _view(reading, passage, tables, names)):
            prompt = prompt or passage.prompt_id
            made.append(view)
    return made


def _typical(passages: Sequence[Passage], prompt: str | None) -> Passage | None:
    """The passage that answers a prompt, else the one of middle length."""
    by_length = sorted(passages, key=lambda p: (len(p.response), p.id))
    middle = by_length[len(by_length) // 2] if by_length else None
    return next((p for p in by_length if p.prompt_id == prompt), middle)


def _view(reading: Reading, passage: Passage, tables: Mapping[str, pa.Table], names: Mapping[str, str]) -> View | None:
    """A view, or None where a tokenizer is not at hand or gives another text."""
    starts = [match.start() for match in re.finditer(r"\S+", passage.response)]
    words: list[list[list[Token]]] = [[[] for _ in names] for _ in (*starts, None)]
    means, reach = {}, [_MOST_WORDS]
    for i, (reader, table) in enumerate(tables.items()):
        # With a mask: a filter by an expression need not keep the order of the rows.
        of_passage = table.filter([name == passage.id for name in table["passage_id"].to_pylist()]).to_pylist()
        rows = of_passage[:_MOST_TOKENS]
        texts = _texts([row["token_id"] for row in rows if not row["is_end"]], names[reader], passage.response)
        if not rows or texts is None:
            return None
        end = at = 0
        for row, text in zip(rows, [*texts, _END], strict=False):
            end += len(text)
            at = len(starts) if row["is_end"] else max(bisect.bisect_left(starts, end) - 1, 0)
            words[at][i].append(Token(text.strip() or "␣", row["surprisal"], row["entropy"]))
        reach.append(at if len(rows) < len(of_passage) else len(words))
        means[reader] = tuple(sum(row[q] for row in of_passage) / len(of_passage) for q in ("surprisal", "entropy"))
    shown = [word for word in words[: min(reach)] if any(word)]
    prompt = [(message["role"], _beginning(message["content"])) for message in passage.prompt[-1:]]
    return View(reading, prompt, shown, means, is_cut=min(reach) < len(words))


def _texts(ids: Sequence[int], model: str, response: str) -> list[str] | None:
    """The text of each token, together the response or its beginning; None where they are not, or nobody knows."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(Path(find(model).location) / "tokenizer.json"))
        # A token alone loses the space before it, so each is what it adds to the text so far.
        so_far = [tokenizer.decode(ids[:n], skip_special_tokens=False) for n in range(len(ids) + 1)]
    except Exception:  # whatever a library says of a tokenizer that is not there, or damaged
        return None
    if not response.strip().startswith(so_far[-1].strip().rstrip("�")):
        return None
    # Half of a character is the text of the token that completes it.
    lengths = [len(text.rstrip("�")) for text in so_far]
    offset = len(response) - len(response.lstrip()) - (len(so_far[-1]) - len(so_far[-1].lstrip()))
    lengths = [0, *(max(length + offset, 0) for length in lengths[1:])]
    return [response[start:stop] for start, stop in itertools.pairwise(lengths)]


def _beginning(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} …"


def _shade(nats: float) -> int:
    return LEVELS if not math.isfinite(nats) else min(LEVELS, round(nats / NATS_PER_LEVEL))
