"""Tiny random models and tokenizers, built in memory in milliseconds, for tests of the instrument.

Weights are drawn wide enough that predictions differ from uniform and depend on the context: with the usual
initialisation a random model is flat, and a test on it could not tell one position from the next.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GenerationConfig,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from enaction.passages import Message, Passage, Prompt

_TEXT = """a the one old small red fox bird river stone garden house night day song walked found saw made kept lost then
and but so because under over near into why what how tell me about please story of in it was very"""
WORDS = _TEXT.split()
SPECIAL = ["<unk>", "<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"]

# A plain template: special role tokens, content as it is, an end-of-turn token behind every turn.
CHATML = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
# Strips every content, as Llama 3 and Gemma do, and puts line breaks around it.
STRIPPING = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] | trim + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
# Adds a system prompt of its own where there is none, as SmolLM2 and Qwen 2.5 do.
DEFAULT_SYSTEM = "{% if messages[0]['role'] != 'system' %}{{ '<|system|>tell me a story<|end|>' }}{% endif %}" + CHATML
# Puts today's date in, as Llama 3.1 does, and BOS, as most templates do.
DATED = "{{ '<s>' }}{{ '<|system|>' + strftime_now('%d %b %Y') + '<|end|>' }}" + CHATML
# A blank between the generation prompt and the content, and EOS behind it, as Llama 2 does.
BLANK = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '<s>[ ' + m['content'] | trim + ' ]' }}"
    "{% else %}{{ ' ' + m['content'] | trim + ' </s>' }}{% endif %}{% endfor %}"
)
# An empty block of thoughts in finished turns that the generation prompt does not have, as Qwen 3 does.
THINKING = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}"
    "{% if m['role'] == 'assistant' %}{{ '<think></think>\n' }}{% endif %}{{ m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def word_tokenizer(chat_template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """One token a word, white space dropped, no BOS."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _wrap(backend, chat_template)


def byte_tokenizer(
    chat_template: str | None = CHATML, *, bos: bool = False, blank_lines: bool = False
) -> PreTrainedTokenizerFast:
    """Byte-level BPE trained on a few sentences; tokens begin with their blank and can straddle any boundary.

    With `blank_lines`, two line breaks are one token, but where a word follows two of one, as in GPT-2.
    """
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    corpus = [" ".join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))]
    if blank_lines:
        corpus += ["\n\n"] * 100
    backend.train_from_iterator(corpus, trainer)
    if bos:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    return _wrap(backend, chat_template)


def marked(tokenizer: PreTrainedTokenizerFast, names: Sequence[str], **how: bool) -> PreTrainedTokenizerFast:
    """The tokenizer with these added tokens marked otherwise: `rstrip=True` (Phi 3), `special=False` (a fine-tune)."""
    given = json.loads(tokenizer.backend_tokenizer.to_str())
    for token in given["added_tokens"]:
        token.update(how if token["content"] in names else {})
    backend = Tokenizer.from_str(json.dumps(given))
    made = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    made.chat_template = tokenizer.chat_template
    return made


def _wrap(backend: Tokenizer, chat_template: str | None) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    # Special in the tokenizer's own eyes too, so that text does not split them.
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL[4:]})
    tokenizer.chat_template = chat_template
    return tokenizer


def llama(vocabulary: int, *, seed: int = 0, context: int = 256, tied: bool = True) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=tied,
        initializer_range=0.3,
        bos_token_id=2,
        eos_token_id=3,
    )
    return LlamaForCausalLM(config).eval()


def gemma2(vocabulary: int, *, seed: int = 0) -> Gemma2ForCausalLM:
    """Soft-capped logits, and sliding windows short enough to matter."""
    torch.manual_seed(seed)
    config = Gemma2Config(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=256,
        sliding_window=12,
        final_logit_softcapping=3.0,
        initializer_range=0.3,
        bos_token_id=2,
        eos_token_id=3,
    )
    return Gemma2ForCausalLM(config).eval()


