"""Means that a trainer logged, and which average of the tokens' own values each of them is.

Axes: N tokens. In nats.
"""

from __future__ import annotations

import numpy as np

from enaction.doctor.batch import COLUMNS, Batch
from enaction.doctor.entropies import Around, Logged, logged_mean
from enaction.doctor.faults import Fault
from enaction.doctor.modelled import flat_entropies
from enaction.doctor.readings import Readings

# Names of logged means that the tokens' own values can be averaged for.
_ENTROPIES = ("entropy", "mean_entropy")
_KLS = ("kl", "approx_kl", "ppo_kl", "rollout_kl", "k3_kl", "logprob_diff_mean")


def logged_means(batch: Batch, readings: Readings | None, noise: float) -> tuple[Logged, ...]:
    """Every logged mean of a known name whose values are there.

    Args:
        batch: with what was logged.
        readings: by the model, if there is one.
        noise: budget, nats a token.
    """
    names = dict.fromkeys(name for r in batch.rollouts for name in r.logged or {})
    found = (_logged_mean(name, batch, readings, noise) for name in names)
    return tuple(one for one in found if one is not None)


def _logged_mean(name: str, batch: Batch, readings: Readings | None, noise: float) -> Logged | None:
    if name in _ENTROPIES and readings is not None:
        around = Around(readings.prompts, readings.after)
        return logged_mean(name, batch, flat_entropies(readings), noise, around)
    if name in _ENTROPIES and batch.has("entropy"):
        return logged_mean(name, batch, batch.entropy, noise)
    if name in _KLS and all(batch.has(column) for column in COLUMNS):
        d_N = batch.sampler - batch.trainer
        values_N = np.exp(np.clip(-d_N, -50, 50)) - 1 + d_N if name == "k3_kl" else d_N
        return logged_mean(name, batch, values_N, noise)
    return None


def fault_of(logged: Logged) -> Fault | None:
    """What is wrong with a logged mean; None if it is the mean over the trained tokens."""
    if logged.is_right:
        return None
    got, right = f"{np.mean(logged.values):.3f}", f"over the trained tokens it is {logged.right:.3f}"
    if logged.best:
        says = f"the logged {logged.name} ({got}) is the mean over {logged.best}; {right}"
        remedy = "average under the loss mask, aligned with labels"
        return Fault("mean over the wrong tokens", "logged", says, remedy)
    return Fault(
        "unexplained mean", "logged", f"the logged {logged.name} ({got}) is no average that was tried; {right}"
    )
