"""Means along a response against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from enaction import stats

SPANS = [(0, 1), (0, 4), (2, 4), (4, 9)]


def _by_loop(tokens: list[tuple[int, int, float, bool]], prompt_M: list[int], n_prompts: int) -> np.ndarray:
    mean_KP = np.full((len(SPANS), n_prompts), np.nan)
    for k, (start, stop) in enumerate(SPANS):
        for prompt in range(n_prompts):
            means = []
            for passage, of in enumerate(prompt_M):
                values = {t: v for m, t, v, counts in tokens if m == passage and counts and start <= t < stop}
                if of == prompt and stop - 1 in values:
                    means.append(np.mean(list(values.values())))
            if means:
                mean_KP[k, prompt] = np.mean(means)
    return mean_KP


def test_span_means_equal_a_loop_and_leave_out_passages_that_end_before() -> None:
    rng = np.random.default_rng(0)
    prompt_M, tokens = [0, 2, 0, 3, 2, 3], []
    for passage, length in enumerate([3, 9, 6, 12, 4, 0]):
        tokens += [(passage, t, float(rng.uniform(0, 5)), t < length - 1 or passage == 1) for t in range(length)]
    tokens = [tokens[i] for i in rng.permutation(len(tokens))]
    passage_N, position_N, value_N, mask_N = (np.array(column) for column in zip(*tokens, strict=True))
    found = stats.span_means(passage_N, position_N, value_N, prompt_M, 4, SPANS, mask_N)
    expected = _by_loop(tokens, prompt_M, 4)
    assert np.isnan(expected).sum() == 5  # prompt 1 has no passage, prompt 0 none of nine tokens
    np.testing.assert_allclose(found, expected)


def test_a_response_whose_first_token_nothing_predicts_has_a_mean_over_the_others() -> None:
    found = stats.span_means([0, 0, 0], [1, 2, 3], [1.0, 2.0, 6.0], [0], 1, [(0, 1), (0, 2), (0, 4)])
    assert np.isnan(found[0, 0])
    assert found[1:, 0].tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    ("position", "value", "spans", "message"),
    [
        ([0, 0], [1.0, 2.0], [(0, 1)], "occurs twice"),
        ([0, -1], [1.0, 2.0], [(0, 1)], "negative"),
        ([0, 1], [1.0, np.nan], [(0, 1)], "not finite"),
        ([0, 1], [1.0, 2.0], [(1, 1)], "start < stop"),
        ([0, 1, 2], [1.0, 2.0], [(0, 1)], "one length"),
    ],
)
def test_what_cannot_be_averaged_is_refused(
    position: list[int], value: list[float], spans: list[tuple[int, int]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        stats.span_means([0, 0], position, value, [0], 1, spans)
