"""What each fault predicts for a column by a model's readings: log-probabilities, and logged entropies.

Axes: N tokens of the batch. In nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from enaction.doctor.batch import Batch
from enaction.doctor.hypotheses import LEAST_GAIN, Hypothesis, other_units, reordered, shifts, summed
from enaction.doctor.readings import Reading, Readings, temperatures
from enaction.reader.statistics import TokenStats

_CONVENTION = "vLLM: `logprobs_mode=processed_logprobs`; a trainer divides its logits by the sampler's temperature"


def sound_logprobs(readings: Readings) -> np.ndarray:
    """Log-probability [N] of each token under the distribution that was drawn from: tempered, cut, renormalised."""
    taken = readings.taken
    if taken.is_truncated:
        return _drawn(readings.truncated[taken.top_p, taken.top_k])
    return _flat(readings.stated, lambda s: readings.logprobs(s, taken.temperature))


def of_model(batch: Batch, readings: Readings, given_N: np.ndarray) -> list[Hypothesis]:
    """What faults predict for a column of log-probabilities, `sound` first.

    Args:
        batch: the rollouts.
        readings: of them.
        given_N: the column, NaN where its numbers do not count; rollouts are matched by it.
    """
    taken, sound_N = readings.taken, sound_logprobs(readings)
    plain_N = _flat(readings.stated, lambda s: readings.logprobs(s, taken.temperature))
    made = [Hypothesis("sound", sound_N, f"the numbers are {readings.name}'s at {taken.words}")]
    if taken.is_truncated:
        cut = taken.words.split(", ", 1)[1]
        made.append(
            Hypothesis(
                "truncation not accounted for",
                plain_N,
                f"the numbers are those before {cut}: the ratio of the two is the probability that is kept",
                "renormalise over the kept tokens (vLLM can return them), or sample with top-p 1 and no top-k",
            )
        )
    made += _tempered(readings)
    made += _truncated(readings)
    if taken.temperature != 1:
        raw_N = _flat(readings.stated, lambda s: readings.logprobs(s, 1.0))
        made.append(
            Hypothesis(
                "divided log-probabilities",
                raw_N / taken.temperature,
                f"log-probabilities at temperature 1 were divided by {taken.temperature:g}, and no longer sum to one",
                "divide the logits, then take the log-softmax",
            )
        )
    for reading in readings.contexts[1:]:
        made += _in_context(batch, readings, reading)
    for name, stats in readings.others.items():
        made.append(
            Hypothesis(
                "other weights",
                _flat(stats, lambda s: readings.logprobs(s, taken.temperature)),
                f"the numbers are those of the weights {name}",
                "hand the weights over after the step, and note their version with each rollout",
                detail={"weights": name},
            )
        )
    what = "the log-probability"
    # What a trainer moves or deals otherwise are its own numbers, and these seldom know of the truncation.
    for base_N in [sound_N, plain_N] if taken.is_truncated else [sound_N]:
        made += [*shifts(batch, base_N, what), *other_units(base_N), summed(batch, base_N)]
        if order := reordered(batch, base_N, given_N, "the log-probabilities"):
            made.append(order)
    return made


def of_entropies(batch: Batch, readings: Readings, given_N: np.ndarray) -> list[Hypothesis]:
    """What faults predict for logged entropies, `sound` first: that of the full distribution at the temperature.

    Args:
        batch: the rollouts.
        readings: of them.
        given_N: the logged entropies, NaN where they do not count; rollouts are matched by them.
    """
    taken = readings.taken
    sound_N = _flat(readings.stated, _entropy)
    made = [Hypothesis("sound", sound_N, f"the entropies are {readings.name}'s at temperature {taken.temperature:g}")]

    def add(name: str, predicted_N: np.ndarray, says: str, remedy: str) -> None:
        made.append(Hypothesis(name, predicted_N, says, remedy))

    if taken.temperature != 1:
        add(
            "temperature not applied",
            _flat(readings.stated, lambda s: s.entropy),
            "the entropies are those at temperature 1",
            "divide the logits by the sampler's temperature first",
        )
    surprisal_N = -_flat(readings.stated, lambda s: readings.logprobs(s, taken.temperature))
    add(
        "surprisal for entropy",
        surprisal_N,
        "each number is minus the log-probability of the token that came: an estimate of the entropy from one draw",
        "take the entropy of the whole distribution",
    )
    add("bits for nats", sound_N / math.log(2), "the entropies are in bits", "multiply them by 0.693")
    if readings.vocabulary > 1:
        top = math.log(readings.vocabulary)
        add(
            "share of the largest entropy",
            sound_N / top,
            "the entropies are divided by the logarithm of the vocabulary",
            f"multiply them by {top:.3f}",
        )
    for (top_p, top_k), stats in readings.truncated.items():
        cut = f"top-p {top_p:g}" if top_p < 1 else f"top-k {top_k}"
        add(
            "entropy of a part of the distribution",
            _flat(stats, _entropy),
            f"the entropies are those of what {cut} keeps",
            "sum over the whole vocabulary",
        )
    for reading in readings.contexts[1:]:
        values_N = _laid(batch, reading, _entropy, sound_N)
        made.append(Hypothesis(reading.context.name, values_N, reading.context.says, reading.context.remedy))
    for name, stats in readings.others.items():
        add("other weights", _flat(stats, _entropy), f"the entropies are those of the weights {name}", "")
    made += shifts(batch, sound_N, "the entropy")
    if order := reordered(batch, sound_N, given_N, "the entropies"):
        made.append(order)
    return made


def flat_entropies(readings: Readings) -> np.ndarray:
    """Entropies [N] of the full distribution at the sampler's temperature."""
    return _flat(readings.stated, _entropy)


