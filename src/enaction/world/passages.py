"""Fresh text of the embedded world as passages: text that no model wrote, for requests that the world understands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from enaction.passages import Passage, Prompt
from enaction.words import WORLD
from enaction.world.chats import Writers, all_requests
from enaction.world.stories import tell


def world_passages(prompts: Sequence[Prompt], per_prompt: int, seed: int) -> list[Passage]:
    """`per_prompt` passages for each prompt, each by one of the world's own writers, on the prompt's topic."""
    topics = {request.text: request.topic for request in all_requests()}
    writers, rng = Writers(), np.random.default_rng([seed, 404])
    return [
        Passage(
            id=f"{prompt.id}/{k}",
            prompt_id=prompt.id,
            prompt=prompt.messages,
            response=tell(writers.of_text(rng), rng, topic=topics.get(prompt.messages[-1]["content"])).text,
            author=WORLD,
            ended=True,
        )
        for prompt in prompts
        for k in range(per_prompt)
    ]
