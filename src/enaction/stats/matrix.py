"""What a square reader x author table of mean entropies says of recognition.

A reader that is sharp on everything and an author that writes easy text both move the table without any recognition.
They are main effects of log entropy; what is left on the diagonal is the `interaction`. A ratio mixes it with the ease
of the reader's own text, and `log_ratio_split` takes the two apart exactly.

Axes: R reader, A author (square, the same models in the same order); any leading axes are a batch.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class LogRatioSplit(NamedTuple):
    """Parts of each reader's log other/self ratio, log units, shape [..., R]; the first is the sum of the others."""

    log_geometric_ratio: NDArray[np.float64]
    recognition: NDArray[np.float64]
    ease: NDArray[np.float64]


def other_self_ratio(entropy_RA: ArrayLike) -> NDArray[np.float64]:
    """Mean entropy of a reader on the other authors' text divided by that on its own, shape [..., R], no unit.

    Above 1: less entropy on its own text, whether by recognition or because its own text is easy for everyone.

    Args:
        entropy_RA: [..., R, A] mean entropy, nats, of reader r on author a's passages. The caller chooses the models:
            one of each family at the same stage.

    Raises:
        ValueError: not square, fewer than 2 readers, or a value that is not positive and finite.
    """
    entropy_RA = _checked(entropy_RA)
    own_R = np.diagonal(entropy_RA, axis1=-2, axis2=-1)
    return _mean_of_others(entropy_RA) / own_R


def interaction(entropy_RA: ArrayLike) -> NDArray[np.float64]:
    """Recognition left after reader and author main effects, per reader, log units, shape [..., R].

    Fits log entropy[r, a] = mu + reader[r] + author[a] by least squares and returns the residuals of the diagonal.
    Negative: the reader is more certain on its own text than its own confidence and the text's difficulty explain.

    Args:
        entropy_RA: [..., R, A] mean entropy, nats, of reader r on author a's passages.

    Raises:
        ValueError: not square, fewer than 2 readers, or a value that is not positive and finite. (With 2 readers both
            residuals are equal: the table has one degree of freedom for interaction.)
    """
    return diagonal_residual(np.log(_checked(entropy_RA)))


def log_ratio_split(entropy_RA: ArrayLike) -> LogRatioSplit:
    """Split each reader's log geometric-mean other/self ratio into recognition and the ease of its own text.

    With N models, residuals e that sum to zero along each row, and author effects A, the mean of log entropy[r, a] over
    a != r minus log entropy[r, r] is (mean of the others' A - A[r]) - N/(N-1) * e[r, r]: ease + recognition. The
    reader's effect cancels.

    Args:
        entropy_RA: [..., R, A] mean entropy, nats, of reader r on author a's passages.

    Returns:
        log_geometric_ratio = recognition + ease, each [..., R]. Recognition above 0: more certain on its own text than
        main effects explain. Ease above 0: its text has less entropy than the others' for all readers alike.

    Raises:
        ValueError: not square, fewer than 2 readers, or a value that is not positive and finite.
    """
    log_RA = np.log(_checked(entropy_RA))
    n_models = log_RA.shape[-1]
    own_R = np.diagonal(log_RA, axis1=-2, axis2=-1)
    author_A = log_RA.mean(axis=-2)
    others_A = (author_A.sum(axis=-1, keepdims=True) - author_A) / (n_models - 1)
    return LogRatioSplit(
        log_geometric_ratio=_mean_of_others(log_RA) - own_R,
        recognition=-n_models / (n_models - 1) * diagonal_residual(log_RA),
        ease=others_A - author_A,
    )


def own_rank(entropy_RA: ArrayLike) -> NDArray[np.float64]:
    """Rank of each reader's own text among the authors, [..., R]: 1 where it has the least entropy of the reader's row.

    Give the transposed table for the rank of the own reader among the readers of a text, and then entropy per byte of
    text, for nats a token of readers with different tokenizers are not comparable. Ties count for the own text.

    Args:
        entropy_RA: [..., R, A] mean entropy of reader r on author a's passages.

    Raises:
        ValueError: not square, fewer than 2 readers, or a value that is not positive and finite.
    """
    entropy_RA = _checked(entropy_RA)
    own_R = np.diagonal(entropy_RA, axis1=-2, axis2=-1)
    return 1.0 + (entropy_RA < own_R[..., None]).sum(axis=-1)


def diagonal_residual(log_RA: NDArray[np.float64]) -> NDArray[np.float64]:
    """Diagonal of the residual of an additive least-squares fit, [..., R]; unchecked, NaN anywhere gives NaN.

    In a complete table the fitted value is row mean + column mean - grand mean.
    """
    own_R = np.diagonal(log_RA, axis1=-2, axis2=-1)
    return own_R - log_RA.mean(axis=-1) - log_RA.mean(axis=-2) + log_RA.mean(axis=(-2, -1))[..., None]


def _mean_of_others(value_RA: NDArray[np.float64]) -> NDArray[np.float64]:
    # A masked sum, not "row sum minus own": the subtraction would lose digits where own is much the largest.
    n_models = value_RA.shape[-1]
    return np.where(np.eye(n_models, dtype=bool), 0.0, value_RA).sum(axis=-1) / (n_models - 1)


def _checked(entropy_RA: ArrayLike) -> NDArray[np.float64]:
    entropy_RA = np.asarray(entropy_RA, dtype=np.float64)
    if entropy_RA.ndim < 2 or entropy_RA.shape[-1] != entropy_RA.shape[-2]:
        raise ValueError(
            f"entropy has shape {entropy_RA.shape}; the last two axes must be the same models as readers and as authors"
        )
    if entropy_RA.shape[-1] < 2:
        raise ValueError("entropy has one reader; own and other text can be compared from 2 models on")
    bad = ~(np.isfinite(entropy_RA) & (entropy_RA > 0))
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"entropy[{', '.join(map(str, first))}] is {entropy_RA[first]}; every cell needs a positive, finite mean "
            f"({int(bad.sum())} of {bad.size} have none)"
        )
    return entropy_RA
