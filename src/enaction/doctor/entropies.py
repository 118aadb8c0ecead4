"""Logged entropies: each token's against the surprisal that came, and logged means against the averages of tokens.

A token that was drawn from a distribution is on average as surprising as that distribution's entropy: E[s - H | past] =
0. So the mean of s - H over a batch is 0 to within its interval, whatever the model, if s is minus the log-probability
under the distribution that was drawn from and H is its entropy. No model is needed for that.

Axes: N tokens of the batch. In nats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from enaction.doctor.batch import Batch
from enaction.doctor.hypotheses import moved
from enaction.stats.rates import cluster_rate
from enaction.stats.resampling import Estimate

# |z| beyond which the entropies are not those of what was drawn.
ALARM = 4.0
# A logged mean is printed or kept to about so many parts of itself.
_PRINTED = 2e-3
# The name of an average over all the tokens that it should be over.
RIGHT = "trained tokens"
_EACH = "trained tokens, each rollout the same"


@dataclass(frozen=True)
class Identity:
    """The mean of surprisal minus entropy over trained tokens.

    Attributes:
        residual: with a 95 % t interval over clusters, nats a token.
        z: the residual in standard errors over clusters; NaN from one cluster.
        n_tokens: that have both numbers.
        column: whose log-probabilities were held against the entropies.
    """

    residual: Estimate
    z: float
    n_tokens: int
    column: str

    @property
    def is_alarming(self) -> bool:
        """Whether the residual is not 0."""
        return abs(self.z) > ALARM


def identity(batch: Batch, logprob_N: np.ndarray, entropy_N: np.ndarray, column: str) -> Identity | None:
    """Hold entropies against surprisals; None where no trained token has both."""
    both_N = batch.is_trained & np.isfinite(logprob_N) & np.isfinite(entropy_N)
    if not both_N.any():
        return None
    cluster_N = batch.cluster[both_N]
    away_N = -logprob_N[both_N] - entropy_N[both_N]
    n_clusters = int(batch.cluster.max()) + 1
    total_C = np.bincount(cluster_N, away_N, minlength=n_clusters)
    count_C = np.bincount(cluster_N, minlength=n_clusters)
    rate = cluster_rate(total_C, count_C)
    used = count_C > 0
    deviation_C = total_C[used] - rate.value * count_C[used]
    squares = float((deviation_C**2).sum()) * used.sum() / max(used.sum() - 1, 1)
    error = math.sqrt(squares) / count_C.sum()
    z = float(rate.value) / error if used.sum() > 1 and error > 0 else math.nan
    return Identity(rate, z, int(both_N.sum()), column)


@dataclass(frozen=True)
class Logged:
    """A mean that a trainer logged, beside the averages that it can be.

    Attributes:
        name: of the metric.
        values: as logged, one for each group of rollouts that share it.
        best: which average it is, in words; "" if it is none of them.
        right, nearest: what the right average and the one that fits best are, means over groups.
        is_right: whether it is the average over the trained tokens.
        tried: names of the averages.
    """

    name: str
    values: tuple[float, ...]
    best: str
    right: float
    nearest: float
    is_right: bool
    tried: tuple[str, ...]


@dataclass(frozen=True)
class Around:
    """Values at the tokens around each answer, one entry a rollout.

    Attributes:
        prompts: of the prompt's own tokens, but for its first.
        after: of what is predicted after the answer's last token.
    """

    prompts: Sequence[np.ndarray]
    after: np.ndarray


def logged_mean(
    name: str, batch: Batch, value_N: np.ndarray, noise: float, around: Around | None = None
) -> Logged | None:
    """Which average of the tokens' values a logged mean is.

    Rollouts that follow one another with the same logged mean are one group. An average fits if its distance, root mean
    square over groups, is within three standard errors of the noise and the rounding of a log. The right ones are those
    over trained tokens, each token or each rollout counting the same.

    Args:
        name: of the metric in `Rollout.logged`.
        batch: the rollouts.
        value_N: the quantity at each token; NaN where it is not known.
        noise: of the values, standard deviation, nats.
        around: values at the tokens around the answers, if they are known.
    """
    groups = _groups(name, batch)
    if not groups:
        return None
    tables = [dict(_averages(batch, rows, value_N, around)) for _, rows in groups]
    logged = np.array([value for value, _ in groups])
    names = [key for key in tables[0] if all(np.isfinite(table.get(key, np.nan)) for table in tables)]
    if RIGHT not in names:
        return None
    n_tokens = np.array([sum(int(batch.is_trained[batch.slices[r]].sum()) for r in rows) for _, rows in groups])
    room = 3 * noise / np.sqrt(np.maximum(n_tokens, 1)) + _PRINTED * np.abs(logged) + 5e-4
    distance = {
        key: math.sqrt(float(np.mean(((np.array([t[key] for t in tables]) - logged) / room) ** 2))) for key in names
    }
    right = [key for key in names if key in (RIGHT, _EACH)]
    is_right = min(distance[key] for key in right) <= 1
    best = min(names, key=lambda key: distance[key])
    if is_right:
        best = min(right, key=lambda key: distance[key])
    fits = distance[best] <= 1
    mean_of = {key: float(np.mean([table[key] for table in tables])) for key in (RIGHT, best)}
    return Logged(
        name, tuple(logged.tolist()), best if fits else "", mean_of[RIGHT], mean_of[best], is_right, tuple(names)
    )


def _groups(name: str, batch: Batch) -> list[tuple[float, list[int]]]:
    """Logged values with the rollouts that follow one another and share them."""
    groups: list[tuple[float, list[int]]] = []
    for row, rollout in enumerate(batch.rollouts):
        value = (rollout.logged or {}).get(name)
        if value is None or not math.isfinite(value):
            continue
        if groups and groups[-1][0] == value and groups[-1][1][-1] == row - 1:
            groups[-1][1].append(row)
        else:
            groups.append((value, [row]))
    return groups


def _averages(
    batch: Batch, rows: Sequence[int], value_N: np.ndarray, around: Around | None
) -> Iterator[tuple[str, float]]:
    """Averages that a trainer can have taken, by name."""
    parts = [batch.slices[r] for r in rows]
    values = [value_N[part] for part in parts]
    masks = [batch.is_trained[part] & ~np.isnan(value_N[part]) for part in parts]

    def over(chosen: Sequence[np.ndarray]) -> float:
        taken = np.concatenate([v[m] for v, m in zip(values, chosen, strict=True)])
        return float(np.nanmean(taken)) if np.isfinite(taken).any() else math.nan

    yield RIGHT, over(masks)
    each = [float(v[m].mean()) for v, m in zip(values, masks, strict=True) if m.any()]
    yield _EACH, float(np.mean(each)) if each else math.nan
    if not all(mask.all() for mask in masks):
        yield "all tokens, observations and padding too", over([np.isfinite(v) for v in values])
        yield "the tokens that are not trained", over([~m & np.isfinite(v) for v, m in zip(values, masks, strict=True)])
        for by, side in ((1, "early"), (-1, "late")):
            shifted = []
            for v, m in zip(values, masks, strict=True):
                made = np.zeros(len(m), bool)
                if by > 0:
                    made[:-1] = m[1:]
                else:
                    made[1:] = m[:-1]
                shifted.append(made & np.isfinite(v))
            yield f"trained tokens under a mask one token {side}", over(shifted)
    if around is not None:
        inside = [around.prompts[r] for r in rows]
        answers = [v[m] for v, m in zip(values, masks, strict=True)]
        whole = [v for v, m in zip(values, masks, strict=True) if m.all()]
        if len(whole) == len(rows):
            later = [*(v[1:] for v in whole), around.after[list(rows)]]
            earlier = [*(v[:-1] for v in whole), *(p[-1:] for p in inside)]
            yield "predictions of the next token (moved by one, to the end)", float(np.concatenate(later).mean())
            yield "predictions of the token before (moved by one, to the front)", float(np.concatenate(earlier).mean())
        both = np.concatenate([*inside, *answers])
        yield "prompt and answer together", float(both.mean()) if len(both) else math.nan
        yield "the prompt's tokens", float(np.concatenate(inside).mean()) if any(map(len, inside)) else math.nan
    longest = max(len(v) for v in values)
    total = sum(float(v[m].sum()) for v, m in zip(values, masks, strict=True))
    yield "all places of the padded table", total / (longest * len(rows))
    yield "rollouts, summed over their tokens", total / len(rows)


def shifted_identity(batch: Batch, logprob_N: np.ndarray, entropy_N: np.ndarray) -> dict[int, float]:
    """Mean square of s - H with the entropies as they are (0), and with those of the next or previous token, by shift.

    Surprisal varies around its own token's entropy least; `naming` has the rule for how much less counts.
    """
    found = {}
    inner_N = np.isfinite(moved(batch, entropy_N, 1)) & np.isfinite(moved(batch, entropy_N, -1))
    usable_N = batch.is_trained & inner_N & np.isfinite(logprob_N) & np.isfinite(entropy_N)
    for by in (0, 1, -1):
        aligned_N = entropy_N if by == 0 else moved(batch, entropy_N, -by)
        away_N = (-logprob_N - aligned_N)[usable_N]
        found[by] = float((away_N**2).mean()) if len(away_N) else math.nan
    return found
