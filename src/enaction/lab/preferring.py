"""The DPO stage of an adapted model: pairs of its own replies, sampled once and ordered by a rule.

Everything is in the stage's folder: replies are written a portion at a time, and TRL checkpoints the training, so a
killed build resumes from there.
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
from enaction.lab.training import Workplace, train
from enaction.passages import Passage, Prompt, read_passages, write_passages
from enaction.reader import Reader
from enaction.sampling import sample

_PORTION = 16  # requests


class Replies(NamedTuple):
    """Replies of the shipped model: `drawn` at temperature 1, `plain` at a lower one."""

    drawn: list[Passage]
    plain: list[Passage]


def sample_replies(
    reader: Reader,
    requests: Sequence[Prompt],
    recipe: DpoRecipe,
    folder: Path,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Sample replies to all requests into `folder`, a file for each portion; existing files are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {"drawn": (recipe.replies, 1.0), "plain": (recipe.plain_replies, recipe.plain_temperature)}
    for k, (kind, (n, temperature)) in enumerate(kinds.items()):
        for begin in range(0, len(requests), _PORTION):
            file = folder / f"{kind}-{begin:03}.jsonl"
            if not file.exists():
                portion = sample(
                    reader,
                    requests[begin : begin + _PORTION],
                    n=n,
                    temperature=temperature,
                    max_new_tokens=recipe.max_new_tokens,
                    seed=recipe.seed,
                )
                write_passages(portion, file)
            report(k * len(requests) + min(begin + _PORTION, len(requests)), len(kinds) * len(requests))


def read_replies(folder: Path) -> Replies:
    """The replies that `sample_replies` wrote."""
    drawn, plain = (
        [passage for file in sorted(folder.glob(f"{kind}-*.jsonl")) for passage in read_passages(file)]
        for kind in ("drawn", "plain")
    )
    return Replies(drawn, plain)


def pairs(requests: Sequence[Prompt], replies: Sequence[Passage], known: Set[Pair], recipe: DpoRecipe) -> list[dict]:
    """The best and the worst reply to a request by the recipe's rubric, for the requests where they differ most.

    A reply that was cut off is judged as it is and then cut back to its last whole sentence: TRL adds an end token to
    every reply, and one in the middle of a sentence would teach the model to stop there.
    """
    by_request: dict[str, list[Passage]] = defaultdict(list)
    for reply in replies:
        by_request[reply.prompt_id].append(reply)
    rows: list[tuple[float, dict[str, Any]]] = []
    for prompt in requests:
        text = prompt.messages[-1]["content"]
        by_text = {p.response if p.ended else to_last_stop(p.response): p for p in by_request[prompt.id]}
        worth = {reply: recipe.rubric(text, p.response, bool(p.ended), known) for reply, p in by_text.items() if reply}
        if worth and (best := max(worth.values())) > (worst := min(worth.values())):
            sides = {
                side: [{"role": "assistant", "content": next(reply for reply, w in worth.items() if w == value)}]
                for side, value in (("chosen", best), ("rejected", worst))
            }
            rows.append((best - worst, {"prompt": list(prompt.messages), **sides}))
    return [row for _, row in sorted(rows, key=lambda row: -row[0])[: recipe.pairs]]


def prefer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[dict[str, Any]],
    recipe: DpoRecipe,
    workplace: Workplace,
) -> tuple[PeftModel, list[dict[str, Any]]]:
    """Train a new adapter on preference pairs with TRL's DPOTrainer, one pass (Rafailov et al. 2023).

    Returns:
        The model with its adapter, unmerged, and the training log.
    """
    torch.manual_seed(recipe.seed)
    settings = workplace.arguments(
        seed=recipe.seed,
        batch=recipe.batch,
        rate=recipe.rate,
        bf16=recipe.half,
        num_train_epochs=1,
        warmup_steps=2,
        beta=recipe.beta,
        activation_checkpointing=False,
        logging_steps=1,
    )
    data, adapter = Dataset.from_list(list(rows)), new_adapter(recipe.lora)
    trained, _, history = train(
        DPOTrainer, DPOConfig(**settings), model, tokenizer, data, workplace, peft_config=adapter
    )
    assert isinstance(trained, PeftModel)
    return trained, history
