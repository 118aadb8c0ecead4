"""From a reader to the null of each turn: everything that the bets need, in one pass, and one for each other reader.

All readers read the same token ids, whatever they are given before them.
"""

# ruff: noqa: N815  # fields carry their axes, by the house convention
from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from enaction.audit.binoculars import binoculars
from enaction.audit.rolled import Given
from enaction.audit.settings import Settings
from enaction.endpoint import EndpointReader, Observed
from enaction.errors import FramingError, UserError
from enaction.framing import Framed, frame, frame_prompt
from enaction.passages import Passage, Prompt
from enaction.reader import Progress, Reader, TokenStats, Wanted
from enaction.stats.evidence import BETAS, Listed, Null, common_cells
from enaction.tokens import default_framing
from enaction.words import Framing

AnyReader = Reader | EndpointReader
# The bet that needs no second model: the same weights, read without the chat template.
NO_TEMPLATE = "the same model without its chat template"
# Listed tokens: of which truncations are computed (where a nucleus has more, no bet is made on it), and the cells that
# readers have in common.
LISTED = 20
_TOP_P = (0.8, 0.9, 0.95)
_TOP_K = (10, 20)
# Tokens of any kind that are added to the counts of the text so far.
_PRIOR = 10.0


@dataclass(frozen=True)
class Read:
    """One turn as it was read.

    Attributes:
        framed: its ids before the reader.
        null: what is known of each of its measured tokens.
        log_rank_N: log of 1 + rank of each token in the reader's distribution at temperature 1; NaN where a server does
            not say.
        versus: mean log-probability under each other reader that read the turn less that as stated, nats a token.
        binoculars: Binoculars' ratio with the observer; NaN without one, or if it did not read the turn.
    """

    framed: Framed
    null: Null
    log_rank_N: np.ndarray
    versus: dict[str, float]
    binoculars: float = math.nan


class _Heard(NamedTuple):
    """What another reader says of the tokens of a turn: their log-probability [N], and the likeliest if listed."""

    logprob_N: np.ndarray
    listed: Listed | None


def read_turns(
    reader: AnyReader,
    passages: Sequence[Passage],
    settings: Settings,
    versus: Mapping[str, AnyReader] | None = None,
    *,
    observer: str | None = None,
    token_budget: int | None = None,
    progress: Progress | None = None,
) -> list[Read]:
    """Read turns and everything that bets on them need.

    Args:
        reader: the model that is said to have sampled them; if a server runs it, bets are on its likeliest tokens.
        passages: the turns; own ids are read where they are there, else the text.
        settings: of the sampler.
        versus: other readers with the same tokenizer, by name, as alternatives.
        observer: which of these gives Binoculars' ratio, in a further pass of both models.
        token_budget: as in `Reader.score`.
        progress: called with the number of turns done and their total.

    Raises:
        FramingError: a turn that cannot be framed, or is too long.
        UserError: another reader has another tokenizer, the settings are not those that a server answers for, or
            reader or observer is a server.
        ModelError: a server fails.
    """
    framing = settings.framing or default_framing(reader, passages)
    framed = [p.framed if isinstance(p, Given) else frame(reader.tokenizer, p, framing) for p in passages]
    _require_room(reader, framed)
    if isinstance(reader, EndpointReader):
        observed = reader.observe(framed, progress)
        known = [_cells(f, o, settings, reader) for f, o in zip(framed, observed, strict=True)]
        ranks = [np.where(o.rank >= 0, np.log1p(np.maximum(o.rank, 0)), np.nan) for o in observed]
        lists = [_listed_by_server(o) for o in observed]
    else:
        stats = reader.score(framed, wanted=_wanted(settings), token_budget=token_budget, progress=progress)
        known = [_known(f, s, settings) for f, s in zip(framed, stats, strict=True)]
        ranks = [np.log1p(s.rank) for s in stats]
        lists = [None if settings.is_truncated else _listed(s, settings, BETAS.index(1.0)) for s in stats]
    others: dict[str, list[_Heard | None]] = {}
    ratios = [math.nan] * len(framed)
    if framing == "assistant":
        others[NO_TEMPLATE] = _elsewhere(reader, _bare(reader, passages, framed), settings, token_budget)
    for name, other in (versus or {}).items():
        if other.fingerprint != reader.fingerprint:
            raise UserError(
                f"{name} has another tokenizer than {reader.name}, so that it has no probability for the same tokens: "
                "name a model of the same family"
            )
        shown = framed if other.has_template or framing != "assistant" else _bare(reader, passages, framed)
        others[name] = _elsewhere(other, shown, settings, token_budget)
        if name == observer:
            ratios = _ratios(reader, other, framed, shown)
    reads = []
    for i, (f, found, rank_N, listed) in enumerate(zip(framed, known, ranks, lists, strict=True)):
        # A bet that cannot be made is not made: a factor of 1, whatever is charged for it.
        log_token_N = found.get("log_token_N", found["log_bound_N"])
        heard = {name: of_turns[i] for name, of_turns in others.items()}
        against = {n: log_token_N + settings.noise if h is None else h.logprob_N for n, h in heard.items()}
        given: dict[str, Any] = {"vocabulary": reader.vocabulary_size} | found
        null = Null(
            **given,
            log_unigram_N=_unigram(f, reader.vocabulary_size),
            others=against,
            common=_common(f, listed, heard),
        )
        off = {n: h.logprob_N - null.log_of_token_N for n, h in heard.items() if h is not None and len(null)}
        reads.append(Read(f, null, rank_N, {n: float(off_N.mean()) for n, off_N in off.items()}, ratios[i]))
    return reads


