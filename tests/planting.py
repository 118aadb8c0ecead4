"""A finished run without any model: passages of a few words, and token tables with entropies that the test gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from enaction.experiments import plan
from enaction.framing import Framed
from enaction.passages import Passage
from enaction.reader import TokenStats
from enaction.study.config import Study
from enaction.study.desk import Desk
from enaction.study.store import Run
from enaction.tokens import token_table

# Entropy, nats, that a reader finds at a position of an author's text to the prompt with this number.
Entropy = Callable[[str, str, int, int], float]


def planted_run(study: Study, folder: Path, entropy: Entropy, length: Callable[[str, int], int]) -> Run:
    """A run of the study in which every cell is finished.

    Args:
        study: its models are never loaded.
        folder: of the run.
        entropy: reader, author, prompt and position -> entropy; surprisal is the same, varentropy 1.
        length: author and prompt -> tokens of the text.
    """
    run, asked = Run(folder), plan(study)
    run.open(study)
    number = {prompt.id: i for i, prompt in enumerate(study.load_prompts())}
    for name, text in sorted(asked.texts.items(), key=lambda item: len(item[1].needs)):
        if text.model is None:
            run.write_passages(name, text.write(Desk(study, asked.prompts, run)))
            continue
        passages = [
            Passage(
                f"{p.id}/0", p.id, p.messages, " ".join(["fox"] * length(name, i)), name,
                {"framing": "assistant"}, (5,) * (length(name, i) + 1), None, None, True,
            )
            for i, p in enumerate(study.load_prompts())
        ]  # fmt: skip
        run.write_passages(name, passages)
    for reader in study.models:
        for cell in asked.read_by(study, run, reader):
            read = []
            for passage in run.passages(cell.author):
                n = len(passage.response.split())
                of = replace(passage, author=cell.author)
                h = np.array([entropy(reader, cell.author, number[of.prompt_id], t) for t in range(n)], np.float32)
                stats = TokenStats(h, h, np.ones(n, np.float32), np.zeros(n, np.int32))
                read.append((of, Framed((5,) * (n + 1), 1, n + 1, has_end=False), stats))
            run.write_tokens(cell, token_table(reader, cell.framing, read))
    return run