def _tempered(readings: Readings) -> Iterator[Hypothesis]:
    """Log-probabilities at other temperatures than the stated one."""
    own = readings.taken.temperature
    for t in temperatures(readings.taken):
        if t == own:
            continue
        if t == 1:
            name, says = (
                "temperature not applied",
                f"the numbers are those at temperature 1, before {own:g} was applied",
            )
        elif own != 1 and t == round(own**2, 6):
            name, says = "temperature applied twice", f"the logits were divided by {own:g} twice"
        else:
            name, says = "another temperature", f"the numbers are those at temperature {t:g}, not {own:g}"
        predicted_N = _flat(readings.stated, lambda s, t=t: readings.logprobs(s, t))
        yield Hypothesis(name, predicted_N, says, _CONVENTION, detail={"temperature": t})


def _truncated(readings: Readings) -> Iterator[Hypothesis]:
    """Log-probabilities over what truncations keep that nobody stated."""
    taken = readings.taken
    # One that keeps nearly everything is nearly none, and a stated one that is left out is the simpler fault.
    cost = LEAST_GAIN if taken.is_truncated else 0.0
    for (top_p, top_k), stats in readings.truncated.items():
        if (top_p, top_k) == (taken.top_p, taken.top_k):
            continue
        cut = f"top-p {top_p:g}" if top_p < 1 else f"top-k {top_k}"
        yield Hypothesis(
            "another truncation",
            _drawn(stats),
            f"the numbers are those of a sampler with {cut}, which was not stated",
            "look up the sampler's defaults (a generation config sets them), and state what was used",
            cost,
            {"top_p": top_p} if top_p < 1 else {"top_k": top_k},
        )


def _in_context(batch: Batch, readings: Readings, reading: Reading) -> Iterator[Hypothesis]:
    """Log-probabilities in another context, at the stated temperature and at none."""
    of, own = reading.context, readings.taken.temperature
    detail: dict[str, float | str | int] = {"rollouts": of.n_changed}
    stated = Reading(readings.contexts[0].context, tuple(readings.stated))
    for t in dict.fromkeys([own, 1.0]):
        rest_N = _laid(batch, stated, lambda s, t=t: readings.logprobs(s, t), None)
        predicted_N = _laid(batch, reading, lambda s, t=t: readings.logprobs(s, t), rest_N)
        name, says = of.name, of.says
        # Two faults at once have to explain more than one does.
        cost = LEAST_GAIN if t != own or readings.taken.is_truncated else 0.0
        if t != own:
            name, says = f"{of.name}; temperature not applied", f"{of.says}, and temperature {own:g} was not applied"
        yield Hypothesis(name, predicted_N, says, of.remedy, cost, detail)


def _laid(
    batch: Batch, reading: Reading, of: Callable[[TokenStats], np.ndarray], rest_N: np.ndarray | None
) -> np.ndarray:
    """Numbers at the tokens' places; `rest_N` where the context changes nothing.

    An answer that was tokenised again has another length: its numbers lie from the first place on, as they would in a
    table of both, and what is too long or too short is unknown.
    """
    made_N = np.full(len(batch), np.nan) if rest_N is None else rest_N.copy()
    for rows, stats in zip(batch.slices, reading.stats, strict=True):
        if stats is not None:
            values = of(stats)[: rows.stop - rows.start]
            made_N[rows] = np.nan
            made_N[rows.start : rows.start + len(values)] = values
    return made_N


def _flat(stats: Sequence[TokenStats], of: Callable[[TokenStats], np.ndarray]) -> np.ndarray:
    return np.concatenate([np.asarray(of(s), np.float64) for s in stats]) if stats else np.zeros(0)


def _drawn(stats: Sequence[TokenStats]) -> np.ndarray:
    """Log-probabilities [N] of the distribution that truncation left."""

    def of(s: TokenStats) -> np.ndarray:
        assert s.sampled_surprisal is not None
        return -s.sampled_surprisal

    return _flat(stats, of)


def _entropy(stats: TokenStats) -> np.ndarray:
    """Entropy of the distribution that was asked for: the tempered one where a temperature was."""
    return stats.entropy if stats.sampled_entropy is None else stats.sampled_entropy
