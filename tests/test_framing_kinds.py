"""Habits of templates, tokenizers and data sets that change a context unseen: each is read rightly or refused."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import tiny
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from enaction.errors import FramingError, PassageError
from enaction.framing import (
    TEMPLATE_DATE,
    Framed,
    beginning_ids,
    frame,
    frame_prompt,
    render,
    retokenisation_drift,
    template_habits,
    tokenizer_fingerprint,
    with_switches,
)
from enaction.passages import Message, Passage, Prompt, prompt_hash, read_passages, read_prompts, write_passages

RESPONSE = "the old fox"
ROLES = ["<|user|>", "<|assistant|>", "<|system|>", "<|end|>"]


def text_of(tokenizer: PreTrainedTokenizerFast, ids: tuple[int, ...]) -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def parts(tokenizer: PreTrainedTokenizerFast, framed: Framed) -> tuple[str, str]:
    """Context and measured text."""
    return text_of(tokenizer, framed.ids[: framed.start]), text_of(tokenizer, framed.ids[framed.start : framed.stop])


def turn(role: str, content: str, **extras: Any) -> Message:
    return cast("Message", {"role": role, "content": content, **extras})


def own(tokenizer: PreTrainedTokenizerFast, ids: list[int], text: str, *, ended: bool | None) -> Passage:
    fingerprint = tokenizer_fingerprint(tokenizer)
    return replace(tiny.passage(text, ended=ended), token_ids=tuple(ids), tokenizer=fingerprint)


# What the template puts between its generation prompt and the content.

HEADERLESS = "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"


def test_a_template_without_generation_prompt_is_read_and_written_after_its_header() -> None:
    for template in (HEADERLESS, HEADERLESS + "{% if not add_generation_prompt %}{{ '</s>' }}{% endif %}"):
        tokenizer = tiny.byte_tokenizer(template)
        context, measured = parts(tokenizer, frame(tokenizer, tiny.passage(RESPONSE), "assistant"))
        assert context == "<|user|>\ntell me a story<|end|>\n<|assistant|>\n"
        assert measured == RESPONSE + "<|end|>"
        assert text_of(tokenizer, frame_prompt(tokenizer, tiny.prompt(), "assistant").ids) == context
        habits = template_habits(tokenizer)
        assert (habits.adds, habits.has_header) == ("<|assistant|>", False)


def test_a_channel_is_context_for_what_others_wrote_and_the_models_own_to_write() -> None:
    template = (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% if m['role'] == 'assistant' %}{{ ' final:' }}"
        "{% endif %}{{ m['content'] + '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    tokenizer = tiny.byte_tokenizer(template)
    context, measured = parts(tokenizer, frame(tokenizer, tiny.passage(RESPONSE), "assistant"))
    assert context.endswith("<|assistant|> final:")
    assert measured == RESPONSE + "<|end|>"
    prompt = frame_prompt(tokenizer, tiny.prompt(), "assistant").ids
    assert text_of(tokenizer, prompt).endswith("<|assistant|>")
    mine = frame(tokenizer, own(tokenizer, [20, 12], text_of(tokenizer, (20, 12)), ended=False), "assistant")
    assert mine.ids[: mine.start] == prompt
    # Its transcript brings the channel itself: once is enough.
    whole = frame(tokenizer, tiny.passage(" final:the fox"), "assistant")
    assert parts(tokenizer, whole)[1] == " final:the fox<|end|>"
    assert whole.ids[: whole.start] == prompt
    assert template_habits(tokenizer).adds == "final:"
    # A beginning that the model goes on from is its own text.
    assert beginning_ids(tokenizer, tiny.prompt(), "the", "assistant") == tuple(tokenizer.encode("the"))


@pytest.mark.parametrize("block", ["<think>\n\n</think>\n\n", "<|START_THINKING|><|END_THINKING|>", "[THINK][/THINK]"])
def test_only_an_empty_block_of_thoughts_is_left_out(block: str) -> None:
    template = tiny.THINKING.replace("<think></think>\\n", "{block}").replace("<think></think>\n", block)
    tokenizer = tiny.byte_tokenizer(template)
    context, _ = parts(tokenizer, frame(tokenizer, tiny.passage(RESPONSE), "assistant"))
    assert context.endswith("<|end|><|assistant|>")
    habits = template_habits(tokenizer)
    assert (habits.adds, habits.drops, habits.opens_thoughts) == ("", block.strip(), False)
    # Where the template has no generation prompt, its header remains and the block goes.
    tokenizer.chat_template = template.partition("{% if add_generation_prompt %}")[0]
    context, _ = parts(tokenizer, frame(tokenizer, tiny.passage(RESPONSE), "assistant"))
    assert context.endswith("<|end|><|assistant|>")


def test_a_generation_prompt_that_opens_thoughts_is_told_and_closed_where_the_template_closes_it() -> None:
    opened = tiny.CHATML.replace("{{ '<|assistant|>' }}", "{{ '<|assistant|><think>\n' }}")
    tokenizer = tiny.byte_tokenizer(opened)
    assert template_habits(tokenizer).opens_thoughts
    context, _ = parts(tokenizer, frame(tokenizer, tiny.passage(RESPONSE), "assistant"))
    assert context.endswith("<|assistant|><think>\n")
    tokenizer.chat_template = opened.replace(
        "+ m['content']", "+ ('<think>\n\n</think>\n\n' if m['role'] == 'assistant' else '') + m['content']"
    )
    context, _ = parts(tokenizer, frame(tokenizer, tiny.passage(RESPONSE), "assistant"))
    assert context.endswith("<|assistant|><think>\n\n</think>\n\n")
    # Thoughts of its own follow the prompt that opens them.
    context, measured = parts(tokenizer, frame(tokenizer, tiny.passage("so it was\n</think>\n\nthe fox"), "assistant"))
    assert context.endswith("<|assistant|><think>\n")
    assert measured.startswith("so it was")


def test_switches_of_a_template_can_be_set() -> None:
    template = tiny.CHATML.replace(
        "{{ '<|assistant|>' }}",
        "{{ '<|assistant|>' }}{% if thinking is defined and thinking is false %}{{ 'no' }}{% endif %}",
    )
    tokenizer = tiny.byte_tokenizer(with_switches(template, {"thinking": False}))
    assert render(tokenizer, tiny.user("why"), add_generation_prompt=True).endswith("<|assistant|>no")
    with pytest.raises(FramingError, match="has no switch 'thinkin_g'"):
        with_switches(template, {"thinkin_g": False})
    with pytest.raises(FramingError, match="cannot be a switch"):
        with_switches(template, {"a b": False})


# Tokens that swallow white space.


@pytest.mark.parametrize("response", [" the old fox", "\nthe old fox", "  \n the old fox"])
def test_a_role_token_that_swallows_white_space_is_context(response: str) -> None:
    template = HEADERLESS + "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    tokenizer = tiny.marked(tiny.byte_tokenizer(template), ROLES, rstrip=True)
    framed = frame(tokenizer, tiny.passage(response), "assistant")
    names = tokenizer.convert_ids_to_tokens(list(framed.ids))
    assert names[framed.start - 1] == "<|assistant|>"
    assert parts(tokenizer, framed)[1] == "the old fox<|end|>"
    assert framed.ids[: framed.start] == frame_prompt(tokenizer, tiny.prompt(), "assistant").ids
    blank = frame(tokenizer, tiny.passage("   "), "assistant")
    assert parts(tokenizer, blank)[1] == "<|end|>"


def test_an_end_token_that_swallows_white_space_ends_a_text_without_any() -> None:
    tokenizer = tiny.marked(tiny.byte_tokenizer(), ["<|end|>"], lstrip=True)
    framed = frame(tokenizer, tiny.passage("the fox \n"), "assistant")
    turns = [*tiny.plain(tiny.user("tell me a story")), {"role": "assistant", "content": "the fox \n"}]
    assert list(framed.ids) == tokenizer.apply_chat_template(turns, return_dict=False)
    assert parts(tokenizer, frame(tokenizer, tiny.passage("the fox \n", ended=False), "assistant"))[1] == "the fox \n"


# Messages and keys that the template does not show.

CHOOSY = (
    "{% for m in messages %}{% if m['role'] == 'system' and loop.first or m['role'] in ('user', 'assistant') %}"
    "{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@pytest.mark.parametrize(
    ("messages", "number"),
    [
        ((turn("developer", "be old"), turn("user", "why")), 1),
        ((turn("user", "why"), turn("assistant", "so"), turn("system", "be old"), turn("user", "why")), 3),
    ],
)
def test_a_message_that_the_template_drops_is_refused(messages: tuple[Message, ...], number: int) -> None:
    tokenizer = tiny.byte_tokenizer(CHOOSY)
    passage = replace(tiny.passage(), prompt=messages)
    words = rf"does not show message {number} of the prompt \(role '{messages[number - 1]['role']}'\)"
    for act in (
        lambda: frame(tokenizer, passage, "assistant"),
        lambda: frame(tokenizer, passage, "user"),
        lambda: frame_prompt(tokenizer, Prompt("p", messages), "assistant"),
    ):
        for _ in range(2):  # the second time as well
            with pytest.raises(FramingError, match=words):
                act()
    assert frame(tokenizer, passage, "none").stop > 0
    blank = (turn("developer", " "), turn("user", "why"))
    assert frame(tokenizer, replace(passage, prompt=blank), "assistant").stop > 0


def test_a_template_for_parts_that_loses_the_users_words_is_refused() -> None:
    loses = "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% if m['role'] == 'assistant' %}{{ m['content'] }}"
    loses += "{% else %}{% for p in m['content'] %}{{ p.text }}{% endfor %}{% endif %}{{ '<|end|>' }}{% endfor %}"
    with pytest.raises(FramingError, match="does not show message 1"):
        frame(tiny.byte_tokenizer(loses), tiny.passage(), "assistant")


CALLS = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}{% if m.tool_calls %}"
    "{% for t in m.tool_calls %}{{ 'call ' + t.function.name }}{% endfor %}{% endif %}{{ '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
CALL = {"type": "function", "function": {"name": "river", "arguments": "{}"}}


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_tool_calls_reach_the_template_from_either_kind_of_file(suffix: str, tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "tell "}, {"type": "text", "text": "me"}], "name": None},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "stone", "tool_call_id": "c1"},
    ]
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"id": "a", "prompt": turns, "response": RESPONSE, "author": "x"}) + "\n")
    write_passages(read_passages(path), tmp_path / f"q.{suffix}")
    (passage,) = read_passages(tmp_path / f"q.{suffix}")
    tokenizer = tiny.byte_tokenizer(CALLS)
    # The oracle: transformers with the same messages, their text as one string.
    given = [{"role": "user", "content": "tell me"}, {**turns[1], "content": ""}, turns[2]]
    expected = tokenizer.apply_chat_template(cast("Any", given), tokenize=False, add_generation_prompt=True)
    assert "call river" in str(expected)
    assert parts(tokenizer, frame(tokenizer, passage, "assistant"))[0] == expected


@pytest.mark.parametrize("key", ["tool_calls", "name", "reasoning_content", "images"])
def test_words_beside_the_content_are_shown_or_refused(key: str) -> None:
    value = [CALL] if key == "tool_calls" else "river"
    messages = (turn("user", "why"), turn("assistant", "so", **{key: value}), turn("user", "tell me"))
    passage = replace(tiny.passage(), prompt=messages)
    with pytest.raises(FramingError, match=rf"does not show '{key}' of message 2 .*take it out"):
        frame(tiny.byte_tokenizer(), passage, "assistant")
    with pytest.raises(FramingError, match=rf"message 2 of the prompt has '{key}', and framing none shows contents"):
        frame(tiny.byte_tokenizer(), passage, "none")
    shows = tiny.byte_tokenizer(
        tiny.CHATML.replace("+ m['content']", f"+ m['content'] + (m.{key} | string if m.{key} else '')")
    )
    assert "river" in parts(shows, frame(shows, passage, "assistant"))[0]
    labelled = (turn("user", "why", id="m1", tool_call_id="c", weight=1, name=None), turn("tool", "so"))
    assert frame(tiny.byte_tokenizer(), replace(passage, prompt=labelled), "assistant").stop > 0
    assert prompt_hash(messages) != prompt_hash((messages[0], turn("assistant", "so"), messages[2]))


@pytest.mark.parametrize("key", ["tools", "documents", "functions", "chat_template_kwargs"])
def test_what_stands_beside_the_messages_is_refused(key: str, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"id": "a", "prompt": "why", "response": "so", "author": "x", key: {"a": 1}}) + "\n")
    for read in (read_passages, read_prompts):
        with pytest.raises(PassageError, match=rf"line 1: '{key}' is not given to the chat template"):
            read(path)


def test_a_picture_in_a_content_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"prompt": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}))
    with pytest.raises(PassageError, match="line 1: 'prompt' has content of type 'image_url', and only text is read"):
        read_prompts(path)


def test_a_prompt_that_ends_with_the_assistant_is_refused(tmp_path: Path) -> None:
    messages = (turn("user", "why"), turn("assistant", "so it was"))
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"id": "a", "prompt": list(messages)}))
    with pytest.raises(PassageError, match="line 1: the prompt ends with a turn of the assistant"):
        read_prompts(path)
    path.write_text(json.dumps({"id": "a", "messages": list(messages)}))  # a whole conversation
    assert read_prompts(path) == [Prompt("a", messages[:1])]
    tokenizer = tiny.byte_tokenizer()
    with pytest.raises(FramingError, match="ends with a turn of the assistant, so that no response is due"):
        frame_prompt(tokenizer, Prompt("p", messages), "assistant")
    with pytest.raises(FramingError, match="ends with a turn of the assistant"):
        frame(tokenizer, replace(tiny.passage(), prompt=messages), "assistant")


# A model's own ids.


def ids_of(tokenizer: PreTrainedTokenizerFast, names: list[str]) -> list[int]:
    return cast("list[int]", tokenizer.convert_tokens_to_ids(names))


def spelt(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The words "the old", the second letter by letter: never what a tokenizer would give."""
    return [*tokenizer.encode("the"), *ids_of(tokenizer, [*"Ġold"])]


