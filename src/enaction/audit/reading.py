"""From a reader to the null of each turn: everything that the bets need, in one pass, and one for each other reader.

All readers read the same token ids, whatever they are given before them.
"""

# ruff: noqa: N815  # fields carry their axes, by the house convention
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from enaction.audit.settings import Settings
from enaction.errors import FramingError, UserError
from enaction.framing import Framed, frame, frame_prompt
from enaction.passages import Passage, Prompt
from enaction.reader import Progress, Reader, TokenStats, Wanted
from enaction.stats.evidence import BETAS, Null
from enaction.tokens import default_framing
from enaction.words import Framing

# The bet that needs no second model: the same weights, read without the chat template.
NO_TEMPLATE = "the same model without its chat template"
# Listed tokens, of which truncations are computed; where a nucleus has more, no bet is made on it.
LISTED = 50
_TOP_P = (0.8, 0.9, 0.95)
_TOP_K = (20, 50)
# Tokens of any kind that are added to the counts of the text so far.
_PRIOR = 10.0


@dataclass(frozen=True)
class Read:
    """One turn as it was read.

    Attributes:
        framed: its ids before the reader.
        null: what is known of each of its measured tokens.
        log_rank_N: log of 1 + rank of each token in the reader's distribution at temperature 1.
    """

    framed: Framed
    null: Null
    log_rank_N: np.ndarray


def read_turns(
    reader: Reader,
    passages: Sequence[Passage],
    settings: Settings,
    versus: Mapping[str, Reader] | None = None,
    *,
    token_budget: int | None = None,
    progress: Progress | None = None,
) -> list[Read]:
    """Read turns and everything that bets on them need.

    Args:
        reader: the model that is said to have sampled them.
        passages: the turns; own ids are read where they are there, else the text.
        settings: of the sampler.
        versus: other readers with the same tokenizer, by name, as alternatives.
        token_budget: as in `Reader.score`.
        progress: called with the number of turns done and their total.

    Raises:
        FramingError: a turn that cannot be framed, or is too long.
        UserError: another reader has another tokenizer.
    """
    framing = settings.framing or default_framing(reader, passages)
    framed = [frame(reader.tokenizer, passage, framing) for passage in passages]
    stats = reader.score(framed, wanted=_wanted(settings), token_budget=token_budget, progress=progress)
    others = {}
    if framing == "assistant":
        others[NO_TEMPLATE] = _elsewhere(reader, _bare(reader, passages, framed), settings, token_budget)
    for name, other in (versus or {}).items():
        if other.fingerprint != reader.fingerprint:
            raise UserError(
                f"{name} has another tokenizer than {reader.name}, so that it has no probability for the same tokens: "
                "name a model of the same family"
            )
        given = framed if other.has_template or framing != "assistant" else _bare(reader, passages, framed)
        others[name] = _elsewhere(other, given, settings, token_budget)
    return [
        Read(f, _null(f, s, settings, reader.vocabulary_size, {n: o[i] for n, o in others.items()}), np.log1p(s.rank))
        for i, (f, s) in enumerate(zip(framed, stats, strict=True))
    ]


def _wanted(settings: Settings) -> Wanted:
    if settings.is_truncated:
        (top_k, top_p), inner = settings.nucleus(1), settings.nucleus(-1)
        return Wanted(BETAS, 1, settings.temperature, top_k, top_p, *inner)
    return Wanted(tuple(beta / settings.temperature for beta in BETAS), LISTED, settings.temperature)


def _bare(reader: Reader, passages: Sequence[Passage], framed: Sequence[Framed]) -> list[Framed | None]:
    """The same measured ids after the prompt's words alone; None where there are no words."""
    bare: list[Framed | None] = []
    for passage, f in zip(passages, framed, strict=True):
        try:
            context = frame_prompt(reader.tokenizer, Prompt(passage.prompt_id, passage.prompt), "none").ids
        except FramingError:
            bare.append(None)
            continue
        ids = (*context, *f.ids[f.start : f.stop])
        bare.append(replace(f, ids=ids, start=len(context), stop=len(ids), skipped=0))
    return bare


def _elsewhere(
    reader: Reader, framed: Sequence[Framed | None], settings: Settings, token_budget: int | None
) -> list[np.ndarray | None]:
    """Log-probability of the measured tokens [N] by a reader, at the temperature of the sampler; None as given."""
    inverse = 1 / settings.temperature
    fits = [f for f in framed if f is not None and _fits(reader, f)]
    wanted = Wanted(betas=(inverse,)) if inverse != 1 else None
    stats = iter(reader.score(fits, wanted=wanted, token_budget=token_budget))
    found: list[np.ndarray | None] = []
    for f in framed:
        if f is None or not _fits(reader, f):
            found.append(None)
            continue
        s = next(stats)
        log_sum_N = 0.0 if s.power_sums is None else s.power_sums[:, 0].astype(float)
        found.append(-inverse * s.surprisal.astype(float) - log_sum_N)
    return found


def _fits(reader: Reader, framed: Framed) -> bool:
    return reader.context_length is None or framed.stop - 1 <= reader.context_length


