"""How a spliced passage is made: a prefix, a piece of k tokens behind it, and what follows the two.

The prefix is of the host's text, its own ids where the reader is the host. What follows is sampled where the reader is
the host, for only that is its own continuation; otherwise the host's own words go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from enaction.errors import FramingError
from enaction.experiments.old_planning import sample_for
from enaction.experiments.pieces import (
    Prefix,
    decoded,
    first_of_each,
    ids_behind,
    own_body,
    prefix_of_own,
    prefix_of_text,
)
from enaction.framing import beginning_ids
from enaction.passages import Passage, Prompt
from enaction.reader import Progress, Reader
from enaction.study.config import Study
from enaction.study.store import Run
from enaction.words import Framing

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Splice:
    """One splice of every prompt.

    Attributes:
        name: of the text.
        host: whose prefix it has, and whose words go on behind the piece.
        piece_by: the text that the piece is from; None: the reader samples it.
        at: tokens in the prefix; up to 8 more, so that it ends between two words.
        piece: tokens in the piece.
        longest: tokens in the longest piece of the study; shorter ones are its beginning, for the same prompts.
        after: tokens behind the piece.
    """

    name: str
    host: str
    piece_by: str | None
    at: int
    piece: int
    longest: int
    after: int


def splice_all(study: Study, splice: Splice, run: Run, reader: Reader, progress: Progress) -> list[Passage]:
    """The spliced passages; prompts whose texts are too short, or whose parts cannot be joined in whole tokens, lack.

    `sampling` has the number of tokens in the `prefix` and in the `piece`.
    """
    is_own = splice.host == reader.name
    framing: Framing = run.passages(reader.name)[0].sampling["framing"]
    maker = _Maker(study, reader, framing)
    hosts = first_of_each(run.passages(splice.host))
    prefixes: dict[str, Prefix] = {}
    for prompt in study.load_prompts():
        prefix = maker.prefix(prompt, hosts.get(prompt.id), splice.at, is_own=is_own)
        if prefix is not None:
            prefixes[prompt.id] = prefix
    if splice.piece_by is None:
        pieces = maker.sampled_pieces(prefixes, splice.longest, progress)
    else:
        pieces = maker.pieces(prefixes, first_of_each(run.passages(splice.piece_by)), splice.at)
    begun = {i: prefixes[i].ids + ids[: splice.piece] for i, ids in pieces.items() if len(ids) >= splice.longest}
    if is_own:
        passages = maker.drawn(begun, splice.after, splice.name, progress)
    else:
        passages = maker.gone_on(begun, prefixes, splice.after, splice.name)
    return [
        replace(p, sampling=p.sampling | {"prefix": len(prefixes[p.prompt_id].ids), "piece": splice.piece})
        for p in passages
    ]


@dataclass(frozen=True)
class _Maker:
    study: Study
    reader: Reader
    framing: Framing

    def prefix(self, prompt: Prompt, passage: Passage | None, at: int, *, is_own: bool) -> Prefix | None:
        """The beginning of the host's passage in the reader's tokens."""
        if passage is None:
            return None
        tokenizer = self.reader.tokenizer
        if is_own:
            return prefix_of_own(tokenizer, passage, at)
        found = prefix_of_text(tokenizer, passage.response, at)
        if found is None:
            return None
        try:
            ids = beginning_ids(tokenizer, prompt, found.text, self.framing, separator=self.study.separator)
        except FramingError:
            return None
        return replace(found, ids=ids)

    def pieces(self, prefixes: Mapping[str, Prefix], sources: Mapping[str, Passage], at: int) -> dict[str, Ids]:
        """What another text has behind about as many tokens, in the ids that it has behind the prefix."""
        tokenizer, found = self.reader.tokenizer, {}
        for prompt_id, prefix in prefixes.items():
            source = prefix_of_text(tokenizer, sources[prompt_id].response, at) if prompt_id in sources else None
            ids = ids_behind(tokenizer, prefix.text, source.rest) if source else None
            if ids is not None:
                found[prompt_id] = ids
        return found

    def sampled_pieces(self, prefixes: Mapping[str, Prefix], n_tokens: int, progress: Progress) -> dict[str, Ids]:
        """What the reader samples behind the prefix; the same for every length of the piece."""
        begun = {i: p.ids for i, p in prefixes.items()}
        drawn = self.drawn(begun, n_tokens, f"{self.reader.name}.between", progress)
        return {p.prompt_id: own_body(p)[len(begun[p.prompt_id]) :] for p in drawn}

    def drawn(self, begun: Mapping[str, Ids], n_tokens: int, author: str, progress: Progress) -> list[Passage]:
        """The beginnings with up to so many tokens that the reader samples behind them."""
        study = self.study
        settings = study.sampling.model_copy(update={"per_prompt": 1, "max_new_tokens": n_tokens})
        prompts = [p for p in study.load_prompts() if p.id in begun]
        return sample_for(
            study, self.reader, prompts, author, progress, framing=self.framing, settings=settings, beginnings=begun
        )

    def gone_on(
        self, begun: Mapping[str, Ids], prefixes: Mapping[str, Prefix], n_tokens: int, author: str
    ) -> list[Passage]:
        """The beginnings with so many tokens of the words that followed the prefix in its own text, or fewer."""
        tokenizer, found = self.reader.tokenizer, []
        for prompt in self.study.load_prompts():
            ids = begun.get(prompt.id)
            rest = ids_behind(tokenizer, decoded(tokenizer, ids), prefixes[prompt.id].rest) if ids else None
            if ids is None or rest is None:
                continue
            ids += rest[:n_tokens]
            found.append(
                Passage(
                    id=f"{prompt.id}/0",
                    prompt_id=prompt.id,
                    prompt=prompt.messages,
                    response=decoded(tokenizer, ids),
                    author=author,
                    sampling={"framing": self.framing, "begun_with": len(ids) - len(rest[:n_tokens])},
                    token_ids=ids,
                    tokenizer=self.reader.fingerprint,
                    ended=False,
                )
            )
        return found