def test_ids_without_the_name_of_their_tokenizer_are_refused() -> None:
    tokenizer = tiny.byte_tokenizer()
    passage = replace(own(tokenizer, spelt(tokenizer), "the old", ended=False), tokenizer=None)
    for act in (frame, retokenisation_drift):
        with pytest.raises(FramingError, match="passage 'x0' has token_ids and does not say of which tokenizer"):
            act(tokenizer, passage, "assistant")


@pytest.mark.parametrize("ended", [True, None])
def test_ids_that_lack_the_end_token_lose_no_word(ended: bool | None) -> None:
    tokenizer = tiny.byte_tokenizer()
    body = spelt(tokenizer)
    framed = frame(tokenizer, own(tokenizer, body, "the old", ended=ended), "assistant")
    end = ids_of(tokenizer, ["<|end|>"]) if ended else []
    assert list(framed.ids[framed.start : framed.stop]) == body + end
    assert framed.has_end == bool(ended)
    assert framed.is_own


@pytest.mark.parametrize("ended", [True, None])
@pytest.mark.parametrize("end", ["</s>", "<|system|>", "<|end|>"])
def test_ids_that_close_with_another_end_token_end_there(end: str, ended: bool | None) -> None:
    tokenizer = tiny.byte_tokenizer()
    last = cast("int", tokenizer.convert_tokens_to_ids(end))
    passage = own(tokenizer, [*spelt(tokenizer), last], "the old", ended=ended)
    framed = frame(tokenizer, passage, "assistant")
    assert (framed.has_end, framed.ids[-1]) == (True, last)
    as_user = frame(tokenizer, passage, "user")
    assert list(as_user.ids[as_user.start :]) == spelt(tokenizer)
    # A special token among the words, in a text that was cut off there, is a word.
    cut = frame(tokenizer, replace(passage, response=f"the old{end}", ended=False), "assistant")
    assert (cut.has_end, cut.ids[-1]) == (False, last)


