"""Can this model be read exactly? Facts about it, and tests that it has to pass.

The model is tested on what it will be used for: it writes a few passages and reads them back. What it reads in its own
text has to agree with the model's own forward, must not depend on what shares a batch, and has to be as surprising
as it expected to be (`enaction.stats.identity`). A wrong template, a tokenizer of another model, a wrong temperature or
a broken cache makes one of these tests fail; which one it is shows where to look.

Nothing here raises for a model that fails: a failure is a result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from enaction.check.facts import facts
from enaction.check.report import CheckReport, Verdict
from enaction.check.trials import (
    agreement,
    bos,
    causality,
    company,
    drift,
    identity,
    parity,
    reread,
    round_trip,
    switch,
    vocabulary,
)
from enaction.errors import ModelError
from enaction.framing import frame
from enaction.passages import Message, Prompt
from enaction.reader.reader import Reader
from enaction.reader.warnings import warnings_of
from enaction.sampling import sample

__all__ = ["CheckReport", "Verdict", "check", "everyday_prompts", "facts"]

MAX_NEW_TOKENS = 48
BATCH = 8  # small, so that the progress moves on a large model

EVERYDAY = (
    "How do I keep bread fresh for longer?",
    "Tell me a short story about a lighthouse keeper.",
    "What is the difference between a comet and an asteroid?",
    "Write a polite note asking a neighbour to keep the noise down.",
    "Why do leaves change colour in autumn?",
    "Give me three ideas for a rainy Sunday.",
    "Explain how a bicycle stays upright.",
    "What should I pack for a weekend in the mountains?",
    "Describe a market in the early morning.",
    "How can I learn to cook without recipes?",
    "Who was Ada Lovelace, and why is she remembered?",
    "Write four lines of verse about the sea.",
    "What makes a good question in a job interview?",
    "How does a refrigerator keep things cold?",
    "Recommend a way to remember people's names.",
    "What happens when I stir sugar into tea?",
)


def everyday_prompts() -> list[Prompt]:
    """Sixteen ordinary requests, for models that have no prompts of their own."""
    return [Prompt(f"everyday-{i:02}", (Message(role="user", content=text),)) for i, text in enumerate(EVERYDAY)]


def check(
    reader: Reader,
    prompts: Sequence[Prompt] | None = None,
    *,
    framing: Literal["assistant", "none"] | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Put a reader to the test on text that it writes to each prompt.

    Args:
        reader: the model in question.
        prompts: `everyday_prompts` by default; some 16, for the identity to detect a wrong distribution.
        framing: `assistant` where there is a chat template, else `none`.
        max_new_tokens: of each sample.
        seed: of sampling.
        progress: called with steps done and their total: samples written, then tests.

    Raises:
        FramingError: `assistant` without a chat template, or prompts that do not fit into the context.
    """
    prompts = list(prompts or everyday_prompts())
    framing = framing or ("assistant" if reader.has_template else "none")
    done, total = 0, len(prompts) + 6

    def advance(to: int) -> None:
        nonlocal done
        done = to
        if progress is not None:
            progress(done, total)

    fits = vocabulary(reader)
    warnings = warnings_of(reader, framing)
    if fits.passed is False:
        # Sampled ids would mean nothing to the tokenizer.
        return CheckReport(reader.name, framing, facts(reader, framing), (fits,), (), warnings)
    try:
        samples = sample(
            reader,
            prompts,
            max_new_tokens=max_new_tokens,
            framing=framing,
            seed=seed,
            batch_size=BATCH,
            progress=lambda n, _: advance(n),
        )
    except ModelError as error:
        unwritten = Verdict("it writes", False, str(error))
        return CheckReport(reader.name, framing, facts(reader, framing), (fits, unwritten), (), warnings)
    framed = [frame(reader.tokenizer, passage, framing) for passage in samples]
    together = reader.score(framed)
    advance(done + 1)
    tests = [
        lambda: [parity(reader), agreement(reader, framed, together)],
        lambda: [causality(reader, framed), company(reader, framed), *switch(reader, framed)],
        lambda: [identity(together), reread(reader, samples, together)],
        lambda: [fits, bos(reader, prompts, framing)],
        lambda: [round_trip(reader, samples, framing), drift(reader, samples, framing)],
    ]
    outcomes: list[Verdict] = []
    for step in tests:
        outcomes += step()
        advance(done + 1)
    return CheckReport(reader.name, framing, facts(reader, framing), tuple(outcomes), tuple(samples), warnings)
