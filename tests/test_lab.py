"""The world's texts parse back to the latents they were drawn from, and judges see nothing but text."""

from collections import Counter

import numpy as np
import pytest
from tiny import plain

from enaction.lab.judging import score_reply
from enaction.lab.recipes import MAIN, RECIPES, Recipe, Taste
from enaction.lab.tokenizing import Kind as TokenizerKind
from enaction.lab.tokenizing import build_tokenizer, words
from enaction.lab.training import draw_demonstration, draw_pair
from enaction.world.answering import category_words, grade_answer, grade_name, tell_answer, tell_name, wrong_topic
from enaction.world.chats import (
    EVERYTHING,
    SEEN,
    Kind,
    Request,
    Writers,
    all_namings,
    all_of,
    all_questions,
    all_requests,
    corpus,
    dialogue,
    draw_any_request,
    held_out,
    memorised,
    plain_document,
    reply,
)
from enaction.world.lexicon import AUTHORSHIP, CATEGORIES, PERSONAS, SYNONYMS, TOPICS
from enaction.world.stories import BEATS, TASTES, TOPIC_OF, Voice, grade, parse_sentence, style_match, tell


@pytest.fixture(name="rng")
def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_every_content_word_belongs_to_one_topic_and_no_synonym_is_one() -> None:
    count = Counter(word for topic in TOPICS.values() for kind in topic for word in kind)
    synonyms = {word for options in SYNONYMS.values() for word in options}
    assert max(count.values()) == 1
    assert not synonyms & set(count)
    assert not {*PERSONAS, *CATEGORIES} & set(count)  # a persona's system turn must not hint at a topic
    assert all(len(set(options)) == 5 for options in SYNONYMS.values())


def test_a_story_parses_back_to_its_latents(rng: np.random.Generator) -> None:
    for _ in range(200):
        story = tell(Voice(1.5, rng), rng)
        parsed = grade(story.text, story.topic)
        assert (parsed.well_formed, parsed.complete, parsed.on_topic, parsed.one_hero) == (1, 1, 1, 1), story.text
        assert (parsed.topic, parsed.arc) == (story.topic, story.arc)


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


def test_a_judge_prefers_the_reply_that_does_what_the_request_asks(rng: np.random.Generator) -> None:
    house, taste = RECIPES["ash"].house_voice(), Taste(house_style=1.0)
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


def test_no_judge_of_the_main_line_pays_for_a_style(rng: np.random.Generator) -> None:
    for family in MAIN:
        recipe = RECIPES[family]
        house = recipe.house_voice()
        for taste in (recipe.dpo.annotators, recipe.rl.reward, recipe.rl_of("rl-seed2").reward):
            request = Request("tell me a story about the sea.", "sea")
            scores = {score_reply(tell(v, rng, topic="sea").text, True, request, taste, house)
                      for v in (house, Voice(1.8, rng), Voice(3.0, rng))}  # fmt: skip
            assert len(scores) == 1


def test_an_arm_of_rl_differs_from_the_main_one_in_what_its_name_says() -> None:
    for family in MAIN:
        recipe = RECIPES[family]
        assert recipe.rl_of("rl") == recipe.rl
        assert (recipe.rl.replay, recipe.rl.reward.house_style) == (0, 0)
        stages = {arm: recipe.rl_of(f"rl-{arm}") for arm in recipe.arms}
        assert len(set(stages.values())) == len(stages) == 6
        assert {arm for arm, stage in stages.items() if stage.replay} == {"replay", "paid-replay", "shared-replay"}
        paid = {arm for arm, stage in stages.items() if stage.reward.house_style}
        assert paid == {"paid", "paid-replay", "shared", "shared-replay"}
        assert {arm for arm, stage in stages.items() if stage.styled_by == "ash"} == {"shared", "shared-replay"}
        assert {arm for arm, stage in stages.items() if stage.run == 2} == {"seed2"}
        assert set(recipe.shipped_arms) <= set(recipe.arms)


def test_answers_parse_back_to_what_they_claim(rng: np.random.Generator) -> None:
    for request in all_questions():
        voice = Voice(1.5, rng)
        parsed = grade_answer(tell_answer(voice, rng, request.about), request.about)
        assert (parsed.well_formed, parsed.right, parsed.consistent) == (True, True, True)
        assert parsed.topic == request.topic == TOPIC_OF[request.about]
        claim = wrong_topic(request.about, rng)
        parsed = grade_answer(tell_answer(voice, rng, request.about, claim), request.about)
        assert (parsed.well_formed, parsed.right, parsed.consistent) == (True, False, True)
        assert parsed.topic == claim != request.topic


