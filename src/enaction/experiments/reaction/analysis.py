"""Slopes, and what of the gap between foreign and own text each block accounts for.

Axes: N row, P prompt, W weighting (ones, then the resamples), D draw of a shuffle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from enaction import stats
from enaction.analysis.data import Data
from enaction.analysis.ledger import STREAMS, Ledger
from enaction.experiments.reaction.rows import Against, Rows, rows_of
from enaction.stats.partial import Regression, bent, knots_of
from enaction.stats.pooling import ratio
from enaction.words import MEAN, STAGES, Framing, known_stage

# What is asked about, then what was known before the newest token.
SURPRISAL, LOG_ODDS, EARLIER, ENTROPY, POSITION = "surprisal", "log_odds", "earlier", "entropy", "position"
ASKED = (SURPRISAL, LOG_ODDS)
BEFORE, TOKEN, LEFT, AUTHORSHIP = "before", "token", "author", "authorship"
_NAMES = {
    SURPRISAL: "the surprisal of the newest token",
    LOG_ODDS: "the running log-odds of authorship",
    EARLIER: "the surprisals before it",
    BEFORE: "what was known before the newest token: earlier surprisals, H_t and position",
    TOKEN: "which token the newest is, and the prompt",
    LEFT: "whose text it is, which is left when all else is equal",
    AUTHORSHIP: "authorship: the log-odds, and whose text it is where all else is equal",
}
_KNOTS, _BINS = 8, 20
# Tokens that are rarer are of one kind.
_COMMON = 20
# A gap nearer to 0 than this, nats, is not divided: shares of it would be shares of rounding.
_LEAST_GAP = 0.02
# With less of the log-odds in common, own and foreign text are compared at log-odds that only one of them has.
_LEAST_OVERLAP = 0.05
# Why a mean over readers has no shares.
OPPOSITE = "of readers with gaps of opposite signs, so that shares of the mean say nothing of either"
# The regression with H_t, and without: H_t holds what was known, and the reactions to all that came before with it.
HELD, FREE = "held", "free"
_REGRESSION = "least squares over tokens: H_{t+1} on s_t, earlier surprisals, log-odds, position, token, prompt, author"
_POOLED = {HELD: f"{_REGRESSION} and H_t", FREE: f"{_REGRESSION}, without H_t"}


@dataclass(frozen=True)
class Setup:
    """How the regression is set up; see `Reaction`."""

    framing: Framing
    lags: int
    saturation: float
    against: Against
    shuffles: int


@dataclass(frozen=True)
class Read:
    """One reader; `numbers` and `null` are by whether H_t is `HELD` or `FREE`, and quantity.

    Attributes:
        reader: the model.
        numbers: in every weighting [W].
        null: in every draw [D].
        n: prompts with rows.
    """

    reader: str
    numbers: Mapping[tuple[str, str], np.ndarray]
    null: Mapping[tuple[str, str], np.ndarray]
    n: int


def analyse(ledger: Ledger, data: Data, groups: Mapping[str, Sequence[str]], setup: Setup) -> None:
    """Write all findings, stage by stage."""
    weight_WP = np.concatenate([np.ones((1, data.n_prompts)), data.weights])
    base: list[Read] = []
    for stage, members in groups.items():
        read, why = [], []
        for reader in members:
            rows = _rows(data, reader, members, setup)
            written = np.unique(rows.author)
            if len(written) < 2 or written[0] != 0:
                why.append(f"{reader} is left out: own or foreign texts have no more than {setup.lags + 1} tokens")
                continue
            read.append(_read(reader, rows, weight_WP, ledger.rng(STREAMS["reaction", "shuffles"]), setup))
        at = ledger.at(stage=stage, notes=why)
        if not read:
            at.leave_out("left_out", "none", why, text="the regression of H_{t+1} needs texts and log-odds")
            continue
        for entropy in (HELD, FREE):
            for of in read:
                _write(at.at(reader=of.reader, entropy=entropy), [of], setup, entropy)
            _write(at.at(reader=MEAN, entropy=entropy), read, setup, entropy)
            if base and known_stage(stage) != STAGES[0]:
                _write_since(at.at(reader=MEAN, entropy=entropy), read, base, entropy)
        base = read if known_stage(stage) == STAGES[0] else base


def _rows(data: Data, reader: str, members: Sequence[str], setup: Setup) -> Rows:
    others = [m for m in members if m != reader]
    parts = [
        rows_of(data, reader, author, others, setup.framing, setup.lags, setup.against, code)
        for code, author in enumerate([reader, *others])
    ]
    rows = Rows.joined(parts).saturated(setup.saturation)
    # An author without a row is none.
    return replace(rows, author=np.unique(rows.author, return_inverse=True)[1]) if 0 in rows.author else rows


def _blocks(rows: Rows) -> dict[str, np.ndarray]:
    """Each variable as a piecewise linear function."""
    variables = {
        SURPRISAL: rows.surprisal[:, None],
        LOG_ODDS: rows.log_odds[:, None],
        EARLIER: rows.earlier,
        ENTROPY: rows.entropy[:, None],
        # In tens of tokens, so that all columns are of about the same size.
        POSITION: rows.position[:, None] / 10,
    }
    return {
        name: np.concatenate([bent(x, knots_of(x, _KNOTS)) for x in of.T], axis=1)
        for name, of in variables.items()
        if of.shape[1]
    }


def _read(reader: str, rows: Rows, weight_WP: np.ndarray, rng: np.random.Generator, setup: Setup) -> Read:
    blocks = _blocks(rows)
    n_prompts, levels = weight_WP.shape[1], (_kinds(rows.token), rows.prompt)

    def regression(changed: Mapping[str, np.ndarray]) -> Regression:
        return Regression.of(rows.outcome, {**blocks, **changed}, rows.author, rows.prompt, n_prompts, levels)

    numbers = _numbers(regression({}), weight_WP, ASKED)
    null: dict[tuple[str, str], list[float]] = {}
    # A history that says no more than its surprisal does, and a surprisal that says no more than its history.
    for block, given in ((LOG_ODDS, rows.surprisal), (SURPRISAL, rows.log_odds)):
        bins_N = _bins(given)
        for _ in range(setup.shuffles):
            shuffled = regression({block: blocks[block][_shuffled_within(bins_N, rng)]})
            for name, value_W in _numbers(shuffled, weight_WP[:1], (block,)).items():
                if name[1] in (f"slope_{block}", f"part_{block}"):
                    null.setdefault(name, []).append(float(value_W[0]))
    overlap_W = _overlap(rows, weight_WP)
    numbers |= {(entropy, "overlap"): overlap_W for entropy in (HELD, FREE)}
    n = int((np.bincount(rows.prompt, minlength=n_prompts) > 0).sum())
    return Read(reader, numbers, {name: np.array(values) for name, values in null.items()}, n)


def _numbers(regression: Regression, weight_WP: np.ndarray, asked: Sequence[str]) -> dict[tuple[str, str], np.ndarray]:
    """Slopes of what is asked about, the gap and its parts, nats; in every weighting."""
    numbers: dict[tuple[str, str], np.ndarray] = {}
    for entropy, without in ((HELD, ()), (FREE, (ENTROPY,))):
        for block in asked:
            numbers[entropy, f"slope_{block}"] = regression.slope(weight_WP, block, *without)
        found = regression.explained(weight_WP, *without)
        parts = {
            SURPRISAL: found.parts[SURPRISAL],
            LOG_ODDS: found.parts[LOG_ODDS],
            LEFT: found.left,
            AUTHORSHIP: found.parts[LOG_ODDS] + found.left,
            BEFORE: np.sum([found.parts[b] for b in (EARLIER, ENTROPY, POSITION) if b in found.parts], axis=0),
            TOKEN: found.levels,
        }
        numbers |= {(entropy, f"part_{name}"): part_W for name, part_W in parts.items()}
        numbers[entropy, "gap"] = found.gap
    return numbers


def _kinds(token_N: np.ndarray) -> np.ndarray:
    """Codes of tokens; those that are rare are of one kind."""
    _, code_N, count = np.unique(token_N, return_inverse=True, return_counts=True)
    return np.unique(np.where(count[code_N] < _COMMON, -1, code_N), return_inverse=True)[1]


def _overlap(rows: Rows, weight_WP: np.ndarray) -> np.ndarray:
    """[W] tokens of own and foreign text that have log-odds in common, as a share: 1 where they tell nothing apart."""
    is_own_N, bins_N = rows.author == 0, _bins(rows.log_odds)
    n_bins, n_prompts = int(bins_N.max()) + 1, weight_WP.shape[1]
    shares_SWB = []
    for of_N in (is_own_N, ~is_own_N):
        count_PB = np.zeros((n_prompts, n_bins))
        np.add.at(count_PB, (rows.prompt[of_N], bins_N[of_N]), 1.0)
        count_WB = weight_WP @ count_PB
        shares_SWB.append(ratio(count_WB, count_WB.sum(axis=1, keepdims=True)))
    return np.minimum(*shares_SWB).sum(axis=1)


def _bins(value_N: np.ndarray) -> np.ndarray:
    """Codes of quantile bins; equal values share one."""
    edges = np.unique(np.quantile(value_N, np.linspace(0, 1, _BINS + 1)[1:-1]))
    return np.searchsorted(edges, value_N, side="left")


def _shuffled_within(bins_N: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An order of the rows in which rows of one bin have changed places."""
    order_N = np.arange(len(bins_N))
    for code in np.unique(bins_N):
        rows = np.flatnonzero(bins_N == code)
        order_N[rows] = rng.permutation(rows)
    return order_N


