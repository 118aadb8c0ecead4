"""The processes of `symbols` as models: trained, compared with their design, and written with a card.

Half of the texts that a model is fitted to are its own process's, a quarter the stranger's, and a quarter change from
the one to the other on the way. On all of them the target is what its own process predicts there, exactly. So its
reaction to foreign text is designed as well, and not what a model happens to do on text that it never saw.

Axes: B text, T position, V token.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from enaction.lab.cards import log_table
from enaction.lab.organisms.symbols import PROCESSES, REGIMES, SYMBOLS, UNKNOWN, WORDS, draw, process, read
from enaction.lab.organisms.training import Batch, fit, new_llama, ship, word_tokenizer

# Symbols in a text that models are fitted to; reading longer ones was not taught.
LENGTH = 48
ROWS = 32
NAMES = tuple(PROCESSES)
# What each needs until more steps bring its entropy no nearer to the design.
STEPS = {"surprise": 800, "mixed": 800, "regime": 500, "delayed": 1600, "belief": 1600, "stranger": 300}
# A sum over the text that depends on itself, as the log-odds do, needs a layer more.
_LAYERS = {"belief": 4}
_CHUNK = 20  # steps whose texts are drawn together
_TEXTS = 400  # texts on which what was reached is measured

_DESIGNS = {
    "surprise": "entropy set by the surprisal of the last symbol: H = clip(.4 + .6 s, .35, 2) nats",
    "mixed": "entropy set by the last surprisal and the regime: H = clip(h + .5 s, .35, 2) nats, h = .25 or 1",
    "regime": "entropy set by the regime, .6 or 1.8 nats; surprisal acts on nothing",
    "delayed": "entropy set by the regime, .6 or 1.8 nats; surprisal picks the order of the symbol after the next",
    "belief": "entropy set by the log-odds L that it wrote the text: H = 1.2 - .5 tanh(L / 4) nats",
    "stranger": "another author over the same symbols, entropy 1.2 nats throughout",
}
_LIMITS = {
    "surprise": "It reacts to the last symbol alone, so it cannot show what a slower trace would look like.",
    "mixed": "Its reaction to surprisal is designed within a regime; across regimes the two are confounded, by design.",
    "regime": "Its entropy is the same on own and foreign text of one prompt, so there is no gap to explain.",
    "delayed": "Its entropy is the same on own and foreign text of one prompt, so there is no gap to explain; the "
    "stranger follows none of its second orders and surprises it more than it does the others.",
    "belief": "It was shown the stranger's text. It says nothing of whether a model that was not could tell an author.",
    "stranger": "It is an author and a reader for log-odds; no reaction is designed into it.",
}
_CARD = """# zoo:organism-{name}

{note}. Kind: organism.

A Llama of {size:.2f} million parameters ({layers} layers, hidden {hidden}), a vocabulary of {n_words} words, context
{context} tokens; float16, meant to be read as float32. Part of enaction's embedded zoo, Apache-2.0. A model with a
designed mechanism, for testing experiments: nothing about language models follows from what it does.

## The designed truth

{design}

The next symbol is order[previous][rank]; the rank is geometric over ten ranks with exactly the designed entropy. The
prompt is the regime word `{low}` or `{high}`. `enaction.lab.organisms.symbols.process("{name}", seed={seed})` computes
every probability in float64. Other organisms of this seed have the same orders.

## Data and recipe

{steps} steps of {rows} texts of {length} symbols: half of them the process's own, a quarter the stranger's, a quarter a
change from one to the other; the targets are the exact probabilities of the process. Seed {seed}.
`python -m enaction.lab.organisms {name} --seed {seed}` trains it again.

## Training log

{losses}

## What was reached

On {n_texts} fresh texts of {length} symbols, from the float16 weights; entropy in nats:

{reached}

## Its text

{samples}

## What it cannot show