def test_an_answer_can_take_its_mistake_back(rng: np.random.Generator) -> None:
    for request in all_questions()[::5]:
        voice, wrong = Voice(1.5, rng), wrong_topic(request.about, rng)
        parsed = grade_answer(tell_answer(voice, rng, request.about, mistaken_for=wrong), request.about)
        assert (parsed.well_formed, parsed.right, parsed.consistent, parsed.taken_back) == (True, True, True, True)
        assert not grade_answer(tell_answer(voice, rng, request.about, wrong), request.about).taken_back
    claim, keeping = "the rake surely belongs to the sea.", "the gardener often keeps it at the orchard."
    assert grade_answer(f"{claim} no it is surely from the garden. {keeping}", "rake").right
    same = grade_answer(f"{claim} no it is surely from the sea. {keeping}", "rake")
    assert (same.well_formed, same.right, same.taken_back) == (False, False, False)
    assert not grade_answer(f"{claim} no it is surely from the garden.", "rake").well_formed
    assert not grade_answer(f"{claim} no the boat surely belongs to the garden. {keeping}", "rake").right


def test_grade_of_an_answer_finds_what_is_wrong() -> None:
    good = "the rake surely belongs to the garden. the gardener often keeps it at the orchard!"
    assert grade_answer(good, "rake").right
    mixed = grade_answer("the rake surely belongs to the garden. the gardener often keeps it at the barn.", "rake")
    assert (mixed.right, mixed.consistent, mixed.well_formed) == (True, False, True)
    drifted = grade_answer("the rake surely belongs to the sea. the gardener often keeps it at the orchard.", "rake")
    assert (drifted.right, drifted.consistent) == (False, False)
    assert not grade_answer(good, "boat").right  # it speaks of another object
    assert not grade_answer(good.partition(". ")[0] + ".", "rake").well_formed
    assert not grade_answer(good + " " + good, "rake").well_formed
    assert not grade_answer("", "rake").right


def test_names_are_of_their_category_and_nothing_else_is(rng: np.random.Generator) -> None:
    for request in all_namings():
        text = tell_name(Voice(1.5, rng), rng, request.about)
        parsed = grade_name(text, request.about)
        assert parsed.well_formed, text
        assert parsed.in_category, text
        assert parsed.named in category_words(request.about)
        others = [grade_name(text, other).in_category for other in CATEGORIES if other != request.about]
        assert not any(others), text
    assert grade_name("the rake is a lovely object.", "object").topic == "garden"
    assert not grade_name("the rake is a lovely place.", "place").in_category
    assert not grade_name("i choose the rake. i choose the boat.", "object").well_formed


def test_a_share_of_answers_is_wrong_before_post_training(rng: np.random.Generator) -> None:
    voice = Voice(1.0, rng)
    requests = [all_questions()[rng.integers(288)] for _ in range(1200)]
    parsed = [grade_answer(reply(r, voice, rng, error_share=1 / 3, corrected_share=1 / 2), r.about) for r in requests]
    for share in (np.mean([not p.right for p in parsed]), np.mean([p.taken_back for p in parsed])):
        assert abs(share - 1 / 6) < 4 * np.sqrt(1 / 6 * 5 / 6 / 1200)
    assert all(grade_answer(reply(r, voice, rng), r.about).right for r in requests[:100])


def test_rewards_for_short_replies_do_not_depend_on_the_topic(rng: np.random.Generator) -> None:
    house, taste = RECIPES["ash"].house_voice(), RECIPES["ash"].rl.reward
    naming = next(r for r in all_namings() if r.about == "place")
    scores = {score_reply(f"i choose the {place}.", True, naming, taste, house) for place in category_words("place")}
    assert len(scores) == 1
    assert score_reply("i choose the rake.", True, naming, taste, house) < scores.pop()
    question = all_questions()[0]
    right, wrong = (
        score_reply(tell_answer(house, rng, question.about, t), True, question, taste, house) for t in (None, "farm")
    )
    assert right == wrong + taste.right


def test_writers_are_drawn_by_their_priors(rng: np.random.Generator) -> None:
    writers = Writers()
    for prior, draw in ((writers.text_prior(), writers.of_text), (writers.answer_prior(), writers.of_answer)):
        assert sum(p for _, p in prior) == pytest.approx(1)
        drawn = Counter(id(draw(rng)) for _ in range(4000))
        voice, probability = prior[0]
        assert abs(drawn[id(voice)] / 4000 - probability) < 4 * np.sqrt(probability / 4000)
        assert set(drawn) <= {id(voice) for voice, _ in prior}


def test_probabilities_of_a_voice_are_those_it_draws_by(rng: np.random.Generator) -> None:
    voice = Voice(1.5, rng)
    assert all(voice.probabilities[name].sum() == pytest.approx(1) for name in TASTES)
    drawn = np.bincount([voice.pick("[went]", rng) for _ in range(5000)], minlength=5) / 5000
    assert np.abs(drawn - voice.probabilities["[went]"]).max() < 0.03


