"""Facts about a model and its tokenizer, in words."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from enaction.framing import Habits, frame_prompt, opening, template_date, template_habits
from enaction.passages import Message, Prompt
from enaction.reader.batching import pace_of
from enaction.reader.blocks import Blocks, blocks
from enaction.reader.reader import Reader
from enaction.reader.room import Sizes, free_memory
from enaction.reader.room import shown as shown_size
from enaction.words import Framing


def facts(reader: Reader, framing: Framing) -> dict[str, str]:
    """Facts about the model and its tokenizer, in words."""
    model, tokenizer, head = reader.model, reader.tokenizer, reader.head
    matrix = head.matrix if head else model.get_output_embeddings()
    weight, embedded = (getattr(m, "weight", None) for m in (matrix, model.get_input_embeddings()))
    tied = weight is not None and weight is embedded
    parameters = sum(p.numel() for p in model.parameters())
    shown = {
        "model": f"{type(model).__name__}, {parameters / 1e6:,.1f}M parameters",
        "runs on": reader.placement,
        "memory": _memory(reader),
        "body": type(head.body).__name__ if head else "not run apart",
        "blocks": _blocks(blocks(head.body if head else model)),
        "head": _head(matrix, tied),
        "transform": _transform(head.scale, head.softcap) if head else "the model's own",
        "path": reader.head_path,
        "vocabulary": f"{reader.vocabulary_size:,} rows of the head, {len(tokenizer):,} tokens of the tokenizer",
        "context": f"{reader.context_length:,} tokens" if reader.context_length else "no limit named",
        "chat template": f"{len(str(tokenizer.chat_template)):,} characters" if reader.has_template else "none",
        "rotary positions": _rotary(reader),
        "framing": framing,
        "special tokens": _special(reader, framing),
    }
    if framing == "assistant":
        shown["template opens with"] = repr(opening(reader.tokenizer))
        habits = template_habits(reader.tokenizer)
        shown["template adds"] = _added(habits)
        shown["template drops"] = f"an empty block of thoughts, {habits.drops!r}" if habits.drops else "nothing"
        shown["template closes with"] = repr(habits.closes_with)
        date = template_date(reader.tokenizer)
        if date is not None:
            shown["date in the template"] = f"{date}, whatever the day, so that a text is read alike tomorrow"
    return shown


# What is sampled at a time by default, and the length of such a text with its prompt.
_ROWS, _LENGTH = 64, 512


def _memory(reader: Reader) -> str:
    """What weights, a batch to read and a batch to write take, and what is free: an estimate."""
    device = reader.device
    itemsize = getattr(torch, reader.dtype).itemsize
    sizes = Sizes.of(reader.model, reader.vocabulary_size, itemsize, is_on_cpu=device.type == "cpu")
    if sizes is None:
        return "not known"
    budget, length = pace_of(device.type).token_budget, min(_LENGTH, reader.context_length or _LENGTH)
    longest = reader.context_length or budget
    is_streamed = reader.head is not None
    free = free_memory(str(device))
    parts = [
        f"weights {shown_size(sizes.weights)}",
        f"to read {budget:,} tokens at a time {shown_size(sizes.reading(budget, length, is_streamed=is_streamed))}",
        f"a text of {longest:,} {shown_size(sizes.reading(longest, longest, is_streamed=is_streamed))}",
        f"to write {_ROWS} texts of {length:,} tokens at a time {shown_size(sizes.sampling(_ROWS, length))}",
    ]
    if free is not None:
        rows = int(0.8 * free / sizes.sampling(1, length))
        parts.append(f"{shown_size(free)} are free on {device}, room to write some {rows:,} texts at a time")
    return "; ".join(parts) + " (estimates)"


def _blocks(stack: Blocks | None) -> str:
    if stack is None:
        return "no list of blocks"
    kinds = dict.fromkeys(type(block).__name__ for block in stack.modules)
    return f"{len(stack.modules)} at {stack.path}: " + ", ".join(kinds)


def _head(matrix: object, tied: bool) -> str:
    weight = getattr(matrix, "weight", None)
    if not isinstance(matrix, nn.Module) or not isinstance(weight, Tensor):
        return "not found"
    bias = "with bias" if isinstance(getattr(matrix, "bias", None), Tensor) else "no bias"
    sizes = " x ".join(f"{n:,}" for n in weight.shape)
    return f"{type(matrix).__name__} {sizes}, {bias}, {'tied to' if tied else 'apart from'} the input embedding"


def _transform(scale: float, softcap: float | None) -> str:
    parts = [f"logits x {scale:g}"] if scale != 1.0 else []
    parts += [f"soft cap {softcap:g}"] if softcap is not None else []
    return ", ".join(parts) or "none"


def _special(reader: Reader, framing: Framing) -> str:
    tokenizer = reader.tokenizer
    named = {"BOS": tokenizer.bos_token, "EOS": tokenizer.eos_token, "pad": tokenizer.pad_token}
    if framing == "assistant":
        end = frame_prompt(tokenizer, _LONE, framing).end_id
        named["end of turn"] = None if end is None else tokenizer.convert_ids_to_tokens(end)
    return ", ".join(f"{name} {token or 'none'}" for name, token in named.items())


# A lone user message, which every template takes.
_LONE = Prompt("lone", (Message(role="user", content="?"),))


def _added(habits: Habits) -> str:
    if not habits.adds:
        return "nothing between its generation prompt and the text"
    if habits.has_header:
        return f"{habits.adds!r} between its generation prompt and the text of others"
    return f"{habits.adds!r}, a header that it has no generation prompt for"


def _rotary(reader: Reader) -> str:
    if not reader.rotary_switches:
        return "the same at every length"
    lengths = " and ".join(f"{length:,}" for length in reader.rotary_switches)
    return f"turned otherwise beyond {lengths} tokens; each token is read as it would be written"
