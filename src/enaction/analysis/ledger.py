"""The ledger: estimates, tests and writes down the findings of an experiment.

Every number passes through here, so that none is without its pooling, its interval, its count or its null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from enaction import stats
from enaction.analysis.data import Data, Subset
from enaction.findings import Finding, permutation_note

INTERVAL = "95 % percentile interval of a bootstrap over prompts, all cells resampled together"
# For what claims rest on, see `stats.t_interval`.
T_INTERVAL = "95 % t interval over prompts (jackknife), adjusted for skewness"
POOLED = "mean over prompts of the mean over a response's tokens, without the end-of-turn token"
POOLED_LOGS = (
    "log entropy: mean over prompts of the mean over a prompt's passages of the log of a passage's mean entropy, "
    f"at least {stats.ENTROPY_FLOOR:g} nats, without the end-of-turn token"
)
LOGS_PER_BYTE = "log entropy: as the mean of logs of passages, of nats per byte of text, comparable across tokenizers"
PER_TOKEN = "entropy: mean over all tokens"
PER_BYTE = "entropy: nats per byte of text, comparable across tokenizers"

# One axis of an estimate: the place of each of its entries.
Axis = Sequence[Mapping[str, Any]]


def along(key: str, names: Iterable[Any]) -> list[dict[str, Any]]:
    """An axis whose entries differ in one key: `along("reader", ["ash", "birch", "mean"])`."""
    return [{key: name} for name in names]


@dataclass(frozen=True)
class Permuted:
    """A permutation test: p-values in the shape of the estimate, and what was shuffled and which tail counts."""

    pvalue: Any
    how: str


@dataclass(frozen=True)
class Ledger:
    """Writes findings of one experiment; `at` gives a ledger for a narrower place that writes into the same list.

    Attributes:
        data: of the run.
        experiment: whose findings they are.
        findings: what is written so far.
        place: `where` that all findings of this ledger share.
        notes: that all findings of this ledger share.
        prompts: some of the prompts; None for all.
    """

    data: Data
    experiment: str
    findings: list[Finding]
    place: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    prompts: Subset | None = None

    @classmethod
    def of(cls, data: Data, experiment: str) -> Ledger:
        """An empty ledger."""
        return cls(data, experiment, [], {})

    def at(self, *, notes: Iterable[str] = (), prompts: Subset | None = None, **where: Any) -> Ledger:
        """A ledger for findings at this place, of these prompts, with these notes."""
        return replace(
            self,
            place={**self.place, **where},
            notes=(*self.notes, *notes),
            prompts=prompts or self.prompts,
        )

    def add(
        self,
        quantity: str,
        unit: str,
        text: str,
        value: stats.Estimate | stats.Resampled | np.ndarray,
        statistic: stats.Statistic | None = None,
        axes: Sequence[Axis] = (),
        *,
        pooling: str = f"entropy: {POOLED}",
        null: float | None = None,
        n: int | None = None,
        test: Permuted | None = None,
        interval: str = INTERVAL,
        notes: Iterable[str] = (),
        **where: Any,
    ) -> list[Finding]:
        """Estimate a quantity and write one finding for each entry of its axes.

        Args:
            quantity, unit, null: of the findings.
            text: what is computed, without pooling and interval, which are appended.
            value: per-prompt means [..., P]; or such with their resamples; or a finished estimate.
            statistic: of the cell means, as in `stats.bootstrap_estimate`; the means themselves by default.
            axes: the place of each entry along each axis of the estimate.
            pooling: how tokens became means.
            n: units; by default the prompts that every cell has.
            test: its p-values.
            interval: `INTERVAL` or `T_INTERVAL`; of a finished estimate, the one that it has.
            notes, where: of these findings alone.

        Raises:
            ValueError: the estimate has another shape than the axes, or the pooling is not named.
        """
        if not pooling:
            raise ValueError(f"{quantity}: every number names its pooling, see `POOLED`")
        if isinstance(value, np.ndarray):
            value = self.resampled(value)
        if isinstance(value, stats.Resampled):
            n = value.n_prompts if n is None else n
            value = value.jackknife(statistic) if interval == T_INTERVAL else value.estimate(statistic)
        shape = tuple(len(axis) for axis in axes)
        if n is None or np.shape(value.value) != shape:
            raise ValueError(f"{quantity}: estimate of shape {np.shape(value.value)} for axes {shape}, n {n}")
        parts = [part for part in (text, pooling, interval) if part]
        pvalue = None if test is None else np.broadcast_to(test.pvalue, shape)
        written = []
        for index in np.ndindex(shape):
            place: dict[str, Any] = {}
            for axis, i in zip(axes, index, strict=True):
                place |= axis[i]
            p = None if pvalue is None else float(pvalue[index])
            written.append(
                Finding(
                    self.experiment,
                    quantity,
                    {**place, **self.place, **where},
                    _number(value.value[index]),
                    _number(value.low[index]),
                    _number(value.high[index]),
                    n,
                    unit,
                    "; ".join(parts),
                    [*self.notes, *notes, *([permutation_note(p, test.how)] if test and p is not None else [])],
                    null,
                    p,
                )
            )
        self.findings.extend(written)
        return written

    def fact(
        self,
        quantity: str,
        unit: str,
        text: str,
        value: float | None,
        n: int,
        *,
        low: float | None = None,
        high: float | None = None,
        null: float | None = None,
        notes: Iterable[str] = (),
        **where: Any,
    ) -> Finding:
        """Write a number that is not estimated by resampling; `text` is its whole definition."""
        place, all_notes = {**self.place, **where}, [*self.notes, *notes]
        value, low, high = map(_number, (value, low, high))
        finding = Finding(self.experiment, quantity, place, value, low, high, n, unit, text, all_notes, null)
        self.findings.append(finding)
        return finding

    def leave_out(
        self, quantity: str, unit: str, why: str | Sequence[str], *, n: int = 0, text: str = "left out", **where: Any
    ) -> Finding:
        """Write that a number is missing, and why; each of several reasons is a note of its own."""
        reasons = [why] if isinstance(why, str) else [*why]
        place, notes, why = {**self.place, **where}, [*self.notes, *reasons], "; ".join(reasons)
        finding = Finding(self.experiment, quantity, place, None, None, None, n, unit, text, notes, left_out=why)
        self.findings.append(finding)
        return finding

    @property
    def n_prompts(self) -> int:
        """How many prompts the ledger's findings are about, whether every cell has them or not."""
        return self.prompts.n_prompts if self.prompts else self.data.n_prompts

    def resampled(self, value_P: np.ndarray, size_P: np.ndarray | None = None) -> stats.Resampled:
        """Per-prompt means with their resamples, over the ledger's prompts."""
        return (self.prompts or self.data).resampled(value_P, size_P)

    def label_test(
        self,
        value_P: np.ndarray,
        axis: int,
        statistic: stats.Statistic,
        stream: Sequence[int],
        tail: stats.Tail,
        how: str,
    ) -> Permuted:
        """Shuffle the labels of an axis within each prompt; see `stats.label_test`.

        Args:
            stream: of random numbers, from `STREAMS`.
            how: what is shuffled.
        """
        prompts = self.prompts or self.data.subset()
        result = prompts.label_test(value_P, axis, statistic, self.rng(stream), tail)
        return Permuted(result.pvalue, f"{how}, {'two-sided' if tail == 'both' else 'one-sided'}")

    def author_test(self, log_RAP: np.ndarray, stream: Sequence[int]) -> Permuted:
        """Shuffle the authors within each prompt: p of each reader's interaction, then of the mean's.

        Args:
            log_RAP: [R, A, P] log entropy.
            stream: of random numbers, from `STREAMS`.
        """
        if self.prompts:
            log_RAP = log_RAP[..., self.prompts.is_in_P]
        result = stats.exchangeability_test(log_RAP, self.rng(stream), self.data.study.resamples)
        how = "p of exchangeable authors: shuffled within each prompt, one-sided"
        return Permuted([*result.pvalue, result.mean_pvalue], how)

    def rng(self, stream: Sequence[int]) -> np.random.Generator:
        """Random numbers of a stream."""
        return np.random.default_rng([self.data.study.seed, *stream])


