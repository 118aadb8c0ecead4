"""Every causal language model of the installed transformers, tiny, from its configuration and random weights.

Configurations are shrunk by what their fields are called, not model by model: most names are shared between families.
What the names do not say stands in `OVERRIDES`. Every kind of layer that a default configuration has is kept, windows
are short enough to matter, and output transforms that defaults leave neutral are set. Weights are redrawn wide: with
the usual initialisation a random model is nearly flat, and on a flat distribution every mistake looks right.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCABULARY = 96

# What a field is worth in a tiny model, by its name; the first pattern that fits decides.
_SIZES: list[tuple[str, int]] = [
    (r"(image|audio|video|vision|boi|eoi|boa|eoa|placeholder|mask|decoder_start|cls|sep|unk).*(_id|_index)", 90),
    (r"pad_(token_id|index)", 1),
    (r"bos_(token_id|index)", 2),
    (r"eos_(token_id|index)", 3),
    (r"type_vocab_size|task_type_vocab_size|segment_types|prompt_types|.*_id|.*_index|.*_idx", -1),
    (r".*vocab_size.*|codebook_size|.*_vocab|vocab_offset", VOCABULARY),
    (r"(num_)?(max_)?(position_embeddings|.*max_position_embeddings|seq_len|model_max_length|n_positions|n_ctx)", 128),
    (r"context_length|max_(source|target)_positions|max_seq_len", 128),
    (r"(num_experts_per_tok(en)?|moe_top_?k|moe_k|num_selected_experts)", 2),
    (r"(num_(local_)?experts|n_routed_experts|moe_num_experts|zero_expert_num)", 4),
    (r"n_group|num_expert_group", 2),
    (r"topk_group", 1),
    (r"(num_key_value_heads|.*_num_key_value_heads|num_kv_heads|kv_n_heads|num_query_groups|linear_num_key_heads)", 2),
    (r"index_n_heads", 16),  # a sum over few heads is often exactly 0, and the choice of the largest then arbitrary
    (r"(.*num_.*heads|n_heads?|.*attention_heads|mamba_n_heads|n_mamba_heads)", 4),
    (r"qk_head_dim", 16),
    (r"(.*head_dim|d_head|dim_head|kv_channels|d_kv|attention_head_size|.*headdim|mamba_d_head|rotary_dim)", 8),
    (r"(.*lora_rank|.*_rank|d_rel)", 8),
    (r"(.*intermediate_size.*|.*ffn_dim|ffn_hidden_size|expert_ffn_hidden_size|d_ff|dff|dim_ff|d_inner|mlp_dim)", 48),
    (r"(feed_forward_size)", 48),
    (r"(.*hidden_size.*|d_model|n_embd|emb_dim|embed_dim|embedding_dim|dim_model.*|.*embedding_size|lru_width)", 32),
    (r"(word_embed_proj_dim|out_hidden_size|.*_output_dim|.*_input_dim|adapter_(in|out)_dim|ple_embed_dim)", 32),
    (r"(.*sliding_window(_size)?|.*window_size|local_attention(_window_len)?|attention_chunk_size)", 8),
    (r"(chunk_size|mamba_chunk_size|block_size|.*attn_chunk_length)", 16),
    (r"(mamba_d_state|state_size|ssm_state_size)", 8),
    (r"(n_groups|mamba_n_?groups)", 1),
    (r"(time_step_rank|mamba_dt_rank)", 4),
    (r"index_topk.*", 4),
    (r"query_pre_attn_scalar", 8),
    (r"(image_size|crop_size)", 32),
    (r"(first_k_dense_replace|num_dense_layers)", 1),
    (r"num_filters|base_channels|nemo_conv_channels|ext_pw_out_channel|depthwise_separable_out_channel", 16),
]
# Wide weights where a class draws its own, and output transforms that defaults often leave at nothing.
_SETTINGS = {
    "initializer_range": 0.2,
    "init_std": 0.2,
    "initializer_std": 0.2,
    "final_logit_softcapping": 3.0,
    "logits_soft_cap": 3.0,
    "output_logit_soft_cap": 3.0,
    "logit_softcap": 3.0,
    "logit_scale": 0.3,
    "logits_scaling": 4.0,
    "lm_head_multiplier": 0.5,
    "logits_mup_width_multiplier": 2.0,
    "dim_model_base": 16,
}
# Sizes that some configurations declare as None and then miss.
_NEEDED = ("head_dim", "num_key_value_heads")
_LAYERS = re.compile(r"(num_hidden_layers|n_layers?|num_layers|.*(encoder|decoder)_layers|depth|num_blocks)")


def _layers(*kinds: str) -> dict[str, Any]:
    return {"layer_types": list(kinds), "num_hidden_layers": len(kinds)}


_QWEN4 = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 8,
    "indexer_compress_ratio": 4,
    "ngram_vocab_size_base": 64,
    "split_ngram_parts": 4,
}
# What the names alone do not say. A nested dict goes to the sub-configuration of that name.
OVERRIDES: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1], "num_hidden_layers": 2},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10_000.0}}},
    "dbrx": {"attn_config": {"rope_theta": 10_000.0, "clip_qkv": 8.0}},
    "deepseek_v2": {"num_experts_per_tok": 2, "n_group": 2, "topk_group": 1},
    "dots1": {"moe_intermediate_size": 16, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "dots3_note_text": {"num_attention_heads": 4, "num_key_value_heads": 4, "v_head_dim": 8, "qk_rope_head_dim": 8},
    "gemma3n_text": {"num_kv_shared_layers": 2, "num_hidden_layers": 10},
    "gemma4_text": {"head_dim": 8, "global_head_dim": 16, "num_key_value_heads": 2},
    "gemma4_unified_text": {"head_dim": 8, "global_head_dim": 16, "num_key_value_heads": 2},
    "gpt_neo": {"num_layers": 2, "attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": _layers("linear_attention", "full_attention"),
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2_moe": _layers("conv", "full_attention", "conv"),
    "mamba2": {"num_heads": 8},
    "moshi": {"audio_encoder_config": {"codebook_size": 64}},
    "qwen4_exp": {"text_config": _QWEN4},
    "qwen4_exp_text": _QWEN4,
    "reformer": {"axial_pos_shape": [16, 8], "axial_pos_embds_dim": [16, 16], "is_decoder": True, "hash_seed": 0},
    "xlm": {"causal": True},
    "xlstm": {"qk_dim_factor": 1.0},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
        "num_hidden_layers": 4,
    },
    "zamba2": {
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
        "num_hidden_layers": 4,
    },
}


def model_types() -> list[str]:
    """Keys of the causal-LM classes of the installed transformers."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def tiny_config(model_type: str) -> PreTrainedConfig:
    """A configuration of this type with every size small, every kind of layer kept, and special ids in range."""
    kind = CONFIG_MAPPING[model_type]
    overrides = OVERRIDES.get(model_type, {})
    return _shrunk(kind, overrides)


