"""Labels of sampled texts: how varied they are within a prompt, how far two of them agree, and what is chance.

Of each prompt there are counts of labels. Entropy and agreement are estimated without the bias of few samples; chance
is agreement of two texts that share nothing, or nothing but the prompt.

Axes: P prompt, L label, N text.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
# From here on a chance leaves nothing for an excess to be measured in.
_NO_ROOM = 1 - 1e-9


def label_counts(label_N: ArrayLike, prompt_N: ArrayLike, n_labels: int, n_prompts: int) -> Floats:
    """[P, L] how often each prompt has each label.

    Args:
        label_N, prompt_N: codes from 0.
        n_labels, n_prompts: L, P.

    Raises:
        ValueError: a code outside its range.
    """
    label_N, prompt_N = np.asarray(label_N, dtype=np.int64), np.asarray(prompt_N, dtype=np.int64)
    for code_N, n, what in ((label_N, n_labels, "label"), (prompt_N, n_prompts, "prompt")):
        if len(code_N) and not 0 <= code_N.min() <= code_N.max() < n:
            raise ValueError(f"{what} codes {code_N.min()} to {code_N.max()}; they must lie in 0 to {n - 1}")
    flat = np.bincount(prompt_N * n_labels + label_N, minlength=n_prompts * n_labels)
    return flat.reshape(n_prompts, n_labels).astype(float)


def label_entropy(count_PL: ArrayLike) -> Floats:
    """[P] entropy of the label within each prompt, nats; NaN without texts.

    Miller and Madow's correction (1955): the plug-in estimate plus (labels seen - 1) / (2 texts).
    """
    count_PL = np.asarray(count_PL, dtype=float)
    n_P, share_PL = count_PL.sum(-1), shares(count_PL)
    with np.errstate(divide="ignore", invalid="ignore"):
        plug_in_P = -np.where(share_PL > 0, share_PL * np.log(share_PL), 0.0).sum(-1)
        return np.where(n_P > 0, plug_in_P + ((count_PL > 0).sum(-1) - 1) / (2 * n_P), np.nan)


def shares(count_PL: ArrayLike) -> Floats:
    """[P, L] share of each label among a prompt's texts; NaN without texts."""
    count_PL = np.asarray(count_PL, dtype=float)
    with np.errstate(invalid="ignore"):
        return count_PL / count_PL.sum(-1, keepdims=True)


def agreement(count_PL: ArrayLike, of_L: ArrayLike | None = None) -> Floats:
    """[P] chance that two different texts of a prompt have the same label, unbiased; NaN below two texts.

    Args:
        count_PL: counts of labels.
        of_L: whether the first of the two may have a label; by default it may have any. NaN where no text may be first.
    """
    count_PL = np.asarray(count_PL, dtype=float)
    first_PL = _allowed(count_PL, of_L)
    with np.errstate(divide="ignore", invalid="ignore"):
        value_P = (first_PL * (count_PL - 1)).sum(-1) / (first_PL.sum(-1) * (count_PL.sum(-1) - 1))
    return np.where((count_PL.sum(-1) > 1) & (first_PL.sum(-1) > 0), value_P, np.nan)


def pooled_agreement(count_PL: ArrayLike, of_L: ArrayLike | None = None) -> Floats:
    """[P] chance that a text of the prompt and one of another prompt have the same label.

    The other prompts count alike. NaN without texts, or where no other prompt has any.

    Args:
        count_PL: counts of labels.
        of_L: whether the prompt's own text may have a label; by default it may have any. NaN where none of them may.
    """
    share_PL, first_PL = shares(count_PL), shares(_allowed(np.asarray(count_PL, dtype=float), of_L))
    known_P = np.asarray(np.isfinite(share_PL).all(-1))
    share_PL = np.where(known_P[:, None], share_PL, 0.0)
    others_P = known_P.sum() - known_P
    with np.errstate(divide="ignore", invalid="ignore"):
        value_P = (first_PL * (share_PL.sum(0) - share_PL)).sum(-1) / others_P
    return np.where(known_P & (others_P > 0), value_P, np.nan)


