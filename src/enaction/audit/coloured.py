"""A turn token by token: its text, and what each token did to the evidence."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from enaction.audit.judging import judge
from enaction.audit.page import row_name
from enaction.audit.reading import AnyReader, read_turns
from enaction.audit.rolled import Given
from enaction.audit.settings import Settings
from enaction.audit.table import LN10, Row
from enaction.framing import Framed, token_texts
from enaction.page import Coloured, Piece
from enaction.passages import Passage
from enaction.words import printable

# Half a power of ten is a shade; the last is everything above.
_SHADE = 0.25
_SHADES = 4
# Of the prompt, so many characters of its last message.
_PROMPT = 400
_END = "end of turn"


def coloured(
    reader: AnyReader,
    passage: Passage,
    row: Row,
    settings: Settings,
    versus: Mapping[str, AnyReader],
    *,
    most: int,
) -> Coloured:
    """A turn, read once more.

    Args:
        reader: the model.
        passage: the turn.
        row: what was said of it.
        settings: of the sampler.
        versus: other readers by name.
        most: tokens that are shown, the first.
    """
    (read,) = read_turns(reader, [passage], settings, versus)
    turn, _ = judge(passage.author, passage.id, read, settings)
    path_N = np.concatenate([[0.0], turn.path_N]) / LN10
    pieces = []
    for i, text in enumerate(_texts(reader, passage, read.framed)[:most]):
        change, so_far = float(path_N[i + 1] - path_N[i]), float(path_N[i + 1])
        level = int(np.clip(np.round(change / _SHADE), -_SHADES, _SHADES))
        about = (
            f"token {i + 1} {text.strip() or '(space)'!r}: log10 e {change:+.2f}, {so_far:.2f} so far; "
            f"log-probability {-read.null.surprisal_N[i]:.2f} nats, of {-read.null.entropy_N[i]:.2f} expected"
        )
        pieces.append(Piece(_visible(text), change, level, printable(about)))
    said = f"{row['verdict']}, log10 e {row['log10_e']:.2f} (greatest {row['log10_e_greatest']:.2f})"
    if row["crossing"] is not None:
        said += f", enough after token {row['crossing']}"
    if row["at_least"]:
        said += f"; at least {row['at_least']} tokens at the beginning are not the model's"
    before = [(printable(m["role"][:40]), _cut(m["content"])) for m in passage.prompt[-1:]]
    n = turn.n_tokens
    note = f"The first {most} of {n} tokens; the rest is left out here." if n > most else ""
    return Coloured(f"{printable(row_name(row))}: {said}", before, pieces, note)


def _texts(reader: AnyReader, passage: Passage, framed: Framed) -> list[str]:
    n_end = int(framed.has_end)
    ids = list(framed.ids[framed.start - framed.skipped : framed.stop - n_end])

    def decode(some: list[int]) -> str:
        return str(reader.tokenizer.decode(some, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    response = None if isinstance(passage, Given) else passage.response
    return [*token_texts(decode, ids, response, framed.ends)[framed.skipped :], *[f" [{_END}]"] * n_end]


def _cut(text: str) -> str:
    return _visible(text if len(text) <= _PROMPT else f"… {text[-_PROMPT:]}")


def _visible(text: str) -> str:
    """Text with line breaks marked, and everything else that is not printable as its code."""
    return "\n".join(map(printable, text.split("\n"))).replace("\n", "⏎\n")
