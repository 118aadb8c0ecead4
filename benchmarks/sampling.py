"""How fast is sampling? `sample` against transformers' own `generate`, on the embedded model `zoo:ash-rl`.

`python -m benchmarks.sampling` gives both the same prompts, settings (temperature 1, whole vocabulary, at most 64 new
tokens) and batch size, prompts sorted by length for both. `generate` returns ids only; `sample` also records the
log-probability of every token and gives each passage a random stream of its own. Once responses end as the model ends
them, and once no token ends them, so that nothing is gained by rows that leave the batch.
"""

from __future__ import annotations

import argparse
import copy
from typing import Any

import torch

from benchmarks.side_by_side import Table, publish, race
from enaction import zoo
from enaction.passages import Prompt
from enaction.reader import Reader
from enaction.sampling import sample

NEW_TOKENS = 64
ABOUT = (
    "Sampling with `zoo:ash-rl` (0.9M parameters): `enaction.sampling.sample`, which records log-probabilities, "
    "against `model.generate`. CPU time on one thread, ways by turns, speed as ratio of medians (2 = twice as fast)."
)


def compare(reader: Reader, prompts: list[Prompt], per_prompt: int, batch_size: int, rounds: int, title: str) -> Table:
    """One batch size: generate, ours, and ours with the model's own forward in place of `enaction.reader.lean`."""
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
                max_new_tokens=NEW_TOKENS,
            )

    def ours() -> None:
        sample(reader, prompts, n=per_prompt, max_new_tokens=NEW_TOKENS, batch_size=batch_size)

    def ours_plain() -> None:
        can = reader._can_be_lean
        reader._can_be_lean = False
        ours()
        reader._can_be_lean = can

    note = f"{len(texts)} responses of at most {NEW_TOKENS} tokens, batch {batch_size}."
    ways = {"transformers generate": generate, "enaction": ours, "enaction, the model's own forward": ours_plain}
    return race(title, note, ways, rounds)


def endless(reader: Reader) -> Reader:
    """The same model with nothing that ends a response."""
    tokenizer, model = copy.deepcopy(reader.tokenizer), copy.deepcopy(reader.model)
    tokenizer.eos_token = tokenizer.chat_template = None
    assert model.generation_config is not None
    model.generation_config.eos_token_id = None
    return Reader(model, tokenizer, name="endless")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    reader = Reader.load("zoo:ash-rl")
    prompts = zoo.prompts()[:64]
    tables = [
        compare(reader, prompts, 2, 32, rounds, "batch 32"),
        compare(reader, prompts, 4, 256, rounds, "batch 256"),
        compare(endless(reader), prompts, 2, 32, rounds, "batch 32, nothing ends a response"),
        compare(endless(reader), prompts, 4, 256, rounds, "batch 256, nothing ends a response"),
    ]
    publish("sampling", ABOUT, tables)


if __name__ == "__main__":
    main()
