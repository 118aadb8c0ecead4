"""Framing under the templates and tokenizers of the common families: the span is the response, own ids follow the
generation prompt, and no template's habit changes either."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import families
import pytest
import tiny
from families import FAMILIES, TOKENIZERS, Family
from transformers import PreTrainedTokenizerFast

from enaction.errors import FramingError
from enaction.framing import Framed, frame, frame_prompt, render, template_date, tokenizer_fingerprint
from enaction.passages import Message, Passage, Prompt

QUESTION = "tell me about the old garden"
RESPONSES = (
    "the fox walked over the river",
    "Sure! Here are three ideas:\n1. Walk.\n2. Read.\n\n- and so on",
    "Crème brûlée — 東京 🙂!",
    "  indented, and with a tail \n",
    "\n\n  after two breaks",
    "tell me about the old garden",
    "user: [ why ] <b>",
)


SETTINGS = [
    pytest.param(name, kind, bos, id=f"{name}, {kind}{', bos' if bos else ''}")
    for name, family in FAMILIES.items()
    for kind in TOKENIZERS
    for bos in ((False, True) if family.bos else (False,))
]
_MADE: dict[tuple[str, str, bool], PreTrainedTokenizerFast] = {}


def made(name: str, kind: str, bos: bool) -> PreTrainedTokenizerFast:
    if (name, kind, bos) not in _MADE:
        _MADE[name, kind, bos] = TOKENIZERS[kind](FAMILIES[name], bos=bos)
    return _MADE[name, kind, bos]


each = pytest.mark.parametrize(("name", "kind", "bos"), SETTINGS)


def text_of(tokenizer: PreTrainedTokenizerFast, ids: tuple[int, ...]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def measured(tokenizer: PreTrainedTokenizerFast, framed: Framed) -> str:
    """Text of the measured tokens, without the end of turn, as it stands behind the context."""
    before = text_of(tokenizer, framed.ids[: framed.start])
    whole = text_of(tokenizer, framed.ids[: framed.stop - framed.has_end])
    assert whole.startswith(before)
    return whole[len(before) :]


def assert_is(found: str, response: str) -> None:
    """The response, but for white space in front: a token may begin with the template's, or with a dummy blank."""
    assert found.endswith(response), (found, response)
    assert not found.removesuffix(response).strip()


@each
def test_the_measured_span_is_the_response(name: str, kind: str, bos: bool) -> None:
    family, tokenizer = FAMILIES[name], made(name, kind, bos)
    for response in RESPONSES:
        passage = tiny.passage(response, QUESTION)
        framed = frame(tokenizer, passage, "assistant")
        shown = response.strip() if family.strips else response.lstrip("\n") if name == "qwen 3" else response
        assert_is(measured(tokenizer, framed), shown)
        assert framed.has_end
        assert framed.ids[-1] == tokenizer.convert_tokens_to_ids(family.end)
        # Question and response are one text of the user's, of which some templates take the white space behind off.
        shown = response.rstrip() if family.strips and name != "mistral" else response
        assert_is(measured(tokenizer, frame(tokenizer, passage, "user")), shown)
        assert_is(measured(tokenizer, frame(tokenizer, passage, "none")), response)


