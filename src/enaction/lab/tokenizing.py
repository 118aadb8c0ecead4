"""The families' tokenizers, built from the words of the world.

All three read the same text (`adam walked to the barn. then ...`), with the same special tokens and the same chat
template, but cut it differently, as the tokenizers of real families do.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from enaction.lab.chats import Writers, all_requests, plain_document
from enaction.lab.lexicon import (
    ARCS,
    CLOSINGS,
    DESCRIPTIONS,
    HEROES,
    OPEN_REQUESTS,
    OPENERS,
    OPENINGS,
    REMARKS,
    SYNONYMS,
    TOPIC_REQUESTS,
    TOPICS,
)

Kind = Literal["word", "bpe", "wordpiece"]

BOS, END, PAD, UNKNOWN = "<|doc|>", "<|end|>", "<|pad|>", "<|unk|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
SPECIAL = [PAD, UNKNOWN, BOS, END, *ROLES]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
MARKS = (".", "!", "?")


def words() -> list[str]:
    """Every word of the world, sorted."""
    patterns = [*OPENINGS, *DESCRIPTIONS, *CLOSINGS, *OPEN_REQUESTS, *TOPIC_REQUESTS, *REMARKS]
    patterns += [p for beats in ARCS.values() for options in beats for p in options]
    literal = {w.strip(".!?") for p in patterns for w in p.split() if not w.startswith(("[", "{"))}
    content = {w for topic in TOPICS.values() for kind in topic for w in kind}
    synonyms = {w for options in SYNONYMS.values() for w in options}
    return sorted(literal | content | synonyms | set(HEROES) | set(TOPICS) | (set(OPENERS) - {""}))


def build_tokenizer(kind: Kind, vocabulary_size: int, seed: int) -> PreTrainedTokenizerFast:
    """Build a tokenizer: words whole (`word`), or pieces learned from a sample of the world (`bpe`, `wordpiece`)."""
    if kind == "word":
        vocabulary = {token: i for i, token in enumerate([*SPECIAL, *MARKS, *words()])}
        core, trainer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN)), None
    elif kind == "bpe":
        core = Tokenizer(models.BPE(unk_token=UNKNOWN))
        trainer = trainers.BpeTrainer(vocab_size=vocabulary_size, special_tokens=SPECIAL, show_progress=False)
    else:
        core = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
        trainer = trainers.WordPieceTrainer(vocab_size=vocabulary_size, special_tokens=SPECIAL, show_progress=False)
    if kind == "bpe":
        core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
        core.decoder = decoders.Metaspace()
    else:
        core.pre_tokenizer = pre_tokenizers.Whitespace()
        core.decoder = decoders.WordPiece(cleanup=True)
    core.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    if trainer is not None:
        rng, writers = np.random.default_rng(seed), Writers()
        sample = [plain_document(writers, rng) for _ in range(4000)] + [request.text for request in all_requests()]
        core.train_from_iterator([*sample, *words()], trainer)
    core.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, core.token_to_id(BOS))]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        unk_token=UNKNOWN,
        additional_special_tokens=list(ROLES),
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer
