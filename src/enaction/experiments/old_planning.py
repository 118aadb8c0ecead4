"""Transition: texts with closures, as the experiments that are not converted yet make them. Goes with the last one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from enaction.passages import Passage
from enaction.study.desk import Desk
from enaction.study.planning import Sampled as NewSampled
from enaction.study.planning import Text


@dataclass(frozen=True, kw_only=True)
class OldText(Text):
    """A text whose function is a closure."""

    function: Callable[..., list[Passage]]

    def write(self, desk: Desk) -> list[Passage]:
        """The passages."""
        if self.model is None:
            return self.function(desk.run)
        return self.function(desk.run, desk.reader, desk.progress)


def Derived(name, count, write, needs=()):  # noqa: N802
    return OldText(name=name, model=None, count=count, needs=needs, function=write)


def Sampled(name, model, count, write, needs=()):  # noqa: N802
    return OldText(name=name, model=model, count=count, needs=needs, function=write)


def sampled(study, name, model, settings):
    return NewSampled(name=name, model=model, count=len(study.load_prompts()) * settings.per_prompt, sampling=settings)


def sample_for(study, reader, prompts, author, progress, *, framing, settings=None, beginnings=None):
    desk = Desk(study, tuple(prompts), None, reader, progress)  # type: ignore[arg-type]
    return desk.sample(prompts, author, framing=framing, sampling=settings, beginnings=beginnings)
