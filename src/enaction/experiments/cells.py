"""What every analysis starts from: the cells of a finished run, pooled to prompts, and one set of resampling weights.

Axes: R reader, A author, P prompt, B resample, N token, M passage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from enaction import stats
from enaction.errors import StudyError
from enaction.findings import Finding
from enaction.passages import Passage, Prompt
from enaction.study.config import Study
from enaction.study.planning import Plan, framing_for
from enaction.study.store import Cell, Run
from enaction.tokens import table_notes
from enaction.words import Framing

INTERVAL = "95 % percentile interval of a bootstrap over prompts, all cells resampled together"
POOLED = "mean over prompts of the mean over a response's tokens, without the end-of-turn token"


class NoSettings(BaseModel):
    """Settings of an experiment that has none; what others build on."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class CellMeans:
    """One cell, pooled to prompts: each [P], NaN where the cell lacks the prompt.

    entropy, surprisal: response-weighted, nats. token_entropy with token_count: the same per token;
    byte_entropy with byte_count: nats of entropy per byte of text. largest: highest entropy of one passage, nats.
    """

    entropy: np.ndarray
    surprisal: np.ndarray
    token_entropy: np.ndarray
    token_count: np.ndarray
    byte_entropy: np.ndarray
    byte_count: np.ndarray
    largest: float


@dataclass(frozen=True)
class Data:
    """What all analyses share: a finished run, its cells pooled to prompts when first asked for, and one set of
    resampling weights [B, P]."""

    study: Study
    run: Run
    plan: Plan
    prompt_code: dict[str, int]
    weights: np.ndarray

    @classmethod
    def load(cls, study: Study, run: Run, plan: Plan, prompts: Sequence[Prompt] | None = None) -> Data:
        """The data of a finished run over the study's prompts, or over the prompts of an experiment's own."""
        prompts = study.load_prompts() if prompts is None else prompts
        weights = stats.cluster_weights(len(prompts), study.resamples, np.random.default_rng([study.seed, 1]))
        return cls(study, run, plan, {prompt.id: code for code, prompt in enumerate(prompts)}, weights)

    @cached_property
    def own_framing(self) -> dict[str, Framing]:
        """Model -> the framing that it sampled its own text in; `none` means that it has no template."""
        return {name: self.passages(name)[0].sampling["framing"] for name in self.study.models}

    @cached_property
    def cells(self) -> list[Cell]:
        """Every cell of the run."""
        return [c for reader in self.study.models for c in self.plan.read_by(self.study, self.run, reader)]

    def passages(self, author: str) -> list[Passage]:
        """An author's passages."""
        if author not in self._passages:
            self._passages[author] = self.run.passages(author)
        return self._passages[author]

    def cell(self, reader: str, author: str, framing: Framing) -> CellMeans:
        """What a reader found in an author's text where `framing` is asked for.

        Raises:
            StudyError: no token was measured.
        """
        return self.means(self.key(reader, author, framing))

    def means(self, cell: Cell) -> CellMeans:
        """A cell, pooled to prompts.

        Raises:
            StudyError: no token was measured.
        """
        if cell not in self._means:
            means = pool(self.run.tokens(cell), self.passages(cell.author), self.prompt_code)
            if not np.isfinite(means.entropy).any():
                raise StudyError(
                    f"{cell.reader} found no token to measure in {cell.author}'s passages ({cell.framing}): all of its "
                    f"responses are empty; look at them with `enaction sample`, or leave {cell.author} out of the study"
                )
            self._means[cell] = means
        return self._means[cell]

    def key(self, reader: str, author: str, framing: Framing) -> Cell:
        """The cell that stands for a reader and author where `framing` is asked for."""
        return Cell(reader, author, framing_for(self.own_framing[reader], framing))

    def left_out(self, reader: str, author: str, framing: Framing) -> str | None:
        """Why a cell of the plan has nothing to say: what refused it, or an author that wrote nothing; else None."""
        tokens = self.run.tokens(self.key(reader, author, framing))
        if len(tokens):
            return None
        return table_notes(tokens).get("left_out", f"there are no words of {author} to read")

    def table(self, readers: Sequence[str], authors: Sequence[str], framing: Framing, field: str) -> np.ndarray:
        """[R, A, P] of one field of `CellMeans`."""
        return np.array([[getattr(self.cell(r, a, framing), field) for a in authors] for r in readers])

    def spans(
        self, reader: str, author: str, framing: Framing, spans: Sequence[tuple[int, int]], column: str = "entropy"
    ) -> np.ndarray:
        """[K, P] mean of a column of the token table over spans of positions; see `stats.span_means`."""
        tokens, passages = self.run.tokens(self.key(reader, author, framing)), self.passages(author)
        return stats.span_means(
            passage_codes(tokens, passages),
            tokens["position"].to_numpy(),
            tokens[column].to_numpy(),
            np.array([self.prompt_code[p.prompt_id] for p in passages]),
            self.n_prompts,
            spans,
            ~tokens["is_end"].to_numpy(),
        )

    def estimate(self, value_P: np.ndarray, statistic: Any = None, size_P: np.ndarray | None = None) -> stats.Estimate:
        """A statistic of cell means over prompts, with its interval; all analyses share the resamples."""
        return stats.bootstrap_estimate(value_P, self.weights, statistic, size_P=size_P)

    @property
    def n_prompts(self) -> int:
        """P."""
        return len(self.prompt_code)

    @cached_property
    def _passages(self) -> dict[str, list[Passage]]:
        return {}

    @cached_property
    def _means(self) -> dict[Cell, CellMeans]:
        return {}


