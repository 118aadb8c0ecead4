"""Runs made by hand: token tables with known entropies, so that an analysis has an answer to be compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from enaction.experiments import plan
from enaction.framing import Framed
from enaction.passages import Passage, Prompt
from enaction.reader import TokenStats
from enaction.study.config import Study
from enaction.study.desk import Desk
from enaction.study.store import Cell, Run
from enaction.tokens import token_table

# Cell and passage -> entropy and surprisal of each of its words, nats.
Reading = Callable[[Cell, Passage], tuple[np.ndarray, np.ndarray]]
# Author, prompt and number of words -> the response.
Writing = Callable[[str, Prompt, int], Passage]


def study(folder: Path, experiments: dict, *, prompts: int = 16, stages: tuple[str, ...] = ("base", "rl")) -> Study:
    """Three families at each stage, none of which exists."""
    path = folder / "prompts.jsonl"
    path.write_text("".join(f'{{"id": "p{i}", "prompt": "question {i}"}}\n' for i in range(prompts)))
    models = {
        f"{family}-{stage}": {"model": "nowhere", "family": family, "stage": stage}
        for stage in stages
        for family in ("ash", "birch", "cedar")
    }
    return Study.model_validate(
        {"name": "planted", "models": models, "prompts": str(path), "experiments": experiments, "resamples": 200,
         "sampling": {"per_prompt": 1}}
    )  # fmt: skip


def of_authors(name: str, prompt: Prompt, n: int) -> Passage:
    """Words that differ from author to author; no ids, and cut off."""
    words = " ".join(f"{name}{i}" for i in range(n))
    return Passage(f"{prompt.id}/0", prompt.id, prompt.messages, words, name, {"framing": "assistant"}, ended=False)


def of_foxes(name: str, prompt: Prompt, n: int) -> Passage:
    """One word again and again; with ids, and ended."""
    foxes = " ".join(["fox"] * n)
    return replace(
        of_authors(name, prompt, n), response=foxes, token_ids=(5,) * (n + 1), tokenizer="by hand", ended=True
    )


def at_positions(entropy: Callable[[str, str, int, int], float]) -> Reading:
    """Entropy by reader, author, number of the prompt (`p7`) and position; surprisal is the same."""

    def read(cell: Cell, passage: Passage) -> tuple[np.ndarray, np.ndarray]:
        positions, number = range(len(passage.response.split())), int(passage.prompt_id[1:])
        values = np.array([entropy(cell.reader, cell.author, number, t) for t in positions])
        return values, values

    return read


def run(
    study: Study,
    folder: Path,
    reading: Reading,
    *,
    words: Callable[[str, str], int] = lambda *_: 12,
    writing: Writing = of_authors,
) -> Run:
    """A finished run of a study whose models are never loaded.

    Args:
        study: what its plan derives from texts is derived.
        folder: of the run.
        reading: what the readers measure; varentropy is 1.
        words: author and prompt id -> length of the text of a model.
        writing: how a model's text is written.
    """
    made, run = plan(study), Run(folder)
    run.open(study)
    for name, text in sorted(made.texts.items(), key=lambda item: item[1].model is None):
        if text.model is None:
            run.write_passages(name, text.write(Desk(study, made.prompts, run)))
        else:
            run.write_passages(name, [writing(name, prompt, words(name, prompt.id)) for prompt in made.prompts])
    for reader in study.models:
        for cell in made.read_by(study, run, reader):
            read = [(p, *_measured(*reading(cell, p))) for p in run.passages(cell.author)]
            run.write_tokens(cell, token_table(reader, cell.framing, read))
    return run


def _measured(entropy: np.ndarray, surprisal: np.ndarray) -> tuple[Framed, TokenStats]:
    n = len(entropy)
    stats = TokenStats(surprisal.astype(np.float32), entropy.astype(np.float32), np.ones(n), np.zeros(n, np.int32))
    return Framed((0, *range(n)), 1, n + 1, has_end=False), stats


def noise(*names: object, scale: float = 0.03) -> float:
    """A factor that depends on the names alone."""
    seed = abs(int.from_bytes(repr(names).encode(), "little")) % (2**63)
    return float(np.exp(np.random.default_rng(seed).normal(0, scale)))
