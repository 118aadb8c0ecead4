"""What every analysis starts from: the cells of a finished run, pooled to prompts, and one set of resampling weights.

Each token table and each passage file is read once for all experiments.

Axes: R reader, A author, P prompt, B resample, N token, M passage, K span.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from enaction import stats
from enaction.errors import PassageError, StudyError
from enaction.passages import Passage, Prompt
from enaction.study.config import Study
from enaction.study.planning import Plan, framing_for
from enaction.study.store import Cell, Run
from enaction.study.tables import read_table
from enaction.tokens import table_notes
from enaction.words import Framing

# Token columns that are held for the next experiment; the least recently used go first.
HELD_BYTES = 2**30
# Columns of the token table that analyses read, in the order of the fields of `Tokens`.
_COLUMNS = ("position", "surprisal", "entropy", "varentropy", "is_end", "token_id")


@dataclass(frozen=True)
class Tokens:
    """The columns of a cell's token table, each [N], and the table's notes.

    passage: index of the row's passage in `Data.passages`. position: in the response, from 0. surprisal, entropy: nats.
    varentropy: nats^2. is_end: the end-of-turn token. token_id: of the reader's tokenizer.
    """

    passage: np.ndarray
    position: np.ndarray
    surprisal: np.ndarray
    entropy: np.ndarray
    varentropy: np.ndarray
    is_end: np.ndarray
    token_id: np.ndarray
    notes: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.passage)

    def text(self) -> Tokens:
        """Without end-of-turn tokens."""
        keep = ~self.is_end
        return Tokens(*(column[keep] for column in self._columns), notes=self.notes)

    @property
    def n_bytes(self) -> int:
        """Memory that the columns take."""
        return sum(column.nbytes for column in self._columns)

    @property
    def _columns(self) -> tuple[np.ndarray, ...]:
        return tuple(getattr(self, name) for name in ("passage", *_COLUMNS))


@dataclass(frozen=True)
class CellMeans:
    """One cell, pooled to prompts: each [P], NaN for a prompt that is missing in the cell.

    entropy, surprisal: response-weighted, nats. token_entropy with token_count: the same per token;
    byte_entropy with byte_count: nats of entropy per byte of text. log_entropy: mean over passages of the log of a
    passage's mean entropy, so that a mean over prompts is the log of a geometric one; log_byte_entropy: the same of
    entropy per byte. largest: highest entropy of one passage, nats. log_passage: [M] log mean entropy of each passage,
    NaN without tokens; floored: share of the passages that were below `stats.ENTROPY_FLOOR` and count as that in logs.
    """

    entropy: np.ndarray
    surprisal: np.ndarray
    token_entropy: np.ndarray
    token_count: np.ndarray
    byte_entropy: np.ndarray
    byte_count: np.ndarray
    log_entropy: np.ndarray
    log_byte_entropy: np.ndarray
    largest: float
    log_passage: np.ndarray
    floored: float


@dataclass(frozen=True)
class Subset:
    """Some of a run's prompts, for an experiment that takes fewer: which they are, and resampling weights of their own.

    is_in_P: [P] bool. weights: [B, number of them].
    """

    is_in_P: np.ndarray  # noqa: N815  # axes, by the house convention
    weights: np.ndarray

    @property
    def n_prompts(self) -> int:
        """How many they are."""
        return int(self.is_in_P.sum())

    def resampled(self, value_P: np.ndarray, size_P: np.ndarray | None = None) -> stats.Resampled:
        """Cell values over these prompts, with their means in every resample."""
        size_P = None if size_P is None else size_P[..., self.is_in_P]
        return stats.Resampled(value_P[..., self.is_in_P], self.weights, size_P)

    def label_test(
        self,
        value_P: np.ndarray,
        axis: int,
        statistic: Callable[[np.ndarray], np.ndarray],
        rng: np.random.Generator,
        tail: stats.Tail,
    ) -> stats.LabelTest:
        """As `stats.label_test`, over these prompts, with as many permutations as the run has resamples."""
        return stats.label_test(value_P[..., self.is_in_P], axis, statistic, rng, len(self.weights), tail=tail)


class Data:
    """A finished run for analysis: its cells pooled to prompts when first asked for, and resampling weights [B, P].

    Args:
        study, run, plan: of the run.
        prompts: in place of the study's own, for an experiment that has prompts of its own.
    """

    def __init__(self, study: Study, run: Run, plan: Plan, prompts: Sequence[Prompt] | None = None) -> None:
        self.study, self.run, self.plan = study, run, plan
        self.prompts = tuple(plan.prompts if prompts is None else prompts)
        self.prompt_code = {prompt.id: code for code, prompt in enumerate(self.prompts)}
        self.weights = self._weights(len(self.prompts))
        self._tokens: OrderedDict[Cell, Tokens] = OrderedDict()
        self._held_bytes = 0
        self._passages: dict[str, list[Passage]] = {}
        self._means: dict[Cell, CellMeans] = {}
        self._tables: dict[tuple, stats.Resampled] = {}

    @cached_property
    def own_framing(self) -> dict[str, Framing]:
        """Model -> the framing that it sampled its own text in; `none` means that it has no template."""
        return {name: self.run.sampled_in(name) for name in self.study.models}

    @cached_property
    def cells(self) -> list[Cell]:
        """Every cell of the run."""
        planned = self.plan.cells
        cells = [c._replace(framing=framing_for(self.own_framing[c.reader], c.framing)) for c in planned]
        of_readers = {reader: [c for c in cells if c.reader == reader] for reader in self.study.models}
        return list(dict.fromkeys(c for of_reader in of_readers.values() for c in of_reader))

    @property
    def n_prompts(self) -> int:
        """P."""
        return len(self.prompts)

    def passages(self, author: str) -> list[Passage]:
        """An author's passages."""
        if author not in self._passages:
            self._passages[author] = self.run.passages(author)
        return self._passages[author]

    def _with_prompts(self, author: str) -> list[Passage]:
        """An author's passages, of which each answers a prompt that is known.

        Raises:
            PassageError: one does not.
        """
        passages = self.passages(author)
        strange = next((p for p in passages if p.prompt_id not in self.prompt_code), None)
        if strange is not None:
            raise PassageError(
                f"{self.run.folder / 'passages'}: text of {author} is damaged ('{strange.id}' answers no prompt of the "
                f"run, '{strange.prompt_id}'): remove its file, and `enaction run` with the same study and --out "
                "writes it again"
            )
        return passages

    def key(self, reader: str, author: str, framing: Framing) -> Cell:
        """The cell of a reader and author where `framing` is asked for."""
        return Cell(reader, author, framing_for(self.own_framing[reader], framing))

    def without_template(self, readers: Sequence[str], framing: Framing) -> list[str]:
        """The readers that have no chat template and so are read in `none` where `framing` is asked for."""
        return [reader for reader in readers if framing_for(self.own_framing[reader], framing) != framing]

    def tokens(self, cell: Cell) -> Tokens:
        """The columns of a cell's token table."""
        if cell in self._tokens:
            self._tokens.move_to_end(cell)
            return self._tokens[cell]
        try:
            tokens = self._tokens[cell] = _columns(self.run.tokens(cell), self.passages(cell.author))
        except KeyError as error:
            raise StudyError(
                f"{self.run.folder / 'tokens'}: the table of {cell.reader} on {cell.author} ({cell.framing}) is "
                f"damaged (there is no passage {error}): remove it, and `enaction run` with the same study and --out "
                "reads it again"
            ) from error
        self._held_bytes += tokens.n_bytes
        while self._held_bytes > HELD_BYTES and len(self._tokens) > 1:
            self._held_bytes -= self._tokens.popitem(last=False)[1].n_bytes
        return tokens

    def measured(self, name: str) -> pa.Table:
        """A measured table.

        Raises:
            StudyError: it is not there, or its file is damaged.
        """
        return read_table(self.run.folder, name)

    def prompt_codes(self, author: str) -> np.ndarray:
        """[M] index of the prompt of each of an author's passages."""
        return np.array([self.prompt_code[p.prompt_id] for p in self._with_prompts(author)], dtype=np.int64)

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
            means = pool(self.tokens(cell), self._with_prompts(cell.author), self.prompt_code)
            if not np.isfinite(means.entropy).any():
                raise StudyError(
                    f"{cell.reader} found no token to measure in {cell.author}'s passages ({cell.framing}): all of its "
                    f"responses are empty; look at them with `enaction sample`, or leave {cell.author} out of the study"
                )
            self._means[cell] = means
        return self._means[cell]

    def left_out(self, reader: str, authors: Sequence[str], framing: Framing) -> str | None:
        """Why a reader has nothing to say about one of these texts: what refused the first such cell, or an author
        that wrote nothing; else None.
        """
        for author in authors:
            tokens = self.tokens(self.key(reader, author, framing))
            if not len(tokens):
                return tokens.notes.get("left_out", f"there are no words of {author} to read")
        return None

    def table(
        self, readers: Sequence[str], authors: Sequence[str], framing: Framing, field: str = "entropy"
    ) -> np.ndarray:
        """[R, A, P] of one field of `CellMeans`."""
        return np.array([[getattr(self.cell(r, a, framing), field) for a in authors] for r in readers])

    def matrix(
        self, readers: Sequence[str], authors: Sequence[str], framing: Framing, field: str = "entropy"
    ) -> stats.Resampled:
        """As `table`, with the means of every resample, which all experiments share.

        Means of `token_entropy` and `byte_entropy` are weighted by tokens and bytes.
        """
        key = (tuple(readers), tuple(authors), framing, field)
        if key not in self._tables:
            sizes = {"token_entropy": "token_count", "byte_entropy": "byte_count"}
            size = self.table(readers, authors, framing, sizes[field]) if field in sizes else None
            self._tables[key] = self.resampled(self.table(readers, authors, framing, field), size)
        return self._tables[key]

    def spans(
        self, reader: str, author: str, framing: Framing, spans: Sequence[tuple[int, int]], column: str = "entropy"
    ) -> np.ndarray:
        """[K, P] mean of a column of the token table over spans of positions; see `stats.span_means`."""
        tokens = self.tokens(self.key(reader, author, framing))
        return stats.span_means(
            tokens.passage,
            tokens.position,
            getattr(tokens, column),
            self.prompt_codes(author),
            self.n_prompts,
            spans,
            ~tokens.is_end,
        )

    def span_tables(self, members: Sequence[str], framing: Framing, spans: Sequence[tuple[int, int]]) -> np.ndarray:
        """[K, R, A, P] entropy of a table of models over spans of positions, at prompts that all cells have there."""
        value_RAKP = np.array([[self.spans(r, a, framing, spans) for a in members] for r in members])
        return np.moveaxis(complete(value_RAKP), 2, 0)

    def resampled(self, value_P: np.ndarray, size_P: np.ndarray | None = None) -> stats.Resampled:
        """Cell values [..., P] with their means in every resample; all analyses share the resamples."""
        return stats.Resampled(value_P, self.weights, size_P)

    def estimate(self, value_P: np.ndarray, statistic: Any = None, size_P: np.ndarray | None = None) -> stats.Estimate:
        """A statistic of cell means over prompts, with its interval."""
        return self.resampled(value_P, size_P).estimate(statistic)

    def subset(self, prompts: Sequence[Prompt] | None = None) -> Subset:
        """Some of the prompts; all of them, by default too, have the run's own weights."""
        names = set(self.prompt_code) if prompts is None else {prompt.id for prompt in prompts}
        is_in_P = np.array([name in names for name in self.prompt_code])
        return Subset(is_in_P, self.weights if is_in_P.all() else self._weights(int(is_in_P.sum())))

    def _weights(self, n_prompts: int) -> np.ndarray:
        rng = np.random.default_rng([self.study.seed, 1])
        return stats.cluster_weights(n_prompts, self.study.resamples, rng)


def complete(value_P: np.ndarray, axes: tuple[int, ...] = (0, 1)) -> np.ndarray:
    """Cell values [..., P] with NaN for a prompt in every cell along the axes if it is missing in any of them."""
    return np.where(np.isnan(value_P).any(axis=axes, keepdims=True), np.nan, value_P)


def pool(tokens: Tokens, passages: Sequence[Passage], prompt_code: dict[str, int]) -> CellMeans:
    """Pool a cell's tokens to prompts."""
    n_prompts, n_passages = len(prompt_code), len(passages)
    prompt_M = np.array([prompt_code[p.prompt_id] for p in passages])
    bytes_M = np.array([len(p.response.encode()) for p in passages])
    entropy = stats.passage_sums(tokens.passage, tokens.entropy, n_passages, ~tokens.is_end)
    surprisal = stats.passage_sums(tokens.passage, tokens.surprisal, n_passages, ~tokens.is_end)
    token_entropy, token_count = stats.prompt_rates(entropy.totals, entropy.counts, prompt_M, n_prompts)
    byte_entropy, byte_count = stats.prompt_rates(entropy.totals, bytes_M, prompt_M, n_prompts)
    mean_M, log_M = entropy.means, stats.floored_log(entropy.means)
    with np.errstate(divide="ignore"):  # an empty text has no tokens either, and is NaN already
        log_byte_M = log_M + np.log(entropy.counts) - np.log(bytes_M)
    return CellMeans(
        entropy=stats.prompt_means(mean_M, prompt_M, n_prompts),
        surprisal=stats.prompt_means(surprisal.means, prompt_M, n_prompts),
        token_entropy=token_entropy,
        token_count=token_count,
        byte_entropy=byte_entropy,
        byte_count=byte_count,
        log_entropy=stats.prompt_means(log_M, prompt_M, n_prompts),
        log_byte_entropy=stats.prompt_means(log_byte_M, prompt_M, n_prompts),
        largest=float(np.nanmax(mean_M, initial=0.0)),
        log_passage=log_M,
        floored=float((mean_M < stats.ENTROPY_FLOOR).sum() / max(np.isfinite(mean_M).sum(), 1)),
    )


def _columns(table: pa.Table, passages: Sequence[Passage]) -> Tokens:
    code = {p.id: i for i, p in enumerate(passages)}
    names = table["passage_id"].combine_chunks()
    lookup = np.array([code[i] for i in names.dictionary.to_pylist()], dtype=np.int64)
    return Tokens(
        lookup[names.indices.to_numpy()] if len(names) else np.empty(0, np.int64),
        *(table[name].to_numpy() for name in _COLUMNS),
        notes=table_notes(table),
    )
