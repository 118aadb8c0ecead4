"""Statistics of token measurements: pure functions of arrays, knowing nothing of models, files or clocks.

The order in which data meets them: `pooling` (tokens to passages to prompts), `positions` (the same along a response),
`matrix` (the reader x author table), `recognition` (who recognises: effects of the foreign cells), `difficulty` (who
does at equal difficulty of the passages), `resampling` and `tails` (intervals and p-values over prompts), `shuffling`
(p-values of any label), `identity` (the instrument's alarm), `matched` (own against other text at equal input surprise)
and `aligned` (curves around an event: reaction and recovery).
Randomness enters as a `numpy.random.Generator`. Everything is in nats unless said otherwise.
"""

from enaction.stats.aligned import Curve, comeback, curve, departure, mean_curve
from enaction.stats.contrast import double_difference, swap_pvalue
from enaction.stats.difficulty import AdjustedRecognition, adjusted_recognition
from enaction.stats.identity import IDENTITY_LIMIT, IdentityResidual, identity_residual
from enaction.stats.matched import MatchedGap, NextTokenPairs, NoOverlapError, matched_gap, next_token_pairs
from enaction.stats.matrix import diagonal_residual, interaction, other_self_ratio, own_rank
from enaction.stats.pooling import ENTROPY_FLOOR, PassageSums, floored_log, passage_sums, prompt_means, prompt_rates
from enaction.stats.positions import span_means
from enaction.stats.recognition import LogRatioSplit, familiarity, foreign_recognition, log_ratio_split
from enaction.stats.resampling import (
    N_RESAMPLES,
    Estimate,
    ExchangeabilityTest,
    Resampled,
    Statistic,
    bootstrap_estimate,
    bootstrap_means,
    cluster_weights,
    exchangeability_test,
    percentile_interval,
)
from enaction.stats.shuffling import LabelTest, Tail, label_test
from enaction.stats.tails import t_interval

__all__ = [
    "ENTROPY_FLOOR",
    "IDENTITY_LIMIT",
    "N_RESAMPLES",
    "AdjustedRecognition",
    "Curve",
    "Estimate",
    "ExchangeabilityTest",
    "IdentityResidual",
    "LabelTest",
    "LogRatioSplit",
    "MatchedGap",
    "NextTokenPairs",
    "NoOverlapError",
    "PassageSums",
    "Resampled",
    "Statistic",
    "Tail",
    "adjusted_recognition",
    "bootstrap_estimate",
    "bootstrap_means",
    "cluster_weights",
    "comeback",
    "curve",
    "departure",
    "diagonal_residual",
    "double_difference",
    "exchangeability_test",
    "familiarity",
    "floored_log",
    "foreign_recognition",
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
    "prompt_means",
    "prompt_rates",
    "span_means",
    "swap_pvalue",
    "t_interval",
]
