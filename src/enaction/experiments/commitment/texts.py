"""What is written: many samples of each prompt, regenerations from the first tokens of some, and broken plans.

The stem of a case is part of a passage, but no part of what is labelled: labels, and tokens k, count from its end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from enaction.errors import StudyError
from enaction.experiments.commitment.answers import own_answer, sample_after, stem_length
from enaction.experiments.commitment.cases import Case
from enaction.experiments.commitment.labels import LabelSpec
from enaction.experiments.commitment.prefills import Beginner
from enaction.experiments.pieces import by_prompt, decoded, ids_at_start, own_body
from enaction.passages import Passage, Sampling
from enaction.study.desk import Desk
from enaction.study.planning import Text

# Of each prompt the texts whose beginnings are regenerated.
ORIGINALS = 2


@dataclass(frozen=True)
class Names:
    """A reader with the names of its texts and measured tables; `named` and `foreign` are None where it has none."""

    stage: str
    reader: str
    foreign: str | None
    samples: str
    named: str | None
    regenerated: str
    prefilled: str
    states: str
    moves: str
    vectors: str


@dataclass(frozen=True, kw_only=True)
class Samples(Text):
    """A model's responses to cases.

    `marks`: tokens and characters of the stem, `stem` and `stem_end`; for each prompt's originals also `ends`, the
    characters of the answer up to and including each of its tokens.

    Attributes:
        cases: what is asked.
        sampling: the settings.
    """

    cases: tuple[Case, ...]
    sampling: Sampling

    def write(self, desk: Desk) -> list[Passage]:
        """The passages.

        Raises:
            StudyError: a stem cannot begin a response in whole tokens.
        """
        framing, tokenizer = desk.run.sampled_in(desk.reader.name), desk.reader.tokenizer
        passages: list[Passage] = []
        for case_group in ([c for c in self.cases if not c.stem], [c for c in self.cases if c.stem]):
            if not case_group:
                continue
            begun = {}
            for case in case_group if case_group[0].stem else ():
                ids = ids_at_start(desk, case.prompt, case.stem, framing)
                if ids is None:
                    raise StudyError(f"the stem {case.stem!r} cannot begin a response of {desk.reader.name}: change it")
                begun[case.prompt.id] = ids
            prompts = [case.prompt for case in case_group]
            for p in desk.sample(prompts, self.name, framing=framing, sampling=self.sampling, beginnings=begun or None):
                stem = begun.get(p.prompt_id, ())
                marks = {"stem": len(stem), "stem_end": len(decoded(tokenizer, stem))} if stem else {}
                passages.append(replace(p, marks=marks))
        return [
            replace(p, marks=p.marks | {"ends": list(own_answer(tokenizer, p).ends)}) if is_original(p) else p
            for p in passages
        ]


def is_original(sample: Passage) -> bool:
    """Whether the beginnings of a sample are regenerated."""
    return int(sample.id.rpartition("/")[2]) < ORIGINALS


@dataclass(frozen=True, kw_only=True)
class Regenerated(Text):
    """What the model writes after the first k tokens of some of its own samples.

    `marks`: the id of the `original`, and `k`, beside those of the stem.

    Attributes:
        of: the text of the samples.
        cases: that they answer.
        lengths: every k, above 0.
        sampling: `per_prompt` is the number of regenerations of each beginning.
    """

    of: str
    cases: tuple[Case, ...]
    lengths: tuple[int, ...]
    sampling: Sampling

    def write(self, desk: Desk) -> list[Passage]:
        """The passages."""
        prompt_of = {case.prompt.id: case.prompt for case in self.cases}
        prompts, begun, marks = {}, {}, {}
        for passage in filter(is_original, desk.passages(self.of)):
            body = own_body(passage)
            for k in self.lengths:
                cut = stem_length(passage) + k
                if len(body) >= cut:
                    key = f"{passage.id}/{k}"
                    prompts[key], begun[key] = prompt_of[passage.prompt_id], body[:cut]
                    stem = {of: passage.marks[of] for of in ("stem", "stem_end") if of in passage.marks}
                    marks[key] = stem | {"original": passage.id, "k": k}
        return sample_after(desk, self.name, prompts, begun, marks, self.sampling)


@dataclass(frozen=True, kw_only=True)
class Prefilled(Text):
    """What the model writes after beginnings of its own and of another author, of the prompt's label and of others.

    The prompt's label is the commonest among the model's own samples. `marks`: the `label`, the `arm`, the prompt's
    label as `planned`, its `share`, the label `given`, the tokens of the `prefill` after the stem, and the characters
    of stem and beginning as `begun_end`.

    Attributes:
        own, foreign: texts of samples of the model and of the other author; without one its arms are left out.
        cases: that they answer.
        labels: whose breaking is measured.
        at: tokens in a beginning, more where the label's word needs it; with a stem it ends with that word.
        sampling: `per_prompt` continuations of each beginning.
    """

    own: str
    foreign: str | None
    cases: tuple[Case, ...]
    labels: tuple[LabelSpec, ...]
    at: int
    sampling: Sampling

    def write(self, desk: Desk) -> list[Passage]:
        """The passages."""
        own = by_prompt(desk.passages(self.own))
        foreign = by_prompt(desk.passages(self.foreign)) if self.foreign else {}
        prompt_of = {case.prompt.id: case.prompt for case in self.cases}
        prompts, begun, marks, counted = {}, {}, {}, {}
        for spec in self.labels:
            beginner = Beginner.of(desk, spec, self.at, own, foreign)
            for case in self.cases:
                for beginning in beginner.beginnings(case):
                    key = f"{case.prompt.id}/{spec.name}/{beginning.arm}"
                    prompts[key], begun[key] = prompt_of[beginning.prompt_id], beginning.ids
                    end = len(decoded(desk.reader.tokenizer, beginning.ids))
                    marks[key] = {"label": spec.name, "begun_end": end} | beginning.marks
                    counted[key] = case.prompt.id
        return sample_after(desk, self.name, prompts, begun, marks, self.sampling, counted)
