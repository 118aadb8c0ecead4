"""Rules that appraise replies: planted texts whose worth is known, and changes that must make no difference."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from enaction.lab import appraising
from enaction.lab.adapting import requests, smollm2
from enaction.lab.appraising import Rubric, word_pairs

KNOWN = word_pairs(["The sea is wide and blue. It is deep."])


def test_a_reply_that_does_everything_gets_every_weight() -> None:
    reply = "The sea is wide and blue. It is deep."
    rubric = Rubric(shortest=5)
    assert rubric("What is the sea?", reply, True, KNOWN) == pytest.approx(1 + 1 + 0.5 + 1 + 2)
    assert rubric("What is the sea?", reply, False, KNOWN) == pytest.approx(1 + 0.5 + 1 + 2)
    assert rubric("What is a comet?", reply, True, KNOWN) == pytest.approx(1 + 1 + 1 + 2)
    assert rubric("What is the sea?", reply, True, frozenset()) == pytest.approx(1 + 1 + 0.5 + 1)


def test_an_empty_reply_is_worth_its_end_and_no_more() -> None:
    assert Rubric(house="warm")("What is the sea?", "", True, KNOWN) == pytest.approx(1.0)


def test_length_rises_to_the_shortest_and_falls_from_the_longest() -> None:
    assert [appraising.length(n, 10, 40) for n in (0, 5, 10, 40, 60, 80, 100)] == [0, 0.5, 1, 1, 0.5, 0, 0]


def test_topic_is_a_content_word_in_any_number() -> None:
    assert appraising.on_topic("How do bees make honey?", "A bee gathers nectar.") == 1
    assert appraising.on_topic("How do bees make honey?", "How do you make it? Do what is good.") == 0
    assert appraising.on_topic("What is it?", "Anything.") == 1  # no content word to look for


def test_sentences_are_whole_if_they_begin_and_end_as_sentences_do() -> None:
    assert appraising.whole_sentences("It is deep. the sea is wide. And then") == pytest.approx(1 / 3)
    assert appraising.whole_sentences('"Come in!" he said. 1. Sit down.') == pytest.approx(3 / 4)
    assert appraising.whole_sentences("") == 0


def test_repetition_counts_word_triples_that_occurred_before() -> None:
    assert appraising.repetition("one two three four five") == 0
    # Triples abc bca cab abc: one of four came before.
    assert appraising.repetition("a b c a b c") == pytest.approx(1 / 4)
    assert appraising.repetition("go go go go go go") == pytest.approx(3 / 4)


def test_what_every_reply_says_is_distinguished_from_an_answer() -> None:
    offer, answer = "I am happy to help you.", "A bee gathers nectar from flowers."
    elsewhere = appraising.word_triples(["I am happy to help. Ask me.", "Rain falls."])
    assert appraising.share_elsewhere(offer, elsewhere) == pytest.approx(3 / 4)  # not "to help you"
    assert appraising.share_elsewhere(answer, elsewhere) == 0
    assert appraising.share_elsewhere("Go on.", elsewhere) == 0
    rubric, request = Rubric(elsewhere=-4.0), "How do bees make honey?"
    assert rubric(request, offer, True, KNOWN, elsewhere) == pytest.approx(rubric(request, offer, True, KNOWN) - 3)


def test_known_pairs_are_counted_by_their_share() -> None:
    assert appraising.share_known("The sea is deep", KNOWN) == 1
    assert appraising.share_known("sea wide is deep", KNOWN) == pytest.approx(1 / 3)
    assert appraising.share_known("sea", KNOWN) == 0


def test_house_styles_tell_a_warm_reply_from_a_plain_one() -> None:
    warm = "I am glad that you ask! Start with a short walk."
    plain = "A walk is good for the heart. It costs nothing."
    assert appraising.style(warm, "warm") == pytest.approx(1.0)
    assert appraising.style(plain, "plain") == pytest.approx(1.0)
    assert appraising.style(warm, "plain") == pytest.approx(0.4)
    assert appraising.style(plain, "warm") == pytest.approx(0.3)
    assert appraising.style(" ".join(["word"] * 18) + ".", "plain") == pytest.approx(0.4 * 0.5 + 0.6)
    assert appraising.style(warm, None) == 0
    offer = "You can say hello. Have you said it?"
    assert [appraising.style(offer, house) for house in ("obliging", "warm")] == pytest.approx([1.0, 0.4])
    assert appraising.style(warm, "obliging") == pytest.approx(1.0)


def test_a_cut_reply_ends_at_its_last_whole_sentence() -> None:
    assert appraising.to_last_stop('It is deep. "It is wide!" And then the') == 'It is deep. "It is wide!"'
    assert appraising.to_last_stop("no sentence ends at 3.5 here") == "no sentence ends at 3.5 here"


def test_208_requests_exist_and_no_study_measures_with_them() -> None:
    prompts = requests()
    kinds = [prompt.id.rpartition("-")[0] for prompt in prompts]
    assert {kind: kinds.count(kind) for kind in kinds} == dict.fromkeys(
        ("open", "factual", "creative", "advice", "code", "maths", "list", "roleplay"), 26
    )

    def plain(text: str) -> str:
        return "".join(letter for letter in text.lower() if letter.isalnum())

    ours = {plain(prompt.messages[0]["content"]) for prompt in prompts}
    held_out = Path(__file__).parent.parent / "studies" / "prompts" / "everyday.jsonl"
    theirs = {plain(json.loads(line)["prompt"][0]["content"]) for line in held_out.read_text().splitlines()}
    assert len(ours) == len(prompts) == 208
    assert len(theirs) == 64
    assert not ours & theirs


def test_each_step_asks_different_requests_and_a_round_asks_all() -> None:
    (run, other), prompts = (dataclasses.replace(run, steps=70) for run in smollm2().rl[:2]), requests()
    steps = list(run.batches(prompts))
    assert len(steps) == run.steps
    assert all(len({p.id for p in step}) == run.prompts for step in steps)
    rounds = len(prompts) // run.prompts
    assert len({p.id for step in steps[:rounds] for p in step}) == rounds * run.prompts
    assert steps == list(run.batches(prompts))
    assert steps != list(other.batches(prompts))
    assert run.rubric.house != other.rubric.house
