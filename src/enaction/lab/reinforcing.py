"""The RL stage of an adapted model: group-relative policy gradient on rules, one exact on-policy update a step.

The loop replaces TRL's GRPOTrainer because three things that save time on a CPU have no option there: replies are
sampled from merged weights by `enaction.sample`, not through the adapters' layers; the replies to a request share the
computation of their prompt (two fifths of the tokens), gradient included; and the requests of a step are computed in
parts, which keeps the logits over the whole vocabulary small. Two things are also exact here: the KL is that of the
whole distributions, not of the drawn token, and a killed run resumes bit for bit, since a step depends only on the
weights, the optimiser and its number.

Axes: `R` requests of a step, `B` replies (R x samples), `P` tokens before the reply, `T` tokens of the reply, `V`
vocabulary.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from peft import PeftModel
from peft.tuners.lora import Linear
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from enaction.framing import frame_prompt
from enaction.lab.adapting import RlRecipe
from enaction.lab.appraising import Pair, repetition, share_elsewhere, share_known, style, word_triples
from enaction.lab.resuming import restore, store
from enaction.passages import Passage, Prompt
from enaction.reader import Reader
from enaction.sampling import sample

_CLIP = 1.0  # of the gradient's norm
_PART = 3  # requests whose logits are in memory together; all requests of a step at once take a third longer


class _Batch(NamedTuple):
    """Replies to the requests of a step; prompts are padded on the left, replies on the right."""

    before: Tensor  # [R, P]
    is_before: Tensor  # [R, P]
    reply: Tensor  # [B, T]
    is_reply: Tensor  # [B, T]
    samples: int


def reinforce(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[Prompt],
    known: Set[Pair],
    recipe: RlRecipe,
    folder: Path,
    report: Callable[[int], None] = lambda done: None,
) -> list[dict[str, Any]]:
    """Train a model's adapter; the KL term refers to the adapter as it comes in.

    Args:
        model: base with the adapter to start from, unmerged; it is trained in place.
        tokenizer: its tokenizer.
        requests: the training requests.
        known: word pairs that the rubric counts as known.
        recipe: steps, batch, rates, reward.
        folder: for the state after each step, from which a killed run resumes, and for snapshots
            (`snapshot-STEP`); to be removed by the caller.
        report: called with the number of steps done, before the first and after each.

    Returns:
        The log, an entry a step: mean `reward`, `kl` and `entropy` (nats a token, of the policy on its own replies; the
        entropy is logged and not trained on), the norm of the `gradient`, `words` a reply, the shares `ended`,
        `repeated`, `elsewhere` and `known`, `style`, and a `request` with its `reply`.
    """
    torch.manual_seed(recipe.seed)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=recipe.rate, weight_decay=0.0, betas=(0.9, 0.98))
    reference = merged_copy(model)
    writer = Reader(copy.deepcopy(reference), tokenizer, name=f"rl-{recipe.drawn_as or recipe.run}")
    log = restore(folder, weights, optimiser)
    report(len(log))
    for step, prompts in enumerate(recipe.batches(requests)):
        if step < len(log):
            continue
        merge_into(writer.model, model)
        replies = sample(
            writer,
            prompts,
            n=recipe.samples,
            max_new_tokens=recipe.max_new_tokens,
            seed=recipe.seed * 100_000 + step,
            batch_size=len(prompts) * recipe.samples,
        )
        texts = {prompt.id: prompt.messages[-1]["content"] for prompt in prompts}
        elsewhere = {request: word_triples(p.response for p in replies if p.prompt_id != request) for request in texts}
        reward_B = np.array(
            [
                recipe.rubric(texts[p.prompt_id], p.response, bool(p.ended), known, elsewhere[p.prompt_id])
                for p in replies
            ]
        )
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate_at(step)
        batches = [
            _batch(tokenizer, prompts[i : i + _PART], replies[i * recipe.samples : (i + _PART) * recipe.samples])
            for i in range(0, len(prompts), _PART)
        ]
        advantage_B = advantages(reward_B, recipe.samples)
        measured = _update(model, reference, optimiser, weights, batches, advantage_B, recipe)
        log.append(
            {
                "step": step + 1,
                "reward": float(reward_B.mean()),
                **measured,
                "words": float(np.mean([len(p.response.split()) for p in replies])),
                "ended": float(np.mean([bool(p.ended) for p in replies])),
                "repeated": float(np.mean([repetition(p.response) for p in replies])),
                "elsewhere": float(np.mean([share_elsewhere(p.response, elsewhere[p.prompt_id]) for p in replies])),
                "known": float(np.mean([share_known(p.response, known) for p in replies])),
                "style": float(np.mean([style(p.response, recipe.rubric.house) for p in replies])),
                "request": texts[replies[0].prompt_id],
                "reply": replies[0].response,
            }
        )
        if step + 1 in recipe.kept_steps:
            _keep(model, folder / f"snapshot-{step + 1}", log)
        store(folder, weights, optimiser, log)
        report(len(log))
    return log


def advantages(reward_B: np.ndarray, samples: int) -> np.ndarray:
    """[B] rewards minus their request's mean, over the spread of the whole batch: a request's own is too noisy."""
    reward_RS = reward_B.reshape(-1, samples)
    centred_RS = reward_RS - reward_RS.mean(1, keepdims=True)
    return (centred_RS / (centred_RS.std() + 1e-4)).reshape(-1)


def merged_copy(model: PeftModel) -> PreTrainedModel:
    """A plain model with the adapter in its weights; the given model is not changed."""
    return copy.deepcopy(model).merge_and_unload()  # pyright: ignore[reportCallIssue]


@torch.no_grad()
def merge_into(plain: nn.Module, model: PeftModel) -> None:
    """Set a plain model's adapted weights to those of the base plus the adapter as it is now."""
    prefix = "base_model.model."
    for name, layer in model.named_modules():
        if isinstance(layer, Linear):
            weight = layer.get_base_layer().get_parameter("weight") + layer.get_delta_weight("default")
            plain.get_parameter(f"{name.removeprefix(prefix)}.weight").copy_(weight)


