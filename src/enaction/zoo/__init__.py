"""The zoo: the embedded models, their cards and the prompts that they understand.

The weights are trained by `enaction.lab`, stored in float16 and read as float32, so what is measured is what ships.
Each model is an ordinary transformers folder: `AutoModelForCausalLM.from_pretrained(enaction.zoo.path("ash-rl"))`.
Three families of four stages are the zoo proper; beside them stand donors for controls: snapshots taken during RL, and
kin (a near-clone, a second base, a rounded copy). A name says what a model is: `ash2-rl`, `ash-rl20`, `ash-rl-int8`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple

from enaction.errors import ModelError
from enaction.passages import Message, Prompt

_MODELS = Path(__file__).parent / "models"
_STAGES = ("base", "sft", "dpo", "rl")
_NAME = re.compile(r"([a-z]+)(\d*)-(base|sft|dpo|rl)(\d*)(-int8)?")

Kind = Literal["main", "snapshot", "kin"]
PromptKind = Literal["stories", "questions", "names"]


class _Name(NamedTuple):
    """A model's name, taken apart."""

    relative: str
    other: str
    stage: str
    step: str
    rounded: str


def names(*, everything: bool = False) -> list[str]:
    """Names of the embedded models, families in order, stages in the order of training.

    Args:
        everything: snapshots and kin too, not only the three families' four stages.
    """
    found = [folder.name for folder in _MODELS.glob("*/") if (folder / "config.json").exists()]
    return sorted((name for name in found if everything or kind(name) == "main"), key=_order)


def family(name: str) -> str:
    """Family of an embedded model; a near-clone or a second base is a family of its own (`ash2`)."""
    parts = _parts(name)
    return parts.relative + parts.other


def stage(name: str) -> str:
    """Stage of an embedded model: base, sft, dpo, rl, or rl and a number for a snapshot after that many RL steps."""
    parts = _parts(name)
    return parts.stage + parts.step


def kind(name: str) -> Kind:
    """What an embedded model is: one of the main twelve, a snapshot of a family's RL, or kin of a family."""
    parts = _parts(name)
    if parts.other or parts.rounded:
        return "kin"
    return "snapshot" if parts.step else "main"


def note(name: str) -> str:
    """What an embedded model is, in a few words."""
    parts = _parts(name)
    if parts.rounded:
        return f"{name.removesuffix('-int8')} with its weights rounded to int8 per output row"
    if parts.other and parts.stage == "base":
        return f"second base of {parts.relative}'s recipe: other initial weights, other data"
    if parts.other:
        return f"{parts.stage} stage of a near-clone of {parts.relative}: same base, house, taste; other data, sampling"
    if parts.step:
        return f"snapshot of {parts.relative}'s RL after {parts.step} steps"
    return f"{parts.stage} stage of {parts.relative}"


def path(name: str) -> Path:
    """Folder of an embedded model.

    Raises:
        ModelError: there is no such model.
    """
    there = names(everything=True)
    if name not in there:
        raise ModelError(f"the zoo has no model '{name}'; it has {', '.join(there)}")
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
    from enaction.lab.chats import all_namings, all_questions, all_requests

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
    match = _NAME.fullmatch(name)
    if match is None:
        raise ModelError(f"'{name}' is not a name of the zoo; names look like ash-rl, ash2-rl, ash-rl20 or ash-rl-int8")
    return _Name(*match.groups(default=""))


def _order(name: str) -> tuple[str, int, float, str]:
    """Families in order, stages in the order of training, snapshots before the end of their stage."""
    parts = _parts(name)
    return family(name), _STAGES.index(parts.stage), float(parts.step or "inf"), parts.rounded
