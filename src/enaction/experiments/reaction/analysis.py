"""Slopes, unique shares of variance, and what of the gap between foreign and own text each block accounts for.

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
    TOKEN: "which token the newest is",
    LEFT: "whose text it is, which is left when all else is equal",
    AUTHORSHIP: "authorship: the log-odds, and whose text it is where all else is equal",
}
_KNOTS, _BINS = 8, 20
# Tokens that are rarer are of one kind.
_COMMON = 20
# A gap nearer to 0 than this, nats, is not divided: shares of it would be shares of rounding.
_LEAST_GAP = 0.02
_POOLED = "least squares over tokens: H_{t+1} on s_t, earlier surprisals, log-odds, H_t, position, token, author"


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
    """One reader: every number in every weighting [W], its null in every draw [D], and prompts with rows."""

    reader: str
    numbers: Mapping[str, np.ndarray]
    null: Mapping[str, np.ndarray]
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
        for of in read:
            _write(at.at(reader=of.reader), [of], setup)
        _write(at.at(reader=MEAN), read, setup)
        if known_stage(stage) == STAGES[0]:
            base = read
        elif base:
            _write_since(at.at(reader=MEAN), read, base)


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
    n_prompts, kind_N = weight_WP.shape[1], _kinds(rows.token)

    def regression(changed: Mapping[str, np.ndarray]) -> Regression:
        return Regression.of(rows.outcome, {**blocks, **changed}, rows.author, rows.prompt, n_prompts, kind_N)

    plain = regression({})
    null: dict[str, list[float]] = {}
    # A history that says no more than its surprisal does, and a surprisal that says no more than its history.
    for block, given in ((LOG_ODDS, rows.surprisal), (SURPRISAL, rows.log_odds)):
        bins_N = _bins(given)
        for _ in range(setup.shuffles):
            order_N = _shuffled_within(bins_N, rng)
            shuffled = regression({block: blocks[block][order_N]})
            for name, value_W in _numbers(shuffled, weight_WP[:1], (block,)).items():
                null.setdefault(name, []).append(float(value_W[0]))
    numbers = _numbers(plain, weight_WP, ASKED) | _of_overlap(rows, weight_WP)
    n = int((np.bincount(rows.prompt, minlength=n_prompts) > 0).sum())
    return Read(reader, numbers, {name: np.array(values) for name, values in null.items()}, n)


def _numbers(regression: Regression, weight_WP: np.ndarray, asked: Sequence[str]) -> dict[str, np.ndarray]:
    """Slopes, unique shares and parts of the gap, nats, in every weighting."""
    numbers: dict[str, np.ndarray] = {}
    for block in asked:
        numbers[f"slope_{block}"] = regression.slope(weight_WP, block)
        numbers[f"unique_{block}"] = regression.unique_share(weight_WP, block)
    found = regression.explained(weight_WP)
    known = [block for block in (EARLIER, ENTROPY, POSITION) if block in found.parts]
    parts = {block: found.parts[block] for block in ASKED} | {
        BEFORE: np.sum([found.parts[block] for block in known], axis=0),
        TOKEN: found.levels,
        LEFT: found.left,
        AUTHORSHIP: found.parts[LOG_ODDS] + found.left,
    }
    chosen = parts if len(asked) == len(ASKED) else {block: parts[block] for block in asked}
    numbers |= {f"part_{name}": value for name, value in chosen.items()}
    return numbers | ({"gap": found.gap} if len(asked) == len(ASKED) else {})


def _kinds(token_N: np.ndarray) -> np.ndarray:
    """Codes of tokens; those that are rare are of one kind."""
    _, code_N, count = np.unique(token_N, return_inverse=True, return_counts=True)
    return np.unique(np.where(count[code_N] < _COMMON, -1, code_N), return_inverse=True)[1]


def _of_overlap(rows: Rows, weight_WP: np.ndarray) -> dict[str, np.ndarray]:
    """Tokens of own and foreign text that have log-odds in common, as a share: 1 where they tell nothing apart."""
    is_own_N, bins_N = rows.author == 0, _bins(rows.log_odds)
    n_bins, n_prompts = int(bins_N.max()) + 1, weight_WP.shape[1]
    shares_SWB = []
    for of_N in (is_own_N, ~is_own_N):
        count_PB = np.zeros((n_prompts, n_bins))
        np.add.at(count_PB, (rows.prompt[of_N], bins_N[of_N]), 1.0)
        count_WB = weight_WP @ count_PB
        shares_SWB.append(ratio(count_WB, count_WB.sum(axis=1, keepdims=True)))
    return {"overlap": np.minimum(*shares_SWB).sum(axis=1)}


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


def _write(ledger: Ledger, several: Sequence[Read], setup: Setup) -> None:
    """Every number of a reader, or of the mean over several."""
    n = min(of.n for of in several)
    number_W = {name: np.mean([of.numbers[name] for of in several], axis=0) for name in several[0].numbers}
    null_D = {name: np.mean([of.null[name] for of in several], axis=0) for name in several[0].null}
    limit = f"surprisals and log-odds beyond {setup.saturation:g} nats count as that"

    def add(quantity: str, unit: str, text: str, value_W: np.ndarray, null: float | None = 0.0) -> None:
        ledger.add(quantity, unit, text, _estimate(value_W), pooling=_POOLED, null=null, n=n)

    for block in ASKED:
        text = f"nats of H_{{t+1}} for one nat of {_NAMES[block]}, all else as bent lines; {limit}"
        add(f"slope_{block}", "nats per nat", text, number_W[f"slope_{block}"])
        text = f"share of the variance of H_{{t+1}} within authors that {_NAMES[block]} alone accounts for"
        add(f"unique_{block}", "share", text, number_W[f"unique_{block}"])
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
    why = f"no gap to share: its interval holds 0, or it is at most {_LEAST_GAP:g} nats"
    for block in (*ASKED, BEFORE, TOKEN, LEFT, AUTHORSHIP):
        text = f"part of the gap between foreign and own text that goes with {_NAMES[block]} (Gelbach); {limit}"
        part_W = number_W[f"part_{block}"]
        add(f"part_{block}", "nats", text, part_W)
        share = f"share_{block}"
        if has_gap:
            add(share, "share of the gap", f"{text}; divided by the gap", part_W / gap_W)
        else:
            ledger.leave_out(share, "share of the gap", why, n=n)
    if has_gap:
        part_W = number_W[f"part_{SURPRISAL}"] - number_W[f"part_{AUTHORSHIP}"]
        text = f"share of the gap that goes with surprisal minus the share that goes with {_NAMES[AUTHORSHIP]}"
        add("share_difference", "share of the gap", text, part_W / gap_W)
    for name, value_D in null_D.items():
        block = name.partition("_")[2]
        given = SURPRISAL if block == LOG_ODDS else LOG_ODDS
        estimate, low, high = (float(np.quantile(value_D, q)) for q in (0.5, 0.025, 0.975))
        unit = {"slope": "nats per nat", "unique": "share", "part": "nats"}[name.partition("_")[0]]
        text = (
            f"null of {name}: {_NAMES[block]} shuffled among tokens of about equal {given.replace('_', '-')}; median "
            f"and central 95 % of {setup.shuffles} draws"
        )
        ledger.fact(f"null_{name}", unit, text, estimate, n, low=low, high=high)


def _write_since(ledger: Ledger, read: Sequence[Read], base: Sequence[Read]) -> None:
    """What of the slopes is there already in the base models, on their own texts: what training has changed."""
    for block in ASKED:
        now_W, then_W = (np.mean([of.numbers[f"slope_{block}"] for of in several], axis=0) for several in (read, base))
        text = f"nats of H_{{t+1}} for one nat of {_NAMES[block]}, at this stage minus at base, each on its own texts"
        n = min(of.n for of in (*read, *base))
        change = _estimate(now_W - then_W)
        ledger.add(f"slope_change_{block}", "nats per nat", text, change, pooling=_POOLED, null=0.0, n=n)


def _estimate(value_W: np.ndarray) -> stats.Estimate:
    return stats.Estimate(np.asarray(value_W[0]), *stats.percentile_interval(value_W[1:]))
