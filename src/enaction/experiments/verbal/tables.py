"""The measured tables of verbal reports: who is asked about what, with which settings.

Names: `verbal.MODEL` (the model's own report on every text), `verbal.MODEL.by.OTHER` (another reader's report on the
same transcripts), `verbal.MODEL.route`, `verbal.MODEL.injected` and `verbal.MODEL.injected.by.OTHER`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from enaction.experiments.pieces import first_of_each
from enaction.experiments.verbal import cells, injection, route
from enaction.experiments.verbal.asking import answers, with_words
from enaction.experiments.verbal.cells import ASKED, Wording
from enaction.passages import Passage
from enaction.study.desk import Desk
from enaction.study.planning import Measured, Text

# Tokens of a sampled answer.
_ANSWER = 12


@dataclass(frozen=True, kw_only=True)
class Reports(Measured):
    """Reports of a model on texts.

    Attributes:
        texts: names.
        wording: the questions and answers.
        cut: tokens of a reply that are shown.
        is_outsider: the texts are not the model's own: only the question itself is asked.
    """

    texts: tuple[str, ...]
    wording: Wording
    cut: int
    is_outsider: bool = False

    def measure(self, desk: Desk) -> pa.Table:
        """The table; see `cells.SCHEMA`. Without a chat template nobody can be asked."""
        if not desk.reader.has_template:
            return cells.SCHEMA.empty_table()
        texts = {name: with_words(desk.passages(name)) for name in self.texts}
        return cells.measure(
            desk.reader,
            texts,
            self.wording,
            cut=self.cut,
            questions=(ASKED,) if self.is_outsider else (cells.ASKED, cells.SWAPPED, cells.UNRELATED),
            answer_tokens=0 if self.is_outsider else _ANSWER,
            seed=desk.study.seed,
            progress=desk.progress,
        )


@dataclass(frozen=True, kw_only=True)
class Route(Measured):
    """The route of a model's report.

    Attributes:
        own, foreign: texts.
        wording, cut: as in `Reports`.
        rank: of the subspace of surprise.
        draws: random subspaces.
    """

    own: str
    foreign: str
    wording: Wording
    cut: int
    rank: int
    draws: int

    def measure(self, desk: Desk) -> pa.Table:
        """The table; see `route.SCHEMA`. Every other prompt is for fitting, the rest for pairs."""
        if not desk.reader.has_template:
            return route.SCHEMA.empty_table()
        fit_on = {prompt.id for prompt in desk.prompts[1::2]}
        own, foreign = (with_words(desk.passages(name)) for name in (self.own, self.foreign))
        return route.measure(
            desk.reader,
            [p for p in own if p.prompt_id not in fit_on],
            [p for p in foreign if p.prompt_id not in fit_on],
            [p for p in own if p.prompt_id in fit_on],
            question=self.wording.question,
            words=answers(desk.reader.tokenizer, self.wording.yes, self.wording.no),
            rng=np.random.default_rng([desk.study.seed, 41]),
            cut=self.cut,
            rank=self.rank,
            draws=self.draws,
            progress=desk.progress,
        )


@dataclass(frozen=True, kw_only=True)
class Injected(Measured):
    """Injected thoughts, before replies that were put under another prompt.

    Attributes:
        own: the text.
        wording: as in `Reports`.
        cut: tokens of a reply that are shown.
        doses: multiples of the concept.
        draws: random vectors at dose 1.
    """

    own: str
    wording: Wording
    cut: int
    doses: tuple[float, ...]
    draws: int

    def measure(self, desk: Desk) -> pa.Table:
        """The table; see `injection.SCHEMA`."""
        if not desk.reader.has_template:
            return injection.SCHEMA.empty_table()
        return injection.measure(
            desk.reader,
            [*first_of_each(with_words(desk.passages(self.own))).values()],
            desk.prompts,
            question=self.wording.question,
            unrelated=self.wording.unrelated[0],
            words=answers(desk.reader.tokenizer, self.wording.yes, self.wording.no),
            rng=np.random.default_rng([desk.study.seed, 42]),
            cut=self.cut,
            draws=self.draws,
            doses=self.doses,
            progress=desk.progress,
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
