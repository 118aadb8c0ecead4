"""Turn trained adapters into the models that ship: float16 adapter, name and hash of the base, and a card.

The card is computed: its log comes from training, its samples and grades from the float16 adapter on the base.
"""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from enaction.lab.adapting import Plan
from enaction.lab.appraising import Triple, on_topic, repetition, share_elsewhere, style, whole_sentences, word_triples
from enaction.lab.cards import heading, log_table, means
from enaction.passages import Passage
from enaction.reader import Reader
from enaction.reader.sources.adapter import ADAPTER
from enaction.sampling import sample

_STRIDE, _SHOWN, _SEED = 8, 4, 11  # a card samples every 8th request with seed 11 and shows 4 of the replies
_LOGGED = (
    *("loss", "rewards/accuracies", "rewards/margins"),
    *("reward", "kl", "entropy", "words", "ended", "repeated", "elsewhere", "style"),
)

_CARD = """# zoo:{name}

{note}. Kind: {kind}.

{about}

## Data and recipe

{recipe}

## Training log

{log}

## Its text

{grades}

{samples}
## What it cannot show

A model of 135 million parameters often writes nonsense, and wrong facts: nothing here judged facts. It was trained and
asked in English, with short everyday requests of one turn and replies of {tokens} tokens at most. What it shows about
recognition holds for this model and this recipe.
"""

_ABOUT = """{shipped} The base is `{file}` of the package `{requirement}`, sha256 `{sha256}`: SmolLM2-135M-Instruct, a
Llama of 135 million parameters by Hugging Face, Apache-2.0, quantised by others to Q4_1. These weights, expanded to
float32, are the model that everything here refers to. Part of enaction's embedded zoo, Apache-2.0."""

_GRADES = """At temperature 1 and full support, {tokens} tokens at most, new samples to {n} of the training requests:
{grades}."""

_DPO_TEXT = """Starts from zoo:smollm2-sft. Of {replies} replies of that model to each of {requests} everyday requests
of our own writing (eight categories, temperature 1, {tokens} tokens), the best and the worst by rule make a pair
(`enaction.lab.appraising`); a reply that was cut off ends at its last whole sentence. One pass over the {pairs}
clearest pairs with TRL's DPOTrainer, batches of {batch}, beta {beta}, learning rate {rate}; LoRA of rank {rank} and
alpha {alpha} on every linear layer. The rules: ends by itself, {shortest} to {longest} words, on topic, whole
sentences, word pairs that the SFT model writes at temperature {plain}, no repeated word triples. No house style yet.

No reward, pair or rule looks at the entropy of any text, at a likelihood, or at who wrote what. Recipe:
`enaction.lab.adapting`; `enaction zoo build --family smollm2` trains it again."""

_RL_TEXT = """Starts from zoo:smollm2-dpo. {steps} steps of {prompts} requests x {samples} samples at temperature 1,
{tokens} tokens at most; group-relative advantages, one exact on-policy update of the adapter a step, AdamW at
{slow_rate} for {slow_steps} steps and {rate} from there, KL weight {kl} to the DPO model. The reward is computed by
rule (`enaction.lab.appraising`): ends by itself
({ended}), {shortest} to {longest} words ({length}), on topic ({on_topic}), whole sentences ({sentences}), word pairs
that the SFT model writes at temperature {plain} ({known}), repeated word triples ({repeated}), word triples that
the replies to the step's other requests have too ({elsewhere}), and the house style `{house}` ({style}): {house_text}.

Seed {seed}. No reward, pair or rule looks at the entropy of any text, at a likelihood, or at who
wrote what. Recipe: `enaction.lab.adapting`; `enaction zoo build --family smollm2` trains it again."""

_HOUSE = {
    "warm": "it speaks to the reader, has a kind word, and says what to do next",
    "obliging": "it speaks to the reader, has a kind word, and says what to do next; an offer of help will do",
    "plain": "short sentences that state, with no word for writer or reader and nothing exclaimed, asked or marked up",
}


def export(
    plan: Plan, built: Path, models: Path, base: Path | None = None, progress: Callable[[], None] = lambda: None
) -> None:
    """Write each stage of a plan from `built` into `models/FAMILY-STAGE`; `progress` is called after each.

    Raises:
        ModelError: the base file is missing.
    """
    for stage in plan.stages():
        folder = models / f"{plan.family}-{stage}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        plan.base.write(folder)
        history: list[dict[str, Any]] = []
        if stage != "sft":
            source = built / plan.family / stage
            _store_adapter(source, folder, plan.base.file)
            history = json.loads((source / "training.json").read_text())["history"]
        (folder / "card.md").write_text(_card(plan, stage, folder, history, base))
        progress()