def test_an_ordinary_token_that_a_model_stops_at_is_its_end() -> None:
    tokenizer = tiny.byte_tokenizer()
    stop = tokenizer.encode("fox")[-1]
    framed = frame(tokenizer, own(tokenizer, [*spelt(tokenizer), stop], "the old", ended=True), "assistant")
    assert (framed.has_end, framed.ids[-1]) == (True, stop)


def test_a_text_exported_with_its_end_token_has_one() -> None:
    tokenizer = tiny.byte_tokenizer()
    for ended in (True, None):
        framed = frame(tokenizer, tiny.passage("the fox<|end|>", ended=ended), "assistant")
        assert parts(tokenizer, framed)[1] == "the fox<|end|>"
        assert framed.has_end


@pytest.mark.parametrize("added", [["<padding>"], ["<tool>", "<padding>"]])
def test_a_child_that_gained_tokens_reads_its_parents_ids(added: list[str]) -> None:
    parent, child = tiny.byte_tokenizer(), tiny.byte_tokenizer()
    child.add_special_tokens({"additional_special_tokens": added[:-1]}, replace_extra_special_tokens=False)
    child.add_special_tokens({"pad_token": added[-1]})
    assert len(child) == len(parent) + len(added)
    framed = frame(child, own(parent, spelt(parent), "the old", ended=False), "assistant")
    assert framed.is_own
    assert list(framed.ids[framed.start :]) == spelt(parent)
    back = frame(parent, own(child, spelt(parent), "the old", ended=False), "assistant")
    # With a padding token alone nothing that a text can hold is new.
    assert back.is_own == (len(added) == 1)
    stranger = tiny.byte_tokenizer()
    stranger.add_tokens(["wolf"])
    assert not frame(parent, own(stranger, spelt(parent), "the old", ended=False), "assistant").is_own


