"""The desk: everything that a text is written with.

A text of a plan is data. When its turn comes, the engine puts the finished texts, the prompts and, if the text needs
one, the loaded model in front of it: `text.write(desk)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from enaction.passages import Passage, Prompt, Sampling
from enaction.study.config import Study
from enaction.study.store import Run
from enaction.words import Framing

if TYPE_CHECKING:
    from enaction.reader import Progress, Reader


@dataclass(frozen=True)
class Desk:
    """What a text is written with.

    Attributes:
        study: settings that all texts share: seed, separator, sampling.
        prompts: the study's prompts.
        run: the texts that are finished.
        model: the loaded model of the text; None for a text that no model writes.
        progress: called with the number of passages done and their total.
    """

    study: Study
    prompts: tuple[Prompt, ...]
    run: Run
    model: Reader | None = None
    progress: Progress = lambda done, total: None

    @property
    def reader(self) -> Reader:
        """The loaded model.

        Raises:
            RuntimeError: the text names no model, so none was loaded.
        """
        if self.model is None:
            raise RuntimeError("a text without `model` asked for a reader; name the model in the text")
        return self.model

    def passages(self, author: str) -> list[Passage]:
        """The passages of a finished text."""
        return self.run.passages(author)

    def sample(
        self,
        prompts: Sequence[Prompt],
        author: str,
        *,
        framing: Framing | None,
        sampling: Sampling | None = None,
        beginnings: Mapping[str, Sequence[int]] | None = None,
    ) -> list[Passage]:
        """What the model responds to prompts: `enaction.sample` with the study's separator, seed and settings.

        Args:
            prompts: what is answered.
            author: name in the passages.
            framing: `assistant` or `none`; None for what the model's tokenizer has.
            sampling: in place of the study's own.
            beginnings: prompt id -> ids that its responses begin with.
        """
        from enaction.sampling import sample  # torch, which planning and analysis do without

        chosen = sampling or self.study.sampling
        return sample(
            self.reader,
            prompts,
            n=chosen.per_prompt,
            temperature=chosen.temperature,
            top_p=chosen.top_p,
            max_new_tokens=chosen.max_new_tokens,
            batch_size=chosen.batch_size,
            framing=framing,
            separator=self.study.separator,
            seed=self.study.seed,
            author=author,
            beginnings=beginnings,
            progress=self.progress,
        )
