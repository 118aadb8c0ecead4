"""Intervals cover, p-values are uniform under the null, and vectorised code equals its loop."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from enaction.stats import (
    Resampled,
    bootstrap_estimate,
    bootstrap_means,
    cluster_weights,
    exchangeability_test,
    foreign_recognition,
    interaction,
    other_self_ratio,
    percentile_interval,
    resampling,
    t_interval,
)


def planted_entropy(rng, n_models=4, n_prompts=30, diagonal=0.0, noise=0.3):
    """[R, A, P] with reader, author and text effects, mean-one noise, and recognition planted on the diagonal."""
    reader = rng.normal(size=(n_models, 1, 1)) * 0.4
    author = rng.normal(size=(1, n_models, 1)) * 0.2
    text = rng.normal(size=(1, n_models, n_prompts)) * 0.2
    own = diagonal * np.eye(n_models)[:, :, None]
    error = rng.normal(size=(n_models, n_models, n_prompts)) * noise
    return np.exp(reader + author + own + text + error)


def planted_log(rng, **kwargs):
    """Log of `planted_entropy`, as tables of logs are tested."""
    return np.log(planted_entropy(rng, **kwargs))


def test_weights_draw_as_many_prompts_as_there_are():
    weight_BP = cluster_weights(7, 1000, np.random.default_rng(0))
    assert weight_BP.shape == (1000, 7)
    assert (weight_BP.sum(axis=1) == 7).all()
    np.testing.assert_allclose(weight_BP.mean(axis=0), 1, atol=0.15)
    np.testing.assert_allclose(weight_BP.var(axis=0), 6 / 7, atol=0.2)


@settings(deadline=None, max_examples=50)
@given(
    arrays(np.float64, (2, 3, 5), elements=st.one_of(st.floats(0, 10), st.just(np.nan))),
    arrays(np.float64, (2, 3, 5), elements=st.floats(0.5, 9)),
    arrays(np.int32, (4, 5), elements=st.integers(0, 4)),
)
def test_bootstrap_means_equal_a_loop(value_P, size_P, weight_BP):
    for sizes in (None, size_P):
        means = bootstrap_means(value_P, weight_BP, sizes)
        for b, r, a in np.ndindex(means.shape):
            mass = total = 0.0
            for p in range(5):
                if not np.isnan(value_P[r, a, p]):
                    weight = weight_BP[b, p] * (1.0 if sizes is None else sizes[r, a, p])
                    mass, total = mass + weight, total + weight * value_P[r, a, p]
            np.testing.assert_allclose(means[b, r, a], total / mass if mass else np.nan, rtol=1e-12, atol=1e-300)


def test_integer_weights_mean_drawing_prompts_with_repetition():
    rng = np.random.default_rng(3)
    value_P = rng.normal(size=6)
    drawn = rng.integers(0, 6, size=6)
    weights = np.bincount(drawn, minlength=6)[None]
    assert bootstrap_means(value_P, weights)[0] == pytest.approx(value_P[drawn].mean())


def test_chunking_does_not_change_results(monkeypatch):
    rng = np.random.default_rng(4)
    entropy_RAP = planted_entropy(rng)
    weight_BP = cluster_weights(30, 100, rng)
    whole = bootstrap_estimate(entropy_RAP, weight_BP, interaction)
    test = exchangeability_test(np.log(entropy_RAP), np.random.default_rng(0), 50)
    means = bootstrap_means(entropy_RAP, weight_BP)
    monkeypatch.setattr(resampling, "_CHUNK_VALUES", 700)
    pieces = bootstrap_estimate(entropy_RAP, weight_BP, interaction)
    np.testing.assert_allclose(pieces.low, whole.low, rtol=1e-12)
    np.testing.assert_allclose(pieces.high, whole.high, rtol=1e-12)
    np.testing.assert_allclose(bootstrap_means(entropy_RAP, weight_BP), means, rtol=1e-12)
    assert (exchangeability_test(np.log(entropy_RAP), np.random.default_rng(0), 50).pvalue == test.pvalue).all()


def test_missing_prompts_leave_the_other_cells_alone():
    rng = np.random.default_rng(5)
    entropy_RAP = planted_entropy(rng)
    weight_BP = cluster_weights(30, 50, rng)
    holed_RAP = entropy_RAP.copy()
    holed_RAP[1, 2, 7] = np.nan
    change = bootstrap_means(holed_RAP, weight_BP) != bootstrap_means(entropy_RAP, weight_BP)
    assert change[:, 1, 2].any()
    change[:, 1, 2] = False
    assert not change.any()


def test_same_weights_pair_the_cells():
    rng = np.random.default_rng(6)
    prompt_P = rng.normal(size=50) * 10
    value_P = np.stack([prompt_P, prompt_P + 1 + 0.01 * rng.normal(size=50)])
    weight_BP = cluster_weights(50, 500, rng)
    difference = bootstrap_estimate(value_P, weight_BP, lambda mean: mean[..., 1] - mean[..., 0])
    alone = bootstrap_estimate(value_P, weight_BP)
    assert difference.high - difference.low < 0.05
    assert alone[0].high - alone[0].low > 2
    assert difference.low < 1 < difference.high


def test_a_stack_of_resampled_tables_estimates_what_all_of_them_in_one_array_do():
    rng = np.random.default_rng(8)
    entropy_2RAP = np.stack([planted_entropy(rng), planted_entropy(rng)])
    entropy_2RAP[1, 0, 2, 5:] = np.nan
    weight_BP = cluster_weights(entropy_2RAP.shape[-1], 200, rng)
    parts = [Resampled(entropy_RAP, weight_BP) for entropy_RAP in entropy_2RAP]
    stacked = Resampled.stack(parts)
    assert stacked.n_prompts == 5
    of_stack = stacked.estimate(lambda m: interaction(m[..., 1, :, :]) - interaction(m[..., 0, :, :]))
    whole = bootstrap_estimate(
        entropy_2RAP, weight_BP, lambda m: interaction(m[..., 1, :, :]) - interaction(m[..., 0, :, :])
    )
    for name in ("value", "low", "high"):
        np.testing.assert_allclose(getattr(of_stack, name), getattr(whole, name), rtol=1e-12)
    with pytest.raises(ValueError, match="share their resampling weights"):
        Resampled.stack([parts[0], Resampled(entropy_2RAP[0], weight_BP.copy())])


def test_percentile_interval_is_the_central_one():
    low, high = percentile_interval(np.arange(1001.0), 0.9)
    np.testing.assert_allclose([low, high], [50, 950])


def test_undefined_resamples_are_left_out_and_too_many_void_the_interval():
    sample_B = np.tile(np.arange(100.0)[:, None], (1, 2))
    sample_B[:3, 0] = np.nan
    sample_B[:50, 1] = np.nan
    low, high = percentile_interval(sample_B)
    assert low[0] == pytest.approx(np.quantile(np.arange(3, 100), 0.025))
    assert np.isfinite(high[0])
    assert np.isnan([low[1], high[1]]).all()


def test_resample_without_a_cells_only_prompt_is_undefined_not_an_error():
    entropy_RAP = planted_entropy(np.random.default_rng(7), n_models=2, n_prompts=3)
    entropy_RAP[0, 1, 1:] = np.nan
    estimate = bootstrap_estimate(entropy_RAP, cluster_weights(3, 200, np.random.default_rng(0)), interaction)
    assert np.isfinite(estimate.value).all()
    assert np.isnan(estimate.low).all()


def test_bootstrap_intervals_cover_the_planted_interaction():
    """Truth: the interaction of the expected entropies. 200 data sets x 3 readers, dependent within a data set."""
    rng = np.random.default_rng(11)
    n_models, n_sets, planted = 3, 200, -0.3
    covered = np.zeros((n_sets, 2))
    base = np.exp(rng.normal(size=(n_models, 1, 1)) * 0.4 + rng.normal(size=(1, n_models, 1)) * 0.4)
    mean_RA = (base * np.exp(planted * np.eye(n_models))[:, :, None])[..., 0]
    truth, truth_ratio = interaction(mean_RA)[0], other_self_ratio(mean_RA)[0]
    for i in range(n_sets):
        # A prompt effect shared by all cells and one of each text: whole prompts must be resampled, and together.
        prompt = rng.normal(size=(1, 1, 40)) * 0.5
        text = rng.normal(size=(1, n_models, 40)) * 0.3
        error = rng.normal(size=(n_models, n_models, 40)) * 0.3
        entropy_RAP = mean_RA[..., None] * np.exp(prompt + text + error)
        weight_BP = cluster_weights(40, 400, rng)
        for k, (statistic, true) in enumerate([(interaction, truth), (other_self_ratio, truth_ratio)]):
            estimate = bootstrap_estimate(entropy_RAP, weight_BP, statistic)[0]
            covered[i, k] = estimate.low <= true <= estimate.high
    # 99.9% binomial limits around a nominal 95%, one point granted to the percentile method with 40 prompts.
    low, high = stats.binom.ppf([0.0005, 0.9995], n_sets, [0.94, 0.95]) / n_sets
    assert (covered.mean(axis=0) >= low).all(), covered.mean(axis=0)
    assert (covered.mean(axis=0) <= high).all(), covered.mean(axis=0)


def test_exchangeability_pvalue_is_uniform_when_authorship_does_not_matter():
    rng = np.random.default_rng(12)
    results = []
    for _ in range(300):
        reader = rng.normal(size=(3, 1, 1)) * 0.5
        text = rng.normal(size=(1, 3, 12)) * 0.4
        entropy_RAP = np.exp(reader + text + rng.normal(size=(3, 3, 12)) * 0.3)
        results.append(exchangeability_test(np.log(entropy_RAP), rng, 99))
    for pvalues in ([r.pvalue[0] for r in results], [r.mean_pvalue for r in results]):
        # p takes the values k/100: spread each over its step so that a continuous test applies.
        spread = np.asarray(pvalues) - rng.random(len(pvalues)) / 100
        assert stats.kstest(spread, "uniform").pvalue > 1e-3


def test_exchangeability_pvalue_stays_valid_with_reader_and_author_effects():
    rng = np.random.default_rng(13)
    pvalues = [exchangeability_test(planted_log(rng, n_prompts=15), rng, 99).mean_pvalue for _ in range(200)]
    assert np.mean(np.asarray(pvalues) <= 0.1) < stats.binom.ppf(0.999, 200, 0.1) / 200


def test_exchangeability_pvalue_is_small_under_planted_recognition_only():
    rng = np.random.default_rng(14)
    test = exchangeability_test(planted_log(rng, diagonal=-0.4), rng, 999)
    assert (test.pvalue == 0.001).all()
    assert test.mean_pvalue == 0.001
    assert test.mean_interaction == pytest.approx(-0.3, abs=0.1)  # -0.4 * (1 - 1/4)
    aversion = exchangeability_test(planted_log(rng, diagonal=+0.4), rng, 999)
    assert (aversion.pvalue > 0.95).all()  # one-sided


def test_exchangeability_pvalue_equals_a_loop_over_all_permutations_in_distribution():
    """Two authors, 5 prompts: all 2^5 shuffles can be listed, so the exact p is known."""
    rng = np.random.default_rng(15)
    entropy_RAP = planted_entropy(rng, n_models=2, n_prompts=5, diagonal=-0.2)
    entropy_RAP[0, 1, 2] = np.nan
    observed = interaction(np.exp(np.nanmean(np.log(entropy_RAP), axis=2)))[0]
    smaller = 0
    for code in range(32):
        shuffled_RAP = entropy_RAP.copy()
        for p in range(5):
            if code >> p & 1:
                shuffled_RAP[:, :, p] = entropy_RAP[:, ::-1, p]
        smaller += interaction(np.exp(np.nanmean(np.log(shuffled_RAP), axis=2)))[0] <= observed + 1e-12
    n = 4000
    exact = smaller / 32
    tolerance = 4 * np.sqrt(exact * (1 - exact) / n) + 1 / n
    assert exchangeability_test(np.log(entropy_RAP), rng, n).pvalue[0] == pytest.approx(exact, abs=tolerance)


def test_unlike_spread_of_an_author_breaks_exchangeability_without_recognition():
    """What the docstring warns of: the mean interaction is 0, and p is small far more often than it says."""
    rng, small = np.random.default_rng(16), 0
    for _ in range(200):
        log_RAP = rng.normal(size=(3, 3, 40)) * 0.05
        # Own text has a long tail, as a sharp model's own has, and mean 0.
        own_RP = rng.gamma(0.3, 1 / 0.3, size=(3, 40)) - 1
        log_RAP[np.arange(3), np.arange(3)] += own_RP
        small += exchangeability_test(log_RAP, rng, 99).mean_pvalue <= 0.05
    assert small / 200 > 0.08


def test_jackknife_of_complete_linear_statistics_is_the_t_interval_of_per_prompt_values():
    rng = np.random.default_rng(17)
    log_RAP = rng.gamma(1.0, size=(3, 3, 25))
    weights = np.ones((1, 25), dtype=int)
    found = Resampled(log_RAP, weights).jackknife(foreign_recognition)
    each_RP = np.stack([foreign_recognition(log_RAP[..., p]) for p in range(25)], axis=-1)
    low, high = t_interval(each_RP.mean(axis=-1), each_RP)
    np.testing.assert_allclose([found.value, found.low, found.high], [each_RP.mean(axis=-1), low, high], rtol=1e-9)


def test_jackknife_leaves_out_a_prompt_as_a_loop_does_where_cells_lack_some():
    rng = np.random.default_rng(18)
    entropy_RAP = planted_entropy(rng, n_models=3, n_prompts=12)
    entropy_RAP[0, 1, [2, 5]] = np.nan
    entropy_RAP[:, :, 7] = np.nan  # a prompt that nobody has says nothing and does not count
    found = Resampled(entropy_RAP, np.ones((1, 12), dtype=int)).jackknife(interaction)
    used = [p for p in range(12) if p != 7]
    without = [interaction(np.nanmean(np.delete(entropy_RAP, [p, 7], axis=2), axis=2)) for p in used]
    effect_RP = 11 * found.value[:, None] - 10 * np.stack(without, axis=-1)
    low, high = t_interval(found.value, effect_RP)
    np.testing.assert_allclose([found.low, found.high], [low, high], rtol=1e-9)


def test_a_cell_with_one_prompt_has_no_interval():
    entropy_RAP = planted_entropy(np.random.default_rng(7), n_models=2, n_prompts=3)
    entropy_RAP[0, 1, 1:] = np.nan
    found = Resampled(entropy_RAP, np.ones((1, 3), dtype=int)).jackknife(interaction)
    assert np.isfinite(found.value).all()
    assert np.isnan([found.low, found.high]).all()


def test_t_interval_without_skewness_is_students():
    value_P = np.array([-3.0, -1, -1, 0, 0, 1, 1, 3])
    low, high = t_interval(value_P.mean(), value_P)
    expected = stats.t.interval(0.95, 7, value_P.mean(), stats.sem(value_P))
    np.testing.assert_allclose([low, high], expected, rtol=1e-9)


@given(arrays(np.float64, 12, elements=st.floats(-5, 5)), st.floats(-3, 3), st.floats(0.1, 9))
def test_t_interval_moves_scales_and_mirrors_with_its_values(value_P, by, times):
    assume(value_P.std() > 1e-3)
    low, high = t_interval(value_P.mean(), value_P)
    moved = t_interval(value_P.mean() * times + by, value_P * times + by)
    np.testing.assert_allclose(moved, [low * times + by, high * times + by], rtol=1e-6, atol=1e-6)
    mirrored = t_interval(-value_P.mean(), -value_P)
    np.testing.assert_allclose(mirrored, [-high, -low], rtol=1e-6, atol=1e-6)
    assert low < value_P.mean() < high


def test_t_interval_reaches_to_where_the_long_tail_is():
    value_P = np.random.default_rng(0).gamma(0.5, size=40)
    low, high = t_interval(value_P.mean(), value_P)
    assert high - value_P.mean() > 1.5 * (value_P.mean() - low)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: t_interval(0.0, [1.0, 2.0], 95), "between 0 and 1"),
        (
            lambda rng: exchangeability_test(np.where(np.eye(2)[..., None], np.nan, np.ones((2, 2, 3))), rng),
            "no measured",
        ),
        (lambda rng: cluster_weights(0, 5, rng), "at least 1"),
        (lambda rng: bootstrap_means(np.ones((2, 3)), np.ones((5, 4))), "last axis"),
        (lambda rng: bootstrap_means([1.0, np.inf], np.ones((5, 2))), "infinite"),
        (lambda rng: bootstrap_means([1.0, 2.0], -np.ones((5, 2))), "weight is negative"),
        (lambda rng: bootstrap_means([1.0, 2.0], np.ones((5, 2)), [1.0, np.nan]), "size is negative or not finite"),
        (lambda rng: bootstrap_estimate([[1.0, 2.0], [np.nan, np.nan]], np.ones((5, 2))), r"index \[1\]"),
        (lambda rng: percentile_interval([1.0, 2.0], 95), "between 0 and 1"),
        (lambda rng: percentile_interval([]), "no resamples"),
        (lambda rng: exchangeability_test(np.ones((2, 2)), rng), "reader, author, prompt"),
        (lambda rng: exchangeability_test(np.ones((2, 2, 3)), rng, 0), "at least 1"),
        (lambda rng: exchangeability_test(np.ones((2, 3, 3)), rng), "same models"),
    ],
)
def test_unusable_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(0))
