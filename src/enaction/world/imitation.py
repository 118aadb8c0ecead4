"""Imitations: stories from the world's generator that keep a writer's habits, though the writer wrote none of them.

Habits are frequencies: how often each option of each choice was taken (arc, hero, patterns, openers, stops, synonyms),
and how often each content word within its topic. An imitation draws every choice by itself, so that it has the writer's
distribution of choices and nothing else of the writer: whatever a reader finds in the writer's own text and not in the
imitation lies in what the choices have to do with each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from enaction.world.lexicon import ARCS, HEROES, TOPICS
from enaction.world.stories import (
    TASTES,
    Voice,
    WordShares,
    grade,
    parse_sentence,
    split_sentences,
)

_PLACE_OF = {
    word: (topic, kind, i)
    for topic, kinds in TOPICS.items()
    for kind, words in kinds._asdict().items()
    for i, word in enumerate(words)
}


@dataclass(frozen=True)
class Habits:
    """What a writer was seen to do.

    Attributes:
        voice: takes each option as often as the writer did.
        words: probabilities of the content words; uniform where the writer used none of their kind.
        well_formed: share of the writer's sentences that parse; the others left no trace in the voice.
    """

    voice: Voice
    words: WordShares
    well_formed: float


def habits_of(replies: Iterable[tuple[str | None, str]]) -> Habits:
    """The habits that replies show.

    Args:
        replies: the topic that was asked for, if one was, and the text of each. Which topics a writer chooses is seen
            where the choice was left open.
    """
    taken = {name: np.zeros(size) for name, size in TASTES.items()}
    used = {
        topic: {kind: np.zeros(len(words)) for kind, words in kinds._asdict().items()}
        for topic, kinds in TOPICS.items()
    }
    n_sentences = n_parsed = 0
    for asked, text in replies:
        parsed = [parse_sentence(sentence) for sentence in split_sentences(text)]
        good = [sentence for sentence in parsed if sentence is not None]
        n_sentences, n_parsed = n_sentences + len(parsed), n_parsed + len(good)
        for name, option in (choice for sentence in good for choice in sentence.choices):
            taken[name][option] += 1
        graded = grade(text)
        if graded.arc is not None:
            taken["arc"][list(ARCS).index(graded.arc)] += 1
        if graded.topic is not None and asked is None:
            taken["topic"][list(TOPICS).index(graded.topic)] += 1
        heroes = [sentence.hero for sentence in good if sentence.hero is not None]
        if heroes:
            taken["hero"][HEROES.index(max(heroes, key=heroes.count))] += 1
        for word in re.findall(r"\w+", text):
            if word in _PLACE_OF:
                topic, kind, i = _PLACE_OF[word]
                used[topic][kind][i] += 1
    words = {topic: {kind: _shares(count) for kind, count in kinds.items()} for topic, kinds in used.items()}
    return Habits(Voice.weighted(taken), words, n_parsed / max(n_sentences, 1))


def settled(voice: Voice, on: Mapping[str, int]) -> Voice:
    """A voice that always takes the same option of some choices.

    Args:
        voice: takes the others.
        on: choice -> its option, e.g. `{"arc": 2}`.
    """
    fixed = {name: np.eye(TASTES[name])[option] for name, option in on.items()}
    return Voice.weighted({**voice.probabilities, **fixed})


def _shares(count: np.ndarray) -> np.ndarray:
    return count / count.sum() if count.any() else np.full(len(count), 1 / len(count))
