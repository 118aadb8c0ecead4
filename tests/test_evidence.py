"""E-processes on tokens: every bet has mean at most 1 under the null, by a sum over the vocabulary; paths by twins."""

from __future__ import annotations

import math

import numpy as np
import pytest

from enaction.stats.evidence import (
    BETAS,
    Bets,
    Listed,
    Null,
    Stream,
    bets_on,
    change_path,
    common_cells,
    e_bh,
    fewest_foreign,
    passage_path,
)
from enaction.stats.evidence.processes import SHARE, shared_path

RNG = np.random.default_rng(0)


def null_of(
    p_V: np.ndarray,
    tokens_N: np.ndarray,
    *,
    keep_V: np.ndarray | None = None,
    wide_V: np.ndarray | None = None,
    narrow_V: np.ndarray | None = None,
    other_V: np.ndarray | None = None,
    listed: int = 0,
    eta: float = 1e-3,
) -> Null:
    """The null of tokens that all come from one distribution, computed by its definitions.

    `wide_V` and `narrow_V` are the most and the fewest tokens that samplers keep; `listed` tokens are listed.
    """
    n, vocabulary = len(tokens_N), len(p_V)
    wide_V = np.ones(vocabulary, bool) if wide_V is None else wide_V
    kept_V = np.where(wide_V, p_V, 0) / p_V[wide_V].sum()
    with np.errstate(divide="ignore"):
        log_V = np.log(kept_V)
    entropy = -(kept_V[wide_V] * log_V[wide_V]).sum()
    top = int(kept_V.argmax())
    bound_V = log_V
    if narrow_V is not None:
        bound_V = np.log(np.where(wide_V, p_V / p_V[narrow_V].sum(), eta * p_V))
    sums_B = [np.log((kept_V[wide_V] ** beta).sum()) for beta in BETAS]
    kept = {}
    if keep_V is not None:
        kept["few"] = (np.full(n, np.log(p_V[keep_V].sum())), keep_V[tokens_N])
        kept["unknown"] = (np.full(n, np.nan), np.zeros(n, bool))
    return Null(
        surprisal_N=-log_V[tokens_N],
        entropy_N=np.full(n, entropy),
        varentropy_N=np.full(n, (kept_V[wide_V] * (log_V[wide_V] + entropy) ** 2).sum()),
        log_sums_NB=np.tile(sums_B, (n, 1)),
        log_top_N=np.full(n, log_V[top]),
        is_top_N=tokens_N == top,
        log_bound_N=bound_V[tokens_N],
        log_unigram_N=np.log(np.arange(1, vocabulary + 1) / np.arange(1, vocabulary + 1).sum())[tokens_N],
        vocabulary=vocabulary,
        log_full_N=None if narrow_V is None else np.log(p_V)[tokens_N],
        kept=kept,
        others={} if other_V is None else {"other": np.log(other_V)[tokens_N]},
        common={}
        if not listed
        else {"other": common_cells(likeliest(p_V, listed, n), likeliest(other_V, listed, n), tokens_N)},
    )


def likeliest(p_V: np.ndarray | None, listed: int, n: int) -> Listed:
    assert p_V is not None
    ids_L = np.argsort(-p_V)[:listed]
    return Listed(np.tile(ids_L, (n, 1)), np.tile(np.log(p_V[ids_L]), (n, 1)))


def simplex(n: int, spread: float, rng: np.random.Generator = RNG) -> np.ndarray:
    logits_V = spread * rng.standard_normal(n)
    p_V = np.exp(logits_V - logits_V.max())
    return p_V / p_V.sum()


def all_factors(bets: Bets) -> np.ndarray:
    return np.exp(np.concatenate([bets.log_factors_NE, bets.log_arms_NA], axis=1))


@pytest.mark.parametrize("spread", [0.0, 0.3, 1.5, 4.0])
def test_no_bet_gains_under_the_null(spread: float) -> None:
    for _ in range(20):
        p_V = simplex(30, spread)
        null = null_of(p_V, np.arange(30), keep_V=p_V >= np.median(p_V), other_V=simplex(30, 1.0))
        mean_E = p_V @ all_factors(bets_on(null))
        assert mean_E.max() <= 1 + 1e-9
        # Those without a bound, an unknown or an approximation are distributions: their mean is 1.
        names = bets_on(null).names
        exact = [i for i, name in enumerate(names) if name in ("temperature 2 times", "any token", "few", "other")]
        assert len(exact) >= 3 - (spread == 0)
        np.testing.assert_allclose(mean_E[exact], 1, atol=1e-9)


