"""Chat templates in the manner of the common families, written for these tests, and tokenizers of the common kinds.

Each template has what its family is known for: white space stripped or added, a system prompt of its own, today's date,
roles that it refuses, a block of thoughts. They are shorter than the real ones, which also serve tools and images.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from dataclasses import dataclass

from tiny import WORDS
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Family:
    """A template and what goes with it.

    Attributes:
        template: Jinja.
        bos, eos: as the tokenizer names them; bos may be None.
        special: further special tokens.
        end: the token that ends an assistant's turn.
        strips: whether the outer white space of an assistant's words is taken off.
        takes_system: whether a system prompt is taken.
        opening: what the context of a lone user message begins with.
    """

    template: str
    bos: str | None
    eos: str
    end: str
    opening: str
    special: tuple[str, ...] = ()
    strips: bool = False
    takes_system: bool = True


_CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
)
# The last turn shows its thoughts, or an empty block of them, and earlier turns show none.
_THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
    "{% set parts = m['content'].split('</think>') %}{% if loop.last %}"
    "{{ '<think>\n' + (parts[0].split('<think>')[-1].strip('\n') if parts | length > 1 else '') + '\n</think>\n\n' }}"
    "{% endif %}{{ parts[-1].lstrip('\n') }}{% else %}{{ m['content'] }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_IM = ("<|im_start|>", "<|im_end|>")

FAMILIES = {
    "llama 2": Family(
        "{% set ns = namespace(system='') %}"
        "{% for m in messages %}{% if m['role'] == 'system' %}"
        "{% set ns.system = '<<SYS>>\n' + m['content'] + '\n<</SYS>>\n\n' %}"
        "{% elif m['role'] == 'user' %}"
        "{{ bos_token + '[INST] ' + ns.system + m['content'] | trim + ' [/INST]' }}{% set ns.system = '' %}"
        "{% else %}{{ ' ' + m['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}",
        "<s>", "</s>", "</s>", "<s>[INST] ", strips=True,
    ),
    "llama 3": Family(
        "{{ bos_token }}{% set first = messages[0]['content'] | trim if messages[0]['role'] == 'system' else '' %}"
        "{{ '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: ' "
        "+ (strftime_now('%d %b %Y') if strftime_now is defined else '26 Jul 2024') + '\n\n' + first + '<|eot_id|>' }}"
        "{% for m in messages if m['role'] != 'system' %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n'"
        " + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
        "<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>",
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
        "Today Date: 26 Jul 2024\n\n<|eot_id|>",
        special=("<|start_header_id|>", "<|end_header_id|>"), strips=True,
    ),
    "qwen 2.5": Family(
        _DEFAULT_SYSTEM + _CHATML, None, "<|im_end|>", "<|im_end|>",
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n", special=_IM,
    ),
    "qwen 3": Family(
        _THINKING, None, "<|im_end|>", "<|im_end|>", "<|im_start|>user\n", special=_IM,
    ),
    "gemma": Family(
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
        "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + m['content'] | trim "
        "+ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
        "<bos>", "<eos>", "<end_of_turn>", "<bos><start_of_turn>user\n",
        special=("<start_of_turn>", "<end_of_turn>"), strips=True, takes_system=False,
    ),
    "mistral": Family(
        "{% set system = messages[0]['content'] + '\n\n' if messages[0]['role'] == 'system' else '' %}"
        "{% set turns = messages | rejectattr('role', 'equalto', 'system') | list %}"
        "{% set last = (turns | selectattr('role', 'equalto', 'user') | list)[-1] %}{{ bos_token }}"
        "{% for m in turns %}{% if m['role'] == 'user' %}"
        "{{ '[INST] ' + (system if m == last else '') + m['content'] + '[/INST]' }}"
        "{% else %}{{ ' ' + m['content'] | trim + eos_token }}{% endif %}{% endfor %}",
        "<s>", "</s>", "</s>", "<s>[INST] ", special=("[INST]", "[/INST]"), strips=True,
    ),
    "phi": Family(
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
        "{{ '<|assistant|>\n' if add_generation_prompt else eos_token }}",
        "<s>", "<|endoftext|>", "<|end|>", "<|user|>\n", special=("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    ),
    "chatml": Family(_CHATML, "<|im_start|>", "<|im_end|>", "<|im_end|>", "<|im_start|>user\n", special=_IM),
    # Its role names are no special tokens, and the generation prompt lacks the line break of a finished turn.
    "zephyr": Family(
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
        "<s>", "</s>", "</s>", "<|user|>\n",
    ),
    # Its generation prompt opens the thoughts; finished turns show what follows them.
    "deepseek": Family(
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}"
        "{% elif m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}"
        "{% else %}{{ '<｜Assistant｜>' + m['content'].split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}",
        "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>",
        "<｜begin▁of▁sentence｜><｜User｜>",
        special=("<｜User｜>", "<｜Assistant｜>"),
    ),
    "olmo": Family(
        "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] }}"
        "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% if not loop.last %}{{ '\n' }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '\n<|assistant|>\n' }}{% endif %}",
        "<|endoftext|>", "<|endoftext|>", "<|endoftext|>", "<|endoftext|><|user|>\n",
    ),
}  # fmt: skip

_CORPUS = [
    *(" ".join(WORDS[i:] + WORDS[:i]) for i in range(0, len(WORDS), 3)),
    "Sure! Here are three ideas:\n1. Walk by the river.\n2. Read.\n\nYou are a helpful assistant.",
    "system user assistant model [INST] [/INST] Today Date: 26 Jul 2024\n\n",
]


def byte_level(family: Family, *, bos: bool) -> PreTrainedTokenizerFast:
    """GPT-2, Llama 3, Qwen: BPE over bytes."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(_CORPUS, trainer)
    return _finished(backend, family, bos)


