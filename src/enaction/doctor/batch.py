"""What is compared: the tokens of a batch of rollouts, flat, with the numbers that were kept about each.

Axes: N tokens of all rollouts in their order, R rollouts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from enaction.errors import PassageError
from enaction.rollouts import Rollout

COLUMNS = ("sampler", "trainer")


@dataclass(frozen=True)
class Batch:
    """Rollouts as columns.

    Attributes:
        rollouts: what the columns are made of, in their order.
        row: [N] number of the rollout.
        place: [N] number of the token in its rollout.
        cluster: [N] number of what is resampled together.
        token: [N] id of the token, -1 where the file has none.
        is_trained: bool [N], which tokens the trainer takes for sampled by the policy; all of them without a mask.
        sampler, trainer: [N] log-probabilities, nats; NaN where there is none.
        entropy: [N] logged entropies, nats; NaN where there is none.
    """

    rollouts: tuple[Rollout, ...]
    row: np.ndarray
    place: np.ndarray
    cluster: np.ndarray
    token: np.ndarray
    is_trained: np.ndarray
    sampler: np.ndarray
    trainer: np.ndarray
    entropy: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def column(self, name: str) -> np.ndarray:
        """The log-probabilities [N] of `sampler` or `trainer`."""
        return self.sampler if name == "sampler" else self.trainer

    def has(self, name: str) -> bool:
        """Whether any trained token has a number in this column (`sampler`, `trainer` or `entropy`)."""
        values_N = self.entropy if name == "entropy" else self.column(name)
        return bool((~np.isnan(values_N) & self.is_trained).any())

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each rollout."""
        return np.bincount(self.row, minlength=len(self.rollouts))

    @cached_property
    def slices(self) -> list[slice]:
        """Where each rollout lies in the columns."""
        stops = np.cumsum(self.lengths).tolist()
        return [slice(stop - n, stop) for stop, n in zip(stops, self.lengths.tolist(), strict=True)]

    @property
    def has_masked(self) -> bool:
        """Whether the masks leave any token out."""
        return not bool(self.is_trained.all())


def batch_of(rollouts: Sequence[Rollout]) -> Batch:
    """The columns of these rollouts; those without any token are left out.

    Raises:
        PassageError: no rollout has a number to compare, or columns of one differ in length.
    """
    kept = [(r, n) for r in rollouts if (n := _length(r))]
    clusters = {name: i for i, name in enumerate(dict.fromkeys(r.cluster for r, _ in kept))}
    batch = Batch(
        rollouts=tuple(r for r, _ in kept),
        row=_joined([np.full(n, i) for i, (_, n) in enumerate(kept)], int),
        place=_joined([np.arange(n) for _, n in kept], int),
        cluster=_joined([np.full(n, clusters[r.cluster]) for r, n in kept], int),
        token=_joined([np.full(n, -1) if r.token_ids is None else np.array(r.token_ids) for r, n in kept], int),
        is_trained=_joined([np.ones(n, bool) if r.mask is None else r.mask for r, n in kept], bool),
        sampler=_joined([_numbers(r.sampler_logprobs, n) for r, n in kept], float),
        trainer=_joined([_numbers(r.trainer_logprobs, n) for r, n in kept], float),
        entropy=_joined([_numbers(r.entropies, n) for r, n in kept], float),
    )
    has_number = ~(np.isnan(batch.sampler) & np.isnan(batch.trainer) & np.isnan(batch.entropy))
    if not has_number.any() and not any(r.logged for r in batch.rollouts):
        raise PassageError(
            f"none of the {len(rollouts)} rollouts has a log-probability or an entropy of its tokens, so there is "
            "nothing to compare: have the sampler keep them (`logprobs`), name their column with --column, or ask "
            "`enaction audit`, which needs text alone"
        )
    if len(batch) and not batch.is_trained.any():
        raise PassageError(
            "the masks leave out every token of every rollout, so nothing is trained on: name the right column with "
            "--column mask=NAME"
        )
    return batch


def _length(rollout: Rollout) -> int:
    """Tokens of a rollout, which all of its columns have to agree about."""
    columns = {
        "token ids": rollout.token_ids,
        "mask": rollout.mask,
        "sampler log-probabilities": rollout.sampler_logprobs,
        "trainer log-probabilities": rollout.trainer_logprobs,
        "entropies": rollout.entropies,
    }
    lengths = {name: len(values) for name, values in columns.items() if values is not None}
    if len(set(lengths.values())) > 1:
        common = Counter(lengths.values()).most_common(1)[0][0]
        name = next(name for name, length in lengths.items() if length != common)
        others = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise PassageError(
            f"rollout '{rollout.id}' has {others}: the {name} do not belong to these tokens; give a number for each "
            "token, null where there is none"
        )
    return next(iter(lengths.values()), 0)


def _joined(parts: list[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate([np.asarray(part, kind) for part in parts]) if parts else np.zeros(0, kind)


def _numbers(values: np.ndarray | None, n: int) -> np.ndarray:
    return np.full(n, np.nan) if values is None else np.asarray(values, np.float64)
