"""A second opinion with a fixed level: the model answers the same prompt again, and the turn is ranked among answers.

What is compared is the first tokens of each, so that a turn that is cut off and answers that are not are alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from enaction.audit.reading import Read, framing_of, read_turns
from enaction.audit.rolled import Given
from enaction.audit.settings import Settings
from enaction.errors import UserError
from enaction.passages import Passage, Prompt
from enaction.reader import Reader
from enaction.sampling import sample

# Tokens that are compared, at most.
COMPARED = 128


@dataclass(frozen=True)
class Ranked:
    """A turn among answers that the model gave to the same prompt.

    Attributes:
        number: of the turn, from 1.
        n_tokens: tokens of the turn that were compared.
        logprob, curvature: of these tokens; mean log-probability as stated, nats.
        p_logprob, p_curvature: two-sided p-values, (1 + number as extreme on the side with fewer) / (M + 1), doubled.
    """

    number: int
    n_tokens: int
    logprob: float
    curvature: float
    p_logprob: float
    p_curvature: float


def ranked(reader: Reader, passages: Sequence[Passage], settings: Settings, m: int, *, seed: int = 0) -> list[Ranked]:
    """Rank turns among `m` answers to their prompts, sampled with the same settings.

    Args:
        reader: the model.
        passages: the turns, the first of a file.
        settings: of the sampler.
        m: answers to each prompt.
        seed: of the answers.

    Raises:
        UserError: settings that nothing is sampled with here, or turns of which only ids are known.
    """
    if settings.top_k is not None:
        raise UserError("--resample samples without top-k: leave one of the two out")
    if any(isinstance(p, Given) for p in passages):
        raise UserError("--resample needs prompts as messages, and these are token ids: leave it out")
    framing = framing_of(reader, passages, settings)
    settings = replace(settings, framing=framing)
    made = []
    for number, passage in enumerate(passages, start=1):
        (read,) = read_turns(reader, [passage], settings)
        n_read = len(read.null)
        limit = COMPARED if passage.ended or n_read >= COMPARED else max(1, n_read)
        answers = sample(
            reader,
            [Prompt(f"turn {number}", passage.prompt)],
            n=m,
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_new_tokens=limit,
            framing="none" if framing == "none" else "assistant",
            seed=seed,
            author="resample",
        )
        if passage.ended is None:  # the end of the turn is not measured, so neither is that of the answers
            answers = [_open(answer) for answer in answers]
        reads = read_turns(reader, [a for a in answers if a.token_ids], settings)
        own = _statistics(read, limit)
        others = [_statistics(r, limit) for r in reads]
        p_values = [two_sided(own[i], [o[i] for o in others], m) for i in range(2)]
        made.append(Ranked(number, min(limit, n_read), *own, *p_values))
    return made


def _open(answer: Passage) -> Passage:
    """An answer without its end token, as if cut off there."""
    ids = answer.token_ids or ()
    return replace(answer, token_ids=ids[:-1] if answer.ended else ids, logprobs=None, ended=False)


def _statistics(read: Read, limit: int) -> tuple[float, float]:
    """Mean log-probability and curvature of the first tokens."""
    null = read.null
    surprisal_N, entropy_N = null.surprisal_N[:limit], null.entropy_N[:limit]
    variance = float(null.varentropy_N[:limit].sum())
    if not len(surprisal_N):
        return math.nan, math.nan
    off = float((entropy_N - surprisal_N).sum())
    return -float(surprisal_N.mean()), off / math.sqrt(variance) if variance > 0 else math.nan


def two_sided(own: float, others: Sequence[float], m: int) -> float:
    """Two-sided p-value of a statistic among `m` of which some may be missing, which count as extreme."""
    if math.isnan(own):
        return math.nan
    values = np.array(others)
    missing = m - int(np.isfinite(values).sum())
    sides = [1 + missing + int((values <= own).sum()), 1 + missing + int((values >= own).sum())]
    return min(1.0, 2 * min(sides) / (m + 1))
