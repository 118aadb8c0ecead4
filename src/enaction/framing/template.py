"""Chat templates: rendering conversations, with a fixed date and with every word accounted for."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from jinja2 import TemplateSyntaxError

from enaction.errors import FramingError
from enaction.framing.limits import SECONDS, OverLimitError, limited
from enaction.passages import Message, worded_extras

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The date that templates of Llama 3.1 fall back on if they are given none.
TEMPLATE_DATE = datetime(2024, 7, 26)

# Letters and digits only, so that no template strips, escapes or splits it.
SENTINEL = "Enaction7f3a9c51Sentinel"

_REMEDY = "use --framing none or --chat-template FILE"
# Templates that ran out of time, each of which is tried once.
_ENDLESS: set[str] = set()
_WORDS_ENDLESS = f"the chat template is not done after {SECONDS:g} s, a loop in it probably: correct it, or {_REMEDY}"
# What a template may add to the words of a conversation, characters.
_LONGEST_ADDED = 1_000_000
_LONGEST_FACTOR = 20


def render(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, add_generation_prompt: bool = False
) -> str:
    """A conversation through the chat template, dated `TEMPLATE_DATE` if the template asks for today.

    Messages are given to the template with all their keys.

    Raises:
        FramingError: no chat template, several without a default, or one that fails on these turns.
    """
    template = template_of(tokenizer)
    if template in _ENDLESS:
        raise FramingError(_WORDS_ENDLESS)
    try:
        with limited(SECONDS):
            text = tokenizer.apply_chat_template(
                [cast("dict[str, Any]", dict(m)) for m in messages],
                chat_template=_dated(template),
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
            )
    except OverLimitError:
        _ENDLESS.add(template)
        raise FramingError(_WORDS_ENDLESS) from None
    except MemoryError:
        raise FramingError(f"the chat template makes a text that no memory holds: correct it, or {_REMEDY}") from None
    except TemplateSyntaxError as error:
        raise FramingError(
            f"the chat template is not valid Jinja ({error.message}, line {error.lineno}): correct it, or {_REMEDY}"
        ) from error
    except Exception as error:  # whatever a template's own code raises: it may compute anything from the turns
        roles = ", ".join(m["role"] for m in messages)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FramingError(
            f"the chat template refuses the turns ({roles}): {reason}; change the prompt, or {_REMEDY}"
        ) from error
    assert isinstance(text, str)
    most = _LONGEST_ADDED + _LONGEST_FACTOR * sum(len(str(m)) for m in messages)
    if len(text) > most:
        raise FramingError(
            f"the chat template makes {len(text):,} characters of the turns, a loop in it probably: correct it, or "
            f"{_REMEDY}"
        )
    return text


def opening(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the chat template puts before the words of a first user turn, with its own system prompt if it has one.

    Raises:
        FramingError: as `render`.
    """
    text = render(tokenizer, [Message(role="user", content=SENTINEL)], add_generation_prompt=True)
    return text.partition(SENTINEL)[0]


