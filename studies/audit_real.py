"""How often an audit finds text that is not SmolLM2's, beside other scores: quantised copies, other runs, human text.

    python -m studies.audit_real run runs/audit-real       # an hour of one core; goes on where it was
    python -m studies.audit_real tables runs/audit-real    # Markdown, from whatever is there

The reader is SmolLM2-135M-Instruct after RL (`zoo:smollm2-rl-a`), in float32; the second model is the one as shipped.
Its Q8_0 and Q4_0 copies have the weights that GGUF files of these types give back (quantised block by block by the
`gguf` package). Human text is paragraphs of the language reference that Python's standard library carries, as answers
to questions about it. `make real` installs what the model needs.
"""

from __future__ import annotations

import json
import pydoc_data.topics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, dequantize, quantize

from enaction import Reader, sample
from enaction.passages import Message, Passage, Prompt
from studies.audit_power import measured, tables_of

MODEL, SECOND = "smollm2-rl-a", "smollm2-sft"
OWN, FOREIGN = 5, 2
LONGEST, SEED, WORDS = 64, 5100, 50
PROMPTS = Path(__file__).parent / "prompts" / "everyday.jsonl"


def prompts() -> list[Prompt]:
    """Everyday questions."""
    lines = [json.loads(line) for line in PROMPTS.read_text().splitlines()]
    return [Prompt(line["id"], tuple(line["prompt"])) for line in lines]


def human(tokenizer: Any) -> list[Passage]:
    """Paragraphs of Python's language reference, each the answer to a question about its topic."""
    found = []
    for topic, text in pydoc_data.topics.topics.items():
        for i, paragraph in enumerate(text.split("\n\n")):
            words = paragraph.split()
            # Prose: no examples, lists and grammars, which are indented or begin with a sign.
            if len(words) < WORDS or not paragraph[0].isalpha() or "::" in paragraph:
                continue
            ids = tokenizer(" ".join(words), add_special_tokens=False)["input_ids"][:LONGEST]
            asked = Message(role="user", content=f"What does the Python language reference say about '{topic}'?")
            found.append(Passage(f"{topic}-{i}", topic, (asked,), tokenizer.decode(ids), "human"))
    return found


def quantised(kind: GGMLQuantizationType) -> Reader:
    """The reader with its matrices as a GGUF file of this type gives them back."""
    reader = Reader.load(f"zoo:{MODEL}")
    with torch.no_grad():
        for weight in reader.model.parameters():
            if weight.ndim == 2:
                weight.copy_(torch.from_numpy(dequantize(quantize(weight.numpy(), kind), kind)))
    return reader


def sources(reader: Reader, second: Reader) -> Iterator[tuple[str, Callable[[], list[Passage]]]]:
    """Kinds of text, each with how it is made."""

    def by(make: Callable[[], Reader], n: int = FOREIGN, seed: int = SEED, **settings: Any) -> Callable[..., Any]:
        given: dict[str, Any] = {"max_new_tokens": LONGEST, "seed": seed, "batch_size": 64, "framing": "assistant"}
        return lambda: sample(make(), prompts(), n=n, **(given | settings))

    yield "own", by(lambda: reader, OWN, SEED + 1)
    yield "Q8_0 copy", by(lambda: quantised(GGMLQuantizationType.Q8_0))
    yield "Q4_0 copy", by(lambda: quantised(GGMLQuantizationType.Q4_0))
    yield "as shipped", by(lambda: second)
    yield "RL, 45 of 60 steps", by(lambda: Reader.load("zoo:smollm2-rl-a45"))
    yield "another run of RL", by(lambda: Reader.load("zoo:smollm2-rl-d"))
    yield "human text", lambda: human(reader.tokenizer)
    yield "without template", by(lambda: reader, framing="none")
    for temperature in (0.7, 1.3):
        yield f"temperature {temperature}", by(lambda: reader, temperature=temperature)
    yield "top-p 0.9", by(lambda: reader, top_p=0.9)


def run(folder: Path) -> None:
    """Each source, stored when it is done."""
    reader, second = Reader.load(f"zoo:{MODEL}"), Reader.load(f"zoo:{SECOND}")
    for name, make in sources(reader, second):
        target = folder / f"{name}.npz"
        if target.exists():
            continue
        passages = make()
        np.savez_compressed(target, **measured(passages, reader, second, SECOND, token_budget=2048))
        print(target.name, len(passages), flush=True)


if __name__ == "__main__":
    what, where = sys.argv[1], Path(sys.argv[2])
    where.mkdir(parents=True, exist_ok=True)
    if what == "run":
        run(where)
    else:
        stored = {path.stem: dict(np.load(path)) for path in where.glob("*.npz")}
        tables_of(MODEL, stored, [*stored])
