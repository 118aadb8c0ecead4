"""The texts of the controls: at other settings of sampling, moved, shuffled, normalised in style, familiar, by people.

Names: `MODEL.T0.5` and `MODEL.p0.9` (settings), `MODEL.again` (the same settings, other random numbers), `MODEL.moved`
(responses to other prompts), `MODEL.shuffled`, `MODEL.plain` (one word for each set of synonyms), `memorised`, `human`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from enaction.errors import StudyError
from enaction.passages import Passage, Prompt, Sampling, read_passages
from enaction.study.config import Study
from enaction.study.desk import Desk
from enaction.study.planning import Sampled, Text
from enaction.world import chats
from enaction.world.lexicon import SYNONYMS

MEMORISED = "memorised"
HUMAN = "human"


@dataclass(frozen=True, kw_only=True)
class Moved(Text):
    """A model's responses, each under the prompt half the list of prompts further on; the mark `answers` names its own.

    Attributes:
        source: the model.
    """

    source: str

    def write(self, desk: Desk) -> list[Passage]:
        """The passages."""
        prompts = desk.prompts
        shift = max(1, len(prompts) // 2)
        target = {prompt.id: prompts[(i + shift) % len(prompts)] for i, prompt in enumerate(prompts)}
        moved = [(p, target[p.prompt_id], p.marks | {"answers": p.prompt_id}) for p in desk.passages(self.source)]
        return [
            replace(p, id=f"{to.id}/{p.id}", prompt_id=to.id, prompt=to.messages, author=self.name, marks=marks)
            for p, to, marks in moved
        ]


@dataclass(frozen=True, kw_only=True)
class _Rewritten(Text):
    """A model's responses with other words. They have no ids: everybody, the author too, reads them tokenised anew."""

    source: str

    def write(self, desk: Desk) -> list[Passage]:
        """The passages."""
        passages = desk.passages(self.source)
        texts = [self._rewrite(p.response, [desk.study.seed, 17, i]) for i, p in enumerate(passages)]
        return [
            replace(p, response=text, author=self.name, token_ids=None, logprobs=None, tokenizer=None)
            for p, text in zip(passages, texts, strict=True)
        ]

    def _rewrite(self, text: str, stream: Sequence[int]) -> str:
        """Another text, with random numbers of a stream of the passage's own."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Shuffled(_Rewritten):
    """A model's responses with their words in random order, single blanks between them."""

    def _rewrite(self, text: str, stream: Sequence[int]) -> str:
        words = text.split()
        return " ".join(words[i] for i in np.random.default_rng(stream).permutation(len(words)))


@dataclass(frozen=True, kw_only=True)
class Plain(_Rewritten):
    """A model's responses with every word of a set of synonyms replaced by the first of its set.

    Attributes:
        synonyms: pairs of a word in lower case and the first of its set.
    """

    synonyms: tuple[tuple[str, str], ...]

    def _rewrite(self, text: str, stream: Sequence[int]) -> str:
        first_of = dict(self.synonyms)

        def replaced(match: re.Match[str]) -> str:
            word = match.group()
            first = first_of.get(word.lower(), word)
            return first[:1].upper() + first[1:] if word[0].isupper() else first

        return re.sub(r"\w+", replaced, text)


@dataclass(frozen=True, kw_only=True)
class Given(Text):
    """Text that no model of the study wrote.

    Attributes:
        answers: prompt id, response, and whether it ended by itself, of each.
    """

    answers: tuple[tuple[str, str, bool | None], ...]

    def write(self, desk: Desk) -> list[Passage]:
        """The passages."""
        messages = {prompt.id: prompt.messages for prompt in desk.prompts}
        return [
            Passage(f"{prompt}/{i}", prompt, messages[prompt], response, self.name, ended=ended)
            for i, (prompt, response, ended) in enumerate(self.answers)
        ]


def ending(sampling: Sampling) -> str:
    """Ending of a text's name: a temperature with full support, or a nucleus at temperature 1."""
    return f".T{sampling.temperature:g}" if sampling.top_p == 1 else f".p{sampling.top_p:g}"


def settings_of(study: Study, temperatures: Sequence[float], top_p: Sequence[float]) -> list[Sampling]:
    """The study's sampling at each temperature and at each nucleus, the study's own left out."""
    changes = [{"temperature": t, "top_p": 1.0} for t in temperatures]
    changes += [{"temperature": 1.0, "top_p": p} for p in top_p]
    changed = [study.sampling.model_copy(update=change) for change in changes]
    return [sampling for sampling in dict.fromkeys(changed) if sampling != study.sampling]


def of_model(
    study: Study, n_prompts: int, model: str, settings: Sequence[Sampling], synonyms: tuple[tuple[str, str], ...] | None
) -> list[Text]:
    """What is sampled from a model at these settings, or made of its own text.

    Args:
        synonyms: as in `Plain`; None leaves that text out.
    """
    count = n_prompts * study.sampling.per_prompt
    texts: list[Text] = [
        Sampled(name=f"{model}{end}", model=model, count=count, sampling=sampling)
        for end, sampling in [(".again", study.sampling), *((ending(s), s) for s in settings)]
    ]
    made = {"model": None, "count": count, "needs": (model,), "source": model}
    texts.append(Moved(name=f"{model}.moved", **made))
    if synonyms is not None:
        texts.append(Plain(name=f"{model}.plain", synonyms=synonyms, **made))
    return [*texts, Shuffled(name=f"{model}.shuffled", **made)]


def synonyms_of(study: Study, path: Path | None) -> tuple[tuple[str, str], ...] | None:
    """Pairs of a word and the first of its set: the embedded world's, or a JSON file's {word: first}; None for neither.

    Raises:
        StudyError: the file is missing or no such object.
    """
    if path is not None:
        try:
            mapping = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise StudyError(f"controls: synonyms: {path} cannot be read as JSON ({error})") from None
        if not isinstance(mapping, dict) or not all(isinstance(w, str) and w for w in mapping.values()):
            raise StudyError(f'controls: synonyms: {path} must hold one object {{"word": "the word that replaces it"}}')
        return tuple((word.lower(), first) for word, first in mapping.items())
    if study.prompts != "zoo":
        return None
    # A word of two sets goes with the first.
    return tuple((word, words[0]) for words in reversed(SYNONYMS.values()) for word in words)


def human(prompts: Sequence[Prompt], path: Path) -> Given:
    """Text of people from a passage file: what answers one of the prompts, by `prompt_id`.

    Raises:
        StudyError: none of it does.
    """
    known = {prompt.id for prompt in prompts}
    answers = tuple((p.prompt_id, p.response, p.ended) for p in read_passages(path) if p.prompt_id in known)
    if not answers:
        raise StudyError(f"controls: human: no passage of {path} has the prompt_id of a prompt of the study")
    return Given(name=HUMAN, model=None, count=len(answers), answers=answers)


def memorised(study: Study, prompts: Sequence[Prompt], path: Path | None) -> Given | None:
    """What models know by heart, dealt out to the prompts in turn; None where nothing is known.

    The responses of a passage file, or what the embedded world's pretraining repeats.
    """
    if path is None and study.prompts != "zoo":
        return None
    texts = chats.memorised() if path is None else [p.response for p in read_passages(path)]
    answers = tuple((prompt.id, texts[i % len(texts)], True) for i, prompt in enumerate(prompts))
    return Given(name=MEMORISED, model=None, count=len(answers), answers=answers)
