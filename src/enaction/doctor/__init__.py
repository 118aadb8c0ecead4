"""The doctor: whether a trainer's numbers are right, and which fault explains them if they are not.

`batch` lays rollouts out as columns, `settings` says how they were sampled, `contexts` and `readings` are what a model
is asked, `hypotheses` and `modelled` what each fault predicts, `naming` the rule, `divergence` how far two columns are
apart, `pairs` what two columns show without a model, `structure` what shows in the numbers themselves, `entropies`
logged entropies, `logged` logged means, `spans` which weights wrote what, `foreign` tokens that nobody sampled;
`diagnosis` puts these together into `faults`, and `page` shows them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enaction.lazy import lazily

if TYPE_CHECKING:  # type checkers do not follow `_HOMES`
    from enaction.doctor.diagnosis import diagnose as diagnose
    from enaction.doctor.faults import Diagnosis as Diagnosis
    from enaction.doctor.faults import Fault as Fault
    from enaction.doctor.settings import Settings as Settings

# Public name -> where it is defined.
_HOMES = {"Diagnosis": "faults", "Fault": "faults", "diagnose": "diagnosis", "Settings": "settings"}

__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__ = lazily(__name__, _HOMES)
