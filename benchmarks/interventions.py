"""What interventions cost: a pass with every layer captured, and one under an edit, over a plain pass.

`python -m benchmarks.interventions`: one thread, a model of the zoo and SmolLM2-135M where its base file is installed;
passes in turn, process CPU time, medians of ratios side by side. Captured are all residual layers at the positions of
the responses.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from enaction import zoo
from enaction.errors import UserError
from enaction.framing import frame
from enaction.passages import Passage
from enaction.reader import Reader
from enaction.reader.interventions import Capture, Edit, Spot, Treated, layers

ROUNDS = 9
TEXT = "one day a small red fox walked into the garden and saw the old river . "


def main() -> None:
    """Print a row a model."""
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, medians of {ROUNDS} rounds")
    print("| model | plain pass, CPU s | all layers captured | edit at a middle layer | again, layers below not run |")
    print("| --- | --- | --- | --- | --- |")
    for name, texts, repeats in (("ash-rl", 24, 4), ("smollm2-sft", 8, 6)):
        try:
            reader = Reader.load(f"zoo:{name}", name=name)
        except UserError as error:
            print(f"| {name} | {error} |")
            continue
        print("| " + " | ".join([name, *_row(reader, texts, repeats)]) + " |")


def _row(reader: Reader, n_texts: int, repeats: int) -> list[str]:
    prompts = zoo.prompts()[:n_texts]
    texts = [Passage(p.id, p.id, p.messages, TEXT * repeats, "world", ended=True) for p in prompts]
    framed = [frame(reader.tokenizer, text, "assistant") for text in texts]
    where = [np.arange(f.start - 1, f.stop - 1) for f in framed]
    n = layers(reader)
    captures = [Capture(Spot(layer), where) for layer in range(n + 1)]
    vector = np.zeros(reader.model.config.get_text_config().hidden_size, np.float32)
    edit = [Edit(Spot(n // 2), where, vector)]
    seconds: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        treated, fresh = Treated(reader, framed), Treated(reader, framed)
        steps: tuple[tuple[str, Callable[[], object]], ...] = (
            ("plain", lambda t=treated: t.read()),
            ("captured", lambda t=treated: t.read(captures=captures)),
            ("edited", lambda t=fresh: t.read(edit)),
            ("again", lambda t=fresh: t.read(edit)),
        )
        for name, step in steps:
            began = time.process_time()
            step()
            seconds.setdefault(name, []).append(time.process_time() - began)
    ratios = [
        statistics.median(a / b for a, b in zip(seconds[name], seconds["plain"], strict=True))
        for name in ("captured", "edited", "again")
    ]
    return [f"{statistics.median(seconds['plain']):.2f}", *(f"{ratio:.2f}" for ratio in ratios)]


if __name__ == "__main__":
    main()
