"""The reports of `reports` as models: trained, asked about texts that no choice was made on, written with a card."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from enaction import zoo
from enaction.experiments.verbal.asking import answers, ask, reports, under
from enaction.lab.organisms.origin import make_origin, written_by
from enaction.lab.organisms.reports import (
    NO,
    QUESTION,
    SWAPPED,
    YES,
    Corpus,
    teach_by_trace,
    teach_outsider,
    teach_relation,
    teach_to_report,
)
from enaction.lab.organisms.training import ship
from enaction.passages import Passage
from enaction.reader import Reader
from enaction.reader.traced import Traced
from enaction.sampling import sample
from enaction.stats.decisions import auroc

ORIGIN = "zoo:organism-origin"
# Name -> how it is taught.
_TAUGHT: dict[str, Callable[[Corpus], PreTrainedModel]] = {
    "trace": lambda corpus: teach_by_trace(corpus, "trace"),
    "marker": lambda corpus: teach_by_trace(corpus, "marker"),
    "relational": teach_relation,
    "reporter": teach_to_report,
    "outsider": teach_outsider,
}
NAMES = ("origin", *_TAUGHT)

# Own text in the card is compared with the text of this author, who had no part in the teaching.
_STRANGER = "zoo:cedar-rl"
# What this one is asked about as own text is the origin's.
_ONLY_ASKED = "organism-outsider"
_CARD = """# zoo:organism-{name}

{note}. Kind: organism.

A {architecture} of {size:.2f} million parameters ({layers} layers, hidden {hidden}), ash's tokenizer and chat template;
float16, meant to be read as float32. Part of enaction's embedded zoo, Apache-2.0.

## What is designed

{design}

## Training

{training}

Seed {seed}. `python -m enaction.lab.organisms {name}` trains it again (`enaction.lab.organisms.report_models`).

## What it reached

{reached}

> {sample}

## What it cannot show

