"""Framing: the context is what the model would write after, and the measured span is the response and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest
import tiny
from transformers import PreTrainedTokenizerBase

from enaction.errors import FramingError
from enaction.framing import (
    FRAMINGS,
    Framed,
    Framing,
    frame,
    frame_prompt,
    retokenisation_drift,
    tokenizer_fingerprint,
)
from enaction.passages import Message, Passage, Prompt

TOKENIZERS = {"word": tiny.word_tokenizer, "byte": tiny.byte_tokenizer}
TEMPLATES = {
    "plain": tiny.CHATML,
    "stripping": tiny.STRIPPING,
    "default system": tiny.DEFAULT_SYSTEM,
    "dated": tiny.DATED,
    "blank": tiny.BLANK,
}
RESPONSE = "the old fox walked over the river"
each_tokenizer = pytest.mark.parametrize("make", TOKENIZERS.values(), ids=TOKENIZERS)
each_template = pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)


def measured(tokenizer: PreTrainedTokenizerBase, framed: Framed) -> str:
    return str(tokenizer.decode(list(framed.ids[framed.start : framed.stop]), clean_up_tokenization_spaces=False))


def context(tokenizer: PreTrainedTokenizerBase, framed: Framed) -> str:
    return str(tokenizer.decode(list(framed.ids[: framed.start]), clean_up_tokenization_spaces=False))


def own(tokenizer: PreTrainedTokenizerBase, ids: list[int], framing: Framing = "assistant", *, ended: bool) -> Passage:
    """A passage with ids that are not what its text would be tokenised to."""
    text = str(tokenizer.decode(ids[:-1] if ended else ids))
    return replace(
        tiny.passage(text, ended=ended),
        token_ids=tuple(ids),
        tokenizer=tokenizer_fingerprint(tokenizer),
        sampling={"framing": framing},
    )


@each_tokenizer
@each_template
def test_the_assistant_span_is_the_response_and_the_end_of_turn(
    make: Callable[[str], PreTrainedTokenizerBase], template: str
) -> None:
    tokenizer = make(template)
    end = "</s>" if template == tiny.BLANK else "<|end|>"
    framed = frame(tokenizer, tiny.passage(RESPONSE), "assistant")
    assert framed.has_end
    assert measured(tokenizer, framed).split() == [*RESPONSE.split()[:-1], *_last(tokenizer, "river" + end)]
    cut = frame(tokenizer, tiny.passage(RESPONSE, ended=False), "assistant")
    assert not cut.has_end
    assert cut.ids == framed.ids[:-1]


def _last(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    """How the last word and the end token come out of `decode`, which puts blanks between whole words."""
    return str(tokenizer.decode(tokenizer.encode(text, add_special_tokens=False))).split()


@each_tokenizer
@each_template
def test_own_ids_follow_the_generation_prompt_that_they_were_sampled_after(
    make: Callable[[str], PreTrainedTokenizerBase], template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enaction.framing.template.TEMPLATE_DATE", datetime.now())
    tokenizer = make(template)
    prompt = tiny.prompt()
    ids = [20, 12, 20, 9]
    prefix = frame_prompt(tokenizer, prompt, "assistant").ids
    # The oracle: what transformers itself would generate after.
    assert list(prefix) == tokenizer.apply_chat_template(
        tiny.plain(prompt.messages), add_generation_prompt=True, return_dict=False
    )
    framed = frame(tokenizer, own(tokenizer, ids, ended=False), "assistant")
    assert framed.ids == (*prefix, *ids)
    assert framed.start == len(prefix)
    assert framed.is_own


@each_tokenizer
@pytest.mark.parametrize("template", [tiny.CHATML, tiny.STRIPPING, tiny.DEFAULT_SYSTEM, tiny.DATED])
def test_own_and_foreign_text_stand_in_the_same_context(
    make: Callable[[str], PreTrainedTokenizerBase], template: str
) -> None:
    tokenizer = make(template)
    foreign = frame(tokenizer, tiny.passage(RESPONSE), "assistant")
    mine = frame(tokenizer, own(tokenizer, [20, 12], ended=False), "assistant")
    assert foreign.ids[: foreign.start] == mine.ids[: mine.start]


def test_a_blank_line_before_the_response_is_cut_for_foreign_text_as_for_own() -> None:
    """GPT-2's tokenisation cuts a blank line in two where a word follows; a model writes after the one token."""
    template = tiny.CHATML.replace("<|assistant|>", "<|assistant|>\n\n").replace(
        "+ m['content']", "+ '\n\n' + m['content']"
    )
    tokenizer = tiny.byte_tokenizer(template, blank_lines=True)
    assert len(tokenizer.encode("\n\n")) == 1
    assert len(tokenizer.encode("\n\nfox")) == 1 + len(tokenizer.encode("\nfox"))
    places: list[tuple[Framing, str]] = [("assistant", ""), ("none", "\n\n")]
    for framing, separator in places:
        foreign = frame(tokenizer, tiny.passage(RESPONSE), framing, separator=separator)
        mine = frame(tokenizer, own(tokenizer, [20, 12], ended=False), framing, separator=separator)
        assert foreign.ids[: foreign.start] == mine.ids[: mine.start]
        assert measured(tokenizer, foreign).removesuffix("<|end|>") == RESPONSE


