"""Statistics of token measurements: pure functions of arrays, knowing nothing of models, files or clocks.

The order in which data meets them: `pooling` (tokens to passages to prompts), `positions` (the same along a response),
`matrix` (the reader x author table and what it says of recognition), `resampling` (intervals and p-values over
prompts), `shuffling` (p-values of any label), `identity` (the instrument's alarm), `matched` (own against other text at
equal input surprise) and `aligned` (curves around an event: reaction and recovery).
Randomness enters as a `numpy.random.Generator`. Everything is in nats unless said otherwise.
"""

from enaction.stats.aligned import Curve, comeback, curve, departure, mean_curve
from enaction.stats.contrast import double_difference, swap_pvalue
from enaction.stats.identity import IDENTITY_LIMIT, IdentityResidual, identity_residual
from enaction.stats.matched import MatchedGap, NextTokenPairs, NoOverlapError, matched_gap, next_token_pairs
from enaction.stats.matrix import LogRatioSplit, interaction, log_ratio_split, other_self_ratio, own_rank
from enaction.stats.pooling import PassageSums, passage_sums, prompt_means, prompt_rates
from enaction.stats.positions import span_means
from enaction.stats.resampling import (
    N_RESAMPLES,
    Estimate,
    InteractionTest,
    Resampled,
    Statistic,
    bootstrap_estimate,
    bootstrap_means,
    cluster_weights,
    percentile_interval,
    permutation_pvalue,
)
from enaction.stats.shuffling import LabelTest, Tail, label_test

__all__ = [
    "IDENTITY_LIMIT",
    "N_RESAMPLES",
    "Curve",
    "Estimate",
    "IdentityResidual",
    "InteractionTest",
    "LabelTest",
    "LogRatioSplit",
    "MatchedGap",
    "NextTokenPairs",
    "NoOverlapError",
    "PassageSums",
    "Resampled",
    "Statistic",
    "Tail",
    "bootstrap_estimate",
    "bootstrap_means",
    "cluster_weights",
    "comeback",
    "curve",
    "departure",
    "double_difference",
    "identity_residual",
    "interaction",
    "label_test",
    "log_ratio_split",
    "matched_gap",
    "mean_curve",
    "next_token_pairs",
    "other_self_ratio",
    "own_rank",
    "passage_sums",
    "percentile_interval",
    "permutation_pvalue",
    "prompt_means",
    "prompt_rates",
    "span_means",
    "swap_pvalue",
]
