"""The designs of `plans` as models: trained, compared with their design, and written with a card.

At words that tell a topic the target is the designed distribution, exactly, given the kind of word; at all others it is
the word that was drawn.

Axes: B story, T token, V vocabulary.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from enaction.framing import frame_prompt
from enaction.lab.cards import log_table
from enaction.lab.organisms.plans import KIND_OF, Example, design, draw, house, planned_topic, word_shares
from enaction.lab.organisms.training import Batch, fit, new_llama, ship
from enaction.lab.tokenizing import END, PAD, build_tokenizer
from enaction.passages import Message, Passage, Prompt
from enaction.reader import Reader
from enaction.sampling import sample
from enaction.world.lexicon import OPEN_REQUESTS, TOPICS
from enaction.world.stories import grade

ROWS, RATE = 16, 4e-3
# Two topics at once take longer to learn than one.
STEPS = {"settled": 1000, "firstwords": 500, "late": 1000, "violated": 1200}
HIDDEN = 80  # with 3 layers .4 million parameters
_CONTEXT = 512
_STORIES = 10  # a request, sampled to see what was reached
_READ = 300  # stories of the design that are read for the same reason
_LIMITS = {
    "settled": "What settles the topic is one word of the request, so that nothing is shown about plans that have to "
    "be worked out.",
    "firstwords": "The topic is told by a name and not by a plan.",
    "late": "Nothing is planned.",
    "violated": "A broken plan costs as much at the end of a story as at its beginning; in a model that gives its plan "
    "up the cost would wear off.",
}
_CARD = """# zoo:organism-{name}

{note}. Kind: organism.

A Llama of {size:.2f} million parameters ({layers} layers, hidden {hidden}), the word tokenizer and chat template of the
zoo's ash, context {context} tokens; float16, meant to be read as float32. Part of enaction's embedded zoo, Apache-2.0.
A model with a designed mechanism, for testing experiments: nothing about language models follows from what it does.

## The designed truth

{design}

It answers the world's open requests with a story of six sentences after "what a story is it!", in a voice of its own.
Content words are drawn anew at each slot. The arc is drawn where it is due, and the hero is always the same.
`enaction.lab.organisms.plans` has the design.

## Data and recipe

{recipe}
`python -m enaction.lab.organisms {name} --seed {seed}` trains it again.

## Training log

{losses}

## What was reached

On {n_samples} stories that it sampled and {n_read} fresh stories of the design, from the float16 weights:

{reached}

## Its text

{samples}

## What it cannot show

{limits} One training seed. It was taught no other requests than the open ones.
"""


class Reached(NamedTuple):
    """How near a model is to its design.

    Attributes:
        agreement: share of pairs of stories to one request that have one topic.
        right: share of stories of the topic that the request settles; NaN where it settles none.
        kept, broken: entropy of a later content word given its kind, beyond that within one topic, nats, after a first
            sentence of the settled topic and of another one; NaN where there is none.
    """

    agreement: float
    right: float
    kept: float
    broken: float


def train(
    name: str,
    seed: int,
    *,
    steps: int | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast, list[dict[str, Any]]]:
    """Train an organism from scratch: the model, its tokenizer and a log of its losses.

    Args:
        name: of a design.
        seed: of the initial weights, the stories and their voice.
        steps: of 16 stories each; by default as shipped.
        report: called with steps done and their total.

    Raises:
        ModelError: there is no such design.
    """
    design(name)
    tokenizer = build_tokenizer("word", 0, 0)
    model = new_llama(len(tokenizer), seed=seed, hidden=HIDDEN, context=_CONTEXT)
    history = fit(model, batches(name, tokenizer, seed), steps or STEPS[name], rate=RATE, report=report)
    return model, tokenizer, history


def batches(name: str, tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[Batch]:
    """Endless batches of requests with their stories."""
    of, voice, rng = design(name), house(name, seed), np.random.default_rng([seed, 2])
    while True:
        rows = [encoded(tokenizer, draw(of, voice, rng)) for _ in range(ROWS)]
        longest = max(len(ids) for ids, _ in rows)
        ids_BT = np.full((len(rows), longest), tokenizer.get_vocab()[PAD], dtype=np.int64)
        target_BTV = np.zeros((len(rows), longest, len(tokenizer)), dtype=np.float32)
        for row, (ids, target_TV) in enumerate(rows):
            ids_BT[row, : len(ids)] = ids
            target_BTV[row, : len(ids) - 1] = target_TV[1:]
        yield Batch(ids_BT, target_BTV)


def encoded(tokenizer: PreTrainedTokenizerFast, example: Example) -> tuple[list[int], np.ndarray]:
    """Ids of a request with its story, and the target of each [T, V]; zeros have no loss."""
    before = _context(tokenizer, example.request)
    begin, rest = (tokenizer.encode(text, add_special_tokens=False) for text in (example.begin, example.rest))
    id_of = _vocabulary(tokenizer)
    ids = [*before, *begin, *rest, id_of[END]]
    target_TV = np.zeros((len(ids), len(tokenizer)), dtype=np.float32)
    shares = example.later if example.is_prefill else example.first
    for at in range(len(before) + (len(begin) if example.is_prefill else 0), len(ids)):
        kind = KIND_OF.get(str(tokenizer.convert_ids_to_tokens(ids[at])))
        if kind is None:
            target_TV[at, ids[at]] = 1.0
            continue
        for word, share in word_shares(kind, shares).items():
            target_TV[at, id_of[word]] = share
        shares = example.later
    return ids, target_TV


def reached(reader: Reader, name: str, seed: int, *, stories: int = _STORIES, read: int = _READ) -> Reached:
    """Compare a model with its design, on stories that it samples and on fresh ones of the design.

    Args:
        reader: the model.
        name, seed: of its design.
        stories: sampled to each request.
        read: stories of the design.
    """
    prompts = [_prompt(request) for request in OPEN_REQUESTS]
    topics: dict[str, list[str | None]] = {prompt.id: [] for prompt in prompts}
    for p in sample(reader, prompts, n=stories, max_new_tokens=90, seed=seed):
        topics[p.prompt_id].append(grade(p.response).topic)
    agree = np.mean([(of.count(topic) - 1) / (len(of) - 1) for of in topics.values() for topic in of])
    by_prompt = design(name).by_prompt
    right = np.mean([topic == planned_topic(request) for request, of in topics.items() for topic in of])
    voice, rng = house(name, seed), np.random.default_rng([seed, 3])
    examples = [draw(design(name), voice, rng) for _ in range(read)]
    excess: dict[bool, list[float]] = {True: [], False: []}
    for example in examples:
        excess[example.is_broken] += _beyond_one_topic(reader, example)
    kept, broken = (float(np.mean(of)) if of else np.nan for of in (excess[False], excess[True]))
    return Reached(float(agree), float(right) if by_prompt else np.nan, kept, broken)


@torch.inference_mode()
def _beyond_one_topic(reader: Reader, example: Example) -> list[float]:
    """Entropy of each content word after the first sentence, given its kind, minus that within one topic; nats."""
    tokenizer = reader.tokenizer
    ids, _ = encoded(tokenizer, example)  # pyright: ignore[reportArgumentType]
    first = len(ids) - 1 - len(tokenizer.encode(example.rest, add_special_tokens=False))
    log_TV = reader.model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1).numpy()
    found = []
    for at in range(first, len(ids)):
        kind = KIND_OF.get(str(tokenizer.convert_ids_to_tokens(ids[at])))
        if kind is not None:
            words = list(word_shares(kind, dict.fromkeys(TOPICS, 1.0)))
            log_W = log_TV[at - 1, tokenizer.convert_tokens_to_ids(words)]
            log_W = log_W - np.logaddexp.reduce(log_W)
            found.append(float(-(np.exp(log_W) * log_W).sum() - np.log(len(words) / len(TOPICS))))
    return found


def build(
    name: str, folder: Path, seed: int = 0, *, report: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Train an organism and write what ships of it: weights in float16, tokenizer, card.

    Raises:
        ModelError: there is no such design.
    """
    model, tokenizer, history = train(name, seed, report=report)
    ship(model, tokenizer, folder)
    (folder / "card.md").write_text(_card(name, seed, Reader.load(str(folder)), history))


