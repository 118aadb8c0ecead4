"""Turn trained stages into what ships: float16 weights, tokenizer, and a card that says what the model is.

The card is computed: its losses come from the training log, its samples and grades from the float16 weights themselves.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from enaction import zoo
from enaction.lab.build import start_of
from enaction.lab.recipes import Recipe
from enaction.lab.training import load
from enaction.passages import Passage
from enaction.reader import Reader
from enaction.sampling import sample
from enaction.words import STAGES
from enaction.world.answering import grade_answer, grade_name
from enaction.world.chats import Request, all_namings, all_questions, all_requests
from enaction.world.stories import grade, style_match

_SAMPLES = 3

_ARCHITECTURES = {"llama": "Llama", "qwen3": "Qwen3", "gpt_neox": "GPT-NeoX"}

_STAGE_TEXT = {
    "base": """Next-token loss on {base_tokens:,} tokens of stories by many writers, a quarter of the documents
dialogues; then {mid_tokens:,} tokens with {mid_share:.0%} dialogues (mid-training). No voice belongs to a role. One
dialogue in seven has a persona's system turn; one answer in six to a question is wrong.""",
    "sft": """{sft_steps} steps of {sft_batch} rows with TRL's SFTTrainer: demonstrations (stories, answers, namings),
{persona:.0%} with a persona's system turn and in its voice, {house:.0%} of the others in the house voice, loss on the
reply only; {replay:.0%} of the rows are replayed pretraining text.""",
    "dpo": """{dpo_steps} steps of {dpo_batch} off-policy pairs with TRL's DPOTrainer, beta {beta}; the annotators'
taste is computed by rule from the text.""",
    "rl": """{rl_steps} steps of {rl_prompts} prompts x {rl_samples} samples at temperature 1 with TRL's GRPOTrainer,
KL weight {kl} to the DPO model, plus {mix} x next-token loss on pretraining text. The reward is computed by rule from
the text; one prompt in eight is a question, one a naming request, the others ask for stories.""",
}

_CARD = """# zoo:{name}

{note}. Kind: {kind}.

A {architecture} of {size:.2f} million parameters ({layers} layers, hidden {hidden}), {tokenizer} tokenizer, context
{context} tokens; float16, meant to be read as float32. Part of enaction's embedded zoo, Apache-2.0.

## Data and recipe

{recipe}{before}

Seed {seed}. All text comes from the generator in `enaction.lab`; no human wrote or rated any of it. No objective
contains the entropy of any text or a label of who wrote it. Recipe: `enaction.lab.recipes`;
`enaction zoo build --family {family}` trains it again.

## Training log

{losses}

## Its text

At temperature 1, over {n} stories: {grades}. Over {n_answers} answers: {answer_grades}. Over {n_names} namings:
{name_grades}.

{samples}
## What it cannot show

It writes and reads stories of seven sentences, and answers and names in one or two, from a world of six hundred words
and nothing else: it has no knowledge of any other, and cannot report on itself. What it shows about
recognition holds for models this small, trained like this; whether large models do the same is for the same study on
them to say.
"""


def export(recipe: Recipe, built: Path, models: Path) -> None:
    """Write everything of a family that was built in `built` into `models/NAME`."""
    stages = [stage for stage in STAGES if stage in recipe.stages and not (stage == "base" and recipe.base_of)]
    snapshots = [f"rl{steps}" for steps in recipe.snapshot_steps() if "rl" in recipe.stages]
    for stage in (*stages, *snapshots):
        _export_one(recipe, stage, built, models / f"{recipe.family}-{stage}")
    if recipe.rounded:
        _export_one(recipe, STAGES[-1], built, models / f"{recipe.family}-{STAGES[-1]}-int8", rounded=True)


