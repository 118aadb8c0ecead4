"""Recognition at equal difficulty: lines as a loop computes them, and what bends a table leaves the line alone."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from enaction.stats import adjusted_recognition, t_interval

N, P, S = 3, 40, 2
PROMPTS = np.repeat(np.arange(P), S)


def passages(rng, *, slope, level, ease, recognition, judges=0, noise=0.06):
    """For each author [J, M]: level + slope * difficulty of the passage, noise of each reader, recognition of own."""
    slope, level = (np.r_[x, np.full(judges, y)][:, None] for x, y in ((slope, 1.0), (level, 0.0)))
    parts = []
    prompt = np.repeat(rng.normal(size=P), S) * 0.04
    for a in range(len(ease)):
        difficulty = prompt + 0.08 * rng.normal(size=P * S) - ease[a]
        log_JM = level + slope * difficulty + noise * rng.normal(size=(len(slope), P * S))
        log_JM[a] -= recognition[a]
        parts.append(log_JM)
    return parts


def plain(n=N, **more) -> dict[str, Any]:
    """Readers that respond alike to texts of equal ease, without recognition, but for what is named."""
    return {"slope": np.ones(n), "level": np.zeros(n), "ease": np.zeros(n), "recognition": np.zeros(n)} | more


def clipped(log_JM):
    """Within three robust standard deviations of the median of the author's passages."""
    rows = []
    for log_M in log_JM:
        reach = 3 * stats.median_abs_deviation(log_M) / stats.norm.ppf(0.75)
        rows.append(np.clip(log_M, np.median(log_M) - reach, np.median(log_M) + reach))
    return np.array(rows)


def by_loop(parts, reader):
    """Direct, reverse, slope and instrumented recognition of a reader, with numpy's covariances and a loop."""
    n, n_judges, rows = len(parts), len(parts[0]), []
    for judge in (j for j in range(n_judges) if j != reader):
        shared = [a for a in range(n) if a not in (reader, judge)]
        if not shared:  # two authors, judged by each other
            continue
        both = np.concatenate([parts[a] for a in shared], axis=1)
        c = np.cov(np.concatenate([clipped(parts[a]) for a in shared], axis=1)[[reader, judge]], bias=True)
        gap = both[reader].mean() - parts[reader][reader].mean()
        shift = parts[reader][judge].mean() - both[judge].mean()
        weight = max(c[0, 1], 0) ** 2 / (c[0, 0] * c[1, 1])
        with_reader = with_judge = size = 0.0
        for other in (k for k in range(n_judges) if k not in (reader, judge)):
            of_all = [a for a in shared if a != other]
            if of_all:
                all_JM = np.concatenate([clipped(parts[a]) for a in of_all], axis=1)
                k = np.cov(all_JM[[reader, judge, other]], bias=True)
                share = max(k[0, 2], 0) / k[2, 2]
                with_reader, with_judge = with_reader + share * k[0, 2], with_judge + share * k[1, 2]
                size += share**2 * k[2, 2]
        strength = weight * with_judge**2 / (c[1, 1] * size) if size else np.nan
        slopes = (c[0, 1] / c[1, 1], c[0, 0] / c[0, 1], with_reader / with_judge if size else np.nan)
        rows.append((weight, strength, gap, shift, *slopes))
    weight, strength, gap, shift, direct, reverse, instrumented = np.array(rows).T
    return {
        "direct": np.average(gap + direct * shift, weights=weight),
        "reverse": np.average(gap + reverse * shift, weights=weight),
        "slope": np.average(direct, weights=weight),
        "instrumented": np.average(gap + instrumented * shift, weights=strength),
    }


@pytest.mark.parametrize(("n", "judges"), [(3, 0), (3, 2), (4, 0), (2, 1)])
def test_lines_are_those_of_a_loop(n, judges):
    rng = np.random.default_rng(n)
    parts = passages(
        rng, slope=rng.uniform(0.5, 2, n), level=rng.normal(size=n), ease=rng.normal(size=n) * 0.1,
        recognition=rng.uniform(0, 1, n), judges=judges,
    )  # fmt: skip
    found = adjusted_recognition(parts, [PROMPTS] * n)
    for reader in range(n):
        expected = by_loop(parts, reader)
        for name in ("direct", "reverse", "slope"):
            assert getattr(found, name).value[reader] == pytest.approx(expected[name]), (name, reader)
        worse = min(expected["direct"], expected["reverse"])
        rests_on = expected["instrumented"] if found.has_instrument[reader] else worse
        assert found.recognition.value[reader] == pytest.approx(rests_on), reader
    assert found.has_instrument.all() == ((n, judges) in ((3, 2), (4, 0)))


