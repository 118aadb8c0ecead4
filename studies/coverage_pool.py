"""The pool of passages from which the coverage of intervals is simulated: entropies that real readers found.

    python studies/coverage_pool.py tests/data/passage_entropies.npz        # some ten minutes on two cores

Three models of the zoo write eight replies to each story prompt, after pretraining and after RL, and each reads all.
Means over prompts of `rl` have heavy tails (a few own replies carry most of a cell's entropy), those of `base` light
ones. tests/test_coverage.py draws prompts from the pool, which it takes for the population. The stored file holds the
models of the second zoo (commit e5d034c); the simulation asks what intervals do with such tails, not what those models
are, so it is not made again with every zoo.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from enaction import Reader, sample, score_passages, zoo

FAMILIES = ("ash", "birch", "cedar")
PER_PROMPT = 8


def passage_entropies(stage: str) -> np.ndarray:
    """[R, A, P, S] float32: mean entropy, nats, of each reader on each sample of each author, end token left out."""
    readers = [Reader.load(f"zoo:{family}-{stage}") for family in FAMILIES]
    prompts = zoo.prompts()
    texts = [sample(reader, prompts, n=PER_PROMPT, max_new_tokens=160, seed=14) for reader in readers]
    table_RA = []
    for reader in readers:
        row = []
        for passages in texts:
            tokens = score_passages(reader, passages, "assistant" if reader.has_template else "none").to_pandas()
            mean = tokens[~tokens.is_end].groupby("passage_id", observed=True).entropy.mean()
            row.append(mean.reindex([p.id for p in passages]).to_numpy().reshape(len(prompts), PER_PROMPT))
        table_RA.append(row)
    return np.array(table_RA, dtype=np.float32)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    np.savez_compressed(path, rl=passage_entropies("rl"), base=passage_entropies("base"))
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")
