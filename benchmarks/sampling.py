"""How fast is sampling? `sample` against transformers' own `generate`, on an embedded model and public checkpoints.

`python -m benchmarks.sampling [--only embedded|smollm2|gemma ...] [--rounds N]` gives both the same prompts, settings
(temperature 1, whole vocabulary) and batch size, prompts sorted by length for both. `generate` returns ids only;
`sample` also records the log-probability of every token and gives each passage a random stream of its own. The embedded
model does it twice, the second time with no token that ends a response, so that nothing is gained by rows that leave
the batch.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

from benchmarks.models import everyday_prompts, real
from benchmarks.side_by_side import Jobs, Table, main, race
from enaction import zoo
from enaction.passages import Prompt
from enaction.reader import Reader
from enaction.sampling import sample

ABOUT = (
    "Sampling: `enaction.sampling.sample`, which records log-probabilities, against `model.generate`. CPU time on one "
    "thread, ways by turns, speed as ratio of medians (2 = twice as fast); extra MiB is the peak beyond what the "
    "process held. `zoo:ash-rl` has 0.9M parameters."
)


def compare(
    reader: Reader, prompts: list[Prompt], per_prompt: int, batch_size: int, rounds: int, new_tokens: int = 64
) -> Table:
    """One batch size: generate, ours, and, where it differs, ours with the model's own forward in place of
    `enaction.reader.lean`."""
    model: Any = reader.model
    tokenizer: Any = copy.deepcopy(reader.tokenizer)
    tokenizer.padding_side = "left"
    template = reader.tokenizer.chat_template
    texts = [
        tokenizer.apply_chat_template(
            [dict(m) for m in p.messages], tokenize=False, add_generation_prompt=True, chat_template=template
        )
        if template
        else p.messages[0]["content"] + "\n"
        for p in prompts
        for _ in range(per_prompt)
    ]

    def generate() -> None:
        encoded = tokenizer(texts, add_special_tokens=not template)["input_ids"]
        assert isinstance(encoded, list)
        ordered = sorted(encoded, key=len)
        for begin in range(0, len(ordered), batch_size):
            batch = tokenizer.pad({"input_ids": ordered[begin : begin + batch_size]}, return_tensors="pt")
            model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                do_sample=True,
                top_k=0,
                top_p=1.0,
                temperature=1.0,
                max_new_tokens=new_tokens,
            )

    def ours() -> None:
        sample(reader, prompts, n=per_prompt, max_new_tokens=new_tokens, batch_size=batch_size)

    def ours_plain() -> None:
        can = reader._steps.can_be_lean
        reader._steps.can_be_lean = False
        ours()
        reader._steps.can_be_lean = can

    note = f"{len(texts)} responses of at most {new_tokens} tokens, batch {batch_size}."
    ways = {"transformers generate": generate, "enaction": ours}
    if reader._steps.can_be_lean:
        ways["enaction, the model's own forward"] = ours_plain
    return race(f"{reader.name}: batch {batch_size}", note, ways, rounds)


def endless(reader: Reader) -> Reader:
    """The same model with nothing that ends a response."""
    tokenizer, model = copy.deepcopy(reader.tokenizer), copy.deepcopy(reader.model)
    tokenizer.eos_token = tokenizer.chat_template = None
    assert model.generation_config is not None
    model.generation_config.eos_token_id = None
    return Reader(model, tokenizer, name=f"{reader.name}, nothing ends a response")


def embedded(rounds: int) -> list[Table]:
    """An embedded model of 0.9M parameters."""
    reader = Reader.load("zoo:ash-rl")
    prompts = zoo.prompts()[:64]
    return [
        compare(reader, prompts, 2, 32, rounds),
        compare(reader, prompts, 4, 256, rounds),
        compare(endless(reader), prompts, 2, 32, rounds),
        compare(endless(reader), prompts, 4, 256, rounds),
    ]


def public(name: str, prompts: int, new_tokens: int, rounds: int) -> list[Table]:
    """One batch with a public checkpoint, if it is there."""
    reader = real(name)
    return [] if reader is None else [compare(reader, everyday_prompts(prompts), 1, prompts, rounds, new_tokens)]


# With the rounds that make each a matter of minutes.
JOBS: Jobs = {
    "embedded": (embedded, 5),
    "smollm2": (partial(public, "SmolLM2 135M", 32, 32), 3),
    "gemma": (partial(public, "Gemma 3 270M", 16, 16), 3),
}

if __name__ == "__main__":
    main("sampling", ABOUT, JOBS, __doc__)
