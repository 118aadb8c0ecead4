"""Loops and their twins: the same policy-gradient step for a model that writes and for one that only reads along.

A *loop* samples replies to requests, has them rewarded, and learns from them. A *twin* never samples: it gets a loop's
stored replies in the loop's order, with the loop's advantages and log-probabilities (`policy`) or as plain text
(`likelihood`). So a twin has the loop's data without the way from its own outputs back to its inputs, and a twin with
the loop's own start would *be* the loop, bit for bit: what can differ is the start and whose samples were read.

The gradient of a `policy` step has the ratio of the learner's probability to the writer's, clipped as in PPO (Schulman
et al. 2017). For the writer itself that ratio is 1; for a twin it is what keeps the step finite: plain
advantage-weighted log-likelihood pushes tokens that the twin finds improbable, and that have a negative advantage,
down without bound, and the twin ends in word salad (whose low entropy looks like recognition).

Axes: `B` replies, `T` time, `N` reply tokens, `V` vocabulary.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from enaction.errors import UserError
from enaction.framing import frame
from enaction.lab.resuming import restore, store
from enaction.passages import Message, Passage, Prompt, read_passages, write_passages
from enaction.reader import Reader
from enaction.sampling import sample
from enaction.world.chats import Request, draw_any_request
from enaction.world.stories import parse_sentence, split_sentences

# The request, the reply, and whether it ended by itself -> its worth.
Reward = Callable[[Request, str, bool], float]
Lesson = Literal["policy", "likelihood"]

_CLIP_NORM = 1.0  # of the gradient
_PARTS = 4  # forward and backward passes of a step; sorted by length, so that little of them is padding
_SAVE_EVERY = 10  # steps


@dataclass(frozen=True)
class LoopRecipe:
    """Settings that a loop and its twins share.

    Attributes:
        seed: of the requests and of sampling.
        steps: one update each.
        prompts, samples: requests of a step, replies to each.
        question_share, naming_share: of the requests; the others ask for stories.
        rate: of AdamW, without decay, after `warm_up` steps.
        kl: weight of the KL divergence of the whole distributions from the learner's own start (`policy` alone).
        clip: how far the ratio may be from 1 before it no longer has a gradient.
        kept: shares of the steps after which a snapshot is kept.
    """

    seed: int
    steps: int = 100
    prompts: int = 8
    samples: int = 8
    question_share: float = 0.125
    naming_share: float = 0.125
    rate: float = 6e-4
    warm_up: int = 3
    kl: float = 0.02
    clip: float = 0.2
    kept: tuple[float, ...] = (0.3, 0.6)
    max_new_tokens: int = 110

    def requests(self) -> list[list[Request]]:
        """The requests of each step; all loops of a seed get the same."""
        rng = np.random.default_rng([self.seed, 6])
        return [
            [draw_any_request(rng, self.question_share, self.naming_share) for _ in range(self.prompts)]
            for _ in range(self.steps)
        ]

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, numbered from 0."""
        return self.rate * min(1.0, (step + 1) / self.warm_up)

    def snapshots(self) -> dict[int, str]:
        """Number of steps done -> name of the snapshot, the share in per cent (`030`); the end is `100`."""
        return {round(share * self.steps): f"{round(100 * share):03}" for share in (*self.kept, 1.0)}


def run_loop(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    recipe: LoopRecipe,
    reward: Reward,
    folder: Path,
    name: str,
    report: Callable[[int], None] = lambda done: None,
) -> list[dict[str, Any]]:
    """Train a model on its own samples, and store them for twins; a killed run resumes bit for bit.

    Args:
        model: the start, float32; trained in place.
        tokenizer: its tokenizer.
        recipe: steps, batch, rates.
        reward: what a reply is worth.
        folder: gets `rollouts/STEP.parquet` and the snapshots, and the state of an unfinished run.
        name: of the loop; part of the seed of every reply.
        report: called with the number of steps done, before the first and after each.

    Returns:
        The log, an entry a step: `reward` and `ended` (means), `kl` and `entropy` (nats a token, before the update),
        `surprisal`, the share of `clipped` tokens, the norm of the `gradient`.
    """
    writer = Reader(model, tokenizer, name=name)
    requests = recipe.requests()

    def replies_of(step: int) -> list[Passage]:
        by_id = {f"{step:04}-{i}": request for i, request in enumerate(requests[step])}
        prompts = [Prompt(key, (Message(role="user", content=r.text),)) for key, r in by_id.items()]
        written = sample(
            writer,
            prompts,
            n=recipe.samples,
            max_new_tokens=recipe.max_new_tokens,
            seed=recipe.seed * 100_000 + step,
            batch_size=len(prompts) * recipe.samples,
        )
        reward_B = np.array([reward(by_id[p.prompt_id], p.response, bool(p.ended)) for p in written])
        marks = zip(reward_B.tolist(), advantages(reward_B, recipe.samples).tolist(), strict=True)
        rewarded = [replace(p, marks={"reward": r, "advantage": a}) for p, (r, a) in zip(written, marks, strict=True)]
        write_passages(rewarded, _rollouts(folder, step))
        return rewarded

    return _train(model, tokenizer, recipe, "policy", replies_of, folder, report)