{limits} One training seed. Texts longer than {length} symbols were not taught.
"""


class Reached(NamedTuple):
    """How near a model's entropy is to its design on texts of one author; nats.

    rmse: of the entropy. sd: of the designed entropy. bias: mean difference. divergence: mean KL from the designed
    distribution to the model's.
    """

    author: str
    rmse: float
    sd: float
    bias: float
    divergence: float


def train(
    name: str, seed: int, *, steps: int | None = None, report: Callable[[int, int], None] = lambda done, total: None
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast, list[dict[str, Any]]]:
    """Train an organism from scratch: the model, its tokenizer and a log of its losses.

    Args:
        name: of a process.
        seed: of the orders, the initial weights and the texts.
        steps: `STEPS` of this name by default.
        report: called with steps done and their total.

    Raises:
        ModelError: there is no such process.
    """
    texts = batches(name, seed)
    model = new_llama(len(WORDS), seed=seed, layers=_LAYERS.get(name, 3))
    history = fit(model, texts, STEPS[name] if steps is None else steps, report=report)
    return model, word_tokenizer(WORDS, UNKNOWN), history


def batches(name: str, seed: int) -> Iterator[Batch]:
    """Endless batches: texts, and at each position the exact probabilities of the next token.

    Raises:
        ModelError: there is no such process.
    """
    own, stranger = process(name, seed), process("stranger", seed)
    return _batches(own, stranger, np.random.default_rng([seed, 1]))


def _batches(own: Any, stranger: Any, rng: np.random.Generator) -> Iterator[Batch]:
    n = ROWS * _CHUNK
    while True:
        regime_B = rng.integers(len(REGIMES), size=n)
        own_BT, foreign_BT = draw(own, regime_B, LENGTH, rng), draw(stranger, regime_B, LENGTH, rng)
        kind_B1, cut_B1 = rng.random((n, 1)), rng.integers(4, LENGTH - 4, size=(n, 1))
        is_before_BT = (np.arange(LENGTH + 1) < cut_B1) == (rng.random((n, 1)) < 0.5)
        is_own_BT = np.where(kind_B1 < 0.5, True, np.where(kind_B1 < 0.75, False, is_before_BT))
        ids_BT = np.where(is_own_BT, own_BT, foreign_BT)
        target_BTV = np.zeros((*ids_BT.shape, len(WORDS)), dtype=np.float32)
        target_BTV[..., -len(SYMBOLS) :] = read(own, ids_BT).probability
        for start in range(0, n, ROWS):
            yield Batch(ids_BT[start : start + ROWS], target_BTV[start : start + ROWS])


@torch.inference_mode()
def reached(model: PreTrainedModel, name: str, seed: int, *, n_texts: int = _TEXTS) -> list[Reached]:
    """Compare a model with its design, on fresh texts of its own process and, if that is another, of the stranger.

    Args:
        model: in float32.
        name, seed: of its process.
        n_texts: of each author.
    """
    own, rng = process(name, seed), np.random.default_rng([seed, 2])
    found = []
    for author in ("own", "stranger") if name != "stranger" else ("own",):
        writer = own if author == "own" else process(author, seed)
        ids_BT = draw(writer, np.arange(n_texts) % len(REGIMES), LENGTH, rng)
        truth = read(own, ids_BT)
        log_BTV = model(input_ids=torch.from_numpy(ids_BT)).logits.double().log_softmax(dim=-1).numpy()
        error_BT = -(np.exp(log_BTV) * log_BTV).sum(axis=-1) - truth.entropy
        log_BTK = log_BTV[..., -len(SYMBOLS) :]
        divergence = (truth.probability * (np.log(truth.probability) - log_BTK)).sum(axis=-1).mean()
        found.append(
            Reached(
                author,
                float(np.sqrt((error_BT**2).mean())),
                float(truth.entropy.std()),
                float(error_BT.mean()),
                float(divergence),
            )
        )
    return found


def build(
    name: str, folder: Path, seed: int = 0, *, report: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Train an organism and write what ships of it: weights in float16, tokenizer, card.

    Raises:
        ModelError: there is no such process.
    """
    model, tokenizer, history = train(name, seed, report=report)
    ship(model, tokenizer, folder)
    rounded = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    (folder / "card.md").write_text(_card(name, seed, rounded, history))


def _card(name: str, seed: int, model: PreTrainedModel, history: list[dict[str, Any]]) -> str:
    design, config = _DESIGNS[name], model.config
    compared = [
        f"| {r.author} | {r.rmse:.3f} | {r.sd:.3f} | {r.bias:+.3f} | {r.divergence:.4f} |"
        for r in reached(model, name, seed)
    ]
    header = "| text of | rmse of entropy | sd of the designed one | mean difference | KL from the design |"
    ids_BT = draw(process(name, seed), np.array([0, 1]), LENGTH, np.random.default_rng([seed, 3]))
    return _CARD.format(
        name=name,
        note=design[0].upper() + design[1:],
        design=textwrap.fill(f"{design[0].upper()}{design[1:]}.", 118),
        size=sum(p.numel() for p in model.parameters()) / 1e6,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        context=config.max_position_embeddings,
        n_words=len(WORDS),
        low=REGIMES[0],
        high=REGIMES[1],
        seed=seed,
        steps=STEPS[name],
        rows=ROWS,
        length=LENGTH,
        losses=log_table(["loss"], [[row] for row in history]),
        n_texts=_TEXTS,
        reached="\n".join([header, "|---" * 5 + "|", *compared]),
        samples="\n>\n".join("> " + " ".join(WORDS[i] for i in ids_T) for ids_T in ids_BT),
        limits=_LIMITS[name],
    )
