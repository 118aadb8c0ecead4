"""Which reader recognises its own text: reader and author effects fitted to foreign cells alone.

`matrix.interaction` fits the effects to all cells, the readers' own among them, so that one reader's recognition moves
everybody's fitted cells and is spread over the table. Here the own cells take no part in the fit: an own cell is
predicted from what its reader makes of the others' text and what the others make of its text. Its distance from the
prediction belongs to one reader. The mean over readers is the same both ways, -N/(N-1) times the mean interaction.

With two models the four cells say one number: how much less entropy the two have on own text together. Who of them
recognises is not identified.

Axes: R reader, A author; any leading axes are a batch.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from enaction.stats.matrix import checked, diagonal_residual, mean_of_others

# A cell is predicted where its row of the design lies in the span of the fitted cells' rows, up to rounding.
_TOLERANCE = 1e-8


class LogRatioSplit(NamedTuple):
    """Parts of each reader's log other/self ratio, log units, shape [..., R]; the first is the sum of the others."""

    log_geometric_ratio: NDArray[np.float64]
    recognition: NDArray[np.float64]
    ease: NDArray[np.float64]


def foreign_recognition(log_RA: ArrayLike, left_out_RA: ArrayLike | None = None) -> NDArray[np.float64]:
    """Recognition of each reader, log units, [..., R]: its own cell as predicted from foreign cells, less as found.

    Above 0: the reader is more certain on its own text than its own confidence (on foreign text) and the difficulty of
    the text (to other readers) explain.

    Args:
        log_RA: [..., R, A] log entropy of reader r on author a's passages; the same models on both axes, in one order.
        left_out_RA: [R, A] bool, further cells that take no part in the fit: readers of their kin's text.

    Raises:
        ValueError: not square, or some reader's own cell is not predicted by the fitted cells: with 2 models, or with
            too many cells left out.
    """
    log_RA = np.asarray(log_RA, dtype=np.float64)
    if log_RA.ndim < 2 or log_RA.shape[-1] != log_RA.shape[-2]:
        raise ValueError(f"log entropy has shape {log_RA.shape}; the last two axes must be the same models")
    own_RA = np.eye(log_RA.shape[-1], dtype=bool)
    if left_out_RA is not None:
        own_RA |= np.asarray(left_out_RA, dtype=bool)
    own_R = np.diagonal(familiarity(log_RA, own_RA), axis1=-2, axis2=-1)
    is_known_R = np.diagonal(_prediction(own_RA)[1])
    if not is_known_R.all():
        raise ValueError(
            f"recognition of reader {np.flatnonzero(~is_known_R).tolist()} is not identified: the foreign cells that "
            "are fitted do not connect it with its own text. It takes 3 models, each with text of the others that is "
            "not left out; two models have one joint number, the mean of `interaction` times -2"
        )
    return own_R


def familiarity(log_RA: ArrayLike, left_out_RA: ArrayLike) -> NDArray[np.float64]:
    """How much less log entropy each reader has on each text than effects fitted to the other cells predict.

    Args:
        log_RA: [..., R, A] log entropy; readers and authors need not be the same.
        left_out_RA: [R, A] bool, cells that take no part in the fit: own text and that of kin.

    Returns:
        [..., R, A] log units, predicted minus found, above 0: more certain than expected. Cells that were fitted have
        their residuals; a cell that the fitted ones do not predict is NaN.

    Raises:
        ValueError: shapes differ, or everything is left out.
    """
    log_RA, left_out_RA = np.asarray(log_RA, dtype=np.float64), np.asarray(left_out_RA, dtype=bool)
    if log_RA.ndim < 2 or log_RA.shape[-2:] != left_out_RA.shape:
        raise ValueError(f"log entropy {log_RA.shape} and the cells left out {left_out_RA.shape} differ in shape")
    if left_out_RA.all():
        raise ValueError("every cell is left out of the fit; effects need cells of other authors' text")
    weight_CF, is_known_RA = _prediction(left_out_RA)
    predicted_C = log_RA[..., ~left_out_RA] @ weight_CF.T
    predicted_RA = predicted_C.reshape(log_RA.shape)
    return np.where(is_known_RA, predicted_RA - log_RA, np.nan)


def log_ratio_split(entropy_RA: ArrayLike) -> LogRatioSplit:
    """Split each reader's log geometric-mean other/self ratio into recognition and the ease of its own text.

    With effects fitted to the foreign cells, residuals sum to zero along each row. So the mean of log entropy[r, a]
    over a != r minus log entropy[r, r] is recognition (`foreign_recognition`) plus the mean author effect of the others
    minus that of the own text: ease. The reader's effect cancels; over readers the eases sum to zero.

    Args:
        entropy_RA: [..., R, A] mean entropy, nats, of reader r on author a's passages.

    Returns:
        log_geometric_ratio = recognition + ease, each [..., R]. Ease above 0: the own text has less entropy than the
        others' for other readers. With 2 models recognition is not identified for each: both have the joint number.

    Raises:
        ValueError: not square, fewer than 2 readers, or a value that is not positive and finite.
    """
    log_RA = np.log(checked(entropy_RA))
    log_ratio_R = mean_of_others(log_RA) - np.diagonal(log_RA, axis1=-2, axis2=-1)
    recognition_R = -2 * diagonal_residual(log_RA) if log_RA.shape[-1] == 2 else foreign_recognition(log_RA)
    return LogRatioSplit(log_ratio_R, recognition_R, log_ratio_R - recognition_R)


def _prediction(left_out_RA: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """[C, F] weights of the fitted cells (F) in the least-squares prediction of every cell (C); which are predicted."""
    n_readers, n_authors = left_out_RA.shape
    reader_C, author_C = np.divmod(np.arange(left_out_RA.size), n_authors)
    design_CE = np.concatenate([np.eye(n_readers)[reader_C], np.eye(n_authors)[author_C]], axis=1)
    design_FE = design_CE[~left_out_RA.ravel()]
    inverse_EF = np.linalg.pinv(design_FE)
    outside_C = np.abs(design_CE - design_CE @ inverse_EF @ design_FE).max(axis=1)
    return design_CE @ inverse_EF, (outside_C < _TOLERANCE).reshape(left_out_RA.shape)
