"""Two models answer the same prompts and read each other: mean entropy of each reader on each author, nats.

    python examples/who_reads_whom.py                                                  # two embedded models
    python examples/who_reads_whom.py Qwen/Qwen2.5-0.5B-Instruct google/gemma-3-270m-it prompts.jsonl

The interaction is what is left on the diagonal after each reader's own confidence and each text's difficulty: negative
means that a model is more certain on text like its own than these two explain.
"""

from __future__ import annotations

import sys

import numpy as np

import enaction
from enaction import zoo
from enaction.stats import interaction

first, second, *files = sys.argv[1:] or ("zoo:ash-rl", "zoo:birch-rl")
prompts = enaction.read_prompts(files[0]) if files else zoo.prompts()[::12]

readers = [enaction.Reader.load(name) for name in (first, second)]
texts = [enaction.sample(reader, prompts, max_new_tokens=60) for reader in readers]
entropy = np.empty((2, 2))
for r, reader in enumerate(readers):
    for a, passages in enumerate(texts):
        table = enaction.score_passages(reader, passages)
        is_text = ~table["is_end"].to_numpy()
        entropy[r, a] = table["entropy"].to_numpy()[is_text].mean()
        print(f"{reader.name} reads {readers[a].name}: {entropy[r, a]:.3f} nats")
print(f"interaction, log units: {interaction(entropy)[0]:+.3f} (equal for both readers of a pair)")
