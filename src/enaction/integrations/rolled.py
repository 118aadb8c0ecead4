"""The rollouts of a GRPO trainer: taken out of its batch, compared with the model that trains on them, and written.

TRL keeps the batch that it generated last in `_buffered_inputs`: padded tensors, prompts padded on the left, answers
on the right. Everything else in here is plain data.

Axes: N tokens of an answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from enaction.framing import Framed
from enaction.integrations.watching import Numbers, identity_numbers, pooled
from enaction.reader import Reader, Wanted

# What is used of a batch of TRL's.
_COLUMNS = (
    *("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "tool_mask"),
    *("sampling_per_token_logps", "old_per_token_logps", "ref_per_token_logps"),
)


@dataclass(frozen=True)
class Rolled:
    """One answer of the batch; what the trainer did not keep is None.

    Attributes:
        prompt_ids, completion_ids: as sampled, without padding.
        mask: bool [N], the tokens that the loss counts.
        sampler, trainer, reference: float64 [N], log-probability of each token, nats, as the sampler reported it, under
            the trainer's weights that sampled it, and under the reference model.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    mask: np.ndarray
    sampler: np.ndarray | None
    trainer: np.ndarray | None
    reference: np.ndarray | None


@dataclass(frozen=True)
class Drawn:
    """How a trainer samples."""

    temperature: float
    top_p: float
    top_k: int | None
    is_bent: bool  # by something else, such as min_p, or some answers were left out for what was drawn

    @property
    def is_full(self) -> bool:
        """Whether every token could have been drawn, so that the identity holds."""
        return self.top_p == 1 and self.top_k is None and not self.is_bent


def is_batch(batch: Any) -> bool:
    """Whether this is what `rolled` knows, a batch of answers as GRPO and RLOO keep it."""
    return isinstance(batch, list) and bool(batch) and {"completion_mask", "prompt_mask"} <= set(batch[0])


def drawn(args: Any) -> Drawn:
    """The sampling settings in a trainer's arguments."""
    bends = (args.min_p, args.repetition_penalty not in (None, 1), args.generation_kwargs)
    bends += (getattr(args, "mask_truncated_completions", False),)
    return Drawn(float(args.temperature), float(args.top_p), int(args.top_k) if args.top_k else None, any(bends))


def rolled(batches: Sequence[Mapping[str, Any]]) -> list[Rolled]:
    """The answers of a trainer's batch, in its order; those that are masked whole are left out."""
    found = []
    for batch in batches:
        columns = {name: batch[name].detach().cpu() for name in _COLUMNS if name in batch}
        columns = {k: (v.double() if v.is_floating_point() else v).numpy() for k, v in columns.items()}
        counted = columns["completion_mask"] * columns.get("tool_mask", 1)
        for i in range(len(columns["prompt_ids"])):
            there = columns["completion_mask"][i].astype(bool)
            if not there.any():
                continue

            def kept(name: str, i: int = i, there: np.ndarray = there, columns: dict = columns) -> np.ndarray | None:
                return columns[name][i][there].astype(np.float64) if name in columns else None

            found.append(
                Rolled(
                    prompt_ids=tuple(columns["prompt_ids"][i][columns["prompt_mask"][i].astype(bool)].tolist()),
                    completion_ids=tuple(columns["completion_ids"][i][there].tolist()),
                    mask=counted[i][there].astype(bool),
                    sampler=kept("sampling_per_token_logps"),
                    trainer=kept("old_per_token_logps"),
                    reference=kept("ref_per_token_logps"),
                )
            )
    return found


def compared(
    reader: Reader, answers: Sequence[Rolled], how: Drawn, *, is_fresh: bool, noise: float
) -> tuple[Numbers, list[Rolled]]:
    """How sampler and trainer agree on answers, and the answers with the trainer's log-probabilities filled in.

    Args:
        reader: the model in training.
        answers: of its batch.
        how: they were sampled.
        is_fresh: the model has the weights that sampled them; only then is it read.
        noise: budget, the standard deviation of log q - log p that numerics may cause, nats.
    """
    numbers: Numbers = {}
    if is_fresh:
        ids = [(a.prompt_ids, a.prompt_ids + a.completion_ids) for a in answers]
        framed = [
            Framed(whole, len(before), len(whole), False, is_own=True, passage_id=f"rollout {i}")
            for i, (before, whole) in enumerate(ids)
        ]
        is_tempered = how.temperature != 1
        scores = reader.score(framed, wanted=Wanted(temperature=how.temperature) if is_tempered else None)
        if how.is_full and all(a.mask.all() for a in answers):
            numbers |= identity_numbers(scores, "rollout_identity", tempered=is_tempered)
        read = [(s.sampled_surprisal if is_tempered else s.surprisal) for s in scores]
        answers = [
            replace(a, trainer=-np.asarray(s, np.float64)) if a.trainer is None else a
            for a, s in zip(answers, read, strict=True)
        ]
    for name, first, second in (
        ("kl_sampler", [a.sampler for a in answers], [a.trainer for a in answers]),
        ("kl_reference", [a.trainer for a in answers], [a.reference for a in answers]),
    ):
        apart = _apart(first, second, [a.mask for a in answers])
        if apart is None:
            continue
        numbers |= pooled(name, apart, [str(i) for i in range(len(apart))])
        if name == "kl_sampler":
            all_N = np.concatenate(apart)
            numbers["kl_sampler_sd"] = float(all_N.std())
            numbers["kl_sampler_outside"] = float((np.abs(np.expm1(-all_N)) > 0.1).mean())
            numbers["kl_sampler_budget"] = noise**2 / 2
            numbers["is_truncated"] = float(not how.is_full)
    return numbers, list(answers)


def _apart(
    first: Sequence[np.ndarray | None], second: Sequence[np.ndarray | None], masks: Sequence[np.ndarray]
) -> list[np.ndarray] | None:
    """first - second at the counted tokens of each answer; None where one of them is missing."""
    if any(x is None for x in (*first, *second)):
        return None
    pairs = zip(first, second, masks, strict=True)
    apart = [(x - y)[mask] for x, y, mask in pairs if x is not None and y is not None]
    # vLLM reports NaN for a token that it has no number for.
    return [d[np.isfinite(d)] for d in apart]


def append(path: Path, answers: Sequence[Rolled], how: Drawn, step: int) -> None:
    """Write answers at the end of a JSONL file, by the names that TRL has for them; nats."""
    with path.open("a", encoding="utf-8") as file:
        for i, a in enumerate(answers):
            row = {
                "id": f"{step}/{i}",
                "step": step,
                "prompt_ids": a.prompt_ids,
                "completion_ids": a.completion_ids,
                "completion_mask": a.mask.astype(int).tolist(),
                "sampling_per_token_logps": _list(a.sampler),
                "old_per_token_logps": _list(a.trainer),
                "ref_per_token_logps": _list(a.reference),
                "temperature": how.temperature,
                "top_p": how.top_p,
                "top_k": how.top_k,
            }
            file.write(json.dumps({k: v for k, v in row.items() if v is not None}) + "\n")


def _list(value_N: np.ndarray | None) -> list[float | None] | None:
    return None if value_N is None else [float(v) if np.isfinite(v) else None for v in value_N]
