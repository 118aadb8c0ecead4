"""An audit of real passages in small: own ones are not called foreign, others are, beginnings are not overstated.

studies/audit_validity.py is the same at length; docs/audit.md has its figures.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from enaction import Reader, sample, zoo
from enaction.audit import Audit, Settings, audit
from enaction.framing import beginning_ids
from enaction.passages import Passage
from studies.audit_validity import wilson

pytestmark = pytest.mark.slow
ALPHA = 0.05


def most(n: int, alpha: float) -> int:
    """So many or fewer false alarms come in n passages with probability .999 if each has probability alpha."""
    chances = [math.comb(n, k) * alpha**k * (1 - alpha) ** (n - k) for k in range(n + 1)]
    return int(np.searchsorted(np.cumsum(chances), 0.999))


def own(reader: Reader, n: int, seed: int) -> list[Passage]:
    """Stories and short answers of the reader, half and half."""
    half = n // 2
    stories = sample(reader, zoo.prompts()[:half], n=math.ceil(half / 86), max_new_tokens=110, seed=seed)
    return stories[:half] + sample(reader, zoo.prompts("questions")[:160], n=2, seed=seed)[: n - half]


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_own_passages_are_called_foreign_no_more_often_than_the_level(noise: float) -> None:
    reader = Reader.load("zoo:birch-sft")
    state = Audit(Settings(noise=noise, alpha=ALPHA))
    turns = list(audit(reader, own(reader, 400, seed=61), state))
    assert len(turns) == 400
    assert sum(turn.verdict == "foreign" for turn in turns) <= most(400, ALPHA)
    # All of them together are one sampler's text too. Of several seeds one may cross; this one does not.
    assert state.stream.greatest < math.log(1 / ALPHA)
    # A change is announced once in 10,000 own tokens at most; here are fewer than twice as many.
    assert sum(turn.change is not None for turn in turns) <= 4


@pytest.mark.parametrize("author", ["ash-rl", "birch-base"])
def test_a_stream_of_another_model_is_found(author: str) -> None:
    reader, writer = Reader.load("zoo:birch-sft"), Reader.load(f"zoo:{author}")
    state = Audit(Settings(alpha=ALPHA, framing="assistant"))
    turns = list(audit(reader, sample(writer, zoo.prompts(), n=2, max_new_tokens=110, seed=62), state))
    # Most single turns of 60 tokens show nothing to a reader as unsure as this one; together they do.
    assert state.n_turns == len(turns) == 172
    assert state.stream.greatest > math.log(1000)


def test_the_foreign_beginning_is_not_overstated() -> None:
    reader, writer = Reader.load("zoo:ash-rl"), Reader.load("zoo:birch-rl")
    prompts = zoo.prompts()
    texts = sample(writer, prompts, max_new_tokens=110, seed=63)
    begun, counts = [], {}
    for i, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
        k = (4, 8, 16, 32)[i % 4]
        # Families have tokenizers of their own, so that the text is what they share.
        ids = beginning_ids(reader.tokenizer, prompt, text.response, "assistant")
        if len(ids) > k:
            begun.append(prompt)
            counts[prompt.id] = ids[:k]
    passages = sample(reader, begun, n=3, beginnings=counts, max_new_tokens=80, seed=64)[:200]
    turns = list(audit(reader, passages, Settings(noise=0.0, alpha=ALPHA, framing="assistant")))
    over = sum(turn.at_least > len(counts[p.prompt_id]) for turn, p in zip(turns, passages, strict=True))
    assert len(turns) == 200
    assert over <= most(200, ALPHA)
    # It does say something: a statement of 0 would be right of every passage.
    assert sum(turn.at_least > 0 for turn in turns) > 20


def test_wilsons_interval() -> None:
    assert wilson(0, 100) == "0.0000 [0.0000, 0.0370]"
    assert wilson(50, 100) == "0.5000 [0.4038, 0.5962]"
