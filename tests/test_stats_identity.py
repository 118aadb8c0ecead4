"""The alarm: silent on text that the distribution drew, loud on any other."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from enaction.stats import IDENTITY_LIMIT, identity_residual


def drawn_tokens(rng, n_tokens=400, n_vocabulary=30, temperature=1.0):
    """Surprisal, entropy and varentropy of random distributions whose tokens are drawn at a temperature."""
    logits_NV = rng.normal(size=(n_tokens, n_vocabulary)) * rng.uniform(0.5, 4, size=(n_tokens, 1))
    logp_NV = logits_NV - np.logaddexp.reduce(logits_NV, axis=1, keepdims=True)
    p_NV = np.exp(logp_NV)
    entropy = -(p_NV * logp_NV).sum(axis=1)
    varentropy = (p_NV * logp_NV**2).sum(axis=1) - entropy**2
    drawn = (logits_NV / temperature + rng.gumbel(size=logits_NV.shape)).argmax(axis=1)
    return -logp_NV[np.arange(n_tokens), drawn], entropy, varentropy


def test_residual_is_standard_normal_on_own_text():
    rng = np.random.default_rng(0)
    results = [identity_residual(*drawn_tokens(rng)) for _ in range(400)]
    standardised = [r.standardised for r in results]
    assert stats.kstest(standardised, "norm").pvalue > 1e-3
    assert not any(r.is_alarming for r in results)
    np.testing.assert_allclose(
        np.std([r.mean for r in results]), np.mean([r.standard_error for r in results]), rtol=0.15
    )


@pytest.mark.parametrize(("temperature", "sign"), [(0.5, -1), (2.0, +1)])
def test_another_temperature_raises_the_alarm(temperature, sign):
    result = identity_residual(*drawn_tokens(np.random.default_rng(1), temperature=temperature))
    assert result.is_alarming
    assert result.standardised * sign > IDENTITY_LIMIT


def test_varentropy_is_the_variance_of_the_aligned_residual_only():
    rng = np.random.default_rng(2)
    surprisal, entropy, varentropy = drawn_tokens(rng, n_tokens=5000)
    # Misaligned by one, s - H no longer has variance V, although its mean may still be 0.
    aligned = (surprisal - entropy) / np.sqrt(varentropy)
    shifted = (surprisal[1:] - entropy[:-1]) / np.sqrt(varentropy[:-1])
    assert np.var(aligned) == pytest.approx(1, abs=0.15)
    assert np.var(shifted) > 1.5


@given(
    st.lists(
        st.tuples(st.floats(0, 20), st.floats(0, 10), st.floats(1e-3, 10)),
        min_size=1,
        max_size=20,
    )
)
def test_residual_equals_the_definition(rows):
    surprisal, entropy, varentropy = zip(*rows, strict=True)
    result = identity_residual(surprisal, entropy, varentropy)
    total = math.fsum(s - h for s, h, _ in rows)
    assert result.standardised == pytest.approx(total / math.sqrt(math.fsum(varentropy)), abs=1e-9)
    assert result.mean == pytest.approx(total / len(rows), abs=1e-12)
    # Mean and standard error say the same as the standardised value.
    assert result.mean / result.standard_error == pytest.approx(result.standardised, abs=1e-9)
    assert result.n_tokens == len(rows)


def test_without_variance_the_residual_is_zero_or_infinite():
    uniform = np.full(5, math.log(8), dtype=np.float32)
    assert identity_residual(uniform, uniform + np.float32(1e-6), np.zeros(5)).standardised == 0
    certain = identity_residual(np.full(5, 3.0), np.zeros(5), np.zeros(5))
    assert certain.standardised == math.inf
    assert certain.is_alarming


def test_impossible_token_is_an_infinite_residual():
    result = identity_residual([math.inf, 1.0], [1.0, 1.0], [0.5, 0.5])
    assert result.standardised == math.inf
    assert result.is_alarming


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (([], [], []), "no tokens"),
        (([1.0], [1.0, 2.0], [1.0]), "one length"),
        (([[1.0]], [[1.0]], [[1.0]]), "1-d"),
        (([math.nan], [1.0], [1.0]), "NaN"),
        (([1.0], [math.inf], [1.0]), "not finite"),
        (([1.0], [1.0], [-1.0]), "negative"),
    ],
)
def test_unusable_rows_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        identity_residual(*(np.array(column, dtype=float) for column in rows))