def _allowed(count_PL: Floats, of_L: ArrayLike | None) -> Floats:
    return count_PL if of_L is None else np.where(np.asarray(of_L, dtype=bool), count_PL, 0.0)


def excess(agree: ArrayLike, chance: ArrayLike) -> Floats:
    """Agreement above chance in units of what chance leaves, (agree - chance) / (1 - chance); NaN where it leaves none.

    0 is chance, 1 perfect agreement.
    """
    agree, chance = np.broadcast_arrays(np.asarray(agree, dtype=float), np.asarray(chance, dtype=float))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(chance < _NO_ROOM, (agree - chance) / (1 - chance), np.nan)


def shuffled_entropy(count_PL: ArrayLike, rng: np.random.Generator, n_shuffles: int) -> Floats:
    """[n_shuffles] mean over prompts of `label_entropy` with labels shuffled over all texts.

    This is what as many samples of each prompt would give if all prompts had one distribution: an entropy below it says
    that prompts settle labels.
    """
    count_PL = np.asarray(count_PL, dtype=np.int64)
    label_N = np.repeat(np.arange(count_PL.shape[1]), count_PL.sum(0))
    prompt_N = np.repeat(np.arange(len(count_PL)), count_PL.sum(1))
    mean = np.empty(n_shuffles)
    for i in range(n_shuffles):
        count = label_counts(rng.permutation(label_N), prompt_N, count_PL.shape[1], len(count_PL))
        mean[i] = np.nanmean(label_entropy(count)) if len(label_N) else np.nan
    return mean


def clusters(
    vector_NC: ArrayLike, n_clusters: int, rng: np.random.Generator, *, restarts: int = 8
) -> tuple[NDArray[np.int64], Floats]:
    """[N] cluster of each vector and [K, C] their centres, by k-means.

    Seeded as by k-means++ (Arthur and Vassilvitskii 2007); the best of some starts is kept.

    Args:
        vector_NC: finite vectors.
        n_clusters: at most one for each different vector.
        rng: of the starts.
        restarts: the start with the least squared distance is kept.

    Raises:
        ValueError: no cluster, or fewer vectors than clusters.
    """
    vector_NC = np.asarray(vector_NC, dtype=float)
    if not 1 <= n_clusters <= len(vector_NC):
        raise ValueError(f"{n_clusters} clusters of {len(vector_NC)} vectors; there must be 1 to as many as vectors")
    best, least = (np.zeros(len(vector_NC), dtype=np.int64), vector_NC[:1]), np.inf
    for _ in range(restarts):
        centre_KC = _spread_out(vector_NC, n_clusters, rng)
        code_N = np.full(len(vector_NC), -1)
        while True:
            distance_NK = _distances(vector_NC, centre_KC)
            new_N = distance_NK.argmin(1)
            if (new_N == code_N).all():
                break
            code_N = new_N
            for k in set(code_N.tolist()):
                centre_KC[k] = vector_NC[code_N == k].mean(0)
        total = distance_NK.min(1).sum()
        if total < least:
            best, least = (code_N, centre_KC), total
    return best


def nearest(vector_NC: ArrayLike, centre_KC: ArrayLike) -> NDArray[np.int64]:
    """[N] index of the centre that each vector is nearest to."""
    return _distances(np.asarray(vector_NC, dtype=float), np.asarray(centre_KC, dtype=float)).argmin(1)


def _spread_out(vector_NC: Floats, n_clusters: int, rng: np.random.Generator) -> Floats:
    """First centres, each drawn in proportion to its squared distance from those before it."""
    centres = [vector_NC[rng.integers(len(vector_NC))]]
    while len(centres) < n_clusters:
        distance_N = _distances(vector_NC, np.array(centres)).min(1)
        total = distance_N.sum()
        at = rng.choice(len(vector_NC), p=distance_N / total) if total > 0 else rng.integers(len(vector_NC))
        centres.append(vector_NC[at])
    return np.array(centres)


def _distances(vector_NC: Floats, centre_KC: Floats) -> Floats:
    """[N, K] squared distances."""
    square = (vector_NC**2).sum(1)[:, None] + (centre_KC**2).sum(1)
    return np.maximum(square - 2 * vector_NC @ centre_KC.T, 0.0)
