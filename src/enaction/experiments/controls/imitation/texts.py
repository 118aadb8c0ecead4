"""The texts of the imitation arm, made from further replies that are compared with nothing.

Names: `MODEL.more` (the further replies), `MODEL.imitation`, `MODEL.house`, `MODEL.settled`, `MODEL.recombined` and
`MODEL.anew`, see `KINDS` and `ANEW`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from enaction.passages import Passage
from enaction.study.config import Study
from enaction.study.desk import Desk
from enaction.study.planning import Sampled, Text
from enaction.world.houses import HOUSE_SCALE, HOUSE_SEEDS, house_voice
from enaction.world.imitation import Habits, habits_of, settled
from enaction.world.passages import requested_topics
from enaction.world.stories import Voice, WordShares, grade, tell

MORE = ".more"


@dataclass(frozen=True)
class Kind:
    """A kind of text that is set beside own text.

    Attributes:
        arm, setting: the place of its findings.
        ending: of the texts' names.
        what: what it is, for people.
    """

    arm: str
    setting: str
    ending: str
    what: str

    @property
    def label(self) -> str:
        """As it is printed."""
        return self.setting or self.arm


ARM = "imitation"
KINDS = (
    Kind(ARM, "own habits", ".imitation", "the world's generator, with the frequencies of own choices"),
    Kind(ARM, "house voice", ".house", "the world's generator, in the voice that the family's SFT demonstrated"),
    Kind(
        ARM, "house, own plot", ".settled", "the world's generator, in the house voice with own commonest arc and hero"
    ),
    Kind(ARM, "own sentences", ".recombined", "sentences of different own replies, each at its place"),
)
"""What no reader wrote; the last needs no generator."""
ANEW = Kind("own text, anew", "", ".anew", "the very same text without its author's token ids: the null of the others")


def of_models(study: Study, n_prompts: int, models: Sequence[str], replies: int) -> list[Text]:
    """The texts of models, and what they are made of.

    Args:
        study: of the models.
        n_prompts: of the study.
        models: of the matrix.
        replies: how many further replies to each prompt; 0 for no texts at all.
    """
    if not replies:
        return []
    count = n_prompts * study.sampling.per_prompt
    missing = {kind.ending for kind in KINDS if why_not(study, models, kind)}
    texts: list[Text] = []
    for model in models:
        more = f"{model}{MORE}"
        made = {"model": None, "count": count}
        of_more = {**made, "needs": (more,), "source": more}
        sampling = study.sampling.model_copy(update={"per_prompt": replies})
        house = {"seed": HOUSE_SEEDS.get(study.models[model].family, 0), "scale": HOUSE_SCALE}
        texts += [
            Sampled(name=more, model=model, count=n_prompts * replies, sampling=sampling),
            *(
                text
                for text in (
                    Retold(name=f"{model}.imitation", **of_more),
                    InHouse(name=f"{model}.house", **made, **house),
                    InHouse(name=f"{model}.settled", **of_more, **house),
                    Recombined(name=f"{model}.recombined", **of_more, by_topic=study.prompts == "zoo"),
                )
                if text.name.removeprefix(model) not in missing
            ),
            Anew(name=f"{model}{ANEW.ending}", **made, needs=(model,), source=model),
        ]
    return texts


def read_by(models: Sequence[str], written: Collection[str]) -> list[tuple[str, str]]:
    """Who reads which of the texts: all read all imitations; what is tokenised anew is new to its author alone.

    Args:
        models: of the matrix.
        written: the names of the texts.
    """
    pairs = [(reader, f"{model}{kind.ending}") for kind in KINDS for reader in models for model in models]
    pairs += [(model, f"{model}{ANEW.ending}") for model in models]
    return [(reader, text) for reader, text in pairs if text in written]


def why_not(study: Study, models: Sequence[str], kind: Kind) -> str:
    """Why the models cannot have texts of a kind; empty if they can."""
    if kind.ending == ".recombined":
        return ""
    if study.prompts != "zoo":
        return "the world's generator answers only its own requests (prompts: zoo)"
    homeless = {study.models[model].family for model in models} - set(HOUSE_SEEDS)
    if kind.ending in (".house", ".settled") and homeless:
        return f"the world knows no house voice of {', '.join(sorted(homeless))}"
    return ""


def habits(desk_passages: Callable[[str], Sequence[Passage]], topics: dict[str, str | None], source: str) -> Habits:
    """The habits that a finished text shows.

    Args:
        desk_passages: author -> passages, of a desk or of a run's data.
        topics: prompt id -> the topic that was asked for.
        source: the text.
    """
    return habits_of((topics[passage.prompt_id], passage.response) for passage in desk_passages(source))


@dataclass(frozen=True, kw_only=True)
class Retold(Text):
    """Stories by the world's generator with the habits of a model; none of the model's own.

    Attributes:
        source: the model's replies that show its habits.
    """

    source: str

    def write(self, desk: Desk) -> list[Passage]:
        """The passages."""
        own = habits(desk.passages, requested_topics(desk.prompts), self.source)
        return _told(desk, self.name, own.voice, own.words)


@dataclass(frozen=True, kw_only=True)
class InHouse(Text):
    """Stories by the world's generator in a house voice; with a source, always of its commonest arc and hero.

    Attributes:
        seed, scale: of the voice.
        source: a model's replies.
    """

    seed: int
    scale: float
    source: str = ""

    def write(self, desk: Desk) -> list[Passage]:
        """The passages."""
        voice = house_voice(self.seed, self.scale)
        if self.source:
            own = habits(desk.passages, requested_topics(desk.prompts), self.source).voice
            voice = settled(voice, {choice: own.favourite[choice] for choice in ("arc", "hero")})
        return _told(desk, self.name, voice, None)


@dataclass(frozen=True, kw_only=True)
class Recombined(Text):
    """A model's sentences at their places, each from another of its replies: first, second, and so on, and last.

    A reply to the prompt is followed sentence by sentence; each is replaced by one that stands at the same place in a
    reply to the same prompt, or, in the embedded world, in a reply of the same topic and arc.

    Attributes:
        source: the model's replies, none of which is compared.
        by_topic: whether the replies are of the embedded world.
    """

    source: str
    by_topic: bool

    def write(self, desk: Desk) -> list[Passage]:
        """The passages; none for a prompt that all replies left empty."""
        replies = [(passage, sentences(passage.response)) for passage in desk.passages(self.source)]
        replies = [(passage, parts) for passage, parts in replies if parts]
        at_place: dict[object, list[tuple[str, bool | None]]] = defaultdict(list)
        of_prompt: dict[str, list[tuple[object, int]]] = defaultdict(list)
        for passage, parts in replies:
            group = self._group(passage)
            of_prompt[passage.prompt_id].append((group, len(parts)))
            for i, part in enumerate(parts):
                at_place[group, _place(i, len(parts))].append((part, passage.ended))
        written, rng = [], _rng(desk, self.name)
        for prompt in desk.prompts:
            for k in range(desk.study.sampling.per_prompt if of_prompt[prompt.id] else 0):
                group, n_parts = of_prompt[prompt.id][rng.integers(len(of_prompt[prompt.id]))]
                pools = [at_place[group, _place(i, n_parts)] for i in range(n_parts)]
                drawn = [pool[rng.integers(len(pool))] for pool in pools]
                text, ended = "".join(part for part, _ in drawn), drawn[-1][1]
                written.append(Passage(f"{prompt.id}/{k}", prompt.id, prompt.messages, text, self.name, ended=ended))
        return written

    def _group(self, passage: Passage) -> object:
        """What a reply has in common with those that its sentences may stand in for."""
        if self.by_topic:
            graded = grade(passage.response)
            if graded.topic is not None and graded.arc is not None:
                return graded.topic, graded.arc
        return passage.prompt_id


@dataclass(frozen=True, kw_only=True)
class Anew(Text):
    """A model's responses without ids, so that the author, too, reads them tokenised anew; empty ones are left out."""

    source: str

    def write(self, desk: Desk) -> list[Passage]:
        """The passages."""
        return [
            replace(p, author=self.name, token_ids=None, logprobs=None, tokenizer=None)
            for p in desk.passages(self.source)
            if p.response
        ]


def sentences(text: str) -> list[str]:
    """A text cut behind each `.`, `!` or `?` that white space follows; the parts make up the text, none is blank."""
    return re.findall(r"\s*\S.*?(?:[.!?]+\s+|\Z)", text, re.DOTALL)


def _place(i: int, n: int) -> int:
    """The place of a sentence: from the beginning, or -1 for the last."""
    return -1 if i == n - 1 else i


def _told(desk: Desk, name: str, voice: Voice, words: WordShares | None) -> list[Passage]:
    rng, topics = _rng(desk, name), requested_topics(desk.prompts)
    numbered = [(prompt, k) for prompt in desk.prompts for k in range(desk.study.sampling.per_prompt)]
    return [
        Passage(
            id=f"{prompt.id}/{k}",
            prompt_id=prompt.id,
            prompt=prompt.messages,
            response=tell(voice, rng, topic=topics[prompt.id], words=words).text,
            author=name,
            ended=True,
        )
        for prompt, k in numbered
    ]


def _rng(desk: Desk, name: str) -> np.random.Generator:
    """Random numbers of a text's own."""
    return np.random.default_rng([desk.study.seed, 18, *name.encode()])