def template_date(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The date in this tokenizer's chat template, None if it asks for none."""
    return TEMPLATE_DATE.date().isoformat() if "strftime_now" in str(tokenizer.chat_template) else None


def read_template(path: Path) -> str:
    """A file with a chat template: UTF-8, without a byte order mark, which would be a part of every context.

    Raises:
        FramingError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise FramingError(f"--chat-template {path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise FramingError(f"--chat-template {path}: is not UTF-8 text ({error.reason}); save it as UTF-8") from error


def with_switches(template: str, switches: Mapping[str, Any]) -> str:
    """A chat template with its switches set, such as `enable_thinking` of Qwen 3.

    Args:
        template: Jinja text.
        switches: variable name to value: true, false, null, a number or a string.

    Raises:
        FramingError: a name that is no variable, or that the template does not mention.
    """
    lines = []
    for name, value in switches.items():
        if not name.isidentifier():
            raise FramingError(f"'{name}' cannot be a switch of a chat template: give a name, as in enable_thinking")
        if name not in template:
            raise FramingError(f"the chat template has no switch '{name}': leave it out, or check its spelling")
        lines.append(f"{{% set {name} = {'none' if value is None else json.dumps(value)} %}}")
    return "".join(lines) + template


def require_all_shown(tokenizer: PreTrainedTokenizerBase, messages: tuple[Message, ...], *, generation: bool) -> None:
    """Fail if the template leaves a message out, or words that a message has besides its content.

    Whether it does depends on roles and not on words, so that prompts of one form are tried once.

    Args:
        tokenizer: whose template is tried.
        messages: the prompt.
        generation: whether the generation prompt follows.

    Raises:
        FramingError: a message, or a key of one, that does not come out.
    """
    form = (template_of(tokenizer), generation, tuple((m["role"], not m["content"].strip()) for m in messages))
    has_extras = any(len(m) > 2 for m in messages)
    known = _SHOWN.setdefault(tokenizer, set())
    if not has_extras and form in known:
        return
    marked = tuple(_with_content(m, _mark(i)) if m["content"].strip() else m for i, m in enumerate(messages))
    try:
        text = render(tokenizer, marked, add_generation_prompt=generation).casefold()
        marks = [m["content"].casefold() for m in marked]
    except FramingError:  # a template that takes the real contents alone, such as a tool's JSON
        text = render(tokenizer, messages, add_generation_prompt=generation)
        marks = [m["content"].strip() for m in messages]
    for number, (message, mark) in enumerate(zip(messages, marks, strict=True), start=1):
        if mark.strip() and mark not in text:
            raise FramingError(
                f"the chat template does not show message {number} of the prompt (role '{message['role']}'), so the "
                f"model would not see it: change its role or take it out, or {_REMEDY}"
            )
    if has_extras:
        _require_extras(tokenizer, messages, generation)
    else:
        known.add(form)


# Of each tokenizer, the forms of prompts (template, roles, which contents are blank) that come out whole.
_SHOWN: WeakKeyDictionary[PreTrainedTokenizerBase, set[tuple]] = WeakKeyDictionary()


def _mark(number: int) -> str:
    return f"{SENTINEL}{number}Q"


def _with_content(message: Message, content: str) -> Message:
    return cast("Message", {**message, "content": content})


def _require_extras(tokenizer: PreTrainedTokenizerBase, messages: tuple[Message, ...], generation: bool) -> None:
    whole = render(tokenizer, messages, add_generation_prompt=generation)
    for i, message in enumerate(messages):
        for key in worded_extras(message):
            without = cast("Message", {k: v for k, v in message.items() if k != key})
            try:
                changed = render(
                    tokenizer, (*messages[:i], without, *messages[i + 1 :]), add_generation_prompt=generation
                )
            except FramingError:  # the template needs the key
                continue
            if changed == whole:
                raise FramingError(
                    f"the chat template does not show '{key}' of message {i + 1} of the prompt (role "
                    f"'{message['role']}'): take it out if the model should not see it, or use --chat-template FILE"
                )


def template_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer's chat template, the default of several.

    Raises:
        FramingError: none, or several without a default.
    """
    template = tokenizer.chat_template
    if isinstance(template, str):
        return template
    if template is None:
        name = tokenizer.name_or_path or type(tokenizer).__name__
        raise FramingError(f"the tokenizer of {name} has no chat template: {_REMEDY}")
    named = {t["name"]: t["template"] for t in template} if isinstance(template, list) else dict(template)
    if "default" not in named:
        raise FramingError(
            f"the tokenizer has several chat templates and none is the default ({', '.join(sorted(named))}): "
            "write the one to use into a file and give --chat-template FILE"
        )
    return named["default"]


def _dated(template: str) -> str:
    """The template with a macro that hides transformers' `strftime_now`, which gives today."""
    return _date_macro(TEMPLATE_DATE) + template if "strftime_now" in template else template


@lru_cache(maxsize=4)
def _date_macro(date: datetime) -> str:
    """`strftime_now` in Jinja: every code of this platform's strftime, with its flags, looked up in a table.

    A function of Python's cannot be given: transformers hands templates plain data only.
    """
    codes = [f"%{flag}{letter}" for flag in ("", *"-_0^#EO") for letter in (*string.ascii_letters, "%", "+")]
    table = {code: shown for code in codes if (shown := date.strftime(code)) != code}
    literal = "{" + ", ".join(f"{json.dumps(code)}: {json.dumps(shown)}" for code, shown in table.items()) + "}"
    return (
        "{% macro strftime_now(format) %}{% set table = " + literal + " %}{% set code = namespace(read='') %}"
        "{% for c in format %}"
        "{% if code.read %}{% set code.read = code.read + c %}"
        "{% if c not in '-_0^#EO' %}{{ table.get(code.read, code.read) }}{% set code.read = '' %}{% endif %}"
        "{% elif c == '%' %}{% set code.read = c %}{% else %}{{ c }}{% endif %}"
        "{% endfor %}{{ code.read }}{% endmacro %}"
    )
