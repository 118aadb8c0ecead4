"""What a person should know about a model and its tokenizer before trusting a number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enaction.framing import frame_prompt, template_habits
from enaction.passages import Message, Prompt
from enaction.words import Framing

if TYPE_CHECKING:
    from enaction.reader.reader import Reader

# A lone user message, which every template takes.
_LONE = Prompt("lone", (Message(role="user", content="?"),))


def warnings_of(reader: Reader, framing: Framing) -> tuple[str, ...]:
    """What to know before trusting a number, a sentence each.

    Raises:
        FramingError: `assistant` with a template that cannot be used.
    """
    warned = list(reader.doubts)
    tokenizer, rows = reader.tokenizer, reader.vocabulary_size
    beyond = sorted((i, token.content) for i, token in tokenizer.added_tokens_decoder.items() if i >= rows)
    if beyond:
        warned.append(
            f"the model has no row for {len(beyond)} added tokens of the tokenizer ({beyond[0][1]}); a text that holds "
            "one is refused"
        )
    if reader.dtype in ("bfloat16", "float16"):
        warned.append(f"weights in {reader.dtype} err by .01 to .1 nats a token: load float32 for small effects")
    if reader.quantization is not None:
        warned.append(
            f"weights are quantised ({reader.quantization}): what is read is the quantised model, and products that "
            "round by what shares a batch may change a token by hundredths of a nat; take the whole weights for small "
            "effects"
        )
    if framing == "assistant":
        warned += _template_warnings(reader)
    return tuple(warned)


def _template_warnings(reader: Reader) -> list[str]:
    habits, warned = template_habits(reader.tokenizer), []
    if habits.adds and habits.has_header:
        warned.append(
            f"the template puts {habits.adds!r} between its generation prompt and the text: what others wrote is read "
            "after it, and what the model wrote after the generation prompt alone"
        )
    elif habits.adds:
        warned.append(
            f"the template has no generation prompt; texts are written and read after its header {habits.adds!r}"
        )
    if habits.opens_thoughts:
        warned.append("the generation prompt opens the thoughts, so that what others wrote is read as thoughts")
    framed = frame_prompt(reader.tokenizer, _LONE, "assistant")
    last = reader.tokenizer.added_tokens_decoder.get(framed.ids[-1])
    if last is not None and last.rstrip:
        warned.append(f"{last.content} swallows white space, so that a text's leading blanks are not measured")
    end = reader.tokenizer.added_tokens_decoder.get(-1 if framed.end_id is None else framed.end_id)
    if end is not None and not end.special:
        warned.append(f"the end of turn {end.content} is not marked special in the tokenizer; it is taken for the end")
    return warned