def tiny_model(model_type: str, *, seed: int = 0) -> PreTrainedModel:
    """A model of this type in float32 with wide random weights, in evaluation mode."""
    torch.manual_seed(seed)
    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]
    kind: type[PreTrainedModel] = getattr(transformers, name)
    model = kind(_for_class(tiny_config(model_type), kind))
    _redraw(model)
    nn.Module.to(model, torch.float32)
    return model.eval()


def _for_class(config: PreTrainedConfig, kind: type[PreTrainedModel]) -> PreTrainedConfig:
    """Some classes take the text part of a configuration of their family, as AutoModelForCausalLM gives it to them."""
    wanted = kind.config_class
    text = getattr(config, "text_config", None) or getattr(config, "decoder", None)
    return text if wanted is not None and not isinstance(config, wanted) and isinstance(text, wanted) else config


def _shrunk(kind: type[PreTrainedConfig], overrides: dict[str, Any]) -> PreTrainedConfig:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            default: PreTrainedConfig | None = kind()
        except Exception:  # a default that its own validator refuses; the overrides must do
            default = None
        given: dict[str, Any] = {}
        names = {f.name for f in dataclasses.fields(kind)}
        for f in dataclasses.fields(kind):
            declared = f.default if f.default is not dataclasses.MISSING else None
            value = _value(default, f.name, declared)
            if f.name in overrides and not isinstance(value, PreTrainedConfig):
                continue
            if isinstance(value, PreTrainedConfig):
                given[f.name] = _shrunk(type(value), overrides.get(f.name, {}))
            elif isinstance(declared, bool) or not isinstance(value, int | float) or isinstance(value, bool):
                if value is None and f.name in _NEEDED:
                    given[f.name] = _size(f.name)
            elif _LAYERS.fullmatch(f.name):
                given[f.name] = min(value, _prefix_of_all_kinds(default))
            elif isinstance(declared, int) and (size := _size(f.name)) is not None:
                given[f.name] = size if re.fullmatch(".*(_id|_index)", f.name) else min(value, size)
        if "is_decoder" in names:
            given["is_decoder"] = True
        if "kv_lora_rank" in given and "num_key_value_heads" in given:
            given["num_key_value_heads"] = given["num_attention_heads"]
        given |= {name: value for name, value in _SETTINGS.items() if name in names}
        plain = {k: v for k, v in overrides.items() if not isinstance(_value(default, k, None), PreTrainedConfig)}
        return kind(**given | plain)


def _value(config: PreTrainedConfig | None, name: str, declared: Any) -> Any:
    try:
        return declared if config is None else getattr(config, name, declared)
    except Exception:  # sizes that vary over the layers have no one value
        return declared


def _size(name: str) -> int | None:
    for pattern, size in _SIZES:
        if re.fullmatch(pattern, name):
            return size if size >= 0 else None
    return None


def _prefix_of_all_kinds(config: PreTrainedConfig | None) -> int:
    """Layers to keep: the shortest beginning that has each kind of layer, at least two."""
    longest = 2
    for value in vars(config or {}).values():
        if isinstance(value, list | tuple) and len(value) > 2 and all(isinstance(v, str | int) for v in value):
            longest = max(longest, *(value.index(kind) + 1 for kind in set(value)) if len(set(value)) < 5 else (2,))
    return min(longest, 12)


def _redraw(model: PreTrainedModel) -> None:
    """Wide weights and biases that are not zero, so that predictions differ and a forgotten bias shows."""
    generator = torch.Generator().manual_seed(0)

    def draw(weight: Tensor, spread: float) -> None:
        weight.normal_(0.0, spread, generator=generator)

    output = model.get_output_embeddings()
    with torch.no_grad():
        for module in model.modules():
            weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
            if not isinstance(weight, nn.Parameter) or weight.dim() != 2:
                continue
            if isinstance(module, nn.Embedding) or module is output or weight.shape[0] == VOCABULARY:
                draw(weight, 0.4)
            else:
                draw(weight, 1.2 * weight.shape[1] ** -0.5)
            if isinstance(bias, nn.Parameter):
                draw(bias, 0.2)
        for name, weight in model.named_parameters():
            if (weight.dim() == 3 and "expert" in name) or not weight.isfinite().all():
                draw(weight, 0.2)
        for name, buffer in model.named_buffers():
            if "final_logits_bias" in name:
                draw(buffer, 0.3)
