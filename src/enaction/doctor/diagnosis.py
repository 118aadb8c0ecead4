"""The diagnosis of a batch: everything that is compared, and the faults that come out of it, the surest first.

Axes: N tokens of the batch. In nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from enaction.doctor.batch import COLUMNS, Batch, batch_of
from enaction.doctor.divergence import Divergence, divergence, e_value
from enaction.doctor.entropies import Identity, identity, shifted_identity
from enaction.doctor.faults import Diagnosis, Fault
from enaction.doctor.foreign import Foreign, foreign
from enaction.doctor.hypotheses import LEAST_GAIN, Hypothesis, in_part, of_columns
from enaction.doctor.logged import fault_of, logged_means
from enaction.doctor.modelled import of_entropies, of_model, sound_logprobs
from enaction.doctor.naming import LEAST_TOKENS, Named, name_fault
from enaction.doctor.pairs import gap
from enaction.doctor.readings import Progress, Readings, read
from enaction.doctor.settings import Sampled, Settings, sampled
from enaction.doctor.spans import Version, by_version
from enaction.doctor.structure import Flaw, flaws
from enaction.rollouts import Rollout

if TYPE_CHECKING:
    from enaction.reader import Reader

# Faults that leave tokens without numbers, or with those of padding.
_OTHER_LENGTHS = ("rows re-ordered", "re-tokenised")
# Evidence of the tokens themselves for one setting against another that is worth a word, log10.
_TELLING = 1.0


def diagnose(
    rollouts: Sequence[Rollout],
    settings: Settings | None = None,
    *,
    reader: Reader | None = None,
    checkpoints: Mapping[str, Callable[[], Reader]] | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Say what fits the numbers of a batch.

    Args:
        rollouts: as `enaction.rollouts.read_rollouts` gives them, of one sampling setting.
        settings: noise budget, level, and how the batch was sampled.
        reader: the model that sampled; without it the columns are compared with one another.
        checkpoints: name -> what loads the reader of other weights, only with a reader.
        progress: called before each reading with its name, its number and how many there are.

    Raises:
        PassageError: nothing to compare, or with a reader rollouts without ids or prompts.
        FramingError: a rollout that the reader cannot read.
        UserError: rollouts of several settings.
    """
    settings = settings or Settings()
    batch = batch_of(rollouts)
    taken = sampled(batch.rollouts, settings)
    readings = None if reader is None else read(reader, batch, taken, checkpoints, progress)
    return diagnosis_of(batch, settings, taken, readings)


def diagnosis_of(batch: Batch, settings: Settings, taken: Sampled, readings: Readings | None = None) -> Diagnosis:
    """The diagnosis of a batch that has been read, or that no model reads."""
    return _Examination(batch, settings, taken, readings).diagnosis()


