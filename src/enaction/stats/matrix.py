"""What a square reader x author table of mean entropies says of recognition.

A reader that is sharp on everything and an author that writes easy text both move the table without any recognition.
They are main effects of log entropy; what is left on the diagonal is the `interaction`, the summary of a table. Who
recognises is another question, for one reader's recognition moves the main effects of all: see `recognition`.

Axes: R reader, A author (square, the same models in the same order); any leading axes are a batch.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def other_self_ratio(entropy_RA: ArrayLike) -> NDArray[np.float64]:
    """Mean entropy of a reader on the other authors' text divided by that on its own, shape [..., R], no unit.

    Above 1: less entropy on its own text, whether by recognition or because its own text is easy for everyone.

    Args:
        entropy_RA: [..., R, A] mean entropy, nats, of reader r on author a's passages. The caller chooses the models:
            one of each family at the same stage.

    Raises:
        ValueError: not square, fewer than 2 readers, or a value that is not positive and finite.
    """
    entropy_RA = checked(entropy_RA)
    own_R = np.diagonal(entropy_RA, axis1=-2, axis2=-1)
    return mean_of_others(entropy_RA) / own_R


def interaction(entropy_RA: ArrayLike) -> NDArray[np.float64]:
    """Recognition left after reader and author main effects, per reader, log units, shape [..., R].

    Fits log entropy[r, a] = mu + reader[r] + author[a] by least squares and returns the residuals of the diagonal.
    The mean over readers is negative where they are more certain on their own text than confidence and difficulty
    explain. A single residual is no proof for its reader: the own cells of the others entered the fit.

    Args:
        entropy_RA: [..., R, A] mean entropy, nats, of reader r on author a's passages.

    Raises:
        ValueError: not square, fewer than 2 readers, or a value that is not positive and finite. (With 2 readers both
            residuals are equal: the table has one degree of freedom for interaction.)
    """
    return diagonal_residual(np.log(checked(entropy_RA)))


def own_rank(entropy_RA: ArrayLike) -> NDArray[np.float64]:
    """Rank of each reader's own text among the authors, [..., R]: 1 where it has the least entropy of the reader's row.

    Give the transposed table for the rank of the own reader among the readers of a text, and then entropy per byte of
    text, for nats a token of readers with different tokenizers are not comparable. Ties count for the own text.

    Args:
        entropy_RA: [..., R, A] mean entropy of reader r on author a's passages.

    Raises:
        ValueError: not square, fewer than 2 readers, or a value that is not positive and finite.
    """
    entropy_RA = checked(entropy_RA)
    own_R = np.diagonal(entropy_RA, axis1=-2, axis2=-1)
    return 1.0 + (entropy_RA < own_R[..., None]).sum(axis=-1)


def diagonal_residual(log_RA: NDArray[np.float64]) -> NDArray[np.float64]:
    """Diagonal of the residual of an additive least-squares fit, [..., R]; unchecked, NaN anywhere gives NaN.

    In a complete table the fitted value is row mean + column mean - grand mean.
    """
    own_R = np.diagonal(log_RA, axis1=-2, axis2=-1)
    return own_R - log_RA.mean(axis=-1) - log_RA.mean(axis=-2) + log_RA.mean(axis=(-2, -1))[..., None]


def mean_of_others(value_RA: NDArray[np.float64]) -> NDArray[np.float64]:
    """[..., R] mean over each row without its diagonal; for the modules of this package."""
    # A masked sum, not "row sum minus own": the subtraction would lose digits where own is much the largest.
    n_models = value_RA.shape[-1]
    return np.where(np.eye(n_models, dtype=bool), 0.0, value_RA).sum(axis=-1) / (n_models - 1)


def checked(entropy_RA: ArrayLike) -> NDArray[np.float64]:
    """A square table of positive, finite entropies as float64; for the modules of this package.

    Raises:
        ValueError: it is no such table.
    """
    entropy_RA = np.asarray(entropy_RA, dtype=np.float64)
    if entropy_RA.ndim < 2 or entropy_RA.shape[-1] != entropy_RA.shape[-2]:
        raise ValueError(
            f"entropy has shape {entropy_RA.shape}; the last two axes must be the same models as readers and as authors"
        )
    if entropy_RA.shape[-1] < 2:
        raise ValueError("entropy has one reader; own and other text can be compared with 2 models or more")
    bad = ~(np.isfinite(entropy_RA) & (entropy_RA > 0))
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"entropy[{', '.join(map(str, first))}] is {entropy_RA[first]}; every cell needs a positive, finite mean "
            f"({int(bad.sum())} of {bad.size} have none)"
        )
    return entropy_RA