@pytest.mark.parametrize("spread", [0.3, 1.5, 4.0])
@pytest.mark.parametrize("listed", [0, 6])
def test_no_bet_gains_from_noise_within_the_budget(spread: float, listed: int) -> None:
    budget = 0.05
    for _ in range(20):
        p_V = simplex(30, spread)
        keep_V, other_V = p_V >= np.median(p_V), simplex(30, 1.0)
        bets = bets_on(null_of(p_V, np.arange(30), keep_V=keep_V, other_V=other_V, listed=listed), budget)
        plain_VE = all_factors(bets_on(null_of(p_V, np.arange(30), keep_V=keep_V, other_V=other_V)))
        gains = []
        for factors_V, plain_V in zip(all_factors(bets).T, plain_VE.T, strict=True):
            # The worst sampler within |log p'/p| <= budget: more of what pays.
            noisy_V = p_V * np.exp(np.where(factors_V > np.median(factors_V), budget, -budget) / 2)
            noisy_V /= noisy_V.sum()
            assert np.abs(np.log(noisy_V / p_V)).max() <= budget
            assert noisy_V @ factors_V <= 1 + 1e-9
            gains.append(noisy_V @ plain_V)
        assert max(gains) > 1.001  # without the budget some bet gains


def test_common_cells_are_a_coarser_pair_of_distributions() -> None:
    rng = np.random.default_rng(0)
    p_V, q_V = simplex(30, 1.5, rng), simplex(30, 1.5, rng)
    ratio_V, deviation_V = common_cells(likeliest(p_V, 8, 30), likeliest(q_V, 12, 30), np.arange(30))
    both = set(np.argsort(-p_V)[:8]) & set(np.argsort(-q_V)[:12])
    assert 0 < len(both) < 8
    is_both_V = np.isin(np.arange(30), list(both))
    expected_V = np.where(is_both_V, q_V / p_V, q_V[~is_both_V].sum() / p_V[~is_both_V].sum())
    np.testing.assert_allclose(np.exp(ratio_V), expected_V)
    np.testing.assert_allclose(p_V @ np.exp(ratio_V), 1)
    np.testing.assert_allclose(deviation_V, math.sqrt(p_V @ (expected_V - 1) ** 2))
    # All of the mass listed, and lists of which none is in the other.
    ratio_V, _ = common_cells(likeliest(p_V, 30, 30), likeliest(q_V, 30, 30), np.arange(30))
    np.testing.assert_allclose(np.exp(ratio_V), q_V / p_V)
    none = Listed(np.full((30, 2), -1), np.full((30, 2), -np.inf))
    ratio_V, deviation_V = common_cells(none, none, np.arange(30))
    assert not ratio_V.any()
    assert not deviation_V.any()


def test_where_the_other_reader_agrees_its_bet_costs_nothing_within_a_budget() -> None:
    p_V = simplex(30, 1.5)
    for listed in (0, 6):
        bets = bets_on(null_of(p_V, np.arange(30), other_V=p_V, listed=listed), 0.05)
        factors_N = bets.log_factors_NE[:, bets.names.index("other")]
        np.testing.assert_allclose(factors_N, 0 if listed else -0.05, atol=1e-9)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_no_bet_gains_whichever_of_the_allowed_truncations_is_the_samplers(noise: float) -> None:
    for _ in range(20):
        p_V = np.sort(simplex(30, 1.5))[::-1]
        wide_V, narrow_V = np.arange(30) < 20, np.arange(30) < 12
        bets = bets_on(null_of(p_V, np.arange(30), wide_V=wide_V, narrow_V=narrow_V, other_V=simplex(30, 1.0)), noise)
        for kept in range(12, 21):
            sampler_V = np.where(np.arange(30) < kept, p_V, 0) / p_V[:kept].sum()
            assert (sampler_V @ all_factors(bets)).max() <= 1 + 1e-9
            stray_V = 0.999 * sampler_V + 0.001 * p_V
            assert (stray_V @ all_factors(bets)).max() <= 1 + 1e-9


def test_weights_are_those_of_a_mixture() -> None:
    p_V = simplex(20, 1.0)
    bets = bets_on(null_of(p_V, np.arange(20), keep_V=p_V > 0.02, other_V=simplex(20, 1.0)))
    assert np.exp(bets.log_weights_E).sum() == pytest.approx(1)
    assert np.exp(bets.log_arm_weights_A).sum() == pytest.approx(1)
    assert len(set(bets.names)) == len(bets.names) == bets.log_factors_NE.shape[1]