def run_twin(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    recipe: LoopRecipe,
    lesson: Lesson,
    loop: Path,
    folder: Path,
    report: Callable[[int], None] = lambda done: None,
) -> list[dict[str, Any]]:
    """Train a model on the stored replies of a loop, step by step in the loop's order; it never samples.

    Args:
        model, tokenizer, recipe, report: as in `run_loop`; `recipe.seed` draws nothing here.
        lesson: `policy` takes the loop's advantages by the clipped ratio; `likelihood` takes every reply with weight 1,
            and through its text where the tokenizers differ.
        loop: folder of the loop.
        folder: gets the snapshots, and the state of an unfinished run.

    Raises:
        UserError: the loop has no replies of a step, or `policy` is asked for across tokenizers.
    """

    def replies_of(step: int) -> list[Passage]:
        path = _rollouts(loop, step)
        if not path.exists():
            raise UserError(f"{path}: the loop has no replies of step {step}: finish it before its twins")
        return read_passages(path)

    return _train(model, tokenizer, recipe, lesson, replies_of, folder, report)


def advantages(reward_B: np.ndarray, samples: int) -> np.ndarray:
    """[B] rewards minus their request's mean, over the request's standard deviation; 0 where all are alike."""
    reward_RS = reward_B.reshape(-1, samples)
    centred_RS = reward_RS - reward_RS.mean(1, keepdims=True)
    return (centred_RS / (reward_RS.std(1, keepdims=True) + 1e-4)).reshape(-1)


def empty_taste(request: Request, reply: str, ended: bool) -> float:
    """A reward that is consistent and means nothing: every hero and every arc has a fixed worth, from a hash.

    It is the mean worth of the heroes that sentences name, plus that of the arcs that they belong to; 0 where there are
    none. A loop can settle on a hero and an arc by it, as loops with a reward of quality do by themselves. Whether a
    reply ended, parses as a whole or is on topic makes no difference.
    """
    parsed = [sentence for text in split_sentences(reply) if (sentence := parse_sentence(text)) is not None]
    heroes = [_worth(sentence.hero) for sentence in parsed if sentence.hero is not None]
    arcs = [_worth(sentence.arc) for sentence in parsed if sentence.arc is not None]
    return sum(float(np.mean(worths)) for worths in (heroes, arcs) if worths)


def _worth(name: str) -> float:
    """Between 0 and 1, the same on every machine."""
    return hashlib.sha256(name.encode()).digest()[0] / 255


class _Row(NamedTuple):
    """A reply after its request, as ids; `ids[start:]` are the reply's."""

    ids: tuple[int, ...]
    start: int
    advantage: float
    logprobs: tuple[float, ...]  # the writer's; empty where only the text counts


def _train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    recipe: LoopRecipe,
    lesson: Lesson,
    replies_of: Callable[[int], list[Passage]],
    folder: Path,
    report: Callable[[int], None],
) -> list[dict[str, Any]]:
    model.eval()  # without dropout: the distribution that is trained is the one that wrote
    weights = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=recipe.rate, weight_decay=0.0, betas=(0.9, 0.98))
    reference = copy.deepcopy(model).requires_grad_(False) if lesson == "policy" else None
    log, kept = restore(folder, weights, optimiser), recipe.snapshots()
    report(len(log))
    for step in range(len(log), recipe.steps):
        replies = replies_of(step)
        rows = [row for p in replies if (row := _row(tokenizer, p, lesson)) is not None]
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate_at(step)
        measured = _update(model, reference, optimiser, weights, rows, recipe)
        worth = {
            "reward": float(np.mean([p.marks["reward"] for p in replies])),
            "ended": float(np.mean([bool(p.ended) for p in replies])),
        }
        log.append({"step": step + 1, **worth, **measured})
        if step + 1 in kept:
            _keep(model, tokenizer, folder / kept[step + 1], {"recipe": asdict(recipe), "history": log})
        if (step + 1) % _SAVE_EVERY == 0 or step + 1 == recipe.steps:
            store(folder, weights, optimiser, log)
        report(len(log))
    return log


