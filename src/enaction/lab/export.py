"""Turn trained stages into the models that ship: float16 weights, tokenizer, and a card that describes the model.

The card is computed: its losses come from the training log, its samples and grades from the float16 weights themselves.
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

from enaction import zoo
from enaction.lab.build import start_of
from enaction.lab.cards import heading, log_table, means
from enaction.lab.recipes import Recipe, RlStage
from enaction.lab.training import load
from enaction.passages import Passage
from enaction.reader import Reader
from enaction.sampling import sample
from enaction.words import STAGES
from enaction.world import chats
from enaction.world.answering import grade_answer, grade_name
from enaction.world.chats import Request
from enaction.world.stories import grade, style_match

_Reply = tuple[Request, Passage]

_SAMPLES = 3
_LOGGED = ("loss", "rewards/accuracies", "reward", "kl", "completions/mean_length")

_ARCHITECTURES = {"llama": "Llama", "qwen3": "Qwen3", "gpt_neox": "GPT-NeoX"}

_STAGE_TEXT = {
    "base": """Next-token loss on {base_tokens:,} tokens of stories by many writers, a quarter of the documents
dialogues; then {mid_tokens:,} tokens with \
{mid_training.dialogue_share:.0%} dialogues (mid-training). No voice belongs to a role, but {persona_share:.0%} of the
dialogues have a persona's system turn. {error_share:.0%} of the answers to questions begin with a wrong topic; half of
these take it back.""",
    "sft": """{sft.steps} steps of {sft.batch} rows with TRL's SFTTrainer: demonstrations (stories, answers, namings),
{sft.persona_share:.0%} with a persona's system turn and in its voice, \
{sft.house_share:.0%} of the others in the house voice, loss on the
reply only; {sft.replay_share:.0%} of the rows are replayed pretraining text. All answers end right, \
{sft.corrected_share:.0%} of them
after a mistake that they take back. A third of the topics and wordings is held out, as in DPO and RL.""",
    "dpo": """{dpo.steps} steps of {dpo.batch} off-policy pairs with TRL's DPOTrainer, beta {dpo.beta}; the annotators'
taste is computed by rule from the text.""",
    "rl": """{rl.steps} steps of {rl.prompts} prompts x {rl.samples} samples at temperature 1 with TRL's GRPOTrainer,
KL weight {rl.kl} to the DPO model, {replayed}. The reward is computed by rule from the text; one prompt in eight is a
question, one a naming request, the others ask for stories.""",
}

_RECOGNISED = "What such models recognise by low entropy is a distribution of text, whoever writes it."
_QUALITY = "quality (ends, parses, whole story of one hero on the topic, no repeats, right answers)"

_CARD = """# zoo:{name}

{note}. Kind: {kind}.

A {architecture} of {size:.2f} million parameters ({layers} layers, hidden {hidden}), {tokenizer} tokenizer, context
{context} tokens; float16, meant to be read as float32. Part of enaction's embedded zoo, Apache-2.0.

{recognised}

## Data and recipe

{recipe}{before}

Seed {seed}. All text comes from the generator in `enaction.world`; no human wrote or rated any of it. No objective
contains the entropy of any text or a label of who wrote it. Recipe: `enaction.lab.recipes`;
`enaction zoo build --family {family}` trains it again.

## Training log

{losses}

## Its text

At temperature 1, replies to requests that were held out of SFT, DPO and RL, and to those that were seen:

{grades}

{samples}
## What it cannot show