def _null(
    framed: Framed,
    stats: TokenStats,
    settings: Settings,
    vocabulary: int,
    others: Mapping[str, np.ndarray | None],
) -> Null:
    """What is known of each token, from the statistics of a reader."""
    found = _truncated(stats, settings) if settings.is_truncated else _whole(framed, stats, settings)
    assert stats.likeliest_ids is not None
    token_N = np.array(framed.ids[framed.start : framed.stop], dtype=np.int64)
    # A bet that cannot be made is not made: a factor of 1, whatever is charged for it.
    nothing_N = found["log_bound_N"] + settings.noise
    return Null(
        **found,
        is_top_N=stats.likeliest_ids[:, 0] == token_N if len(token_N) else np.zeros(0, bool),
        log_unigram_N=_unigram(framed, vocabulary),
        vocabulary=vocabulary,
        others={name: nothing_N if log_N is None else log_N for name, log_N in others.items()},
    )


def _whole(framed: Framed, stats: TokenStats, settings: Settings) -> dict:
    """Without truncation: tempered statistics from those of the model's own distribution."""
    assert stats.power_sums is not None
    inverse = 1 / settings.temperature
    sums_NB = stats.power_sums.astype(float)
    log_sum_N1 = sums_NB[:, [BETAS.index(1.0)]]
    surprisal_N = inverse * stats.surprisal.astype(float) + log_sum_N1[:, 0]
    is_plain = stats.sampled_entropy is None
    return {
        "surprisal_N": surprisal_N,
        "entropy_N": _float(stats.entropy if is_plain else stats.sampled_entropy),
        "varentropy_N": _float(stats.varentropy if is_plain else stats.sampled_varentropy),
        "log_sums_NB": sums_NB - np.array(BETAS) * log_sum_N1,
        "log_top_N": np.minimum(inverse * np.log(_float(stats.top_probability)) - log_sum_N1[:, 0], 0),
        "log_bound_N": -surprisal_N,
        "kept": _kept(framed, stats, inverse, log_sum_N1),
    }


def _truncated(stats: TokenStats, settings: Settings) -> dict:
    """With truncation: the widest that the noise allows is read, and the narrowest bounds what any sampler gives."""
    surprisal_N, tempered_N = _float(stats.sampled_surprisal), _float(stats.tempered_surprisal)
    mass_N = _float(stats.kept_mass)
    inner_N = mass_N if stats.inner_mass is None else _float(stats.inner_mass)
    with np.errstate(invalid="ignore"):
        within_N = -surprisal_N + np.log(mass_N) - np.log(inner_N)
    return {
        "surprisal_N": surprisal_N,
        "entropy_N": _float(stats.sampled_entropy),
        "varentropy_N": _float(stats.sampled_varentropy),
        "log_sums_NB": _float(stats.sampled_power_sums),
        "log_top_N": np.minimum(np.log(_float(stats.sampled_top_probability)), 0),
        "log_bound_N": np.where(np.isfinite(surprisal_N), within_N, math.log(settings.stray) - tempered_N),
        "log_full_N": -tempered_N,
    }


def _float(column: np.ndarray | None) -> np.ndarray:
    assert column is not None
    return column.astype(float)


def _kept(
    framed: Framed, stats: TokenStats, inverse: float, log_sum_N1: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each truncation that is bet on: log of the mass that it keeps, and whether the token is among the kept."""
    assert stats.likeliest_ids is not None
    assert stats.likeliest_logprobs is not None
    token_N1 = np.array(framed.ids[framed.start : framed.stop], dtype=np.int64)[:, None]
    mass_NL = np.exp(inverse * stats.likeliest_logprobs.astype(float) - log_sum_N1).cumsum(1)
    n, listed = mass_NL.shape
    place_N = np.where((stats.likeliest_ids == token_N1).any(1), (stats.likeliest_ids == token_N1).argmax(1), listed)
    counts = {f"top-k {k}": np.full(n, min(k, listed)) for k in _TOP_K}
    counts |= {f"top-p {p}": (mass_NL < p).sum(1) + 1 for p in _TOP_P}
    kept = {}
    for name, count_N in counts.items():
        is_known_N = count_N <= listed
        mass_N = mass_NL[np.arange(n), np.minimum(count_N, listed) - 1] if listed else np.ones(n)
        log_mass_N = np.where(is_known_N, np.minimum(np.log(mass_N), 0), np.nan)
        kept[name] = (log_mass_N, place_N < count_N)
    return kept


def _unigram(framed: Framed, vocabulary: int) -> np.ndarray:
    """Log-probability [N] of each measured token by its frequency in all ids before it, mixed with any token alike."""
    counts: dict[int, int] = {}
    logs = []
    for place, token in enumerate(framed.ids[: framed.stop]):
        if place >= framed.start:
            logs.append(math.log((counts.get(token, 0) + _PRIOR / vocabulary) / (place + _PRIOR)))
        counts[token] = counts.get(token, 0) + 1
    return np.array(logs)


def framing_of(reader: Reader, passages: Sequence[Passage], settings: Settings) -> Framing:
    """How these turns are framed."""
    return settings.framing or default_framing(reader, passages)
