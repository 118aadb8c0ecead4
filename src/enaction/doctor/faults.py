"""What is said of a batch: its faults, and all that was compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from enaction.doctor.divergence import Divergence
from enaction.doctor.entropies import Identity, Logged
from enaction.doctor.foreign import Foreign
from enaction.doctor.naming import Named
from enaction.doctor.settings import Sampled, Settings
from enaction.doctor.spans import Version
from enaction.doctor.structure import Flaw


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with the batch.

    Attributes:
        name: a few words, the same for the same fault.
        column: sampler, trainer, both, entropy, mask, ids, logged or tokens.
        says: what is so, a sentence without its full stop.
        remedy: what to do about it, likewise; "" for nothing known.
        sure: nats or log10 by which it is preferred, in words.
    """

    name: str
    column: str
    says: str
    remedy: str = ""
    sure: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What fits a batch.

    Attributes:
        n_rollouts, n_clusters, n_tokens, n_trained: of the batch.
        taken: how it was sampled.
        settings: of the diagnosis.
        model: name; "" without.
        faults: what is wrong, the surest first; empty if nothing is.
        named: column (`sampler`, `trainer`, `entropy`; `pair` without a model) -> what was named.
        divergences: who against whom -> how far they are apart.
        flaws: what shows in the numbers themselves.
        identity: entropies against surprisals.
        logged: means that were logged.
        versions: which weights fit which spans.
        foreign: trained tokens that the model did not write.
        notes: what could not be looked at, and what was taken for given.
    """

    n_rollouts: int
    n_clusters: int
    n_tokens: int
    n_trained: int
    taken: Sampled
    settings: Settings
    model: str
    faults: tuple[Fault, ...]
    named: Mapping[str, Named] = field(default_factory=dict)
    divergences: Mapping[str, Divergence] = field(default_factory=dict)
    flaws: tuple[Flaw, ...] = ()
    identity: Identity | None = None
    logged: tuple[Logged, ...] = ()
    versions: tuple[Version, ...] = ()
    foreign: Foreign | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether no fault was found; that there is none is never shown."""
        return not self.faults
