"""By what route does an effect travel? Subspaces of a patch, shares of its effect, and what a share is worth.

A patch replaces the state of one run by that of another. Its part in a subspace and its part in the complement are
smaller patches, and what each does is a share of what the whole does. Three things make a share readable:

- The directions are encoding directions (`directions.centroids`). The weights of a decoder (ridge, logistic) may hold
  under 1 % of the patch's energy and then do nothing, whatever the truth.
- Its energy: a subspace that holds more of the patch does more, whatever it means. Random subspaces of equal *energy*,
  inside the complement, are the control; random ones of equal rank hold nothing.
- Effects are not linear in dose. `equivalent_dose` says how much of the whole patch, scaled, would do the same.

The part in a subspace one way and the part in its complement the other way are the same run, so their shares add up to
1: in both directions there are two numbers, not four.

Axes: `N` states, `C` channels, `K` doses, `r` rank.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def energy_share(patch_NC: ArrayLike, basis_Cr: ArrayLike) -> float:
    """Share of a patch's sum of squares that lies in a subspace."""
    patch_NC = np.asarray(patch_NC, float)
    return float(((patch_NC @ np.asarray(basis_Cr)) ** 2).sum() / max((patch_NC**2).sum(), 1e-300))


def random_basis_in_complement(
    patch_NC: ArrayLike, basis_Cr: ArrayLike, energy: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A random subspace of the same rank, orthogonal to a basis, that holds a given share of the patch's energy.

    A random vector is pulled towards the patch's own principal directions, by powers of its covariance, until it holds
    that much. Where no subspace of the complement does, the nearest there is: look at its `energy_share`.
    """
    basis_Cr = np.asarray(basis_Cr, float)
    patch_NC = np.asarray(patch_NC, float)
    rest_NC = patch_NC - patch_NC @ basis_Cr @ basis_Cr.T
    size_C, axis_CC = np.linalg.eigh(rest_NC.T @ rest_NC)
    size_C = np.clip(size_C, 0, None) / max(size_C.max(), 1e-300)
    draw_Cr = rng.standard_normal(basis_Cr.shape)

    def drawn(power: float) -> NDArray[np.float64]:
        pulled_Cr = axis_CC @ (size_C[:, None] ** power * (size_C[:, None] > 1e-9) * draw_Cr)
        return np.linalg.qr(pulled_Cr)[0]

    low, high = 0.0, 32.0
    if energy_share(patch_NC, drawn(low)) >= energy:
        return drawn(low)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if energy_share(patch_NC, drawn(middle)) >= energy else (middle, high)
    return drawn(high)


def equivalent_dose(share: ArrayLike, dose_K: ArrayLike, share_K: ArrayLike) -> NDArray[np.float64]:
    """How much of the whole patch, scaled, has this share of its effect.

    Args:
        share: of the effect of the whole patch.
        dose_K: scales of the whole patch that were tried, rising, between 0 and 1.
        share_K: of its effect, at each of them; 0 has 0 and 1 has 1.
    """
    dose = np.concatenate([[0.0], np.asarray(dose_K, float), [1.0]])
    curve = np.concatenate([[0.0], np.asarray(share_K, float), [1.0]])
    # A curve that falls somewhere has no inverse there; the first dose that reaches the share counts.
    curve = np.maximum.accumulate(np.clip(curve, 0.0, 1.0))
    curve = curve + np.arange(len(curve)) * 1e-12
    return np.interp(np.asarray(share, float), curve, dose)
