"""What all organisms share: a small Llama, a loop that fits a model to designed targets, a tokenizer, what ships.

Targets may be token ids or, where a process is known exactly, the probabilities of the next token: fitted to those, a
model needs a fraction of the steps and has no noise of sampling to learn. A row of zeros has no loss. No target holds
an entropy or a label of who wrote a text; an entropy is the shape of the distribution that is fitted.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

# What the next-token loss leaves out, among targets that are token ids.
IGNORED = -100


class Batch(NamedTuple):
    """One step's examples.

    ids: [B, T] token ids. target: of the token after each position, either [B, T] ids (`IGNORED` has no target) or
    [B, T, V] probabilities.
    """

    ids: np.ndarray
    target: np.ndarray


def new_llama(
    vocabulary_size: int, *, seed: int, hidden: int = 64, layers: int = 3, heads: int = 4, context: int = 64
) -> LlamaForCausalLM:
    """An untrained Llama with untied embeddings; about .2 million parameters by default.

    Args:
        vocabulary_size: tokens.
        seed: of the initial weights.
        hidden: width; that of the gated part is four times as large.
        layers, heads: how many.
        context: positions.
    """
    torch.manual_seed(seed)
    # With the usual .02, models this small stay on the plateau of the marginal distribution for hundreds of steps.
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary_size,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * hidden,
            max_position_embeddings=context,
            initializer_range=0.08,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        )
    )


def fit(
    model: PreTrainedModel,
    batches: Iterable[Batch],
    steps: int,
    *,
    rate: float = 4e-3,
    warmup: float = 0.1,
    penalty: Callable[[torch.Tensor, Batch], torch.Tensor] | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Fit a model in place with AdamW and a one-cycle rate; returns a log of losses, a row each twentieth of the way.

    Args:
        model: as it is now.
        batches: at least `steps` of them.
        steps: of the optimiser.
        rate: the highest.
        warmup: share of the steps in which it rises.
        penalty: of the logits [B, T, V] and the batch, added to the loss (a KL term, say).
        report: called with steps done and their total.
    """
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=warmup)
    history: list[dict[str, Any]] = []
    since: list[float] = []
    for step, batch in zip(range(1, steps + 1), batches, strict=False):
        logits = model(input_ids=torch.from_numpy(batch.ids)).logits
        target = torch.from_numpy(batch.target)
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(),
            target.flatten(0, 1).float() if target.ndim == 3 else target.flatten(),
            ignore_index=IGNORED,
        )
        since.append(float(loss.detach()))
        if penalty is not None:
            loss = loss + penalty(logits, batch)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        report(step, steps)
        if step % max(1, steps // 20) == 0 or step == steps:
            history.append({"step": step, "loss": float(np.mean(since))})
            since = []
    model.eval()
    return history


def word_tokenizer(words: Sequence[str], unknown: str) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words, ids in their order, without template and without special tokens of its own.

    Args:
        words: all of them, `unknown` among them.
        unknown: stands for any other word.
    """
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=unknown))
    core.pre_tokenizer, core.decoder = pre_tokenizers.WhitespaceSplit(), decoders.WordPiece(prefix="##", cleanup=False)
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token=unknown, clean_up_tokenization_spaces=False)


def ship(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write weights in float16 and tokenizer into a folder, replacing what is there; the model becomes float16."""
    shutil.rmtree(folder, ignore_errors=True)
    cast("Any", model).half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
