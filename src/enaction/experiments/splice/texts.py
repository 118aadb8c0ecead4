"""How spliced passages are made: a prefix, a piece of k tokens after it, and what follows the two.

The prefix is of the host's text, its own ids where the reader is the host. Where the reader is the host, it samples
what follows, for only that is its own continuation; otherwise the host's own words continue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from enaction.experiments.pieces import (
    Prefix,
    decoded,
    first_of_each,
    ids_after,
    ids_at_start,
    own_body,
    passage_of,
    prefix_of_own,
    prefix_of_text,
)
from enaction.passages import Passage, Prompt
from enaction.study.desk import Desk
from enaction.study.planning import Text
from enaction.words import Framing

# Prefix, piece and rest, each own or foreign; the piece of ooo and fff is from the same author's other answer.
PATTERNS = ("ofo", "ooo", "fof", "fff")

Ids = tuple[int, ...]


class Pair(NamedTuple):
    """A reader, and the author that is foreign to it."""

    stage: str
    reader: str
    foreign: str

    def host(self, pattern: str) -> str:
        """The author of the prefix."""
        return self.foreign if pattern.startswith("f") else self.reader


@dataclass(frozen=True)
class Cuts:
    """How long the parts of a splice are, in tokens.

    Attributes:
        at: the prefix; up to 8 more, so that it ends between two words.
        longest: the longest piece of the study; shorter ones are its beginning, for the same prompts.
        after: what follows the piece.
    """

    at: int
    longest: int
    after: int

    def text_name(self, pair: Pair, pattern: str, k: int) -> str:
        """The text of one splice of a reader."""
        return f"{pair.reader}.{pattern}{k}.at{self.at}.of{self.longest}.after{self.after}.{pair.foreign}"


def again(model: str) -> str:
    """The text of a model's second answers."""
    return f"{model}.again"


@dataclass(frozen=True, kw_only=True)
class Spliced(Text):
    """One splice of every prompt.

    Prompts whose texts are too short, or whose parts cannot be joined in whole tokens, are left out. `marks` has the
    number of tokens in the `prefix` and in the `piece`.

    Attributes:
        host: the author of the prefix, whose words continue after the piece.
        piece_by: the text that the piece is from; None: the reader samples it.
        piece: tokens in the piece.
        cuts: lengths of the other parts.
    """

    host: str
    piece_by: str | None
    piece: int
    cuts: Cuts

    @classmethod
    def of(cls, pair: Pair, pattern: str, k: int, cuts: Cuts, n_prompts: int) -> Spliced:
        """The splice of a pattern whose piece has k tokens."""
        name, host = cuts.text_name(pair, pattern, k), pair.host(pattern)
        by = {"ofo": pair.foreign, "fof": None}.get(pattern, again(host))
        needs = tuple(dict.fromkeys(text for text in (pair.reader, host, by) if text is not None))
        return cls(
            name=name, model=pair.reader, count=n_prompts, needs=needs, host=host, piece_by=by, piece=k, cuts=cuts
        )

    def write(self, desk: Desk) -> list[Passage]:
        """The passages."""
        is_own = self.host == desk.reader.name
        splicer = _Splicer(desk, desk.run.sampled_in(desk.reader.name))
        hosts = first_of_each(desk.passages(self.host))
        prefix_of = {p.id: splicer.prefix(p, hosts.get(p.id), self.cuts.at, is_own=is_own) for p in desk.prompts}
        prefixes = {prompt_id: prefix for prompt_id, prefix in prefix_of.items() if prefix is not None}
        if self.piece_by is None:
            pieces = splicer.sampled_pieces(prefixes, self.cuts.longest)
        else:
            pieces = splicer.pieces(prefixes, first_of_each(desk.passages(self.piece_by)), self.cuts.at)
        begun = {i: prefixes[i].ids + ids[: self.piece] for i, ids in pieces.items() if len(ids) >= self.cuts.longest}
        if is_own:
            passages = splicer.sampled(begun, self.cuts.after, self.name)
        else:
            passages = splicer.continued(begun, prefixes, self.cuts.after, self.name)
        return [replace(p, marks={"prefix": len(prefixes[p.prompt_id].ids), "piece": self.piece}) for p in passages]


@dataclass(frozen=True)
class _Splicer:
    """The parts of splices, in the tokens of the reader at the desk."""

    desk: Desk
    framing: Framing

    def prefix(self, prompt: Prompt, passage: Passage | None, at: int, *, is_own: bool) -> Prefix | None:
        """The beginning of the host's passage."""
        if passage is None:
            return None
        tokenizer = self.desk.reader.tokenizer
        if is_own:
            return prefix_of_own(tokenizer, passage, at)
        prefix = prefix_of_text(tokenizer, passage.response, at)
        ids = prefix and ids_at_start(self.desk, prompt, prefix.text, self.framing)
        return replace(prefix, ids=ids) if prefix and ids else None

    def pieces(self, prefixes: Mapping[str, Prefix], sources: Mapping[str, Passage], at: int) -> dict[str, Ids]:
        """What another text has after about as many tokens, in the ids that it has after the prefix."""
        tokenizer, pieces = self.desk.reader.tokenizer, {}
        for prompt_id, prefix in prefixes.items():
            source = prefix_of_text(tokenizer, sources[prompt_id].response, at) if prompt_id in sources else None
            ids = ids_after(tokenizer, prefix.text, source.rest) if source else None
            if ids is not None:
                pieces[prompt_id] = ids
        return pieces

    def sampled_pieces(self, prefixes: Mapping[str, Prefix], n_tokens: int) -> dict[str, Ids]:
        """What the reader samples after the prefix; the same for every length of the piece."""
        begun = {i: p.ids for i, p in prefixes.items()}
        sampled = self.sampled(begun, n_tokens, f"{self.desk.reader.name}.between")
        return {p.prompt_id: own_body(p)[len(begun[p.prompt_id]) :] for p in sampled}

    def sampled(self, begun: Mapping[str, Ids], n_tokens: int, author: str) -> list[Passage]:
        """The beginnings with at most `n_tokens` tokens that the reader samples after them."""
        sampling = self.desk.study.sampling.model_copy(update={"per_prompt": 1, "max_new_tokens": n_tokens})
        prompts = [p for p in self.desk.prompts if p.id in begun]
        return self.desk.sample(prompts, author, framing=self.framing, sampling=sampling, beginnings=begun)

    def continued(
        self, begun: Mapping[str, Ids], prefixes: Mapping[str, Prefix], n_tokens: int, author: str
    ) -> list[Passage]:
        """The beginnings with at most `n_tokens` tokens of the words that followed the prefix in its own text."""
        tokenizer, passages = self.desk.reader.tokenizer, []
        for prompt in self.desk.prompts:
            ids = begun.get(prompt.id)
            rest = ids_after(tokenizer, decoded(tokenizer, ids), prefixes[prompt.id].rest) if ids else None
            if ids is not None and rest is not None:
                fields = {"author": author, "sampling": {"framing": self.framing, "begun_with": len(ids)}}
                passages.append(passage_of(self.desk, prompt, ids + rest[:n_tokens], id=f"{prompt.id}/0", **fields))
        return passages
