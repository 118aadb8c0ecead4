"""An audit of passages of any number: turns as they are judged, and the evidence of all of them together."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from enaction.audit.judging import Turn, judge
from enaction.audit.reading import AnyReader, framing_of, read_turns
from enaction.audit.settings import Settings
from enaction.passages import Passage
from enaction.stats.evidence import Stream

# Turns that are read together: enough for full batches, few enough to be kept in memory with what is known of them.
TURNS_TOGETHER = 64


@dataclass
class Audit:
    """All turns so far, together: what the next ones go on from.

    Attributes:
        settings: of the sampler; the framing is set by the first turns.
        stream: the e-process of all turns one after the other, as if one sampler had written them all.
        n_turns, n_foreign: turns so far, and how many of them are foreign.
    """

    settings: Settings
    stream: Stream = field(default_factory=Stream)
    n_turns: int = 0
    n_foreign: int = 0

    def state(self) -> dict[str, Any]:
        """All that is needed to go on after an interruption, as plain data."""
        return {
            "framing": self.settings.framing,
            "stream": self.stream.state(),
            "n_turns": self.n_turns,
            "n_foreign": self.n_foreign,
        }

    @classmethod
    def at(cls, settings: Settings, state: Mapping[str, Any]) -> Audit:
        """An audit as `state` left it."""
        settings = replace(settings, framing=state["framing"])
        return cls(settings, Stream.at(state["stream"]), state["n_turns"], state["n_foreign"])


def audit(
    reader: AnyReader,
    passages: Iterable[Passage],
    settings: Settings | Audit | None = None,
    versus: Mapping[str, AnyReader] | None = None,
    *,
    observer: str | None = None,
    token_budget: int | None = None,
) -> Iterator[Turn]:
    """Judge turns one after the other, in constant memory.

    Args:
        reader: the model that is said to have sampled them.
        passages: the turns.
        settings: of the sampler; or an `Audit` that goes on, and is brought up to date with every turn.
        versus: other readers with the same tokenizer, by name, as alternatives beside the same model without template.
        observer: which of these gives Binoculars' ratio, in a further pass of both models.
        token_budget: as in `Reader.score`.

    Raises:
        FramingError: a turn that cannot be framed or is too long for the model.
        UserError: settings out of range, or another reader with another tokenizer, or a server for Binoculars.
    """
    so_far = settings if isinstance(settings, Audit) else Audit(settings or Settings())
    remaining = iter(passages)
    while together := list(itertools.islice(remaining, TURNS_TOGETHER)):
        if so_far.settings.framing is None:
            so_far.settings = replace(so_far.settings, framing=framing_of(reader, together, so_far.settings))
        for passage, read in zip(
            together,
            read_turns(reader, together, so_far.settings, versus, observer=observer, token_budget=token_budget),
            strict=True,
        ):
            turn, bets = judge(passage.author, passage.id, read, so_far.settings)
            so_far.stream.go_on(bets)
            so_far.n_turns += 1
            so_far.n_foreign += turn.verdict == "foreign"
            yield turn