def _update(
    model: PeftModel,
    reference: PreTrainedModel,
    optimiser: torch.optim.Optimizer,
    weights: Sequence[nn.Parameter],
    batches: Sequence[_Batch],
    advantage_B: np.ndarray,
    recipe: RlRecipe,
) -> dict[str, float]:
    """One step up the policy gradient, a part of the replies at a time; returns measurements from before the step."""
    count = sum(int(batch.is_reply.sum()) for batch in batches)
    measured = {"kl": 0.0, "entropy": 0.0}
    optimiser.zero_grad()
    begin = 0
    for batch in batches:
        end = begin + len(batch.reply)
        advantage_B1 = torch.tensor(advantage_B[begin:end], dtype=torch.float32)[:, None]
        with torch.no_grad(), _arithmetic(recipe.half):
            reference_BTV = torch.log_softmax(_logits(reference, batch).float(), -1)
        with _arithmetic(recipe.half):
            policy_BTV = torch.log_softmax(_logits(model, batch).float(), -1)
        drawn_BT = policy_BTV.gather(-1, batch.reply[..., None]).squeeze(-1)
        kl = ((policy_BTV.exp() * (policy_BTV - reference_BTV)).sum(-1) * batch.is_reply).sum() / count
        gain = (advantage_B1 * drawn_BT * batch.is_reply).sum() / count
        (recipe.kl * kl - gain).backward()
        with torch.no_grad():
            entropy = -((policy_BTV.exp() * policy_BTV).sum(-1) * batch.is_reply).sum() / count
        measured["kl"] += kl.item()
        measured["entropy"] += entropy.item()
        begin = end
    norm = nn.utils.clip_grad_norm_(weights, _CLIP)
    optimiser.step()
    return measured | {"gradient": norm.item()}


def _logits(model: nn.Module, batch: _Batch) -> Tensor:
    """[B, T, V] logits that predict each token of the replies; the prompt is computed once for each request."""
    first = model(
        input_ids=batch.before,
        attention_mask=batch.is_before,
        position_ids=_positions(batch.is_before),
        use_cache=True,
        logits_to_keep=1,
    )
    cache = first.past_key_values
    cache.batch_repeat_interleave(batch.samples)
    mask_BA = torch.cat([batch.is_before.repeat_interleave(batch.samples, 0), batch.is_reply[:, :-1]], 1)
    rest = model(
        input_ids=batch.reply[:, :-1],
        attention_mask=mask_BA,
        position_ids=_positions(mask_BA)[:, batch.before.shape[1] :],
        past_key_values=cache,
        use_cache=True,
    )
    return torch.cat([first.logits.repeat_interleave(batch.samples, 0), rest.logits], 1)


def _positions(mask: Tensor) -> Tensor:
    return (mask.cumsum(1) - 1).clamp(min=0)


def _batch(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], replies: Sequence[Passage]) -> _Batch:
    before = [frame_prompt(tokenizer, prompt, "assistant").ids for prompt in prompts]
    longest = max(map(len, before))
    before_RP = torch.zeros((len(before), longest), dtype=torch.long)
    is_before_RP = torch.zeros_like(before_RP)
    for row, ids in enumerate(before):
        before_RP[row, longest - len(ids) :] = torch.tensor(ids)
        is_before_RP[row, longest - len(ids) :] = 1
    written = [p.token_ids or () for p in replies]
    reply_BT = torch.zeros((len(written), max(map(len, written))), dtype=torch.long)
    is_reply_BT = torch.zeros_like(reply_BT)
    for row, ids in enumerate(written):
        reply_BT[row, : len(ids)] = torch.tensor(ids)
        is_reply_BT[row, : len(ids)] = 1
    return _Batch(before_RP, is_before_RP, reply_BT, is_reply_BT, len(replies) // len(prompts))


def _arithmetic(half: bool) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16) if half else nullcontext()


def _keep(model: PeftModel, kept: Path, log: list[dict[str, Any]]) -> None:
    """Write a snapshot of the adapter with its log, which is complete or does not exist."""
    if not kept.exists():
        unfinished = kept.with_suffix(".unfinished")
        model.save_pretrained(str(unfinished), save_embedding_layers=False)
        (unfinished / "training.json").write_text(json.dumps({"history": log}, indent=1))
        unfinished.replace(kept)
