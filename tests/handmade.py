"""Runs made by hand: token tables with known entropies, so that an analysis has an answer to be compared with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from enaction.experiments import plan
from enaction.passages import Passage
from enaction.study.config import Study
from enaction.study.desk import Desk
from enaction.study.store import Cell, Run
from enaction.tokens import SCHEMA

# Cell and passage -> entropy and surprisal of each of its words, nats.
Reading = Callable[[Cell, Passage], tuple[np.ndarray, np.ndarray]]


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


def text(study: Study, name: str, model: str, words: Callable[[str, str], int]) -> list[Passage]:
    """A response of so many words to each prompt, each word different from author to author."""
    return [
        Passage(
            f"{p.id}/0", p.id, p.messages, " ".join(f"{name}{i}" for i in range(words(name, p.id))), name,
            sampling={"framing": "assistant"}, ended=False,
        )
        for p in study.load_prompts()
    ]  # fmt: skip


def run(study: Study, folder: Path, reading: Reading, *, words: Callable[[str, str], int] = lambda *_: 12) -> Run:
    """A finished run of the study: texts by hand, what is derived from them by the plan, readings as told."""
    made, run = plan(study), Run(folder)
    run.open(study)
    for name, wanted in made.texts.items():
        if wanted.model is not None:
            run.write_passages(name, text(study, name, wanted.model, words))
    for name, wanted in made.texts.items():
        if wanted.model is None:
            run.write_passages(name, wanted.write(Desk(study, made.prompts, run)))
    for reader in study.models:
        for cell in made.read_by(study, run, reader):
            run.write_tokens(cell, _table(cell, run.passages(cell.author), reading))
    return run


def _table(cell: Cell, passages: list[Passage], reading: Reading) -> pa.Table:
    columns: dict[str, list] = {name: [] for name in SCHEMA.names}
    for passage in passages:
        entropy, surprisal = reading(cell, passage)
        for i, (h, s) in enumerate(zip(entropy, surprisal, strict=True)):
            row = {
                "reader": cell.reader, "author": cell.author, "framing": cell.framing, "passage_id": passage.id,
                "prompt_id": passage.prompt_id, "position": i, "token_id": i, "surprisal": s, "entropy": h,
                "varentropy": 1.0, "rank": 0, "is_first": i == 0, "is_end": False,
            }  # fmt: skip
            for name, value in row.items():
                columns[name].append(value)
    return pa.Table.from_arrays([pa.array(columns[f.name]).cast(f.type) for f in SCHEMA], schema=SCHEMA)


def noise(*names: object, scale: float = 0.03) -> float:
    """A factor that depends on the names alone."""
    seed = abs(int.from_bytes(repr(names).encode(), "little")) % (2**63)
    return float(np.exp(np.random.default_rng(seed).normal(0, scale)))