def _require_room(reader: AnyReader, framed: Sequence[Framed]) -> None:
    """Refuse a turn that is longer than the context: read in windows, its tokens would be tested after other ones."""
    for f in framed:
        if reader.context_length is not None and f.stop - 1 > reader.context_length:
            raise FramingError(
                f"turn '{f.passage_id}' has {f.stop - 1} tokens with its prompt and {reader.name} takes "
                f"{reader.context_length}: leave the turn out, or give the model with the context it was sampled with"
            )


def _wanted(settings: Settings) -> Wanted:
    if settings.is_truncated:
        (top_k, top_p), inner = settings.nucleus(1), settings.nucleus(-1)
        return Wanted(BETAS, 1, settings.temperature, top_k, top_p, *inner)
    return Wanted(tuple(beta / settings.temperature for beta in BETAS), LISTED, settings.temperature)


def _bare(reader: AnyReader, passages: Sequence[Passage], framed: Sequence[Framed]) -> list[Framed | None]:
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
    reader: AnyReader, framed: Sequence[Framed | None], settings: Settings, token_budget: int | None
) -> list[_Heard | None]:
    """What a reader says of the measured tokens, at the temperature of the sampler; None as given."""
    fits = [f for f in framed if f is not None and _fits(reader, f)]
    heard: Iterator[_Heard]
    if isinstance(reader, EndpointReader):
        heard = (_Heard(o.logprob, _listed_by_server(o)) for o in reader.observe(fits))
    else:
        inverse = 1 / settings.temperature
        # Lists are for bets within a noise budget, and only of a whole distribution.
        likeliest = LISTED if settings.noise and not settings.is_truncated else 0
        wanted = Wanted(betas=() if inverse == 1 else (inverse,), likeliest=likeliest)
        stats = reader.score(fits, wanted=wanted, token_budget=token_budget)
        heard = (_Heard(_log_at(s.surprisal, s, settings), _listed(s, settings) if likeliest else None) for s in stats)
    return [next(heard) if f is not None and _fits(reader, f) else None for f in framed]


def _ratios(
    reader: AnyReader, observer: AnyReader, framed: Sequence[Framed], shown: Sequence[Framed | None]
) -> list[float]:
    """Binoculars' ratio of each turn; NaN where the observer has nothing to read or no room for it."""
    if isinstance(reader, EndpointReader) or isinstance(observer, EndpointReader):
        raise UserError(
            "Binoculars' ratio needs whole distributions, which a server does not give: leave it out, or give the "
            "weights of both models"
        )
    return [
        math.nan if o is None or f.start == f.stop or not _fits(observer, o) else binoculars(reader, observer, f, o)
        for f, o in zip(framed, shown, strict=True)
    ]


def _log_at(surprisal: np.ndarray, stats: TokenStats, settings: Settings, at: int = 0) -> np.ndarray:
    """Log-probability at the sampler's temperature, of the surprisal [N] or [N, L] at temperature 1.

    `at` is the place of the inverse temperature among the exponents that were asked for, if any were.
    """
    log_sum_N = 0.0 if stats.power_sums is None else stats.power_sums[:, at].astype(float)
    return (-surprisal.astype(float).T / settings.temperature - log_sum_N).T