def test_the_fingerprint_is_that_of_earlier_versions() -> None:
    """Files that were written before must go on being read by their ids."""
    import hashlib

    tokenizer = tiny.byte_tokenizer()
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    special = sorted(i for i, token in tokenizer.added_tokens_decoder.items() if token.special)
    expected = hashlib.sha256(json.dumps([vocabulary, special]).encode()).hexdigest()[:16]
    assert tokenizer_fingerprint(tokenizer) == expected


# Ends of turns, double BOS, dates.


def test_an_end_of_turn_that_is_not_marked_special_ends_the_turn() -> None:
    tokenizer = tiny.marked(tiny.byte_tokenizer(), ["<|end|>"], special=False)
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    assert frame(tokenizer, tiny.passage(), "assistant").ids[-1] == end
    assert frame_prompt(tokenizer, tiny.prompt(), "assistant").end_id == end
    closing = tiny.CHATML.replace("+ '<|end|>'", "+ '</answer>' + '<|end|>'")
    tokenizer.chat_template = closing
    tokenizer.add_tokens(["</answer>"])
    assert frame_prompt(tokenizer, tiny.prompt(), "assistant").end_id == end


def test_a_prompt_exported_with_bos_gets_no_second_one() -> None:
    tokenizer = tiny.byte_tokenizer(None, bos=True)
    with_it = frame(tokenizer, tiny.passage(RESPONSE, "<s>tell me"), "none")
    assert with_it.ids == frame(tokenizer, tiny.passage(RESPONSE, "tell me"), "none").ids
    assert frame_prompt(tokenizer, tiny.prompt("<s>tell me"), "none").ids[:2].count(2) == 1
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> <|system|> $A", special_tokens=[("<s>", 2), ("<|system|>", 6)]
    )
    assert frame_prompt(tokenizer, tiny.prompt("<s><|system|>tell"), "none").ids.count(6) == 1


