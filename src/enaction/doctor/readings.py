"""Readings: a batch as a model reads it in every context that a fault could have made, at every temperature looked for.

This is all that the model is asked. What it says is kept a rollout at a time, so that diagnoses of parts of a batch
need no second reading.

Axes: N tokens of a rollout, G grid of exponents. In nats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from enaction.doctor.batch import Batch
from enaction.doctor.contexts import Context, contexts_of
from enaction.doctor.settings import Sampled

if TYPE_CHECKING:
    from enaction.framing import Framed
    from enaction.reader import Reader, TokenStats, Wanted

# Temperatures that are looked for, beside the stated one, none and the stated one twice.
TEMPERATURES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.2, 1.3, 1.5, 2.0)
# Truncations that are looked for, each at the stated temperature.
TOP_P = (0.8, 0.9, 0.95, 0.99)
TOP_K = (20, 50)

# Name of a reading's progress and how many there are: called before each.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Reading:
    """A batch read in one context.

    Attributes:
        context: what stood before the tokens.
        stats: of each rollout, None where the context changes nothing for it.
    """

    context: Context
    stats: tuple[TokenStats | None, ...]


@dataclass(frozen=True)
class Readings:
    """All that one model said of a batch.

    Attributes:
        name: of the model.
        taken: how the batch was sampled.
        betas: exponents, 1 / temperature, of the power sums.
        contexts: readings in each context, the stated one first.
        truncated: readings of the stated context under other truncations, by top-p and top-k (0 keeps all).
        others: other checkpoints in the stated context, by name.
        prompts: entropies of the predictions within each prompt in the stated context, at the sampler's temperature.
        after: entropy [R] of what is predicted after each answer's last token.
        fillers: tokens that rows are filled up with: the padding token, and the one that ends a text.
        vocabulary: tokens of the model.
    """

    name: str
    taken: Sampled
    betas: tuple[float, ...]
    contexts: tuple[Reading, ...]
    truncated: Mapping[tuple[float, int], tuple[TokenStats, ...]] = field(default_factory=dict)
    others: Mapping[str, tuple[TokenStats, ...]] = field(default_factory=dict)
    prompts: tuple[np.ndarray, ...] = ()
    after: np.ndarray = field(default_factory=lambda: np.zeros(0))
    fillers: frozenset[int] = frozenset()
    vocabulary: int = 0

    def part(self, rows: Sequence[int]) -> Readings:
        """The same of some of the rollouts."""
        rows = list(rows)
        contexts = []
        for reading in self.contexts:
            of = reading.context
            again = of.responses and tuple(of.responses[i] for i in rows)
            context = Context(of.name, of.says, of.remedy, tuple(of.prompts[i] for i in rows), again)
            contexts.append(Reading(context, tuple(reading.stats[i] for i in rows)))
        return Readings(
            self.name,
            self.taken,
            self.betas,
            tuple(contexts),
            {key: tuple(stats[i] for i in rows) for key, stats in self.truncated.items()},
            {key: tuple(stats[i] for i in rows) for key, stats in self.others.items()},
            tuple(self.prompts[i] for i in rows),
            self.after[rows],
            self.fillers,
            self.vocabulary,
        )

    @cached_property
    def stated(self) -> list[TokenStats]:
        """Statistics of each rollout in the stated context."""
        return [stats for stats in self.contexts[0].stats if stats is not None]

    def logprobs(self, stats: TokenStats, temperature: float) -> np.ndarray:
        """Log-probability [N] of each token at a temperature of the grid, all tokens kept."""
        return logprobs(stats, self.betas, temperature)


def logprobs(stats: TokenStats, betas: Sequence[float], temperature: float) -> np.ndarray:
    """Log-probability [N] of each token at a temperature whose exponent is among `betas`, all tokens kept."""
    if temperature == 1:
        return -stats.surprisal.astype(np.float64)
    assert stats.power_sums is not None
    beta = 1 / temperature
    return -beta * stats.surprisal.astype(np.float64) - stats.power_sums[:, betas.index(beta)]


def temperatures(taken: Sampled) -> list[float]:
    """The grid: the stated temperature, none, the stated one twice, and those that people use."""
    own = [taken.temperature, 1.0, round(taken.temperature**2, 6)]
    return list(dict.fromkeys([*own, *TEMPERATURES]))


def truncations(taken: Sampled) -> list[tuple[float, int]]:
    """Top-p and top-k that are looked for, the stated ones first; (1, 0) is left to the power sums."""
    stated = [(taken.top_p, taken.top_k)] if taken.is_truncated else []
    grid = [*((p, 0) for p in TOP_P), *((1.0, k) for k in TOP_K)]
    return list(dict.fromkeys([*stated, *grid]))


def read(
    reader: Reader,
    batch: Batch,
    taken: Sampled,
    checkpoints: Mapping[str, Callable[[], Reader]] | None = None,
    progress: Progress | None = None,
) -> Readings:
    """Read a batch in all contexts, and with other checkpoints in the stated one.

    Args:
        reader: the model that the batch is said to come from.
        batch: the rollouts.
        taken: how they were sampled.
        checkpoints: name -> what loads the reader of other weights; one is in memory at a time beside the first.
        progress: called before each reading with its name, its number and how many there are.

    Raises:
        PassageError: rollouts without ids or prompts.
        FramingError: a rollout longer than the context, or ids that the model does not have.
    """
    from enaction.reader import Wanted

    contexts = contexts_of(reader.tokenizer, batch.rollouts)
    betas = tuple(1 / t for t in temperatures(taken) if t != 1)
    wanted = Wanted(betas=betas, temperature=taken.temperature)
    cuts, checkpoints = truncations(taken), checkpoints or {}
    total, done = len(contexts) + len(cuts) + len(checkpoints) + 1, 0

    def tell(name: str) -> None:
        nonlocal done
        if progress is not None:
            progress(name, done, total)
        done += 1

    readings = []
    for context in contexts:
        tell(context.name)
        readings.append(Reading(context, _in_context(reader, batch, context, wanted)))
    truncated = {}
    for top_p, top_k in cuts:
        tell(f"top-p {top_p:g}" if top_p < 1 else f"top-k {top_k}")
        cut = Wanted(temperature=taken.temperature, top_p=top_p, top_k=top_k or None)
        truncated[top_p, top_k] = _all(_in_context(reader, batch, contexts[0], cut))
    tell("prompts")
    prompts, after = _around(reader, batch, contexts[0], taken)
    others = {}
    for name, load in checkpoints.items():
        tell(name)
        others[name] = _all(_in_context(load(), batch, contexts[0], wanted))
    known = (reader.tokenizer.pad_token_id, reader.tokenizer.eos_token_id)
    fillers = frozenset(i for i in known if isinstance(i, int))
    size = reader.vocabulary_size
    return Readings(reader.name, taken, betas, tuple(readings), truncated, others, prompts, after, fillers, size)


def _in_context(reader: Reader, batch: Batch, context: Context, wanted: Wanted) -> tuple[TokenStats | None, ...]:
    """Statistics of the answer of each rollout in a context."""
    framed = {}
    for i, (rollout, prompt) in enumerate(zip(batch.rollouts, context.prompts, strict=True)):
        again = context.responses[i] if context.responses else None
        if prompt is not None and (context.responses is None or again):
            framed[i] = _framed(rollout.id, prompt, again or rollout.token_ids or ())
    stats = dict(zip(framed, reader.score(list(framed.values()), wanted=wanted), strict=True))
    return tuple(stats.get(i) for i in range(len(batch.rollouts)))


def _framed(name: str, prompt: tuple[int, ...], answer: tuple[int, ...]) -> Framed:
    from enaction.framing import Framed

    return Framed((*prompt, *answer), len(prompt), len(prompt) + len(answer), has_end=False, passage_id=name)


def _all(stats: tuple[TokenStats | None, ...]) -> tuple[TokenStats, ...]:
    kept = tuple(s for s in stats if s is not None)
    assert len(kept) == len(stats)  # the stated context is there for every rollout
    return kept


def _around(reader: Reader, batch: Batch, stated: Context, taken: Sampled) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Entropies at the sampler's temperature within each prompt, but for its first token, and after each answer."""
    from enaction.framing import Framed
    from enaction.reader import Wanted

    framed, lengths = [], []
    for rollout, prompt in zip(batch.rollouts, stated.prompts, strict=True):
        assert prompt is not None
        # A token after the last, whichever it is, so that its prediction is measured.
        ids = (*prompt, *(rollout.token_ids or ()), prompt[0])
        framed.append(Framed(ids, 1, len(ids), has_end=False, passage_id=rollout.id))
        lengths.append(len(prompt) - 1)
    wanted = None if taken.temperature == 1 else Wanted(temperature=taken.temperature)
    entropies = [
        np.asarray(s.entropy if s.sampled_entropy is None else s.sampled_entropy, np.float64)
        for s in reader.score(framed, wanted=wanted)
    ]
    inside = tuple(values[:n] for values, n in zip(entropies, lengths, strict=True))
    return inside, np.array([values[-1] for values in entropies])
