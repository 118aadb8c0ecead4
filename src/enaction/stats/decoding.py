"""What a linear probe reads out of states, judged on prompts that it was not fitted to.

Axes: N token, C channel, P prompt.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
FOLDS = 5
# Penalties tried, relative to the mean variance of the predictors.
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


def foretold_by(x_NC: ArrayLike, y_N: ArrayLike, prompt_N: ArrayLike) -> Floats:
    """[N] ridge prediction of each value by a fit to the prompts of other folds; penalty chosen within them.

    Args:
        x_NC: predictors, finite.
        y_N: what is predicted.
        prompt_N: codes; prompt p is in fold p mod 5.

    Raises:
        ValueError: prompts of fewer than two folds.
    """
    x_NC, y_N = np.asarray(x_NC, dtype=np.float64), np.asarray(y_N, dtype=np.float64)
    fold_N = np.unique(np.asarray(prompt_N), return_inverse=True)[1] % FOLDS
    folds = np.unique(fold_N)
    if len(folds) < 2:
        raise ValueError("a probe needs prompts that it is not fitted to: two at least")
    predicted_N = np.empty(len(y_N))
    for fold in folds:
        held = fold_N == fold
        inner = fold_N == folds[(list(folds).index(fold) + 1) % len(folds)]
        fitted = ~held & ~inner if len(folds) > 2 else ~held
        judged = inner if len(folds) > 2 else ~held
        errors = [
            float(np.square(y_N[judged] - predicted).sum())
            for predicted in _ridge(x_NC[fitted], y_N[fitted], x_NC[judged], PENALTIES)
        ]
        best = PENALTIES[int(np.argmin(errors))]
        predicted_N[held] = next(_ridge(x_NC[~held], y_N[~held], x_NC[held], (best,)))
    return predicted_N


def _ridge(x: Floats, y: Floats, at: Floats, penalties: tuple[float, ...]):
    """Predictions at other rows for each penalty, predictors standardised."""
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    x, at = (x - mean) / scale, (at - mean) / scale
    value, vectors = np.linalg.eigh(x.T @ x / len(x))
    projected, applied = vectors.T @ (x.T @ (y - y.mean()) / len(x)), at @ vectors
    for penalty in penalties:
        yield applied @ (projected / (np.maximum(value, 0) + penalty)) + y.mean()


def means_by_code(code_N: ArrayLike, y_N: ArrayLike, prompt_N: ArrayLike) -> Floats:
    """[N] the mean of the value over tokens of the same code in other folds, the overall mean where there are none.

    The baselines of a probe: code a token, a pair of tokens, or a position.
    """
    y_N = np.asarray(y_N, dtype=np.float64)
    code_N = np.unique(np.asarray(code_N), axis=0, return_inverse=True)[1].reshape(-1)
    fold_N = np.unique(np.asarray(prompt_N), return_inverse=True)[1] % FOLDS
    n = int(code_N.max()) + 1
    predicted_N = np.empty(len(y_N))
    for fold in np.unique(fold_N):
        held = fold_N == fold
        overall = y_N[~held].mean() if (~held).any() else 0.0
        count = np.bincount(code_N[~held], minlength=n)
        total = np.bincount(code_N[~held], y_N[~held], minlength=n)
        # One observation of the overall mean beside those of the code, so that a rare code is not its one value.
        predicted_N[held] = ((total + overall) / (count + 1))[code_N[held]]
    return predicted_N