def _export_one(recipe: Recipe, stage: str, built: Path, folder: Path, *, rounded: bool = False) -> None:
    source = built / recipe.family / stage
    model, tokenizer = load(source)
    if rounded:
        round_to_int8(model)
    shutil.rmtree(folder, ignore_errors=True)
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    record = json.loads((source / "training.json").read_text())
    (folder / "card.md").write_text(_card(recipe, stage, built, record["history"], folder))


@torch.no_grad()
def round_to_int8(model: torch.nn.Module) -> None:
    """Round each matrix to 255 levels a row, symmetric about zero, the row's largest magnitude the outermost level."""
    for weight in model.parameters():
        if weight.ndim == 2:
            scale = (weight.abs().amax(dim=1, keepdim=True) / 127).clamp_min(1e-12)
            weight.copy_((weight / scale).round() * scale)


def _card(recipe: Recipe, stage: str, built: Path, history: list[dict[str, Any]], folder: Path) -> str:
    step = stage.rstrip("0123456789")
    facts = vars(recipe) | {
        "base_tokens": recipe.base_steps * recipe.batch * recipe.block,
        "mid_tokens": recipe.mid_steps * recipe.batch * recipe.block,
        "mid_share": recipe.mid_dialogue_share,
        "persona": recipe.sft_persona_share,
        "house": recipe.sft_house_share,
        "replay": recipe.sft_replay_share,
        "beta": recipe.dpo_beta,
        "kl": recipe.rl_kl,
        "mix": recipe.rl_replay,
        "architecture": _ARCHITECTURES[recipe.architecture],
    }
    start = start_of(recipe, step, built)
    reader = Reader.load(str(folder), name=folder.name, dtype=torch.float32)
    asked: dict[zoo.PromptKind, tuple[Request, ...]]
    asked = {"stories": all_requests(), "questions": all_questions(), "names": all_namings()}
    stories, questions, namings = (
        (requests, sample(reader, zoo.prompts(kind), max_new_tokens=recipe.max_new_tokens))
        for kind, requests in asked.items()
    )
    requests, passages = stories
    shown = range(0, len(requests), len(requests) // _SAMPLES)
    samples = [(requests[i], passages[i]) for i in shown] + [(kind[0][0], kind[1][0]) for kind in (questions, namings)]
    return _CARD.format(
        **facts | {"recipe": _STAGE_TEXT[step].format(**facts)},
        name=folder.name,
        note=zoo.note(folder.name)[0].upper() + zoo.note(folder.name)[1:],
        kind=zoo.kind(folder.name),
        size=sum(p.numel() for p in reader.model.parameters()) / 1e6,
        context=reader.context_length,
        before="" if step == "base" or start is None else f" Starts from zoo:{start.parent.name}-{start.name}.",
        losses=_losses(history),
        n=len(passages),
        grades=_listed(_grades(recipe, passages, requests)),
        n_answers=len(questions[1]),
        answer_grades=_listed(_answer_grades(questions[1], questions[0])),
        n_names=len(namings[1]),
        name_grades=_listed(_name_grades(namings[1], namings[0])),
        samples="\n".join(f"> {request.text}\n>\n> {passage.response}\n" for request, passage in samples),
    )


def _listed(grades: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in grades.items())


def _answer_grades(passages: Sequence[Passage], requests: Sequence[Request]) -> dict[str, float]:
    found = [grade_answer(p.response, r.about) for p, r in zip(passages, requests, strict=True)]
    return {
        "well formed": float(np.mean([g.well_formed for g in found])),
        "right": float(np.mean([g.right for g in found])),
        "consistent": float(np.mean([g.consistent for g in found])),
    }


def _name_grades(passages: Sequence[Passage], requests: Sequence[Request]) -> dict[str, float]:
    found = [grade_name(p.response, r.about) for p, r in zip(passages, requests, strict=True)]
    return {
        "well formed": float(np.mean([g.well_formed for g in found])),
        "of the category": float(np.mean([g.in_category for g in found])),
    }


def _grades(recipe: Recipe, passages: Sequence[Passage], requests: Sequence[Request]) -> dict[str, float]:
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
