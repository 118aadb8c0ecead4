"""The DPO stage of an adapted model: its own replies, sampled once, in pairs that a rule puts in order.

Everything lies in the stage's folder: replies are written a portion at a time, and TRL checkpoints the training, so a
build that was killed goes on from there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from enaction.lab.adapting import DpoRecipe, new_adapter
from enaction.lab.appraising import Pair, to_last_stop
from enaction.lab.training import Workplace, run
from enaction.passages import Passage, Prompt, read_passages, write_passages
from enaction.reader import Reader
from enaction.sampling import sample

_PORTION = 16  # requests


class Replies(NamedTuple):
    """What the model says as shipped: at temperature 1, and plainly, at a lower one."""

    drawn: list[Passage]
    plain: list[Passage]


def sample_replies(
    reader: Reader,
    asked: Sequence[Prompt],
    recipe: DpoRecipe,
    folder: Path,
    report: Callable[[int, int], None] = lambda done, of: None,
) -> None:
    """Sample replies to all requests into `folder`, a file for each portion; those that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {"drawn": (recipe.replies, 1.0), "plain": (recipe.plain_replies, recipe.plain_temperature)}
    for k, (kind, (n, temperature)) in enumerate(kinds.items()):
        for begin in range(0, len(asked), _PORTION):
            file = folder / f"{kind}-{begin:03}.jsonl"
            if not file.exists():
                portion = sample(
                    reader,
                    asked[begin : begin + _PORTION],
                    n=n,
                    temperature=temperature,
                    max_new_tokens=recipe.max_new_tokens,
                    seed=recipe.seed,
                )
                write_passages(portion, file)
            report(k * len(asked) + min(begin + _PORTION, len(asked)), len(kinds) * len(asked))


def read_replies(folder: Path) -> Replies:
    """What `sample_replies` wrote."""
    drawn, plain = (
        [passage for file in sorted(folder.glob(f"{kind}-*.jsonl")) for passage in read_passages(file)]
        for kind in ("drawn", "plain")
    )
    return Replies(drawn, plain)


def pairs(asked: Sequence[Prompt], replies: Sequence[Passage], known: Set[Pair], recipe: DpoRecipe) -> list[dict]:
    """The best and the worst reply to a request by the recipe's rubric, of the requests where they differ most.

    A reply that was cut off is judged as it stands and then ends at its last whole sentence: TRL puts an end behind
    every reply, and one in the middle of a sentence would teach to stop there.
    """
    by_request: dict[str, list[Passage]] = defaultdict(list)
    for reply in replies:
        by_request[reply.prompt_id].append(reply)
    rows: list[tuple[float, dict[str, Any]]] = []
    for prompt in asked:
        text = prompt.messages[-1]["content"]
        told = {p.response if p.ended else to_last_stop(p.response): p for p in by_request[prompt.id]}
        worth = {shown: recipe.rubric(text, p.response, bool(p.ended), known) for shown, p in told.items() if shown}
        if worth and (best := max(worth.values())) > (worst := min(worth.values())):
            sides = {
                side: [{"role": "assistant", "content": next(t for t, w in worth.items() if w == value)}]
                for side, value in (("chosen", best), ("rejected", worst))
            }
            rows.append((best - worst, {"prompt": list(prompt.messages), **sides}))
    return [row for _, row in sorted(rows, key=lambda row: -row[0])[: recipe.pairs]]


def prefer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[dict[str, Any]],
    recipe: DpoRecipe,
    place: Workplace,
) -> tuple[PeftModel, list[dict[str, Any]]]:
    """Train a new adapter on preference pairs with TRL's DPOTrainer, one pass (Rafailov et al. 2023).

    Returns:
        The model with its adapter, unmerged, and the training log.
    """
    torch.manual_seed(recipe.seed)
    trainer = DPOTrainer(
        model=model,
        args=DPOConfig(
            **place.arguments(
                bf16=recipe.half,
                num_train_epochs=1,
                per_device_train_batch_size=recipe.batch,
                learning_rate=recipe.rate,
                lr_scheduler_type="cosine",
                warmup_steps=2,
                beta=recipe.beta,
                activation_checkpointing=False,
                logging_steps=1,
                seed=recipe.seed,
            )
        ),
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=tokenizer,
        peft_config=new_adapter(recipe.lora),
        callbacks=list(place.callbacks),
    )
    run(trainer, place)
    assert isinstance(trainer.model, PeftModel)
    return trainer.model, trainer.state.log_history
