"""The texts of the controls: at other settings of sampling, moved, shuffled, normalised in style, familiar, by people.

Names: `MODEL.T0.5` and `MODEL.p0.9` (settings), `MODEL.again` (the same settings, other random numbers), `MODEL.moved`
(responses to other prompts), `MODEL.shuffled`, `MODEL.plain` (one word for each set of synonyms), `memorised`, `human`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from enaction.errors import StudyError
from enaction.experiments.old_planning import Derived
from enaction.passages import Passage, Sampling, read_passages
from enaction.study.config import Study
from enaction.study.planning import Text
from enaction.study.store import Run
from enaction.world import chats
from enaction.world.lexicon import SYNONYMS

MEMORISED = "memorised"
HUMAN = "human"


def setting_name(model: str, sampling: Sampling) -> str:
    """Name of a model's text at a temperature with full support, or at temperature 1 with a nucleus."""
    return f"{model}.T{sampling.temperature:g}" if sampling.top_p == 1 else f"{model}.p{sampling.top_p:g}"


def settings_of(study: Study, temperatures: tuple[float, ...], top_p: tuple[float, ...]) -> list[Sampling]:
    """The study's sampling at each temperature and at each nucleus, the study's own left out."""
    changes = [{"temperature": t, "top_p": 1.0} for t in temperatures] + [
        {"temperature": 1.0, "top_p": p} for p in top_p
    ]
    asked = [study.sampling.model_copy(update=change) for change in changes]
    return [sampling for sampling in dict.fromkeys(asked) if sampling != study.sampling]


def moved(study: Study, model: str) -> Text:
    """A model's responses, each under the prompt that stands half the list of prompts further on."""
    name, prompts = f"{model}.moved", study.load_prompts()
    shift = max(1, len(prompts) // 2)
    target = {prompt.id: prompts[(i + shift) % len(prompts)] for i, prompt in enumerate(prompts)}

    def write(run: Run) -> list[Passage]:
        return [
            dataclasses.replace(
                p,
                id=f"{target[p.prompt_id].id}/{p.id}",
                prompt_id=target[p.prompt_id].id,
                prompt=target[p.prompt_id].messages,
                author=name,
                sampling=p.sampling | {"answers": p.prompt_id},
            )
            for p in run.passages(model)
        ]

    return Derived(name, len(prompts) * study.sampling.per_prompt, write, needs=(model,))


def shuffled(study: Study, model: str) -> Text:
    """A model's responses with their words in random order, blanks between them."""

    def shuffle(text: str, index: int) -> str:
        words = text.split()
        return " ".join(words[i] for i in np.random.default_rng([study.seed, 17, index]).permutation(len(words)))

    return _rewritten(study, model, f"{model}.shuffled", shuffle)


def plain(study: Study, model: str, first_of: dict[str, str]) -> Text:
    """A model's responses with every word of a set of synonyms replaced by the first of its set."""

    def replaced(found: re.Match[str]) -> str:
        word = found.group()
        first = first_of.get(word.lower(), word)
        return first[:1].upper() + first[1:] if word[0].isupper() else first

    return _rewritten(study, model, f"{model}.plain", lambda text, _: re.sub(r"\w+", replaced, text))


def _rewritten(study: Study, model: str, name: str, rewrite: Callable[[str, int], str]) -> Text:
    """Text without ids: everybody, the author too, reads it as tokenised anew."""

    def write(run: Run) -> list[Passage]:
        return [
            dataclasses.replace(
                p, response=rewrite(p.response, i), author=name, token_ids=None, logprobs=None, tokenizer=None
            )
            for i, p in enumerate(run.passages(model))
        ]

    return Derived(name, len(study.load_prompts()) * study.sampling.per_prompt, write, needs=(model,))


def synonyms(study: Study, path: Path | None) -> dict[str, str] | None:
    """Word -> first word of its set: the embedded world's, or a JSON file's {word: first}; None where there is neither.

    Raises:
        StudyError: the file is missing or no such object.
    """
    if path is not None:
        try:
            mapping = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise StudyError(f"controls: synonyms: {path} cannot be read as JSON ({error})") from None
        if not isinstance(mapping, dict) or not all(isinstance(w, str) and w for w in mapping.values()):
            raise StudyError(
                f'controls: synonyms: {path} must hold one object {{"word": "the word that stands for it"}}'
            )
        return {word.lower(): first for word, first in mapping.items()}
    if study.prompts != "zoo":
        return None
    # A word of two sets goes with the first.
    return {word: words[0] for words in reversed(SYNONYMS.values()) for word in words}


def human(study: Study, path: Path) -> Text:
    """Text of people from a passage file: what answers a prompt of the study, by `prompt_id`.

    Raises:
        StudyError: none of it does.
    """
    prompts = {prompt.id: prompt for prompt in study.load_prompts()}
    found = [p for p in read_passages(path) if p.prompt_id in prompts]
    if not found:
        raise StudyError(f"controls: human: no passage of {path} has the prompt_id of a prompt of the study")

    def write(_: Run) -> list[Passage]:
        return [
            Passage(f"{p.prompt_id}/{i}", p.prompt_id, prompts[p.prompt_id].messages, p.response, HUMAN, ended=p.ended)
            for i, p in enumerate(found)
        ]

    return Derived(HUMAN, len(found), write)


def memorised(study: Study, path: Path | None) -> Text | None:
    """Texts that the models know by heart, dealt out to the prompts in turn; None where none are known.

    They are the responses of a passage file, or what the embedded world's pretraining repeats word for word.
    """
    if path is not None:
        texts = [p.response for p in read_passages(path)]
    else:
        texts = list(chats.memorised()) if study.prompts == "zoo" else []
    if not texts:
        return None
    prompts = study.load_prompts()

    def write(_: Run) -> list[Passage]:
        return [
            Passage(f"{p.id}/0", p.id, p.messages, texts[i % len(texts)], MEMORISED, ended=True)
            for i, p in enumerate(prompts)
        ]

    return Derived(MEMORISED, len(prompts), write)