def drawn(p_V: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(len(p_V), n, p=p_V)


def test_paths_stay_below_where_the_null_is_true_and_rise_where_it_is_not() -> None:
    rng = np.random.default_rng(1)
    p_V = simplex(40, 2.0, rng)
    cold_V = p_V**2 / (p_V**2).sum()
    own = [passage_path(bets_on(null_of(p_V, drawn(p_V, 60, rng)))).max() for _ in range(200)]
    cold = [passage_path(bets_on(null_of(p_V, drawn(cold_V, 60, rng)))).max() for _ in range(50)]
    assert np.mean(np.array(own) >= math.log(20)) <= 0.03
    assert np.mean(np.array(cold) >= math.log(20)) >= 0.9


def test_the_switching_path_equals_a_sum_over_all_sequences_of_arms() -> None:
    arms_NA = RNG.standard_normal((5, 3))
    prior_A = np.array([0.5, 0.3, 0.2])
    state_A, expected = prior_A, []
    # By its definition as a hidden Markov chain, not normalised on the way.
    for log_arm_A in arms_NA:
        state_A = state_A * np.exp(log_arm_A)
        expected.append(math.log(state_A.sum()))
        state_A = (1 - SHARE) * state_A + SHARE * state_A.sum() * prior_A
    np.testing.assert_allclose(shared_path(arms_NA, np.log(prior_A)), expected)
    several_KN = shared_path(arms_NA, np.log(prior_A), starts=3)
    for k in range(3):
        np.testing.assert_allclose(several_KN[k, k:], shared_path(arms_NA[k:], np.log(prior_A)))


def test_a_stream_goes_on_as_one_passage_would_and_from_where_it_was_left() -> None:
    rng = np.random.default_rng(2)
    p_V = simplex(20, 1.0)
    tokens_N = drawn(p_V, 30, rng)
    whole = Stream().go_on(bets_on(null_of(p_V, tokens_N)))
    stream = Stream()
    first = stream.go_on(bets_on(null_of(p_V, tokens_N[:11])))
    stream = Stream.at(stream.state())
    second = stream.go_on(bets_on(null_of(p_V, tokens_N[11:])))
    np.testing.assert_allclose(np.concatenate([first, second]), whole)
    assert stream.log_e == pytest.approx(whole[-1])
    assert stream.greatest == pytest.approx(max(0, whole.max()))
    with pytest.raises(ValueError, match="same bets"):
        stream.go_on(bets_on(null_of(p_V, tokens_N, other_V=p_V)))


def test_fewest_foreign_equals_a_search_over_every_beginning() -> None:
    rng = np.random.default_rng(3)
    p_V, foreign_V = simplex(40, 3.0), simplex(40, 0.3)
    threshold, found = math.log(20), []
    for k in (0, 0, 5, 30, 60):
        tokens_N = np.concatenate([drawn(foreign_V, k, rng), drawn(p_V, 60 - k, rng)])
        least = fewest_foreign(bets_on(null_of(p_V, tokens_N)), threshold)
        slow = next((m for m in range(60) if passage_path(bets_on(null_of(p_V, tokens_N[m:]))).max() < threshold), 60)
        assert least == slow
        assert least <= k
        found.append(least)
    assert found[3] > 20


def test_the_change_statistic_equals_its_definition() -> None:
    rng = np.random.default_rng(4)
    p_V = simplex(20, 1.0)
    bets = bets_on(null_of(p_V, drawn(p_V, 12, rng)))
    weights_E = np.exp(bets.log_weights_E)
    for t, value in enumerate(change_path(bets)):
        by_start = [np.exp(bets.log_factors_NE[k : t + 1].sum(0)) @ weights_E for k in range(t + 1)]
        assert value == pytest.approx(math.log(sum(by_start)))


def test_e_bh_reports_what_its_definition_does() -> None:
    log_e_M = np.log([1000.0, 0.5, 45.0, 90.0, 30.0])
    # Needed at alpha .05: 100, 50, 33.3, 25, 20 for one to five reports.
    assert e_bh(log_e_M, 0.05).tolist() == [True, False, True, True, True]
    assert e_bh(np.log([19.0, 10.0]), 0.05).tolist() == [False, False]
    assert e_bh(np.array([]), 0.05).tolist() == []