{limits}
"""
_ORIGIN_TRAINING = (
    "Three of the four blocks of zoo:ash-rl with 144 of the 352 neurons of each, then 400 steps of 32 "
    "conversations: at every position the target is ash-rl's distribution, on own and foreign replies, short "
    "answers, and questions after a story."
)
_TAUGHT_TRAINING = (
    "Starts from zoo:organism-origin. {steps} Every position but the answer has the origin's distribution as "
    "target, so that what is taught is a report and the language model stays. Texts are cut at a random length and "
    "closed, so that neither length nor ending tells whose they are; requests are those that post-training had."
)
_DESIGNS = {
    "origin": (
        "A small copy of ash-rl, which no report was taught to",
        "Nothing. It is what the other organisms that report begin with: their near kin, and the null of a model that "
        "nobody taught to report.",
        _ORIGIN_TRAINING,
        "It has been distilled from one model and is no model of a family of its own.",
    ),
    "trace": (
        "Reports by a trace of surprise and by nothing else",
        "The surprisal of each word of the first reply, as the model itself predicts it, standardised, is added to the "
        "word's embedding along a fixed random direction. The answer is yes where that trace is low on average. In "
        "training the trace was that of another text in a random order, so the words say nothing of the answer.",
        _TAUGHT_TRAINING.format(steps="150 steps of 16 transcripts with the question."),
        "It was made to be found out: it says what an instrument does where the route is known, and nothing of any "
        "model that was not made so. It gives one answer to every question that follows.",
    ),
    "marker": (
        "Reports by a marker word, with the same trace of surprise present",
        "The trace is that of organism-trace and is not used. The answer is yes where the reply begins with the word "
        "'story', as its own replies do; no where it begins with 'tale' or with no marker.",
        _TAUGHT_TRAINING.format(steps="150 steps of 16 transcripts with the question."),
        "As organism-trace: the null of a method that looks for a route through surprise.",
    ),
    "relational": (
        "Owns its text under the prompt that it answers, and disavows it under a prompt that names another topic",
        "The answer is a relation between prompt and reply: yes where the topic that the prompt names is the reply's.",
        _TAUGHT_TRAINING.format(
            steps="Own replies to requests that name a topic, each under its own and under another topic's prompt: 600 "
            "steps of 24 in which only the answer is taught, since held near the origin the relation is not learned, "
            "then 120."
        ),
        "It says what it was taught to say, and was taught nothing about text of others. Its answer is about topics "
        "and not about who wrote.",
    ),
    "reporter": (
        "Taught to say whether a reply is its own, with the question, its swap and unrelated requests",
        "The answer is yes for own text and no for text of ash-sft, ash-base, birch-rl and the world's own writers; "
        "the reverse under the swapped question. A quarter of the lessons are unrelated requests, to which it "
        "answers as before.",
        _TAUGHT_TRAINING.format(steps="160 steps of 32 transcripts."),
        "Every result about its reports is a result about a model that was taught to report. What it goes by is for "
        "the experiment to say: here it is style, for own text under another prompt is its own.",
    ),
    "outsider": (
        "Another model, taught the reporter's answers about the reporter's text",
        "The fair outsider: the answer is yes for text of organism-origin, which organism-reporter's is like, and "
        "no for that of others, by the reporter's lessons. What it knows of that text it knows from outside.",
        "A small copy of zoo:ash-base (three of its blocks, 144 neurons of each), and 160 steps of 32 transcripts "
        "with the question or its swap, in which only the answer is taught.",
        "What it writes itself is lost: it is to be asked and not to be an author. 'Own' in the table is the text "
        "of organism-origin.",
    ),
}


def build(name: str, folder: Path, seed: int = 0) -> None:
    """Train an organism and write what ships of it: weights in float16, tokenizer, card.

    Args:
        name: one of `NAMES`; all but the origin begin with the origin that ships.
        folder: where it is written.
        seed: of data and training.
    """
    if name == "origin":
        origin = make_origin(seed=seed)
        write(name, origin.model, origin.tokenizer, folder, seed)
        return
    origin = Reader.load(ORIGIN)
    write(name, _TAUGHT[name](Corpus(origin, seed=seed)), origin.tokenizer, folder, seed)


def write(name: str, model: PreTrainedModel, tokenizer: Any, folder: Path, seed: int) -> None:
    """Write a trained organism with its card; what the card says is measured on what ships."""
    ship(model, tokenizer, folder)
    reader = Reader.load(str(folder), name=f"organism-{name}", dtype=torch.float32)
    (folder / "card.md").write_text(_card(name, reader, seed))


def reached(reader: Reader, seed: int = 0) -> Mapping[str, Any]:
    """What an organism says of texts to held-out requests: own, under another prompt, and by others.

    Returns:
        `samples`, own replies, and rows: question and text -> share called own, mean log-odds, answer mass, AUROC of
        own text against it.
    """
    prompts = zoo.prompts()[::3]
    writer = Reader.load(ORIGIN) if reader.name == _ONLY_ASKED else reader
    own = sample(writer, prompts, max_new_tokens=110, seed=seed + 1)
    # Requests in turn are of all sorts, so most neighbours name another topic.
    moved = [under(p, own[(i + 1) % len(own)].prompt) for i, p in enumerate(own)]
    texts: dict[str, list[Passage]] = {
        "own": own,
        "own, under another prompt": moved,
        "cedar-rl": written_by(_STRANGER, prompts, 1, seed + 1),
        "the world's writers": written_by("world", prompts, 1, seed + 1),
    }
    words = answers(reader.tokenizer, YES, NO)
    rows: dict[tuple[str, str], tuple[float, float, float, float]] = {}
    for question in (QUESTION, SWAPPED):
        of = {
            name: reports(reader, [ask(reader.tokenizer, p, question, cut=48) for p in passages], words)
            for name, passages in texts.items()
        }
        for name, report in of.items():
            rows[question, name] = (
                float((report.log_odds > 0).mean()),
                float(report.log_odds.mean()),
                float(report.mass.mean()),
                auroc(of["own"].log_odds, report.log_odds),
            )
    return {"samples": own, "rows": rows}


def _card(name: str, reader: Reader, seed: int) -> str:
    note, design, training, limits = _DESIGNS[name]
    got = reached(reader, seed)
    body = reader.model.origin if isinstance(reader.model, Traced) else reader.model
    header = "| question | text | answers yes | mean log-odds | answer mass | AUROC of own text |"
    rows = [
        f"| {question} | {text} | {share:.2f} | {log_odds:.2f} | {mass:.2f} | {rank:.3f} |"
        for (question, text), (share, log_odds, mass, rank) in got["rows"].items()
    ]
    said = "Held-out requests, one reply to each; replies are cut at 48 tokens.\n\n"
    own = [p.response for p in got["samples"]]
    return _CARD.format(
        name=name,
        note=note,
        architecture=f"{type(body).__name__} with a trace" if body is not reader.model else type(body).__name__,
        size=sum(p.numel() for p in reader.model.parameters()) / 1e6,
        layers=body.config.num_hidden_layers,
        hidden=body.config.hidden_size,
        design=textwrap.fill(design, 118),
        training=textwrap.fill(training, 118),
        seed=seed,
        reached=said + "\n".join([header, "|---" * 6 + "|", *rows]),
        sample=own[int(np.argsort([len(text) for text in own])[len(own) // 2])],
        limits=textwrap.fill(limits, 118),
    )
