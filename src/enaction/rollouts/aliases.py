"""The names under which trainers and samplers keep the same thing, and the one that a row means.

Two columns of one meaning may agree (a file that keeps both names), and one may be null; where they differ, the row is
refused with the option that settles it: nothing is guessed between two columns of numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from enaction.errors import PassageError

# What a `Rollout` is made of -> the names that hold it, the likeliest first.
ALIASES: dict[str, tuple[str, ...]] = {
    "token_ids": (
        *("token_ids", "completion_ids", "generation_token_ids", "output_ids", "response_ids", "completion_token_ids"),
        *("response_token_ids", "output_token_ids", "responses", "tokens"),
    ),
    "prompt_ids": ("prompt_ids", "prompt_token_ids", "prompt_tokens", "prompts"),
    "input_ids": ("input_ids", "full_token_ids"),
    "sampler_logprobs": (
        *("logprobs", "rollout_log_probs", "generation_log_probs", "rollout_logprobs", "sampling_per_token_logps"),
        *("output_token_logprobs", "maybe_logprobs", "completion_logprobs", "sampling_logprobs", "sampler_logprobs"),
        *("inference_logprobs", "generation_logprobs", "behavior_logprobs", "response_logprobs", "token_logprobs"),
    ),
    "trainer_logprobs": (
        *("old_log_probs", "trainer_logprobs", "old_per_token_logps", "per_token_logps", "policy_log_probs"),
        *("trainer_log_probs", "old_logprobs", "train_log_probs", "train_logprobs", "log_probs", "prev_logprobs"),
    ),
    "mask": (
        *("loss_mask", "response_mask", "completion_mask", "trainable_mask", "trainable", "action_mask", "mask"),
        *("assistant_mask", "assistant_masks", "token_loss_mask", "token_mask", "loss_masks", "response_masks"),
    ),
    "attention_mask": ("attention_mask",),
    "entropies": ("entropies", "token_entropies", "per_token_entropy", "entropys", "rollout_entropies"),
    "versions": ("weight_versions", "versions", "weight_version", "policy_version", "model_version"),
    "prompt": ("prompt", "messages", "input", "question", "query"),
    "response": ("response", "completion", "output", "text", "answer"),
    "response_length": ("response_length", "completion_length", "response_lengths"),
    "id": ("id", "rollout_id", "sample_id", "request_id", "trajectory_id", "custom_id", "index"),
    "cluster": ("cluster", "prompt_id", "prompt_hash", "group_id", "group_index", "uid", "problem_id", "task_id"),
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "top_k": ("top_k",),
}
# What a user may name a column for.
NAMED = tuple(name for name in ALIASES if name != "attention_mask")
# One after the other: the first that a row has is meant, whatever the others hold.
_ORDERED = {"prompt", "response", "id", "cluster", "versions", "token_ids"}
# Means of a batch that trainers write into the rows of it.
LOGGED = (
    *("entropy", "mean_entropy", "kl", "approx_kl", "ppo_kl", "rollout_kl", "k3_kl", "rollout_probs_diff_mean"),
    *("rollout_probs_diff_std", "logprob_diff_mean", "token_mult_prob_error", "importance_ratio_mean"),
)


def require_columns(columns: Mapping[str, str]) -> None:
    """Fail unless every column is named for something that is read.

    Raises:
        PassageError: another name.
    """
    for name in columns:
        if name not in NAMED:
            raise PassageError(f"no column can be named for '{name}'; name one for {', '.join(NAMED)}")


def meant(record: Mapping[str, Any], columns: Mapping[str, str], where: str) -> dict[str, Any]:
    """What a row holds, by the names of `ALIASES`; nothing for what it does not hold.

    Args:
        record: a row.
        columns: names of `ALIASES` -> the column to take for it, over every alias.
        where: the row is, for messages.

    Raises:
        PassageError: a named column is missing, or two columns of one meaning differ.
    """
    fields: dict[str, Any] = {}
    for name, aliases in ALIASES.items():
        if name in columns:
            if columns[name] not in record:
                raise PassageError(
                    f"{where}: there is no column '{columns[name]}' for {name}; the row has {listed(record)}"
                )
            fields[name] = record[columns[name]]
            continue
        found = [a for a in aliases if record.get(a) is not None and _fits(name, record[a])]
        found = [alias for alias in found if alias not in columns.values()]
        if not found:
            continue
        if name not in _ORDERED and any(record[other] != record[found[0]] for other in found[1:]):
            raise PassageError(
                f"{where}: {' and '.join(map(repr, found))} differ, and both may be the {name}; say which with "
                f"--column {name}={found[0]}"
            )
        fields[name] = record[found[0]]
    if fields.get("prompt") is record.get("messages") and isinstance(whole := fields.get("prompt"), list):
        fields |= _parted(whole, fields.get("response"))
    if isinstance(record.get("entropy"), list) and "entropies" not in fields:
        fields["entropies"] = record["entropy"]
    fields["logged"] = {k: float(record[k]) for k in LOGGED if _is_mean(record.get(k))}
    return fields


def _is_mean(value: Any) -> bool:
    return type(value) is float or (type(value) is int and value.bit_length() < 64)


def _parted(messages: list[Any], response: Any) -> dict[str, Any]:
    """Prompt and response of a whole conversation; no prompt where it is not clear after which turn the ids begin."""
    roles = [message.get("role") if isinstance(message, dict) else None for message in messages]
    if "assistant" not in roles:
        return {}
    if roles.index("assistant") < len(roles) - 1:
        return {"prompt": None}
    return {"prompt": messages[:-1], "response": response or messages[-1].get("content")}


def _fits(name: str, value: Any) -> bool:
    """Whether a value can be meant by a name that programs use for several things."""
    first = value[0] if isinstance(value, list) and value else None
    while isinstance(first, list) and first:
        first = first[0]
    match name:
        case "token_ids" | "prompt_ids" | "input_ids":  # lists of texts (`tokens`, `prompts`, `responses`) are no ids
            is_text = isinstance(first, str) and not first.startswith("token_id:")
            return isinstance(value, list) and not isinstance(first, dict) and not is_text
        case "prompt" | "response":
            return isinstance(value, str) or isinstance(first, dict)
        case "cluster" | "id":
            return type(value) in (str, int)
    return True


def unfitting(record: Mapping[str, Any], where: str) -> PassageError:
    """What to say about a row that is no rollout by any name."""
    ids = ", ".join(ALIASES["token_ids"][:6])
    return PassageError(
        f"{where}: no rollout in the columns {listed(record)}; looked for token ids ({ids}, ...; input_ids with "
        "loss_mask) and for text (response, completion, output); name yours with --column token_ids=NAME, or rename it"
    )


def listed(names: Iterable[str]) -> str:
    """Names in one line, the first few of many."""
    shown = [str(name)[:40] for name in names]
    return (", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "")) or "(none)"