@each
def test_context_and_own_ids_are_what_transformers_would_generate_after(
    name: str, kind: str, bos: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, tokenizer = FAMILIES[name], made(name, kind, bos)
    prompt = Prompt("p", tiny.user(QUESTION))
    expected = tokenizer.apply_chat_template(
        tiny.plain(prompt.messages),
        add_generation_prompt=True,
        return_dict=False,
    )
    # The oracle tells today's date, and so does a framing that is not given the other one.
    monkeypatch.setattr("enaction.framing.template.TEMPLATE_DATE", datetime.now())
    context = frame_prompt(tokenizer, prompt, "assistant")
    assert list(context.ids) == expected
    monkeypatch.undo()
    context = frame_prompt(tokenizer, prompt, "assistant")
    opening, blanks = text_of(tokenizer, context.ids), str.maketrans("", "", " ▁")
    assert opening.translate(blanks).startswith(family.opening.translate(blanks))
    assert context.end_id == tokenizer.convert_tokens_to_ids(family.end)
    if family.bos:
        bos_id = tokenizer.convert_tokens_to_ids(family.bos)
        assert [i == bos_id for i in context.ids[:2]] == [family.opening.startswith(family.bos), False]
    # No tokenisation of any text: ids in an order that re-tokenising would never give.
    ids = (*tokenizer.encode("a the", add_special_tokens=False)[::-1], *range(40, 60), context.end_id or 0)
    fingerprint = tokenizer_fingerprint(tokenizer)
    own = Passage("x", "p", prompt.messages, "whatever", "m", {"framing": "assistant"}, ids, None, fingerprint)
    framed = frame(tokenizer, replace(own, ended=True), "assistant")
    assert framed.ids == (*context.ids, *ids)
    assert framed.start == len(context.ids)
    assert framed.is_own
    user = frame(tokenizer, replace(own, ended=True), "user")
    assert user.ids[user.start : user.stop] == ids[:-1]


@each
def test_own_and_foreign_text_follow_the_same_words(name: str, kind: str, bos: bool) -> None:
    """Up to white space that the template puts between its generation prompt and a finished turn's content."""
    tokenizer = made(name, kind, bos)
    foreign = frame(tokenizer, tiny.passage(RESPONSES[0], QUESTION), "assistant")
    context = frame_prompt(tokenizer, Prompt("p", tiny.user(QUESTION)), "assistant")
    before = text_of(tokenizer, foreign.ids[: foreign.start])
    assert before.rstrip() == text_of(tokenizer, context.ids).rstrip()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_earlier_turns_and_system_prompts_are_context(name: str, kind: str) -> None:
    family, tokenizer = FAMILIES[name], made(name, kind, False)
    turns = (*tiny.user("why the fox"), Message(role="assistant", content="so it was"), *tiny.user(QUESTION))
    framed = frame(tokenizer, replace(tiny.passage(RESPONSES[0]), prompt=turns), "assistant")
    context = text_of(tokenizer, framed.ids[: framed.start])
    assert context.index("why the fox") < context.index("so it was") < context.index(QUESTION)
    assert_is(measured(tokenizer, framed), RESPONSES[0])
    persona = (Message(role="system", content="be an old fox"), *tiny.user(QUESTION))
    passage = replace(tiny.passage(RESPONSES[0]), prompt=persona)
    if not family.takes_system:
        with pytest.raises(FramingError, match=r"System role not supported; change the prompt, or use --framing none"):
            frame(tokenizer, passage, "assistant")
        return
    framed = frame(tokenizer, passage, "assistant")
    context = text_of(tokenizer, framed.ids[: framed.start])
    assert "be an old fox" in context
    assert "You are a helpful assistant" not in context
    assert_is(measured(tokenizer, framed), RESPONSES[0])


def test_a_date_in_the_template_does_not_make_two_days_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = made("llama 3", "byte-level", False)
    assert template_date(tokenizer) == "2024-07-26"
    assert template_date(made("chatml", "byte-level", False)) is None
    before = frame(tokenizer, tiny.passage(RESPONSES[0]), "assistant")

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # pyright: ignore[reportIncompatibleMethodOverride]
            return datetime(2031, 1, 2)

    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Later)
    # The template would tell the day, were it left to itself.
    turns = tiny.plain(tiny.user("why"))
    assert "02 Jan 2031" in str(tokenizer.apply_chat_template(turns, tokenize=False))
    assert frame(tokenizer, tiny.passage(RESPONSES[0]), "assistant") == before
    assert "26 Jul 2024" in text_of(tokenizer, before.ids)


def test_every_part_of_a_date_is_the_fixed_days() -> None:
    tokenizer = families.byte_level(FAMILIES["chatml"], bos=False)
    formats = ["%d %b %Y", "%Y-%m-%d", "%A, %B %-d, %y", "%a %-m %j %H:%M:%S"]
    # As a literal, through a variable, and inside a macro of the template's own, as GPT-OSS does.
    tokenizer.chat_template = (
        "{% macro system() %}{{ strftime_now('" + formats[0] + "') }};{% endmacro %}{{ system() }}"
        "{% for f in " + str(formats) + " %}{{ strftime_now(f) }};{% endfor %}{{ messages[0]['content'] }}"
    )
    assert render(tokenizer, tiny.user("why")) == (
        "26 Jul 2024;26 Jul 2024;2024-07-26;Friday, July 26, 24;Fri 7 208 00:00:00;why"
    )


@pytest.mark.parametrize("name", ["qwen 3", "deepseek"])
def test_thoughts_are_read_as_they_were_written(name: str) -> None:
    """Their templates take them out of a finished turn; while it is being written they stand in it."""
    tokenizer = made(name, "byte-level", False)
    opened = "" if name == "deepseek" else "<think>\n"
    response = opened + "so, the fox\n</think>\n\nthe old fox"
    framed = frame(tokenizer, tiny.passage(response, QUESTION), "assistant")
    assert_is(measured(tokenizer, framed), response)
    context = frame_prompt(tokenizer, Prompt("p", tiny.user(QUESTION)), "assistant").ids
    assert framed.ids[: framed.start] == context
    assert framed.has_end


def test_the_fixtures_show_the_habits_that_they_are_there_for() -> None:
    def rendered(family: Family) -> str:
        tokenizer = families.byte_level(family, bos=False)
        turns = [*tiny.user(" why "), Message(role="assistant", content=" so ")]
        return str(tokenizer.apply_chat_template(tiny.plain(turns), tokenize=False))

    assert rendered(FAMILIES["llama 2"]) == "<s>[INST] why [/INST] so </s>"
    assert rendered(FAMILIES["mistral"]) == "<s>[INST]  why [/INST] so</s>"
    assert rendered(FAMILIES["gemma"]) == (
        "<bos><start_of_turn>user\nwhy<end_of_turn>\n<start_of_turn>model\nso<end_of_turn>\n"
    )
    assert rendered(FAMILIES["qwen 3"]).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n so <|im_end|>\n")
    assert rendered(FAMILIES["deepseek"]).endswith("<｜Assistant｜> so <｜end▁of▁sentence｜>")
    assert rendered(FAMILIES["zephyr"]).endswith("<|assistant|>\n so </s>\n")
    assert rendered(FAMILIES["olmo"]) == "<|endoftext|><|user|>\n why \n<|assistant|>\n so <|endoftext|>"
