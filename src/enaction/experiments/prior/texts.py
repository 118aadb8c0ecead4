"""Conversations of two rounds: an author's own answers, following an earlier answer by another author or the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from enaction.passages import Message, Passage, Prompt, thinned
from enaction.study.desk import Desk
from enaction.study.planning import Text


def text_of(author: str, earlier: str, stage: str, match_length: bool) -> str:
    """Name of an author's answers following an earlier answer by another (or the same) of a stage."""
    return f"{author}.after-{earlier}" + (f".cut-{stage}" if match_length else "")


def first_rounds(prompts: Sequence[Prompt]) -> dict[str, Prompt]:
    """Prompt id -> the prompt of its first round."""
    shift = len(prompts) // 2
    return {prompt.id: prompts[(i + shift) % len(prompts)] for i, prompt in enumerate(prompts)}


@dataclass(frozen=True, kw_only=True)
class TwoRounds(Text):
    """An author's passages following a first round that another author, or the same, answered.

    A first round that one of the stage's models answered with no word at all is left out for all of them.

    Attributes:
        needs: the models of the stage.
        author: of the passages.
        earlier: which of the models answered the first round.
        n_prompts: how many of the study's prompts, spread evenly; None for all.
        match_length: whether the earlier answer is cut to the words of the shortest of all models' at its prompt.
    """

    author: str
    earlier: str
    n_prompts: int | None
    match_length: bool

    def write(self, desk: Desk) -> list[Passage]:
        """The passages."""
        first_of = first_rounds(thinned(desk.prompts, self.n_prompts))
        answers = {m: {(p.prompt_id, _number(p)): p.response for p in desk.passages(m)} for m in self.needs}
        passages = []
        for passage in desk.passages(self.author):
            if (first := first_of.get(passage.prompt_id)) is None:
                continue
            key = (first.id, _number(passage))
            shortest = min(len(answers[m][key].split()) for m in self.needs)
            if shortest == 0:
                continue
            whole = answers[self.earlier][key]
            answer = " ".join(whole.split()[:shortest]) if self.match_length else whole
            turn = Message(role="assistant", content=answer)
            later = passage.prompt if passage.prompt[0]["role"] != "system" else passage.prompt[1:]
            marks = passage.marks | {
                "earlier_author": self.earlier,
                "earlier_prompt": first.id,
                "earlier_words": len(answer.split()),
                "earlier_words_whole": len(whole.split()),
            }
            prompt = (*first.messages, turn, *later)
            passages.append(replace(passage, author=self.name, prompt=prompt, marks=marks))
        return passages


def _number(passage: Passage) -> str:
    return passage.id.rpartition("/")[2]