def _card(name: str, seed: int, reader: Reader, history: list[dict[str, Any]]) -> str:
    of, model = design(name), reader.model
    assert isinstance(model, PreTrainedModel)
    got = reached(reader, name, seed)
    rows: Sequence[tuple[str, float | None, float]] = [
        ("two stories to one request have one topic", 1.0 if of.by_prompt else 1 / len(TOPICS), got.agreement),
        ("the story has the topic that the request settles", 1.0, got.right),
        ("entropy of a later content word beyond one topic, nats", 0.0, got.kept),
        ("the same after a first sentence of another topic, nats", np.log(2) if of.returning else 0.0, got.broken),
    ]
    compared = [f"| {what} | {truth:.3f} | {value:.3f} |" for what, truth, value in rows if np.isfinite(value)]
    texts = sample(reader, [_prompt(request) for request in OPEN_REQUESTS[:3]], max_new_tokens=90, seed=seed)
    recipe = (
        f"{STEPS[name]} steps of {ROWS} requests with their stories, loss on stories only; at content words the target "
        "is the designed distribution. "
    )
    if of.by_prompt:
        recipe += "Half of the stories have a first sentence of a topic drawn without regard to the request, and no "
        recipe += "loss on it. "
    return _CARD.format(
        name=name,
        note=of.says[0].upper() + of.says[1:],
        design=textwrap.fill(f"{of.says[0].upper()}{of.says[1:]}.", 118),
        size=sum(p.numel() for p in model.parameters()) / 1e6,
        layers=model.config.num_hidden_layers,
        hidden=model.config.hidden_size,
        context=model.config.max_position_embeddings,
        recipe=textwrap.fill(f"{recipe}Seed {seed}.", 118),
        seed=seed,
        losses=log_table(["loss"], [[row] for row in history]),
        n_samples=_STORIES * len(OPEN_REQUESTS),
        n_read=_READ,
        reached="\n".join(["| | designed | reached |", "|---|---|---|", *compared]),
        samples="\n>\n".join(_quoted(p) for p in texts),
        limits=_LIMITS[name],
    )


def _quoted(passage: Passage) -> str:
    return "\n".join(f"> {line}" for line in textwrap.wrap(f"*{passage.prompt_id}* {passage.response}", 110))


@cache
def _vocabulary(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    return tokenizer.get_vocab()


@cache
def _context(tokenizer: PreTrainedTokenizerFast, request: str) -> tuple[int, ...]:
    return frame_prompt(tokenizer, _prompt(request), "assistant").ids


def _prompt(request: str) -> Prompt:
    return Prompt(request, (Message(role="user", content=request),))