@dataclass(frozen=True)
class Part:
    """Some of a run's prompts, for an experiment that takes fewer: which they are, and resampling weights of their own.

    is_in_P: [P] bool. weights: [B, number of them].
    """

    is_in_P: np.ndarray  # noqa: N815  # axes, by the house convention
    weights: np.ndarray

    @classmethod
    def of(cls, data: Data, prompts: Sequence[Prompt]) -> Part:
        """The part of these prompts; all of them give the run's own weights."""
        names = {prompt.id for prompt in prompts}
        is_in_P = np.array([name in names for name in data.prompt_code])
        if is_in_P.all():
            return cls(is_in_P, data.weights)
        rng = np.random.default_rng([data.study.seed, 1])
        return cls(is_in_P, stats.cluster_weights(int(is_in_P.sum()), data.study.resamples, rng))

    def estimate(self, value_P: np.ndarray, statistic: Any = None) -> stats.Estimate:
        """As `Data.estimate`, over these prompts."""
        return stats.bootstrap_estimate(value_P[..., self.is_in_P], self.weights, statistic)

    def test(
        self,
        value_P: np.ndarray,
        axis: int,
        statistic: Callable[[np.ndarray], np.ndarray],
        rng: np.random.Generator,
        tail: stats.Tail,
    ) -> stats.LabelTest:
        """As `stats.label_test`, over these prompts, with as many permutations as the run has resamples."""
        return stats.label_test(value_P[..., self.is_in_P], axis, statistic, rng, len(self.weights), tail=tail)


def thinned(prompts: Sequence[Prompt], n_prompts: int | None) -> list[Prompt]:
    """So many of the prompts, spread evenly over them; all if there are no more."""
    n_prompts = min(n_prompts or len(prompts), len(prompts))
    return [prompts[i * len(prompts) // n_prompts] for i in range(n_prompts)]


def pool(tokens: pa.Table, passages: Sequence[Passage], prompt_code: dict[str, int]) -> CellMeans:
    """Pool a cell's token table to prompts."""
    n_prompts, n_passages = len(prompt_code), len(passages)
    passage_N = passage_codes(tokens, passages)
    prompt_M = np.array([prompt_code[p.prompt_id] for p in passages])
    bytes_M = np.array([len(p.response.encode()) for p in passages])
    is_text_N = ~tokens["is_end"].to_numpy()
    entropy = stats.passage_sums(passage_N, tokens["entropy"].to_numpy(), n_passages, is_text_N)
    surprisal = stats.passage_sums(passage_N, tokens["surprisal"].to_numpy(), n_passages, is_text_N)
    token_entropy, token_count = stats.prompt_rates(entropy.totals, entropy.counts, prompt_M, n_prompts)
    byte_entropy, byte_count = stats.prompt_rates(entropy.totals, bytes_M, prompt_M, n_prompts)
    return CellMeans(
        entropy=stats.prompt_means(entropy.means, prompt_M, n_prompts),
        surprisal=stats.prompt_means(surprisal.means, prompt_M, n_prompts),
        token_entropy=token_entropy,
        token_count=token_count,
        byte_entropy=byte_entropy,
        byte_count=byte_count,
        largest=float(np.nanmax(entropy.means, initial=0.0)),
    )


def passage_codes(tokens: pa.Table, passages: Sequence[Passage]) -> np.ndarray:
    """[N] index of each row's passage."""
    code = {p.id: i for i, p in enumerate(passages)}
    column = tokens["passage_id"].combine_chunks()
    lookup = np.array([code[i] for i in column.dictionary.to_pylist()], dtype=np.int64)
    return lookup[column.indices.to_numpy()] if len(column) else np.empty(0, np.int64)


def estimated(
    experiment: str, quantity: str, where: dict[str, Any], found: stats.Estimate, n: int, unit: str, definition: str
) -> Finding:
    """A finding from an estimate; a bound that too few resamples define is None."""

    def number(value: np.ndarray) -> float | None:
        return float(value) if np.isfinite(value) else None

    return Finding(
        experiment, quantity, where, number(found.value), number(found.low), number(found.high), n, unit, definition
    )


def with_mean(statistic: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Append the mean over readers to a statistic of each reader."""

    return lambda matrix: appended_mean(statistic(matrix))


def appended_mean(value: np.ndarray, axis: int = -1) -> np.ndarray:
    """The values with their mean at the end of an axis."""
    return np.concatenate([value, value.mean(axis=axis, keepdims=True)], axis=axis)
