"""The desk: everything that a text is written with.

A text of a plan is data. When its turn comes, the engine puts the finished texts, the prompts and, if the text needs
one, the loaded model in front of it: `text.write(desk)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
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
        earlier: passages, by id, of the text as it was before the study grew; `sample` keeps what is the same now.
    """

    study: Study
    prompts: tuple[Prompt, ...]
    run: Run
    model: Reader | None = None
    progress: Progress = lambda done, total: None
    earlier: Mapping[str, Passage] = field(default_factory=dict)

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
        chosen = sampling or self.study.sampling
        in_framing: Framing = framing or ("assistant" if self.reader.has_template else "none")
        wanted = {f"{prompt.id}/{k}": prompt for prompt in prompts for k in range(chosen.per_prompt)}
        kept = {}
        for name, prompt in wanted.items():
            begun = tuple(beginnings[prompt.id]) if beginnings else ()
            passage = self._kept(name, prompt, author, in_framing, chosen, begun)
            if passage is not None:
                kept[name] = passage
        numbers = {p.id: [k for k in range(chosen.per_prompt) if f"{p.id}/{k}" not in kept] for p in prompts}
        if kept:
            self.progress(len(kept), len(wanted))
        fresh = self._author(chosen.batch_size)(
            [prompt for prompt in prompts if numbers[prompt.id]],
            n=chosen.per_prompt,
            temperature=chosen.temperature,
            top_p=chosen.top_p,
            max_new_tokens=chosen.max_new_tokens,
            framing=in_framing,
            separator=self.study.separator,
            seed=self.study.seed,
            author=author,
            beginnings=beginnings,
            numbers=numbers,
            progress=lambda done, _: self.progress(len(kept) + done, len(wanted)),
        )
        drawn = kept | {passage.id: passage for passage in fresh}
        return [drawn[name] for name in wanted]

    def _author(self, batch_size: int) -> Callable[..., list[Passage]]:
        """What samples: the reader itself, or the server that its model names."""
        from enaction.sampling import sample  # torch, which planning and analysis do without

        server = self.study.models[self.reader.name].server
        if server is None:
            return partial(sample, self.reader, batch_size=batch_size)
        from enaction.study.serving import sample_there

        return partial(sample_there, self.reader, server, concurrency=batch_size)

    def _kept(
        self, name: str, prompt: Prompt, author: str, framing: Framing, sampling: Sampling, begun: tuple[int, ...]
    ) -> Passage | None:
        """An earlier passage that would be sampled again as it is; None without one.

        One that a lower limit cut off is sampled anew: from the same random numbers it begins with the same tokens.
        """
        old = self.earlier.get(name)
        if old is None or old.author != author or old.tokenizer != self.reader.fingerprint:
            return None
        settings = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": self.study.seed,
            "max_new_tokens": sampling.max_new_tokens,
            "framing": framing,
        } | ({"begun_with": len(begun)} if begun else {})
        limit, ids = old.sampling.get("max_new_tokens"), old.token_ids or ()
        fits = limit == sampling.max_new_tokens or (old.ended and len(ids) - len(begun) <= sampling.max_new_tokens)
        is_same = old.prompt == prompt.messages and ids[: len(begun)] == begun
        if not (fits and is_same) or old.sampling | {"max_new_tokens": sampling.max_new_tokens} != settings:
            return None
        return replace(old, prompt_id=prompt.id, sampling=settings, marks={})
