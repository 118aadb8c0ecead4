"""Capture a model's states while it reads, move them, and read again; then let it write under the change.

python examples/intervene.py
"""

from __future__ import annotations

import numpy as np

from enaction import Reader, sample, zoo
from enaction.continuing import continued
from enaction.framing import frame
from enaction.reader.interventions import Capture, Edit, Spot, Treated, layers


def main() -> None:
    """Move own text to the mean state of foreign text at one layer."""
    reader, other = (Reader.load(f"zoo:{name}", name=name) for name in ("ash-rl", "birch-rl"))
    prompts = zoo.prompts()[:8]
    own, foreign = (sample(author, prompts, max_new_tokens=40) for author in (reader, other))
    framed = [frame(reader.tokenizer, passage, "assistant") for passage in (*own, *foreign)]
    where = [np.arange(f.start - 1, f.stop - 1) for f in framed]  # the positions that predict the response
    middle = Spot(layers(reader) // 2)

    texts = Treated(reader, framed)
    states = Capture(middle, where)
    clean = texts.read(captures=[states])
    means = [np.concatenate(clean.captured[states][part]).mean(0) for part in (slice(8), slice(8, None))]
    moved = texts.read([Edit(middle, where, means[1] - means[0])])
    for name, part in (("own", slice(8)), ("foreign", slice(8, None))):
        before, after = (np.mean([s.entropy.mean() for s in t.scores[part]]) for t in (clean, moved))
        print(f"{name:8} entropy {before:.3f} nats, {after:.3f} after the move at layer {middle.layer}")

    context = framed[0].ids[: framed[0].start]
    (text,) = continued(reader, context, 1, 20, edits=[Edit(middle, None, means[1] - means[0])])
    print("under it:", reader.tokenizer.decode(list(text.ids)))


if __name__ == "__main__":
    main()
