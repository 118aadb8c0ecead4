"""The route of a report: keys and values of a foreign reply are put in place of an own reply's, whole and in parts.

Own and foreign replies to one prompt are cut to one length and asked about. At the reply's positions the keys and
values of all blocks are overwritten by those of the other run; the question's turn is computed anew. What the answer's
log-odds then do is the effect of the whole patch. Overwriting everything under one prompt makes the run the other run,
a check of the code and no result (`full`); its parts are the result: in the subspace of surprise, in its complement,
and in random subspaces of the complement with the same energy.

The directions of surprise are fitted on own text alone, on prompts that no pair is from: pooled over authors they would
be close to the direction from own to foreign. They are fitted within eighths of the entropy before each word, with bins
of surprisal that are cut within each of them: bins of surprisal alone are bins of grammar slots too, and of a planted
trace they find a mixture with the direction of the slot; bins that are cut over all words leave most cells empty.

Axes: `N` states, `C` channels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from enaction.errors import StudyError
from enaction.experiments.verbal.asking import Answers, Asked, Panel, Report, ask, table_of
from enaction.passages import Passage
from enaction.stats.bins import LEAST, binned, cells, edges
from enaction.stats.directions import centroids
from enaction.stats.routes import energy_share, random_basis_in_complement

if TYPE_CHECKING:
    from enaction.reader import Reader
    from enaction.reader.interventions import Capture, Spot

DOSES = (0.25, 0.5, 0.75)
_KEYS = 8
# A foreign reply that is patched into an own one, and the reverse: whose run is read, and whose states are put there.
DIRECTIONS = ("own<-foreign", "foreign<-own")

SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("direction", pa.string()),
        ("treatment", pa.string()),  # clean, full, dose, in, complement, shuffled, random
        ("amount", pa.float32()),  # of the whole patch; of a dose
        ("draw", pa.int32()),
        ("log_odds", pa.float32()),  # nats
        ("mass", pa.float32()),
        ("energy", pa.float32()),  # share of the patch's sum of squares
    ]
)

Bases = Mapping["Spot", np.ndarray]
States = Mapping["Spot", list[np.ndarray]]
# A part of a patch [N, C] at a spot.
Part = Callable[["Spot", np.ndarray], np.ndarray]


class Fit(NamedTuple):
    """States from which directions are fitted.

    Attributes:
        states: spot -> [N, C].
        keys: [N], eighth of the entropy that the model had before the word.
        bins: [N], of the word's surprisal, within its key.
    """

    states: Mapping[Spot, np.ndarray]
    keys: np.ndarray
    bins: np.ndarray


def spots(reader: Reader) -> list[Spot]:
    """Keys and values of every block."""
    from enaction.reader.interventions import Spot, layers

    return [Spot(layer, part) for layer in range(1, layers(reader) + 1) for part in ("key", "value")]


def pairs(own: Sequence[Passage], foreign: Sequence[Passage]) -> list[tuple[Passage, Passage]]:
    """The first own and the first foreign passage of each prompt that has both."""
    first: dict[str, dict[bool, Passage]] = defaultdict(dict)
    for is_own, passages in ((True, own), (False, foreign)):
        for passage in passages:
            first[passage.prompt_id].setdefault(is_own, passage)
    return [(both[True], both[False]) for both in first.values() if len(both) == 2]


def fit_states(reader: Reader, passages: Sequence[Passage], n_bins: int, *, skip: int = 1) -> Fit:
    """Keys and values at the words of replies, with what was known before each word and how surprising it was.

    Args:
        reader: who reads.
        passages: of one author.
        n_bins: of a key, at most.
        skip: words at the beginning of a reply that are left out: a fixed beginning is no surprise.

    Raises:
        StudyError: too little text to fit anything.
    """
    from enaction.framing import frame
    from enaction.reader.interventions import Capture, Treated

    framed = [frame(reader.tokenizer, p, "assistant") for p in passages]
    if not any(f.stop - 1 > f.start + skip for f in framed):
        raise _too_few(0)
    # The last token is not fed, so it has no state.
    where = [np.arange(f.start + skip, f.stop - 1) for f in framed]
    captures = {spot: Capture(spot, where) for spot in spots(reader)}
    given = Treated(reader, framed).read((), list(captures.values()))
    surprisal = np.concatenate([s.surprisal[skip:-1] for s in given.scores])
    entropy = np.concatenate([s.entropy[skip:-1] for s in given.scores])
    keys = binned(entropy, edges(entropy, _KEYS))
    # Twice the words that a cell of key and bin needs.
    n_bins = int(np.clip(len(surprisal) // (2 * LEAST * _KEYS), 4, n_bins))
    bins = np.zeros_like(keys)
    for key in np.unique(keys):
        of = surprisal[keys == key]
        bins[keys == key] = binned(of, edges(of, n_bins, has_floor=False))
    states = {spot: np.concatenate(given.captured[capture]) for spot, capture in captures.items()}
    return Fit(states, keys, bins)


def bases_of(fit: Fit, rank: int, rng: np.random.Generator | None = None) -> Bases:
    """Principal directions of the centroids within keys at each spot; of shuffled bins where random numbers are given.

    Raises:
        StudyError: too little text to fit them.
    """
    bins = fit.bins.copy()
    if rng is not None:
        for key in np.unique(fit.keys):  # cells keep their counts
            bins[fit.keys == key] = rng.permutation(bins[fit.keys == key])
    of = cells(fit.keys, bins, int(fit.keys.max()) + 1, int(bins.max()) + 1)
    if of.usable.sum() <= rank:
        raise _too_few(len(bins))
    return {spot: centroids(state_NC, fit.keys, bins, of, rank).basis for spot, state_NC in fit.states.items()}


def _too_few(words: int) -> StudyError:
    return StudyError(
        f"experiments.verbal: {words} words of own text are too few for directions of surprise: use more prompts, or "
        "set route: false"
    )


class Patches:
    """Pairs of replies, the states of both, and the report under any mixture of them."""

    def __init__(
        self, reader: Reader, both: Sequence[tuple[Passage, Passage]], question: str, words: Answers, *, cut: int
    ) -> None:
        from enaction.reader.interventions import Capture

        self._spots = spots(reader)
        self.panels: dict[str, Panel] = {}
        self.clean: dict[str, Report] = {}
        self._states: dict[str, States] = {}
        asked = [_same_length(reader, own, foreign, question, cut) for own, foreign in both]
        self.prompts = [one.passage.prompt_id for one, _ in asked]
        for side, direction in enumerate(DIRECTIONS):
            panel = Panel(reader, [pair[side] for pair in asked], words)
            captures: dict[Spot, Capture] = {
                spot: Capture(spot, [a.positions for a in panel.asked]) for spot in self._spots
            }
            self.clean[direction], captured = panel.read((), list(captures.values()))
            self.panels[direction] = panel
            self._states[direction] = {spot: captured[capture] for spot, capture in captures.items()}

    def patch(self, direction: str, spot: Spot) -> np.ndarray:
        """Donor minus recipient at a spot, of all pairs, [N, C]."""
        donor, recipient = self._states[_reverse(direction)][spot], self._states[direction][spot]
        return np.concatenate([d - r for d, r in zip(donor, recipient, strict=True)])

    def energy(self, direction: str, bases: Bases) -> float:
        """Share of the patch's sum of squares in the subspaces, keys and values of all blocks together."""
        patch = {spot: self.patch(direction, spot) for spot in self._spots}
        whole = sum(float((patch_NC**2).sum()) for patch_NC in patch.values())
        return sum(energy_share(patch[s], bases[s]) * float((patch[s] ** 2).sum()) for s in self._spots) / whole

    def read(self, direction: str, part: Part) -> Report:
        """The report where a part of donor minus recipient is added to the recipient, both from clean runs."""
        from enaction.reader.interventions import Edit

        panel, edits = self.panels[direction], []
        donor, recipient = self._states[_reverse(direction)], self._states[direction]
        for spot in self._spots:
            value = [r + part(spot, d - r) for d, r in zip(donor[spot], recipient[spot], strict=True)]
            edits.append(Edit(spot, [a.positions for a in panel.asked], value, kind="set"))
        return panel.read(edits)[0]


