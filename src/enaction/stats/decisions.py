"""How well a report tells own text from foreign text: rank, decisions at two thresholds, and the gap itself.

A report is a number, the log-odds of "mine". The area under the ROC curve uses its order only: it says nothing of where
the threshold lies, and a rank has no scale, so it may be anything from 0 to 1 where a report was trained on shuffled
labels. Balanced accuracy needs a threshold: 0, which is what the model itself says, or the one at which it calls 5 % of
its own text foreign. The gap of the log-odds has a scale, so a null is judged by it.

Intervals come from a bootstrap over prompts, whose weights own and foreign text share.

Axes: `N` own texts, `M` foreign texts, `P` prompts, `B` resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from enaction.stats.resampling import Estimate, percentile_interval

FALSE_POSITIVES = 0.05


@dataclass(frozen=True)
class Decisions:
    """How reports on own and foreign text differ; each with its interval.

    Attributes:
        auroc: chance that own text has the higher log-odds, ties half.
        balanced: mean of the shares that are right at threshold 0.
        balanced_at_limit: the same at the threshold below which 5 % of own text lies.
        own_claims, claims: share of own and of foreign text with log-odds above 0.
        gap: mean log-odds of own text minus that of foreign text, nats.
    """

    auroc: Estimate
    balanced: Estimate
    balanced_at_limit: Estimate
    own_claims: Estimate
    claims: Estimate
    gap: Estimate


def decisions(
    own_N: ArrayLike,
    own_prompt_N: ArrayLike,
    other_M: ArrayLike,
    other_prompt_M: ArrayLike,
    weight_BP: ArrayLike,
    *,
    false_positives: float = FALSE_POSITIVES,
    level: float = 0.95,
) -> Decisions:
    """Compare reports on own and on foreign text.

    Args:
        own_N, other_M: log-odds of "mine".
        own_prompt_N, other_prompt_M: number of each text's prompt.
        weight_BP: how often each prompt is drawn in each resample, as `cluster_weights` gives it.
        false_positives: share of own text that may be called foreign.
        level: of the intervals.

    Raises:
        ValueError: no own or no foreign text.
    """
    own_N, other_M = np.asarray(own_N, float), np.asarray(other_M, float)
    if not len(own_N) or not len(other_M):
        raise ValueError(f"{len(own_N)} own and {len(other_M)} foreign texts; both are needed")
    weight_BP = np.asarray(weight_BP, float)
    own_weight_BN, other_weight_BM = weight_BP[:, np.asarray(own_prompt_N)], weight_BP[:, np.asarray(other_prompt_M)]
    wins_NM = np.sign(own_N[:, None] - other_M[None]) / 2 + 0.5

    def measured(own_BN: NDArray, other_BM: NDArray) -> dict[str, NDArray]:
        with np.errstate(invalid="ignore", divide="ignore"):  # a resample without any own text
            own_BN, other_BM = (w / w.sum(axis=1, keepdims=True) for w in (own_BN, other_BM))
            limit_B = _quantile(own_N, own_BN, false_positives)
            own_claims_B, claims_B = own_BN @ (own_N > 0), other_BM @ (other_M > 0)
            right_B = (own_BN * (own_N >= limit_B[:, None])).sum(1) + (other_BM * (other_M < limit_B[:, None])).sum(1)
            return {
                "auroc": ((own_BN @ wins_NM) * other_BM).sum(axis=1),
                "balanced": (own_claims_B + 1 - claims_B) / 2,
                "balanced_at_limit": right_B / 2,
                "own_claims": own_claims_B,
                "claims": claims_B,
                "gap": own_BN @ own_N - other_BM @ other_M,
            }

    value = measured(np.ones((1, len(own_N))), np.ones((1, len(other_M))))
    sample = measured(own_weight_BN, other_weight_BM)
    return Decisions(**{name: Estimate(value[name][0], *percentile_interval(sample[name], level)) for name in value})


def auroc(own_N: ArrayLike, other_M: ArrayLike) -> float:
    """Chance that an own text has a higher value than a foreign one, ties half."""
    own_N, other_M = np.asarray(own_N, float), np.asarray(other_M, float)
    return float((np.sign(own_N[:, None] - other_M[None]) / 2 + 0.5).mean())


def auroc_difference(
    own_2N: ArrayLike, own_prompt_N: ArrayLike, other_2M: ArrayLike, other_prompt_M: ArrayLike, weight_BP: ArrayLike
) -> Estimate:
    """AUROC of one reader's reports minus that of another reader's on the same texts: privileged access.

    Args:
        own_2N, other_2M: log-odds of the one and of the other reader.
        own_prompt_N, other_prompt_M, weight_BP: as in `decisions`.
    """
    own_2N, other_2M, weight_BP = np.asarray(own_2N, float), np.asarray(other_2M, float), np.asarray(weight_BP, float)
    wins_NM = np.diff(np.sign(own_2N[:, :, None] - other_2M[:, None])[::-1], axis=0)[0] / 2
    own_BN, other_BM = weight_BP[:, np.asarray(own_prompt_N)], weight_BP[:, np.asarray(other_prompt_M)]
    with np.errstate(invalid="ignore", divide="ignore"):
        sample_B = ((own_BN @ wins_NM) * other_BM).sum(1) / (own_BN.sum(1) * other_BM.sum(1))
    return Estimate(np.asarray(wins_NM.mean()), *percentile_interval(sample_B))


def shuffled_gaps(
    own_N: ArrayLike,
    own_prompt_N: ArrayLike,
    other_M: ArrayLike,
    other_prompt_M: ArrayLike,
    rng: np.random.Generator,
    n_shuffles: int = 200,
) -> NDArray[np.float64]:
    """The gap of the log-odds [n_shuffles] where whose text it is is shuffled within each prompt, nats."""
    value = np.concatenate([np.asarray(own_N, float), np.asarray(other_M, float)])
    prompt = np.concatenate([np.asarray(own_prompt_N), np.asarray(other_prompt_M)])
    is_own = np.arange(len(value)) < len(np.asarray(own_N))
    order = np.argsort(prompt, kind="stable")
    gaps = np.empty(n_shuffles)
    for k in range(n_shuffles):
        # Sorted by prompt and, within it, by chance: the labels of a prompt go to its texts in this order.
        shuffled = np.lexsort((rng.random(len(value)), prompt))
        label = np.empty(len(value), bool)
        label[shuffled] = is_own[order]
        gaps[k] = value[label].mean() - value[~label].mean()
    return gaps


def _quantile(value_N: NDArray, weight_BN: NDArray, share: float) -> NDArray:
    """The smallest value [B] below which at most this share of the weight lies; the weights of a row add up to 1."""
    order_N = np.argsort(value_N)
    below_BN = np.cumsum(weight_BN[:, order_N], axis=1) - weight_BN[:, order_N]
    # The last value, in order, with no more than `share` of the weight below it.
    last_B = (below_BN <= share + 1e-12).sum(axis=1) - 1
    return value_N[order_N][last_B]