def test_intervals_are_of_the_jackknife_over_prompts():
    parts = passages(np.random.default_rng(0), **plain(recognition=np.array([0.3, 0, 0])))
    found = adjusted_recognition(parts, [PROMPTS] * N)
    parts = [clipped(part) for part in parts]  # without a prompt nothing is clipped elsewhere then
    found = adjusted_recognition(parts, [PROMPTS] * N)
    without = [
        adjusted_recognition([part[:, p != PROMPTS] for part in parts], [PROMPTS[p != PROMPTS]] * N).direct.value
        for p in range(P)
    ]
    effect_RP = P * found.direct.value[:, None] - (P - 1) * np.stack(without, axis=1)
    low, high = t_interval(found.direct.value, effect_RP)
    np.testing.assert_allclose([found.direct.low, found.direct.high], [low, high], rtol=1e-6)


def test_with_an_instrument_ease_and_scale_leave_nothing_and_recognition_is_whole():
    """Twenty draws of four readers, one with a third of the response, beside texts that differ in ease by half."""
    values = []
    for seed in range(20):
        kind: dict[str, Any] = {
            "slope": np.array([0.3, 1, 1, 1]),
            "level": np.array([2.0, 0, 0, -1]),
            "ease": np.array([-0.5, 0.2, 0, 0.5]),
            "recognition": np.array([0, 0, 0, 0.6]),
        }
        found = adjusted_recognition(passages(np.random.default_rng(seed), **kind), [PROMPTS] * 4)
        values.append(found.recognition.value)
    np.testing.assert_allclose(np.median(values, axis=0), [0, 0, 0, 0.6], atol=0.05)


def test_one_judge_bounds_the_slope_and_the_worse_end_counts():
    kind = plain(ease=np.array([0.5, 0, -0.5]), recognition=np.array([0.8, 0, 0]))
    found = adjusted_recognition(passages(np.random.default_rng(0), **kind), [PROMPTS] * N)
    assert not found.has_instrument.any()
    assert (found.recognition.value <= np.minimum(found.direct.value, found.reverse.value) + 1e-12).all()
    # Noise of the judge makes the plain slope too small, so that ease passes for recognition; the other end does not.
    assert found.direct.value[0] > 0.8 > found.reverse.value[0] > 0


def test_a_flat_reader_has_no_slope_and_as_a_judge_says_nothing():
    kind = plain(4, slope=np.array([0.0, 1, 1, 1]), level=np.array([2.0, 0, 0, 0]), ease=np.array([-0.5, 0.5, 0, 0]))
    draws = [adjusted_recognition(passages(np.random.default_rng(i), **kind), [PROMPTS] * 4) for i in range(20)]
    assert np.mean([found.slope.low[0] < 0.05 for found in draws]) == 1
    assert np.mean([found.slope.low[1:] > 0.05 for found in draws]) > 0.95
    np.testing.assert_allclose(np.median([found.recognition.value[1:] for found in draws], axis=0), 0, atol=0.05)


def test_passages_that_somebody_cannot_read_and_the_order_of_prompts_do_not_matter():
    rng = np.random.default_rng(2)
    parts = passages(rng, **plain())
    holed = [part.copy() for part in parts]
    holed[1][0, 5] = np.nan
    found = adjusted_recognition(holed, [PROMPTS] * N)
    keep = np.arange(P * S) != 5
    cut = adjusted_recognition([parts[0], parts[1][:, keep], parts[2]], [PROMPTS, PROMPTS[keep], PROMPTS])
    np.testing.assert_allclose(found.recognition.value, cut.recognition.value)
    order = rng.permutation(P * S)
    shuffled = adjusted_recognition([part[:, order] for part in parts], [PROMPTS[order] + 100] * N)
    np.testing.assert_allclose(shuffled.recognition.low, adjusted_recognition(parts, [PROMPTS] * N).recognition.low)


def test_kin_is_neither_judge_nor_foreign_text():
    """Models 2 and 3 are kin and familiar with each other's text as with their own."""
    kind = plain(5, recognition=np.array([0, 0, 0.5, 0.5, 0]))
    parts = passages(np.random.default_rng(3), **kind)
    parts[2][3] -= 0.5
    parts[3][2] -= 0.5
    kin_JA = np.zeros((5, 5), dtype=bool)
    kin_JA[2, 3] = kin_JA[3, 2] = True
    found = adjusted_recognition(parts, [PROMPTS] * 5, kin_JA)
    np.testing.assert_allclose(found.recognition.value, [0, 0, 0.5, 0.5, 0], atol=0.08)
    assert np.abs(adjusted_recognition(parts, [PROMPTS] * 5).recognition.value - [0, 0, 0.5, 0.5, 0]).max() > 0.15


def test_unusable_passages_are_refused():
    parts = passages(np.random.default_rng(0), **plain(2))
    with pytest.raises(ValueError, match="three readers"):
        adjusted_recognition(parts, [PROMPTS] * 2)
    with pytest.raises(ValueError, match="prompt code"):
        adjusted_recognition(passages(np.random.default_rng(0), **plain()), [PROMPTS, PROMPTS, PROMPTS[1:]])
