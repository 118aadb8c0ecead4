"""The models that reading and sampling are timed on, beside the embedded ones.

A Llama of 12 layers with random weights, because time does not ask what a model knows, and the two public checkpoints
that `make real` installs, where they are there.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from enaction.passages import Prompt, read_prompts
from enaction.reader import Reader

ROOT = Path(__file__).parents[1]
REAL = {
    "SmolLM2 135M": ROOT / ".models" / "SmolLM2-135M-Instruct.Q4_1.gguf",
    "Gemma 3 270M": ROOT / ".models" / "gemma-3-270m.Q4_K_M.gguf",
}
VOCABULARY = 49_152


def words_of(vocabulary: int) -> list[str]:
    """A word for each id; of one width, so that no word is the beginning of another."""
    return [f"w{i:05}" for i in range(vocabulary)]


def twelve_layers() -> Reader:
    """12 layers, hidden 576, 9 heads with 3 of keys, V = 49,152, tied: 71M parameters; one token a word."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=12,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    words = words_of(VOCABULARY)
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[0]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"unk_token": words[0], "pad_token": words[0], "bos_token": words[1], "eos_token": words[2]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    return Reader(LlamaForCausalLM(config).eval(), tokenizer, name="12 layers, random weights")


def real(name: str) -> Reader | None:
    """One of `REAL`; None, and a line that says so, where its file is not there."""
    if not REAL[name].exists():
        print(f"{name} is not there and left out: `make real` installs it")
        return None
    return Reader.load(str(REAL[name]), name=name)


def everyday_prompts(count: int) -> list[Prompt]:
    """The first so many of the prompts that studies/real.yaml uses."""
    return read_prompts(ROOT / "studies" / "prompts" / "everyday.jsonl")[:count]


def prose(count: int) -> list[str]:
    """English that is in the repository and stays as it is: paragraphs of 100 to 400 characters of LICENSE."""
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", (ROOT / "LICENSE").read_text())]
    return [text for text in paragraphs if 100 <= len(text) <= 400][:count]
