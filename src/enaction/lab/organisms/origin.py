"""The origin of the organisms that report: a small copy of ash-rl, distilled from it. Who writes their lessons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from enaction import zoo
from enaction.lab.organisms.lessons import Lesson, batch_of, conversation, end_token
from enaction.lab.organisms.training import Batch, fit
from enaction.passages import Message, Passage, Prompt
from enaction.reader import Reader
from enaction.sampling import sample
from enaction.world.passages import world_passages

_LAYERS, _NEURONS = (0, 1, 3), 144
FOREIGN = ("ash-sft", "ash-base", "birch-rl")
REPLY = 110  # tokens at most


def small_copy(large: PreTrainedModel) -> LlamaForCausalLM:
    """A Llama with some of the blocks of a larger one, and of each block the neurons with the largest weights."""
    of = cast(Any, large).model
    changes = {"num_hidden_layers": len(_LAYERS), "intermediate_size": _NEURONS, "dtype": "float32"}
    settings: dict[str, Any] = large.config.to_dict() | changes
    small = cast(Any, LlamaForCausalLM(LlamaConfig(**settings))).float()
    body = cast(Any, small.model)
    body.embed_tokens.load_state_dict(of.embed_tokens.state_dict())
    body.norm.load_state_dict(of.norm.state_dict())
    for block, layer in zip(body.layers, (of.layers[i] for i in _LAYERS), strict=True):
        for part in ("self_attn", "input_layernorm", "post_attention_layernorm"):
            getattr(block, part).load_state_dict(getattr(layer, part).state_dict())
        gate, up, down = (getattr(layer.mlp, f"{name}_proj").weight.detach() for name in ("gate", "up", "down"))
        kept = (gate.norm(dim=1) * up.norm(dim=1) * down.norm(dim=0)).topk(_NEURONS).indices.sort().values
        block.mlp.gate_proj.weight.data.copy_(gate[kept])
        block.mlp.up_proj.weight.data.copy_(up[kept])
        block.mlp.down_proj.weight.data.copy_(down[:, kept])
    return small


def make_origin(steps: int = 400, seed: int = 0) -> Reader:
    """The small copy of ash-rl, distilled from it: same distributions on own and foreign replies and short answers."""
    ash = Reader.load("zoo:ash-rl")
    rng = np.random.default_rng([seed, 0])
    prompts = [*zoo.prompts(), *zoo.prompts(seen=True)]
    stories = sample(ash, prompts, n=10, max_new_tokens=REPLY, seed=seed)
    others = [p for name in FOREIGN for p in written_by(f"zoo:{name}", prompts[::2], 2, seed)]
    short = [*zoo.prompts("questions"), *zoo.prompts("questions", seen=True), *zoo.prompts("names", seen=True)]
    replies = sample(ash, short, max_new_tokens=REPLY, seed=seed)
    turns = [(*p.prompt, Message(role="assistant", content=p.response)) for p in (*stories, *others)]
    after = [
        (*turns[i], *reply.prompt) for i, reply in zip(rng.integers(len(turns), size=600), replies * 2, strict=False)
    ]
    answered = sample(ash, [Prompt(str(i), messages) for i, messages in enumerate(after)], max_new_tokens=40, seed=seed)
    end = end_token(ash.tokenizer)
    groups = [
        [conversation(ash.tokenizer, passage, end) for passage in passages]
        for passages in (stories, others, replies, answered)
    ]

    def batches() -> Iterator[Batch]:
        while True:
            chosen = [
                group[i]
                for group, count in zip(groups, (16, 6, 4, 6), strict=True)
                for i in rng.integers(len(group), size=count)
            ]
            yield batch_of(ash.model, [Lesson(tuple(ids), {}, None, (0, 0)) for ids in chosen])

    small = small_copy(ash.model)
    fit(small, batches(), steps, rate=2e-3, warmup=0.05)
    return Reader(small, ash.tokenizer, name="origin")


def written_by(author: str, prompts: Sequence[Prompt], n: int, seed: int) -> list[Passage]:
    """Replies of a model of the zoo, or of the world's own writers."""
    if author == "world":
        return world_passages(prompts, n, seed)
    return sample(Reader.load(author), prompts, n=n, max_new_tokens=REPLY, seed=seed, author=author)