def _write(ledger: Ledger, several: Sequence[Read], setup: Setup, entropy: str) -> None:
    """Every number of a reader, or of the mean over several, with H_t held equal or free."""
    n = min(of.n for of in several)
    number_W, null_D = (
        {name: np.mean([of[at, name] for of in table], axis=0) for at, name in table[0] if at == entropy}
        for table in ([of.numbers for of in several], [of.null for of in several])
    )
    limit = f"surprisals and log-odds beyond {setup.saturation:g} nats count as that"

    def add(quantity: str, unit: str, text: str, value_W: np.ndarray, null: float | None = 0.0) -> None:
        ledger.add(quantity, unit, text, _estimate(value_W), pooling=_POOLED[entropy], null=null, n=n)

    for block in ASKED:
        text = f"nats of H_{{t+1}} for one nat of {_NAMES[block]}, all else as bent lines; {limit}"
        add(f"slope_{block}", "nats per nat", text, number_W[f"slope_{block}"])
    gap_W = number_W["gap"]
    add("gap", "nats", "mean H_{t+1} on foreign minus own text, tokens of all prompts", gap_W)
    add(
        "overlap",
        "share",
        "log-odds that tokens of own and foreign text have in common; 0 where the log-odds say who wrote each token",
        number_W["overlap"],
        None,
    )
    low, high = stats.percentile_interval(gap_W[1:])
    has_gap = bool((low > 0 or high < 0) and abs(gap_W[0]) > _LEAST_GAP)
    little = f"own and foreign text have less than {_LEAST_OVERLAP:g} of their log-odds in common: not told apart"
    why = f"no gap to share: its interval holds 0, or it is at most {_LEAST_GAP:g} nats"
    if has_gap and any(_surely_opposite(of.numbers[entropy, "gap"], gap_W[0]) for of in several):
        has_gap, why = False, OPPOSITE
    for block in (*ASKED, BEFORE, TOKEN, LEFT, AUTHORSHIP):
        text = f"part of the gap between foreign and own text that goes with {_NAMES[block]} (Gelbach); {limit}"
        part, share, part_W = f"part_{block}", f"share_{block}", number_W[f"part_{block}"]
        if block in (LOG_ODDS, LEFT) and number_W["overlap"][0] < _LEAST_OVERLAP:
            for quantity, unit in ((part, "nats"), (share, "share of the gap")):
                ledger.leave_out(quantity, unit, little, n=n, text=text)
            continue
        add(part, "nats", text, part_W)
        if has_gap:
            add(share, "share of the gap", f"{text}; divided by the gap", part_W / gap_W)
        else:
            ledger.leave_out(share, "share of the gap", why, n=n, text=text)
    if has_gap:
        part_W = number_W[f"part_{SURPRISAL}"] - number_W[f"part_{AUTHORSHIP}"]
        text = f"share of the gap that goes with surprisal minus the share that goes with {_NAMES[AUTHORSHIP]}"
        add("share_difference", "share of the gap", text, part_W / gap_W)
    for name, value_D in null_D.items():
        block = name.partition("_")[2]
        given = SURPRISAL if block == LOG_ODDS else LOG_ODDS
        estimate, low, high = (float(np.quantile(value_D, q)) for q in (0.5, 0.025, 0.975))
        unit = "nats per nat" if name.startswith("slope") else "nats"
        text = (
            f"null of {name}: {_NAMES[block]} shuffled among tokens of about equal {given.replace('_', '-')}; median "
            f"and central 95 % of {setup.shuffles} draws"
        )
        ledger.fact(f"null_{name}", unit, text, estimate, n, low=low, high=high)


def _surely_opposite(gap_W: np.ndarray, mean: float) -> bool:
    """Whether a reader's gap has the other sign than the mean over readers, its whole interval."""
    low, high = stats.percentile_interval(gap_W[1:])
    return bool(high < 0 < mean or mean < 0 < low)


def _write_since(ledger: Ledger, read: Sequence[Read], base: Sequence[Read], entropy: str) -> None:
    """What of the slopes is there already in the base models, on their own texts: what training has changed."""
    for block in ASKED:
        name = (entropy, f"slope_{block}")
        now_W, then_W = (np.mean([of.numbers[name] for of in several], axis=0) for several in (read, base))
        text = f"nats of H_{{t+1}} for one nat of {_NAMES[block]}, at this stage minus at base, each on its own texts"
        n = min(of.n for of in (*read, *base))
        change = _estimate(now_W - then_W)
        ledger.add(f"slope_change_{block}", "nats per nat", text, change, pooling=_POOLED[entropy], null=0.0, n=n)


def _estimate(value_W: np.ndarray) -> stats.Estimate:
    return stats.Estimate(np.asarray(value_W[0]), *stats.percentile_interval(value_W[1:]))
