"""Watch a model begin to know its own words while TRL fine-tunes it; needs `pip install 'enaction[lab]'`.

python examples/watch_training.py
"""

from __future__ import annotations

import tempfile

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from enaction import Reader, sample, zoo
from enaction.integrations.trl import EnactionCallback


def main() -> None:
    """Train a base on replies of an SFT model; another family's replies are the foreign text."""
    held_out, asked = zoo.prompts()[:40], zoo.prompts()[40:88]
    lessons = sample(Reader.load("zoo:ash-sft"), asked, max_new_tokens=64)
    foreign = sample(Reader.load("zoo:birch-sft"), held_out, max_new_tokens=64)
    base = Reader.load("zoo:ash-base")
    rows = [{"prompt": p.prompt, "completion": [{"role": "assistant", "content": p.response}]} for p in lessons]
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            folder, max_steps=40, learning_rate=1e-3, logging_steps=10, use_cpu=True, bf16=False, report_to="none"
        )
        trainer = SFTTrainer(
            model=base.model, args=settings, train_dataset=Dataset.from_list(rows), processing_class=base.tokenizer
        )
        watch = EnactionCallback(held_out, foreign, every_steps=10, time_share=1).attach(trainer)
        trainer.train()
    for entry in watch.history:
        print(f"step {entry['step']:3}: {entry['verdict']}")


if __name__ == "__main__":
    main()
