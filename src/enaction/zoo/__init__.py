"""The zoo: the embedded models, their cards and the prompts that they understand.

The weights are trained by `enaction.lab`, stored in float16 and read as float32, so what is measured is what ships.
Each model is an ordinary transformers folder: `AutoModelForCausalLM.from_pretrained(enaction.zoo.path("ash-rl"))`.
Three families of four stages are the zoo proper; the rest are donors for controls: snapshots taken during RL, and
kin (a near-clone, a second base, a rounded copy). A name says what a model is: `ash2-rl`, `ash-rl20`, `ash-rl-int8`.

The stages of a real model are apart: `smollm2-sft`, `smollm2-dpo`, runs of RL (`smollm2-rl-a`, `smollm2-rl-b`) and
snapshots of one (`smollm2-rl-a30`). They are adapters on a public file (`reader.sources.adapter`), which `Reader.load`
puts together.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple

from enaction.errors import ModelError
from enaction.passages import Message, Prompt
from enaction.words import STAGES
from enaction.world.chats import all_namings, all_questions, all_requests

_MODELS = Path(__file__).parent / "models"
_NAME = re.compile(r"(?!smollm2)([a-z]+)(\d*)-(base|sft|dpo|rl)(\d*)(-int8)?")
_REAL = re.compile(r"smollm2-(sft|dpo|rl)(?:-([a-z])(\d*))?")

Kind = Literal["main", "snapshot", "kin", "real"]
PromptKind = Literal["stories", "questions", "names"]


class _Name(NamedTuple):
    """A model's name, taken apart."""

    relative: str
    other: str
    stage: str
    step: str
    rounded: str
    run: str = ""

    @property
    def is_real(self) -> bool:
        """Whether it is a stage of the real model."""
        return self.relative + self.other == "smollm2"


def names(*, everything: bool = False) -> list[str]:
    """Names of the embedded models, families in order, stages in the order of training.

    Args:
        everything: snapshots, kin and the stages of the real model too, not only the three families' four stages.
    """
    marks = ("config.json", "base.json")
    embedded = [folder.name for folder in _MODELS.glob("*/") if any((folder / mark).exists() for mark in marks)]
    return sorted((name for name in embedded if everything or kind(name) == "main"), key=_order)


def family(name: str) -> str:
    """Family of an embedded model; a near-clone or a second base is a family of its own (`ash2`)."""
    parts = _parts(name)
    return parts.relative + parts.other


def stage(name: str) -> str:
    """Stage of an embedded model: base, sft, dpo, rl, or rl and a number for a snapshot after that many RL steps.

    Of the real model's runs of RL the stages are rl-a, rl-b and so on, snapshots rl-a30.
    """
    parts = _parts(name)
    return parts.stage + (f"-{parts.run}" if parts.run else "") + parts.step


def kind(name: str) -> Kind:
    """What an embedded model is: one of the main twelve, a snapshot of a family's RL, its kin, or a real one."""
    parts = _parts(name)
    if parts.is_real:
        return "real"
    if parts.other or parts.rounded:
        return "kin"
    return "snapshot" if parts.step else "main"


def note(name: str) -> str:
    """What an embedded model is, in a few words."""
    parts = _parts(name)
    if parts.is_real:
        return _real_note(parts)
    if parts.rounded:
        return f"{name.removesuffix('-int8')} with its weights rounded to int8 per output row"
    if parts.other and parts.stage == "base":
        return f"second base of {parts.relative}'s recipe: other initial weights, other data"
    if parts.other:
        return f"{parts.stage} stage of a near-clone of {parts.relative}: same base, house, taste; other data, sampling"
    if parts.step:
        return f"snapshot of {parts.relative}'s RL after {parts.step} steps"
    return f"{parts.stage} stage of {parts.relative}"


def _real_note(parts: _Name) -> str:
    if parts.stage == "sft":
        return "SmolLM2-135M-Instruct as its makers ship it"
    if parts.stage == "dpo":
        return "DPO stage of SmolLM2-135M-Instruct, an adapter"
    if parts.step:
        return f"snapshot of SmolLM2-135M-Instruct's RL run {parts.run} after {parts.step} steps, an adapter"
    return f"RL stage of SmolLM2-135M-Instruct, run {parts.run}, an adapter"


def path(name: str) -> Path:
    """Folder of an embedded model.

    Raises:
        ModelError: there is no such model.
    """
    embedded = names(everything=True)
    if name not in embedded:
        raise ModelError(f"the zoo has no model '{name}'; it has {', '.join(embedded)}")
    return _MODELS / name


def card(name: str) -> str:
    """The card of an embedded model, Markdown: data, recipe, losses, samples, what it cannot show.

    Raises:
        ModelError: there is no such model.
    """
    return (path(name) / "card.md").read_text()


def prompts(kind: PromptKind = "stories") -> list[Prompt]:
    """Requests that the world understands, each a conversation of one user turn.

    `stories`: 108 requests for a story, open ones first, then topic by topic (ids `open-000`, `sea-012` ...).
    `questions`: where each of the 96 objects belongs, in two wordings (`rake-140`); the answer is the object's topic.
    `names`: name something of one of five categories, in two wordings (`hero-006`).
    """
    requests = {"stories": all_requests, "questions": all_questions, "names": all_namings}[kind]()
    return [
        Prompt(f"{request.about or request.topic or 'open'}-{i:03}", (Message(role="user", content=request.text),))
        for i, request in enumerate(requests)
    ]


def _parts(name: str) -> _Name:
    """A name taken apart.

    Raises:
        ModelError: no embedded model can be called that.
    """
    if real := _REAL.fullmatch(name):
        stage, run, step = real.groups(default="")
        return _Name("smollm", "2", stage, step, "", run)
    match = _NAME.fullmatch(name)
    if match is None:
        raise ModelError(
            f"'{name}' is not a name of the zoo; names look like ash-rl, ash2-rl, ash-rl20, ash-rl-int8 or smollm2-rl-a"
        )
    return _Name(*match.groups(default=""))


def _order(name: str) -> tuple[str, int, str, float, str]:
    """Families in order, stages in the order of training, snapshots before the end of their stage."""
    parts = _parts(name)
    return family(name), STAGES.index(parts.stage), parts.run, float(parts.step or "inf"), parts.rounded
