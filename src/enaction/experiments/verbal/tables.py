"""The measured tables of verbal reports: who is asked about what, with which settings.

Names: `verbal.MODEL` (the model's own report on every text), `verbal.MODEL.by.OTHER` (another reader's report on the
same transcripts), `verbal.MODEL.route`, `verbal.MODEL.injected` and `verbal.MODEL.injected.by.OTHER`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from enaction.experiments.pieces import first_of_each
from enaction.experiments.verbal import cells, injection, route
from enaction.experiments.verbal.asking import answers, with_words
from enaction.experiments.verbal.cells import Wording
from enaction.passages import Passage
from enaction.study.desk import Desk
from enaction.study.planning import Measured, Text

# Tokens of a sampled answer.
_ANSWER = 12


@dataclass(frozen=True, kw_only=True)
class _Asking(Measured):
    """A table of answers to questions after transcripts.

    Attributes:
        wording: the questions and answers.
        cut: tokens of a reply that are shown.
    """

    wording: Wording
    cut: int
    schema: ClassVar[pa.Schema]

    def measure(self, desk: Desk) -> pa.Table:
        """The table, with the columns of `schema`. It is empty where the model has no chat template to ask it by."""
        return self._asked(desk) if desk.reader.has_template else self.schema.empty_table()

    def _asked(self, desk: Desk) -> pa.Table:
        raise NotImplementedError

    def _texts(self, desk: Desk, *names: str) -> list[list[Passage]]:
        return [with_words(desk.passages(name)) for name in names]

    def _question(self, desk: Desk, stream: int) -> dict[str, Any]:
        """What `route.measure` and `injection.measure` take alike."""
        return {
            "question": self.wording.question,
            "words": answers(desk.reader.tokenizer, self.wording.yes, self.wording.no),
            "rng": np.random.default_rng([desk.study.seed, stream]),
            "cut": self.cut,
            "progress": desk.progress,
        }


@dataclass(frozen=True, kw_only=True)
class Reports(_Asking):
    """Reports of a model on texts.

    Attributes:
        texts: names.
        is_outsider: the texts are not the model's own: only the question itself is asked.
    """

    texts: tuple[str, ...]
    is_outsider: bool = False
    schema = cells.SCHEMA

    def _asked(self, desk: Desk) -> pa.Table:
        return cells.measure(
            desk.reader,
            dict(zip(self.texts, self._texts(desk, *self.texts), strict=True)),
            self.wording,
            cut=self.cut,
            questions=(cells.ASKED,) if self.is_outsider else (cells.ASKED, cells.SWAPPED, cells.UNRELATED),
            answer_tokens=0 if self.is_outsider else _ANSWER,
            seed=desk.study.seed,
            progress=desk.progress,
        )


@dataclass(frozen=True, kw_only=True)
class Route(_Asking):
    """The route of a model's report. Every other prompt is for fitting, the rest for pairs.

    Attributes:
        own, foreign: texts.
        rank: of the subspace of surprise.
        draws: random subspaces.
        version: of what is measured; a table of another version is measured again.
    """

    own: str
    foreign: str
    rank: int
    draws: int
    version: int = 2
    schema = route.SCHEMA

    def _asked(self, desk: Desk) -> pa.Table:
        fit_on = {prompt.id for prompt in desk.prompts[1::2]}
        own, foreign = self._texts(desk, self.own, self.foreign)
        return route.measure(
            desk.reader,
            [p for p in own if p.prompt_id not in fit_on],
            [p for p in foreign if p.prompt_id not in fit_on],
            [p for p in own if p.prompt_id in fit_on],
            rank=self.rank,
            draws=self.draws,
            **self._question(desk, 41),
        )


@dataclass(frozen=True, kw_only=True)
class Injected(_Asking):
    """Injected thoughts, before replies that were put under another prompt.

    Attributes:
        own: the text.
        doses: multiples of the concept.
        draws: random vectors at dose 1.
    """

    own: str
    doses: tuple[float, ...]
    draws: int
    schema = injection.SCHEMA

    def _asked(self, desk: Desk) -> pa.Table:
        return injection.measure(
            desk.reader,
            [*first_of_each(*self._texts(desk, self.own)).values()],
            desk.prompts,
            unrelated=self.wording.unrelated[0],
            draws=self.draws,
            doses=self.doses,
            **self._question(desk, 42),
        )


@dataclass(frozen=True, kw_only=True)
class Begun(Text):
    """A model's responses that begin with the first words of another author's response to the same prompt.

    Attributes:
        of: the other author's text.
        begin: tokens of the beginning; up to 8 more, so that it ends between two words.
    """

    of: str
    begin: int

    def write(self, desk: Desk) -> list[Passage]:
        """The passages."""
        from enaction.experiments.pieces import ids_at_start, prefix_of_text

        framing = desk.run.sampled_in(desk.reader.name)
        sources = first_of_each(desk.passages(self.of))
        beginnings: dict[str, Sequence[int]] = {}
        for prompt in desk.prompts:
            source = sources.get(prompt.id)
            prefix = source and prefix_of_text(desk.reader.tokenizer, source.response, self.begin)
            ids = prefix and ids_at_start(desk, prompt, prefix.text, framing)
            if ids:
                beginnings[prompt.id] = ids
        prompts = [prompt for prompt in desk.prompts if prompt.id in beginnings]
        sampling = desk.study.sampling.model_copy(update={"per_prompt": 1})
        return desk.sample(prompts, self.name, framing=framing, sampling=sampling, beginnings=beginnings)