def _listed(stats: TokenStats, settings: Settings, at: int = 0) -> Listed:
    """The likeliest tokens of a reader at the sampler's temperature; `at` as in `_log_at`."""
    assert stats.likeliest_ids is not None
    assert stats.likeliest_logprobs is not None
    return Listed(stats.likeliest_ids, _log_at(-stats.likeliest_logprobs, stats, settings, at))


def _listed_by_server(observed: Observed) -> Listed | None:
    """None where a server tells tokens by their text alone."""
    is_told_NL = observed.top_ids >= 0
    if not is_told_NL[np.isfinite(observed.top_logprobs)].all():
        return None
    return Listed(observed.top_ids, np.where(is_told_NL, observed.top_logprobs, -np.inf))


def _common(
    framed: Framed, listed: Listed | None, heard: Mapping[str, _Heard | None]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each other reader that lists tokens, what it says of the cell of each token; no bet where it read nothing."""
    if listed is None:
        return {}
    token_N = np.array(framed.ids[framed.start : framed.stop], dtype=np.int64)
    common = {}
    for name, said in heard.items():
        if said is None:
            common[name] = (np.zeros(len(token_N)), np.zeros(len(token_N)))
        elif said.listed is not None:
            common[name] = common_cells(listed, said.listed, token_N)
    return common


def _fits(reader: AnyReader, framed: Framed) -> bool:
    try:
        reader.check_fits(framed)
    except FramingError:
        return False
    return True


def _known(framed: Framed, stats: TokenStats, settings: Settings) -> dict[str, Any]:
    """What is known of each token, from the statistics of a reader."""
    found = _truncated(stats, settings) if settings.is_truncated else _whole(framed, stats, settings)
    assert stats.likeliest_ids is not None
    token_N = np.array(framed.ids[framed.start : framed.stop], dtype=np.int64)
    return found | {"is_top_N": (stats.likeliest_ids[:, :1] == token_N[:, None]).any(1)}


def _cells(framed: Framed, observed: Observed, settings: Settings, reader: EndpointReader) -> dict[str, Any]:
    """What is known of each token, from a server: the likeliest tokens, each a cell, and all others together as one."""
    if settings.temperature != 1 or settings.is_truncated:
        raise UserError(
            f"{reader.name} is a server, which gives log-probabilities before temperature and truncation and not of "
            "the whole vocabulary: leave temperature and top-p at 1 where that is how the text was sampled, or give "
            "the model's weights"
        )
    listed_Nk = observed.top_logprobs
    if _listed_by_server(observed) is None:  # which one came is not known
        listed_Nk = listed_Nk[:, :0]
    n, listed = listed_Nk.shape
    place_N = np.where((observed.place >= 0) & (listed > 0), observed.place, listed)
    tail_N1 = 1.0 - np.exp(listed_Nk).sum(1, keepdims=True)
    with np.errstate(divide="ignore"):
        log_NC = np.concatenate([listed_Nk, np.log(np.maximum(tail_N1, 0))], axis=1)
    # A token beyond the list is as probable as the server says, however the list was rounded.
    beyond_N = place_N == listed
    log_NC[:, -1] = np.where(beyond_N, np.maximum(log_NC[:, -1], observed.logprob), log_NC[:, -1])
    log_NC -= np.logaddexp.reduce(log_NC, axis=1, keepdims=True)
    p_NC = np.exp(log_NC)
    information_NC = np.where(p_NC > 0, -log_NC, 0)
    entropy_N = (p_NC * information_NC).sum(1)
    log_came_N = log_NC[np.arange(n), place_N]
    with np.errstate(invalid="ignore"):
        sums = [np.logaddexp.reduce(np.where(p_NC > 0, beta * log_NC, -np.inf), axis=1) for beta in BETAS]
    return {
        "surprisal_N": -log_came_N,
        "entropy_N": entropy_N,
        "varentropy_N": (p_NC * (information_NC - entropy_N[:, None]) ** 2).sum(1),
        "log_sums_NB": np.stack(sums, 1),
        "log_top_N": np.minimum(log_NC.max(1), 0),
        "is_top_N": place_N == log_NC.argmax(1),
        "log_bound_N": log_came_N,
        "log_token_N": observed.logprob,
        "vocabulary": log_NC.shape[1],
        "tokens": reader.vocabulary_size,
    }


def _whole(framed: Framed, stats: TokenStats, settings: Settings) -> dict[str, Any]:
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


def _truncated(stats: TokenStats, settings: Settings) -> dict[str, Any]:
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


def framing_of(reader: AnyReader, passages: Sequence[Passage], settings: Settings) -> Framing:
    """How these turns are framed."""
    return settings.framing or default_framing(reader, passages)
