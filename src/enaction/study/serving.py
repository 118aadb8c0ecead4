"""A study's model whose texts a server writes, from the same weights: many times faster on the machines that have them.

That they are the same weights is seen at once: the log-probabilities that the server reports are held against those of
the model that is loaded here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from enaction.errors import StudyError
from enaction.framing import frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enaction.passages import Passage, Prompt
    from enaction.reader import Reader

# Of so many passages the tokens may differ by so much in the mean, nats: numerics differ by .01 to .05, other models
# mostly by more.
_COMPARED, _TOO_MUCH = 8, 0.1


def sample_there(
    reader: Reader, server: str, prompts: Sequence[Prompt], *, concurrency: int, **settings: Any
) -> list[Passage]:
    """Passages that a server's model writes, in place of `enaction.sampling.sample` of the same model.

    Args:
        reader: the model as it is loaded here, whose tokenizer and template are used.
        server: `openai:URL#MODEL`.
        prompts: what is answered.
        concurrency: requests at a time.
        settings: of `enaction.endpoint.sample`.

    Raises:
        StudyError: the server's model has other weights.
        UserError: whatever keeps an endpoint from being used.
    """
    from enaction.endpoint import EndpointReader, Limits, sample

    if not prompts:
        return []
    author = EndpointReader.open(
        server, tokenizer=reader.tokenizer, name=reader.name, limits=Limits(concurrency=concurrency)
    )
    passages = sample(author, prompts, **settings)
    is_plain = settings["temperature"] == settings["top_p"] == 1
    compared = [p for p in passages if is_plain and p.logprobs is not None][:_COMPARED]
    if compared:
        framing = compared[0].sampling["framing"]
        framed = [frame(reader.tokenizer, p, framing, separator=settings["separator"]) for p in compared]
        here_N = -np.concatenate([stats.surprisal for stats in reader.score(framed)])
        there_N = np.concatenate([np.array(p.logprobs) for p in compared])
        difference = float(np.abs(here_N - there_N).mean()) if len(here_N) == len(there_N) else np.inf
        if not difference <= _TOO_MUCH:
            raise StudyError(
                f"server: {server} does not serve the weights of {reader.name}: log-probabilities differ by "
                f"{difference:.2g} nats a token; serve the model that the study names"
            )
    return passages