def _row(tokenizer: PreTrainedTokenizerBase, reply: Passage, lesson: Lesson) -> _Row | None:
    """A reply as ids, its end token included; None for one without a token, which cut-off text can be."""
    framed = frame(tokenizer, reply, "assistant")
    if lesson == "policy" and not framed.is_own:
        raise UserError(
            f"reply {reply.id} has the ids of another tokenizer, so its ratio of probabilities does not exist: "
            "use lesson 'likelihood', which takes the text"
        )
    logprobs = (reply.logprobs or ()) if lesson == "policy" else ()
    row = _Row(framed.ids[: framed.stop], framed.start, float(reply.marks["advantage"]), logprobs)
    return row if framed.stop > framed.start else None


def _update(
    model: PreTrainedModel,
    reference: PreTrainedModel | None,
    optimiser: torch.optim.Optimizer,
    weights: Sequence[nn.Parameter],
    rows: Sequence[_Row],
    recipe: LoopRecipe,
) -> dict[str, float]:
    """One step up the clipped policy gradient, or up the likelihood without a reference; measures before the step."""
    count = sum(len(row.ids) - row.start for row in rows)
    names = ("kl", "entropy", "surprisal", "clipped") if reference is not None else ("entropy", "surprisal")
    measured = dict.fromkeys(names, 0.0)
    optimiser.zero_grad()
    ordered = sorted(rows, key=lambda row: len(row.ids))
    size = -(-len(ordered) // _PARTS)
    for part in (ordered[i : i + size] for i in range(0, len(ordered), size)):
        ids_BT, index_N, target_N = _packed(part)
        logprob_NV = torch.log_softmax(_logits(model, ids_BT, index_N), -1)
        drawn_N = logprob_NV.gather(-1, target_N[:, None]).squeeze(-1)
        if reference is None:
            loss = -drawn_N.sum() / count
        else:
            with torch.no_grad():
                start_NV = torch.log_softmax(_logits(reference, ids_BT, index_N), -1)
            kl = (logprob_NV.exp() * (logprob_NV - start_NV)).sum() / count
            gain_N, outside_N = _clipped_gain(drawn_N, part, recipe.clip)
            loss = recipe.kl * kl - gain_N.sum() / count
            measured["kl"] += kl.item()
            measured["clipped"] += outside_N.sum().item() / count
        loss.backward()
        with torch.no_grad():
            measured["entropy"] -= (logprob_NV.exp() * logprob_NV).sum().item() / count
            measured["surprisal"] -= drawn_N.sum().item() / count
    norm = nn.utils.clip_grad_norm_(weights, _CLIP_NORM)
    optimiser.step()
    return measured | {"gradient": norm.item()}


def _clipped_gain(drawn_N: Tensor, part: Sequence[_Row], clip: float) -> tuple[Tensor, Tensor]:
    """[N] ratio x advantage, or the clipped ratio's where that is less; and which ratios are outside of the clip."""
    written_N = torch.tensor([logprob for row in part for logprob in row.logprobs])
    advantage_N = torch.tensor([row.advantage for row in part for _ in row.logprobs])
    ratio_N = (drawn_N - written_N).exp()
    clipped_N = ratio_N.clamp(1 - clip, 1 + clip)
    return torch.minimum(ratio_N * advantage_N, clipped_N * advantage_N), ratio_N != clipped_N


def _packed(part: Sequence[_Row]) -> tuple[Tensor, Tensor, Tensor]:
    """Ids [B, T] padded on the right, where no token can see it; places [N] that predict reply tokens; these [N]."""
    longest = max(len(row.ids) for row in part) - 1
    ids_BT = torch.zeros((len(part), longest), dtype=torch.long)
    index, target = [], []
    for b, row in enumerate(part):
        ids_BT[b, : len(row.ids) - 1] = torch.tensor(row.ids[:-1])
        index += range(b * longest + row.start - 1, b * longest + len(row.ids) - 1)
        target += row.ids[row.start :]
    return ids_BT, torch.tensor(index), torch.tensor(target)


def _logits(model: PreTrainedModel, ids_BT: Tensor, index_N: Tensor) -> Tensor:
    """[N, V] logits at some places of the flattened batch; the head computes no others."""
    hidden_BTD = model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state
    return cast(nn.Module, model.get_output_embeddings())(hidden_BTD.flatten(0, 1)[index_N])


def _rollouts(folder: Path, step: int) -> Path:
    return folder / "rollouts" / f"{step:04}.parquet"


def _keep(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, kept: Path, record: dict[str, Any]) -> None:
    """Write a snapshot in float16, as the zoo's models are stored; it is complete or does not exist."""
    if kept.exists():
        return
    unfinished = kept.with_name(f".{kept.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    copy.deepcopy(model).half().save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    (unfinished / "training.json").write_text(json.dumps(record, indent=1))
    unfinished.replace(kept)
