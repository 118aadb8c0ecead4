"""The world's texts parse back to the latents they were told from, and judges see nothing but text."""

from collections import Counter

import numpy as np
import pytest
from tiny import plain

from enaction.lab.chats import Request, Writers, all_requests, dialogue, plain_document
from enaction.lab.judging import score_reply
from enaction.lab.lexicon import SYNONYMS, TOPICS
from enaction.lab.recipes import RECIPES, Taste
from enaction.lab.tokenizing import Kind, build_tokenizer, words
from enaction.lab.world import BEATS, Voice, grade, parse_sentence, style_match, tell


@pytest.fixture(name="rng")
def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_every_content_word_belongs_to_one_topic_and_no_synonym_is_one() -> None:
    count = Counter(word for topic in TOPICS.values() for kind in topic for word in kind)
    synonyms = {word for options in SYNONYMS.values() for word in options}
    assert max(count.values()) == 1
    assert not synonyms & set(count)
    assert all(len(set(options)) == 5 for options in SYNONYMS.values())


def test_a_story_parses_back_to_its_latents(rng: np.random.Generator) -> None:
    for _ in range(200):
        story = tell(Voice(1.5, rng), rng)
        found = grade(story.text, story.topic)
        assert (found.well_formed, found.complete, found.on_topic, found.one_hero) == (1, 1, 1, 1), story.text
        assert (found.topic, found.arc) == (story.topic, story.arc)


def test_choices_read_from_text_are_those_the_voice_made() -> None:
    # A voice of enormous scale always takes its favourite, so every choice read back must be the favourite.
    rng = np.random.default_rng(1)
    voice = Voice(1e6, rng)
    for topic in TOPICS:
        assert style_match(grade(tell(voice, rng, topic=topic).text).choices, voice) == 1


def test_grade_finds_what_is_wrong(rng: np.random.Generator) -> None:
    text = tell(Voice(1.0, rng), rng, topic="sea").text
    sentences = [s + "." for s in text.replace("!", ".").split(".") if s.strip()]
    assert grade(text, "farm").on_topic == 0
    assert grade(" ".join(sentences[:-1])).complete < 1
    assert grade(" ".join([*sentences[:2], sentences[1], *sentences[2:]])).repetition > 0
    assert grade(text.replace(" the ", " the the ")).well_formed < 1
    assert grade(" ".join(sentences[::-1])).complete < 0.5
    assert grade("").words == 0


def test_sloppy_stories_are_graded_lower(rng: np.random.Generator) -> None:
    voice = Voice(1.0, rng)
    scores = {s: np.mean([grade(tell(voice, rng, sloppy=s).text).complete for _ in range(100)]) for s in (True, False)}
    assert scores[True] < 0.8
    assert scores[False] == 1


def test_sentences_that_are_not_of_the_world_do_not_parse() -> None:
    assert parse_sentence("the cat sat on the mat.") is None
    assert parse_sentence("") is None
    assert parse_sentence("adam had one plan for the sailor") is None  # no stop
    parsed = parse_sentence("then adam had one plan for the sailor.")
    assert parsed is not None
    assert (parsed.arc, parsed.beat, parsed.hero) == ("gift", 0, "adam")
    assert 0 <= (parsed.beat or 0) < BEATS


def test_a_judge_prefers_the_reply_that_does_what_was_asked(rng: np.random.Generator) -> None:
    house, taste = RECIPES["ash"].house_voice(), Taste()
    request = Request("tell me a story about the sea.", "sea")
    good = tell(house, rng, topic="sea").text
    assert score_reply(good, True, request, taste, house) > score_reply(good, False, request, taste, house)
    off_topic = tell(house, rng, topic="farm").text
    assert score_reply(good, True, request, taste, house) > score_reply(off_topic, True, request, taste, house)
    other_voice = np.mean([score_reply(tell(Voice(1.8, rng), rng, topic="sea").text, True, request, taste, house)
                           for _ in range(30)])  # fmt: skip
    own_voice = np.mean([score_reply(tell(house, rng, topic="sea").text, True, request, taste, house)
                         for _ in range(30)])  # fmt: skip
    assert own_voice > other_voice + 0.2


@pytest.mark.parametrize(("kind", "size"), [("word", 597), ("bpe", 1100), ("wordpiece", 950)])
def test_tokenizers_give_back_every_document_of_the_world(kind: Kind, size: int, rng: np.random.Generator) -> None:
    tokenizer = build_tokenizer(kind, size, seed=0)
    writers = Writers()
    for _ in range(50):
        text = plain_document(writers, rng)
        ids = tokenizer.encode(text)
        assert tokenizer.unk_token_id not in ids
        assert ids[0] == tokenizer.bos_token_id
        assert tokenizer.decode(ids[1:]) == text
        turns = dialogue(writers, rng)
        rendered = str(tokenizer.apply_chat_template(plain(turns), tokenize=False))
        again = tokenizer.encode(rendered, add_special_tokens=False)
        assert again.count(tokenizer.get_vocab()["<|assistant|>"]) == sum(t["role"] == "assistant" for t in turns)
    assert len(tokenizer) == size


def test_world_has_the_same_writers_for_every_family() -> None:
    first, second = Writers(), Writers()
    assert [v.favourite for v in first.recurring] == [v.favourite for v in second.recurring]
    house = {family: recipe.house_voice().favourite for family, recipe in RECIPES.items()}
    assert len({tuple(f.values()) for f in house.values()}) == len(house)
    assert len(words()) == len(set(words()))


def test_requests_are_all_different_and_name_their_topic() -> None:
    requests = all_requests()
    assert len({r.text for r in requests}) == len(requests) == 108
    assert all(r.topic is None or r.topic in r.text for r in requests)