def sentencepiece(family: Family, *, bos: bool) -> PreTrainedTokenizerFast:
    """Llama 2, Mistral: BPE over whole text with a dummy blank in front, unknown characters as bytes."""
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    # Merges must not run over words in so small a corpus.
    backend.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    backend.train_from_iterator(_CORPUS, trainers.BpeTrainer(vocab_size=300, show_progress=False))
    state = json.loads(backend.to_str())
    vocabulary = state["model"]["vocab"]
    for i in range(256):
        vocabulary.setdefault(f"<0x{i:02X}>", len(vocabulary))
    state["model"] |= {"byte_fallback": True, "fuse_unk": True}
    state["pre_tokenizer"] = None
    backend = Tokenizer.from_str(json.dumps(state))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _finished(backend, family, bos)


def metaspace(family: Family, *, bos: bool) -> PreTrainedTokenizerFast:
    """T5, Gemma in other words: Unigram behind a metaspace, which is put before the first word of a text only."""
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    alphabet = sorted(set(string.printable + "èûé—東京🙂▁"))
    trainer = trainers.UnigramTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(_CORPUS, trainer)
    return _finished(backend, family, bos)


TOKENIZERS: dict[str, Callable[..., PreTrainedTokenizerFast]] = {
    "byte-level": byte_level,
    "sentencepiece": sentencepiece,
    "metaspace": metaspace,
}


def _finished(backend: Tokenizer, family: Family, bos: bool) -> PreTrainedTokenizerFast:
    names = dict.fromkeys(name for name in (family.bos, family.eos, family.end, *family.special) if name)
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    # Qwen 3 and DeepSeek hold the marks of thoughts as tokens that are not special.
    backend.add_tokens([AddedToken(name, special=False, normalized=False) for name in ("<think>", "</think>")])
    if bos and family.bos is not None:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A", special_tokens=[(family.bos, backend.token_to_id(family.bos))]
        )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=family.bos, eos_token=family.eos)
    tokenizer.chat_template = family.template
    return tokenizer