def test_every_code_of_strftime_is_the_fixed_days() -> None:
    codes = [f"%{flag}{c}" for c in "aAbBcCdDeFgGhHIjmMnprRStTuUVwWxXyY%" for flag in ("", "-", "_", "^")]
    tokenizer = tiny.byte_tokenizer()
    for code in ("|".join(codes), "%Od", "%Ey", "100%", "%", "%-", "%d.%%d %q'\"", "%-d/%-m"):
        tokenizer.chat_template = "{{ strftime_now(" + json.dumps(code) + ") }}||" + tiny.CHATML
        assert render(tokenizer, tiny.user("why")).partition("||")[0] == TEMPLATE_DATE.strftime(code), code


# Drift.


def test_drift_of_a_text_that_repeats_is_right_and_quick() -> None:
    tokenizer = tiny.byte_tokenizer()
    old, letters = tokenizer.encode(" old"), ids_of(tokenizer, [*"Ġold"])
    assert len(old) == 1
    count = 3000
    ids = [token for k in range(count) for token in (old if k % 7 else letters)]
    began = time.perf_counter()
    drift = retokenisation_drift(tokenizer, own(tokenizer, ids, " old" * count, ended=False))
    assert drift == 4 * len(range(0, count, 7))
    assert time.perf_counter() - began < 5  # some hours by the method before


