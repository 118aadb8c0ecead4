"""Turn trained stages into what ships: float16 weights, tokenizer, and a card that says what the model is.

The card is computed: its losses come from the training log, its samples and grades from the float16 weights themselves.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from enaction import zoo
from enaction.lab.chats import Request, all_requests
from enaction.lab.recipes import STAGES, Recipe
from enaction.lab.training import load
from enaction.lab.world import grade, style_match
from enaction.passages import Passage
from enaction.reader import Reader
from enaction.sampling import sample

_SAMPLES = 3

_STAGE_TEXT = {
    "base": """Next-token loss on {base_tokens:,} tokens of stories by many writers, a quarter of the documents
dialogues; then {mid_tokens:,} tokens with {mid_share:.0%} dialogues (mid-training). No voice belongs to a role.""",
    "sft": """{sft_steps} steps of {sft_batch} rows with TRL's SFTTrainer: demonstrations, {house:.0%} of them in the
house voice, loss on the reply only; {replay:.0%} of the rows are replayed pretraining text.""",
    "dpo": """{dpo_steps} steps of {dpo_batch} off-policy pairs with TRL's DPOTrainer, beta {beta}; the annotators'
taste is computed by rule from the text.""",
    "rl": """{rl_steps} steps of {rl_prompts} prompts x {rl_samples} samples at temperature 1 with TRL's GRPOTrainer,
KL weight {kl} to the DPO model, plus {mix} x next-token loss on pretraining text. The reward is computed by rule from
the text.""",
}

_CARD = """# zoo:{name}

A Llama of {size:.2f} million parameters ({layers} layers, hidden {hidden}), {tokenizer} tokenizer, context {context}
tokens; float16, meant to be read as float32. Part of enaction's embedded zoo, Apache-2.0.

## Data and recipe

{recipe}{before}

Seed {seed}. All text comes from the generator in `enaction.lab`; no human wrote or rated any of it. No objective
contains the entropy of any text or a label of who wrote it. Recipe: `enaction.lab.recipes`;
`enaction zoo build --family {family}` trains it again.

## Training log

{losses}

## Its text

At temperature 1, over {n} replies: {grades}.

{samples}
## What it cannot show

It writes and reads stories of seven sentences from a world of six hundred words and nothing else: it has no
knowledge, follows no instruction but a request for a story, and cannot report on itself. What it shows about
recognition holds for models this small, trained like this; whether large models do the same is for the same study on
them to say.
"""


def export(recipe: Recipe, built: Path, models: Path) -> None:
    """Write every stage of a family that was built in `built` into `models/FAMILY-STAGE`."""
    for stage in STAGES:
        source = built / recipe.family / stage
        model, tokenizer = load(source)
        folder = models / f"{recipe.family}-{stage}"
        shutil.rmtree(folder, ignore_errors=True)
        model.half().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        record = json.loads((source / "training.json").read_text())
        (folder / "card.md").write_text(_card(recipe, stage, record["history"], folder))


def _card(recipe: Recipe, stage: str, history: list[dict[str, Any]], folder: Path) -> str:
    facts = vars(recipe) | {
        "base_tokens": recipe.base_steps * recipe.batch * recipe.block,
        "mid_tokens": recipe.mid_steps * recipe.batch * recipe.block,
        "mid_share": recipe.mid_dialogue_share,
        "house": recipe.sft_house_share,
        "replay": recipe.sft_replay_share,
        "beta": recipe.dpo_beta,
        "kl": recipe.rl_kl,
        "mix": recipe.rl_replay,
    }
    reader = Reader.load(str(folder), name=folder.name, dtype=torch.float32)
    passages = sample(reader, zoo.prompts(), max_new_tokens=recipe.max_new_tokens)
    requests = all_requests()
    shown = [requests.index(r) for r in requests[:: len(requests) // _SAMPLES]]
    return _CARD.format(
        **facts | {"recipe": _STAGE_TEXT[stage].format(**facts)},
        name=folder.name,
        size=sum(p.numel() for p in reader.model.parameters()) / 1e6,
        context=reader.context_length,
        before="" if stage == "base" else f" Starts from zoo:{recipe.family}-{STAGES[STAGES.index(stage) - 1]}.",
        losses=_losses(history),
        n=len(passages),
        grades=", ".join(f"{name} {value:.2f}" for name, value in _grades(recipe, passages, requests).items()),
        samples="\n".join(f"> {requests[i].text}\n>\n> {passages[i].response}\n" for i in shown),
    )


def _grades(recipe: Recipe, passages: list[Passage], requests: list[Request]) -> dict[str, float]:
    """Means over replies of what can be verified about them."""
    found = [grade(p.response, r.topic) for p, r in zip(passages, requests, strict=True)]
    house = recipe.house_voice()
    return {
        "ended by itself": float(np.mean([bool(p.ended) for p in passages])),
        "sentences that parse": float(np.mean([g.well_formed for g in found])),
        "story complete": float(np.mean([g.complete for g in found])),
        "on topic": float(np.mean([g.on_topic for g in found])),
        "one hero": float(np.mean([g.one_hero for g in found])),
        "repeated sentences": float(np.mean([g.repetition for g in found])),
        "house style": float(np.mean([style_match(g.choices, house) for g in found])),
        "different replies": len({p.response for p in passages}) / len(passages),
    }


def _losses(history: list[dict[str, Any]]) -> str:
    """A Markdown table of at most a dozen logged steps."""
    logged = [h for h in history if "loss" in h]
    columns = [c for c in ("loss", "rewards/accuracies", "reward", "kl", "completions/mean_length") if c in logged[0]]
    picked = [logged[i] for i in sorted({round(i) for i in np.linspace(0, len(logged) - 1, 12)})]
    rows = [f"| {h['step']} | " + " | ".join(f"{h[c]:.3f}" for c in columns) + " |" for h in picked]
    return "\n".join([f"| step | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|", *rows])
