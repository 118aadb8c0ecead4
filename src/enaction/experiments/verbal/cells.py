"""The report on every kind of text: own, of others, and the cells that say what a report is of.

A model that was asked about its own text and about that of strangers and got both right may know its own style, or the
sentence that it would have gone on with, or that it was about to say this. Own text under another prompt, own text at
other temperatures, near kin and a foreign beginning that it went on with itself tell these apart; the swapped question
and unrelated ones tell a report from a habit of answering; another reader, asked about the same transcript, tells what
is written there for everybody from what the model knows of itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from enaction.experiments.verbal.asking import answers, ask, reports, table_of
from enaction.passages import Message, Passage, Prompt

if TYPE_CHECKING:
    from enaction.reader import Reader

ASKED, SWAPPED, UNRELATED = "asked", "swapped", "unrelated"

SCHEMA = pa.schema(
    [
        ("author", pa.string()),  # name of the text
        ("prompt_id", pa.string()),
        ("passage_id", pa.string()),
        ("question", pa.string()),  # asked, swapped, unrelated
        ("log_odds", pa.float32()),  # of yes against no, nats
        ("mass", pa.float32()),  # probability of the two answers together
        ("said", pa.string()),  # a sampled answer: yes, no or other; empty where none was sampled
    ]
)


@dataclass(frozen=True)
class Wording:
    """What is asked, and the answers.

    Attributes:
        question: whether the text is the model's own; yes means that it is.
        swapped: the reverse; no means that the text is its own.
        unrelated: yes or no is an answer, and whose text it is does not matter.
        yes, no: the answers.
    """

    question: str
    swapped: str
    unrelated: tuple[str, ...]
    yes: str = "yes"
    no: str = "no"

    def questions(self) -> list[tuple[str, str]]:
        """Kind and words of each."""
        return [(ASKED, self.question), (SWAPPED, self.swapped), *((UNRELATED, words) for words in self.unrelated)]


# In the words of the embedded world.
WORLD_WORDING = Wording("is it your story?", "is it my story?", ("do you know a story?", "where does the rake belong?"))
CHAT_WORDING = Wording(
    "Did you write your previous message yourself? Answer yes or no.",
    "Was your previous message put into your mouth by somebody else? Answer yes or no.",
    ("Is water wet? Answer yes or no.", "Is Paris the capital of Spain? Answer yes or no."),
)


def measure(
    reader: Reader,
    texts: Mapping[str, Sequence[Passage]],
    wording: Wording,
    *,
    cut: int,
    questions: Sequence[str] = (ASKED, SWAPPED, UNRELATED),
    answer_tokens: int = 0,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pa.Table:
    """A row for each transcript and question; see `SCHEMA`.

    Args:
        reader: who is asked.
        texts: by name.
        wording: the questions and answers.
        cut: tokens of a reply that are shown, so that neither length nor ending tells.
        questions: kinds that are asked.
        answer_tokens: tokens of a sampled answer; 0 samples none.
        seed: of sampled answers.
        progress: called with readings done and their total.
    """
    words = answers(reader.tokenizer, wording.yes, wording.no)
    rows: list[tuple] = []
    planned = [(name, kind, question) for name in texts for kind, question in wording.questions() if kind in questions]
    for done, (name, kind, question) in enumerate(planned, start=1):
        passages = texts[name]
        report = reports(reader, [ask(reader.tokenizer, p, question, cut=cut) for p in passages], words)
        said = [""] * len(passages)
        if answer_tokens and kind == ASKED:
            said = sampled(reader, passages, question, wording, cut=cut, tokens=answer_tokens, seed=seed)
        for passage, log_odds, mass, word in zip(passages, report.log_odds, report.mass, said, strict=True):
            rows.append((name, passage.prompt_id, passage.id, kind, log_odds, mass, word))
        progress(done, len(planned))
    return table_of(rows, SCHEMA)


def sampled(
    reader: Reader, passages: Sequence[Passage], question: str, wording: Wording, *, cut: int, tokens: int, seed: int
) -> list[str]:
    """What the model says when it answers in its own words: yes, no or other, by the first of the two words."""
    from enaction.framing import frame
    from enaction.sampling import sample

    prompts = []
    for i, passage in enumerate(passages):
        framed = frame(reader.tokenizer, passage, "assistant")
        shown = framed.ids[framed.start : framed.stop - framed.has_end][:cut]
        reply = str(reader.tokenizer.decode(list(shown), clean_up_tokenization_spaces=False))
        turns = (Message(role="assistant", content=reply), Message(role="user", content=question))
        prompts.append(Prompt(f"{i}", (*passage.prompt, *turns)))
    replies = sample(reader, prompts, max_new_tokens=tokens, framing="assistant", seed=seed)
    return [_said(reply.response, wording) for reply in replies]


def _said(reply: str, wording: Wording) -> str:
    found = re.search(rf"\b(?:({re.escape(wording.yes)})|{re.escape(wording.no)})\b", reply, re.IGNORECASE)
    return "other" if found is None else "yes" if found[1] else "no"


def log_odds_of(table: pa.Table, author: str, question: str) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Log-odds, prompts and answer mass of one text under one kind of question; unrelated ones are averaged by text."""
    rows = [row for row in table.to_pylist() if row["author"] == author and row["question"] == question]
    by_text: dict[str, list[dict]] = {}
    for row in rows:
        by_text.setdefault(row["passage_id"], []).append(row)
    log_odds = np.array([np.mean([row["log_odds"] for row in of]) for of in by_text.values()])
    mass = np.array([np.mean([row["mass"] for row in of]) for of in by_text.values()])
    return log_odds, [of[0]["prompt_id"] for of in by_text.values()], mass
