"""Three poolings, each equal to its definition by loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enaction.stats import bootstrap_means, passage_sums, prompt_means, prompt_rates

token_rows = st.lists(st.tuples(st.integers(0, 4), st.floats(0, 10), st.booleans()), max_size=40)


@given(token_rows)
def test_passage_sums_equal_a_loop_and_keep_empty_passages(rows):
    passage, value, counted = ([row[i] for row in rows] for i in range(3))
    sums = passage_sums(np.array(passage, dtype=int), value, 5, counted)
    for m in range(5):
        own = [v for p, v, c in rows if p == m and c]
        assert sums.counts[m] == len(own)
        np.testing.assert_allclose(sums.totals[m], np.sum(own))
        np.testing.assert_allclose(sums.means[m], np.mean(own) if own else np.nan)
    every = [v for _, v, c in rows if c]
    np.testing.assert_allclose(sums.token_weighted, np.mean(every) if every else np.nan)
    np.testing.assert_allclose(sums.per_byte([3, 1, 4, 1, 5]), np.sum(every) / 14)


def test_each_pooling_weighs_what_its_name_says():
    # Prompt 0: passages of 1 and 3 tokens; prompt 1: one passage of 1 token; passage 3 has no counted token.
    sums = passage_sums([0, 1, 1, 1, 2, 3], [4.0, 1.0, 1.0, 1.0, 10.0, 99.0], 4, [True] * 5 + [False])
    prompt = [0, 0, 1, 1]
    np.testing.assert_allclose(prompt_means(sums.means, prompt, 3), [2.5, 10, np.nan])
    rate, size = prompt_rates(sums.totals, sums.counts, prompt, 3)
    np.testing.assert_allclose(rate, [7 / 4, 10, np.nan])
    assert size.tolist() == [4, 1, 0]
    assert sums.token_weighted == pytest.approx(17 / 5)


@given(token_rows.filter(lambda rows: any(row[2] for row in rows)))
def test_rates_with_their_sizes_pool_back_to_the_token_weighted_mean(rows):
    passage, value, counted = ([row[i] for row in rows] for i in range(3))
    sums = passage_sums(passage, value, 5, counted)
    rate, size = prompt_rates(sums.totals, sums.counts, [0, 1, 0, 2, 1], 3)
    pooled = bootstrap_means(rate, np.ones((1, 3)), size)[0]
    np.testing.assert_allclose(pooled, sums.token_weighted)
    n_bytes = np.array([3, 1, 4, 1, 5])
    rate, size = prompt_rates(sums.totals, n_bytes, [0, 1, 0, 2, 1], 3)
    np.testing.assert_allclose(bootstrap_means(rate, np.ones((1, 3)), size)[0], sums.per_byte(n_bytes))


def test_a_masked_value_may_be_anything_but_a_counted_one_must_be_finite():
    assert passage_sums([0, 0], [np.nan, 2.0], 1, [False, True]).means.tolist() == [2.0]
    with pytest.raises(ValueError, match="not finite"):
        passage_sums([0, 0], [np.nan, 2.0], 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: passage_sums([0, 5], [1.0, 1.0], 5), r"0\.\.4"),
        (lambda: passage_sums([0, -1], [1.0, 1.0], 5), "-1"),
        (lambda: passage_sums([0.0], [1.0], 5), "integers"),
        (lambda: passage_sums([0], [1.0, 2.0], 5), "differ in shape"),
        (lambda: prompt_means([1.0, 2.0], [0], 1), "differ in shape"),
        (lambda: prompt_means([1.0], [2], 2), r"0\.\.1"),
    ],
)
def test_unusable_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
