"""Numbers of single seeds and their mean: the training run is the unit of every conclusion.

An interval over prompts says how certain a number is for these very models, and nothing of another training run.

Axes: S seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from enaction.analysis.ledger import Ledger
from enaction.experiments.thesis.panels import Panel
from enaction.stats import Estimate
from enaction.stats.student import t_quantile
from enaction.words import MEAN

OVER_SEEDS = "mean over seeds with a 95 % t interval over seeds; n counts seeds"


def mean_over_seeds(value_S: Sequence[float]) -> Estimate:
    """The mean of one number for each seed, with its 95 % t interval; one seed alone has no interval (NaN)."""
    values = np.asarray(value_S, dtype=np.float64)
    mean, n = values.mean(), len(values)
    half = t_quantile(n - 1) * values.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return Estimate(np.asarray(mean), np.asarray(mean - half), np.asarray(mean + half))


@dataclass
class _Quantity:
    """A quantity at one place, a number for each seed."""

    unit: str
    text: str
    null: float | None
    by_seed: dict[int, float] = field(default_factory=dict)


class SeedLedger:
    """Writes each number of a seed as a finding, and at the end the means over seeds, in the order of first writing."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._means: dict[tuple[str, tuple[tuple[str, str | int], ...]], _Quantity] = {}

    def add(
        self,
        panel: Panel,
        quantity: str,
        unit: str,
        text: str,
        value: float | Estimate,
        n: int,
        where: Mapping[str, str],
        *,
        interval: str = "",
        null: float | None = None,
        notes: Iterable[str] = (),
        of_seed: Mapping[str, str] | None = None,
    ) -> None:
        """Write a number of a panel's seed and keep it for the mean; one that is not finite is not in the mean.

        Args:
            panel: whose point and seed they are.
            quantity, unit, null: of the findings.
            text: what is computed.
            value: the number, or an estimate with its interval.
            n: units of the seed's number.
            where: the place, without point and seed.
            interval: what its interval is, and what `n` counts.
            notes: of the seed's number.
            of_seed: further place of the seed's number alone (its model, say, which other seeds do not have).
        """
        estimate = value if isinstance(value, Estimate) else Estimate(*map(np.asarray, (value, np.nan, np.nan)))
        self._ledger.fact(
            quantity,
            unit,
            "; ".join(part for part in (text, interval) if part),
            float(estimate.value),
            n,
            low=float(estimate.low),
            high=float(estimate.high),
            null=null,
            notes=notes,
            point=panel.point,
            seed=panel.seed,
            **{**where, **(of_seed or {})},
        )
        if np.isfinite(estimate.value):
            place = (quantity, tuple({"point": panel.point, **where}.items()))
            of = self._means.setdefault(place, _Quantity(unit, text, null))
            of.by_seed[panel.seed] = float(estimate.value)

    def write_means(self) -> None:
        """Write the mean over seeds of every number, with each seed's in a note."""
        for (quantity, place), of in self._means.items():
            estimate = mean_over_seeds([*of.by_seed.values()])
            self._ledger.fact(
                quantity,
                of.unit,
                f"{of.text}; {OVER_SEEDS}",
                float(estimate.value),
                len(of.by_seed),
                low=float(estimate.low),
                high=float(estimate.high),
                null=of.null,
                notes=[", ".join(f"seed {seed} {value:.3f}" for seed, value in of.by_seed.items())],
                seed=MEAN,
                **dict(place),
            )