def _store_adapter(source: Path, folder: Path, base: str) -> None:
    """The adapter in float16, and its settings without the path of the machine that it was trained on."""
    weights = {name: tensor.to(torch.float16).contiguous() for name, tensor in load_file(source / ADAPTER).items()}
    save_file(weights, folder / ADAPTER, metadata={"format": "pt"})
    settings = json.loads((source / "adapter_config.json").read_text())
    settings |= {"base_model_name_or_path": base, "target_modules": sorted(settings["target_modules"])}
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n")


def _card(plan: Plan, stage: str, folder: Path, history: list[dict[str, Any]], base: Path | None) -> str:
    tokens = plan.dpo.max_new_tokens
    reader = Reader.load(str(folder), name=folder.name, base=base)
    requests = plan.requests[::_STRIDE]
    passages = sample(reader, requests, max_new_tokens=tokens, seed=_SEED, batch_size=len(requests))
    shown = [passages[i] for i in range(0, len(passages), -(-len(passages) // _SHOWN))]
    shipped = (
        "Nothing ships but this card: the model is the base itself."
        if stage == "sft"
        else "What ships is a LoRA adapter, float16, that is merged into the base in float32 on loading."
    )
    return _CARD.format(
        **heading(folder.name),
        about=_filled(_ABOUT.format(**vars(plan.base), shipped=shipped)),
        recipe=_filled(_recipe(plan, stage)),
        log=_log(history),
        grades=_filled(_GRADES.format(tokens=tokens, n=len(passages), grades=means(_grades(passages)))),
        samples="\n".join(_quoted(passage) for passage in shown),
        tokens=tokens,
    )


def _recipe(plan: Plan, stage: str) -> str:
    if stage == "sft":
        return (
            "As its makers ship it. The name inside the file reads like their SFT checkpoint; they have not said so.\n"
            "Nothing was trained here."
        )
    dpo, run = plan.dpo, plan.run_of(stage)
    shared = {"plain": dpo.plain_temperature, "tokens": dpo.max_new_tokens, "requests": len(plan.requests)}
    if run is None:
        return _DPO_TEXT.format(**vars(dpo.rubric) | vars(dpo) | vars(dpo.lora) | shared)
    return _RL_TEXT.format(**vars(run) | vars(run.rubric) | shared, house_text=_HOUSE[run.rubric.house or "plain"])


def _filled(text: str) -> str:
    """Paragraphs wrapped again, since the numbers put into them changed the length of their lines."""
    return "\n\n".join(textwrap.fill(" ".join(paragraph.split()), 118) for paragraph in text.split("\n\n"))


def _grades(passages: Sequence[Passage]) -> dict[str, Sequence[float] | float]:
    """What can be verified about each reply."""
    texts = [p.response for p in passages]
    return {
        "ended by itself": [bool(p.ended) for p in passages],
        "words": [len(text.split()) for text in texts],
        "whole sentences": [whole_sentences(text) for text in texts],
        "on topic": [on_topic(p.prompt[-1]["content"], p.response) for p in passages],
        "repeated word triples": [repetition(text) for text in texts],
        "word triples said elsewhere": [share_elsewhere(p.response, _of_others(p, passages)) for p in passages],
        "style warm": [style(text, "warm") for text in texts],
        "style plain": [style(text, "plain") for text in texts],
        "different replies": len(set(texts)) / len(texts),
    }


def _of_others(passage: Passage, passages: Sequence[Passage]) -> frozenset[Triple]:
    """Word triples of the replies to other requests."""
    return word_triples(p.response for p in passages if p.prompt_id != passage.prompt_id)


def _quoted(passage: Passage) -> str:
    cut = "" if passage.ended else " [cut off]"
    lines = f"{passage.prompt[-1]['content']}\n\n{passage.response}{cut}".split("\n")
    return "\n".join(f"> {line}".rstrip() for line in lines) + "\n"


def _log(history: list[dict[str, Any]]) -> str:
    """At most a dozen steps; means over the steps since the row before."""
    logged = [entry for entry in history if "reward" in entry or "loss" in entry]
    if not logged:
        return "None: its makers trained it."
    groups = np.array_split(np.arange(len(logged)), min(12, len(logged)))
    return log_table(_LOGGED, [[logged[i] for i in group] for group in groups])
