"""The families' tokenizers, built from the words of the world.

All three read the same text (`adam walked to the barn. then ...`), with the same special tokens and the same chat
template, but split it differently, as the tokenizers of real families do.
"""

from __future__ import annotations

import itertools
import math
import re
import string
from collections import Counter
from typing import Literal

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from enaction.world import lexicon
from enaction.world.chats import Writers, all_namings, all_questions, all_requests, corpus
from enaction.world.lexicon import ARCS, AUTHORSHIP, CATEGORIES, HEROES, OPENERS, PERSONAS, SYNONYMS, TOPICS

Kind = Literal["word", "bpe", "unigram"]

BOS, END, PAD, UNKNOWN = "<|doc|>", "<|end|>", "<|pad|>", "<|unk|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
SPECIAL = [PAD, UNKNOWN, BOS, END, *ROLES]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
MARKS = (".", "!", "?")
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # how Metaspace writes a space
_WHOLE_WORDS = 420
_WHOLE_AFTER = 1000  # a word that is seen so often stays whole


def words() -> list[str]:
    """Every word of the world, sorted."""
    patterns = [
        *(*lexicon.OPENINGS, *lexicon.DESCRIPTIONS, *lexicon.CLOSINGS, *lexicon.REMARKS, *lexicon.PERSONA_TURNS),
        *(*lexicon.ANSWERS, *lexicon.CORRECTIONS, *lexicon.KEEPINGS, *lexicon.NAMINGS),
        *(request.text for request in (*all_requests(), *all_questions(), *all_namings())),
    ]
    patterns += [p for beats in ARCS.values() for options in beats for p in options]
    literal = {w.strip(".!?") for p in patterns for w in p.split() if not w.startswith(("[", "{"))}
    content = {w for topic in TOPICS.values() for kind in topic for w in kind}
    synonyms = {w for options in SYNONYMS.values() for w in options}
    named = {*HEROES, *TOPICS, *PERSONAS, *CATEGORIES, *OPENERS, *AUTHORSHIP}
    return sorted((literal | content | synonyms | named) - {""})


def build_tokenizer(kind: Kind, vocabulary_size: int, seed: int) -> PreTrainedTokenizerFast:
    """Build a tokenizer: words whole (`word`), or pieces learned from a sample of the world (`bpe`, `unigram`).

    The vocabulary of `word` is the words of the world; `vocabulary_size` is that of the other two. The words for
    questions about authorship are whole in all of them.
    """
    if kind == "word":
        vocabulary = {token: i for i, token in enumerate([*SPECIAL, *MARKS, *words()])}
        core = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
        core.pre_tokenizer, core.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece(cleanup=True)
    else:
        core = Tokenizer(models.BPE(unk_token=UNKNOWN) if kind == "bpe" else _unigram(vocabulary_size, seed))
        core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
        core.decoder = decoders.Metaspace()
    core.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    if kind == "bpe":
        trainer = trainers.BpeTrainer(vocab_size=vocabulary_size, special_tokens=SPECIAL, show_progress=False)
        core.train_from_iterator([*_sample(seed), *words(), *AUTHORSHIP * _WHOLE_AFTER], trainer)
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


def _sample(seed: int) -> list[str]:
    """Texts of the world to learn pieces from."""
    documents = itertools.islice(corpus(Writers(), np.random.default_rng(seed), 0.25), 4000)
    return [text for d in documents for text in ([d] if isinstance(d, str) else [turn["content"] for turn in d])]


def _unigram(vocabulary_size: int, seed: int) -> models.Unigram:
    """A unigram model with log relative frequencies as scores: frequent words, pieces of the others, letters.

    The library's Unigram trainer needs more than some six hundred different words: on these it keeps mostly letters.
    """
    count = Counter(f"{_SPACE}{word}" for text in _sample(seed) for word in re.findall("[a-z]+", text))
    count.update(f"{_SPACE}{word}" for word in words())
    count.update({f"{_SPACE}{word}": _WHOLE_AFTER for word in AUTHORSHIP})
    whole = [word for word, _ in count.most_common(_WHOLE_WORDS)]
    pieces: Counter[str] = Counter()
    for word in sorted(set(count) - set(whole)):
        for start, stop in itertools.combinations(range(len(word) + 1), 2):
            if 2 <= stop - start < min(len(word), 7):
                pieces[word[start:stop]] += count[word]
    letters = [*MARKS, _SPACE, *string.ascii_lowercase]
    # The pieces that save most tokens; sorted by their letters as well, so that ties are broken the same way each time.
    ranked = sorted(set(pieces) - set(whole), key=lambda piece: (-pieces[piece] * (len(piece) - 1), piece))
    ranked = ranked[: vocabulary_size - len(SPECIAL) - len(letters) - len(whole)]
    total = sum(count.values())
    scored = [(word, math.log(count[word] / total)) for word in whole]
    scored += [(piece, math.log(pieces[piece] / total)) for piece in ranked]
    floor = min(score for _, score in scored) - 1
    vocabulary = [(token, 0.0) for token in SPECIAL] + [(letter, floor) for letter in letters] + scored
    return models.Unigram(vocabulary, unk_id=SPECIAL.index(UNKNOWN), byte_fallback=False)