# Streams of random numbers of the permutation tests: (experiment, what is tested) -> what follows the study's seed.
# Numbers are never changed, so that a run gives the same p-values in every version; a new test takes a new number.
STREAMS: dict[tuple[str, str], tuple[int, ...]] = {
    ("matrix", "interaction"): (2,),
    ("framings", "interaction"): (2,),
    ("framings", "lowest margin"): (12,),
    ("framings", "differences"): (13,),
    ("persona", "interaction"): (21,),
    ("persona", "default"): (22,),
    ("persona", "across"): (23,),
    ("prior", "interaction at position"): (31,),
    ("prior", "trend"): (32,),
    ("prior", "earlier turns"): (33,),
    ("calibration", "null error"): (31,),
    ("calibration", "differences"): (32,),
    ("controls", "arms"): (5,),
    ("reaction", "shuffles"): (51,),
    ("commitment", "shuffled labels"): (61,),
    ("commitment", "clusters"): (62,),
    ("commitment", "probe"): (63,),
}


def with_mean(statistic: stats.Statistic, axis: int = -1) -> stats.Statistic:
    """Append the mean over readers to a statistic of each reader; `axis` is that of the readers in the statistic."""
    return lambda matrix: appended_mean(statistic(matrix), axis)


def appended_mean(value: np.ndarray, axis: int = -1) -> np.ndarray:
    """The values with their mean at the end of an axis."""
    return np.concatenate([value, value.mean(axis=axis, keepdims=True)], axis=axis)


def _number(value: np.ndarray | float | None) -> float | None:
    """A number for findings.json; None for a bound that too few resamples define, or a value that is not finite."""
    return float(value) if value is not None and np.isfinite(value) else None
