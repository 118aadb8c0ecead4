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
    topics = requested_topics(prompts)
    writers, rng = Writers(), np.random.default_rng([seed, 404])
    return [
        Passage(
            id=f"{prompt.id}/{k}",
            prompt_id=prompt.id,
            prompt=prompt.messages,
            response=tell(writers.of_text(rng), rng, topic=topics[prompt.id]).text,
            author=WORLD,
            ended=True,
        )
        for prompt in prompts
        for k in range(per_prompt)
    ]


def requested_topics(prompts: Sequence[Prompt]) -> dict[str, str | None]:
    """Prompt id -> the topic that its request names; None where it leaves the topic open, or is not of the world."""
    topics = {request.text: request.topic for request in all_requests()}
    return {prompt.id: topics.get(prompt.messages[-1]["content"]) for prompt in prompts}