def measure(
    reader: Reader,
    own: Sequence[Passage],
    foreign: Sequence[Passage],
    fit_on: Sequence[Passage],
    *,
    question: str,
    words: Answers,
    rng: np.random.Generator,
    cut: int = 48,
    rank: int = 2,
    draws: int = 10,
    bins: int = 8,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pa.Table:
    """A row for each pair, direction and treatment; see `SCHEMA`. No rows where no prompt has both replies.

    Args:
        reader: who reports.
        own, foreign: replies to the same prompts.
        fit_on: own replies to other prompts.
        question, words: what is asked, and the two answers.
        rng: of random subspaces and shuffled bins.
        cut: tokens of a reply that are shown, fewer where one of a pair is shorter.
        rank: of the subspace of surprise.
        draws: random subspaces.
        bins: of surprise within a key, at most.
        progress: called with readings done and their total.

    Raises:
        StudyError: too little own text to fit directions of surprise.
    """
    both = pairs(own, foreign)
    if not both:
        return SCHEMA.empty_table()
    patches = Patches(reader, both, question, words, cut=cut)
    fit = fit_states(reader, fit_on, bins)
    bases, shuffled = bases_of(fit, rank), bases_of(fit, rank, rng)
    rows: list[tuple] = []
    total = 2 * (len(DOSES) + 5 + draws)
    for direction in DIRECTIONS:
        for one in _treatments(patches, direction, bases, shuffled, draws, rng):
            report = one.report
            for prompt, log_odds, mass in zip(patches.prompts, report.log_odds, report.mass, strict=True):
                rows.append((prompt, direction, one.name, one.amount, one.draw, log_odds, mass, one.energy))
            progress(len(rows) // len(both), total)
    return table_of(rows, SCHEMA)


class _Treated(NamedTuple):
    name: str
    report: Report
    amount: float
    draw: int
    energy: float


def _treatments(
    patches: Patches, direction: str, bases: Bases, shuffled: Bases, draws: int, rng: np.random.Generator
) -> Iterator[_Treated]:
    energy = patches.energy(direction, bases)
    yield _Treated("clean", patches.clean[direction], 0.0, 0, 0.0)
    yield _Treated("full", patches.read(direction, lambda _, patch_NC: patch_NC), 1.0, 0, 1.0)
    for dose in DOSES:
        scaled = patches.read(direction, lambda _, patch_NC, dose=dose: dose * patch_NC)
        yield _Treated("dose", scaled, dose, 0, dose**2)
    yield _Treated("in", patches.read(direction, within(bases)), 0.0, 0, energy)
    yield _Treated("complement", patches.read(direction, outside(bases)), 0.0, 0, 1 - energy)
    of_shuffled = patches.read(direction, within(shuffled))
    yield _Treated("shuffled", of_shuffled, 0.0, 0, patches.energy(direction, shuffled))
    for draw in range(draws):
        drawn = {}
        for spot, basis_Cr in bases.items():
            patch_NC = patches.patch(direction, spot)
            share = energy_share(patch_NC, basis_Cr)
            drawn[spot] = random_basis_in_complement(patch_NC, basis_Cr, share, rng)
        of_random = patches.read(direction, within(drawn))
        yield _Treated("random", of_random, 0.0, draw, patches.energy(direction, drawn))


def within(bases: Bases) -> Part:
    """The part of a patch in subspaces."""
    return lambda spot, patch_NC: patch_NC @ bases[spot] @ bases[spot].T


def outside(bases: Bases) -> Part:
    """The part of a patch outside of them."""
    return lambda spot, patch_NC: patch_NC - patch_NC @ bases[spot] @ bases[spot].T


def _same_length(reader: Reader, own: Passage, foreign: Passage, question: str, cut: int) -> tuple[Asked, Asked]:
    """Both replies with as many tokens as the shorter one has, so that positions correspond."""
    lengths = [a.reply[1] - a.reply[0] for a in (ask(reader.tokenizer, p, question, cut=cut) for p in (own, foreign))]
    one, other = (ask(reader.tokenizer, p, question, cut=min(lengths)) for p in (own, foreign))
    return one, other


def _reverse(direction: str) -> str:
    return DIRECTIONS[1 - DIRECTIONS.index(direction)]