def test_drift_of_a_text_that_is_not_quite_its_ids_is_counted_all_the_same() -> None:
    """Half of a character at the end comes back as another one; what precedes it has not changed."""
    tokenizer = tiny.byte_tokenizer()
    words = tokenizer.encode("the old fox")
    half = tokenizer.encode("é")[:1]
    text = text_of(tokenizer, tuple(words + half))
    assert text.endswith("\ufffd")
    assert retokenisation_drift(tokenizer, own(tokenizer, words + half, text, ended=False)) == 3


# Templates that fail.


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ messages[0]['what'] + 'x' }}", "refuses the turns"),
        ("{{ none + 'x' }}", "refuses the turns"),
        ("{{ 1 / 0 }}", "refuses the turns"),
        ("{{ range(10**9) | list }}", "refuses the turns"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "refuses the turns"),
        ("{% for m in messages %}", "not valid Jinja"),
        ({"tool_use": tiny.CHATML, "rag": tiny.CHATML}, r"several chat templates .*\(rag, tool_use\)"),
    ],
)
def test_a_template_that_fails_is_one_line_with_a_remedy(template: str | dict[str, str], words: str) -> None:
    tokenizer = tiny.byte_tokenizer()
    tokenizer.chat_template = cast("Any", template)
    with pytest.raises(FramingError, match=words) as caught:
        frame(tokenizer, tiny.passage(), "assistant")
    assert "\n" not in str(caught.value)
    assert "--chat-template FILE" in str(caught.value)


def test_named_templates_with_a_default_use_it() -> None:
    tokenizer = tiny.byte_tokenizer()
    expected = frame(tokenizer, tiny.passage(), "assistant")
    tokenizer.chat_template = cast("Any", {"default": tiny.CHATML, "rag": "{{ messages }}"})
    assert frame(tokenizer, tiny.passage(), "assistant") == expected


def test_half_of_a_character_is_refused_where_it_stands(tmp_path: Path) -> None:
    with pytest.raises(FramingError, match="lone surrogate"):
        frame(tiny.byte_tokenizer(), tiny.passage("ok \ud83d fox"), "assistant")
    with pytest.raises(PassageError, match="lone surrogate"):
        write_passages([tiny.passage("ok \ud83d fox")], tmp_path / "p.jsonl")
    path = tmp_path / "q.jsonl"
    path.write_text('{"id":"a","prompt":"tell","response":"ok \\ud83d fox","author":"x"}\n')
    with pytest.raises(PassageError, match="line 1: 'response' holds half of a character"):
        read_passages(path)
    path.write_text('{"id":"a","prompt":"tell","response":"ok \\ud83d\\ude42 fox","author":"x"}\n')
    assert read_passages(path)[0].response == "ok 🙂 fox"