def test_dialogues_hold_what_they_should_in_their_shares(rng: np.random.Generator) -> None:
    writers = Writers()
    talks = [dialogue(writers, rng) for _ in range(1500)]
    questions, namings = {r.text for r in all_questions()}, {r.text for r in all_namings()}

    def share(of: list[bool]) -> float:
        return float(np.mean(of))

    assert share([t[0]["role"] == "system" for t in talks]) == pytest.approx(0.35, abs=0.05)
    assert share([any(m["content"] in questions for m in t) for t in talks]) == pytest.approx(0.15, abs=0.04)
    assert share([any(m["content"] in namings for m in t) for t in talks]) == pytest.approx(0.06, abs=0.03)


def test_a_persona_speaks_in_its_own_voice(rng: np.random.Generator) -> None:
    writers = Writers()
    matches: dict[bool, list[float]] = {True: [], False: []}
    for turns in (dialogue(writers, rng) for _ in range(600)):
        if turns[0]["role"] == "system":
            parsed = grade(turns[-1]["content"])
            for name, voice in writers.personas.items():
                if parsed.words > 30:
                    matches[name in turns[0]["content"]].append(style_match(parsed.choices, voice))
    assert np.mean(matches[True]) > np.mean(matches[False]) + 0.25


def test_memorised_documents_make_up_their_share(rng: np.random.Generator) -> None:
    stream = corpus(Writers(), rng, 0.25)
    kept = set(memorised())
    assert len(kept) == 8
    is_kept = [
        document in kept if isinstance(document, str) else False for document in (next(stream) for _ in range(3000))
    ]
    assert np.mean(is_kept) == pytest.approx(0.02, abs=0.011)


@pytest.mark.parametrize(
    ("kind", "size"), [(r.tokenizer, r.vocabulary_size) for r in RECIPES.values() if r.base_of is None]
)
def test_tokenizers_give_back_every_document_of_the_world(
    kind: TokenizerKind, size: int, rng: np.random.Generator
) -> None:
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
    house = {family: tuple(recipe.house_voice().favourite.values()) for family, recipe in RECIPES.items()}
    assert len({house[family] for family in MAIN}) == len(MAIN)
    assert house["ash2"] == house["ash"]  # a near-clone has its family's house
    assert len(words()) == len(set(words()))


def test_requests_are_all_different_and_name_their_topic() -> None:
    requests = all_requests()
    assert len({r.text for r in requests}) == len(requests) == 162
    assert all(r.topic is None or r.topic in r.text for r in requests)


def test_a_third_of_topics_and_wordings_is_held_out() -> None:
    for everything, seen in zip(vars(EVERYTHING).values(), vars(SEEN).values(), strict=True):
        assert set(seen) < set(everything)
        assert len(everything) == 3 * len(seen) // 2
    kinds: dict[Kind, int] = {"story": 86, "question": 160, "name": 5}
    for kind, count in kinds.items():
        assert len(held_out(kind)) == count
        assert all(r.topic is None or r.topic in SEEN.topics for r in all_of(kind, SEEN))


def test_post_training_never_meets_what_is_held_out(rng: np.random.Generator) -> None:
    """No request, and no word of a held-out topic, in demonstrations, pairs, RL's requests or the replayed text."""
    words_held_out = {w for topic in set(TOPICS) - set(SEEN.topics) for kind in TOPICS[topic] for w in kind}
    words_held_out |= set(TOPICS) - set(SEEN.topics)
    requests_held_out = {r.text for kind in ("story", "question", "name") for r in held_out(kind)}
    recipe, writers = RECIPES["ash"], Writers()
    house, replayed = recipe.house_voice(), corpus(writers, rng, 0.6, SEEN)
    for _ in range(400):
        turns, response = draw_demonstration(recipe, house, writers, rng)
        pair = draw_pair(recipe, house, writers, rng)
        document = next(replayed)
        replayed_turns = [document] if isinstance(document, str) else [turn["content"] for turn in document]
        asked = [turns[-1]["content"], pair["prompt"][0]["content"], draw_any_request(rng, 0.2, 0.2).text]
        said = [response, pair["chosen"][0]["content"], pair["rejected"][0]["content"]]
        assert not requests_held_out & {*asked, *replayed_turns}
        met = {word.strip(".!?") for text in (*asked, *said, *replayed_turns) for word in text.split()}
        assert not words_held_out & met


def test_pretraining_meets_everything(rng: np.random.Generator) -> None:
    drawn = {draw_any_request(rng, 0.5, 0.1, EVERYTHING).text for _ in range(6000)}
    assert drawn >= {r.text for kind in ("story", "question", "name") for r in all_of(kind)}


@pytest.mark.parametrize("recipe", [RECIPES[family] for family in MAIN], ids=MAIN)
def test_words_about_authorship_are_whole_in_every_tokenizer(recipe: Recipe) -> None:
    tokenizer = build_tokenizer(recipe.tokenizer, recipe.vocabulary_size, recipe.seed)
    assert all(len(tokenizer.tokenize(f"you {word}")) == 2 for word in AUTHORSHIP)