def longrope(vocabulary: int, *, switch: int = 64, seed: int = 0) -> Phi3ForCausalLM:
    """Rotates all positions otherwise in texts of more than `switch` tokens, as Phi 3 at 128k does behind 4,096."""
    torch.manual_seed(seed)
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [1.5, 4.0, 8.0, 16.0],
        "original_max_position_embeddings": switch,
        "factor": 8.0,
        "partial_rotary_factor": 1.0,
    }
    config = Phi3Config(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        original_max_position_embeddings=switch,
        rope_parameters=rope,
        initializer_range=0.3,
        tie_word_embeddings=True,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=1,
    )
    return Phi3ForCausalLM(config).eval()


def neox(vocabulary: int, *, seed: int = 0) -> GPTNeoXForCausalLM:
    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        initializer_range=0.3,
        bos_token_id=2,
        eos_token_id=3,
    )
    return GPTNeoXForCausalLM(config).eval()


def save(folder: Path, names: Iterable[str]) -> None:
    """Put random Llamas of one word tokenizer, each with weights of its own, into `folder/NAME`."""
    tokenizer = word_tokenizer()
    for seed, name in enumerate(names):
        llama(len(tokenizer), seed=seed).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


def save_prompts(path: Path, words: Iterable[str], first: int = 0) -> None:
    """Write a file of prompts, one a word, called `p0` and so on, from `first`."""
    lines = [json.dumps({"id": f"p{i}", "prompt": f"tell me about the {word}"}) for i, word in enumerate(words, first)]
    path.write_text("\n".join(lines))


def user(content: str) -> tuple[Message, ...]:
    return (Message(role="user", content=content),)


def plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Messages as transformers annotates them."""
    return [{"role": m["role"], "content": m["content"]} for m in messages]


def prompt(content: str = "tell me a story", name: str = "p0") -> Prompt:
    return Prompt(name, user(content))


def passage(
    response: str = "the old fox walked over the river",
    content: str = "tell me a story",
    *,
    ended: bool | None = True,
    name: str = "x0",
) -> Passage:
    """A passage of a person: text only."""
    return Passage(name, f"p-{content}", user(content), response, "person", ended=ended)


def reference(model: PreTrainedModel, ids: tuple[int, ...], start: int, stop: int) -> torch.Tensor:
    """The oracle: one sequence at a time, no padding, statistics in float64. [4, N]: surprisal, H, V, rank.

    Row by row and by the definitions, so that it shares no step with the reader but the model itself.
    """
    columns = []
    with torch.inference_mode():
        logits_TV = model(input_ids=torch.tensor([ids])).logits[0].double()
    for t in range(start, stop):
        logprob_V = torch.log_softmax(logits_TV[t - 1], 0)
        p_V = logprob_V.exp()
        entropy = -(p_V * logprob_V).sum()
        varentropy = (p_V * (-logprob_V - entropy) ** 2).sum()
        rank = (logits_TV[t - 1] > logits_TV[t - 1, ids[t]]).sum()
        columns.append(torch.stack([-logprob_V[ids[t]], entropy, varentropy, rank.double()]))
    return torch.stack(columns, 1)


class LogitsOnly(nn.Module):
    """What a model needs so that `Reader` reads it by its own logits; subclasses give `forward(input_ids)`."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.config, self.generation_config = LlamaConfig(vocab_size=vocabulary), GenerationConfig()

    @property
    def base_model(self) -> nn.Module:
        return self

    @property
    def device(self) -> torch.device:
        return self.weight.device

    def get_output_embeddings(self) -> None:
        return None


def write_gguf(
    path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, *, pre: str | None = None
) -> None:
    """A Llama with a byte tokenizer as a GGUF file, with the name of its pre-tokenizer; needs the package gguf."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(len(tokenizer))
    writer.add_tokenizer_model("gpt2")
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if token in SPECIAL else 1 for token, _ in vocabulary])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(3)
    writer.add_chat_template(CHATML)
    names = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    parts = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    for layer in range(config.num_hidden_layers):
        for theirs, ours in parts.items():
            names[f"model.layers.{layer}.{theirs}.weight"] = f"blk.{layer}.{ours}.weight"
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for theirs, weight in model.state_dict().items():
        array = weight.numpy()
        for part, count in heads.items():
            if part in names[theirs]:
                # llama.cpp interleaves the two halves of each rotary head.
                array = array.reshape(count, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        writer.add_tensor(names[theirs], np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