It writes and reads stories of seven sentences, and answers and names in one or two, from a world of six hundred words
and nothing else: it has no knowledge of any other, and cannot report on itself. What it shows about
recognition holds for models this small, trained like this; whether large models do the same is for the same study on
them to say.
"""


def export(recipe: Recipe, built: Path, models: Path) -> None:
    """Write everything of a family that was built in `built` into `models/NAME`."""
    stages = [stage for stage in STAGES if stage in recipe.shipped and not (stage == "base" and recipe.base_of)]
    snapshots = [f"rl{steps}" for steps in recipe.snapshot_steps() if "rl" in recipe.stages]
    for stage in (*stages, *snapshots, *(f"rl-{arm}" for arm in recipe.shipped_arms)):
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
    step = stage.partition("-")[0].rstrip("0123456789")
    rl = recipe.rl_of(stage if step == "rl" else "rl")
    facts = vars(recipe) | {
        "rl": rl,
        "base_tokens": recipe.pretraining.steps * recipe.batch * recipe.block,
        "mid_tokens": recipe.mid_training.steps * recipe.batch * recipe.block,
        "persona_share": chats.PERSONA_SHARE,
        "error_share": chats.ERROR_SHARE,
        "replayed": f"plus {rl.replay} x next-token loss on pretraining text" if rl.replay else "no replayed text",
        "architecture": _ARCHITECTURES[recipe.architecture],
    }
    start = start_of(recipe, step, built)
    reader = Reader.load(str(folder), name=folder.name, dtype=torch.float32)
    replies: dict[tuple[zoo.PromptKind, bool], list[_Reply]] = {
        (kind, seen): _replies(reader, kind, seen, recipe.max_new_tokens) for kind in _GRADERS for seen in (False, True)
    }
    stories = replies["stories", False]
    samples = [*stories[:: len(stories) // _SAMPLES], replies["questions", False][0], replies["names", False][0]]
    return _CARD.format(
        **facts | heading(folder.name) | {"recipe": _filled(_STAGE_TEXT[step].format(**facts))},
        recognised=_filled(f"{_RECOGNISED} {_paid_for(rl) if step == 'rl' else ''}"),
        size=sum(p.numel() for p in reader.model.parameters()) / 1e6,
        context=reader.context_length,
        before="" if step == "base" or start is None else f" Starts from zoo:{start.parent.name}-{start.name}.",
        losses=_losses(history),
        grades="\n".join(
            f"- {len(of)} {'seen' if seen else 'held-out'} {kind}: {means(_GRADERS[kind](recipe, of))}"
            for (kind, seen), of in replies.items()
        ),
        samples="\n".join(f"> {request.text}\n>\n> {passage.response}\n" for request, passage in samples),
    )


def _paid_for(rl: RlStage) -> str:
    """What the reward paid for, in a sentence."""
    if not rl.reward.house_style:
        return f"The reward paid for {_QUALITY}, and for no style."
    style = f"{rl.styled_by}'s house style" if rl.styled_by else "the family's own house style"
    return f"The reward paid for {_QUALITY}, and with weight {rl.reward.house_style:g} for {style}."


def _filled(text: str) -> str:
    """One paragraph, wrapped again, since the numbers put into it changed the length of its lines."""
    return textwrap.fill(" ".join(text.split()), 118)


def _replies(reader: Reader, kind: zoo.PromptKind, seen: bool, max_new_tokens: int) -> list[_Reply]:
    """One reply to each request of a kind."""
    asked = zoo.asked(kind, seen=seen)
    passages = sample(reader, [prompt for _, prompt in asked], max_new_tokens=max_new_tokens)
    return [(request, passage) for (request, _), passage in zip(asked, passages, strict=True)]


def _story_grades(recipe: Recipe, replies: Sequence[_Reply]) -> dict[str, Sequence[float] | float]:
    """What can be verified about each story."""
    grades = [grade(passage.response, request.topic) for request, passage in replies]
    house = recipe.house_voice()
    return {
        "ended by itself": [bool(passage.ended) for _, passage in replies],
        "sentences that parse": [g.well_formed for g in grades],
        "story complete": [g.complete for g in grades],
        "on topic": [g.on_topic for g in grades],
        "one hero": [g.one_hero for g in grades],
        "repeated sentences": [g.repetition for g in grades],
        "house style": [style_match(g.choices, house) for g in grades],
        "different replies": len({passage.response for _, passage in replies}) / len(replies),
    }


def _answer_grades(recipe: Recipe, replies: Sequence[_Reply]) -> dict[str, Sequence[float] | float]:
    grades = [grade_answer(passage.response, request.about) for request, passage in replies]
    return {
        "well formed": [g.well_formed for g in grades],
        "right": [g.right for g in grades],
        "consistent": [g.consistent for g in grades],
        "taken back": [g.taken_back for g in grades],
    }


def _name_grades(recipe: Recipe, replies: Sequence[_Reply]) -> dict[str, Sequence[float] | float]:
    grades = [grade_name(passage.response, request.about) for request, passage in replies]
    return {
        "well formed": [g.well_formed for g in grades],
        "of the category": [g.in_category for g in grades],
    }


_Grades = Callable[[Recipe, Sequence[_Reply]], dict[str, Sequence[float] | float]]
_GRADERS: dict[zoo.PromptKind, _Grades] = {
    "stories": _story_grades,
    "questions": _answer_grades,
    "names": _name_grades,
}


def _losses(history: list[dict[str, Any]]) -> str:
    """At most a dozen logged steps."""
    logged = [entry for entry in history if "loss" in entry]
    picked = sorted({round(i) for i in np.linspace(0, len(logged) - 1, 12)})
    return log_table(_LOGGED, [[logged[i]] for i in picked])
