"""A rollout: one sampled answer with the numbers that a sampler and a trainer kept about its tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from enaction.passages import Message


@dataclass(frozen=True)
class Span:
    """Tokens `start` to `stop` of a rollout, sampled with one version of the weights, as its sampler says."""

    version: str
    start: int
    stop: int


@dataclass(frozen=True)
class Rollout:
    """One answer of a batch, as files of trainers and samplers have it; what a file does not have is None.

    All arrays have one element for each of `token_ids`, NaN where the file has no number for it.

    Attributes:
        id: unique in the file.
        cluster: what is resampled together: the prompt, or the rollout itself where prompts are not told apart.
        prompt: the conversation before the answer.
        prompt_ids: token ids of the prompt as the sampler had them, template included.
        response: the text of the answer.
        token_ids: of the answer; with `mask`, also of what was put between its turns (tool results, padding).
        mask: bool [N], which of `token_ids` the trainer takes for sampled by the policy.
        sampler_logprobs: float64 [N], log-probability that the sampler reported, nats.
        trainer_logprobs: float64 [N], the same token under the trainer's forward pass, nats.
        entropies: float64 [N], entropy that was logged for the token, nats.
        versions: which weights sampled which tokens.
        temperature, top_p, top_k: of the sampler, where the file says.
        logged: means that the trainer logged for this rollout's batch, by name (`entropy`, `kl`, ...).
    """

    id: str
    cluster: str
    prompt: tuple[Message, ...] | None = None
    prompt_ids: tuple[int, ...] | None = None
    response: str | None = None
    token_ids: tuple[int, ...] | None = None
    mask: np.ndarray | None = None
    sampler_logprobs: np.ndarray | None = None
    trainer_logprobs: np.ndarray | None = None
    entropies: np.ndarray | None = None
    versions: tuple[Span, ...] = ()
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    logged: dict[str, float] | None = None
