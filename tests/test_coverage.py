"""How often 95 % intervals hold the truth: prompts drawn from stored passages, which are taken for the population.

tests/data/passage_entropies.npz holds entropies [R, A, P, S] that three embedded models found in each other's replies,
after RL (heavy tails: a few own replies carry most of a cell) and after pretraining (light ones); studies/
coverage_pool.py made it. A draw takes 20, 40 or 70 of the (prompt, sample) pairs with replacement, one passage of each
author a pair, as a study with one reply a prompt does. The output of this test is the coverage that docstrings and
docs/definitions.md state: `pytest -s -m slow tests/test_coverage.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from enaction import stats
from enaction.analysis.ledger import appended_mean

POOLS = np.load(Path(__file__).parent / "data" / "passage_entropies.npz")
SIZES = (20, 40, 70)
DRAWS = 2000
# What is demanded of the mean over readers and of each reader.
MEAN, SINGLE = 0.93, 0.92


def _pool(name: str) -> np.ndarray:
    """[R, A, M] entropies; pairs with an empty reply are left out."""
    entropy_RAM = POOLS[name].astype(np.float64).reshape(3, 3, -1)
    return entropy_RAM[..., np.isfinite(entropy_RAM).all(axis=(0, 1))]


def _shown(name: str, pool: str, n: int, truth_K: np.ndarray, low_DK: np.ndarray, high_DK: np.ndarray) -> np.ndarray:
    above, below = (truth_K < low_DK).mean(axis=0), (truth_K > high_DK).mean(axis=0)
    covered = 1 - above - below
    told = (f"{what} {' '.join(f'{x:.3f}' for x in of)}" for what, of in (
        ("covered", covered), ("truth below the interval", above), ("above it", below)))  # fmt: skip
    print(f"{name}, {pool}, {n} prompts (ash birch cedar mean): {'; '.join(told)}")
    return np.stack([covered, above, below])


LINEAR = {
    "interaction": stats.diagonal_residual,
    "recognition": stats.foreign_recognition,
    "log ratio": lambda log_RA: stats.log_ratio_split(np.exp(log_RA)).log_geometric_ratio,
}


@pytest.mark.slow
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("pool", ["rl", "base"])
@pytest.mark.parametrize("name", [*LINEAR])
def test_t_intervals_cover_on_both_kinds_of_tails(name: str, pool: str, n: int) -> None:
    log_RAM = stats.floored_log(_pool(pool))
    # Linear in the logs: each pair has its own value, and the interval of a draw is that of its values.
    each_KM = appended_mean(LINEAR[name](np.moveaxis(log_RAM, -1, 0))).T
    drawn_KDP = each_KM[:, np.random.default_rng(n).integers(0, each_KM.shape[1], (4 * DRAWS, n))]
    low_KD, high_KD = stats.t_interval(drawn_KDP.mean(axis=-1), drawn_KDP)
    covered, above, below = _shown(name, pool, n, each_KM.mean(axis=1), low_KD.T, high_KD.T)
    assert covered[-1] >= MEAN
    assert (covered[:-1] >= SINGLE).all()
    # Neither side has almost all misses, as those of plain t intervals and of bootstraps are: .10 to .00.
    assert (np.maximum(above, below) <= 0.075).all()
    assert np.maximum(above, below)[-1] <= 0.04


@pytest.mark.slow
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("pool", ["rl", "base"])
def test_adjusted_recognition_covers_on_both_kinds_of_tails(pool: str, n: int) -> None:
    """With two judges, so that nothing rests on a bound: the other two readers, and copies of them with new noise."""
    log_RAM, rng = stats.floored_log(_pool(pool)), np.random.default_rng(n)
    judges_JAM = np.stack([_judge(log_RAM, seed) for seed in (1, 2)])
    parts = [np.concatenate([log_RAM[:, a], judges_JAM[:, a]]) for a in range(3)]
    size = log_RAM.shape[-1]
    truth_R = stats.adjusted_recognition(parts, [np.arange(size)] * 3).recognition.value
    draws = []
    for _ in range(DRAWS // 5):
        taken_P = rng.integers(0, size, n)
        found = stats.adjusted_recognition([part[:, taken_P] for part in parts], [np.arange(n)] * 3)
        draws.append((found.recognition.low, found.recognition.high))
    low_DR, high_DR = np.moveaxis(np.array(draws), 1, 0)
    covered, _, below = _shown("adjusted recognition", pool, n, truth_R, low_DR, high_DR)
    assert (covered >= 0.9).all()
    assert (below <= 0.075).all()


def _judge(log_RAM: np.ndarray, seed: int) -> np.ndarray:
    """[A, M] a reader that wrote none of the texts: the mean of their strangers, with noise of its own."""
    foreign_RA = ~np.eye(3, dtype=bool)
    difficulty_AM = np.where(foreign_RA[..., None], log_RAM, 0.0).sum(axis=0) / 2
    scale = difficulty_AM.std(axis=1, keepdims=True)
    return difficulty_AM + 0.5 * scale * np.random.default_rng(seed).normal(size=difficulty_AM.shape)


@pytest.mark.slow
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("pool", ["rl", "base"])
def test_bootstraps_of_arithmetic_means_are_short_on_heavy_tails(pool: str, n: int) -> None:
    """What the numbers beside those that claims rest on are worth; demanded is only that they are no worse."""
    entropy_RAM, rng = _pool(pool), np.random.default_rng(n)
    weights = stats.cluster_weights(n, 600, rng)
    for name, statistic in (("other/self ratio", stats.other_self_ratio), ("interaction of means", stats.interaction)):
        truth_K = appended_mean(statistic(entropy_RAM.mean(axis=-1)))
        draws = []
        for _ in range(DRAWS // 5):
            drawn_RAP = entropy_RAM[..., rng.integers(0, entropy_RAM.shape[-1], n)]
            found = stats.bootstrap_estimate(drawn_RAP, weights, lambda m, of=statistic: appended_mean(of(m)))
            draws.append((found.low, found.high))
        low_DK, high_DK = np.moveaxis(np.array(draws), 1, 0)
        covered = _shown(name, pool, n, truth_K, low_DK, high_DK)[0]
        assert (covered >= (0.6 if pool == "rl" else 0.88)).all()
