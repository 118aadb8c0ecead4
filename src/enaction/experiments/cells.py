"""What every analysis starts from: the cells of a finished run, pooled to prompts, and one set of resampling weights.

Axes: R reader, A author, P prompt, B resample, N token, M passage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from enaction import stats
from enaction.errors import StudyError
from enaction.findings import Finding
from enaction.framing import Framing
from enaction.passages import Passage
from enaction.study.config import WORLD, Study
from enaction.study.engine import cells_of, framing_for
from enaction.study.store import Cell, Run

NAME = "matrix"
INTERVAL = "95 % percentile interval of a bootstrap over prompts, all cells resampled together"
POOLED = "mean over prompts of the mean over a response's tokens, without the end-of-turn token"


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
    """What all analyses share: the study, its cells pooled, one set of resampling weights [B, P]."""

    study: Study
    run: Run
    own_framing: dict[str, Framing]
    prompt_code: dict[str, int]
    passages: dict[str, list[Passage]]
    cells: dict[Cell, CellMeans]
    weights: np.ndarray

    def cell(self, reader: str, author: str, framing: Framing) -> CellMeans:
        """What a reader found in an author's text where `framing` is asked for."""
        return self.cells[self.key(reader, author, framing)]

    def key(self, reader: str, author: str, framing: Framing) -> Cell:
        """The cell that stands for a reader and author where `framing` is asked for."""
        return Cell(reader, author, framing_for(self.own_framing[reader], framing))

    def table(self, readers: Sequence[str], authors: Sequence[str], framing: Framing, field: str) -> np.ndarray:
        """[R, A, P] of one field of `CellMeans`."""
        return np.array([[getattr(self.cell(r, a, framing), field) for a in authors] for r in readers])

    def estimate(self, value_P: np.ndarray, statistic: Any = None, size_P: np.ndarray | None = None) -> stats.Estimate:
        """A statistic of cell means over prompts, with its interval; all analyses share the resamples."""
        return stats.bootstrap_estimate(value_P, self.weights, statistic, size_P=size_P)

    @property
    def n_prompts(self) -> int:
        """P."""
        return len(self.prompt_code)


def load(study: Study, run: Run) -> Data:
    """Pool every cell of a finished run.

    Raises:
        StudyError: an author wrote nothing that can be measured.
    """
    prompt_code = {prompt.id: code for code, prompt in enumerate(study.load_prompts())}
    authors = [*study.models, *([WORLD] if study.world_text else [])]
    passages = {author: run.passages(author) for author in authors}
    own: dict[str, Framing] = {name: passages[name][0].sampling["framing"] for name in study.models}
    cells = {
        cell: pool(run.tokens(cell), passages[cell.author], prompt_code)
        for reader in study.models
        for cell in cells_of(study, run, reader)
    }
    for cell, means in cells.items():
        if not np.isfinite(means.entropy).any():
            raise StudyError(
                f"{cell.reader} found no token to measure in {cell.author}'s passages ({cell.framing}): all of its "
                f"responses are empty; look at them with `enaction sample`, or leave {cell.author} out of the study"
            )
    rng = np.random.default_rng([study.seed, 1])
    weights = stats.cluster_weights(len(prompt_code), study.resamples, rng)
    return Data(study, run, own, prompt_code, passages, cells, weights)


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
    quantity: str, where: dict[str, Any], found: stats.Estimate, n: int, unit: str, definition: str
) -> Finding:
    """A finding from an estimate; a bound that too few resamples define is None."""

    def number(value: np.ndarray) -> float | None:
        return float(value) if np.isfinite(value) else None

    return Finding(
        NAME, quantity, where, number(found.value), number(found.low), number(found.high), n, unit, definition
    )


def with_mean(statistic: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Append the mean over readers to a statistic of each reader."""

    def both(matrix: np.ndarray) -> np.ndarray:
        value_R = statistic(matrix)
        return np.concatenate([value_R, value_R.mean(axis=-1, keepdims=True)], axis=-1)

    return both
