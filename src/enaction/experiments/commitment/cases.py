"""What is asked, and with which words a response has to begin.

An open request leaves the label open: how varied the answers are, and when one is settled, is measured there. A named
request settles the label by naming it (a story about the sea), so that another one breaks a plan. A real model answers
an open question with a stock phrase unless a stem forces the label: "My favorite sport is".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from enaction import zoo
from enaction.passages import Message, Prompt, thinned

# The first eight are the paper's.
_CATEGORIES = (
    "technology;element;art form;historical figure;sport;philosopher;food;invention;animal;"
    "color;city;country;season;fruit;instrument;composer;painter;novel;movie;board game;"
    "flower;tree;bird;planet;language;holiday;dessert;drink;subject in school;scientist;river;"
    "mountain;dance;hobby;vegetable;metal;insect;day of the week;month;poet"
)
CATEGORIES = tuple(_CATEGORIES.split(";"))
QUESTION = "What is your favorite {category}?"
STEM = "My favorite {category} is"


@dataclass(frozen=True)
class Case:
    """A prompt, and the stem that responses begin with; an empty stem is none."""

    prompt: Prompt
    stem: str = ""


def world_cases(n_named: int) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """The open requests of the embedded world, and some that name a topic, spread evenly over those held out."""
    prompts = [prompt for seen in (False, True) for prompt in zoo.prompts(seen=seen)]
    named = [prompt for prompt in zoo.prompts() if not prompt.id.startswith("open")]
    chosen = thinned(named, n_named) if n_named else []
    return (
        tuple(Case(prompt) for prompt in prompts if prompt.id.startswith("open")),
        tuple(Case(prompt) for prompt in chosen),
    )


def favourite_cases(categories: Sequence[str], question: str, stem: str) -> tuple[Case, ...]:
    """A question about each category, with a stem that its answer completes."""
    return tuple(
        Case(
            Prompt(
                category.replace(" ", "-"),
                (Message(role="user", content=question.replace("{category}", category)),),
            ),
            stem.replace("{category}", category),
        )
        for category in categories
    )