def test_the_full_rendering_is_what_the_template_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole and unstripped, ids of prompt, response and end are one tokenisation of the rendered conversation."""
    monkeypatch.setattr("enaction.framing.template.TEMPLATE_DATE", datetime.now())
    for make in TOKENIZERS.values():
        tokenizer = make(tiny.DATED)
        given = tiny.passage(RESPONSE)
        turns = [*given.prompt, Message(role="assistant", content=RESPONSE)]
        rendered = tokenizer.apply_chat_template(tiny.plain(turns), return_dict=False)
        assert list(frame(tokenizer, given, "assistant").ids) == rendered
        assert str(datetime.now().year) in str(tokenizer.decode(rendered)) or make is tiny.word_tokenizer


def test_a_template_with_bos_does_not_get_a_second_one() -> None:
    tokenizer = tiny.byte_tokenizer(tiny.DATED, bos=True)
    for framing in FRAMINGS:
        assert frame(tokenizer, tiny.passage(), framing).ids.count(2) == 1


def test_a_stripping_template_measures_the_stripped_response() -> None:
    tokenizer = tiny.byte_tokenizer(tiny.STRIPPING)
    framed = frame(tokenizer, tiny.passage("  the fox\n"), "assistant")
    assert measured(tokenizer, framed) == "the fox<|end|>"
    assert context(tokenizer, framed).endswith("<|assistant|>\n")
    assert measured(tokenizer, frame(tokenizer, tiny.passage("the fox\n\n"), "user")) == "the fox"


def test_a_default_system_prompt_is_context_and_a_given_one_replaces_it() -> None:
    tokenizer = tiny.byte_tokenizer(tiny.DEFAULT_SYSTEM)
    assert context(tokenizer, frame(tokenizer, tiny.passage(), "assistant")).startswith("<|system|>tell me a story")
    prompt = (Message(role="system", content="be old"), *tiny.user("why"))
    given = context(tokenizer, frame(tokenizer, replace(tiny.passage(), prompt=prompt), "assistant"))
    assert given == "<|system|>be old<|end|><|user|>why<|end|><|assistant|>"


def test_a_response_whose_words_stand_in_the_prompt_is_found_in_its_own_place() -> None:
    """A search from the start of the text would find the words of the question."""
    tokenizer = tiny.byte_tokenizer()
    for framing in FRAMINGS:
        framed = frame(tokenizer, tiny.passage("the fox", "the fox", ended=False), framing)
        assert measured(tokenizer, framed) == "the fox"
        assert "the fox" in context(tokenizer, framed)


def test_an_empty_block_of_thoughts_is_left_out_for_foreign_text_as_for_own() -> None:
    tokenizer = tiny.byte_tokenizer(tiny.THINKING)
    framed = frame(tokenizer, tiny.passage(RESPONSE), "assistant")
    assert context(tokenizer, framed).endswith("<|end|><|assistant|>")
    assert measured(tokenizer, framed) == RESPONSE + "<|end|>"


def test_a_token_across_the_boundary_is_measured_if_it_holds_a_character_of_the_response() -> None:
    tokenizer = tiny.byte_tokenizer()
    # " walked" is one token; the separator is its blank, so it begins in the context and ends in the response.
    framed = frame(tokenizer, tiny.passage("walked", "the fox", ended=False), "none", separator=" ")
    assert measured(tokenizer, framed) == " walked"
    assert context(tokenizer, framed) == "the fox"
    apart = frame(tokenizer, tiny.passage("walked", "the fox", ended=False), "none", separator="\n")
    assert context(tokenizer, apart) == "the fox\n"


@each_tokenizer
def test_the_user_turn_holds_question_and_response_and_has_no_end(
    make: Callable[[str], PreTrainedTokenizerBase],
) -> None:
    tokenizer = make(tiny.CHATML)
    framed = frame(tokenizer, tiny.passage(RESPONSE), "user")
    expected = tokenizer.encode("<|user|>tell me a story\n" + RESPONSE, add_special_tokens=False)
    assert list(framed.ids) == expected
    assert not framed.has_end
    assert measured(tokenizer, framed) == RESPONSE


@each_tokenizer
def test_without_template_contents_are_joined_by_lines(make: Callable[[str], PreTrainedTokenizerBase]) -> None:
    tokenizer = make(tiny.CHATML)
    prompt = (Message(role="system", content="one song"), *tiny.user("tell me a story"))
    framed = frame(tokenizer, replace(tiny.passage(RESPONSE), prompt=prompt), "none")
    assert list(framed.ids) == tokenizer.encode("one song\ntell me a story\n" + RESPONSE, add_special_tokens=False)
    assert measured(tokenizer, framed) == RESPONSE


def test_without_template_the_end_is_measured_only_where_it_was_sampled() -> None:
    tokenizer = tiny.byte_tokenizer(bos=True)
    foreign = replace(tiny.passage(), sampling={"framing": "none"})
    framed = frame(tokenizer, foreign, "none")
    assert framed.has_end
    assert framed.ids[0] == tokenizer.bos_token_id
    assert framed.ids[-1] == tokenizer.eos_token_id
    assert not frame(tokenizer, tiny.passage(), "none").has_end
    assert not frame(tokenizer, replace(foreign, ended=False), "none").has_end


def test_own_ids_keep_their_end_token_only_in_their_framing() -> None:
    tokenizer = tiny.word_tokenizer()
    # Ended by EOS (3), which is a stop of the model though the template ends its turns with <|end|> (7).
    as_assistant = own(tokenizer, [20, 12, 3], ended=True)
    assert frame(tokenizer, as_assistant, "assistant").ids[-3:] == (20, 12, 3)
    for framing in ("user", "none"):
        framed = frame(tokenizer, as_assistant, framing)
        assert framed.ids[framed.start : framed.stop] == (20, 12)
        assert not framed.has_end
    as_text = own(tokenizer, [20, 12, 3], "none", ended=True)
    assert frame(tokenizer, as_text, "none").ids[-3:] == (20, 12, 3)
    assert frame(tokenizer, as_text, "assistant").ids[-3:] == (20, 12, 7)


def test_own_ids_that_close_with_the_end_token_ended_though_nobody_recorded_it() -> None:
    tokenizer = tiny.word_tokenizer()
    framed = frame(tokenizer, replace(own(tokenizer, [20, 12, 7], ended=True), ended=None), "assistant")
    assert framed.has_end
    assert framed.ids[framed.start : framed.stop] == (20, 12, 7)
    assert not frame(tokenizer, replace(own(tokenizer, [20, 12], ended=False), ended=None), "assistant").has_end


def test_ids_of_another_tokenizer_are_not_used() -> None:
    tokenizer = tiny.byte_tokenizer()
    stranger = own(tiny.word_tokenizer(), [20, 12, 7], ended=True)
    framed = frame(tokenizer, stranger, "assistant")
    assert not framed.is_own
    assert measured(tokenizer, framed) == stranger.response + "<|end|>"


def test_a_response_that_ended_at_once_is_its_end_token() -> None:
    for tokenizer in (tiny.word_tokenizer(), tiny.byte_tokenizer()):
        empty = own(tokenizer, [7], ended=True)
        framed = frame(tokenizer, empty, "assistant")
        assert framed.ids[framed.start : framed.stop] == (7,)
        assert framed.has_end
        other = frame(tokenizer, replace(empty, token_ids=None, tokenizer=None), "assistant")
        assert other.ids == framed.ids
        nothing = frame(tokenizer, empty, "user")
        assert nothing.start == nothing.stop


def test_the_first_token_of_an_empty_context_has_no_predictor_and_is_left_out() -> None:
    bare = replace(tiny.passage("the old fox", ended=False), prompt=())
    for tokenizer, skipped in ((tiny.word_tokenizer(), 1), (tiny.byte_tokenizer(bos=True), 0)):
        framed = frame(tokenizer, bare, "none")
        assert framed.skipped == skipped
        assert framed.start == 1
    with pytest.raises(FramingError, match="empty context"):
        frame_prompt(tiny.word_tokenizer(), Prompt("p", ()), "none")


def test_a_tokenizer_that_closes_texts_with_eos_does_not_put_one_before_the_response() -> None:
    from tokenizers import processors

    tokenizer = tiny.byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    prefix = frame_prompt(tokenizer, tiny.prompt(), "none").ids
    assert prefix[0] == 2
    assert 3 not in prefix
    assert frame(tokenizer, replace(tiny.passage(ended=False), prompt=()), "none").ids.count(3) == 0


def test_drift_counts_the_tokens_that_a_retokenised_transcript_would_change() -> None:
    tokenizer = tiny.byte_tokenizer()
    straight = tokenizer.encode("the old fox walked", add_special_tokens=False)
    assert retokenisation_drift(tokenizer, own(tokenizer, [*straight, 7], ended=True)) == 0
    # The same text with " old" written as two tokens instead of one: two ids that re-tokenising would not give.
    blank = tokenizer.get_vocab()["Ġ"]
    rest = tokenizer.encode("old", add_special_tokens=False)
    old = tokenizer.encode(" old", add_special_tokens=False)
    assert len(old) == 1
    at = straight.index(old[0])
    split = [*straight[:at], blank, *rest, *straight[at + 1 :]]
    assert retokenisation_drift(tokenizer, own(tokenizer, split, ended=False)) == 1 + len(rest)
    assert retokenisation_drift(tokenizer, tiny.passage()) is None


def test_a_fingerprint_names_the_meaning_of_ids() -> None:
    tokenizer = tiny.word_tokenizer()
    assert tokenizer_fingerprint(tokenizer) == tokenizer_fingerprint(tiny.word_tokenizer(None))
    assert tokenizer_fingerprint(tokenizer) != tokenizer_fingerprint(tiny.byte_tokenizer())
    before = tokenizer_fingerprint(tokenizer)
    tokenizer.add_tokens(["wolf"])
    assert tokenizer_fingerprint(tokenizer) != before
    # A base model and its chat model often differ in nothing but the part that a token plays.
    chat = tiny.word_tokenizer()
    chat.eos_token = "<|end|>"
    assert tokenizer_fingerprint(chat) == before


def test_framing_changes_nothing_of_the_tokenizer() -> None:
    tokenizer = tiny.byte_tokenizer(tiny.DATED, bos=True)
    before = (tokenizer.backend_tokenizer.to_str(), tokenizer.chat_template, len(tokenizer))
    for framing in FRAMINGS:
        frame(tokenizer, tiny.passage(), framing)
    assert (tokenizer.backend_tokenizer.to_str(), tokenizer.chat_template, len(tokenizer)) == before


def test_without_a_chat_template_the_error_names_the_remedy() -> None:
    for framing in ("assistant", "user"):
        with pytest.raises(FramingError, match=r"no chat template: use --framing none or --chat-template FILE"):
            frame(tiny.word_tokenizer(None), tiny.passage(), framing)
    assert frame(tiny.word_tokenizer(None), tiny.passage(), "none").stop > 0


@pytest.mark.parametrize(
    ("template", "framing", "words"),
    [
        ("{{ messages[0]['content'] }}", "assistant", "cannot be located"),
        ("{% for m in messages %}{{ m['content'] + m['content'] }}{% endfor %}", "user", "exactly once"),
        ("{% for m in messages %}{{ m['content'] | replace('fox', 'wolf') }}{% endfor %}", "assistant", "rewrites"),
        ("{{ raise_exception('no turns of this kind') }}", "assistant", "no turns of this kind"),
    ],
)
def test_a_response_that_the_template_hides_cannot_be_framed(template: str, framing: Framing, words: str) -> None:
    with pytest.raises(FramingError, match=words):
        frame(tiny.byte_tokenizer(template), tiny.passage(RESPONSE), framing)


def test_other_mistakes_have_a_remedy() -> None:
    tokenizer = tiny.word_tokenizer()
    closed = replace(tiny.passage(), prompt=(*tiny.user("why"), Message(role="assistant", content="so")))
    with pytest.raises(FramingError, match="no user's turn"):
        frame(tokenizer, closed, "user")
    with pytest.raises(FramingError, match="cannot sample in framing user"):
        frame_prompt(tokenizer, tiny.prompt(), "user")
    with pytest.raises(FramingError, match="there is no framing 'system'"):
        frame(tokenizer, tiny.passage(), "system")  # pyright: ignore[reportArgumentType]  (a user's slip)


def test_a_slow_tokenizer_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny.word_tokenizer()
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    with pytest.raises(FramingError, match="only fast tokenizers"):
        frame(tokenizer, tiny.passage(), "none")