class _Examination:
    """The steps of a diagnosis, which share what they exclude and collect."""

    def __init__(self, batch: Batch, settings: Settings, taken: Sampled, readings: Readings | None) -> None:
        self.batch, self.settings, self.taken, self.readings = batch, settings, taken, readings
        self.faults: list[Fault] = []
        self.notes: list[str] = []
        self.columns = [c for c in COLUMNS if batch.has(c)]
        # Each column is decided about, the entropies, and whether tokens are foreign or the columns apart.
        self.level = settings.level / (len(self.columns) + batch.has("entropy") + 1)
        self.reference_N = sound_logprobs(readings) if readings else None
        self.flaws = flaws(batch, self.reference_N, readings.fillers if readings else frozenset())
        # What no comparison counts: untrained tokens, and placeholders and padding among the trained ones.
        self.counts_N = batch.is_trained.copy()
        for flaw in self.flaws:
            self.counts_N &= ~flaw.at
        self.hypotheses = {c: of_model(batch, readings, self._given(c)) for c in self.columns} if readings else {}

    def diagnosis(self) -> Diagnosis:
        batch = self.batch
        named = self._named()
        self.flaws = [flaw for flaw in self.flaws if not self._is_explained(flaw, named)]
        shown = [Fault(f.name, f.column, f.says, f.remedy, f"{f.count} of {f.of} tokens") for f in self.flaws]
        self.faults = [*shown, *self.faults]
        divergences = self._divergences()
        if self.readings is None and "pair" in named and "sampler against trainer" in divergences:
            d_N = self._given("sampler") - self._given("trainer")
            self._add(
                gap(
                    named["pair"],
                    divergences["sampler against trainer"],
                    d_N[np.isfinite(d_N)],
                    self.taken.top_p,
                    self.settings.noise,
                )
            )
        versions = self._versions(named)
        of_identity = self._entropies(named)
        logged = logged_means(batch, self.readings, self.settings.noise)
        for one in logged:
            self._add(fault_of(one))
        found = self._foreign(named)
        self._remarks()
        return Diagnosis(
            n_rollouts=len(batch.rollouts),
            n_clusters=len(np.unique(batch.cluster)),
            n_tokens=len(batch),
            n_trained=int(batch.is_trained.sum()),
            taken=self.taken,
            settings=self.settings,
            model=self.readings.name if self.readings else "",
            faults=tuple(self.faults),
            named=named,
            divergences=divergences,
            flaws=tuple(self.flaws),
            identity=of_identity,
            logged=logged,
            versions=versions,
            foreign=found,
            notes=tuple(self.notes),
        )

    def _add(self, fault: Fault | None) -> None:
        if fault is not None:
            self.faults.append(fault)

    def _is_explained(self, flaw: Flaw, named: Mapping[str, Named]) -> bool:
        """Whether numbers are missing because the column has those of rollouts with other lengths."""
        if flaw.name not in ("numbers missing", "placeholders counted"):
            return False
        one = named.get(flaw.column, named.get("pair"))
        return one is not None and one.outcome == "fault" and one.best.hypothesis.name in _OTHER_LENGTHS

    def _given(self, column: str) -> np.ndarray:
        """Numbers [N] of a column that count, NaN elsewhere."""
        values_N = self.batch.entropy if column == "entropy" else self.batch.column(column)
        return np.where(self.counts_N & np.isfinite(values_N), values_N, np.nan)

    def _rule(self, column: str, hypotheses: Sequence[Hypothesis], given_N: np.ndarray) -> Named:
        return name_fault(column, given_N, hypotheses, self.settings.noise, self.level)

    def _named(self) -> dict[str, Named]:
        """What explains each column, by the model or by the other column."""
        named: dict[str, Named] = {}
        if self.readings is not None:
            for column in self.columns:
                hypotheses, given_N = self.hypotheses[column], self._given(column)
                hypotheses = [*hypotheses, *in_part(self.batch, hypotheses, given_N)]
                named[column] = self._rule(column, hypotheses, given_N)
            self._say_of_columns(named)
        elif len(self.columns) == 2:
            given = {c: self._given(c) for c in self.columns}
            each = [
                self._rule(c, of_columns(self.batch, given[other], given[c]), given[c])
                for c, other in (("trainer", "sampler"), ("sampler", "trainer"))
            ]
            named["pair"] = max(each, key=lambda n: n.best.gain)
            best = named["pair"].best
            if named["pair"].outcome == "fault":
                h = best.hypothesis
                column = named["pair"].column if h.name not in ("shift by one", "rows re-ordered") else "both"
                whose = f"in the {column}'s column" if column != "both" else "in one column, seen from the other,"
                self.faults.append(Fault(h.name, column, f"{whose} {h.says}", h.remedy, _surety(named["pair"])))
        return named

    def _say_of_columns(self, named: Mapping[str, Named]) -> None:
        """Faults of the sampler's and the trainer's columns; one fault where both have it."""
        found = {c: n for c, n in named.items() if n.outcome in ("fault", "other")}
        names = {n.best.hypothesis.name if n.outcome == "fault" else "" for n in found.values()}
        if len(found) == 2 and len(names) == 1 and names != {""}:
            self._add_fault("both", found["trainer"])
            return
        for column, one in found.items():
            if one.outcome == "fault":
                self._add_fault(column, one)
            else:
                self._unexplained(column, one)

    def _add_fault(self, column: str, one: Named) -> None:
        h = one.best.hypothesis
        whose = "in both columns" if column == "both" else f"in the {column}'s column"
        says = f"{whose} {h.says}{self._told_by_text(one)}"
        self.faults.append(Fault(h.name, column, says, h.remedy, _surety(one)))

    def _told_by_text(self, one: Named) -> str:
        """Whether the tokens themselves were drawn at the stated setting, or at the one that the numbers have."""
        h = one.best.hypothesis
        if "temperature" not in h.detail and "top_p" not in h.detail:
            return ""
        both_N = self.counts_N & np.isfinite(h.predicted) & np.isfinite(one.sound.hypothesis.predicted)
        away_N = (one.sound.hypothesis.predicted - h.predicted)[both_N]
        if not len(away_N):
            return ""
        stated, fitted = (e_value(d, 1e-6, self.settings.level).log10 for d in (away_N, -away_N))
        if stated > _TELLING:
            return f"; the tokens were drawn as stated (log10 e = {stated:.1f})"
        if fitted > _TELLING:
            return f"; the tokens were drawn so too (log10 e = {fitted:.1f}): what is stated is wrong"
        return ""

    def _unexplained(self, column: str, one: Named) -> None:
        """A column that nothing explains, in whole or in part."""
        assert self.readings is not None
        off_R = self._row_rms(self._given(column) - one.sound.hypothesis.predicted) > one.limit
        nearest = one.best.hypothesis
        near = "" if nearest.name == "sound" else f" (the nearest: {nearest.name}, {one.best.rms:.2f})"
        n_off, n_rows = int(off_R.sum()), len(off_R)
        part_of = f" in {n_off} of {n_rows} rollouts" if 0 < n_off < n_rows else ""
        self.faults.append(
            Fault(
                "other weights",
                column,
                f"nothing that was tried explains the {column}'s column{part_of}: it is {one.sound.rms:.2f} nats "
                f"a token from {self.readings.name}{near}, and noise makes at most {one.limit:.2f}; other weights, "
                "such as those before the last steps, would",
                "give the weights that it may come from as --checkpoint NAME=MODEL",
                f"{one.best.n} tokens",
            )
        )

    def _row_rms(self, residual_N: np.ndarray) -> np.ndarray:
        """Residual of each rollout with enough tokens, NaN for the others."""
        ok_N = np.isfinite(residual_N)
        n_rows = len(self.batch.rollouts)
        count_R = np.bincount(self.batch.row[ok_N], minlength=n_rows)
        squares_R = np.bincount(self.batch.row[ok_N], np.clip(residual_N[ok_N], -1, 1) ** 2, minlength=n_rows)
        return np.sqrt(np.where(count_R >= LEAST_TOKENS, squares_R / np.maximum(count_R, 1), np.nan))

    def _divergences(self) -> dict[str, Divergence]:
        """How far the columns are apart, and from the model."""
        pairs = {}
        if len(self.columns) == 2:
            pairs["sampler against trainer"] = (self._given("sampler"), self._given("trainer"))
        if self.readings is not None:
            for column in self.columns:
                predicted_N = self.hypotheses[column][0].predicted
                pairs[f"{column} against {self.readings.name}"] = (self._given(column), predicted_N)
        found = {
            who: divergence(q_N, p_N, self.batch.cluster, self.settings.noise, self.settings.level)
            for who, (q_N, p_N) in pairs.items()
        }
        if "sampler against trainer" in found:
            q_N, p_N = pairs["sampler against trainer"]
            both_N = np.isfinite(q_N) & np.isfinite(p_N)
            if both_N.sum() >= LEAST_TOKENS and (q_N == p_N)[both_N].all():
                self.notes.append(
                    "sampler and trainer have the same numbers to the last digit: one is a copy of the other, and "
                    "their agreement says nothing"
                )
        return {who: one for who, one in found.items() if one is not None}

    def _versions(self, named: Mapping[str, Named]) -> tuple[Version, ...]:
        """Which weights fit which spans, where versions are stated or other weights were given."""
        if self.readings is None or "sampler" not in named:
            return ()
        if not self.readings.others and not any(r.versions for r in self.batch.rollouts):
            return ()
        hypotheses = self.hypotheses["sampler"]
        weights = {self.readings.name: hypotheses[0].predicted}
        weights |= {str(h.detail["weights"]): h.predicted for h in hypotheses if "weights" in h.detail}
        found = tuple(by_version(self.batch, self._given("sampler"), weights))
        if len(weights) < 2:
            return found
        for version in found:
            # A label that is also the name of weights should fit these.
            wrong = {name: n for name, n in version.fits.items() if version.label in weights and name != version.label}
            if wrong:
                name, n = next(iter(wrong.items()))
                self.faults.append(
                    Fault(
                        "versions mislabelled",
                        "ids",
                        f"{n} spans that are labelled {version.label} fit the weights {name}",
                        "note the version that the sampler had when it drew the token, not the trainer's",
                        f"{sum(version.fits.values())} spans decided",
                    )
                )
        fitted = {name for version in found for name in version.fits}
        if named["sampler"].outcome == "other" and len(fitted) > 1:
            self._replace_other_weights(fitted)
        return found

    def _replace_other_weights(self, fitted: set[str]) -> None:
        """Say mixed weights where the column as a whole fits none and its spans fit several."""
        self.faults = [f for f in self.faults if not (f.name == "other weights" and f.column == "sampler")]
        self.faults.append(
            Fault(
                "mixed weights",
                "sampler",
                f"the rollouts come from several weights: {', '.join(sorted(fitted))}, each span from one",
                "note the version of each span, and correct for it or drop what is too old",
            )
        )

    def _entropies(self, named: dict[str, Named]) -> Identity | None:
        """Logged entropies against the model, or against the surprisals."""
        if not self.batch.has("entropy"):
            return None
        entropy_N = self._given("entropy")
        if self.readings is not None:
            one = self._rule("entropy", of_entropies(self.batch, self.readings, entropy_N), entropy_N)
            named["entropy"] = one
            h = one.best.hypothesis
            if one.outcome == "fault":
                self.faults.append(
                    Fault(h.name, "entropy", f"of the logged entropies: {h.says}", h.remedy, _surety(one))
                )
            elif one.outcome == "other":
                says = (
                    f"nothing that was tried explains the logged entropies: they are {one.sound.rms:.2f} nats from "
                    f"{self.readings.name}'s, and noise makes at most {one.limit:.2f}"
                )
                self.faults.append(Fault("unexplained entropies", "entropy", says, "", f"{one.best.n} tokens"))
        column = next((c for c in self.columns), None)
        if column is None:
            return None
        found = identity(self.batch, self._given(column), entropy_N, column)
        if self.readings is None and found is not None:
            self._entropies_alone(column, entropy_N, found)
        return found

    def _entropies_alone(self, column: str, entropy_N: np.ndarray, found: Identity) -> None:
        """Without a model: entropies that are surprisals, that lie one token off, or that are of something else."""
        logprob_N = self._given(column)
        same_N = np.isfinite(logprob_N) & np.isfinite(entropy_N)
        if same_N.sum() >= LEAST_TOKENS and np.abs(entropy_N + logprob_N)[same_N].max() < self.settings.noise:
            says = "each logged entropy is minus the log-probability of the token that came: an estimate from one draw"
            remedy = "take the entropy of the whole distribution"
            self.faults.append(Fault("surprisal for entropy", "entropy", says, remedy, f"{found.n_tokens} tokens"))
            return
        squares = shifted_identity(self.batch, logprob_N, entropy_N)
        by = min(squares, key=lambda k: squares[k])
        if by and squares[0] > 0:
            gain = 0.5 * found.n_tokens * math.log(squares[0] / max(squares[by], 1e-12))
            if gain > max(LEAST_GAIN, math.log(2 / self.level)):
                side = "next" if by == 1 else "previous"
                says = f"each token has the entropy of the {side} token"
                remedy = "align logits and labels before entropies are averaged"
                self.faults.append(Fault("shift by one", "entropy", says, remedy, f"{gain:.0f} nats"))
                return
        if found.is_alarming:
            residual = f"{float(found.residual.value):+.3f} nats a token (z = {found.z:.1f})"
            says = f"the entropies are not those of what was drawn: surprisal less entropy is {residual}"
            remedy = "give --model to learn which: wrong tokens, another temperature, or tokens that were not sampled"
            self.faults.append(Fault("entropies do not fit", "entropy", says, remedy, f"{found.n_tokens} tokens"))

    def _foreign(self, named: Mapping[str, Named]) -> Foreign | None:
        """Trained tokens that the model did not write, if the model is the right one."""
        column = next((c for c in COLUMNS if c in named), None)
        if self.readings is None or self.reference_N is None:
            return None
        if column is not None and named[column].outcome != "sound":
            return None
        logprob_N = np.where(self.counts_N & np.isfinite(self.reference_N), self.reference_N, np.nan)
        found = foreign(self.batch, logprob_N, self.readings.vocabulary, self.settings.noise, self.level)
        if found is not None and found.is_found:
            where = "; ".join(
                f"{self.batch.rollouts[row].id} tokens {start} to {stop - 1}" for row, start, stop, _ in found.worst[:3]
            )
            self.faults.append(
                Fault(
                    "foreign tokens counted",
                    "tokens",
                    f"some trained tokens were not written by {self.readings.name}"
                    f"{f' ({where})' if where else ''}: observations, edits or fabricated turns",
                    "mask them; `enaction audit` says which turns",
                    f"log10 e = {found.log10_e:.1f}",
                )
            )
        return found

    def _remarks(self) -> None:
        if not self.taken.is_stated:
            self.notes.append("no temperature is stated: 1 was taken (--temperature)")
        if self.readings is None:
            self.notes.append(
                "without --model temperatures, templates and weights cannot be told; the columns were compared alone"
            )
            if len(self.columns) == 1:
                self.notes.append(
                    f"only the {self.columns[0]}'s log-probabilities are there: nothing to hold them against"
                )
        elif not any(r.prompt for r in self.batch.rollouts):
            self.notes.append("the rollouts hold prompt ids and no messages: other templates were not tried")


def _surety(one: Named) -> str:
    """By how much the named hypothesis is preferred."""
    return f"residual {one.best.rms:.3f}, of a sound column {one.best.rms_sound:.3f}; {one.best.gain:.0f} nats"
