"""The zoo: the embedded models, their cards and the prompts that they understand.

The weights are trained by `enaction.lab`, stored in float16 and read as float32, so what is measured is what ships.
Each model is an ordinary transformers folder: `AutoModelForCausalLM.from_pretrained(enaction.zoo.path("ash-rl"))`.
Three families of four stages are the zoo proper. Arms are other runs of RL from the same DPO model, each different in
one thing (`ash-rl-seed2`, `ash-rl-paid`). The rest are donors for controls: a snapshot of RL (`ash-rl60`), and kin:
a near-clone (`ash2-rl`), a second base (`ash3-base`), a rounded copy (`ash-rl-int8`).

Organisms (`organism-surprise`) have a designed mechanism and test the experiments that look for one; `names()` leaves
them out. They are described by their own cards, whose second paragraph begins with the model's note.

The stages of a real model are apart: `smollm2-sft`, `smollm2-dpo`, runs of RL (`smollm2-rl-a`, `smollm2-rl-b`) and
snapshots of one (`smollm2-rl-a30`). They are adapters on a public file (`reader.sources.adapter`), which `Reader.load`
puts together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from enaction.errors import ModelError
from enaction.passages import Message, Prompt
from enaction.words import STAGES
from enaction.world import chats
from enaction.world.chats import Request

_MODELS = Path(__file__).parent / "models"
_NAME = re.compile(
    r"(?!smollm2)([a-z]+)(\d*)-(base|sft|dpo|rl)(\d*)(-int8)?(?:-(seed2|(?:paid|shared)(?:-replay)?|replay))?"
)
_REAL = re.compile(r"smollm2-(sft|dpo|rl)(?:-([a-z])(\d*))?")
_ORGANISM = re.compile(r"(organism)-([a-z]+)")

Kind = Literal["main", "arm", "snapshot", "kin", "real", "organism"]
PromptKind = Literal["stories", "questions", "names"]

# The prompts of organisms over symbols, in turn, and how many of them there are.
_REGIMES, _N_SYMBOLS = ("low", "high"), 96
_ASKED: dict[PromptKind, chats.Kind] = {"stories": "story", "questions": "question", "names": "name"}
_ARM_NOTES = {
    "seed2": "second run of {}'s RL: other requests, other samples",
    "paid": "RL of {} with a reward that also pays for its house style",
    "shared": "RL of {} with a reward that also pays for ash's house style",
    "replay": "RL of {} with replayed pretraining text",
}


class _Name(NamedTuple):
    """A model's name, taken apart; `run` is an arm of RL, or a run of the real model's.

    What an organism is called after its family is its `stage`.
    """

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

    @property
    def is_organism(self) -> bool:
        """Whether its mechanism is designed."""
        return self.relative == "organism"


def names(*, everything: bool = False) -> list[str]:
    """Names of the embedded models, families in order, stages in the order of training.

    Args:
        everything: arms, snapshots, kin, organisms and the stages of the real model too, not only the three families'
            four stages.
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

    Arms are stages of their own: rl-paid, rl-seed2. So are the real model's runs of RL: rl-a, rl-b, snapshots rl-a30.
    Of an organism it is what is designed.
    """
    parts = _parts(name)
    return parts.stage + (f"-{parts.run}" if parts.run else "") + parts.step


def kind(name: str) -> Kind:
    """What an embedded model is: one of the main twelve, an arm or snapshot of RL, kin, a real one, or an organism."""
    parts = _parts(name)
    if parts.is_organism:
        return "organism"
    if parts.is_real:
        return "real"
    if parts.other or parts.rounded:
        return "kin"
    if parts.run:
        return "arm"
    return "snapshot" if parts.step else "main"


def note(name: str) -> str:
    """What an embedded model is, in a few words.

    Raises:
        ModelError: no embedded model can be called that, or it is an organism that does not exist.
    """
    parts = _parts(name)
    if parts.is_organism:
        said = card(name).split("\n\n", 2)[1].partition(". Kind: ")[0]
        return " ".join(said.split())
    if parts.is_real:
        return _real_note(parts)
    if parts.rounded:
        return f"{name.removesuffix('-int8')} with its weights rounded to int8 per output row"
    if parts.other and parts.stage == "base":
        return f"second base of {parts.relative}'s recipe: other initial weights, other data"
    if parts.other:
        return f"{parts.stage} stage of a near-clone of {parts.relative}: same base, house, taste; other data, sampling"
    if parts.run:
        arm, dash, _ = parts.run.partition("-")
        return _ARM_NOTES[arm].format(parts.relative) + (", and with replayed pretraining text" if dash else "")
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


def prompts(kind: PromptKind | Literal["symbols"] = "stories", *, seen: bool = False) -> list[Prompt]:
    """Requests that the world, or an organism, understands, each a conversation of one user turn.

    By default those that SFT, DPO and RL never had: the topic or the wording is held out. Pretraining had all. Held-out
    topics, held-out wordings and open requests alternate, so that the first few, or every third, are of all sorts.

    `stories`: requests for a story, 86 held out and 76 seen (ids `open-002`, `forest-043` ...).
    `questions`: where each of the 96 objects belongs, in three wordings, 160 held out and 128 seen (`rake-207`); the
    answer is the object's topic.
    `names`: name something of one of five categories, in three wordings, 5 held out and 10 seen (`hero-009`).
    `symbols`: the regime words of organisms over symbols, `low` and `high` in turn, 96 in all (`low-000`); they are the
    same two texts again and again, so that there are prompts to resample, and none of them counts as seen.

    Args:
        kind: what is asked for.
        seen: those that post-training had instead.
    """
    if kind == "symbols":
        words = [] if seen else [_REGIMES[i % len(_REGIMES)] for i in range(_N_SYMBOLS)]
        return [Prompt(f"{word}-{i:03}", (Message(role="user", content=word),)) for i, word in enumerate(words)]
    return [prompt for _, prompt in asked(kind, seen=seen)]


def prompts_for(name: str) -> list[Prompt]:
    """The prompts that an embedded model of the world, or an organism, understands by default."""
    reads_symbols = kind(name) == "organism" and not (path(name) / "chat_template.jinja").exists()
    return prompts("symbols" if reads_symbols else "stories")


def asked(kind: PromptKind = "stories", *, seen: bool = False) -> list[tuple[Request, Prompt]]:
    """`prompts`, each with the request that it makes."""
    of_kind = _ASKED[kind]
    listed = [
        (request, f"{request.about or request.topic or 'open'}-{i:03}")
        for i, request in enumerate(chats.all_of(of_kind))
        if (request in chats.held_out(of_kind)) != seen
    ]
    return [(request, Prompt(name, (Message(role="user", content=request.text),))) for request, name in _mixed(listed)]


def _mixed(listed: Sequence[tuple[Request, str]]) -> list[tuple[Request, str]]:
    """Open requests, held-out topics and the others in turn, each as often as there are of it, in a shuffled order."""
    groups: dict[str, list[tuple[Request, str]]] = {}
    for request, name in listed:
        sort = "open" if request.topic is None else "seen" if request.topic in chats.SEEN.topics else "held out"
        groups.setdefault(sort, []).append((request, name))
    rng = np.random.default_rng(0)
    placed = []
    for group in groups.values():
        places = (np.arange(len(group)) + rng.random(len(group))) / len(group)
        placed += [(place, group[i]) for place, i in zip(places, rng.permutation(len(group)), strict=True)]
    return [item for _, item in sorted(placed, key=lambda at: at[0])]


def _parts(name: str) -> _Name:
    """A name taken apart.

    Raises:
        ModelError: no embedded model can be called that.
    """
    if real := _REAL.fullmatch(name):
        stage, run, step = real.groups(default="")
        return _Name("smollm", "2", stage, step, "", run)
    if organism := _ORGANISM.fullmatch(name):
        return _Name(organism[1], "", organism[2], "", "")
    match = _NAME.fullmatch(name)
    if match is None:
        raise ModelError(
            f"'{name}' is not a name of the zoo; names look like ash-rl, ash-rl-paid, ash2-rl, ash-rl60, smollm2-rl-a "
            "or organism-surprise"
        )
    return _Name(*match.groups(default=""))


def _order(name: str) -> tuple[str, int, str, float, str]:
    """Families in order, stages in the order of training, snapshots before the end of their stage."""
    parts = _parts(name)
    place = len(STAGES) if parts.is_organism else STAGES.index(parts.stage)
    return (
        family(name),
        place,
        parts.stage if parts.is_organism else parts.run,
        float(parts.step or "inf"),
        parts.rounded,
    )
