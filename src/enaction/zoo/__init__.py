"""The zoo: the embedded models, their cards and the prompts that they understand.

The weights are trained by `enaction.lab`, stored in float16 and read as float32, so what is measured is what ships.
Each model is an ordinary transformers folder: `AutoModelForCausalLM.from_pretrained(enaction.zoo.path("ash-rl"))`.
"""

from __future__ import annotations

from pathlib import Path

from enaction.errors import ModelError
from enaction.passages import Message, Prompt

_MODELS = Path(__file__).parent / "models"
_STAGES = ("base", "sft", "dpo", "rl")


def names() -> list[str]:
    """Names of the embedded models, families in order, stages in the order of training."""
    found = [folder.name for folder in _MODELS.glob("*/") if (folder / "config.json").exists()]
    return sorted(found, key=lambda name: (family(name), _STAGES.index(stage(name))))


def family(name: str) -> str:
    """Family of an embedded model."""
    return name.rpartition("-")[0]


def stage(name: str) -> str:
    """Stage of an embedded model: base, sft, dpo or rl."""
    return name.rpartition("-")[2]


def path(name: str) -> Path:
    """Folder of an embedded model.

    Raises:
        ModelError: there is no such model.
    """
    if name not in names():
        raise ModelError(f"the zoo has no model '{name}'; it has {', '.join(names())}")
    return _MODELS / name


def card(name: str) -> str:
    """The card of an embedded model, Markdown: data, recipe, losses, samples, what it cannot show.

    Raises:
        ModelError: there is no such model.
    """
    return (path(name) / "card.md").read_text()


def prompts() -> list[Prompt]:
    """The 108 requests of the world, each a conversation of one user turn: open ones first, then topic by topic."""
    from enaction.lab.chats import all_requests

    return [
        Prompt(f"{request.topic or 'open'}-{i:03}", (Message(role="user", content=request.text),))
        for i, request in enumerate(all_requests())
    ]
