"""What one model, as it is now, makes of its own words and of others': the numbers that a training run is watched by.

The definitions are those of docs/definitions.md. A table of two readers and two authors is filled: the model in
training and a judge read what the model writes now, and what somebody else wrote in answer to the same prompts.
Neither of them is that somebody, so the model's own cell is the only one that takes no part in the fit, and its
recognition is identified; what is left of the log ratio is the ease of its text for the judge.

Axes: P prompt, M passage; 2 the two readers (model, judge), then the two authors (own, foreign).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np

from enaction import stats
from enaction.framing import Framed, frame
from enaction.passages import Passage, Prompt
from enaction.reader import Reader, TokenStats
from enaction.sampling import sample
from enaction.words import Framing

Numbers = dict[str, float]

# The cell that is predicted: the model on its own text. Rows are readers (model, judge), columns authors (own, other).
_LEFT_OUT_RA = np.array([[True, False], [False, False]])


@dataclass(frozen=True)
class Judge:
    """Who says how easy a text is for a reader that did not write it.

    Attributes:
        reader: it reads both texts.
        acting: a context in which `reader` is the judge (an adapter is off there).
        is_start: it is the model as it was before training.
    """

    reader: Reader
    acting: Callable[[], AbstractContextManager[object]] = nullcontext
    is_start: bool = False


@dataclass(frozen=True)
class Watch:
    """What is measured each time, and with what.

    Attributes:
        reader: the model in training.
        judge: for recognition and ease; None leaves only their sum, the log ratio.
        prompts: answered anew each time, from the same random numbers.
        foreign: passages of another author to some of the prompts.
        framing: of all texts.
        per_prompt, max_new_tokens, seed: of the model's own passages.
    """

    reader: Reader
    judge: Judge | None
    prompts: Sequence[Prompt]
    foreign: Sequence[Passage]
    framing: Framing
    per_prompt: int
    max_new_tokens: int
    seed: int

    def numbers(self) -> Numbers:
        """All of them, without prefix; what cannot be had is left out.

        identity, identity_z: mean surprisal minus entropy of own tokens, nats, and its standardised sum.
        log_ratio = recognition + ease: log units. kl_start: nats a token, from the start to the model as it is now.
        entropy: mean of own tokens, nats. Each but the z has its standard error (`_se`), by prompt; of the identity by
        the predicted variance.
        """
        own = sample(
            self.reader,
            self.prompts,
            n=self.per_prompt,
            max_new_tokens=self.max_new_tokens,
            framing=self.framing,
            seed=self.seed,
            author="the model in training",
        )
        passages = [*own, *self.foreign]
        framed = self._framed(self.reader, passages)
        scores = self.reader.score(framed)
        judged: tuple[list[Framed], list[TokenStats]] | None = None
        if self.judge is not None:
            framed_for_judge = self._framed(self.judge.reader, passages)
            with self.judge.acting():
                judged = framed_for_judge, self.judge.reader.score(framed_for_judge)

        numbers = identity_numbers(scores[: len(own)])
        entropies = [s.entropy for s in scores[: len(own)]]
        numbers |= pooled("entropy", entropies, [p.prompt_id for p in own])
        if self.judge is not None and judged is not None and self.judge.is_start:
            before = judged[1][: len(own)]
            gains = [b.surprisal - now.surprisal for b, now in zip(before, scores, strict=False)]
            numbers |= pooled("kl_start", gains, [p.prompt_id for p in own])
        if self.foreign:
            tables = [(framed, scores), *([judged] if judged else [])]
            numbers |= _split(np.stack([self._log_entropy(*table, passages, len(own)) for table in tables]))
        return numbers

    def _framed(self, reader: Reader, passages: Sequence[Passage]) -> list[Framed]:
        framing: Framing = self.framing if reader.has_template else "none"
        return [frame(reader.tokenizer, passage, framing) for passage in passages]

    def _log_entropy(
        self, framed: Sequence[Framed], scores: Sequence[TokenStats], passages: Sequence[Passage], n_own: int
    ) -> np.ndarray:
        """[2, P] log entropy of one reader on own and foreign text, NaN where an author has nothing to a prompt."""
        code = {prompt.id: i for i, prompt in enumerate(self.prompts)}
        log_M = stats.floored_log([_mean(s.entropy[: len(s) - f.has_end]) for f, s in zip(framed, scores, strict=True)])
        prompt_M = np.array([code[p.prompt_id] for p in passages])
        parts = (slice(n_own), slice(n_own, None))
        return np.stack([stats.prompt_means(log_M[part], prompt_M[part], len(code)) for part in parts])


def _mean(value_N: np.ndarray) -> float:
    return float(value_N.mean(dtype=np.float64)) if len(value_N) else math.nan


def _split(log_RAP: np.ndarray) -> Numbers:
    """Log ratio of the first reader and, with a second, what is recognition of it and what is ease.

    Args:
        log_RAP: [1 or 2 readers, 2 authors, P].
    """
    log_RAP = log_RAP[:, :, np.isfinite(log_RAP).all(axis=(0, 1))]
    log_ratio_P = log_RAP[0, 1] - log_RAP[0, 0]
    parts = {"log_ratio": log_ratio_P}
    if len(log_RAP) == 2:
        recognition_P = stats.familiarity(np.moveaxis(log_RAP, -1, 0), _LEFT_OUT_RA)[:, 0, 0]
        parts |= {"recognition": recognition_P, "ease": log_ratio_P - recognition_P}
    numbers: Numbers = {"prompts": float(len(log_ratio_P))}
    if len(log_ratio_P) < 2:
        return numbers
    for name, value_P in parts.items():
        mean = float(value_P.mean())
        low, high = stats.t_interval(mean, value_P)
        numbers[name], numbers[f"{name}_se"] = mean, float(value_P.std(ddof=1) / math.sqrt(len(value_P)))
        numbers[f"{name}_low"], numbers[f"{name}_high"] = float(low), float(high)
    return numbers


def identity_numbers(scores: Sequence[TokenStats], prefix: str = "identity", *, tempered: bool = False) -> Numbers:
    """Identity residual of text that the reader is said to have sampled, its end tokens included.

    Args:
        scores: of the text.
        prefix: of the names.
        tempered: take the statistics of the tempered distribution.
    """
    names = ("surprisal", "entropy", "varentropy")
    columns = [np.concatenate([getattr(s, f"sampled_{n}" if tempered else n) for s in scores]) for n in names]
    residual = stats.identity_residual(*columns)
    return {
        prefix: residual.mean,
        f"{prefix}_se": residual.standard_error,
        f"{prefix}_z": residual.standardised,
        f"{prefix}_tokens": float(residual.n_tokens),
    }


def pooled(name: str, values: Sequence[np.ndarray], clusters: Sequence[str]) -> Numbers:
    """Mean over all tokens, with the standard error of that ratio by cluster.

    Args:
        name: of the number.
        values: one array of tokens a passage.
        clusters: of each passage: its prompt, or itself.
    """
    codes = np.unique(np.array(clusters), return_inverse=True)[1]
    total_C, count_C = (
        np.bincount(codes, weights=[f(v) for v in values]) for f in (lambda v: float(np.sum(v, dtype=np.float64)), len)
    )
    if not count_C.sum():
        return {}
    mean = total_C.sum() / count_C.sum()
    numbers = {name: float(mean)}
    if (n := len(total_C)) > 1:
        away = ((total_C - mean * count_C) ** 2).sum() * n / (n - 1)
        numbers[f"{name}_se"] = float(math.sqrt(away) / count_C.sum())
    return numbers
